/**
 * Writing a fresh volume. Order: discard; zeros over both ends (whatever was recognisable there is gone, and an aborted
 * format leaves nothing that could be mounted); metadata, cluster groups, zeroed areas; a flush; the backup superblocks;
 * the superblock last.
 */
import type { BlockDevice } from '@lunfs/device';
import type { Random } from '../context.js';
import { SUPER_BLOCK_BLKNO } from '../format/index.js';
import { type Layout, layOut, type VolumeSeed } from './layout.js';
import { type MkfsOptions, planVolume, type VolumePlan } from './plan.js';

export interface MkfsProgress {
  readonly stage: 'discard' | 'zero' | 'metadata' | 'groups' | 'superblocks';
  /** Done and to do in this stage: bytes while discarding and zeroing, writes after that. */
  readonly done: number;
  readonly total: number;
}

export interface MkfsEnvironment {
  readonly random: Random;
  /** Wall-clock seconds, for the times in the volume. */
  readonly time: number;
  readonly progress?: (progress: MkfsProgress) => void;
  /** What is random otherwise; for tests. */
  readonly seed?: Partial<VolumeSeed>;
}

const END = 2 ** 20;
/** Discarding is a helper program's: few steps, each of at least this many bytes. */
const DISCARD_STEP = 2 ** 31;
const DISCARD_STEPS = 128;
const ZERO_STEP = 64 * 2 ** 20;
/** Largest single write, and how many are under way at once. */
const MOST_WRITE = 4 * 2 ** 20;
const WRITES_AT_ONCE = 16;

function seedOf(options: MkfsOptions, { random, time, seed }: MkfsEnvironment): VolumeSeed {
  const uuid = new Uint8Array(16);
  if (options.uuid !== undefined) uuid.set(Buffer.from(options.uuid.replaceAll('-', ''), 'hex'));
  else {
    const dv = new DataView(uuid.buffer);
    for (let i = 0; i < 16; i += 4) dv.setUint32(i, random.u32());
    // Version 4, variant 1, as every tool shows it.
    uuid[6] = (uuid[6] & 0x0f) | 0x40;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
  }
  return { generation: random.u32(), uuid, dxSeed: [random.u32(), random.u32(), random.u32()], time, ...seed };
}

/**
 * Format `device`. Everything on it is lost. Resolves to what was made; throws UsageError before anything is written if
 * the options do not fit the device, and I/O errors as they come (the device holds no volume then).
 */
export async function formatVolume(device: BlockDevice, options: MkfsOptions, env: MkfsEnvironment): Promise<VolumePlan> {
  const plan = planVolume(device, options);
  const layout = layOut(plan, seedOf(options, env));
  const tell = (stage: MkfsProgress['stage'], done: number, total: number) => env.progress?.({ stage, done, total });
  const { blockSize, bytes } = plan;
  if (device.canDiscard && options.discard !== false) {
    const step = DISCARD_STEP * Math.ceil(bytes / DISCARD_STEP / DISCARD_STEPS);
    for (let at = 0; at < bytes; at += step) {
      await device.discard(at, Math.min(step, bytes - at));
      tell('discard', Math.min(at + step, bytes), bytes);
    }
  }
  await device.writeZeroes(0, Math.min(END, bytes));
  await device.writeZeroes(Math.max(0, bytes - END), Math.min(END, bytes));
  await device.flush();

  await zeroRanges(device, layout, (done, total) => tell('zero', done, total));
  await writeBlocks(device, layout, (done, total) => tell('metadata', done, total));
  await writeGroups(device, layout, (done, total) => tell('groups', done, total));
  await device.flush();
  const copies = [...layout.superBlocks].filter(([blkno]) => blkno !== SUPER_BLOCK_BLKNO);
  for (const [blkno, copy] of copies) await device.write(blkno * blockSize, copy);
  await device.flush();
  // Lead and superblock in one piece: three blocks from the device's first byte.
  const head = new Uint8Array(3 * blockSize);
  head.set(layout.lead);
  head.set(layout.superBlocks.get(SUPER_BLOCK_BLKNO)!, SUPER_BLOCK_BLKNO * blockSize);
  await device.write(0, head);
  await device.flush();
  tell('superblocks', layout.superBlocks.size, layout.superBlocks.size);
  return plan;
}

type Report = (done: number, total: number) => void;

async function zeroRanges(device: BlockDevice, { plan, zeroes }: Layout, report: Report): Promise<void> {
  const total = zeroes.reduce((sum, range) => sum + range.count, 0) * plan.blockSize;
  let done = 0;
  for (const { blkno, count } of zeroes) {
    const end = (blkno + count) * plan.blockSize;
    for (let at = blkno * plan.blockSize; at < end; at += ZERO_STEP) {
      const length = Math.min(ZERO_STEP, end - at);
      await device.writeZeroes(at, length);
      report((done += length), total);
    }
  }
}

/** Run `work` for 0 to `count` - 1, some at once, in order of their start. After a failure none is started, and none is under way when it is thrown. */
async function severalAtOnce(count: number, work: (index: number) => Promise<void>, report: (done: number) => void): Promise<void> {
  let next = 0, done = 0, failed = false;
  const lane = async (): Promise<void> => {
    while (next < count && !failed) {
      try {
        await work(next++);
      } catch (error) {
        failed = true;
        throw error;
      }
      report(++done);
    }
  };
  for (const result of await Promise.allSettled(Array.from({ length: WRITES_AT_ONCE }, lane))) if (result.status === 'rejected') throw result.reason;
}

/** Write all blocks, neighbours together. */
async function writeBlocks(device: BlockDevice, { plan, blocks }: Layout, report: Report): Promise<void> {
  const { blockSize } = plan;
  const runs: number[][] = [];
  for (const blkno of [...blocks.keys()].sort((a, b) => a - b)) {
    const run = runs.at(-1);
    if (run !== undefined && run[run.length - 1] + 1 === blkno && (run.length + 1) * blockSize <= MOST_WRITE) run.push(blkno);
    else runs.push([blkno]);
  }
  await severalAtOnce(runs.length, async (index) => {
    const run = runs[index];
    const bytes = new Uint8Array(run.length * blockSize);
    for (const [i, blkno] of run.entries()) bytes.set(blocks.get(blkno)!, i * blockSize);
    await device.write(run[0] * blockSize, bytes);
  }, (done) => report(done, runs.length));
}

/** Every group's descriptor with the rest of its cluster zero. */
async function writeGroups(device: BlockDevice, { plan, group }: Layout, report: Report): Promise<void> {
  const { clusterGroups, clusterSize, blockSize } = plan;
  await severalAtOnce(clusterGroups, async (index) => {
    const { blkno, bytes } = group(index);
    const head = new Uint8Array(Math.max(blockSize, device.logicalBlockSize));
    head.set(bytes);
    await device.write(blkno * blockSize, head);
    // By the device itself where it can: 16 TiB have 4681 groups whose clusters of 1 MiB need not be written out on a sparse image.
    if (head.length < clusterSize) await device.writeZeroes(blkno * blockSize + head.length, clusterSize - head.length);
  }, (done) => report(done, clusterGroups));
}
