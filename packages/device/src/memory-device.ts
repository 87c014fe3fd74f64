/**
 * A sparse device in memory, for tests and the simulator.
 *
 * Content is kept in chunks that appear when first written. `clone` shares them: a chunk is copied by whichever device
 * writes to it next (copy on write), so thousands of crash images of one volume cost little more than their differences.
 *
 * Two layers: `#base`, a map that clones share and nobody changes, and `#top`, this device's own map of what differs from it
 * (null: zeroed again). Invariant: a chunk in `#own` is referenced by this device alone; all others are never changed in
 * place. `clone` copies `#top` alone, and first folds it into a new base once it has grown to about the root of the base's
 * size, which keeps both costs low.
 */
import type { BlockDevice } from './block-device.js';
import { checkRange, checkWritable } from './range-check.js';

const CHUNK = 16 << 10;
const MIN_FOLD = 64;

/** What discarded bytes that had been written read as: discarded never means zero, and tests should notice. */
export const DISCARD_FILL = 0xdb;

export class MemoryDevice implements BlockDevice {
  readonly name: string;
  readonly logicalBlockSize: number;
  readonly readOnly: boolean;
  readonly canDiscard = true;
  #base: ReadonlyMap<number, Uint8Array> = new Map();
  #top = new Map<number, Uint8Array | null>();
  readonly #own = new Set<number>();
  #size: number;

  constructor(options: { size: number; name?: string; logicalBlockSize?: number; readOnly?: boolean }) {
    this.name = options.name ?? 'memory';
    this.logicalBlockSize = options.logicalBlockSize ?? 512;
    this.#size = options.size - (options.size % this.logicalBlockSize);
    this.readOnly = options.readOnly ?? false;
  }

  get size(): number {
    return this.#size;
  }

  /** Become larger, as a LUN may. What is new reads zero. */
  enlarge(size: number): void {
    this.#size = Math.max(this.#size, size - (size % this.logicalBlockSize));
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    this.readSync(offset, into);
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    this.writeSync(offset, from);
  }

  readSync(offset: number, into: Uint8Array): void {
    checkRange(this, offset, into.length);
    this.#pieces(offset, into.length, (index, within, n, done) => {
      const chunk = this.#chunk(index);
      if (chunk) into.set(chunk.subarray(within, within + n), done);
      else into.fill(0, done, done + n);
    });
  }

  writeSync(offset: number, from: Uint8Array): void {
    checkWritable(this);
    checkRange(this, offset, from.length);
    this.#pieces(offset, from.length, (index, within, n, done) => {
      this.#writable(index).set(from.subarray(done, done + n), within);
    });
  }

  async flush(): Promise<void> {}

  async writeZeroes(offset: number, length: number): Promise<void> {
    this.writeZeroesSync(offset, length);
  }

  writeZeroesSync(offset: number, length: number): void {
    checkWritable(this);
    checkRange(this, offset, length);
    this.#pieces(offset, length, (index, within, n) => {
      if (n === CHUNK) {
        if (this.#base.has(index)) this.#top.set(index, null);
        else this.#top.delete(index);
        this.#own.delete(index);
      } else if (this.#chunk(index)) {
        this.#writable(index).fill(0, within, within + n);
      }
    });
  }

  async discard(offset: number, length: number): Promise<void> {
    this.discardSync(offset, length);
  }

  /** Fills what was ever written with `DISCARD_FILL`. */
  discardSync(offset: number, length: number): void {
    checkWritable(this);
    checkRange(this, offset, length);
    this.#pieces(offset, length, (index, within, n) => {
      if (this.#chunk(index)) this.#writable(index).fill(DISCARD_FILL, within, within + n);
    });
  }

  /** An independent, writable device with the present content, for the price of a few dozen map entries. */
  clone(name = this.name): MemoryDevice {
    if (this.#top.size > Math.max(MIN_FOLD, 2 * Math.sqrt(this.#base.size))) this.#fold();
    const copy = new MemoryDevice({ size: this.size, name, logicalBlockSize: this.logicalBlockSize });
    copy.#base = this.#base;
    copy.#top = new Map(this.#top);
    this.#own.clear();
    return copy;
  }

  /** Offsets of the chunks that were ever written, ascending, with their bytes (to be read only). */
  *contents(): Generator<{ offset: number; bytes: Uint8Array }> {
    for (const index of [...new Set([...this.#base.keys(), ...this.#top.keys()])].sort((a, b) => a - b)) {
      const offset = index * CHUNK;
      const chunk = this.#chunk(index);
      if (chunk) yield { offset, bytes: chunk.subarray(0, Math.min(CHUNK, this.size - offset)) };
    }
  }

  async close(): Promise<void> {}

  #chunk(index: number): Uint8Array | undefined {
    const chunk = this.#top.get(index);
    return chunk === undefined ? this.#base.get(index) : (chunk ?? undefined);
  }

  #writable(index: number): Uint8Array {
    const present = this.#chunk(index);
    if (present && this.#own.has(index)) return present;
    const chunk = present ? present.slice() : new Uint8Array(CHUNK);
    this.#top.set(index, chunk);
    this.#own.add(index);
    return chunk;
  }

  #fold(): void {
    const base = new Map(this.#base);
    for (const [index, chunk] of this.#top) {
      if (chunk) base.set(index, chunk);
      else base.delete(index);
    }
    this.#base = base;
    this.#top = new Map();
  }

  #pieces(offset: number, length: number, visit: (index: number, within: number, n: number, done: number) => void): void {
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const within = at % CHUNK;
      const n = Math.min(CHUNK - within, length - done);
      visit((at - within) / CHUNK, within, n, done);
      done += n;
    }
  }
}
