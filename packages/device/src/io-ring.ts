/**
 * The ring of requests between an `IoWorkerDevice` and its thread, in shared memory.
 *
 * One producer (the device's thread) and one consumer (the I/O thread). SUBMITTED and COMPLETED count for ever, modulo 2^32;
 * request n is in slot n mod SLOTS. Invariants: COMPLETED <= SUBMITTED <= COMPLETED + SLOTS; a slot belongs to the consumer from
 * the SUBMITTED that covers it to the COMPLETED that covers it, to the producer else. The counters are stored atomically
 * after the slot, so whoever sees a counter sees the slots below it. Served strictly in order: completion needs no list, and
 * a flush is behind every write submitted before it.
 */

/** Requests in the ring at most; a power of two. */
export const SLOTS = 256;

export const OP_READ = 1;
export const OP_WRITE = 2;
export const OP_FLUSH = 3;
export const OP_ZERO = 4;
/** The thread ends. */
export const OP_STOP = 5;

/** Status of a finished request: 0, an errno number, or this: fewer bytes than asked, and no error. */
export const STATUS_SHORT = -1;

const SUBMITTED = 0;
const COMPLETED = 1;
const HEADER_BYTES = 64;
const SLOT_BYTES = 64;
const OP = 0; // indexes in the slot's Int32 view
const MEMORY = 1;
const STATUS = 2;
const OFFSET = 2; // indexes in the slot's Float64 view
const BUFFER_OFFSET = 3;
const LENGTH = 4;

export class IoRing {
  readonly memory: SharedArrayBuffer;
  readonly #i32: Int32Array;
  readonly #f64: Float64Array;

  /** Both sides make one over the same memory; the producer's creates it. */
  constructor(memory = new SharedArrayBuffer(HEADER_BYTES + SLOTS * SLOT_BYTES)) {
    this.memory = memory;
    this.#i32 = new Int32Array(memory);
    this.#f64 = new Float64Array(memory);
  }

  get submitted(): number {
    return Atomics.load(this.#i32, SUBMITTED);
  }

  get completed(): number {
    return Atomics.load(this.#i32, COMPLETED);
  }

  /** Producer: fill request number `n` and hand it over. `memory` is the number of a memory the consumer has been given. */
  submit(n: number, op: number, memory: number, bufferOffset: number, offset: number, length: number): void {
    const i = i32At(n);
    const f = f64At(n);
    this.#i32[i + OP] = op;
    this.#i32[i + MEMORY] = memory;
    this.#f64[f + OFFSET] = offset;
    this.#f64[f + BUFFER_OFFSET] = bufferOffset;
    this.#f64[f + LENGTH] = length;
    Atomics.store(this.#i32, SUBMITTED, (n + 1) | 0);
    Atomics.notify(this.#i32, SUBMITTED);
  }

  /** Producer: the status of a completed request. */
  status(n: number): number {
    return this.#i32[i32At(n) + STATUS];
  }

  /** Producer: resolves once COMPLETED is no longer `seen`, or `wake` was called. */
  async completion(seen: number): Promise<void> {
    const wait = Atomics.waitAsync(this.#i32, COMPLETED, seen);
    if (wait.async) await wait.value;
  }

  /** Let a waiting producer look again. */
  wake(): void {
    Atomics.notify(this.#i32, COMPLETED);
  }

  /** Consumer: block until request `n` has been submitted. */
  await(n: number): void {
    while (Atomics.load(this.#i32, SUBMITTED) === n) Atomics.wait(this.#i32, SUBMITTED, n);
  }

  op(n: number): number {
    return this.#i32[i32At(n) + OP];
  }
  memoryOf(n: number): number {
    return this.#i32[i32At(n) + MEMORY];
  }
  offset(n: number): number {
    return this.#f64[f64At(n) + OFFSET];
  }
  bufferOffset(n: number): number {
    return this.#f64[f64At(n) + BUFFER_OFFSET];
  }
  length(n: number): number {
    return this.#f64[f64At(n) + LENGTH];
  }

  /** Consumer: request `n` is done. */
  complete(n: number, status: number): void {
    this.#i32[i32At(n) + STATUS] = status;
    Atomics.store(this.#i32, COMPLETED, (n + 1) | 0);
    Atomics.notify(this.#i32, COMPLETED);
  }
}

function i32At(n: number): number {
  return (HEADER_BYTES + (n & (SLOTS - 1)) * SLOT_BYTES) / 4;
}

function f64At(n: number): number {
  return (HEADER_BYTES + (n & (SLOTS - 1)) * SLOT_BYTES) / 8;
}
