/**
 * One word of shared memory between a data worker and the main thread, for the moments in which the worker blocks in a
 * read of its socket and hears no message.
 *
 * RUNNING: the worker will see messages, or the word, before it blocks. WAITING: it blocks, or is about to. STOP: the
 * main thread wants the end. Whoever changes the word learns the state before: main, when it finds WAITING, wakes the
 * worker by a shutdown of the socket; the worker, when it finds STOP, begins nothing more.
 */
const RUNNING = 0;
const WAITING = 1;
const STOP = 2;

export class Control {
  readonly #word: Int32Array;

  constructor(memory: SharedArrayBuffer) {
    this.#word = new Int32Array(memory);
  }

  /** Worker, before a blocking read. False: do not. */
  beginWait(): boolean {
    return Atomics.compareExchange(this.#word, 0, RUNNING, WAITING) === RUNNING;
  }

  /** Worker, after it. False: main wants the end, and what was read is not served. */
  endWait(): boolean {
    return Atomics.compareExchange(this.#word, 0, WAITING, RUNNING) === WAITING;
  }

  /** Main: ask for the end. True: the worker is blocked in a read and hears nothing else. */
  stop(): boolean {
    return Atomics.exchange(this.#word, 0, STOP) === WAITING;
  }
}
