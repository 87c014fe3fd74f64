/**
 * The process's monotonic clock in milliseconds: the same value in every thread (a worker's own performance.now() starts at
 * the worker's start), which is what a Gate's deadline is compared with.
 */
const base = Number(process.hrtime.bigint()) / 1e6 - performance.now();

export function monotonic(): number {
  return performance.now() + base;
}

/** Resolves true after `ms`; false at once when `signal` aborts. Does not keep the process alive. */
export function delay(ms: number, signal?: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve(false);
    const timer = setTimeout(() => resolve(true), ms);
    timer.unref();
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve(false);
    }, { once: true });
  });
}
