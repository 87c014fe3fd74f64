/**
 * The Dlm port: what the file system asks of a distributed lock manager (docs/design.md 1). o2dlm is one implementation,
 * `LocalDlm` (one node alone) and `MemoryDlm` (several nodes in one process) are others.
 *
 * Semantics, as fs/ocfs2/dlmglue.c of Linux 6.1 uses them (cluster-protocols.md 5, 7):
 *  - A lock on a named resource is asked for once (`lock`) and then converted between NL, PR and EX; `unlock` ends it.
 *    At most one request per lock is under way; `cancel` may be asked while it is.
 *  - Every `lock` and `convert` completes with exactly one `ast`, downconverts too, possibly before the call returns.
 *    After 'again' (a trylock that would have waited) or 'cancelled' a converted lock keeps its old level, a new one does
 *    not exist. A cancel that comes too late has no effect: the AST says 'granted'.
 *  - `bast(level)` says that somebody waits for `level` and this lock is in the way. It may come twice, late (the lock has
 *    been converted down meanwhile) and while a convert of this very lock waits: two PR holders that both want EX each get
 *    one, and one of them must cancel and step down. Basts are advice; nothing is ever taken away.
 *  - Requests wait in order: converts of granted locks before new locks, first come first served within each. A convert
 *    down is granted at once.
 *  - The LVB (64 bytes per resource) travels with grants from NL and with convert or unlock *from EX*: there the caller
 *    passes the new value. All zero means: no valid value. It lasts while any node has a lock on the resource, at NL too.
 */
import { type LockLevel, NL, PR } from './levels.js';

export const LVB_SIZE = 64;

export type AstResult = 'granted' | 'again' | 'cancelled';

/** What the owner of a lock is told. Both may be called at any time, also from within a call of the Dlm. */
export interface DlmEvents {
  /** The request under way is complete. `lvb` comes with every grant; it is the callee's to keep. */
  ast(result: AstResult, lvb: Uint8Array): void;
  /** Somebody waits for `level`, which this lock is not compatible with. */
  bast(level: LockLevel): void;
  /** The node can no longer take part (fenced, domain lost); no further event follows. */
  failed(error: Error): void;
}

export interface DlmRequest {
  /** Complete with 'again' instead of waiting. */
  readonly trylock?: boolean;
  /** New value of the resource's LVB; only with a convert down from EX. */
  readonly lvb?: Uint8Array;
}

/** One lock of this node on one resource. */
export interface DlmLock {
  convert(level: LockLevel, request?: DlmRequest): void;
  /** Take the waiting request back. Completes by the request's own AST. */
  cancel(): void;
  /** Give the lock up; no event follows. Not while a request is under way. `lvb` as in a convert from EX. */
  unlock(lvb?: Uint8Array): void;
}

export interface Dlm {
  /** Every request is granted before the call returns, so asking is never waiting. */
  readonly immediate?: boolean;
  /** Ask for a new lock. `name`: 31 bytes as latin-1 text (levels.ts). */
  lock(name: string, level: LockLevel, events: DlmEvents, request?: DlmRequest): DlmLock;
}

/** May locks of these two levels be granted together? */
export function compatible(a: LockLevel, b: LockLevel): boolean {
  return a === NL || b === NL || (a === PR && b === PR);
}
