/**
 * The threads of a simulated program, and SIGSTOP and SIGCONT: all of them stop at once, and go on in no particular order. A stop may catch a
 * thread at the worst place, right before a system call, with everything asked that was to be asked.
 */
import type { Random } from '@lunfs/device';
import type { VirtualTime } from './time.js';

/** Threads of a program that goes on get the processor within so many milliseconds. */
const WAKE_MS = 1;

/** What it does happens in order; while it is stopped nothing does. */
export class Thread {
  #stopped = false;
  readonly #waiting: (() => void)[] = [];

  constructor(private readonly time: VirtualTime) {}

  /** Do it now, or when the thread gets to it. */
  run(fn: () => void): void {
    if (this.#stopped || this.#waiting.length > 0) this.#waiting.push(fn);
    else fn();
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Goes on after `ms`. */
  go(ms: number): void {
    this.#stopped = false;
    this.time.after(ms, () => this.#next());
  }

  #next(): void {
    if (this.#stopped) return;
    const [fn] = this.#waiting;
    if (fn === undefined) return;
    fn();
    this.#waiting.shift();
    this.time.after(0, () => this.#next());
  }
}

export class Threads {
  readonly main: Thread;
  readonly #all: Thread[] = [];
  #stopped = false;
  /** Told when the next system call is caught; undefined: none is to be. */
  #catches: (() => void) | undefined;

  constructor(private readonly time: VirtualTime) {
    this.main = this.add();
  }

  /** Another thread of the program; none is added while it is stopped. */
  add(): Thread {
    const thread = new Thread(this.time);
    this.#all.push(thread);
    return thread;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  /** SIGSTOP. `caught`: it comes when a thread is about to make its next system call; `then` is called then. */
  stop(caught: boolean, then: () => void = () => undefined): void {
    if (this.#stopped) return;
    this.#catches = caught ? then : undefined;
    if (!caught) this.#halt();
  }

  /** SIGCONT. */
  go(random: Random): void {
    this.#catches = undefined;
    if (!this.#stopped) return;
    this.#stopped = false;
    for (const thread of this.#all) thread.go(random.float() * WAKE_MS);
  }

  /** What `thread` does next is a system call that nothing stands before any more. */
  call(thread: Thread, fn: () => void): void {
    const then = this.#catches;
    if (then !== undefined) {
      this.#catches = undefined;
      this.#halt();
      then();
    }
    thread.run(fn);
  }

  #halt(): void {
    this.#stopped = true;
    for (const thread of this.#all) thread.stop();
  }
}
