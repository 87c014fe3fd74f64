/** Waiting for what a test has no event for. */

export interface UntilOptions {
  /** Default 500. */
  readonly everyMs?: number;
  /** Default five minutes. */
  readonly withinMs?: number;
}

/** Resolves when `test`, asked again and again, says so. Rejects when it has not for `withinMs`, with what `logs` tells. */
export async function until(what: string, test: () => boolean | Promise<boolean>, logs: () => string = () => '', { everyMs = 500, withinMs = 300_000 }: UntilOptions = {}): Promise<void> {
  for (const end = performance.now() + withinMs; ; ) {
    if (await test()) return;
    if (performance.now() > end) throw new Error(`not within ${withinMs / 1000} s: ${what}\n${logs()}`.trimEnd());
    await new Promise((resolve) => { setTimeout(resolve, everyMs); });
  }
}
