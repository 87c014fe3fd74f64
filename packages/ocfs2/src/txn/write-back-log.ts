/**
 * A log without a journal: changed blocks gather in memory and go in place on `flush`. For mkfs and the offline tools,
 * whose volumes nobody may use until they are finished, so that a crash in the middle loses nothing anybody had.
 */
import type { BlockDevice } from '@lunfs/device';
import { stampCheck } from '../format/blockcheck.js';
import type { Geometry } from '../format/geometry.js';
import type { CacheEntry } from './block-cache.js';
import type { Log } from './engine.js';
import type { Op } from './op.js';

export class WriteBackLog implements Log {
  readonly maxBlocks = Number.POSITIVE_INFINITY;
  #dirty = new Map<number, CacheEntry>();
  #committed: (() => void)[] = [];
  #ordered: Promise<void>[] = [];
  #flushes: Promise<void> = Promise.resolve();

  constructor(private readonly device: BlockDevice, private readonly geo: Geometry) {}

  admit(): boolean {
    return true;
  }

  async makeRoom(): Promise<void> {}

  add(op: Op): void {
    for (const [blkno, entry] of op.overlay) this.#dirty.set(blkno, entry);
    this.#committed.push(...op.hooks.committed);
    this.#ordered.push(...op.hooks.ordered);
  }

  async commit(): Promise<void> {
    await this.flush();
  }

  async flushOwner(): Promise<void> {
    await this.flush();
  }

  /** Flushes run one after the other: who asks while one runs may want what that one has already taken with it. */
  flush(): Promise<void> {
    return (this.#flushes = this.#flushes.then(() => this.#flush()));
  }

  async #flush(): Promise<void> {
    const dirty = this.#dirty, committed = this.#committed, ordered = this.#ordered;
    this.#dirty = new Map();
    this.#committed = [];
    this.#ordered = [];
    await Promise.all(ordered);
    const { blockSize, metaecc } = this.geo;
    for (const entry of [...dirty.values()].sort((a, b) => a.block.blkno - b.block.blkno)) {
      const at = entry.kind.checkAt(this.geo);
      if (metaecc && at >= 0) stampCheck(entry.block.bytes, at);
      await this.device.write(entry.block.blkno * blockSize, entry.block.bytes);
    }
    await this.device.flush();
    for (const entry of dirty.values()) entry.dirty = false;
    for (const fn of committed) fn();
  }
}
