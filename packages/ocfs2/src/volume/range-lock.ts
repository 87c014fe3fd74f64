/**
 * Byte-range locks of one file inside this process. Cluster locks do not conflict within a node, so these keep the mount,
 * the exports and our own copies of one file coherent: a writer holds its range from before the mapping is looked up
 * until its data is on the device, a reader its own range shared.
 *
 * Strictly first come, first served: a request waits for every earlier one that conflicts, granted or not, so nobody
 * starves. Nobody may ask for a second range while holding one.
 */
interface Entry {
  readonly from: number;
  to: number;
  readonly exclusive: boolean;
  readonly done: Promise<void>;
}

/** Releases a locked range. */
export interface Release {
  (): void;
  /** Lock no more than up to byte `to` from now on. Requests that wait already go on waiting for all of it. */
  shrink(to: number): void;
}

export class RangeLock {
  readonly #entries = new Set<Entry>();

  /** Lock [from, to) (bytes; `to` may be Infinity). Resolves to the function that releases it. */
  async lock(from: number, to: number, exclusive: boolean): Promise<Release> {
    const earlier: Promise<void>[] = [];
    for (const e of this.#entries) if (e.from < to && from < e.to && (exclusive || e.exclusive)) earlier.push(e.done);
    let finish!: () => void;
    const entry: Entry = { from, to, exclusive, done: new Promise((resolve) => (finish = resolve)) };
    this.#entries.add(entry);
    if (earlier.length > 0) await Promise.all(earlier);
    const release = () => {
      this.#entries.delete(entry);
      finish();
    };
    release.shrink = (end: number) => void (entry.to = Math.min(entry.to, end));
    return release;
  }
}
