/**
 * A hook for programs under test: NODE_OPTIONS=--import=…/stand-still.mjs. SIGUSR2 makes the main thread stand still for six seconds: no event, no timer, no promise of it is
 * served, while all other threads go on. What it stood still for is told on stderr, in milliseconds of the monotonic clock.
 */
import fs from 'node:fs';
import { isMainThread } from 'node:worker_threads';

const STILL_MS = 6000;

if (isMainThread) {
  process.on('SIGUSR2', () => {
    const now = () => Number(process.hrtime.bigint() / 1_000_000n);
    const begun = now();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, STILL_MS);
    fs.writeSync(2, `stood still ${begun} ${now()}\n`);
  });
}
