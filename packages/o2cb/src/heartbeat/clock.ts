/** The clocks of a heartbeat thread. */
import os from 'node:os';
import { monotonicMs, wallMs } from '@lunfs/device';
import type { HeartbeatClock } from './beating.js';

export const systemClock: HeartbeatClock = {
  monotonic: monotonicMs,
  wall: wallMs,
  // CLOCK_BOOTTIME, in steps of 10 ms.
  boot: () => os.uptime() * 1000,
};
