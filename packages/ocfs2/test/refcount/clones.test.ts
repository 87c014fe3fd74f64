/** Clones as their users meet them: many records, full volumes, volumes without the feature, exports that write to a clone, clusters met twice in one file. */
import { Random } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { dinodeTree, insert, lookup } from '../../src/extents/index.js';
import { EXT, MODE } from '../../src/format/index.js';
import { addRefs, ensureRefTree } from '../../src/refcount/index.js';
import { SharedFile, Volume, fallocate, fileExtents, mapRange, punchHole, readFile, recoverOrphans, shareRange, truncateFile, writeFile } from '../../src/volume/index.js';
import { checkVolume } from '../../src/check/index.js';
import { quietMount } from '../support/crash.js';
import { HOSTILE } from '../support/locks.js';
import { GEOMETRIES, type NamedVolume, expectFsckClean, makeVolume } from '../support/volume.js';
import { PLAIN } from '../volume/support.js';

const OWNER = { uid: 0, gid: 0 };
const name = (text: string) => Buffer.from(text);
const geometry = (wanted: string) => GEOMETRIES.find((one) => one.name === wanted)!;

async function mounted(spec: NamedVolume): Promise<{ volume: Volume; device: Awaited<ReturnType<typeof makeVolume>> }> {
  const device = await makeVolume(spec);
  return { device, volume: await Volume.mount(device, quietMount(1)) };
}

async function file(volume: Volume, called: string, content: Uint8Array = new Uint8Array()): Promise<number> {
  const { blkno } = await volume.names.create(volume.names.root, name(called), { mode: MODE.REG | 0o644, ...OWNER });
  await volume.names.forget(blkno);
  await writeFile(volume.ctx, blkno, 0, content);
  return blkno;
}

async function clone(volume: Volume, source: number, called: string, preserve = false): Promise<number> {
  const { blkno } = await volume.names.reflink(source, volume.names.root, name(called), { ...OWNER, preserve });
  await volume.names.forget(blkno);
  return blkno;
}

async function read(volume: Volume, ino: number, from = 0, length = 64 << 20): Promise<Buffer> {
  const { size } = await volume.names.attributes(ino);
  const bytes = Buffer.alloc(Math.max(0, Math.min(length, size - from)));
  await readFile(volume.ctx, ino, from, bytes);
  return bytes;
}

const sample = (length: number, start: number): Buffer => {
  const words = new Uint32Array(Math.ceil(length / 4)).map((_, i) => start + i);
  return Buffer.from(words.buffer, 0, length);
};

/** Fails with the first byte that is wrong: comparing large buffers by `toEqual` takes minutes. */
function same(got: Buffer, wanted: Buffer): void {
  if (!got.equals(wanted)) throw new Error(`${got.length} bytes, ${wanted.length} are right; the first wrong one is ${got.findIndex((byte, i) => byte !== wanted[i])}`);
}

test('many records: a tree with many leaves is written, checked and goes with its last user', { timeout: 300_000 }, async () => {
  const { volume, device } = await mounted(geometry('512/4K'));
  const { ctx } = volume;
  const source = await file(volume, 'source');
  await fallocate(ctx, source, 'reserve', 0, 1600 * 4096, false);
  const copy = await clone(volume, source, 'copy');
  // Every other cluster counted once, the others twice.
  for (let i = 0; i < 800; i++) await punchHole(ctx, copy, 2 * i * 4096, 4096);
  await volume.sync();
  const third = await clone(volume, copy, 'third');
  await writeFile(ctx, third, 5 * 4096 + 7, sample(1000, 5));
  await volume.unmount();
  await expectFsckClean(device);
  const again = await Volume.mount(device, quietMount(2));
  same(await read(again, third, 5 * 4096, 1100), Buffer.concat([Buffer.alloc(7), sample(1000, 5), Buffer.alloc(93)]));
  await again.names.unlink(again.names.root, name('source'));
  await truncateFile(again.ctx, third, 1_000_001);
  await again.sync();
  await writeFile(again.ctx, copy, 0, sample(200_000, 9));
  same(await read(again, third, 5 * 4096 + 7, 1000), sample(1000, 5));
  await again.unmount();
  await expectFsckClean(device);
  const last = await Volume.mount(device, quietMount(3));
  for (const called of ['copy', 'third']) await last.names.unlink(last.names.root, name(called));
  await last.unmount();
  await expectFsckClean(device);
});

