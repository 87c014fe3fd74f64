/**
 * Sharing clusters between files of one volume: the extents of a whole file for a reflink, or those of a range for
 * copy_file_range (Linux 6.1 fs/ocfs2/refcounttree.c:ocfs2_attach_refcount_tree, ocfs2_duplicate_extent_list,
 * ocfs2_reflink_remap_range).
 *
 * What makes the copy a point in time: the source's range is locked exclusive and its mappings are recalled, so nothing of
 * this process is on its way into it; its cluster locks are kept over all operations (kept-locks.ts), so no other node comes
 * in between. After that the extents are shared, and whoever writes to either file copies (file-cow.ts). Data that was
 * written in place before is on the device before the transaction: a commit flushes it first.
 *
 * Clusters are never shared within one file: fsck.ocfs2 1.8.7 ends with a failed assertion when it meets that (Linux can
 * make it, and we read and change it).
 */
import { UsageError } from '@lunfs/device';
import type { FsContext, InodeRef } from '../context.js';
import { type ExtentRec, dinodeTree, lookup, walk } from '../extents/index.js';
import { EXT } from '../format/constants.js';
import { EX, lockName } from '../locking/levels.js';
import { type RefTree, commonRefTree, hasRefTree, shareRecord } from '../refcount/index.js';
import type { LockTable, Op } from '../txn/index.js';
import { isInline, lockFile } from './file-map.js';
import { type FileState, touch, withFile } from './file-state.js';
import { removeClusters, zeroPieces } from './file-truncate.js';
import { checkFileRange, writtenPieces } from './file-write.js';
import { KeptLocks } from './kept-locks.js';
import { Ordered } from './ordered.js';

/** Extents one operation shares: each may change a leaf of three trees. */
const MOST_PIECES = 40;

/** Throws NO_REFLINK on volumes whose files cannot share clusters. */
export function needReflink(ctx: FsContext): void {
  if (ctx.geo.refcount) return;
  throw new UsageError('NO_REFLINK', 'EOPNOTSUPP', `${ctx.geo.device}: files cannot share clusters here, the volume lacks the feature refcount; copy the data, or enable it on the unmounted volume with "tunefs.ocfs2 --fs-features=refcount ${ctx.geo.device}"`, { device: ctx.geo.device });
}

/**
 * Let `target` have the extents of `source` in clusters [from, end), at positions `shift` further on, where it has none yet;
 * both must be for change. Returns where the next operation goes on.
 */
export function shareExtents(op: Op, ctx: FsContext, source: InodeRef, target: InodeRef, from: number, end: number, shift: number): number {
  const data = dinodeTree(source, op, ctx);
  let at = from, tree: RefTree | undefined;
  for (let pieces = 0; at < end && pieces < MOST_PIECES; ) {
    const rec = lookup(op, data, at);
    const stop = Math.min(end, rec.cpos + rec.clusters);
    if (rec.hole) {
      at = stop;
      continue;
    }
    tree ??= commonRefTree(op, ctx, source, target);
    at = shareRecord(op, ctx, tree, data, rec, at, stop, dinodeTree(target, op, ctx), shift);
    pieces++;
  }
  return at;
}

/** Locks of inodes for data I/O: by rank, those of one rank by inode number, as Linux does (ocfs2_reflink_inodes_lock). */
export async function keepData(ctx: FsContext, inodes: readonly number[]): Promise<KeptLocks> {
  const sorted = [...inodes].sort((a, b) => a - b);
  const generations = await ctx.engine.read('generations', (op) => sorted.map((ino) => lockFile(op, ctx, ino, EX).di.generation));
  return KeptLocks.take(ctx.engine.locks, [...sorted.map((ino, i) => lockName('W', ino, generations[i])), ...sorted.map((ino) => lockName('M', ino, 0))]);
}

/** Bytes of a range to be shared. */
export interface ShareRange {
  readonly source: number;
  readonly from: number;
  readonly target: number;
  readonly to: number;
  readonly length: number;
}

/**
 * Let a range of one file show what a range of another does, by sharing clusters. Both must begin at whole clusters, and
 * end at one unless the source ends there and the target does not go on. Returns false, and has done nothing, if they
 * cannot be shared: the same file, clusters that the target has elsewhere, inline data, different refcount trees, bounds that do not fit. Then the data is
 * to be copied. A crash or NO_SPACE in between leaves a part done, the rest of the target's range a hole.
 * (The range is emptied as a whole and not piece by piece: a piece that comes may be what the target has further on in the range.)
 */
