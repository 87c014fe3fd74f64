/**
 * The fence of one process's I/O to a shared LUN (docs/design.md, section 2, "Fence the I/O, not the host"; docs/fencing.md): until when
 * anything may be submitted, in memory that all threads share. Whoever submits reads or writes asks it first, each time; nothing
 * that is cached of an earlier answer counts.
 *
 * Two clocks are compared. The monotonic one is the deadline proper. It stands still while a host is suspended, so the same moment is
 * kept by the wall clock as well: after a suspend, or when somebody sets the clock forward, the fence is shut until the next good beat. A
 * wall clock that is set back shuts nothing and opens nothing.
 *
 * Invariants
 *  - Without a cluster the deadline is +Infinity for ever: one load decides, no clock is read.
 *  - Shut is not an error: requests wait (`pass`, `opened`) and go on when a later deadline is set, if ever.
 *  - A deadline that was revoked (`revoke`) never comes back: what follows a fence is another process.
 */
import { monotonicMs, wallMs } from './clock.js';

/** Bytes of shared memory one fence needs. */
const FENCE_BYTES = 64;

const MONOTONIC = 0; // indexes in the Float64 view
const WALL = 1;
const CHANGES = 4; // indexes in the Int32 view: bumped whenever the deadline changes
const REVOKED = 5;

/** The clocks, replaced in simulations. */
export interface FenceClock {
  monotonic(): number;
  wall(): number;
}

const SYSTEM: FenceClock = { monotonic: monotonicMs, wall: wallMs };

export class Fence {
  /** What to give another thread, which makes its own Fence of it. */
  readonly memory: SharedArrayBuffer;
  readonly #f64: Float64Array;
  readonly #i32: Int32Array;

  /** Without `memory` a new fence, shut unless `until` says otherwise; with it the fence that another thread made. */
  constructor(memory?: SharedArrayBuffer, until = Number.NEGATIVE_INFINITY, private readonly clock: FenceClock = SYSTEM) {
    this.memory = memory ?? new SharedArrayBuffer(FENCE_BYTES);
    this.#f64 = new Float64Array(this.memory);
    this.#i32 = new Int32Array(this.memory);
    if (memory === undefined) this.#f64.fill(until, MONOTONIC, WALL + 1);
  }

  /** Milliseconds of the monotonic clock until which I/O may be submitted. */
  get deadline(): number {
    return this.#f64[MONOTONIC];
  }

  get revoked(): boolean {
    return Atomics.load(this.#i32, REVOKED) !== 0;
  }

  /** True: nothing may be submitted at `now` (monotonic ms; default: the present). */
  shut(now?: number): boolean {
    // JavaScript has no atomic double. An aligned one is read and written whole on every 64-bit machine Node runs on; a deadline that
    // is seen late is an earlier one.
    const deadline = this.#f64[MONOTONIC];
    if (deadline === Number.POSITIVE_INFINITY) return false;
    return !((now ?? this.clock.monotonic()) < deadline && this.clock.wall() < this.#f64[WALL]) || this.revoked;
  }

  /** Submit until then: milliseconds of the monotonic and of the wall clock for one and the same moment. Without effect once revoked. */
  setDeadline(monotonic: number, wall: number): void {
    if (this.revoked) return;
    this.#f64[MONOTONIC] = monotonic;
    this.#f64[WALL] = wall;
    this.#changed();
  }

  /** Nothing is submitted any more, whatever is set later. */
  revoke(): void {
    Atomics.store(this.#i32, REVOKED, 1);
    this.#f64[MONOTONIC] = Number.NEGATIVE_INFINITY;
    this.#changed();
  }

  /** Block this thread until I/O may be submitted. */
  pass(): void {
    for (;;) {
      const seen = Atomics.load(this.#i32, CHANGES);
      if (!this.shut()) return;
      Atomics.wait(this.#i32, CHANGES, seen);
    }
  }

  /** Resolves when I/O may be submitted. Keeps no process alive. */
  async opened(): Promise<void> {
    for (;;) {
      const seen = Atomics.load(this.#i32, CHANGES);
      if (!this.shut()) return;
      const wait = Atomics.waitAsync(this.#i32, CHANGES, seen);
      if (wait.async) await wait.value;
    }
  }

  #changed(): void {
    Atomics.add(this.#i32, CHANGES, 1);
    Atomics.notify(this.#i32, CHANGES);
  }
}

/** The fence of a process that needs none: a volume that no other host may write. */
export const NO_FENCE = new Fence(undefined, Number.POSITIVE_INFINITY);
