/**
 * Growing a volume to its device's new size while it is mounted, here and anywhere (ondisk-format.md 11.1). Nothing is asked of the
 * other members: each learns of the new size when it next needs it (size.ts).
 *
 * One node at a time grows (size.ts:asGrower). It goes in strides of a few groups; each takes the bitmap's EX lock, so that allocation
 * anywhere waits for one stride at most, and is, in this order:
 *  1. the first clusters of the groups to be added are zeroed on the device. They are behind the end: nobody reads or writes there.
 *  2. superblock, then its backups, say the size after this stride, durably (rule S of size.ts). Backups that come inside with this
 *     stride lie behind the end, too, in clusters that step 3 never offers to anybody.
 *  3. one transaction enters the stride into descriptors, chains and bitmap.
 * A crash before 3 is committed leaves a superblock that says too much; the rest is as if the stride had not begun. Who runs it again
 * begins at the bitmap's end, whatever lies behind it.
 */
import { UsageError } from '@lunfs/device';
import { type GrowthStep, addClusters, bitmapShape, growthSteps } from '../alloc/index.js';
import type { FsContext } from '../context.js';
import { SUPER_BLOCK_BLKNO } from '../format/constants.js';
import { backupBlocks, hasBackups } from '../format/geometry.js';
import { RawReader } from '../inspect/raw-reader.js';
import { JournalInode } from '../journal/index.js';
import { LogReader } from '../journal/replay.js';
import { EX, PR } from '../locking/levels.js';
import { asGrower, growing, holdingBitmap, mended, settleSuperSize, writeSuperSize } from './size.js';

/** Groups in one transaction. */
const STRIDE = 8;
/** i_clusters has 32 bits. */
const MOST_CLUSTERS = 0xffff_ffff;

export interface GrowOptions {
  /** Bytes the volume is to have; rounded down to whole clusters. Default: all that the device has. */
  readonly size?: number;
  /** Told after each stride, in clusters. */
  readonly progress?: (done: number, total: number) => void;
}

export interface Growth {
  readonly clusterSize: number;
  /** Clusters before and after. */
  readonly from: number;
  readonly to: number;
  readonly groupsAdded: number;
  /** Blocks of new backup superblocks. */
  readonly backups: readonly number[];
}

/** Adjacent blocks that growing changes. */
export interface BlockChange {
  readonly blkno: number;
  readonly count: number;
  readonly what: string;
}

export interface GrowthPlan extends Growth {
  readonly steps: readonly GrowthStep[];
  readonly blocks: readonly BlockChange[];
}

/** Clusters to grow to. Throws SHRINK, DEVICE_TOO_SMALL, JOURNAL_ADDRESS. */
async function targetOf(ctx: FsContext, clusters: number, { size }: GrowOptions): Promise<number> {
  const { geo } = ctx;
  const { device } = ctx.engine.cache;
  const bytes = device.refreshSize?.() ?? device.size;
  const wanted = size ?? Math.max(bytes, clusters * geo.clusterSize);
  if (wanted > bytes) {
    throw new UsageError('DEVICE_TOO_SMALL', 'ENOSPC', `${geo.device} has ${bytes} bytes as this host sees it, the volume is to have ${wanted}; enlarge the LUN first, and rescan it on every host`, { device: geo.device, size: bytes, wanted });
  }
  const target = Math.min(MOST_CLUSTERS, Math.floor(wanted / geo.clusterSize));
  if (target < clusters) throw new UsageError('SHRINK', 'EINVAL', `${geo.device} has ${clusters * geo.clusterSize} bytes and cannot be made smaller`, { device: geo.device, clusters, target });
  if (target * geo.bpc > 2 ** 32) await needLargeBlockNumbers(ctx);
  return target;
}

/** Every slot's journal must be able to name a block behind 2^32, whoever mounts there next. */
async function needLargeBlockNumbers(ctx: FsContext): Promise<void> {
  const { geo, sys } = ctx;
  const reader = new RawReader(ctx.engine.cache.device, geo);
  for (const [slot, blkno] of sys.journal.entries()) {
    const { sb } = await LogReader.open(reader.device, geo, (await JournalInode.read(reader, blkno)).map);
    if (sb.bit64) continue;
    throw new UsageError('JOURNAL_ADDRESS', 'EFBIG', `${geo.device}: the journal of slot ${slot} has 32-bit block numbers and the volume would have more blocks; unmount it everywhere and convert it with "tunefs.ocfs2 -J block64"`, { device: geo.device, slot });
  }
}