export async function shareRange(ctx: FsContext, range: ShareRange): Promise<boolean> {
  const { source, target, from, to, length } = range;
  const { clusterSize } = ctx.geo;
  checkFileRange(ctx, source, from, length);
  checkFileRange(ctx, target, to, length);
  if (!ctx.geo.refcount || source === target || length === 0 || from % clusterSize !== 0 || to % clusterSize !== 0) return false;
  if (!ctx.geo.sparse) return false;
  return withFile(ctx, source, (sourceState) => withFile(ctx, target, async (targetState) => {
    const releases: (() => void)[] = [];
    // Two files' ranges at once: always in the order of their numbers.
    const lockRange = async (ino: number) => {
      const [state, at, end] = ino === source ? [sourceState, from, from + length] : [targetState, 0, Number.POSITIVE_INFINITY];
      releases.push(await state.ranges.lock(at, Math.ceil(end / clusterSize) * clusterSize, true));
    };
    try {
      for (const ino of [source, target].sort((a, b) => a - b)) await lockRange(ino);
      await sourceState.recall();
      await targetState.recall();
      const kept = await keepData(ctx, [source, target]);
      try {
        return await shareLocked(ctx, range, targetState, kept);
      } finally {
        kept.release();
      }
    } finally {
      for (const release of releases) release();
    }
  }));
}

/** Would the target come to refer to a cluster twice? */
function meetTwice(op: Op, ctx: FsContext, source: InodeRef, target: InodeRef, first: number, end: number, shift: number): boolean {
  const { bpc } = ctx.geo;
  const runs: { start: number; end: number }[] = [];
  const collect = (rec: ExtentRec, from: number, to: number) => {
    const start = rec.blkno / bpc + Math.max(0, from - rec.cpos), stop = rec.blkno / bpc + Math.min(rec.clusters, to - rec.cpos);
    if (rec.flags & EXT.REFCOUNTED && start < stop) runs.push({ start, end: stop });
  };
  for (const rec of walk(op, dinodeTree(source, op, ctx), first)) {
    if (rec.cpos >= end) break;
    collect(rec, first, end);
  }
  if (runs.length === 0 || !hasRefTree(target)) return false;
  for (const rec of walk(op, dinodeTree(target, op, ctx))) {
    collect(rec, 0, first + shift);
    collect(rec, end + shift, Number.POSITIVE_INFINITY);
  }
  runs.sort((a, b) => a.start - b.start);
  return runs.some((run, i) => i > 0 && runs[i - 1].end > run.start);
}

async function shareLocked(ctx: FsContext, { source, target, from, to, length }: ShareRange, state: FileState, locks: LockTable): Promise<boolean> {
  const { clusterSize } = ctx.geo;
  const first = from / clusterSize, end = Math.ceil((from + length) / clusterSize), shift = to / clusterSize - first;
  const ordered = new Ordered();
  const zero = await ctx.engine.run('begin sharing', (op) => {
    const a = lockFile(op, ctx, source, EX), b = lockFile(op, ctx, target, EX);
    if (isInline(a) || isInline(b) || from + length > a.di.size) return undefined;
    if (hasRefTree(a) && hasRefTree(b) && a.di.refcountLoc !== b.di.refcountLoc) return undefined;
    if ((from + length) % clusterSize !== 0 && (from + length < a.di.size || to + length < b.di.size)) return undefined;
    if (meetTwice(op, ctx, a, b, first, end, shift)) return undefined;
    ordered.attach(op, state);
    touch(op, b.di, state);
    return to > b.di.size ? writtenPieces(op, ctx, b, b.di.size, to, ordered) : [];
  }, locks);
  if (zero === undefined) return false;
  await ordered.finish(() => zeroPieces(ctx, zero));
  await removeClusters(ctx, target, 'make room for sharing', first + shift, end + shift, locks);
  for (let at = first; at < end; ) {
    at = await ctx.engine.run('share', (op) => {
      const b = lockFile(op, ctx, target, EX);
      const next = shareExtents(op, ctx, lockFile(op, ctx, source, EX), b, at, end, shift);
      const reached = next === end ? to + length : (next + shift) * clusterSize;
      if (reached > b.di.size) b.di.size = reached;
      return next;
    }, locks);
  }
  return true;
}
