/**
 * Reading operations followed by device I/O under the same cluster locks: the mapping an operation found stays true until
 * the I/O by it is done, because no other node gets the locks before. (An operation proper cannot await, and gives its
 * locks back when it ends.)
 */
import type { FsContext } from '../context.js';
import { LockSession, Need, Op } from '../txn/index.js';

/** Run a reading operation, then `work` with its result while its locks are still held. `work` must not run operations. */
export async function readHolding<T, R>(ctx: FsContext, name: string, body: (op: Op) => T, work: (found: T) => Promise<R>): Promise<R> {
  const { engine } = ctx;
  const locks = new LockSession(engine.locks);
  const now = engine.clock.now();
  try {
    for (;;) {
      let found: T;
      try {
        found = body(new Op(name, ctx.geo, now, locks, engine.cache, true));
      } catch (error) {
        if (!(error instanceof Need)) throw error;
        if (error.release) locks.release();
        await error.satisfy();
        continue;
      }
      return await work(found);
    }
  } finally {
    locks.release();
  }
}
