/** Times and timers of the control plane. Times in the database are ISO 8601 in UTC, to the millisecond: they sort as text. */

export function nowMs(): number {
  return Date.now();
}

/** Now, or so many milliseconds from now. */
export function timestamp(offsetMs = 0): string {
  return new Date(Date.now() + offsetMs).toISOString();
}

export function monotonicMs(): number {
  return performance.now();
}

/** Resolves after `ms` milliseconds, or as soon as the signal says so. Does not keep the process alive. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const timer = setTimeout(done, ms);
    timer.unref();
    signal?.addEventListener('abort', done, { once: true });
    function done(): void {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    }
  });
}

/** Calls `fn` every `ms` milliseconds until the returned function is called. Does not keep the process alive. */
export function every(ms: number, fn: () => void): () => void {
  const timer = setInterval(fn, ms);
  timer.unref();
  return () => clearInterval(timer);
}
