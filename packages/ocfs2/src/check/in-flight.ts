/** Work that waits for the device, many at a time: a bounded number under way, first error kept, order of starting kept. */

export class InFlight {
  readonly #running = new Set<Promise<void>>();
  #failed: { error: unknown } | undefined;

  constructor(private readonly max: number) {}

  /** Start `work`; resolves as soon as there is room for more. Throws what an earlier one failed with. */
  async add(work: () => Promise<void>): Promise<void> {
    const one: Promise<void> = work().catch((error: unknown) => {
      this.#failed ??= { error };
    }).finally(() => this.#running.delete(one));
    this.#running.add(one);
    while (this.#running.size >= this.max) await Promise.race(this.#running);
    this.#check();
  }

  /** All of it has ended. */
  async done(): Promise<void> {
    await Promise.all(this.#running);
    this.#check();
  }

  #check(): void {
    if (this.#failed !== undefined) throw this.#failed.error;
  }
}

/** What `load` gives for each item, in order, with up to `depth` loads under way ahead of the one being used. */
export async function* ahead<T, R>(items: Iterable<T> | AsyncIterable<T>, depth: number, load: (item: T) => Promise<R>): AsyncGenerator<{ item: T; loaded: Promise<R> }> {
  const queue: { item: T; loaded: Promise<R> }[] = [];
  for await (const item of items) {
    const loaded = load(item);
    // Whoever consumes it sees the error; until then it is not unhandled.
    loaded.catch(() => undefined);
    queue.push({ item, loaded });
    if (queue.length > depth) yield queue.shift()!;
  }
  yield* queue;
}
