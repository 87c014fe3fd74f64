/** The one timer of the NBD server; everything else is told the time. */

/** Calls `then` once after `ms` milliseconds unless the returned function was called before. Keeps no process alive. */
export function after(ms: number, then: () => void): () => void {
  const timer = setTimeout(then, ms);
  timer.unref();
  return () => clearTimeout(timer);
}
