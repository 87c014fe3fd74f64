/**
 * Page-aligned buffers for O_DIRECT.
 *
 * Node has no aligned allocation: an ordinary Buffer is page aligned only by luck, and real devices then answer EINVAL.
 * The bytes of a `WebAssembly.Memory` always start at a page boundary, and with `shared` every thread can see them.
 *
 * Invariants: a buffer handed out is a view whose start is a multiple of 4096; a buffer is in exactly one place (free list
 * or caller); memories are only ever added, never grown (growing detaches the views), so the pool never makes anyone wait.
 */
import type { BufferPool } from './block-device.js';
import { InternalError, LunfsError } from './errors.js';

/** Alignment of every pooled buffer, bytes: the page, and at least the logical block of any device. */
export const PAGE = 4096;

/** The little of WebAssembly's interface that is used here; Node's types leave it to the DOM library. */
declare const WebAssembly: {
  Memory: new (descriptor: { initial: number; maximum: number; shared: boolean }) => { readonly buffer: ArrayBufferLike };
};

const WASM_PAGE = 65536;
const MIN_CLASS = 12; // 4 KiB
const MAX_CLASS = 30; // 1 GiB
/** A memory reserves gigabytes of address space whatever its size, so few large ones are wanted: sizes double up to this. */
const MAX_ARENA = 64 << 20;

const knownMemories = new WeakSet<ArrayBufferLike>();

/** New zeroed page-aligned memory of at least `bytes`; `shared` memory can be posted to workers. Known to `isAligned`. */
export function alignedMemory(bytes: number, shared = false): ArrayBufferLike {
  const pages = Math.max(1, Math.ceil(bytes / WASM_PAGE));
  let memory: { readonly buffer: ArrayBufferLike };
  try {
    memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
  } catch (cause) {
    throw new LunfsError(
      'io',
      'DEVICE_NO_MEMORY',
      'ENOMEM',
      `no ${bytes} bytes of aligned memory left for I/O buffers: lower the number of requests in flight or the cache size`,
      { bytes },
      cause,
    );
  }
  knownMemories.add(memory.buffer);
  return memory.buffer;
}

/**
 * Declare that the memory starts at a page boundary: for a shared memory of `alignedMemory` that came from another thread,
 * where it is a new object. A wrong declaration makes O_DIRECT requests fail with EINVAL, nothing worse.
 */
export function adoptAligned(memory: ArrayBufferLike): void {
  knownMemories.add(memory);
}

/** True if O_DIRECT can use the view as it is: start and length are multiples of `alignment` in memory known to be aligned. */
export function isAligned(view: Uint8Array, alignment = PAGE): boolean {
  return view.byteOffset % alignment === 0 && view.byteLength % alignment === 0 && knownMemories.has(view.buffer);
}

/** Free lists of page-aligned buffers, one per power of two from 4 KiB. For one thread; its memory may be shared. */
export class AlignedPool implements BufferPool {
  readonly shared: boolean;
  /** Bytes of memory taken so far; it never shrinks. */
  capacity = 0;
  readonly #free: Uint8Array[][] = Array.from({ length: MAX_CLASS + 1 }, () => []);
  readonly #lent = new Map<Uint8Array, Uint8Array>();
  #arena: Uint8Array = new Uint8Array(0);
  #used = 0;
  #nextArena: number;

  /** `arenaBytes`: size of the first memory; later ones double. */
  constructor(options: { shared?: boolean; arenaBytes?: number } = {}) {
    this.shared = options.shared ?? false;
    this.#nextArena = options.arenaBytes ?? 1 << 20;
  }

  /** Number of buffers handed out and not yet released. */
  get inUse(): number {
    return this.#lent.size;
  }

  /** A buffer of exactly `length` bytes (1 .. 1 GiB) that starts at a page boundary. Its content is whatever the last user left. */
  acquire(length: number): Uint8Array {
    const sizeClass = classOf(length);
    const block = this.#free[sizeClass].pop() ?? this.#carve(sizeClass);
    const view = length === block.length ? block : block.subarray(0, length);
    this.#lent.set(view, block);
    return view;
  }

  /** Give back the very view that `acquire` returned. A second release, or a foreign buffer, is an internal error. */
  release(view: Uint8Array): void {
    const block = this.#lent.get(view);
    if (!block)
      throw new InternalError(
        'DEVICE_POOL_FOREIGN',
        `aligned pool: release of a buffer of ${view.length} bytes that is not on loan (released twice, or a subarray of the loan)`,
        { length: view.length },
      );
    this.#lent.delete(view);
    this.#free[classOf(block.length)].push(block);
  }

  #carve(sizeClass: number): Uint8Array {
    const size = 2 ** sizeClass;
    if (this.#arena.length - this.#used < size) {
      this.#keepRest();
      const bytes = Math.max(this.#nextArena, size);
      this.#nextArena = Math.min(this.#nextArena * 2, Math.max(MAX_ARENA, this.#nextArena));
      this.#arena = new Uint8Array(alignedMemory(bytes, this.shared));
      this.capacity += this.#arena.length;
      this.#used = 0;
    }
    const block = this.#arena.subarray(this.#used, this.#used + size);
    this.#used += size;
    return block;
  }

  /** What is left of an arena too small for the present wish serves smaller ones. */
  #keepRest(): void {
    for (let sizeClass = MAX_CLASS; sizeClass >= MIN_CLASS; sizeClass--) {
      const size = 2 ** sizeClass;
      while (this.#arena.length - this.#used >= size) {
        this.#free[sizeClass].push(this.#arena.subarray(this.#used, this.#used + size));
        this.#used += size;
      }
    }
  }
}

function classOf(length: number): number {
  if (!(length >= 1 && length <= 2 ** MAX_CLASS)) {
    throw new InternalError('DEVICE_POOL_LENGTH', `aligned pool: no buffers of ${length} bytes (1 to ${2 ** MAX_CLASS})`, { length });
  }
  return Math.max(MIN_CLASS, Math.ceil(Math.log2(length)));
}
