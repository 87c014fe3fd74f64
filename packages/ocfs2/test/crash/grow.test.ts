/**
 * Crashes at every write of a growth, while files are written to the same volume: what was durable is there, superblock and bitmap agree
 * after the next mount, and the growth can be run again, to the end. LUNFS_SEED=… repeats a run.
 */
import { Random, RecordingDevice, prefixImages, reorderedImages } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { seed } from '../../../../test/support/temp.js';
import { checkVolume } from '../../src/check/index.js';
import { Dinode } from '../../src/format/index.js';
import { RawReader, readSystemFiles } from '../../src/inspect/index.js';
import { Volume, readFile, writeFile } from '../../src/volume/index.js';
import { CRASH_VOLUMES, type CrashVolume, MAY_BE_LEFT, pointText, poisonedVolume, quietMount, slowDevice } from '../support/crash.js';
import { pattern } from '../support/posix.js';
import { expectFsckClean } from '../support/volume.js';
import { FILE, bytes } from '../volume/support.js';

const SEED = seed('crashes of a growth');
const MIB = 2 ** 20;
const THOROUGH = process.env.LUNFS_THOROUGH === '1';
const volumeOf = (name: string): CrashVolume => CRASH_VOLUMES.find((one) => one.name === name)!;

/** `share`: of how many crash points one is tried. */
const CASES: readonly { readonly spec: CrashVolume; readonly to: number; readonly share: number }[] = [
  // The last group made full, a group of a new chain.
  { spec: volumeOf('4K/4K metaecc'), to: 200 * MIB, share: 1 },
  // Several strides, a backup superblock.
  { spec: volumeOf('4K/4K'), to: 1100 * MIB, share: 4 },
  // All chains used, then again from the first.
  { spec: volumeOf('512/4K'), to: 300 * MIB, share: 4 },
  { spec: volumeOf('4K/4K cluster'), to: 130 * MIB, share: 4 },
];
const FILES = 12;
const content = (i: number): Uint8Array => pattern(0, 3000 + 5000 * i, i);

/** Grow a volume that is written to meanwhile. Marks say how many files are durable. */
async function record(spec: CrashVolume, to: number): Promise<RecordingDevice> {
  const base = await poisonedVolume(spec);
  base.enlarge(to);
  const recording = new RecordingDevice(base);
  Object.assign(recording, { inner: slowDevice(base, new Random(SEED)) });
  const volume = await Volume.mount(recording, quietMount(SEED));
  const { names, ctx } = volume;
  const work = async (): Promise<void> => {
    for (let i = 0; i < FILES; i++) {
      const { blkno } = await names.create(names.root, bytes(`f${i}`), FILE);
      await writeFile(ctx, blkno, 0, content(i));
      await names.forget(blkno);
      if (i % 4 !== 3) continue;
      await volume.sync();
      recording.mark(`durable ${i + 1}`);
    }
  };
  await Promise.all([work(), volume.grow()]);
  recording.mark('grown');
  await volume.unmount();
  return recording;
}

describe.each(CASES)('$spec.name to $to bytes', ({ spec, to, share }) => {
  test('a crash at any write of it', { timeout: 900_000 }, async () => {
    const recording = await record(spec, to);
    const before = spec.size / (spec.mkfs.clusterSize ?? 4096), after = Math.floor(to / (spec.mkfs.clusterSize ?? 4096));
    const sizes = new Set<number>();
    let images = 0, behind = 0;
    const select = (point: number): boolean => THOROUGH || (point + SEED) % share === 0;
    const check = async (image: { readonly device: typeof recording.base & object; readonly marks: readonly string[] }): Promise<void> => {
      const { device, marks } = image;
      const raw = (await RawReader.open(device)).geo.totalClusters;
      const volume = await Volume.mount(device, quietMount(1));
      const { names, ctx } = volume;
      const durable = Math.max(0, ...marks.map((mark) => Number(/^durable (\d+)/.exec(mark)?.[1] ?? 0)));
      for (let i = 0; i < durable; i++) {
        const { blkno, size } = await names.lookup(names.root, bytes(`f${i}`));
        const found = new Uint8Array(size);
        await readFile(ctx, blkno, 0, found);
        await names.forget(blkno);
        expect(Buffer.compare(found, content(i)), `f${i}`).toBe(0);
      }
      const { blocks } = await names.statistics();
      const clusters = blocks / ctx.geo.bpc;
      expect(clusters).toBeGreaterThanOrEqual(marks.includes('grown') ? after : before);
      sizes.add(clusters);
      if (raw !== clusters) behind++;
      await volume.unmount();
      // Superblock and bitmap agree, or there would be a finding.
      const sound = async (): Promise<void> => {
        expect((await checkVolume(device)).findings.filter(({ code }) => !MAY_BE_LEFT.includes(code))).toEqual([]);
        const reader = await RawReader.open(device);
        expect(reader.geo.totalClusters).toBe(Dinode.at(await reader.inode((await readSystemFiles(reader)).globalBitmap)).clusters);
      };
      await sound();
      const again = await Volume.mount(device, quietMount(2));
      expect(await again.grow()).toMatchObject({ from: clusters, to: after });
      await again.unmount();
      await sound();
      if (images++ % 60 === 17) await expectFsckClean(device, MAY_BE_LEFT);
    };
    for (const image of prefixImages(recording, select)) {
      await check(image).catch((error: unknown) => {
        throw new Error(`LUNFS_SEED=${SEED}: crash at ${pointText(image)}`, { cause: error });
      });
    }
    for (const image of reorderedImages(recording, new Random(SEED), { select })) {
      await check(image).catch((error: unknown) => {
        throw new Error(`LUNFS_SEED=${SEED}: crash at ${pointText(image)}`, { cause: error });
      });
    }
    console.log(`${spec.name}: ${images} crashes, ${sizes.size} sizes, ${behind} times a superblock that said too much`);
    expect(images).toBeGreaterThan(20);
    expect(sizes).toContain(before);
    expect(sizes).toContain(after);
  });
});
