/** Attributes of clones: values outside are shared, whoever changes or removes one leaves the other's alone, and the last user frees it. */
import type { MemoryDevice } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { Block, EXT, ExtentList, MODE, XattrValueRoot } from '../../src/format/index.js';
import { RawReader, listXattrs } from '../../src/inspect/index.js';
import { Volume, fallocate, truncateFile, writeFile } from '../../src/volume/index.js';
import { randomFrom } from '../../../../test/support/temp.js';
import { quietMount } from '../support/crash.js';
import { HOSTILE, variants } from '../support/locks.js';
import { GEOMETRIES, expectFsckClean, makeVolume } from '../support/volume.js';
import { type Model, lengthOf, randomValue } from './support.js';

const OWNER = { uid: 0, gid: 0 };
const bytes = (text: string) => Buffer.from(text);

interface File {
  readonly name: string;
  readonly ino: number;
  readonly model: Model;
}

async function expectModels(volume: Volume, files: readonly File[]): Promise<void> {
  for (const { name, ino, model } of files) {
    const names = (await volume.names.listXattr(ino)).map((one) => Buffer.from(one).toString());
    expect(names.sort(), name).toEqual([...model.keys()].sort());
    for (const [key, value] of model) if (!value.equals(await volume.names.getXattr(ino, bytes(key)))) throw new Error(`${name}: ${key} has another value`);
  }
}

/** Records of values outside of an inode on the device, and how many of them are shared. */
async function valueRecords(device: MemoryDevice, ino: number): Promise<{ all: number; shared: number }> {
  const reader = await RawReader.open(device);
  let all = 0, shared = 0;
  for (const { item } of await listXattrs(reader, await reader.inode(ino))) {
    if (item.size <= 80) continue;
    const list = new ExtentList(new Block('value', 0, item.stored), XattrValueRoot.size);
    if (list.depth > 0) continue;
    all++;
    if (list.flags(0) & EXT.REFCOUNTED) shared++;
  }
  return { all, shared };
}

describe.each(variants(GEOMETRIES))('on $name', (spec) => {
  test('values of clones come, change and go as in Maps', { timeout: 300_000 }, async () => {
    const device = await makeVolume(spec);
    const random = randomFrom(HOSTILE ? 5 : 17);
    let volume = await Volume.mount(device, quietMount(1));
    const root = volume.names.root;
    const made = await volume.names.create(root, bytes('f0'), { mode: MODE.REG | 0o644, ...OWNER });
    await volume.names.forget(made.blkno);
    let files: File[] = [{ name: 'f0', ino: made.blkno, model: new Map() }];
    for (let i = 1; i <= (HOSTILE ? 120 : 200); i++) {
      const file = files[Math.floor(random() * files.length)];
      const { ino, model } = file;
      const dice = random();
      const key = `user.attribute ${Math.floor(random() * 12)}`;
      if (dice < 0.5) {
        const value = randomValue(random, lengthOf(random));
        await volume.names.setXattr(ino, bytes(key), value);
        model.set(key, value);
      } else if (dice < 0.6) {
        if (model.delete(key)) await volume.names.removeXattr(ino, bytes(key));
      } else if (dice < 0.75 && files.length < 8) {
        const name = `f${i}`;
        const { blkno } = await volume.names.reflink(ino, root, bytes(name), { ...OWNER, preserve: random() < 0.5 });
        await volume.names.forget(blkno);
        files.push({ name, ino: blkno, model: new Map(model) });
      } else if (dice < 0.83 && files.length > 1) {
        await volume.names.unlink(root, bytes(file.name));
        files = files.filter((one) => one !== file);
      } else if (dice < 0.93) await writeFile(volume.ctx, ino, Math.floor(random() * 20_000), new Uint8Array(5000).fill(i));
      else await truncateFile(volume.ctx, ino, 0);
      if (i % 40 === 0) await expectModels(volume, files);
      if (i % 100 === 0) {
        await volume.unmount();
        await expectFsckClean(device, ['INODE_SPARSE_SIZE']);
        volume = await Volume.mount(device, quietMount(i));
        await expectModels(volume, files);
      }
    }
    for (const { name } of files) await volume.names.unlink(root, bytes(name));
    await volume.unmount();
    await expectFsckClean(device);
  });
});

test('a value is shared at once, and needs no space', { timeout: 120_000 }, async () => {
  const device = await makeVolume(GEOMETRIES[0]);
  let volume = await Volume.mount(device, quietMount(1));
  const { names, ctx } = volume;
  const { blkno: source } = await names.create(names.root, bytes('source'), { mode: MODE.REG | 0o644, ...OWNER });
  const { blkno: filler } = await names.create(names.root, bytes('filler'), { mode: MODE.REG | 0o644, ...OWNER });
  await writeFile(ctx, source, 0, new Uint8Array(10_000).fill(1));
  const values = Array.from({ length: 5 }, (_, i) => Buffer.alloc(60_000, i + 1));
  for (const [i, value] of values.entries()) await names.setXattr(source, bytes(`user.${i}`), value);
  const free = async (): Promise<number> => (await names.statistics()).freeBlocks;
  const before = await free();
  const { blkno: copy } = await names.reflink(source, names.root, bytes('copy'), { ...OWNER });
  expect(before - (await free())).toBeLessThan(300_000 / 4096);
  for (const ino of [source, copy]) for (const [i, value] of values.entries()) expect(value.equals(await names.getXattr(ino, bytes(`user.${i}`)))).toBe(true);
  // One changes, one goes; the other file keeps both.
  await names.setXattr(copy, bytes('user.0'), Buffer.alloc(60_000, 77));
  await names.removeXattr(source, bytes('user.1'));
  await fallocate(ctx, filler, 'reserve', 0, 1 << 20, false);
  await writeFile(ctx, filler, 0, new Uint8Array(1 << 20).fill(99));
  await volume.sync();
  await volume.unmount();
  await expectFsckClean(device);
  expect(await valueRecords(device, source)).toEqual({ all: 4, shared: 4 });
  expect(await valueRecords(device, copy)).toEqual({ all: 5, shared: 4 });
  volume = await Volume.mount(device, quietMount(2));
  expect(values[0].equals(await volume.names.getXattr(source, bytes('user.0')))).toBe(true);
  expect(values[1].equals(await volume.names.getXattr(copy, bytes('user.1')))).toBe(true);
  await volume.unmount();
});
