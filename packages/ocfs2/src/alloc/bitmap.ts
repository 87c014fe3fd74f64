/**
 * The cluster allocator: the global bitmap's chains, and what must hold for clusters (ondisk-format.md 4.1, 4.3).
 * Everything takes the global bitmap's meta lock EX, the last in the order.
 */
import type { FsContext } from '../context.js';
import { badField, BitmapId1, blockToCluster, clusterToGroup, groupFirstCluster } from '../format/index.js';
import { PR } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import { claimBits, editAllocator, freeBits, readAllocator } from './chain.js';
import { type ChainAllocator, findZeroRun, type Group, groupBitmap, zeroRunAt } from './group.js';
import { allocState } from './window-size.js';

/** A run of clusters. */
export interface ClusterRun {
  readonly start: number;
  readonly len: number;
}

export interface BitmapRequest {
  /** Clusters wanted; clamped to what a group can hold. */
  readonly want: number;
  /** Fewer than these are of no use. */
  readonly min: number;
  /** Cluster the run should begin at, if it is free; its group is searched first. */
  readonly goal?: number;
  /** Group to search first when there is no goal; 0: none. */
  readonly hint?: number;
  /** No cluster may end above this block. */
  readonly maxBlock?: number;
}

/**
 * Clusters of a group that may be handed out. The tail group is cut at the bitmap's own i_clusters (a resize may have
 * stopped half-way). The kernel counts group 0 from its descriptor's cluster here, so on a volume of one group the last
 * clusters are never handed out; so do we (Linux 6.1 fs/ocfs2/suballoc.c:ocfs2_cluster_group_search).
 */
function usableBits(ctx: FsContext, bitmap: ChainAllocator, group: Group): number {
  return Math.min(group.gd.bits, Math.max(0, bitmap.ref.di.clusters - blockToCluster(ctx.geo, group.blkno)));
}

/** Take one run of clusters from the global bitmap; undefined when there is none of `min` clusters. */
export function claimFromBitmap(op: Op, ctx: FsContext, request: BitmapRequest): (ClusterRun & { group: number }) | undefined {
  const { geo } = ctx;
  const { min, goal, maxBlock = Number.MAX_SAFE_INTEGER } = request;
  const want = Math.min(request.want, geo.clustersPerGroup - 1);
  if (min > want) return undefined;
  const bitmap = readAllocator(op, ctx, ctx.sys.globalBitmap);
  if (bitmap.total - bitmap.used < min) return undefined;
  const state = allocState(ctx);
  const place = goal !== undefined && goal > 0 && goal < bitmap.ref.di.clusters ? clusterToGroup(geo, goal) : undefined;
  const search = (group: Group) => {
    if (group.gd.freeBits < min) return undefined;
    const usable = usableBits(ctx, bitmap, group);
    const free = state.allocatable(op, group.blkno, groupBitmap(group));
    const next = place?.group === group.blkno ? zeroRunAt(free, place.bit, want, usable) : 0;
    const run = place !== undefined && next >= Math.max(1, min) ? { bit: place.bit, len: next } : findZeroRun(free, want, usable);
    if (run === undefined || run.len < min) return undefined;
    return (groupFirstCluster(geo, group.blkno) + run.bit + run.len) * geo.bpc > maxBlock ? undefined : run;
  };
  const found = claimBits(op, ctx, bitmap, search, place?.group ?? request.hint ?? 0);
  if (found === undefined) {
    const { discardEnd } = state;
    if (discardEnd !== undefined) op.after('discard of free clusters', () => discardEnd);
    return undefined;
  }
  return { start: groupFirstCluster(geo, found.group.blkno) + found.bit, len: found.len, group: found.group.blkno };
}

/**
 * Clear clusters in the global bitmap. `settled`: they were never used, so they may be handed out again at once;
 * otherwise only when this operation's transaction is durable, and what the cache has of their blocks is dropped.
 */
function clearClusters(op: Op, ctx: FsContext, start: number, len: number, settled: boolean): void {
  const { geo } = ctx;
  const bitmap = editAllocator(op, ctx, ctx.sys.globalBitmap);
  const total = bitmap.ref.di.clusters;
  if (start < 1 || len < 1 || start + len > total) throw badField(bitmap.ref.block, 'global_bitmap', 'clusters to be freed', `${start}+${len}`, `are outside the volume of ${total} clusters`);
  const state = allocState(ctx);
  const firstFree = blockToCluster(geo, geo.firstClusterGroup) + 1;
  for (let at = start; at < start + len; ) {
    const { group, bit } = clusterToGroup(geo, at);
    const n = Math.min(start + len - at, geo.clustersPerGroup - bit);
    if (at < firstFree || bit === 0) throw badField(bitmap.ref.block, 'global_bitmap', 'clusters to be freed', at, 'hold a superblock or a group descriptor');
    for (let i = 0; i < n; i++) if (state.isBackup(group, bit + i)) throw badField(bitmap.ref.block, 'global_bitmap', 'clusters to be freed', at + i, 'hold a backup superblock');
    freeBits(op, ctx, bitmap, group, { bit, len: n });
    if (!settled) {
      state.defer(op, { group, bit, len: n });
      const from = at * geo.bpc, to = (at + n) * geo.bpc;
      op.onApply(() => ctx.engine.cache.dropRange(from, to));
    }
    at += n;
  }
  op.onApply(() => {
    const { window } = state;
    if (len >= window.defaultClusters) window.mode = 'enabled';
  });
}

/**
 * Free clusters in the global bitmap at once. Only for clusters whose last reference is gone from disk and journal:
 * the truncate log's flush, recovery. They are handed out again once this operation's transaction is durable.
 * Throws a corruption error for clusters that are free already or hold allocator structures.
 */
export function freeClustersNow(op: Op, ctx: FsContext, start: number, len: number): void {
  clearClusters(op, ctx, start, len, false);
}

/** Give clusters back that were reserved in the global bitmap and never used (local alloc windows). */
export function returnClusters(op: Op, ctx: FsContext, start: number, len: number): void {
  clearClusters(op, ctx, start, len, true);
}

/** Clusters of the volume and how many are free, as the global bitmap counts them (what is in local alloc windows and truncate logs counts as used). */
export function statClusters(op: Op, ctx: FsContext): { total: number; free: number } {
  const { block } = ctx.inode(op, ctx.sys.globalBitmap, PR);
  const { used, total } = BitmapId1.at(block);
  if (used > total) throw badField(block, 'dinode', 'i_used', used, `exceeds i_total ${total}`);
  return { total, free: total - used };
}
