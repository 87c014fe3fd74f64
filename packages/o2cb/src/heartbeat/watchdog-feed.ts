/**
 * When the watchdog of a host is fed: each time all regions that beat have been renewed since the last time, and never otherwise. So it
 * resets a host whose I/O fence did not do its work (a volume process that cannot be killed): a region that is given up in good order is
 * taken off the list. Shared by the regions' threads, so no event loop is between a good beat and the feeding.
 */

/** Regions that may beat at once. */
const PLACES = 256;

const FREE = 0;
const WAITING = 1;
const RENEWED = 2;

export class WatchdogFeed {
  readonly memory: SharedArrayBuffer;
  readonly #places: Int32Array;

  constructor(memory?: SharedArrayBuffer) {
    this.memory = memory ?? new SharedArrayBuffer(4 * PLACES);
    this.#places = new Int32Array(this.memory);
  }

  /** A place for a region that must be renewed from now on. Undefined: all are taken. */
  add(): number | undefined {
    for (let place = 0; place < PLACES; place++) if (Atomics.compareExchange(this.#places, place, FREE, WAITING) === FREE) return place;
    return undefined;
  }

  remove(place: number): void {
    Atomics.store(this.#places, place, FREE);
  }

  /** A region was renewed. True: it was the last that was waited for, feed. */
  renewed(place: number): boolean {
    Atomics.compareExchange(this.#places, place, WAITING, RENEWED);
    for (let i = 0; i < PLACES; i++) if (Atomics.load(this.#places, i) === WAITING) return false;
    for (let i = 0; i < PLACES; i++) Atomics.compareExchange(this.#places, i, RENEWED, WAITING);
    return true;
  }
}
