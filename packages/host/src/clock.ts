/** Timers and times of the host's programs. */

/** Calls `fn` every `ms` milliseconds until the returned function is called. `keep`: a thread with nothing else to do goes on for it. */
export function every(ms: number, fn: () => void, keep = false): () => void {
  const timer = setInterval(fn, ms);
  if (!keep) timer.unref();
  return () => clearInterval(timer);
}

/** Resolves after `ms` milliseconds. Keeps the process alive meanwhile. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

/** Now, for a log: ISO 8601, UTC. */
export function timestamp(): string {
  return new Date().toISOString();
}
