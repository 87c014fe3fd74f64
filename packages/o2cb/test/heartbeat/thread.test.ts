/** The heartbeat's thread on a file with O_DIRECT, from the built package: what it writes, how it ends, what cannot hold it up. */
import * as fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { monotonicMs } from '@lunfs/device';
import { Heartbeat, type Loss, NodeMap, REGION_BLOCKS, Watchdog, type WatchdogPlace, checksumGood, decodeBlock, encodeBlock, hostScheduler, regionThread, timeoutsOf } from '@lunfs/o2cb';
import { afterAll, beforeAll, expect, it } from 'vitest';

const directory = fs.mkdtempSync(path.join(process.env.LUNFS_TEST_DIR ?? os.tmpdir(), 'lunfs-beat-'));
afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));

const NAME = 'A'.repeat(32);
const OFFSET = 8192;

function region(name: string, blockBytes = 512): { file: string; slot: (n: number) => Buffer; put: (n: number, seq: bigint, generation: bigint) => void } {
  const file = path.join(directory, name);
  fs.writeFileSync(file, new Uint8Array(OFFSET + REGION_BLOCKS * blockBytes + 4096));
  return {
    file,
    slot: (n) => fs.readFileSync(file).subarray(OFFSET + n * blockBytes, OFFSET + (n + 1) * blockBytes),
    put: (n, seq, generation) => {
      const fd = fs.openSync(file, 'r+');
      fs.writeSync(fd, encodeBlock({ seq, node: n, generation, deadMs: 62_000 }, blockBytes), 0, blockBytes, OFFSET + n * blockBytes);
      fs.closeSync(fd);
    },
  };
}

function heartbeatOf(node: number) {
  const losses: Loss[] = [];
  const warnings: string[] = [];
  const heartbeat = new Heartbeat({
    node, mode: 'local', timeouts: timeoutsOf(), configured: new NodeMap([0, 1, 2, 8]), scheduler: hostScheduler, random: () => 0x1234_5678_9abc_def0n,
    renewed: () => undefined, lost: (loss) => void losses.push(loss), warning: (_, text) => void warnings.push(text),
  });
  const start = (file: string, blockBytes = 512, watchdog?: WatchdogPlace) =>
    new Promise<void>((resolve, reject) => {
      // The thread alone keeps no process alive.
      const alive = setInterval(() => undefined, 1000);
      heartbeat.start(NAME, regionThread({ device: file, offset: OFFSET, blockBytes }, watchdog), (error) => {
        clearInterval(alive);
        if (error) reject(error);
        else resolve();
      });
    });
  const stop = () => new Promise<void>((resolve) => heartbeat.stop(NAME, resolve));
  return { heartbeat, start, stop, losses, warnings };
}

// All begin at once: it takes some beats until a region is steady.
const small = region('blocked');
const before = fs.readFileSync(small.file);
const bone = path.join(directory, 'watchdog');
fs.writeFileSync(bone, '');
const watchdog = new Watchdog(bone);
const place = watchdog.enter();
const one = heartbeatOf(1);
const large = region('large', 4096);
const two = heartbeatOf(2);
const taken = region('taken');
taken.put(1, 50n, 7n);
const refused = heartbeatOf(1);
let others: ReturnType<typeof setInterval>;

beforeAll(async () => {
  let seq = 100n;
  others = setInterval(() => {
    large.put(0, seq, 9n);
    taken.put(1, seq++, 7n);
  }, 500);
  await Promise.all([
    one.start(small.file, 512, place), two.start(large.file, 4096), expect(refused.start(taken.file)).rejects.toMatchObject({ code: 'HEARTBEAT_SLOT_TAKEN' }),
  ]);
}, 90_000);
afterAll(() => clearInterval(others));

it('beats on while the main thread is blocked, feeds the watchdog, and says goodbye', { timeout: 60_000 }, async () => {
  const { heartbeat, stop, losses, warnings } = one;
  const { slot, put, file } = small;
  expect([...heartbeat.membership.live]).toEqual([1]);
  expect(decodeBlock(slot(1))).toMatchObject({ node: 1, generation: 0x1234_5678_9abc_def0n, deadMs: 62_000 });
  const granted = heartbeat.grant(NAME)!;
  expect(granted.monotonic - monotonicMs()).toBeGreaterThan(20_000);
  const fed = fs.readFileSync(bone).length;

  const until = monotonicMs() + 6_500;
  const seen = new Set<bigint>();
  // What a hook that blocks the main loop would do: nothing of this thread runs.
  let seq = 100n;
  while (monotonicMs() < until) {
    const beat = decodeBlock(slot(1)).seq;
    // Meanwhile somebody comes, in a page of his own: what is cached of ours is not written over the next beat.
    if (!seen.has(beat)) put(8, seq++, 9n);
    seen.add(beat);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
  }
  expect(seen.size).toBeGreaterThanOrEqual(3);
  // Seen by this thread before any of its events: the deadline is in shared memory.
  expect(heartbeat.grant(NAME)!.monotonic).toBeGreaterThan(granted.monotonic + 3_000);
  expect(fs.readFileSync(bone).length).toBeGreaterThan(fed);
  // That he has come waits among the events, and is taken in before what others say is heeded.
  expect([...heartbeat.membership.live]).toEqual([1]);
  heartbeat.catchUp();
  expect([...heartbeat.membership.live]).toEqual([1, 8]);

  await stop();
  watchdog.leave(place);
  watchdog.close();
  expect(fs.readFileSync(bone).at(-1)).toBe('V'.charCodeAt(0));
  expect([decodeBlock(slot(1)).generation, checksumGood(slot(1)), heartbeat.grant(NAME), losses, warnings]).toEqual([0n, true, undefined, [], []]);
  // Nothing else was written.
  const after = fs.readFileSync(file);
  for (const at of [OFFSET + 512, OFFSET + 8 * 512]) before.copy(after, at, at, at + 512);
  expect(after.equals(before)).toBe(true);
});

it('uses sectors of 4096 bytes, sees others, and ends without a goodbye when it is given up', { timeout: 60_000 }, async () => {
  const { heartbeat, losses } = two;
  const { slot } = large;
  expect([...heartbeat.membership.live]).toEqual([0, 2]);
  expect([slot(2).length, checksumGood(slot(2))]).toEqual([4096, true]);
  heartbeat.giveUp('because');
  expect([losses, heartbeat.grant(NAME), heartbeat.lost]).toEqual([[{ regions: [NAME], node: true, reason: 'because' }], undefined, true]);
  await sleep(500);
  const last = slot(2);
  await sleep(2_500);
  expect(slot(2).equals(last)).toBe(true);
  expect(decodeBlock(last).generation).not.toBe(0n);
});

it('wrote nothing where somebody beats, and refuses a device that is none or too small', { timeout: 60_000 }, async () => {
  const { slot, file } = taken;
  expect(decodeBlock(slot(1)).generation).toBe(7n);
  await expect(refused.start(path.join(directory, 'none'))).rejects.toMatchObject({ code: 'HEARTBEAT_FAILED', message: expect.stringContaining('ENOENT') as string });
  clearInterval(others);
  fs.truncateSync(file, OFFSET + 512);
  await expect(refused.start(file)).rejects.toMatchObject({ code: 'HEARTBEAT_FAILED' });
});
