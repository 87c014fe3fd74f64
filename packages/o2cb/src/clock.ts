/** The clock of a host, for drivers; cores are given a Scheduler. */
import type { Scheduler } from './ports.js';

/** Milliseconds of the monotonic clock, which stands still while the host is suspended. Timers keep the process alive. */
export const hostScheduler: Scheduler = {
  now: () => performance.now(),
  after(ms, fn) {
    const timer = setTimeout(fn, ms);
    return () => clearTimeout(timer);
  },
};
