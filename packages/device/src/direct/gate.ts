/**
 * The gate between the owner of a file's mapping (the volume's main thread) and the data workers that do I/O by it
 * (docs/design.md, section 2, "Recall"). It is a piece of shared memory, tested per request, never a message.
 *
 * Protocol. Worker: `enter()` publishes that a request is in flight, *then* tests epoch and deadline; if either
 * fails it has left again and the request is parked. Owner: `recall()` bumps the epoch, *then* waits until nothing that
 * entered before is in flight. Atomics are sequentially consistent, so either the worker's test sees the new epoch or
 * the owner's wait sees the worker's count: no request can start on an old mapping after `recall` has resolved.
 *
 * The owner hands out no map between the call of `recall` and its end (it holds the lock that maps need), so the count does fall
 * to zero. No wake-up is lost: the owner waits on the count it has read, and whoever takes the count to zero notifies.
 *
 * The steps stand on `GateCells`, so that the test can run this very code in all interleavings (test/direct/gate.test.ts).
 */
import { Fence, NO_FENCE } from './fence.js';

/** Bytes of shared memory one gate needs, without its fence. */
const GATE_BYTES = 64;

/** Indexes of the cells. */
export const EPOCH = 0; // bumped by every recall
export const IN_FLIGHT = 1; // requests between enter and leave
export const NO_WRITES = 2; // non-zero: in-place writes forbidden (read-only or fenced)

/** What a gate is made of, for another thread. Without `fence` the gate never shuts by itself. */
export interface GateMemory {
  readonly cells: SharedArrayBuffer;
  readonly fence?: SharedArrayBuffer;
}

/** The shared cells, each access one atomic step. */
export interface GateCells {
  load(cell: number): number;
  store(cell: number, value: number): void;
  /** Returns the value before. */
  add(cell: number, value: number): number;
  /** Wake all that wait on the cell. */
  notify(cell: number): void;
  /** Resolves at once if the cell isn't `value`, else at the next notify. */
  wait(cell: number, value: number): Promise<void>;
  /** The fence forbids to submit at `now`, monotonic milliseconds. */
  shut(now: number): boolean;
}

export class Gate {
  /** What to give a worker, which makes its own Gate of it. */
  readonly memory: GateMemory;
  readonly #cells: GateCells;

  /** Without `memory` a new, open gate; with it the gate that another thread made. */
  constructor(memory?: GateMemory, cells?: GateCells) {
    this.memory = memory ?? { cells: new SharedArrayBuffer(GATE_BYTES) };
    this.#cells = cells ?? new SharedCells(this.memory);
  }

  /** A new gate that lets nothing in past the fence's deadline. */
  static under(fence: Fence): Gate {
    return new Gate({ cells: new SharedArrayBuffer(GATE_BYTES), fence: fence === NO_FENCE ? undefined : fence.memory });
  }

  /** The present epoch; a worker tags its cached map with it. */
  get epoch(): number {
    return this.#cells.load(EPOCH);
  }

  /** Publish a request, then test. True: go on and `leave()` after the I/O. False: already left again; park. `now` in monotonic ms. */
  enter(epoch: number, now: number, write: boolean): boolean {
    const cells = this.#cells;
    cells.add(IN_FLIGHT, 1);
    if (cells.load(EPOCH) === epoch && !cells.shut(now) && (!write || cells.load(NO_WRITES) === 0)) return true;
    this.leave();
    return false;
  }

  /** The request that entered is done, its I/O no longer in flight. */
  leave(): void {
    if (this.#cells.add(IN_FLIGHT, -1) === 1) this.#cells.notify(IN_FLIGHT);
  }

  /** Owner: no mapping of the old epoch is used once this resolves (to the new epoch). Must not be called by a worker. */
  async recall(): Promise<number> {
    const epoch = this.#cells.add(EPOCH, 1) + 1;
    await this.idle();
    return epoch;
  }

  /** Owner: resolves when nothing is in flight, if nothing new enters. After `forbidWrites(true)`: no write is under way. */
  async idle(): Promise<void> {
    for (let busy = this.#cells.load(IN_FLIGHT); busy !== 0; busy = this.#cells.load(IN_FLIGHT)) await this.#cells.wait(IN_FLIGHT, busy);
  }

  /** Owner: no write enters from now on, or again may. Writes that have entered go on: see `idle`. */
  forbidWrites(forbidden: boolean): void {
    this.#cells.store(NO_WRITES, forbidden ? 1 : 0);
  }
}

/** The cells in shared memory. The epoch wraps at 2^31, which a map's epoch, read from here, does alike. */
class SharedCells implements GateCells {
  readonly #i32: Int32Array;
  readonly #fence: Fence;

  constructor({ cells, fence }: GateMemory) {
    this.#i32 = new Int32Array(cells, 0, 4);
    this.#fence = fence === undefined ? NO_FENCE : new Fence(fence);
  }

  load(cell: number): number {
    return Atomics.load(this.#i32, cell);
  }
  store(cell: number, value: number): void {
    Atomics.store(this.#i32, cell, value);
  }
  add(cell: number, value: number): number {
    return Atomics.add(this.#i32, cell, value);
  }
  notify(cell: number): void {
    Atomics.notify(this.#i32, cell);
  }
  async wait(cell: number, value: number): Promise<void> {
    const wait = Atomics.waitAsync(this.#i32, cell, value);
    if (wait.async) await wait.value;
  }
  shut(now: number): boolean {
    return this.#fence.shut(now);
  }
}
