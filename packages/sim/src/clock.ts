/** The one place that touches the real event loop. */

/**
 * Resolves when every continuation of settled promises, and of continuations of these, has run: both queues are empty before the event
 * loop comes to what was asked for by setImmediate. Nothing else is on the loop of a simulation.
 */
export function settled(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** Whether so many minutes have passed since the call. */
export function minutesFromNow(minutes: number): () => boolean {
  const end = performance.now() + minutes * 60_000;
  return () => performance.now() >= end;
}
