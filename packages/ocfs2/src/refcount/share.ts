/** An extent that two trees come to refer to (Linux 6.1 fs/ocfs2/refcounttree.c:ocfs2_add_refcount_flag, ocfs2_duplicate_extent_list). */
import type { FsContext } from '../context.js';
import { type ExtentRec, type TreeRoot, insert, setFlags } from '../extents/index.js';
import { EXT } from '../format/constants.js';
import type { Op } from '../txn/index.js';
import { type RefTree, addRefs, countOf } from './tree.js';

/**
 * Let tree `to` have what record `rec` of tree `from` holds of clusters [at, end), at positions `shift` further on, where it must have
 * nothing. Goes as far as the clusters have one count; returns where that is. `tree` counts both.
 */
export function shareRecord(op: Op, ctx: FsContext, tree: RefTree, from: TreeRoot, rec: ExtentRec, at: number, end: number, to: TreeRoot, shift: number): number {
  const { bpc } = ctx.geo;
  let stop = Math.min(end, rec.cpos + rec.clusters);
  const blkno = rec.blkno + (at - rec.cpos) * bpc, start = Math.floor(blkno / bpc);
  if (rec.flags & EXT.REFCOUNTED) {
    const counted = countOf(tree, start);
    stop = Math.min(stop, at + (counted.start + counted.clusters - start));
    addRefs(tree, start, stop - at);
  } else {
    setFlags(op, ctx, from, at, stop - at, EXT.REFCOUNTED, 0);
    addRefs(tree, start, stop - at, 2);
  }
  insert(op, ctx, to, { cpos: at + shift, clusters: stop - at, blkno, flags: rec.flags | EXT.REFCOUNTED });
  return stop;
}
