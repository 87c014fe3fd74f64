/**
 * How large the volume is, as every member knows it, and the superblock's copy of that (ondisk-format.md 11.1).
 *
 * The truth is i_clusters of the global bitmap's dinode. A member that keeps an old size does no harm by it: it hands out less. But it
 * meets pointers behind the end it knows, which others have made, and must not take them for corruption. Two rules see to that:
 *
 *  S. The superblock says at least what the bitmap says: who grows the volume writes the superblock, durably, before the transaction
 *     that grows the bitmap can commit (grow.ts; Linux 6.1 fs/ocfs2/resize.c:ocfs2_update_super_and_backups does it within the
 *     transaction, so before its commit, too).
 *  L. Who finds corruption looks at superblock and bitmap again, on the device and without any lock, before he says so
 *     (txn/engine.ts:relearn). By S that suffices: a pointer behind the old end is in a block that is in place or in a log only
 *     after its cluster was allocated under the bitmap's EX lock, so after the bitmap's growth was seen there, so after the
 *     superblock was written. It holds for blocks read under locks as well as for images in a dead node's log.
 *
 * That a kernel node may fail to write the superblock, and go on, is what the look at the bitmap is for: before its maker gave up the lock
 * under which we met a pointer, its log was in place up to the transaction with the pointer, and the growth is in that one or before it.
 *
 * A crash in between leaves a superblock that says more than the bitmap. Nothing is lost by that, but fsck.ocfs2 tells of it: whoever mounts
 * next, recovers the dead node or grows the volume makes them agree (`mendSize`).
 *
 * Who changes either of the two holds the lock by which ocfs2-tools keep growers apart, on any node (tunefs.ocfs2/op_resize_volume.c), and
 * the bitmap's EX lock inside it.
 */
import { CorruptionError, IoError, UsageError } from '@lunfs/device';
import type { FsContext } from '../context.js';
import { SUPER_BLOCK_BLKNO } from '../format/constants.js';
import { parseSuperBlock } from '../format/geometry.js';
import { BitmapId1, Dinode } from '../format/structs.js';
import { RawReader } from '../inspect/raw-reader.js';
import { EX, type LockLevel, PR, RANK } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import { KeptLocks } from './kept-locks.js';
import { updateSuperBlock } from './superblock.js';

/** Resource of the domain that whoever grows the volume holds. */
const RESIZE_LOCK = 'tunefs-online-resize-lock';

/** Mounts that hold it: locks of one node do not keep its own operations apart. */
const resizing = new WeakSet<FsContext>();
/** Those that make superblock and bitmap agree: nobody waits long for it, and it begins by itself. */
const mending = new WeakMap<FsContext, Promise<unknown>>();

/** What superblock and bitmap say on the device; undefined: that one cannot be read as what it should be. */
async function sizesOnDevice({ geo, sys, engine }: FsContext): Promise<{ superblock?: number; bitmap?: number }> {
  const reader = new RawReader(engine.cache.device, geo);
  const unlessCorrupt = async (read: () => Promise<number>): Promise<number | undefined> => {
    try {
      return await read();
    } catch (error) {
      if (error instanceof CorruptionError) return undefined;
      throw error;
    }
  };
  return {
    superblock: await unlessCorrupt(async () => parseSuperBlock(await reader.readRaw(SUPER_BLOCK_BLKNO)).totalClusters),
    bitmap: await unlessCorrupt(async () => Dinode.at(await reader.inode(sys.globalBitmap)).clusters),
  };
}

/** Rule L. Throws DEVICE_BEHIND where the volume has grown and this host does not see its device's new end. */
export async function relearnSize(ctx: FsContext): Promise<void> {
  const { superblock = 0, bitmap = 0 } = await sizesOnDevice(ctx);
  ctx.learnSize(Math.max(superblock, bitmap));
  ctx.learnSize(superblock);
  const { device, clusterSize, totalClusters } = ctx.geo;
  if (superblock <= totalClusters) return;
  const bytes = superblock * clusterSize, seen = ctx.engine.cache.device.size;
  throw new IoError('DEVICE_BEHIND', `${device}: the volume has grown to ${bytes} bytes, but this host sees a device of ${seen}: rescan the LUN here, all its paths and the multipath map`, { device, bytes, seen });
}

