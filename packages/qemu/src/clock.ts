/** Timers and times of guests. */

/** Resolves after `ms` milliseconds. Keeps the process alive meanwhile. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

/** Calls `fn` once after `ms` milliseconds unless the returned function is called before. Keeps the process alive meanwhile. */
export function after(ms: number, fn: () => void): () => void {
  const timer = setTimeout(fn, ms);
  return () => clearTimeout(timer);
}

/** Milliseconds that only go forward. */
export function monotonicMs(): number {
  return performance.now();
}

/** Now, ISO 8601, UTC. */
export function timestamp(): string {
  return new Date().toISOString();
}
