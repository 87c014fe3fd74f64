/**
 * The truncate log: clusters that were cut from files and are not yet free in the global bitmap (ondisk-format.md 4.7).
 * Appending needs only the slot's own log; the flush frees them later, many files at once.
 *
 * Why the flush begins with a flush of the whole journal: OCFS2 writes no revoke records. Were the append still in the
 * log when the clusters are free and used again, a replay would bring the append back and free them a second time; were
 * an image of a freed block still there, it would overwrite the new owner's data.
 */
import type { FsContext, InodeRef } from '../context.js';
import { badField, FL, TRUNCATE_RECS, TruncateLog } from '../format/index.js';
import { EX } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import { type ClusterRun, freeClustersNow } from './bitmap.js';
import { allocState } from './window-size.js';

interface Records {
  readonly ref: InodeRef;
  used: number;
  readonly count: number;
  start(i: number): number;
  clusters(i: number): number;
  set(i: number, start: number, clusters: number): void;
}

function view(ref: InodeRef): Records {
  if (!(ref.di.flags & FL.DEALLOC)) throw badField(ref.block, 'dinode', 'i_flags', ref.di.flags, 'is no truncate log');
  const { dv } = ref.block;
  const head = TruncateLog.at(ref.block);
  return {
    ref,
    get used() { return head.used; },
    set used(n) { head.used = n; },
    count: head.count,
    start: (i) => dv.getUint32(TRUNCATE_RECS + 8 * i, true),
    clusters: (i) => dv.getUint32(TRUNCATE_RECS + 8 * i + 4, true),
    set: (i, start, clusters) => {
      dv.setUint32(TRUNCATE_RECS + 8 * i, start, true);
      dv.setUint32(TRUNCATE_RECS + 8 * i + 4, clusters, true);
    },
  };
}

/**
 * Put clusters into the truncate log, in the operation that removes the last reference to them. They become free by a
 * later flush. Makes room first (`op.after`) if the log is full or being flushed.
 */
export function releaseClusters(op: Op, ctx: FsContext, start: number, len: number): void {
  const state = allocState(ctx);
  const { flushing } = state;
  // Between the journal's flush and the last record's free nothing may be appended: it would not be checkpointed.
  if (flushing !== undefined) op.after('truncate log flush', () => flushing);
  const seen = view(ctx.inode(op, ctx.sys.truncateLog[ctx.slot], EX));
  if (start < 1 || len < 1 || start + len > ctx.totalClusters) throw badField(seen.ref.block, 'truncate_log', 'clusters to be freed', `${start}+${len}`, `are outside the volume of ${ctx.totalClusters} clusters`);
  const last = seen.used - 1;
  const joins = last >= 0 && seen.start(last) + seen.clusters(last) === start;
  if (!joins && seen.used === seen.count) op.after('truncate log flush', () => flushTruncateLog(ctx));
  const log = view(ctx.editInode(op, ctx.sys.truncateLog[ctx.slot]));
  if (joins) log.set(last, log.start(last), log.clusters(last) + len);
  else {
    log.set(last + 1, start, len);
    log.used = last + 2;
  }
  op.onApply(() => {
    state.mayHoldLogged = true;
  });
}

/** May the slot's truncate log hold clusters? */
export function mayHoldClusters(ctx: FsContext): boolean {
  return allocState(ctx).mayHoldLogged;
}

/** Leave the slot's truncate log empty; what was in it counts as used in the global bitmap from then on. */
export function dropTruncateLog(op: Op, ctx: FsContext): ClusterRun[] {
  const blkno = ctx.sys.truncateLog[ctx.slot];
  const seen = view(ctx.inode(op, blkno, EX));
  const runs: ClusterRun[] = [];
  for (let i = 0; i < seen.used; i++) if (seen.start(i) !== 0) runs.push({ start: seen.start(i), len: seen.clusters(i) });
  if (seen.used > 0) view(ctx.editInode(op, blkno)).used = 0;
  return runs;
}

/**
 * Put clusters that belong to nobody into the truncate log, as many runs as it has room for now. Returns the others. Also while it is being
 * flushed, for our journal holds no image of theirs: a dead node's log was replayed, and before it could free what we had changed, we had
 * moved our log's tail past that. (The append itself, if it is replayed, is replayed with the later change that takes it back.)
 */
export function adoptClusters(op: Op, ctx: FsContext, runs: readonly ClusterRun[]): readonly ClusterRun[] {
  const blkno = ctx.sys.truncateLog[ctx.slot];
  const { used, count } = view(ctx.inode(op, blkno, EX));
  const room = Math.min(runs.length, count - used);
  if (room === 0) return runs;
  const log = view(ctx.editInode(op, blkno));
  for (const [i, { start, len }] of runs.slice(0, room).entries()) log.set(used + i, start, len);
  log.used = used + room;
  op.onApply(() => {
    const state = allocState(ctx);
    state.mayHoldLogged = true;
    state.adopted++;
  });
  return runs.slice(room);
}

/** Clusters in the slot's truncate log. */
export function loggedClusters(op: Op, ctx: FsContext): number {
  const log = view(ctx.inode(op, ctx.sys.truncateLog[ctx.slot], EX));
  let sum = 0;
  for (let i = 0; i < log.used; i++) if (log.start(i) !== 0) sum += log.clusters(i);
  return sum;
}

/** Free everything in the slot's truncate log. Concurrent calls share one flush. */
export function flushTruncateLog(ctx: FsContext): Promise<void> {
  const state = allocState(ctx);
  return (state.flushing ??= flush(ctx).finally(() => {
    state.flushing = undefined;
  }));
}

async function flush(ctx: FsContext): Promise<void> {
  const { engine, sys, slot } = ctx;
  const state = allocState(ctx);
  const { adopted } = state;
  const used = await engine.read('read truncate log', (op) => view(ctx.inode(op, sys.truncateLog[slot], EX)).used);
  if (used > 0) await engine.log.flush();
  // Last record first, one transaction each: a crash in between leaves exactly the records not yet freed.
  const freeLast = (op: Op): boolean => {
    const log = view(ctx.editInode(op, sys.truncateLog[slot]));
    const i = log.used - 1;
    if (i < 0) return false;
    log.used = i;
    const start = log.start(i);
    if (start !== 0) freeClustersNow(op, ctx, start, log.clusters(i));
    return i > 0;
  };
  while (used > 0 && (await engine.run('flush truncate log', freeLast)));
  // What a dead node left may have come meanwhile.
  state.mayHoldLogged = state.adopted !== adopted;
  state.stopStealing();
}
