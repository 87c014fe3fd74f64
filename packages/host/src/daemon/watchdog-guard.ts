/**
 * The watchdog of this host as lunfsd has it, where one is configured: open while there is a region that must be renewed, closed (disarmed)
 * when there is none, for nobody would feed it then. What it is for and against is in docs/fencing.md.
 */
import * as fs from 'node:fs';
import { UsageError } from '@lunfs/device';
import { type Timeouts, Watchdog, type WatchdogPlace } from '@lunfs/o2cb';

export class WatchdogGuard {
  #watchdog: Watchdog | undefined;
  #places = 0;

  private constructor(readonly device: string) {}

  /** Looks at the device without opening it, which would arm it. Throws WATCHDOG_MISSING, WATCHDOG_NOWAYOUT, WATCHDOG_SLOW. */
  static of(device: string, { writeTimeoutMs, fenceMs }: Timeouts, log: (line: string) => void): WatchdogGuard {
    const stats = fs.statSync(device, { throwIfNoEntry: false });
    if (stats === undefined) throw new UsageError('WATCHDOG_MISSING', 'ENOENT', `the watchdog ${device} does not exist. Load its driver (softdog, if the host has none), or configure no watchdog`, { device });
    const sysfs = stats.isCharacterDevice() ? sysfsOf(device) : undefined;
    if (sysfs === undefined) {
      log(`${device} is no watchdog that this kernel tells of in /sys/class/watchdog: nothing may reset this host`);
      return new WatchdogGuard(device);
    }
    if (attribute(sysfs, 'nowayout') === '1') {
      throw new UsageError('WATCHDOG_NOWAYOUT', 'EINVAL', `the watchdog ${device} cannot be stopped (nowayout): it would reset this host after the last volume is unmounted. Load its driver with nowayout=0, or configure no watchdog`, { device });
    }
    const seconds = Number(attribute(sysfs, 'timeout'));
    if (Number.isFinite(seconds) && seconds * 1000 > writeTimeoutMs) {
      throw new UsageError('WATCHDOG_SLOW', 'EINVAL', `the watchdog ${device} barks after ${seconds} s, when the other nodes may have begun to recover this one (${writeTimeoutMs / 1000} s after its last beat). Set its timeout to that or less (softdog: soft_margin=), or raise O2CB_HEARTBEAT_THRESHOLD on all nodes`, { device, seconds });
    }
    if (seconds * 1000 < fenceMs) log(`the watchdog ${device} barks after ${seconds} s: before the I/O fence, which parks after ${fenceMs / 1000} s, has had its chance`);
    return new WatchdogGuard(device);
  }

  /** A region is about to beat. Throws WATCHDOG_OPEN. */
  enter(): WatchdogPlace {
    this.#watchdog ??= new Watchdog(this.device);
    const place = this.#watchdog.enter();
    this.#places++;
    return place;
  }

  /** See `Watchdog.leave`. */
  leave(place: WatchdogPlace): void {
    this.#watchdog?.leave(place);
    if (--this.#places > 0) return;
    this.#watchdog?.close();
    this.#watchdog = undefined;
  }
}

/** Where sysfs tells of a watchdog; /dev/watchdog is another name of the first. */
function sysfsOf(device: string): string | undefined {
  const name = fs.realpathSync(device).replace(/^\/dev\//, '');
  const directory = `/sys/class/watchdog/${name === 'watchdog' ? 'watchdog0' : name}`;
  return fs.existsSync(directory) ? directory : undefined;
}

function attribute(directory: string, name: string): string | undefined {
  try {
    return fs.readFileSync(`${directory}/${name}`, 'utf8').trim();
  } catch {
    return undefined; // not every driver tells
  }
}
