/**
 * Locks of one rank have no order of their own: who waits for one inode while it holds another relies on a convention
 * (directory before what is in it, of two directories the ancestor or the smaller number first). This graph remembers who
 * was waited for while what was held, over all nodes of a test; a circle in it is a deadlock that timing alone prevented.
 */
import { type RankedLock, assertRanks, lockOrder } from '../../src/txn/index.js';

export class LockGraph {
  readonly #after = new Map<string, Set<string>>();
  waits = 0;

  /** Watch until the function it returns is called. */
  watch(): () => void {
    const before = lockOrder.watch;
    lockOrder.watch = (wanted, held) => this.#note(wanted, held);
    return () => void (lockOrder.watch = before);
  }

  #note(wanted: RankedLock, held: readonly RankedLock[]): void {
    this.waits++;
    assertRanks(wanted, held);
    for (const { name, rank } of held) {
      if (rank !== wanted.rank || name === wanted.name) continue;
      let after = this.#after.get(name);
      if (after === undefined) this.#after.set(name, (after = new Set()));
      after.add(wanted.name);
    }
  }

  /** Throws if some locks were waited for in a circle. */
  expectNoCircle(): void {
    const done = new Set<string>();
    const visit = (name: string, path: readonly string[]): void => {
      if (path.includes(name)) throw new Error(`locks are waited for in a circle: ${[...path.slice(path.indexOf(name)), name].join(' → ')}`);
      if (done.has(name)) return;
      for (const next of this.#after.get(name) ?? []) visit(next, [...path, name]);
      done.add(name);
    };
    for (const name of this.#after.keys()) visit(name, []);
  }
}
