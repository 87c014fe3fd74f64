/**
 * Growing a volume: what it leaves, byte for byte beside what tunefs.ocfs2 leaves of the same volume, what it says it would change and
 * what it changes, and what it refuses. Members of a cluster: test/cluster/grow.test.ts; crashes: test/crash/grow.test.ts.
 */
import path from 'node:path';
import { type MemoryDevice, RecordingDevice, isChange } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { must } from '../../../../test/support/temp.js';
import { BACKUP_SUPER_OFFSETS, BitmapId1, Block, ChainList, Dinode, GROUP_BITMAP, GROUP_DESC, DINODE, GroupDesc, bits, blockToCluster, clusterToGroup, groupFirstCluster, stampCheck } from '../../src/format/index.js';
import { JournalInode } from '../../src/journal/index.js';
import { RawReader, readSystemFiles } from '../../src/inspect/index.js';
import { Volume, fallocate, readFile, writeFile } from '../../src/volume/index.js';
import { quietMount } from '../support/crash.js';
import { type NamedVolume, expectFsckClean, loadSparse, makeVolume, readBytes, withDir, writeOut } from '../support/volume.js';
import { FILE, bytes } from './support.js';

const MIB = 2 ** 20, GIB = 2 ** 30;

interface Case extends NamedVolume {
  readonly to: number;
  readonly groupsAdded: number;
  /** Backup superblocks that come inside, by number. */
  readonly backups: readonly number[];
}

const LOCAL = ['-M', 'local', '-N', '1', '-J', 'size=4M'];
const CASES: readonly Case[] = [
  { name: '4K/4K, into its last group only', size: 300 * MIB, to: 300 * MIB + 40960, mkfsArgs: ['-b', '4096', '-C', '4096', ...LOCAL], groupsAdded: 0, backups: [] },
  { name: '4K/4K, over 1 GiB', size: 900 * MIB, to: 1400 * MIB + 4095, mkfsArgs: ['-b', '4096', '-C', '4096', ...LOCAL], groupsAdded: 4, backups: [1] },
  { name: '4K/4K, from 1 GiB: the first cluster behind the end is a backup\'s', size: GIB, to: GIB + 4096, mkfsArgs: ['-b', '4096', '-C', '4096', ...LOCAL], groupsAdded: 0, backups: [1] },
  { name: '4K/4K metaecc', size: 300 * MIB, to: 2 * GIB, mkfsArgs: ['-b', '4096', '-C', '4096', '--fs-features=metaecc', ...LOCAL], groupsAdded: 14, backups: [1] },
  { name: '4K/1M, over all backups', size: 600 * MIB, to: 1100 * GIB, mkfsArgs: ['-b', '4096', '-C', '1M', ...LOCAL.slice(0, 4), '-J', 'size=9M'], groupsAdded: 34, backups: [1, 2, 3, 4, 5, 6] },
  { name: '1K/4K metaecc, chains full', size: 100 * MIB, to: 4200 * MIB, mkfsArgs: ['-b', '1024', '-C', '4096', '--fs-features=metaecc', ...LOCAL], groupsAdded: 136, backups: [1, 2] },
  { name: '512/4K, chains full', size: 60 * MIB, to: 1100 * MIB, mkfsArgs: ['-b', '512', '-C', '4096', ...LOCAL], groupsAdded: 74, backups: [1] },
];

/** The volume as tunefs.ocfs2 grows it to `size` bytes. */
async function byTunefs(device: MemoryDevice, size: number): Promise<MemoryDevice> {
  return withDir(async (dir) => {
    const larger = device.clone();
    larger.enlarge(size);
    const file = writeOut(larger, path.join(dir, 'volume'));
    await must('tunefs.ocfs2', ['-S', file]);
    return loadSparse(file);
  });
}

/** What changes a block of a volume that nobody has. */
async function editing(device: MemoryDevice) {
  const reader = await RawReader.open(device);
  const { geo } = reader;
  const { globalBitmap } = await readSystemFiles(reader);
  const edit = async (blkno: number, checkAt: number, change: (block: Block) => void): Promise<void> => {
    const block = await reader.readRaw(blkno);
    change(block);
    if (geo.metaecc) stampCheck(block.bytes, checkAt);
    await device.write(blkno * geo.blockSize, block.bytes);
  };
  return { geo, globalBitmap, edit };
}

/**
 * Do to what tunefs.ocfs2 1.8.7 leaves what it leaves out: growing offline it writes new backup superblocks without taking their clusters
 * (ondisk-format.md 11.2), which it and the kernel do when they grow online.
 */
