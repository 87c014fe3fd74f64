/**
 * The metadata block cache. Invariants:
 *  - A published block version is immutable. A change makes a new version (copy on write in the operation), so whoever
 *    holds a version (a committing transaction, a view) holds frozen bytes; nothing needs pinning.
 *    One exception: the checksum field, stamped when the version is logged; no reader interprets it.
 *  - An entry belongs to the cluster lock that protects it (`owner`) and is dropped with that lock.
 *  - A dirty entry (not yet in place on disk) is never evicted: the disk holds older bytes.
 */
import { type BlockDevice, CorruptionError, InternalError } from '@lunfs/device';
import { Block } from '../format/block.js';
import type { Geometry } from '../format/geometry.js';
import { type BlockKind, validateBlock } from '../format/kinds.js';
import { BlockBuffers } from './block-buffers.js';

/** One version of one block. */
export class CacheEntry {
  /** Not in place on disk yet. */
  dirty = false;
  /** Seen since the eviction hand last passed. */
  referenced = true;
  constructor(readonly block: Block, readonly kind: BlockKind, readonly owner: string) {}
}

/** A block somebody needs: its number, what it must be and the lock that protects it. */
export interface BlockWish {
  readonly blkno: number;
  readonly kind: BlockKind;
  readonly owner: string;
}

export class BlockCache {
  /** Memory for new versions. */
  readonly buffers: BlockBuffers;
  readonly #entries = new Map<number, CacheEntry>();
  readonly #byOwner = new Map<string, Set<number>>();
  /** Loads under way; replaced or removed when the block is published by other means, so that a late load is dropped. */
  readonly #loading = new Map<number, Promise<void>>();
  /** Entries at which the next eviction runs: the capacity, and the dirty entries that the last one found. */
  #limit: number;
  /** Who wants nothing evicted. */
  #holds = 0;

  constructor(
    readonly device: BlockDevice,
    readonly geo: Geometry,
    /** Entries kept at most, dirty ones apart. */
    readonly capacity = 16384,
  ) {
    this.#limit = capacity;
    this.buffers = new BlockBuffers(geo.blockSize);
  }

  get size(): number {
    return this.#entries.size;
  }

  /** The present version if it is cached under that owner; a block cached as another kind is checked as this one. */
  get(blkno: number, kind: BlockKind, owner: string): CacheEntry | undefined {
    const entry = this.#entries.get(blkno);
    if (entry === undefined || entry.owner !== owner) return undefined;
    if (entry.kind !== kind && entry.kind.implies !== kind) {
      kind.validate(entry.block, this.geo);
      if (!entry.dirty) {
        const again = new CacheEntry(entry.block, kind, owner);
        this.#entries.set(blkno, again);
        return again;
      }
    }
    entry.referenced = true;
    return entry;
  }

  /** The present version, whoever owns it and whatever it is; counts as no use of it. Its lock protects it, not the caller. */
  peek(blkno: number): CacheEntry | undefined {
    return this.#entries.get(blkno);
  }

