/**
 * What the kernel's threads are here: tasks, generators that say what they wait for and are resumed by it. All of one domain run in one
 * loop. A task runs undisturbed from one wait to the next, so what the kernel does under spinlocks needs none here.
 *
 * Nothing is resumed in the middle of something else: who wakes a task only makes it ready, and ready tasks run, in that order, when the
 * event at hand (message, timer, call) has been dealt with. Statuses of handled messages are on their way by then (cluster-protocols.md
 * 4.5: a handler is a local transition and its status; what follows from it comes later).
 */
import type { Scheduler } from '../ports.js';

/** Called with what resumes the task; that is harmless when it comes again. */
type Wait = (resume: () => void) => void;
export type Task<T = void> = Generator<Wait, T, void>;

export class Loop {
  readonly #ready: (() => void)[] = [];
  #running = false;
  #stopped = false;

  /** `idle` runs when nothing is ready, after each event; it may make tasks ready. `failed` gets what a task or handler threw. */
  constructor(readonly scheduler: Scheduler, private readonly idle: () => void, private readonly failed: (error: unknown) => void) {}

  get stopped(): boolean {
    return this.#stopped;
  }

  /** Nothing runs from here on. */
  stop(): void {
    this.#stopped = true;
    this.#ready.length = 0;
  }

  /** Deal with an event, and then with all that follows from it. */
  enter(event: () => void): void {
    if (this.#stopped) return;
    if (this.#running) {
      this.#ready.push(event);
      return;
    }
    this.#running = true;
    try {
      event();
      do {
        for (let next = this.#ready.shift(); next !== undefined && !this.#stopped; next = this.#ready.shift()) next();
        if (!this.#stopped) this.idle();
      } while (this.#ready.length > 0 && !this.#stopped);
    } catch (error) {
      this.stop();
      this.failed(error);
    } finally {
      this.#running = false;
    }
  }

  /** Run later in this event. */
  defer(fn: () => void): void {
    if (this.#running) this.#ready.push(fn);
    else this.enter(fn);
  }

  spawn(task: Task<unknown>): void {
    const step = () => {
      const next = task.next();
      if (next.done) return;
      let waiting = true;
      next.value(() => {
        if (!waiting) return;
        waiting = false;
        this.defer(step);
      });
    };
    this.defer(step);
  }

  after(ms: number, fn: () => void): () => void {
    return this.scheduler.after(ms, () => this.enter(fn));
  }

  *sleep(ms: number): Task {
    yield (resume) => this.after(ms, resume);
  }

  /** Waits until `condition` holds, looking at it whenever `queue` is woken; false if `timeout` milliseconds have gone by instead. */
  *until(queue: WaitQueue, condition: () => boolean, timeout?: number): Task<boolean> {
    if (condition()) return true;
    let late = false;
    let wake: (() => void) | undefined;
    const cancel = timeout === undefined ? undefined : this.after(timeout, () => {
      late = true;
      wake?.();
    });
    while (!late) {
      yield (resume) => {
        wake = queue.add(resume);
      };
      if (condition()) {
        cancel?.();
        return true;
      }
    }
    return condition();
  }
}

/** Tasks that wait for a change of something. */
export class WaitQueue {
  #waiting: Set<() => void> | undefined;

  /** Returns what wakes this one alone. */
  add(resume: () => void): () => void {
    const entry = () => {
      this.#waiting?.delete(entry);
      resume();
    };
    (this.#waiting ??= new Set()).add(entry);
    return entry;
  }

  wake(): void {
    if (this.#waiting !== undefined) for (const entry of [...this.#waiting]) entry();
  }
}
