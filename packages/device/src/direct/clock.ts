/** The clocks a fence compares with. Everything else is told the time. */
import { performance } from 'node:perf_hooks';

// performance.now() counts from the start of its thread. hrtime is CLOCK_MONOTONIC itself, the same in all threads and
// processes, but allocates per call: one pair of readings turns the former into the latter.
const [seconds, nanoseconds] = process.hrtime();
const origin = seconds * 1000 + nanoseconds / 1e6 - performance.now();

/** Milliseconds of CLOCK_MONOTONIC: comparable between the threads and processes of a host. Stands still while the host is suspended. */
export function monotonicMs(): number {
  return origin + performance.now();
}

/** Milliseconds of CLOCK_REALTIME: goes on in suspend, and jumps when somebody sets it. */
export function wallMs(): number {
  return Date.now();
}
