/**
 * The lock order, asserted where a run is debugged (docs/design.md 2, "Lock order"): nobody waits for a lock while he holds
 * one that comes after it. Tests of the engine set `watch` to `assertRanks`; in production nothing is watched, for a wait
 * in the wrong order is a bug but most often no deadlock.
 */
import { InternalError } from '@lunfs/device';

/** A lock and its place in the order (locking/levels.ts: RANK). */
export interface RankedLock {
  readonly name: string;
  readonly rank: number;
}

/** Told of every wait for a lock: which, and what whoever waits holds. Throws if it must not be. */
export const lockOrder: { watch?: (wanted: RankedLock, held: readonly RankedLock[]) => void } = {};

/** Throws LOCK_ORDER unless all that is held ranks no higher than what is waited for. */
export function assertRanks(wanted: RankedLock, held: readonly RankedLock[]): void {
  const above = held.find((lock) => lock.rank > wanted.rank);
  if (above !== undefined) throw new InternalError('LOCK_ORDER', `lock ${wanted.name} of rank ${wanted.rank} is waited for while ${above.name} of rank ${above.rank} is held`, { wanted: wanted.name, held: above.name });
}
