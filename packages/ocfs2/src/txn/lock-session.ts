/**
 * The cluster locks of one running operation. A cached lock is taken at once, in any order: nobody waits. A lock that
 * must be waited for is waited for in rank order only: locks that come after it are given back first and taken again
 * after it, so that no two nodes, each holding what the other waits for, ever wait in a circle.
 */
import { type LockLevel, NL } from '../locking/levels.js';
import { type RankedLock, lockOrder } from './lock-order.js';
import { type MetaLock, Need } from './need.js';

/** What an operation needs of the lock cache (locking/). */
export interface LockTable {
  /** Take a holder if the lock is cached at `level` or above and nobody waits for it; never waits. */
  tryHold(name: string, level: LockLevel): boolean;
  /** Take a holder, asking the Dlm if need be. */
  hold(name: string, level: LockLevel): Promise<void>;
  /** Take a holder if no other node is in the way; false if one is. */
  tryLock(name: string, level: LockLevel): Promise<boolean>;
  /** One more holder of a lock that is held at `level` or above: also while another node waits for it, which tryHold would refuse. */
  share(name: string, level: LockLevel): void;
  /** Give a holder back; the lock stays cached. */
  drop(name: string, level: LockLevel): void;
  /** Give the lock back to the cluster as soon as it has no holder: it is not worth keeping, or others look whether it is held. */
  giveUp(name: string): void;
  /** The same; resolves when it has gone, or as soon as somebody here has it (again). */
  surrender(name: string): Promise<void>;
  /** Keep a lock that is held, whoever asks for it, until it is given up: who else wants it is told no, not to wait. */
  pin(name: string): void;
}

interface Wanted {
  readonly name: string;
  readonly rank: number;
  readonly order: number;
  /** Attempt that last asked for it. */
  attempt: number;
  level: LockLevel;
  held: LockLevel;
  lock: MetaLock;
}

export class LockSession {
  readonly #wanted = new Map<string, Wanted>();
  #attempt = 0;
  #asked = 0;

  /** `around`: locks that whoever runs the operation holds until after it. */
  constructor(readonly table: LockTable, private readonly around: readonly RankedLock[] = []) {}

  /** The operation is run (again) from its start. What it does not ask for this time it does not wait for. */
  begin(): void {
    this.#attempt++;
  }

  require(name: string, level: LockLevel, rank: number): MetaLock {
    const known = this.#wanted.get(name);
    if (known !== undefined) known.attempt = this.#attempt;
    if (known !== undefined && known.held >= level) return known.lock;
    const want = known ?? { name, rank, order: this.#asked++, attempt: this.#attempt, level, held: 0 as LockLevel, lock: { name, level } };
    if (known === undefined) this.#wanted.set(name, want);
    if (level > want.level) want.level = level;
    if (want.held === 0 && this.table.tryHold(name, want.level)) return this.#take(want);
    throw new Need(`lock ${name}`, () => this.#acquire());
  }

  /** The lock if it is to be had without waiting, else undefined: what must not hold anybody up asks so, in any order. */
  tryRequire(name: string, level: LockLevel, rank: number): MetaLock | undefined {
    const known = this.#wanted.get(name);
    if (known !== undefined && known.held >= level) return this.require(name, level, rank);
    if (known !== undefined || !this.table.tryHold(name, level)) return undefined;
    const want = { name, rank, order: this.#asked++, attempt: this.#attempt, level, held: NL as LockLevel, lock: { name, level } };
    this.#wanted.set(name, want);
    return this.#take(want);
  }

  /** Give everything back (end of the operation, or before a wait that may need the locks elsewhere). */
  release(): void {
    for (const want of this.#wanted.values()) this.#drop(want);
  }

  /**
   * Hold everything this attempt has asked for, waiting in order. What only earlier attempts asked for is forgotten: an
   * inode that another operation has claimed since comes in no order that all nodes share, and waiting for it with others
   * held can end in a circle. Each attempt still gets further than the one before, for it begins with all it asked for.
   */
  async #acquire(): Promise<void> {
    for (const want of [...this.#wanted.values()]) {
      if (want.attempt === this.#attempt) continue;
      this.#drop(want);
      this.#wanted.delete(want.name);
    }
    const inOrder = [...this.#wanted.values()].sort((a, b) => a.rank - b.rank || a.order - b.order);
    const first = inOrder.findIndex((w) => w.held < w.level);
    for (const want of inOrder.slice(Math.max(0, first))) this.#drop(want);
    for (const want of inOrder) {
      if (want.held >= want.level) continue;
      lockOrder.watch?.(want, [...this.around, ...inOrder.filter((other) => other.held > 0)]);
      await this.table.hold(want.name, want.level);
      this.#take(want);
    }
  }

  #take(want: Wanted): MetaLock {
    want.held = want.level;
    return (want.lock = { name: want.name, level: want.level });
  }

  #drop(want: Wanted): void {
    if (want.held === 0) return;
    this.table.drop(want.name, want.held);
    want.held = 0;
  }
}