describe.each(['4K/4K metaecc', '4K/1M'])('%s', (which) => {
  test('a full volume refuses a copy without a trace, and gives back what the last user leaves', { timeout: 120_000 }, async () => {
    const { volume, device } = await mounted(geometry(which));
    const { ctx, names } = volume;
    const unit = volume.geo.clusterSize;
    const content = sample(4 * unit, 1);
    const source = await file(volume, 'source', content), copy = await clone(volume, source, 'copy');
    const filler = await file(volume, 'filler');
    for (let step = 1 << 28, at = 0; step >= unit; step = Math.floor(step / 2)) {
      for (;;) {
        try {
          await fallocate(ctx, filler, 'reserve', at, step, true);
          at += step;
        } catch (error) {
          expect(error).toMatchObject({ code: 'NO_SPACE' });
          await fallocate(ctx, filler, 'punch', at, step, true);
          break;
        }
      }
      await volume.sync();
    }
    const before = await names.statistics();
    expect(before.freeBlocks * volume.geo.blockSize).toBeLessThan(3 * unit);
    await expect((async () => {
      for (let i = 0; i < 4; i++) await writeFile(ctx, copy, i * unit + 3, sample(10, 7));
    })()).rejects.toMatchObject({ code: 'NO_SPACE' });
    same(await read(volume, source), content);
    const now = await read(volume, copy);
    for (let i = 0; i < 4; i++) expect([content, Buffer.concat([content.subarray(0, i * unit + 3), sample(10, 7)])].some((may) => may.subarray(i * unit, i * unit + 13).equals(now.subarray(i * unit, i * unit + 13)))).toBe(true);
    // Alone with what it shared, the copy needs no space to be written to.
    await names.unlink(names.root, name('source'));
    // Another node may have had it in core for a moment: then it is an orphan until somebody looks.
    while ((await recoverOrphans(ctx, [ctx.slot], undefined, names.inodes)).left > 0) expect(HOSTILE).toBe(true);
    await fallocate(ctx, filler, 'reserve', 0, 1, true);
    await writeFile(ctx, copy, 0, sample(4 * unit, 50));
    same(await read(volume, copy), sample(4 * unit, 50));
    await volume.unmount();
    await expectFsckClean(device, ['INODE_SPARSE_SIZE']);
  });
});

test('volumes without the feature say how to get it', async () => {
  const { volume, device } = await mounted(PLAIN);
  const source = await file(volume, 'source', sample(50_000, 1)), target = await file(volume, 'target');
  await expect(clone(volume, source, 'copy')).rejects.toMatchObject({ code: 'NO_REFLINK', errno: 'EOPNOTSUPP', message: expect.stringContaining('tunefs.ocfs2 --fs-features=refcount') as string });
  expect(await shareRange(volume.ctx, { source, from: 0, target, to: 0, length: 40_960 })).toBe(false);
  await volume.unmount();
  await expectFsckClean(device);
});

test('an export writes to a clone by mappings of its own clusters only; the source stays as it is', { timeout: 60_000 }, async () => {
  const { volume, device } = await mounted(geometry('4K/4K'));
  const { ctx } = volume;
  const content = sample(8 << 20, 3);
  const source = await file(volume, 'source', content);
  const shared = new SharedFile(ctx, source, undefined);
  const before = await mapRange(ctx, source, 0, 8 << 20, true, 100, shared.gate);
  expect(before.runs.length).toBeGreaterThan(0);
  const copy = await clone(volume, source, 'copy');
  // A worker with the old mapping is turned away, and a new one maps nothing that is shared.
  expect(shared.gate.enter(before.epoch, 0, true)).toBe(false);
  expect((await mapRange(ctx, source, 0, 8 << 20, true, 100, shared.gate)).runs).toEqual([]);
  const exported = new SharedFile(ctx, copy, undefined), backend = exported.backend({ readOnly: false, survives: true });
  await exported.load();
  const model = Buffer.from(content), random = new Random(5);
  await Promise.all(Array.from({ length: 60 }, async (_, i) => {
    const at = 8192 * (i * 17 + random.int(3)) + 512 * random.int(4), data = sample(512 * (1 + random.int(8)), 1000 * i);
    data.copy(model, at);
    await backend.write(at, data, i % 7 === 0);
    if (i % 5 === 0) expect((await read(volume, source, at, 4096)).equals(content.subarray(at, at + 4096))).toBe(true);
  }));
  same(await read(volume, copy), model);
  same(await read(volume, source), content);
  for (const { shared: is, device: at, offset, length } of await fileExtents(ctx, copy, 0, 1e6)) {
    const mapped = (await mapRange(ctx, copy, offset, length, true, 10, exported.gate)).runs;
    expect(mapped).toEqual(is ? [] : [{ offset, length, device: at }]);
  }
  await backend.flush();
  await exported.close();
  await shared.close();
  await volume.unmount();
  await expectFsckClean(device);
});

