/**
 * Operations within locks that their caller holds: a request as a whole runs with a lock table of its own, in which those locks
 * are had at once. All else it takes as ever, and must rank after them.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { LockTable } from './lock-session.js';

export class Within {
  /** The request has ended: what it has left behind (timers, late work) takes its locks as everybody. */
  #over = false;

  constructor(readonly locks: LockTable) {}

  async run<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await current.run(this, work);
    } finally {
      this.#over = true;
    }
  }

  /** Around the operation under way, if there is one. */
  static get current(): Within | undefined {
    const store = current.getStore();
    return store === undefined || store.#over ? undefined : store;
  }
}

const current = new AsyncLocalStorage<Within>();
