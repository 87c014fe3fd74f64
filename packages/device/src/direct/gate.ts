/**
 * The gate between the owner of a file's mapping (the volume's main thread) and the data workers that do I/O by it
 * (docs/design.md, section 2, "Recall"). It is a piece of shared memory, tested per request, never a message.
 *
 * Protocol. Worker: `enter()` publishes that a request is in flight, *then* tests epoch and deadline; if either
 * fails it must `leave()` and park the request. Owner: `recall()` bumps the epoch, *then* waits until nothing that
 * entered before is in flight. Atomics are sequentially consistent, so either the worker's test sees the new epoch or
 * the owner's wait sees the worker's count: no request can start on an old mapping after `recall` has resolved.
 */

/** Bytes of shared memory one gate needs. */
export const GATE_BYTES = 64;

const EPOCH = 0; // bumped by every recall
const IN_FLIGHT = 1; // requests between enter and leave
const WRITES = 2; // non-zero: in-place writes forbidden (read-only or fenced)
const DEADLINE = 2; // index in the Float64 view: monotonic ms after which nothing may be submitted

export class Gate {
  readonly memory: SharedArrayBuffer;
  readonly #i32: Int32Array;
  readonly #f64: Float64Array;

  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(GATE_BYTES)) {
    this.memory = memory;
    this.#i32 = new Int32Array(memory, 0, 4);
    this.#f64 = new Float64Array(memory);
    if (this.#f64[DEADLINE] === 0) this.#f64[DEADLINE] = Number.POSITIVE_INFINITY;
  }

  /** The present epoch; a worker tags its cached map with it. */
  get epoch(): number {
    return Atomics.load(this.#i32, EPOCH);
  }

  /** Publish a request, then test. True: go on and `leave()` after the I/O. False: already left again; park. */
  enter(epoch: number, now: number, write: boolean): boolean {
    Atomics.add(this.#i32, IN_FLIGHT, 1);
    if (Atomics.load(this.#i32, EPOCH) === epoch && now < this.#f64[DEADLINE] && (!write || Atomics.load(this.#i32, WRITES) === 0)) return true;
    this.leave();
    return false;
  }

  leave(): void {
    if (Atomics.sub(this.#i32, IN_FLIGHT, 1) === 1) Atomics.notify(this.#i32, IN_FLIGHT);
  }

  /** Owner: no mapping of the old epoch is used once this resolves. Must not be called by a worker. */
  async recall(): Promise<number> {
    const epoch = Atomics.add(this.#i32, EPOCH, 1) + 1;
    for (;;) {
      const busy = Atomics.load(this.#i32, IN_FLIGHT);
      if (busy === 0) return epoch;
      const wait = Atomics.waitAsync(this.#i32, IN_FLIGHT, busy, 50);
      if (wait.async) await wait.value;
    }
  }

  /** Owner: monotonic milliseconds (performance.timeOrigin-free clock of the process) until which I/O may be submitted. */
  setDeadline(at: number): void {
    this.#f64[DEADLINE] = at;
  }

  forbidWrites(forbidden: boolean): void {
    Atomics.store(this.#i32, WRITES, forbidden ? 1 : 0);
  }
}
