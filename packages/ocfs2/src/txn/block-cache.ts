/**
 * The metadata block cache. Invariants:
 *  - A published block version is immutable. A change makes a new version (copy on write in the operation), so whoever
 *    holds a version (a committing transaction, a view) holds frozen bytes; nothing needs pinning.
 *    One exception: the checksum field, stamped when the version is logged; no reader interprets it.
 *  - An entry belongs to the cluster lock that protects it (`owner`) and is dropped with that lock.
 *  - A dirty entry (not yet in place on disk) is never evicted: the disk holds older bytes.
 */
import type { BlockDevice } from '@lunfs/device';
import { Block } from '../format/block.js';
import type { Geometry } from '../format/geometry.js';
import { type BlockKind, validateBlock } from '../format/kinds.js';

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
  readonly #entries = new Map<number, CacheEntry>();
  readonly #byOwner = new Map<string, Set<number>>();
  /** Loads under way; replaced or removed when the block is published by other means, so that a late load is dropped. */
  readonly #loading = new Map<number, Promise<void>>();

  constructor(
    readonly device: BlockDevice,
    readonly geo: Geometry,
    /** Entries kept at most, dirty ones apart. */
    readonly capacity = 16384,
  ) {}

  get size(): number {
    return this.#entries.size;
  }

  /** The present version if it is cached under that owner; a block cached as another kind is checked as this one. */
  get(blkno: number, kind: BlockKind, owner: string): CacheEntry | undefined {
    const entry = this.#entries.get(blkno);
    if (entry === undefined || entry.owner !== owner) return undefined;
    if (entry.kind !== kind) {
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
    if (this.#entries.size > this.capacity) this.#evict();
  }

  /** Is this very version the present one? */
  isCurrent(entry: CacheEntry): boolean {
    return this.#entries.get(entry.block.blkno) === entry;
  }

  /** Drop what a lock protected. All of it must be clean: the lock's downconvert checkpoints first. */
  dropOwner(owner: string): void {
    const owned = this.#byOwner.get(owner);
    if (!owned) return;
    for (const blkno of owned) {
      if (this.#entries.get(blkno)?.dirty) throw new Error(`block ${blkno} of ${owner} is dirty`);
      this.#entries.delete(blkno);
      this.#loading.delete(blkno);
    }
    this.#byOwner.delete(owner);
  }

  /** Drop clean entries in [from, to): their blocks were freed and may come back as something else. */
  dropRange(from: number, to: number): void {
    for (let blkno = from; blkno < to; blkno++) {
      const entry = this.#entries.get(blkno);
      if (entry === undefined || entry.dirty) continue;
      this.#entries.delete(blkno);
      this.#byOwner.get(entry.owner)?.delete(blkno);
    }
  }

  /** Read, check and publish blocks; adjacent ones in one device request. */
  async load(wishes: readonly BlockWish[]): Promise<void> {
    const missing = wishes.filter((w) => this.get(w.blkno, w.kind, w.owner) === undefined).sort((a, b) => a.blkno - b.blkno);
    const waits: Promise<void>[] = [];
    for (let i = 0; i < missing.length; ) {
      const under = this.#loading.get(missing[i].blkno);
      if (under !== undefined) {
        waits.push(under);
        i++;
        continue;
      }
      let n = 1;
      while (i + n < missing.length && n < 256 && missing[i + n].blkno === missing[i].blkno + n && !this.#loading.has(missing[i + n].blkno)) n++;
      const run = missing.slice(i, i + n);
      const promise = this.#loadRun(run);
      for (const w of run) this.#loading.set(w.blkno, promise);
      waits.push(promise);
      i += n;
    }
    await Promise.all(waits);
  }

  async #loadRun(run: readonly BlockWish[]): Promise<void> {
    const { blockSize } = this.geo;
    const bytes = new Uint8Array(run.length * blockSize);
    const mine = Promise.resolve().then(() => this.device.read(run[0].blkno * blockSize, bytes));
    try {
      await mine;
    } catch (error) {
      for (const w of run) this.#loading.delete(w.blkno);
      throw error;
    }
    for (let i = 0; i < run.length; i++) {
      const { blkno, kind, owner } = run[i];
      // Published meanwhile (created, or its lock dropped): what we read is stale.
      if (!this.#loading.delete(blkno)) continue;
      const block = new Block(this.geo.device, blkno, bytes.slice(i * blockSize, (i + 1) * blockSize));
      try {
        validateBlock(block, kind, this.geo);
      } catch (error) {
        for (let k = i + 1; k < run.length; k++) this.#loading.delete(run[k].blkno);
        throw error;
      }
      this.put(new CacheEntry(block, kind, owner));
    }
  }

  /** Second-chance eviction of a tenth of the entries. */
  #evict(): void {
    let budget = this.#entries.size;
    const goal = Math.floor(this.capacity * 0.9);
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
