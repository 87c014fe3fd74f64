/** Work that a mount does now and then, one run of each chore at a time. */
import { LunfsError } from '@lunfs/device';
import type { Timers } from '../journal/index.js';

export class Chore {
  #cancel: (() => void) | undefined;
  #running: Promise<void> = Promise.resolve();
  #stopped = false;

  /** `every`: milliseconds from the end of one run to the begin of the next, asked each time. */
  constructor(private readonly timers: Timers, private readonly every: () => number, private readonly work: () => Promise<void>) {
    this.#schedule();
  }

  /** No run begins any more; resolves when the last one has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancel?.();
    await this.#running;
  }

  #schedule(): void {
    if (this.#stopped) return;
    this.#cancel = this.timers.after(this.every(), () => {
      this.#running = this.#run();
    });
  }

  /** A failure is not lost: the engine has told, and the work is still there next time. */
  async #run(): Promise<void> {
    try {
      await this.work();
    } catch (error) {
      if (!(error instanceof LunfsError)) throw error;
    }
    this.#schedule();
  }
}
