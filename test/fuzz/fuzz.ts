/**
 * Runs cases: a share of them per process, with the number of each that failed. A worker looks after this thread: a case that
 * never comes back is named and ends the process.
 *
 * LUNFS_FUZZ_CASES, LUNFS_FUZZ_SEED and LUNFS_FUZZ_CASE are what `npm run fuzz -- --cases N --seed S --case K` sets.
 */
import { writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { CaseFailed, type Target, makeCase, prepare, runCase } from './run-case.js';
import { Schedule } from './schedule.js';
import { fuzzVolumes } from './volumes.js';

export const CASES = Number(process.env.LUNFS_FUZZ_CASES ?? 100_000);
export const SEED = Number(process.env.LUNFS_FUZZ_SEED ?? 1);
/** The one case to run. */
export const ONLY = process.env.LUNFS_FUZZ_CASE === undefined ? undefined : Number(process.env.LUNFS_FUZZ_CASE);

/** Failures told before a share gives up. */
const MOST_TOLD = 20;
/** Seconds after which a case is taken to hang: some ten thousand times what one takes. */
const HANGS_AFTER = 120;
/** Cases between two lines of progress. */
const TELL_EVERY = 25_000;

const WATCHDOG = `
  const { workerData } = require('node:worker_threads');
  const at = new Int32Array(workerData.memory);
  let last = -1, since = 0;
  setInterval(() => {
    const now = Atomics.load(at, 0);
    since = now === last ? since + 1 : 0;
    last = now;
    if (since < workerData.seconds || now < 0) return;
    require('node:fs').writeSync(2, 'fuzz: case ' + now + ' of seed ' + workerData.seed + ' hangs: npm run fuzz -- --seed ' + workerData.seed + ' --case ' + now + '\\n');
    process.kill(process.pid, 'SIGKILL');
  }, 1000);
`;

/** Run share `index` of `shares`. Gives a line for each case that failed. */
export async function runShare(index: number, shares: number): Promise<string[]> {
  const targets: Target[] = [];
  for (const volume of await fuzzVolumes()) targets.push(await prepare(volume));
  const schedule = new Schedule(targets.map(({ catalogue, volume }) => ({ catalogue, metaecc: volume.metaecc })));
  const memory = new SharedArrayBuffer(4);
  const at = new Int32Array(memory).fill(-1);
  const watchdog = new Worker(WATCHDOG, { eval: true, workerData: { memory, seed: SEED, seconds: HANGS_AFTER } });
  const failed: string[] = [];
  let current = -1;
  const stray = (error: unknown): void => {
    failed.push(`case ${current} or one before: a rejection that nobody handled: ${error instanceof Error ? error.stack : String(error)}`);
  };
  process.on('unhandledRejection', stray);
  try {
    for (let number = ONLY ?? index; number < (ONLY === undefined ? CASES : ONLY + 1) && failed.length < MOST_TOLD; number += shares) {
      current = number;
      Atomics.store(at, 0, number);
      const one = makeCase(targets, schedule, SEED, number);
      if (ONLY !== undefined) console.log(`case ${number}: ${one.text}`);
      try {
        await runCase(one);
      } catch (error) {
        if (!(error instanceof CaseFailed)) throw error;
        const told = `case ${number} (npm run fuzz -- --seed ${SEED} --case ${number}): ${one.text}\n  ${error.message}`;
        failed.push(told);
        // At once: a later case may hang and end this process.
        writeSync(2, `fuzz: ${told}\n`);
      }
      if (number > index && (number - index) % (TELL_EVERY * shares) === 0) console.log(`fuzz, share ${index + 1} of ${shares}: ${number} of ${CASES} cases, seed ${SEED}`);
    }
    await new Promise((resolve) => setImmediate(resolve));
  } finally {
    process.off('unhandledRejection', stray);
    Atomics.store(at, 0, -1);
    await watchdog.terminate();
  }
  return failed;
}
