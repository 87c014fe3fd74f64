/**
 * Cluster locks kept over several operations, so that no other node sees or changes an inode in between. The operations
 * run with this table: of the locks kept they take one holder more, even while another node waits for them; all others
 * they take as ever. Those must rank after the kept ones, or two nodes could wait in a circle.
 */
import { EX, type LockLevel } from '../locking/levels.js';
import type { LockTable } from '../txn/index.js';

export class KeptLocks implements LockTable {
  readonly #kept = new Set<string>();

  private constructor(private readonly table: LockTable) {}

  /** Take these locks at level EX, in the order given: by rank, then as everybody who takes several of one rank. */
  static async take(table: LockTable, names: readonly string[]): Promise<KeptLocks> {
    const kept = new KeptLocks(table);
    try {
      for (const name of names) {
        await table.hold(name, EX);
        kept.#kept.add(name);
      }
      return kept;
    } catch (error) {
      kept.release();
      throw error;
    }
  }

  /** Of locks that the caller holds at EX until everything that uses this table has ended. */
  static held(table: LockTable, names: readonly string[]): KeptLocks {
    const kept = new KeptLocks(table);
    for (const name of names) kept.#kept.add(name);
    return kept;
  }

  release(): void {
    for (const name of this.#kept) this.table.drop(name, EX);
    this.#kept.clear();
  }

  tryHold(name: string, level: LockLevel): boolean {
    if (!this.#kept.has(name)) return this.table.tryHold(name, level);
    this.table.share(name, level);
    return true;
  }

  async hold(name: string, level: LockLevel): Promise<void> {
    if (!this.tryHold(name, level)) await this.table.hold(name, level);
  }

  async tryLock(name: string, level: LockLevel): Promise<boolean> {
    return this.tryHold(name, level) || this.table.tryLock(name, level);
  }

  share(name: string, level: LockLevel): void {
    this.table.share(name, level);
  }

  drop(name: string, level: LockLevel): void {
    this.table.drop(name, level);
  }

  giveUp(name: string): void {
    this.table.giveUp(name);
  }

  surrender(name: string): Promise<void> {
    return this.table.surrender(name);
  }

  pin(name: string): void {
    this.table.pin(name);
  }
}