/**
 * Run `work` as the one that grows the volume, anywhere in the cluster; undefined if somebody else does. `work` must leave superblock and
 * bitmap agreeing, or a rerun to be asked for.
 */
export async function asGrower<T>(ctx: FsContext, work: () => Promise<T>): Promise<{ result: T } | undefined> {
  const { locks } = ctx.engine;
  if (resizing.has(ctx)) return undefined;
  resizing.add(ctx);
  try {
    if (!(await locks.tryLock(RESIZE_LOCK, EX))) return undefined;
    try {
      return { result: await work() };
    } finally {
      locks.drop(RESIZE_LOCK, EX);
    }
  } finally {
    await locks.surrender(RESIZE_LOCK);
    resizing.delete(ctx);
  }
}

/** Runs an operation that has the bitmap's EX lock already. */
export type RunHeld = <R>(name: string, body: (op: Op) => R) => Promise<R>;

/** Run `work` with the bitmap's EX lock held over all of it. It must take no other lock. */
export async function holdingBitmap<T>(ctx: FsContext, work: (run: RunHeld) => Promise<T>): Promise<T> {
  const { engine } = ctx;
  const name = ctx.metaLockName(ctx.sys.globalBitmap);
  const kept = await KeptLocks.take(engine.locks, [name]);
  try {
    return await work((what, body) => engine.run(what, body, kept, [{ name, rank: RANK.globalBitmap }]));
  } finally {
    kept.release();
  }
}

/** Write the volume's size into the superblock and its backups, durably: before the bitmap grows (rule S), or after it has. */
export async function writeSuperSize(ctx: FsContext, clusters: number): Promise<void> {
  await updateSuperBlock(ctx.engine.cache.device, ctx.geo, (_, di) => {
    di.clusters = clusters;
  });
}

/** Clusters by the bitmap, if it agrees with itself: a damaged count must not be carried into the superblock. */
function bitmapSize(op: Op, ctx: FsContext, level: LockLevel): number | undefined {
  const { block, di } = ctx.inode(op, ctx.sys.globalBitmap, level);
  return BitmapId1.at(block).total === di.clusters && di.clusters <= ctx.totalClusters ? di.clusters : undefined;
}

/** Make the superblock say what the bitmap says; the caller is the grower. */
export async function settleSuperSize(ctx: FsContext): Promise<void> {
  await holdingBitmap(ctx, async (run) => {
    const clusters = await run('volume size', (op) => bitmapSize(op, ctx, EX));
    const { superblock } = await sizesOnDevice(ctx);
    if (clusters !== undefined && superblock !== undefined && superblock !== clusters) await writeSuperSize(ctx, clusters);
  });
}

/** After a crash, or a grower's failed write: see the head. Nothing is done while somebody grows the volume: he does it in the end. */
export async function mendSize(ctx: FsContext): Promise<void> {
  const clusters = await ctx.engine.read('volume size', (op) => bitmapSize(op, ctx, PR));
  const { superblock } = await sizesOnDevice(ctx);
  if (clusters === undefined || superblock === undefined || superblock === clusters) return;
  const mend = asGrower(ctx, () => settleSuperSize(ctx));
  mending.set(ctx, mend.catch(() => undefined));
  try {
    await mend;
  } finally {
    mending.delete(ctx);
  }
}

/** True once what `mendSize` was doing is done; false if it was doing nothing. */
export async function mended(ctx: FsContext): Promise<boolean> {
  const mend = mending.get(ctx);
  await mend;
  return mend !== undefined;
}

/** Somebody else grows the volume. */
export function growing(device: string): UsageError {
  return new UsageError('GROWING', 'EBUSY', `${device} is being grown already, here or by another node; wait until that is done`, { device });
}
