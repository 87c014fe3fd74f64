/**
 * Locks for tests of the engine. Most test files run twice: with locks that are granted at once, and in the vitest project
 * `hostile` over a Dlm whose other node wants every lock back (docs/design.md, rule 7). What differs for a test then: other
 * nodes seem to have files in use, so an unlinked inode may stay an orphan until a mount without rivals (`settle` in
 * volume/support.ts); and every lock that goes is a checkpoint, so all is slower and the second pass takes fewer geometries.
 */
import { HostileDlm, type LockLevel } from '../../src/locking/index.js';

/** This is the pass over hostile locks. */
export const HOSTILE = process.env.LUNFS_LOCKS === 'hostile';

/** All variants of a test, or on the hostile pass every other one. */
export function variants<T>(all: readonly T[]): readonly T[] {
  return HOSTILE ? all.filter((_, i) => i % 2 === 1) : all;
}

/** A Dlm whose other node wants every lock back, in this turn of the event loop or a later one. */
export function hostileDlm(random: () => number, onTaken?: (name: string, level: LockLevel) => void): HostileDlm {
  return new HostileDlm({ random, defer: (fn) => (random() < 0.8 ? queueMicrotask(fn) : void setImmediate(fn)), onTaken });
}
