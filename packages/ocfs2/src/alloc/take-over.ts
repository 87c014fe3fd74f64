/**
 * Taking over what a dead node still owes the global bitmap: the rest of its window and the records of its truncate log, in
 * two phases as the kernel does (cluster-protocols.md 9; Linux 6.1 fs/ocfs2/localalloc.c:ocfs2_begin_local_alloc_recovery).
 *
 * Phase one runs while nobody may use the volume, so it must not wait for the global bitmap: whoever holds that waits for
 * us. It empties the dead node's files, which frees its slot for the next node. Linux then has the clusters in memory only,
 * and loses them if it dies before phase two. Here the same transaction enters them in our own truncate log, as far as that
 * has room: phase two is its next flush, and if we die, whoever recovers us goes on. Only the rest is kept in memory.
 */
import { FsContext } from '../context.js';
import type { Op } from '../txn/index.js';
import { type ClusterRun, freeClustersNow } from './bitmap.js';
import { dropWindow } from './local-alloc.js';
import { adoptClusters, dropTruncateLog } from './truncate-log.js';

/** Runs freed in one operation: each may lie in a group of its own. */
const RUNS_PER_OP = 64;

/**
 * Phase one, when the journal of `slot` has been replayed and its lock is held. Returns what phase two has to free. The
 * caller flushes the log before it gives the slot away: no cluster lock protects the files.
 */
export async function takeOverClusters(ctx: FsContext, slot: number): Promise<readonly ClusterRun[]> {
  const dead = new FsContext(ctx.geo, ctx.sys, slot, ctx.engine, ctx.random);
  return ctx.engine.run('take over slot', (op: Op) => adoptClusters(op, ctx, [...(dropWindow(op, dead) ?? []), ...dropTruncateLog(op, dead)]));
}

/** Phase two: free them in the global bitmap. */
export async function freeTakenOver(ctx: FsContext, runs: readonly ClusterRun[]): Promise<void> {
  for (let i = 0; i < runs.length; i += RUNS_PER_OP) {
    await ctx.engine.run('free clusters of a dead node', (op) => {
      for (const { start, len } of runs.slice(i, i + RUNS_PER_OP)) freeClustersNow(op, ctx, start, len);
    });
  }
}