  /** Publish a version. */
  put(entry: CacheEntry): void {
    const blkno = entry.block.blkno;
    const old = this.#entries.get(blkno);
    if (old !== undefined && old.owner !== entry.owner) this.#byOwner.get(old.owner)?.delete(blkno);
    this.#loading.delete(blkno);
    this.#entries.set(blkno, entry);
    let owned = this.#byOwner.get(entry.owner);
    if (!owned) this.#byOwner.set(entry.owner, (owned = new Set()));
    owned.add(blkno);
    if (this.#entries.size > this.#limit && this.#holds === 0) this.#evict();
  }

  /** Evict nothing until the function it returns is called: for an operation that needs more blocks at a time than the capacity. */
  hold(): () => void {
    this.#holds++;
    return () => {
      this.#holds--;
    };
  }

  /** Is this very version the present one? */
  isCurrent(entry: CacheEntry): boolean {
    return this.#entries.get(entry.block.blkno) === entry;
  }

  /** What is cached under a lock. */
  ownedBy(owner: string): CacheEntry[] {
    return [...(this.#byOwner.get(owner) ?? [])].map((blkno) => this.#entries.get(blkno)!);
  }

  /** Drop what a lock protected. All of it must be clean: the lock's downconvert checkpoints first. */
  dropOwner(owner: string): void {
    const owned = this.#byOwner.get(owner);
    if (!owned) return;
    for (const blkno of owned) {
      if (this.#entries.get(blkno)?.dirty) throw new InternalError('BLOCK_DIRTY', `block ${blkno} is dropped with its lock ${owner} but not in place on disk`);
      this.#entries.delete(blkno);
    }
    this.#byOwner.delete(owner);
  }

  /** Drop clean entries in [from, to): their blocks were freed and may come back as something else. */
  dropRange(from: number, to: number): void {
    for (let blkno = from; blkno < to; blkno++) {
      this.#loading.delete(blkno);
      const entry = this.#entries.get(blkno);
      if (entry === undefined || entry.dirty) continue;
      this.#entries.delete(blkno);
      this.#byOwner.get(entry.owner)?.delete(blkno);
    }
  }

  /**
   * Read, check and publish blocks; adjacent ones in one device request. All requests have ended when it settles, also when
   * one failed: the caller's locks protect the others until then.
   */
  async load(wishes: readonly BlockWish[]): Promise<void> {
    const missing = wishes.filter((w) => this.get(w.blkno, w.kind, w.owner) === undefined).sort((a, b) => a.blkno - b.blkno);
    const waits: Promise<void>[] = [];
    for (let i = 0; i < missing.length; ) {
      this.#checkOwner(missing[i]);
      const under = this.#loading.get(missing[i].blkno);
      if (under !== undefined) {
        // Somebody else's load, maybe as another kind: only its end matters, the operation looks again and asks for itself.
        waits.push(under.catch(() => undefined));
        i++;
        continue;
      }
      let n = 1;
      while (i + n < missing.length && n < 256 && missing[i + n].blkno === missing[i].blkno + n && !this.#loading.has(missing[i + n].blkno)) {
        this.#checkOwner(missing[i + n]);
        n++;
      }
      waits.push(this.#loadRun(missing.slice(i, i + n)));
      i += n;
    }
    for (const result of await Promise.allSettled(waits)) if (result.status === 'rejected') throw result.reason;
  }

  /**
   * A dirty block under another lock: the disk holds older bytes, and loading them would lose the change. It takes a volume
   * on which two structures claim the block to get here.
   */
  #checkOwner({ blkno, owner, kind }: BlockWish): void {
    const entry = this.#entries.get(blkno);
    if (entry?.dirty) {
      throw new CorruptionError('BLOCK_SHARED', `${this.geo.device}: block ${blkno} is asked for as ${kind.name} under lock ${owner}, but was changed as ${entry.kind.name} under ${entry.owner}: two structures claim it; run "lunfs check" on the volume`, {
        device: this.geo.device, block: blkno, structure: kind.name, field: 'owner', value: entry.owner,
      });
    }
  }

  async #loadRun(run: readonly BlockWish[]): Promise<void> {
    const { device } = this, { blockSize } = this.geo;
    const length = run.length * blockSize;
    const bytes = device.pool?.acquire(length) ?? new Uint8Array(length);
    try {
      await this.#loadInto(run, bytes);
    } finally {
      device.pool?.release(bytes);
    }
  }

  /** Each block gets memory of its own: one that stays must not keep the whole run. */
  async #loadInto(run: readonly BlockWish[], bytes: Uint8Array): Promise<void> {
    const { blockSize } = this.geo;
    const promise = this.device.read(run[0].blkno * blockSize, bytes);
    for (const w of run) this.#loading.set(w.blkno, promise);
    // True if the block was not published meanwhile (created, or its lock dropped): else what we read is stale.
    const ours = (blkno: number): boolean => this.#loading.get(blkno) === promise && this.#loading.delete(blkno);
    try {
      await promise;
    } catch (error) {
      for (const w of run) ours(w.blkno);
      throw error;
    }
    let failed: unknown;
    for (let i = 0; i < run.length; i++) {
      const { blkno, kind, owner } = run[i];
      if (!ours(blkno)) continue;
      const block = new Block(this.geo.device, blkno, this.buffers.copy(bytes.subarray(i * blockSize, (i + 1) * blockSize)));
      try {
        validateBlock(block, kind, this.geo);
        this.put(new CacheEntry(block, kind, owner));
      } catch (error) {
        failed ??= error;
      }
    }
    if (failed !== undefined) throw failed as Error;
  }

  /** Second-chance eviction down to nine tenths of the capacity; dirty entries stay and do not count. */
  #evict(): void {
    let dirty = 0;
    for (const entry of this.#entries.values()) if (entry.dirty) dirty++;
    this.#limit = dirty + this.capacity;
    const goal = dirty + Math.floor(this.capacity * 0.9);
    // The first round takes the marks away, the second one finds the entries without.
    let budget = 2 * this.#entries.size;
    for (const [blkno, entry] of this.#entries) {
      if (budget-- <= 0 || this.#entries.size <= goal) return;
      if (entry.dirty || entry.referenced) {
        entry.referenced = false;
        this.#entries.delete(blkno);
        this.#entries.set(blkno, entry);
        continue;
      }
      this.#entries.delete(blkno);
      this.#byOwner.get(entry.owner)?.delete(blkno);
    }
  }
}
