/** The real clock and timers (docs/design.md, rule 5: only modules of this name may read or set one). */
import type { Timers } from '../journal/index.js';
import type { Clock } from '../txn/index.js';

export const systemClock: Clock = {
  now() {
    const ms = performance.timeOrigin + performance.now();
    const sec = Math.floor(ms / 1000);
    return { sec, nsec: Math.floor((ms - sec * 1000) * 1e6) };
  },
  monotonic: () => performance.now(),
};

export const systemTimers: Timers = {
  after(ms, fn) {
    const timer = setTimeout(fn, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** Resolves after `ms` milliseconds. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}