test('what a clone is: content at one moment, inline or not; a snapshot keeps owner, mode and mtime', async () => {
  const { volume, device } = await mounted(geometry('4K/4K'));
  const { names, ctx } = volume;
  const small = await file(volume, 'small', sample(500, 1)), large = await file(volume, 'large', sample(500_000, 1));
  for (const source of [small, large]) {
    await names.change(source, { mode: 0o640, uid: 7, gid: 8, mtime: { sec: 1_000_000, nsec: 5 } });
    const plain = await names.attributes(await clone(volume, source, `plain ${source}`));
    expect(plain).toMatchObject({ mode: MODE.REG | 0o640, uid: 0, gid: 0, links: 1 });
    expect(plain.mtime.sec).not.toBe(1_000_000);
    const snapshot = await clone(volume, source, `snapshot ${source}`, true);
    expect(await names.attributes(snapshot)).toMatchObject({ mode: MODE.REG | 0o640, uid: 7, gid: 8, mtime: { sec: 1_000_000, nsec: 5 }, links: 1 });
    const was = await read(volume, source);
    // While it is being written to: every byte is the one before or the one after.
    const next = sample(was.length, 77);
    const [, late] = await Promise.all([writeFile(ctx, source, 0, next), clone(volume, source, `late ${source}`)]);
    const caught = await read(volume, late);
    expect(caught.length).toBe(was.length);
    expect(caught.findIndex((byte, i) => byte !== was[i] && byte !== next[i])).toBe(-1);
    same(await read(volume, source), next);
    same(await read(volume, snapshot), was);
  }
  await expect(clone(volume, small, 'large')).rejects.toMatchObject({ code: 'EXISTS' });
  await names.setFlags(small, 0x10);
  await expect(clone(volume, small, 'immutable')).rejects.toMatchObject({ errno: 'EPERM' });
  await expect(clone(volume, names.root, 'directory')).rejects.toMatchObject({ errno: 'EISDIR' });
  await names.setFlags(small, 0);
  await volume.unmount();
  await expectFsckClean(device);
});

test('a cluster that one file has twice, as Linux can make it, is copied, too', async () => {
  const { volume, device } = await mounted(geometry('4K/4K'));
  const { ctx } = volume;
  const unit = 4096, content = sample(4 * unit, 1);
  const twice = await file(volume, 'twice', content);
  await clone(volume, twice, 'other');
  await volume.names.unlink(volume.names.root, name('other'));
  // FICLONERANGE within one file: clusters 0..4 again at 4..8.
  await ctx.engine.run('double', (op) => {
    const ref = ctx.editInode(op, twice), tree = dinodeTree(ref, op, ctx), rec = lookup(op, tree, 0);
    if (rec.hole) throw new Error('nothing there');
    addRefs(ensureRefTree(op, ctx, ref), rec.blkno / ctx.geo.bpc, rec.clusters);
    insert(op, ctx, tree, { cpos: 4, clusters: rec.clusters, blkno: rec.blkno, flags: EXT.REFCOUNTED });
    ref.di.size = 8 * unit;
  });
  same(await read(volume, twice), Buffer.concat([content, content]));
  const over = sample(7 * unit, 500);
  await writeFile(ctx, twice, unit / 2, over);
  same(await read(volume, twice), Buffer.concat([content.subarray(0, unit / 2), over, content.subarray(3.5 * unit)]));
  await volume.unmount();
  expect((await checkVolume(device)).findings).toEqual([]);
  await expectFsckClean(device);
});
