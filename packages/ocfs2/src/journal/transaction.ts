/** One transaction of the journal: the newest version of each block its operations changed, and what waits for it. */
import type { CacheEntry } from '../txn/block-cache.js';
import type { Op } from '../txn/op.js';

export class Transaction {
  /** The versions to log. A version is immutable, so a committing transaction holds frozen bytes while the next one changes the same blocks. */
  readonly blocks = new Map<number, CacheEntry>();
  /** Data writes that must have resolved before the commit block goes out. They never reject; see `orderedError`. */
  readonly #ordered: Promise<void>[] = [];
  #orderedError: unknown;
  #committed: (() => void)[] = [];
  /** Log block of its first descriptor, log blocks it takes and its number on disk; set when its commit begins. */
  start = 0;
  logBlocks = 0;
  sequence = 0;
  /** Its commit block is written. */
  logged = false;
  /** Moment in the order of flushes when the commit block had been written. */
  mark = 0;

  /** `tid`: number in memory, growing by one per transaction, never wrapping; gaps on disk are impossible (see `sequence`). */
  constructor(readonly tid: number) {}

  /** Nothing waits for this transaction. */
  get empty(): boolean {
    return this.blocks.size === 0 && this.#ordered.length === 0 && this.#committed.length === 0;
  }

  add(op: Op): void {
    const { committed, ordered } = op.hooks;
    for (const [blkno, entry] of op.overlay) this.blocks.set(blkno, entry);
    this.#committed.push(...committed);
    for (const write of ordered) {
      // Observed here and now: a write that fails before the commit looks at it is no unhandled rejection.
      this.#ordered.push(write.catch((error: unknown) => {
        this.#orderedError ??= error;
      }));
    }
  }

  /** Wait for the data writes; throws if one failed. */
  async orderedData(): Promise<void> {
    await Promise.all(this.#ordered);
    if (this.#orderedError !== undefined) throw this.#orderedError as Error;
  }

  /** Blocks this transaction would have with these added. */
  sizeWith(blocks: ReadonlyMap<number, CacheEntry>): number {
    let n = this.blocks.size;
    for (const blkno of blocks.keys()) if (!this.blocks.has(blkno)) n++;
    return n;
  }

  /** The transaction is durable: run what waited for that. */
  durable(): void {
    const committed = this.#committed;
    this.#committed = [];
    for (const fn of committed) fn();
  }
}
