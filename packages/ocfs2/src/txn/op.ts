/**
 * Operations: every change of the volume is one synchronous function over an `Op` (docs/design.md, rule 6).
 *
 * How prepare and apply are one text. The function runs against the block cache. Whatever it needs and is not there (a
 * block that is not cached, a lock that must be asked for, space that must be freed first) it asks by throwing a `Need`;
 * the runner drops all the attempt's changes (they live in the operation's own overlay), satisfies the need
 * asynchronously and runs the function again from its start. The attempt that gets through without a need is the apply:
 * it has not awaited, and its overlay is published to cache and running transaction in the same synchronous step. So an
 * error anywhere (ENOSPC in the middle of a rename, a corrupt block) leaves no trace, no commit cuts an operation in
 * half, and operations of one process are serial by construction.
 *
 * What an operation function must keep: no await, no side effect outside the overlay except through `onApply`, and a
 * `Need` is never swallowed by a catch.
 */
import { InternalError } from '@lunfs/device';
import { Block } from '../format/block.js';
import type { BlockKind } from '../format/kinds.js';
import type { Geometry } from '../format/geometry.js';
import { EX, type LockLevel, PR } from '../locking/levels.js';
import { type BlockCache, type BlockWish, CacheEntry } from './block-cache.js';
import type { LockSession } from './lock-session.js';
import { type MetaLock, Need } from './need.js';

/** Wall-clock time of an operation: whole seconds and nanoseconds. */
export interface Timestamp {
  readonly sec: number;
  readonly nsec: number;
}

export class Op {
  /** Blocks this operation changed, not yet visible to anyone else. */
  readonly overlay = new Map<number, CacheEntry>();
  readonly #applied: (() => void)[] = [];
  readonly #committed: (() => void)[] = [];
  readonly #ordered: Promise<void>[] = [];

  constructor(
    readonly name: string,
    readonly geo: Geometry,
    /** One time for the whole operation, the same in every attempt. */
    readonly now: Timestamp,
    readonly locks: LockSession,
    readonly cache: BlockCache,
    readonly readOnly: boolean,
  ) {}

  /** Hold a cluster lock at `level` or above until the operation ends. `rank`: RANK of its kind. */
  lock(name: string, level: LockLevel, rank: number): MetaLock {
    return this.locks.require(name, level, rank);
  }

  /** Like `lock`, but never waits: undefined where that would take longer than a look at what is cached. */
  tryLock(name: string, level: LockLevel, rank: number): MetaLock | undefined {
    return this.locks.tryRequire(name, level, rank);
  }

  /** The block's present bytes in this operation. They must not be changed: use `write`. */
  read(owner: MetaLock, blkno: number, kind: BlockKind): Block {
    const own = this.overlay.get(blkno);
    if (own !== undefined && own.owner === owner.name) return own.block;
    if (owner.level < PR) throw new InternalError('LOCK_LEVEL', `${this.name} reads block ${blkno} without ${owner.name}`);
    const entry = this.cache.get(blkno, kind, owner.name);
    if (entry !== undefined) return entry.block;
    throw this.#missing([{ blkno, kind, owner: owner.name }]);
  }

  /** The block's bytes, private to this operation until it applies. */
  write(owner: MetaLock, blkno: number, kind: BlockKind): Block {
    const own = this.overlay.get(blkno);
    if (own !== undefined && own.owner === owner.name) return own.block;
    this.#mayChange(owner, blkno);
    const entry = this.cache.get(blkno, kind, owner.name);
    if (entry === undefined) throw this.#missing([{ blkno, kind, owner: owner.name }]);
    const block = new Block(entry.block.device, blkno, this.cache.buffers.copy(entry.block.bytes));
    this.overlay.set(blkno, new CacheEntry(block, kind, owner.name));
    return block;
  }

  /** A block of zeros that takes the place of whatever was there; nothing is read. */
  create(owner: MetaLock, blkno: number, kind: BlockKind): Block {
    this.#mayChange(owner, blkno);
    const block = new Block(this.geo.device, blkno, new Uint8Array(this.geo.blockSize));
    this.overlay.set(blkno, new CacheEntry(block, kind, owner.name));
    return block;
  }

  /** Ask for many blocks at once before walking them, so that a long scan restarts once, not once per block. */
  prefetch(owner: MetaLock, blocks: Iterable<number>, kind: BlockKind): void {
    let missing: BlockWish[] | undefined;
    for (const blkno of blocks) {
      if (!this.#has(owner, blkno, kind)) (missing ??= []).push({ blkno, kind, owner: owner.name });
    }
    this.#load(missing);
  }

  /** `prefetch` for blocks under a lock each. */
  prefetchEach(blocks: Iterable<readonly [owner: MetaLock, blkno: number]>, kind: BlockKind): void {
    let missing: BlockWish[] | undefined;
    for (const [owner, blkno] of blocks) if (!this.#has(owner, blkno, kind)) (missing ??= []).push({ blkno, kind, owner: owner.name });
    this.#load(missing);
  }

  #has(owner: MetaLock, blkno: number, kind: BlockKind): boolean {
    return this.overlay.has(blkno) || this.cache.get(blkno, kind, owner.name) !== undefined;
  }

  #load(missing: BlockWish[] | undefined): void {
    // More than the cache can keep would never all be there at once: then the walk asks block by block.
    if (missing !== undefined && missing.length < this.cache.capacity / 2) throw this.#missing(missing);
  }

  /** Stop this attempt, do something asynchronous without holding locks, and run the operation again. */
  after(what: string, work: () => Promise<void>): never {
    throw new Need(what, work, true);
  }

  /** Runs synchronously when the operation applies: the place for changes of in-memory state. */
  onApply(fn: () => void): void {
    this.#applied.push(fn);
  }

  /** Runs once the transaction that holds this operation is durable. */
  onCommit(fn: () => void): void {
    this.#committed.push(fn);
  }

  /** The transaction that holds this operation commits only after this data write has resolved (data=ordered). */
  ordered(write: Promise<void>): void {
    this.#ordered.push(write);
  }

  /** For the runner. */
  get hooks(): { applied: readonly (() => void)[]; committed: readonly (() => void)[]; ordered: readonly Promise<void>[] } {
    return { applied: this.#applied, committed: this.#committed, ordered: this.#ordered };
  }

  #mayChange(owner: MetaLock, blkno: number): void {
    if (this.readOnly) throw new InternalError('READ_ONLY_OP', `${this.name} is a reading operation and changes block ${blkno}`);
    if (owner.level < EX) throw new InternalError('LOCK_LEVEL', `${this.name} changes block ${blkno} while it holds ${owner.name} at level ${owner.level}`);
  }

  #missing(wishes: BlockWish[]): Need {
    return new Need('blocks', () => this.cache.load(wishes));
  }
}