async function reserveBackups(device: MemoryDevice, numbers: readonly number[]): Promise<void> {
  const { geo, globalBitmap, edit } = await editing(device);
  for (const number of numbers) {
    const { group, bit } = clusterToGroup(geo, blockToCluster(geo, BACKUP_SUPER_OFFSETS[number - 1] / geo.blockSize));
    let chain = -1;
    await edit(group, GROUP_DESC.checkAt(geo), (block) => {
      const gd = GroupDesc.at(block);
      expect(bits.test(block.bytes, GROUP_BITMAP, bit)).toBe(false);
      bits.set(block.bytes, GROUP_BITMAP, bit);
      gd.freeBits -= 1;
      chain = gd.chain;
    });
    await edit(globalBitmap, DINODE.checkAt(geo), (block) => {
      const list = new ChainList(block);
      list.setFree(chain, list.free(chain) - 1);
      BitmapId1.at(block).used += 1;
    });
  }
}

/** Blocks of two devices that differ. */
async function differences(a: MemoryDevice, b: MemoryDevice, blockSize: number): Promise<number[]> {
  const chunks = new Set([...a.contents(), ...b.contents()].map(({ offset }) => offset));
  const found: number[] = [];
  for (const offset of [...chunks].sort((x, y) => x - y)) {
    const length = Math.min(16384, a.size - offset);
    const [one, other] = [await readBytes(a, offset, length), await readBytes(b, offset, length)];
    if (Buffer.compare(one, other) === 0) continue;
    for (let at = 0; at < length; at += blockSize) if (Buffer.compare(one.subarray(at, at + blockSize), other.subarray(at, at + blockSize)) !== 0) found.push((offset + at) / blockSize);
  }
  return found;
}

describe.each(CASES)('$name', ({ to, groupsAdded, backups, ...spec }) => {
  test('grows as tunefs.ocfs2 has it, changes what it said it would, and is sound', { timeout: 300_000 }, async () => {
    const device = await makeVolume(spec);
    const reference = await byTunefs(device, to);
    await reserveBackups(reference, backups);
    const volume0 = await Volume.mount(device, quietMount(1));
    // Garbage behind the old end, as a LUN may have it; but what is never looked at stays as it is, here and there.
    device.enlarge(to);
    const plan = await volume0.planGrowth();
    for (const { kind, group } of plan.steps) if (kind === 'add') device.writeSync(group * volume0.geo.blockSize, Buffer.alloc(volume0.geo.clusterSize, 'old'));
    await volume0.unmount();

    const recording = new RecordingDevice(device);
    const volume = await Volume.mount(recording, quietMount(2));
    const { geo } = volume;
    const before = recording.log.length;
    const told: number[] = [];
    const growth = await volume.grow({ progress: (done, total) => told.push(done / total) });
    await volume.ctx.engine.log.flush();
    const changed = recording.log.slice(before).filter(isChange);
    expect(growth).toEqual({ clusterSize: geo.clusterSize, from: Math.floor(spec.size / geo.clusterSize), to: Math.floor(to / geo.clusterSize), groupsAdded, backups: backups.map((n) => BACKUP_SUPER_OFFSETS[n - 1] / geo.blockSize) });
    expect(plan).toMatchObject(growth);
    expect(told.at(-1)).toBe(1);
    expect(told).toEqual(told.toSorted((x, y) => x - y));
    expect(geo.totalClusters).toBe(growth.to);
    expect(await volume.names.statistics()).toMatchObject({ blocks: growth.to * geo.bpc });

    // Nothing but what the plan lists was written, and all of that but the rest of the journal.
    const covers = (offset: number, length: number): boolean => plan.blocks.some(({ blkno, count }) => offset >= blkno * geo.blockSize && offset + length <= (blkno + count) * geo.blockSize);
    for (const { offset, length } of changed) expect(covers(offset, length), `byte ${offset}, ${length} bytes`).toBe(true);
    for (const { blkno, what } of plan.blocks) {
      if (!what.startsWith('journal')) expect(changed.some(({ offset, length }) => offset <= blkno * geo.blockSize && offset + length > blkno * geo.blockSize), `${what} in block ${blkno}`).toBe(true);
    }
    // Once more: there is nothing to do.
    expect(await volume.grow()).toMatchObject({ from: growth.to, to: growth.to, groupsAdded: 0, backups: [] });
    expect((await volume.planGrowth()).blocks).toEqual([]);

    await volume.unmount();
    const reader = await RawReader.open(device);
    expect(reader.geo.totalClusters).toBe(growth.to);
    const sys = await readSystemFiles(reader);
    const { map } = await JournalInode.read(reader, sys.journal[0]);
    // The log holds what went through it; else not a byte differs.
    expect((await differences(device, reference, geo.blockSize)).filter((blkno) => !map.contains(blkno))).toEqual([]);
    await expectFsckClean(device);
  });
});

