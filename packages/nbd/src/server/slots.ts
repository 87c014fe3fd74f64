/**
 * The memory of one connection: a page-aligned WebAssembly.Memory (O_DIRECT refuses ordinary Buffers), shared with the
 * owner's thread when a worker serves the connection. It holds the receive buffer and the slots; a request owns one
 * slot from its header to the last byte of its reply. Untouched pages cost nothing, and slots are handed out last in,
 * first out, so a connection of low depth touches few.
 *
 * A slot is one page for headers, then its payload, page-aligned. A reply's header is put directly in front of the
 * payload, so that one reply is one iovec.
 */
import type { IoCallback } from './io.js';

const PAGE = 4096;
const WASM_PAGE = 65536;
export const RECEIVE_BYTES = 256 * 1024;
/** Behind the receive buffer: where a socket that was stopped puts its next bytes (data-worker.ts). */
export const LANDING_BYTES = 64 * 1024;
const SMALL_SLOTS = 32;
const SMALL_BYTES = 2 * 1024 * 1024;
const LARGE_SLOTS = 2;
const LARGE_BYTES = 32 * 1024 * 1024;
const TOTAL = RECEIVE_BYTES + LANDING_BYTES + SMALL_SLOTS * (PAGE + SMALL_BYTES) + LARGE_SLOTS * (PAGE + LARGE_BYTES);

/** What is used of WebAssembly.Memory: Node's types do not name the global. */
export interface ConnectionMemory {
  readonly buffer: ArrayBufferLike;
}
type MemoryConstructor = new (options: { initial: number; maximum: number; shared: boolean }) => ConnectionMemory;

/** One request in the works. Its fields are overwritten for the next one; nothing is allocated per request. */
export class Slot {
  command = 0;
  flags = 0;
  offset = 0;
  length = 0;
  /** The client's opaque cookie, as its two halves on the wire. */
  cookieHigh = 0;
  cookieLow = 0;
  /** Answer decided before any backend saw the request, or 0. */
  error = 0;
  /** Bound once; completes this slot's asynchronous I/O. */
  onIo: IoCallback = () => {};
  #view: Uint8Array;
  #viewStart = 0;

  constructor(readonly index: number, readonly large: boolean, /** start of the header page */ readonly base: number, readonly heap: Buffer) {
    this.#view = heap.subarray(0, 0);
  }

  /** Start of the payload in the connection's memory. */
  get data(): number {
    return this.base + PAGE;
  }

  /** View of [start, start+length) of the memory; the last one is kept, and most replies have the shape of the one before. */
  view(start: number, length: number): Uint8Array {
    if (this.#viewStart !== start || this.#view.length !== length) {
      this.#view = this.heap.subarray(start, start + length);
      this.#viewStart = start;
    }
    return this.#view;
  }
}

export function connectionMemory(shared: boolean): ConnectionMemory {
  const pages = Math.ceil(TOTAL / WASM_PAGE);
  const { Memory } = (globalThis as unknown as { WebAssembly: { Memory: MemoryConstructor } }).WebAssembly;
  return new Memory({ initial: pages, maximum: pages, shared });
}

export class Slots {
  readonly heap: Buffer;
  readonly all: Slot[] = [];
  /** Slots that a request owns now. */
  busy = 0;
  readonly #small: Slot[] = [];
  readonly #large: Slot[] = [];

  constructor(memory: ConnectionMemory) {
    this.heap = Buffer.from(memory.buffer);
    let at = RECEIVE_BYTES + LANDING_BYTES;
    for (let i = 0; i < SMALL_SLOTS + LARGE_SLOTS; i++) {
      const large = i >= SMALL_SLOTS;
      const slot = new Slot(i, large, at, this.heap);
      this.all.push(slot);
      (large ? this.#large : this.#small).unshift(slot);
      at += PAGE + (large ? LARGE_BYTES : SMALL_BYTES);
    }
  }

  /** A slot whose payload takes `length` bytes (at most MAX_PAYLOAD), or undefined when all such are in use. */
  take(length: number): Slot | undefined {
    const slot = (length > SMALL_BYTES ? this.#large : this.#small).pop();
    if (slot !== undefined) this.busy++;
    return slot;
  }

  release(slot: Slot): void {
    this.busy--;
    (slot.large ? this.#large : this.#small).push(slot);
  }
}
