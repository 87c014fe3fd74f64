/** The clock and the one timer of the NBD server; everything else is told the time. */
import { performance } from 'node:perf_hooks';

// performance.now() counts from the start of its thread. hrtime is CLOCK_MONOTONIC itself, the same in all threads,
// but allocates per call: one pair of readings turns the former into the latter.
const [seconds, nanoseconds] = process.hrtime();
const origin = seconds * 1000 + nanoseconds / 1e6 - performance.now();

/** Milliseconds of CLOCK_MONOTONIC, comparable between threads: what a gate's deadline is compared with. */
export function monotonicMs(): number {
  return origin + performance.now();
}

/** Calls `then` once after `ms` milliseconds unless the returned function was called before. Keeps no process alive. */
export function after(ms: number, then: () => void): () => void {
  const timer = setTimeout(then, ms);
  timer.unref();
  return () => clearTimeout(timer);
}
