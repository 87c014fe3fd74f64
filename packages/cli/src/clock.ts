/** The command line's clock: for progress and for the times in a fresh volume. */

/** Milliseconds that only go forward. */
export function monotonicMs(): number {
  return performance.now();
}

/** Seconds since 1970. */
export function wallSeconds(): number {
  return Math.floor(Date.now() / 1000);
}

/** Resolves after `ms` milliseconds. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}
