/** Whatever a power failure leaves: after recovery the quota files say what the inodes add up to. */
import { MemoryDevice, Random, RecordingDevice, type CrashImage, prefixImages, reorderedImages } from '@lunfs/device';
import { expect, test } from 'vitest';
import { MODE } from '../../src/format/index.js';
import { formatVolume } from '../../src/mkfs/index.js';
import type { Quota } from '../../src/quota/index.js';
import { type Volume, truncateFile, writeFile } from '../../src/volume/index.js';
import { seed } from '../../../../test/support/temp.js';
import { expectFsckClean } from '../support/volume.js';
import { countUse, mountQuiet, reported } from './support.js';

const MIB = 2 ** 20;
const SEED = seed('quota crash');

/** Limits and grace periods that are set, in this order. */
const SETTINGS: readonly ((quota: Quota) => Promise<unknown>)[] = [
  (quota) => quota.setLimits('user', 1000, { spaceSoft: 4096, spaceHard: 1e6 }),
  (quota) => quota.setLimits('group', 4_000_000, { inodeHard: 7 }),
  (quota) => quota.setSettings('user', { spaceGrace: 77 }),
  (quota) => quota.setLimits('user', 1000, { spaceSoft: 0, spaceHard: 0 }),
];

/** How many of them a volume shows. */
async function settingsShown(quota: Quota): Promise<number> {
  const hard = (await quota.report('user')).find(({ id }) => id === 1000)?.spaceHard ?? 0;
  if ((await quota.settings('user')).spaceGrace === 77) return hard === 0 ? 4 : 3;
  if ((await quota.report('group')).some(({ id, inodeHard }) => id === 4_000_000 && inodeHard === 7)) return 2;
  return hard === 1e6 ? 1 : 0;
}

/** Owners come, change and go; use is synced at some points, limits are set: what is said to be set survives from then on. */
async function script({ names, ctx, quota }: Volume, mark: (text: string) => void): Promise<void> {
  let set = 0;
  const next = async (): Promise<void> => {
    mark(`begin ${set + 1}`);
    await SETTINGS[set++](quota!);
    mark(`durable ${set}`);
  };
  const make = async (text: string, uid: number, gid: number): Promise<number> => {
    const { blkno } = await names.create(names.root, Buffer.from(text), { mode: MODE.REG | 0o644, uid, gid });
    await names.forget(blkno);
    return blkno;
  };
  const write = (ino: number, clusters: number) => writeFile(ctx, ino, 0, new Uint8Array(clusters * ctx.geo.clusterSize).fill(5));
  const a = await make('a', 1000, 100), b = await make('b', 1001, 101);
  await write(a, 3);
  await ctx.engine.log.commit();
  await write(b, 2);
  await next();
  await quota!.sync();
  await names.change(a, { uid: 1002 });
  await next();
  await ctx.engine.log.commit();
  await truncateFile(ctx, a, 10);
  await names.unlink(names.root, Buffer.from('b'));
  await quota!.sync();
  await ctx.engine.log.commit();
  for (let i = 0; i < 5; i++) await make(`n${i}`, 2000 + i, 100);
  await next();
  await quota!.sync();
  await quota!.sync();
  await write(a, 4);
  await ctx.engine.log.flush();
  await next();
  for (let i = 0; i < 5; i++) await names.unlink(names.root, Buffer.from(`n${i}`));
}

test.each([{ blockSize: 4096, features: 'usrquota,grpquota' }, { blockSize: 512, features: 'usrquota,grpquota,metaecc' }])('blocks of $blockSize', { timeout: 300_000 }, async ({ blockSize, features }) => {
  const device = new MemoryDevice({ size: 16 * MIB, name: 'crash' });
  await formatVolume(device, { mount: 'local', slots: 1, blockSize, clusterSize: 4096, journalSize: 4 * MIB, features }, { random: new Random(1), time: 1_600_000_000 });
  const recording = new RecordingDevice(device);
  const volume = await mountQuiet(recording);
  await script(volume, (text) => recording.mark(text));
  await volume.unmount();
  const random = new Random(SEED);
  const points = new Set(Array.from({ length: 25 }, () => random.int(recording.log.length + 1)));
  for (const [i, entry] of recording.log.entries()) if (entry.kind === 'mark') points.add(i + 1);
  let images = 0;
  const check = async (image: CrashImage): Promise<void> => {
    const recovered = await mountQuiet(image.device);
    const number = (what: string): number => Math.max(0, ...image.marks.filter((mark) => mark.startsWith(what)).map((mark) => Number(mark.split(' ')[1])));
    const shown = await settingsShown(recovered.quota!);
    expect(shown, `point ${image.point}, seed ${image.seed}: settings`).toBeGreaterThanOrEqual(number('durable'));
    expect(shown, `point ${image.point}, seed ${image.seed}: settings`).toBeLessThanOrEqual(number('begin'));
    await recovered.ctx.engine.log.flush();
    expect(await reported(recovered), `point ${image.point}, seed ${image.seed}`).toEqual(await countUse(image.device));
    await recovered.unmount();
    if (images++ % 20 === 7) await expectFsckClean(image.device);
  };
  for (const image of prefixImages(recording, (p) => points.has(p))) await check(image);
  for (const image of reorderedImages(recording, random, { perPoint: 1, select: (p) => points.has(p) })) await check(image);
  expect(images).toBeGreaterThan(20);
});
