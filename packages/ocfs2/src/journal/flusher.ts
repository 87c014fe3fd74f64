/**
 * Shares device flushes between everybody who needs one. A flush covers exactly the writes that had resolved when it
 * started (block-device.ts), so what matters is order: take a `mark` when your write has resolved; any flush that starts
 * later covers it. One flush runs at a time; all who ask while it runs share the next one.
 */
export class Flusher {
  #started = 0;
  #done = 0;
  #inFlight: Promise<void> | undefined;

  constructor(
    private readonly flush: () => Promise<void>,
    /** Called when a flush succeeded: marks below `done` are durable. */
    private readonly flushed: (done: number) => void,
  ) {}

  /** The present moment in the order of flushes. */
  mark(): number {
    return this.#started;
  }

  /** Everything that had resolved at `mark` is durable when this resolves; no flush is issued if one has covered it already. */
  async after(mark: number): Promise<void> {
    while (this.#done <= mark) await (this.#inFlight ??= this.#run());
  }

  async #run(): Promise<void> {
    // Start in a later microtask: whoever asks in this turn has resolved writes too and shares the flush.
    await Promise.resolve();
    const index = ++this.#started;
    try {
      await this.flush();
      this.#done = index;
    } finally {
      this.#inFlight = undefined;
    }
    this.flushed(index);
  }
}
