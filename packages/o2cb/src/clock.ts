/** The clock of a host, for drivers; cores are given a Scheduler. */
import { monotonicMs } from '@lunfs/device';
import type { Scheduler } from './ports.js';

/** Milliseconds of CLOCK_MONOTONIC, the same in all threads and processes; it stands still while the host is suspended. Timers keep the process alive. */
export const hostScheduler: Scheduler = {
  now: monotonicMs,
  after(ms, fn) {
    const timer = setTimeout(fn, ms);
    return () => clearTimeout(timer);
  },
};
