/** What an operation asks for by throwing (see op.ts), and the token of a lock it holds. */
import type { LockLevel } from '../locking/levels.js';

/** Thrown by an operation that cannot go on yet. Not an Error: no stack is taken, and only the runner catches it. */
export class Need {
  constructor(
    readonly what: string,
    /** Satisfies the need. Locks held so far stay held unless `release`. */
    readonly satisfy: () => Promise<void>,
    /** Give all locks back before waiting (the wait may need them elsewhere). */
    readonly release = false,
  ) {}
}

/** A metadata lock an operation holds; the key to the blocks it protects. */
export interface MetaLock {
  readonly name: string;
  readonly level: LockLevel;
}