export async function growVolume(ctx: FsContext, options: GrowOptions): Promise<Growth> {
  const work = (): Promise<{ result: Growth } | undefined> => asGrower(ctx, () => growTo(ctx, options));
  const grown = (await work()) ?? ((await mended(ctx)) ? await work() : undefined);
  if (grown === undefined) throw growing(ctx.geo.device);
  return grown.result;
}

async function growTo(ctx: FsContext, options: GrowOptions): Promise<Growth> {
  const start = await ctx.engine.run('volume size', (op) => bitmapShape(op, ctx, EX));
  const target = await targetOf(ctx, start.clusters, options);
  const taken: GrowthStep[] = [];
  for (let at = start.clusters; at < target; at = taken.at(-1)!.to) {
    taken.push(...(await stride(ctx, target)));
    options.progress?.(taken.at(-1)!.to - start.clusters, target - start.clusters);
  }
  await ctx.engine.log.commit();
  await settleSuperSize(ctx);
  return summary(ctx, start.clusters, target, taken);
}

function summary({ geo }: FsContext, from: number, to: number, steps: readonly GrowthStep[]): Growth {
  return { clusterSize: geo.clusterSize, from, to, groupsAdded: steps.filter(({ kind }) => kind === 'add').length, backups: steps.flatMap(({ backups }) => backups) };
}

/** The next steps, at least one. */
function stride(ctx: FsContext, target: number): Promise<GrowthStep[]> {
  const { geo } = ctx;
  const { device } = ctx.engine.cache;
  return holdingBitmap(ctx, async (run) => {
    const steps: GrowthStep[] = [];
    for (const step of growthSteps(geo, await run('volume size', (op) => bitmapShape(op, ctx, EX)), target)) if (steps.push(step) === STRIDE) break;
    for (const { kind, group } of steps) if (kind === 'add') await device.writeZeroes(group * geo.blockSize, geo.clusterSize);
    await writeSuperSize(ctx, steps.at(-1)!.to);
    await run('grow volume', (op) => {
      for (const step of steps) addClusters(op, ctx, step);
    });
    return steps;
  });
}

export async function planGrowth(ctx: FsContext, options: GrowOptions): Promise<GrowthPlan> {
  const { geo, sys } = ctx;
  const shape = await ctx.engine.read('volume size', (op) => bitmapShape(op, ctx, PR));
  const target = await targetOf(ctx, shape.clusters, options);
  const steps = [...growthSteps(geo, shape, target)];
  const made = summary(ctx, shape.clusters, target, steps);
  if (steps.length === 0) return { ...made, steps, blocks: [] };
  const blocks: BlockChange[] = [
    { blkno: SUPER_BLOCK_BLKNO, count: 1, what: 'superblock' },
    { blkno: sys.globalBitmap, count: 1, what: 'inode of the global bitmap' },
    ...steps.map(({ kind, group, chain, from, to }) => (kind === 'extend'
      ? { blkno: group, count: 1, what: `group descriptor: clusters ${from} to ${to - 1} are added` }
      : { blkno: group, count: geo.bpc, what: `group descriptor of clusters ${from} to ${to - 1}, chain ${chain}, and zeroes behind it` })),
    ...(hasBackups(geo) ? backupBlocks(geo, target).map((blkno) => ({ blkno, count: 1, what: made.backups.includes(blkno) ? 'new backup superblock' : 'backup superblock' })) : []),
  ];
  const { map } = await JournalInode.read(new RawReader(ctx.engine.cache.device, geo), sys.journal[ctx.slot]);
  for (const { blkno, count } of map.runs) blocks.push({ blkno, count, what: `journal of slot ${ctx.slot}` });
  return { ...made, steps, blocks: blocks.sort((a, b) => a.blkno - b.blkno) };
}
