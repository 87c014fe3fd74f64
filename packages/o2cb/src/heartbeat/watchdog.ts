/**
 * The watchdog device of this host, where one is configured (`/dev/watchdog`): what resets a host that did not manage to stop its own I/O in
 * time. Opening it arms it. Feeding is done by the regions' threads and decided by `WatchdogFeed`; nothing else ever feeds it.
 */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { IoError } from '@lunfs/device';
import { WatchdogFeed } from './watchdog-feed.js';

/** A region on the watchdog's list, until it can do no more harm. */
export interface WatchdogPlace {
  readonly memory: SharedArrayBuffer;
  readonly place: number;
  readonly fd: number;
}

export class Watchdog {
  readonly #feed = new WatchdogFeed();
  readonly #fd: number;

  /** Throws WATCHDOG_OPEN. From now on the host is reset unless regions are renewed. */
  constructor(readonly path: string) {
    try {
      this.#fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    } catch (cause) {
      throw new IoError('WATCHDOG_OPEN', `the watchdog ${path} cannot be opened: ${(cause as Error).message}. Load its driver (softdog, if the host has none), or configure no watchdog`, { path }, cause);
    }
  }

  /** A region that is about to beat: the watchdog waits for it from now on. For `regionThread`. */
  enter(): WatchdogPlace {
    const place = this.#feed.add();
    if (place === undefined) throw new IoError('WATCHDOG_FULL', `${this.path}: too many heartbeat regions on one host`, { path: this.path }, undefined, 'ENFILE');
    return { memory: this.#feed.memory, place, fd: this.#fd };
  }

  /** The region was left in good order, or nothing that could write to its volume is alive any more. Not before. */
  leave({ place }: WatchdogPlace): void {
    this.#feed.remove(place);
  }

  /** Disarm it, if its driver allows that. When no region beats any more. */
  close(): void {
    writeSync(this.#fd, 'V');
    closeSync(this.#fd);
  }
}
