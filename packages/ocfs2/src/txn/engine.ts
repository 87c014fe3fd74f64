/** Runs operations: attempts, needs, admission to the running transaction, publication (see op.ts). */
import { CorruptionError, InternalError } from '@lunfs/device';
import type { Geometry } from '../format/geometry.js';
import type { BlockCache, CacheEntry } from './block-cache.js';
import type { RankedLock } from './lock-order.js';
import { LockSession, type LockTable } from './lock-session.js';
import { Need } from './need.js';
import { Op, type Timestamp } from './op.js';
import { Within } from './within.js';

/** Where finished operations go: the journal of a mount, or the write-back log of mkfs and tests. */
export interface Log {
  /** Blocks one transaction, so one operation, can hold. */
  readonly maxBlocks: number;
  /** Can the running transaction take these blocks now? If not, `makeRoom` and try again. */
  admit(blocks: ReadonlyMap<number, CacheEntry>): boolean;
  makeRoom(blocks: number): Promise<void>;
  /** Make a finished operation part of the running transaction. Throws if the log is aborted (nothing is published then). */
  add(op: Op): void;
  /** Everything added so far is committed: replayed after a crash. */
  commit(options?: CommitOptions): Promise<void>;
  /** Everything added so far is in place and no longer in the log on disk. */
  flush(): Promise<void>;
  /** The same for the blocks under one lock, before it is given up (docs/design.md 2, "Giving up a lock"). */
  flushOwner(owner: string): Promise<void>;
}

export interface CommitOptions {
  /** Survive a crash of the machine (default), or only the death of this process: one device flush less. */
  readonly durable?: boolean;
  /** Also make durable what was written to the device directly (file data) and had resolved before the call: fsync, FLUSH. */
  readonly barrier?: boolean;
}

export interface Clock {
  /** Wall-clock time for inode times. */
  now(): Timestamp;
  /** Monotonic milliseconds, for intervals and deadlines. */
  monotonic(): number;
}

/** Attempts after which an operation that never settles is a bug (each attempt brings at least one block or lock). */
const MAX_ATTEMPTS = 1_000_000;
/** Attempts after which what an operation has read stays in the cache until it is done: together it may be more than the cache keeps. */
const PATIENCE = 100;

function same<T>(result: T): T {
  return result;
}

export class Engine {
  #refusal: Error | undefined;
  /** Sees what an operation is about to change and adds to it, in the same transaction: quota. May throw, as the operation may. */
  charge: ((op: Op) => void) | undefined;
  /** Looks whether the volume has grown (volume/size.ts); undefined: it cannot, as nobody else has it. */
  relearn: (() => Promise<void>) | undefined;

  constructor(
    readonly geo: Geometry,
    readonly cache: BlockCache,
    readonly locks: LockTable,
    readonly log: Log,
    readonly clock: Clock,
    /** Called with every error an operation ends with, before the caller sees it (policy: read-only on corruption). */
    private readonly failed: (error: unknown) => void = () => undefined,
  ) {}

  /** From now on operations that may change the volume fail with this error (the volume went read-only). */
  refuseChanges(reason: Error): void {
    this.#refusal = reason;
  }

  /** Why changes are refused; undefined while they are not. */
  get refusal(): Error | undefined {
    return this.#refusal;
  }

  /**
   * Run an operation that may change the volume; resolves once it has applied (in memory: see `log.commit` for durability).
   * `locks`: where its locks come from, for operations of a lock's downgrade (LockManagerOptions.onDowngrade).
   * `around`: locks the caller holds beside, all of which rank before those of the operation.
   */
  run<T>(name: string, body: (op: Op) => T, locks: LockTable = this.#present(), around: readonly RankedLock[] = []): Promise<T> {
    return this.#run(name, body, false, locks, same, around);
  }

  /** Run an operation that only reads. */
  read<T>(name: string, body: (op: Op) => T): Promise<T> {
    return this.#run(name, body, true, this.#present(), same);
  }

  /**
   * Run an operation that only reads, then `work` with what it found while its locks are still held: device I/O by a
   * mapping that no other node can change before it is done. `work` must not run operations but those that are `Within` its locks.
   */
  readHolding<T, R>(name: string, body: (op: Op) => T, work: (found: T) => Promise<R>, locks: LockTable = this.#present()): Promise<R> {
    return this.#run(name, body, true, locks, work);
  }

  /** Run a reading operation at once, if all it needs is cached; undefined if not. Errors of the operation are thrown. */
  readNow<T>(name: string, body: (op: Op) => T): T | undefined {
    const locks = new LockSession(this.#present());
    try {
      const op = new Op(name, this.geo, this.clock.now(), locks, this.cache, true);
      const result = body(op);
      for (const fn of op.hooks.applied) fn();
      return result;
    } catch (error) {
      // What looks corrupt may be new: the operation that waits finds out.
      if (error instanceof Need || (error instanceof CorruptionError && this.relearn !== undefined)) return undefined;
      this.failed(error);
      throw error;
    } finally {
      locks.release();
    }
  }

  /** Where operations take their locks from, unless they are told. */
  #present(): LockTable {
    return Within.current?.locks ?? this.locks;
  }

  async #run<T, R>(name: string, body: (op: Op) => T, readOnly: boolean, table: LockTable, work: (result: T) => R | Promise<R>, around?: readonly RankedLock[]): Promise<R> {
    const locks = new LockSession(table, around);
    try {
      const result = await this.#settle(name, body, readOnly, locks);
      return await work(result);
    } finally {
      locks.release();
    }
  }

  /** Attempts until one gets through and is applied. Its locks stay held. */
  async #settle<T>(name: string, body: (op: Op) => T, readOnly: boolean, locks: LockSession): Promise<T> {
    const now = this.clock.now();
    let release: (() => void) | undefined;
    try {
      for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
        if (attempt === PATIENCE) release = this.cache.hold();
        locks.begin();
        const op = new Op(name, this.geo, now, locks, this.cache, readOnly);
        let result: T;
        if (this.#refusal !== undefined && !readOnly) throw this.#refusal;
        const known = this.geo.totalClusters;
        try {
          result = body(op);
          if (this.charge !== undefined && op.overlay.size > 0) this.charge(op);
        } catch (error) {
          try {
            if (!(error instanceof Need)) throw error;
            if (error.release) locks.release();
            await error.satisfy();
          } catch (failure) {
            await this.#unlessGrown(failure, known, locks);
          }
          continue;
        }
        if (!this.#apply(op)) {
          locks.release();
          await this.log.makeRoom(op.overlay.size);
          continue;
        }
        return result;
      }
      throw new InternalError('OP_LIVELOCK', `operation ${name} did not settle`);
    } catch (error) {
      this.failed(error);
      throw error;
    } finally {
      release?.();
    }
  }

  /** Throws the error, unless it is corruption as long as the volume has `known` clusters, and it has more by now. */
  async #unlessGrown(error: unknown, known: number, locks: LockSession): Promise<void> {
    if (!(error instanceof CorruptionError) || this.relearn === undefined) throw error;
    locks.release();
    await this.relearn();
    if (this.geo.totalClusters === known) throw error;
  }

  /** Publish a finished attempt. False: the running transaction has no room. */
  #apply(op: Op): boolean {
    const { applied, committed, ordered } = op.hooks;
    if (op.overlay.size > 0 || committed.length > 0 || ordered.length > 0) {
      if (!this.log.admit(op.overlay)) return false;
      this.log.add(op);
      for (const entry of op.overlay.values()) {
        entry.dirty = true;
        this.cache.put(entry);
      }
    }
    for (const fn of applied) fn();
    return true;
  }
}
