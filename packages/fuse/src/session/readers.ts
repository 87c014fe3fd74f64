/**
 * Which workers read /dev/fuse. The kernel wakes its waiting readers in turn, so every idle reader more costs a request at
 * depth 1 the warm caches of the last one; at depth 16 every worker is wanted. So `base` workers wait in read(2), the others sleep, and
 * a worker that takes a request which will block it in the device's I/O wakes a sleeper when no reader is left.
 *
 * Invariant: while no worker reads, none sleeps for long: either the last one to stop reading sees the sleeper, or the one about to
 * sleep sees that fewer than `base` read (both publish first, then look; Atomics are sequentially consistent). So a stalled device
 * can hold up the connection only when all workers are in its I/O.
 */
const READING = 0;
const SLEEPING = 1;
const WAKE = 2;
/** Bytes of shared memory for all workers of a session. */
export const READERS_BYTES = 12;

export class Readers {
  readonly #i32: Int32Array;
  readonly #base: number;

  constructor(memory: SharedArrayBuffer, base: number) {
    this.#i32 = new Int32Array(memory);
    this.#base = base;
  }

  /** Become a reader; sleeps while there are enough. */
  begin(): void {
    while (Atomics.add(this.#i32, READING, 1) >= this.#base) {
      const wake = Atomics.load(this.#i32, WAKE);
      Atomics.add(this.#i32, SLEEPING, 1);
      if (Atomics.sub(this.#i32, READING, 1) - 1 >= this.#base) Atomics.wait(this.#i32, WAKE, wake);
      Atomics.sub(this.#i32, SLEEPING, 1);
    }
  }

  /** Stop reading for a while: about to block in I/O. The last reader wakes another, not earlier: at depth 1 nobody is woken. */
  pause(): void {
    if (Atomics.sub(this.#i32, READING, 1) === 1 && Atomics.load(this.#i32, SLEEPING) > 0) this.#wake(1);
  }

  /** Stop reading for good: the connection has ended, which the sleepers must see for themselves. */
  end(): void {
    Atomics.sub(this.#i32, READING, 1);
    this.#wake(Number.POSITIVE_INFINITY);
  }

  #wake(count: number): void {
    Atomics.add(this.#i32, WAKE, 1);
    Atomics.notify(this.#i32, WAKE, count);
  }
}
