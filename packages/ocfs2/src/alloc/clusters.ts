/**
 * Clusters for files, directories and trees: claims from the local alloc window or the global bitmap, and their release
 * (ondisk-format.md 4.3, 4.6, 4.7). When space is short, what waits in the truncate log, in the node's own window or
 * for the next commit is brought back before NO_SPACE is said.
 */
import { UsageError } from '@lunfs/device';
import type { FsContext } from '../context.js';
import type { Op } from '../txn/index.js';
import { type BitmapRequest, claimFromBitmap, type ClusterRun } from './bitmap.js';
import { claimFromWindow, fitsWindow, returnWindow, windowFree } from './local-alloc.js';
import { flushTruncateLog, loggedClusters } from './truncate-log.js';
import { allocState } from './window-size.js';

export type { ClusterRun } from './bitmap.js';
export { freeClustersNow, statClusters } from './bitmap.js';
export { closeLocalAlloc } from './local-alloc.js';
export { flushTruncateLog, mayHoldClusters, releaseClusters } from './truncate-log.js';

/**
 * Claim a run of `min` to `want` clusters, at cluster `goal` if that is free. Small requests come from the slot's local
 * alloc window, large ones from the global bitmap; a run never crosses a cluster group, so callers loop for more.
 * Throws NO_SPACE.
 */
export function claimClusters(op: Op, ctx: FsContext, want: number, min: number, goal?: number): ClusterRun {
  const run = (fitsWindow(ctx, want) ? claimFromWindow(op, ctx, want, min, goal) : undefined) ?? claimFromBitmapHard(op, ctx, { want, min, goal });
  if (run === undefined) throw noSpace(op, ctx, min);
  return { start: run.start, len: run.len };
}

/** Claim exactly `want` clusters in one run (at most a cluster group less its descriptor). Throws NO_SPACE. */
export function claimContiguous(op: Op, ctx: FsContext, want: number): ClusterRun {
  return claimClusters(op, ctx, want, want);
}

/**
 * A run from the global bitmap; if there is none, with what can be made free first: the own window's clusters in the
 * same operation, the truncate log's and those that wait for a commit after it (the operation is run again then).
 */
export function claimFromBitmapHard(op: Op, ctx: FsContext, request: BitmapRequest): (ClusterRun & { group: number }) | undefined {
  const run = claimFromBitmap(op, ctx, request);
  if (run !== undefined) return run;
  const state = allocState(ctx);
  // What counts is what has applied: clusters that this very operation puts into the log come too late for it.
  if (state.mayHoldLogged) op.after('truncate log flush for space', () => flushTruncateLog(ctx));
  if (state.pendingClusters > 0) op.after('commit for space', () => ctx.engine.log.commit());
  if (windowFree(op, ctx) === 0 || !returnWindow(op, ctx)) return undefined;
  return claimFromBitmap(op, ctx, request);
}

/**
 * Clusters that the global bitmap counts as used although nobody uses them, and that this node brings back when space is
 * short: the rest of its window, and its truncate log. (Of other nodes' the global bitmap tells nothing.)
 */
export function heldClusters(op: Op, ctx: FsContext): number {
  return loggedClusters(op, ctx) + windowFree(op, ctx);
}

export function noSpace(op: Op, ctx: FsContext, clusters: number): UsageError {
  return new UsageError('NO_SPACE', 'ENOSPC', `${ctx.geo.device}: no ${clusters === 1 ? 'free cluster' : `run of ${clusters} free clusters`} left for ${op.name}; delete files or grow the volume`, { device: ctx.geo.device, clusters });
}
