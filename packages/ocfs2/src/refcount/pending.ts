/**
 * Clusters that ceased to be shared by operations whose transactions are not durable yet.
 *
 * Why it matters. When inode A gives up its share of a cluster (copy-on-write, truncate, punch), inode B may be left alone
 * with it, clears the flag and writes in place, straight to the device. Were the power to fail before A's transaction is
 * durable, A would have the cluster back, and B's bytes in it. And A's copy-on-write reads the cluster after its operation
 * has applied: its transaction commits only when the copy is on the device (ordered data). So B takes a cluster as its
 * own only when the transaction that left it alone is durable; then the copy has been read as well. Between nodes the
 * same holds by itself: the refcount tree's lock goes only after a commit.
 */
import type { FsContext } from '../context.js';
import type { Op } from '../txn/index.js';

interface Run {
  readonly start: number;
  readonly end: number;
}

class Pending {
  readonly applied = new Set<Run>();
  /** Of operations that have not applied yet. */
  readonly own = new WeakMap<Op, Run[]>();
}

const registry = new WeakMap<FsContext, Pending>();

function pendingOf(ctx: FsContext): Pending {
  let pending = registry.get(ctx);
  if (pending === undefined) registry.set(ctx, (pending = new Pending()));
  return pending;
}

/** `op` leaves clusters [start, start + len) with one user. */
export function leaveAlone(op: Op, ctx: FsContext, start: number, len: number): void {
  const pending = pendingOf(ctx), run = { start, end: start + len };
  const own = pending.own.get(op);
  if (own === undefined) pending.own.set(op, [run]);
  else own.push(run);
  op.onApply(() => void pending.applied.add(run));
  op.onCommit(() => void pending.applied.delete(run));
}

/**
 * May the one user left of clusters [start, start + len) write them in place once `op` has applied? Waits for the commit of
 * whoever left them alone; false if that is `op` itself.
 */
export function isAlone(op: Op, ctx: FsContext, start: number, len: number): boolean {
  const pending = pendingOf(ctx);
  const meets = (run: Run) => run.start < start + len && start < run.end;
  if (pending.own.get(op)?.some(meets)) return false;
  for (const run of pending.applied) if (meets(run)) op.after('commit of what ended the sharing', () => ctx.engine.log.commit());
  return true;
}
