/** The clock of this package: how long a rescan waits. */

/** Milliseconds that only go forward. */
export function monotonicMs(): number {
  return performance.now();
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, ms));
}