test('what is new can be filled to the last cluster, and a backup is never handed out', { timeout: 120_000 }, async () => {
  const spec = CASES[1];
  const device = await makeVolume(spec);
  const volume = await Volume.mount(device, quietMount(3));
  const { names, ctx } = volume;
  const { blkno } = await names.create(names.root, bytes('file'), FILE);
  device.enlarge(1100 * MIB);
  await volume.grow();
  let taken = 0;
  for (const piece of [64 * MIB, MIB, 4096]) {
    try {
      for (; ; taken += piece) await fallocate(ctx, blkno, 'reserve', taken, piece, false);
    } catch (error) {
      expect(error).toMatchObject({ code: 'NO_SPACE' });
    }
  }
  expect((await names.statistics()).freeBlocks).toBeLessThan(8);
  const written = new Uint8Array(MIB).fill(7), found = new Uint8Array(MIB);
  await writeFile(ctx, blkno, taken - MIB, written);
  await readFile(ctx, blkno, taken - MIB, found);
  expect(Buffer.compare(found, written)).toBe(0);
  expect(await names.statistics()).toMatchObject({ blocks: (1100 * MIB) / 4096 });
  await volume.unmount();
  await expectFsckClean(device);
  const copy = await readBytes(device, GIB, 4096);
  expect(Dinode.at(new Block('copy', GIB / 4096, copy))).toMatchObject({ signature: 'OCFSV2', blkno: GIB / 4096, clusters: (1100 * MIB) / 4096 });
});

test('in steps, each to a size of its own', { timeout: 120_000 }, async () => {
  const device = await makeVolume(CASES[1]);
  const volume = await Volume.mount(device, quietMount(4));
  device.enlarge(3 * GIB);
  for (const size of [901 * MIB, 1024 * MIB, 1024 * MIB + 4096, 1025 * MIB, 1500 * MIB, 3 * GIB]) {
    await volume.grow({ size });
    expect(volume.geo.totalClusters * 4096).toBe(size);
  }
  await expect(volume.grow({ size: 2 * GIB })).rejects.toMatchObject({ code: 'SHRINK' });
  await expect(volume.grow({ size: 3 * GIB + 4096 })).rejects.toMatchObject({ code: 'DEVICE_TOO_SMALL' });
  await expect(volume.planGrowth({ size: 2 * GIB })).rejects.toMatchObject({ code: 'SHRINK' });
  const [one, other] = await Promise.allSettled([volume.grow(), volume.grow()]);
  expect([one.status, other]).toMatchObject(['fulfilled', { reason: { code: 'GROWING' } }]);
  await volume.unmount();
  await expectFsckClean(device);
  const reader = await RawReader.open(device);
  const last = clusterToGroup(reader.geo, reader.geo.totalClusters - 1).group;
  expect(GroupDesc.at(await reader.read(last, GROUP_DESC)).bits).toBe(reader.geo.totalClusters - groupFirstCluster(reader.geo, last));
});

test('a journal with 32-bit block numbers is left a volume it can name', { timeout: 120_000 }, async () => {
  const device = await makeVolume({ size: 60 * MIB, mkfsArgs: ['-b', '512', '-C', '4096', ...LOCAL] });
  device.enlarge(2 ** 32 * 512 + MIB);
  const volume = await Volume.mount(device, quietMount(5));
  await expect(volume.planGrowth()).rejects.toMatchObject({ code: 'JOURNAL_ADDRESS' });
  await expect(volume.grow()).rejects.toMatchObject({ code: 'JOURNAL_ADDRESS' });
  expect(volume.geo.totalClusters).toBe((60 * MIB) / 4096);
  await volume.unmount();
  await expectFsckClean(device);
});

test('groups that were made to hold no more than a small volume had: tunefs.ocfs2 makes them larger first', { timeout: 120_000 }, async () => {
  const device = await makeVolume({ size: 60 * MIB, mkfsArgs: ['-b', '4096', '-C', '4096', ...LOCAL] });
  const { geo, globalBitmap, edit } = await editing(device);
  // One group of just the volume's clusters: what fsck.ocfs2 calls damage today, and tunefs.ocfs2 mends.
  await edit(globalBitmap, DINODE.checkAt(geo), (block) => {
    new ChainList(block).cpg = geo.totalClusters;
  });
  device.enlarge(300 * MIB);
  const volume = await Volume.mount(device, quietMount(6));
  await expect(volume.planGrowth()).rejects.toMatchObject({ code: 'GROUPS_TOO_SMALL' });
  await expect(volume.grow()).rejects.toMatchObject({ code: 'GROUPS_TOO_SMALL' });
  const { blkno } = await volume.names.create(volume.names.root, bytes('as before'), FILE);
  await writeFile(volume.ctx, blkno, 0, bytes('content'));
  await volume.unmount();

  const grown = await byTunefs(device, 300 * MIB);
  grown.enlarge(500 * MIB);
  const again = await Volume.mount(grown, quietMount(7));
  expect(await again.grow()).toMatchObject({ from: (300 * MIB) / 4096, to: (500 * MIB) / 4096 });
  await again.unmount();
  await expectFsckClean(grown);
});
