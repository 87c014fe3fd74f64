/**
 * The local alloc window: a run of clusters taken from the global bitmap in one piece, from which this node serves small
 * requests without the global bitmap's lock (ondisk-format.md 4.6). All of the window is in use in the global bitmap;
 * the bitmap in the slot's local_alloc dinode says which clusters really are.
 *
 * Invariants: no window means i_total = i_used = la_bm_off = 0 and a bitmap of zeros; i_used = set bits; a window never
 * crosses a group. It is opened on first use and must be closed before the slot is given up.
 */
import type { FsContext, InodeRef } from '../context.js';
import { badField, BitmapId1, bits, FL, LOCAL_ALLOC_BITMAP, LocalAlloc } from '../format/index.js';
import { EX } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import { claimFromBitmap, type ClusterRun, returnClusters } from './bitmap.js';
import { findZeroRun, zeroRunAt } from './group.js';
import type { WindowState } from './state.js';
import { allocState } from './window-size.js';

/** A window that could not be opened at full size is tried again after this time (OCFS2_LA_ENABLE_INTERVAL). */
const RETRY_MS = 30_000;

interface Window {
  readonly ref: InodeRef;
  readonly start: number;
  readonly total: number;
  readonly used: number;
  readonly bitmap: Uint8Array;
}

function view(ctx: FsContext, ref: InodeRef): Window {
  const { block } = ref;
  if (!(ref.di.flags & FL.LOCAL_ALLOC)) throw badField(block, 'dinode', 'i_flags', ref.di.flags, 'is no local alloc');
  const la = LocalAlloc.at(block);
  const { used, total } = BitmapId1.at(block);
  if (total > la.size * 8) throw badField(block, 'dinode', 'i_total', total, `exceeds the local bitmap of ${la.size} bytes`);
  if (used > total) throw badField(block, 'dinode', 'i_used', used, `exceeds i_total ${total}`);
  if (la.bmOff + total > ctx.totalClusters) throw badField(block, 'local_alloc', 'la_bm_off', la.bmOff, `puts the window of ${total} clusters outside the volume`);
  return { ref, start: la.bmOff, total, used, bitmap: block.bytes.subarray(LOCAL_ALLOC_BITMAP, LOCAL_ALLOC_BITMAP + la.size) };
}

const readWindow = (op: Op, ctx: FsContext) => view(ctx, ctx.inode(op, ctx.sys.localAlloc[ctx.slot], EX));
const editWindow = (op: Op, ctx: FsContext) => view(ctx, ctx.editInode(op, ctx.sys.localAlloc[ctx.slot]));

/** The window state an operation begins with: a throttled one recovers with time. */
function currentState(ctx: FsContext): WindowState {
  const { window } = allocState(ctx);
  if (window.mode !== 'enabled' && ctx.engine.clock.monotonic() >= window.retryAt) return { ...window, mode: 'enabled' };
  return window;
}

/** Requests up to half a window come from the window (Linux 6.1 fs/ocfs2/localalloc.c:ocfs2_alloc_should_use_local). */
export function fitsWindow(ctx: FsContext, want: number): boolean {
  const { mode, clusters } = currentState(ctx);
  return mode !== 'disabled' && want <= clusters / 2;
}

/**
 * Take clusters from the window, opening a new one if fewer than `want` are left in it. Undefined: no window can be
 * had, or it has no run of `min`; then the global bitmap must serve.
 */
export function claimFromWindow(op: Op, ctx: FsContext, want: number, min: number, goal?: number): ClusterRun | undefined {
  let window = readWindow(op, ctx);
  if (want > window.total - window.used) {
    if (!slideWindow(op, ctx)) return undefined;
    window = readWindow(op, ctx);
    if (min > window.total - window.used) return undefined;
  }
  const { start, total, bitmap } = window;
  const atGoal = goal !== undefined && goal >= start ? zeroRunAt(bitmap, goal - start, want, total) : 0;
  const run = goal !== undefined && atGoal >= Math.max(1, min) ? { bit: goal - start, len: atGoal } : findZeroRun(bitmap, want, total);
  if (run === undefined || run.len < min) return undefined;
  const own = editWindow(op, ctx);
  for (let i = 0; i < run.len; i++) bits.set(own.bitmap, 0, run.bit + i);
  BitmapId1.at(own.ref.block).used = own.used + run.len;
  return { start: start + run.bit, len: run.len };
}

/** Give the window's unused clusters back and leave no window. False: there was none. */
export function returnWindow(op: Op, ctx: FsContext): boolean {
  const unused = dropWindow(op, ctx);
  for (const { start, len } of unused ?? []) returnClusters(op, ctx, start, len);
  return unused !== undefined;
}

/** Leave no window; its unused clusters, which count as used in the global bitmap from then on. Undefined: there was none. */
export function dropWindow(op: Op, ctx: FsContext): ClusterRun[] | undefined {
  if (readWindow(op, ctx).total === 0) return undefined;
  const { ref, start, total, bitmap } = editWindow(op, ctx);
  const unused: ClusterRun[] = [];
  for (let at = bits.next(bitmap, 0, 0, total, false); at < total; ) {
    const end = bits.next(bitmap, 0, at, total, true);
    unused.push({ start: start + at, len: end - at });
    at = bits.next(bitmap, 0, end, total, false);
  }
  bitmap.fill(0);
  const id1 = BitmapId1.at(ref.block);
  id1.used = 0;
  id1.total = 0;
  LocalAlloc.at(ref.block).bmOff = 0;
  return unused;
}

/** Unused clusters of the window as this operation sees it. */
export function windowFree(op: Op, ctx: FsContext): number {
  const { total, used } = readWindow(op, ctx);
  return total - used;
}

/**
 * Close the window and open a new one, smaller and smaller while the global bitmap has no such run; false when it would
 * fall to a MiB (then the window is out of use for a while). One operation, so one transaction.
 * (Linux 6.1 fs/ocfs2/localalloc.c:ocfs2_local_alloc_slide_window, ocfs2_recalc_la_window.)
 */
function slideWindow(op: Op, ctx: FsContext): boolean {
  const state = allocState(ctx);
  const next = { ...currentState(ctx) };
  if (next.mode === 'disabled') return false;
  if (next.mode === 'enabled') next.clusters = next.defaultClusters;
  returnWindow(op, ctx);
  const least = 2 ** (20 - ctx.geo.clusterBits);
  let run: (ClusterRun & { group: number }) | undefined;
  while ((run = claimFromBitmap(op, ctx, { want: next.clusters, min: next.clusters, hint: next.lastGroup })) === undefined) {
    const half = next.clusters >> 1;
    next.retryAt = ctx.engine.clock.monotonic() + RETRY_MS;
    next.mode = half > least ? 'throttled' : 'disabled';
    if (next.mode === 'disabled') break;
    next.clusters = half;
  }
  if (run !== undefined) {
    next.lastGroup = run.group;
    const { ref } = editWindow(op, ctx);
    LocalAlloc.at(ref.block).bmOff = run.start;
    BitmapId1.at(ref.block).total = run.len;
  }
  op.onApply(() => {
    state.window = next;
  });
  return run !== undefined;
}

/** Give the slot's window back (unmount, before an offline tool ends). */
export async function closeLocalAlloc(ctx: FsContext): Promise<void> {
  await ctx.engine.run('close local alloc', (op) => returnWindow(op, ctx));
}
