/** Free clusters that are to be discarded on the device. */
import type { FsContext } from '../context.js';
import { bits } from '../format/index.js';
import { PR } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import type { ClusterRun } from './bitmap.js';
import { readAllocator } from './chain.js';
import { groupBitmap, readGroup } from './group.js';
import { allocState } from './window-size.js';

/** Groups of the global bitmap. */
export function groupCount(op: Op, ctx: FsContext): number {
  return Math.ceil(readAllocator(op, ctx, ctx.sys.globalBitmap, PR).ref.di.clusters / ctx.geo.clustersPerGroup);
}

/**
 * Runs of at least `least` clusters within [from, to) of group `index` that an allocator could hand out now. From the moment the
 * operation applies until `endDiscard` no operation of this node gets one of them; the bitmap's lock, as long as the caller keeps it,
 * stops the others. Once there are none, nobody is stopped.
 */
export function beginDiscard(op: Op, ctx: FsContext, index: number, { least, from, to }: { readonly least: number; readonly from: number; readonly to: number }): ClusterRun[] {
  const { clustersPerGroup, firstClusterGroup, bpc } = ctx.geo;
  const bitmap = readAllocator(op, ctx, ctx.sys.globalBitmap, PR);
  const first = index * clustersPerGroup;
  const group = readGroup(op, bitmap, index === 0 ? firstClusterGroup : first * bpc);
  const state = allocState(ctx);
  const free = state.allocatable(op, group.blkno, groupBitmap(group));
  const end = Math.min(group.gd.bits, bitmap.ref.di.clusters - first, to - first);
  const runs: ClusterRun[] = [];
  for (let at = bits.next(free, 0, Math.max(0, from - first), end, false); at < end; ) {
    const stop = bits.next(free, 0, at, end, true);
    if (stop - at >= least) runs.push({ start: first + at, len: stop - at });
    at = bits.next(free, 0, stop, end, false);
  }
  if (runs.length > 0) op.onApply(() => state.beginDiscard(runs.map(({ start, len }) => ({ group: group.blkno, bit: start - first, len }))));
  return runs;
}

export function endDiscard(ctx: FsContext): void {
  allocState(ctx).endDiscard();
}
