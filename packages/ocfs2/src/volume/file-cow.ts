/**
 * Copy on write: before data of a shared cluster changes, the inode gets a cluster of its own.
 *
 * In one operation the extent record is given new clusters without the flag, and the refcount tree counts one reference
 * less. The copy is ordered data of that operation: the transaction commits only when it is on the device, so a crash
 * shows the old place or the new one with all its bytes. The old place is read after the operation has applied, and cannot
 * change before the copy is done: others who share it copy as well; the last one left writes in place only when our
 * transaction is durable (refcount/pending.ts); clusters freed by a later operation are reused only after a commit.
 *
 * The caller holds the range lock over every cluster that may move, so no reader of this process has looked up the old
 * place and reads it later. Mappings of workers need no recall: they never hold shared extents (file-map.ts:mapRange), and
 * an extent that stops being shared is new to them.
 */
import { claimClusters, releaseClusters } from '../alloc/index.js';
import type { FsContext, InodeRef } from '../context.js';
import { type ExtentRec, dinodeTree, lastBefore, lookup, remap, removeRange, setFlags } from '../extents/index.js';
import { EXT } from '../format/constants.js';
import { EX } from '../locking/levels.js';
import { countOf, dropRefs, isAlone, openRefTree } from '../refcount/index.js';
import type { Op } from '../txn/index.js';
import { copyBytes } from './file-data.js';
import type { Ordered } from './ordered.js';

/** Extents are cut for copying at multiples of this from their start, so that what results is not in tiny pieces (Linux 6.1 fs/ocfs2/refcounttree.c:MAX_CONTIG_BYTES). */
export const COW_BYTES = 1 << 20;

/** Bytes of the file that the same operation writes itself: they are not copied. Looked at when the copy is made, so it may be filled in later. */
export interface Overwritten {
  readonly from: number;
  to: number;
}

/**
 * Clusters [first, end) of a shared extent to copy for a write to [cpos, cpos + len) of it: at most whole mebibytes more
 * on either side (refcounttree.c:ocfs2_refcount_cal_cow_clusters).
 */
export function cowRange(clusterSize: number, rec: ExtentRec, cpos: number, len: number): { first: number; end: number } {
  const unit = Math.max(1, COW_BYTES / clusterSize);
  const recEnd = rec.cpos + rec.clusters;
  const want = Math.max(len, unit);
  if (rec.clusters <= unit) return { first: rec.cpos, end: recEnd };
  if (rec.cpos === cpos) return { first: cpos, end: Math.min(recEnd, cpos + Math.ceil(want / unit) * unit) };
  if (rec.cpos + unit >= cpos + len) return { first: rec.cpos, end: rec.cpos + unit };
  if (recEnd - cpos <= unit) return { first: recEnd - unit, end: recEnd };
  const first = rec.cpos + Math.floor((cpos - rec.cpos) / unit) * unit;
  if (recEnd - cpos <= want) return { first, end: recEnd };
  return { first, end: Math.min(recEnd, first + Math.ceil((cpos + len - first) / unit) * unit) };
}

/**
 * Make clusters [cpos, end) of the file its own, as far as `most` pieces go; what is not shared stays. Returns where it
 * stopped. `ref` must be for change. Throws NO_SPACE.
 */
export function unshare(op: Op, ctx: FsContext, ref: InodeRef, cpos: number, end: number, ordered: Ordered, most = Number.POSITIVE_INFINITY, written: Overwritten = { from: 0, to: 0 }): number {
  const data = dinodeTree(ref, op, ctx);
  let at = cpos;
  for (let pieces = 0; at < end && pieces < most; ) {
    const rec = lookup(op, data, at);
    const stop = Math.min(end, rec.cpos + rec.clusters);
    if (rec.hole || !(rec.flags & EXT.REFCOUNTED)) at = stop;
    else {
      at += unsharePiece(op, ctx, ref, rec, at, stop, ordered, written);
      pieces++;
    }
  }
  return at;
}

/** Returns the clusters done, from `cpos` on: as far as one count and one free run go. */
function unsharePiece(op: Op, ctx: FsContext, ref: InodeRef, rec: ExtentRec, cpos: number, end: number, ordered: Ordered, written: Overwritten): number {
  const { bpc, clusterSize } = ctx.geo;
  const data = dinodeTree(ref, op, ctx), tree = openRefTree(op, ctx, ref, EX);
  const start = Math.floor(rec.blkno / bpc) + (cpos - rec.cpos);
  const counted = countOf(tree, start);
  const len = Math.min(end - cpos, counted.start + counted.clusters - start);
  if (counted.count === 1 && isAlone(op, ctx, start, len)) {
    setFlags(op, ctx, data, cpos, len, 0, EXT.REFCOUNTED);
    dropRefs(tree, start, len, 'keep');
    return len;
  }
  const before = cpos > 0 ? lastBefore(op, data, cpos) : undefined;
  const goal = before === undefined ? undefined : Math.floor(before.blkno / bpc) + before.clusters;
  const run = claimClusters(op, ctx, len, 1, goal);
  remap(op, ctx, data, cpos, run.len, run.start * bpc, rec.flags & ~EXT.REFCOUNTED);
  dropRefs(tree, start, run.len, 'release');
  if (!(rec.flags & EXT.UNWRITTEN)) {
    const piece = { offset: cpos * clusterSize, length: run.len * clusterSize, device: start * clusterSize };
    ordered.add(() => copyBytes(ctx.engine.cache.device, piece, run.start * clusterSize, written));
  }
  return run.len;
}

/**
 * Unmap the last part of `rec` inside clusters [from, to) of the file, as far back as one step can go: a shared one as far as
 * its clusters have one count. Where nobody refers to them any more they are released. Returns where the part began.
 */
export function unmapPiece(op: Op, ctx: FsContext, ref: InodeRef, rec: ExtentRec, from: number, to: number): number {
  const data = dinodeTree(ref, op, ctx);
  const end = Math.min(to, rec.cpos + rec.clusters);
  const first = Math.max(from, rec.cpos);
  if (!(rec.flags & EXT.REFCOUNTED)) {
    removeRange(op, ctx, data, first, end - first, (start, clusters) => releaseClusters(op, ctx, start, clusters));
    return first;
  }
  const tree = openRefTree(op, ctx, ref, EX);
  const last = Math.floor(rec.blkno / ctx.geo.bpc) + (end - rec.cpos) - 1;
  const begin = Math.max(first, end - (last + 1 - countOf(tree, last).start));
  removeRange(op, ctx, data, begin, end - begin, (start, clusters) => dropRefs(tree, start, clusters, 'release'));
  return begin;
}
