import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { Fence, Gate, monotonicMs, openDevice, openIoWorkerDevice, wallMs } from '@lunfs/device';
import { describe, expect, it } from 'vitest';

const FOR_EVER = Number.POSITIVE_INFINITY;
const pause = (ms: number): Promise<void> => new Promise((resolve) => { setTimeout(resolve, ms); });

/** Has the promise settled by now? */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  return Promise.race([promise.then(() => true), pause(30).then(() => false)]);
}

describe('Fence', () => {
  it('is shut past either clock, and at first', () => {
    const now = { mono: 1000, wall: 5_000_000 };
    const fence = new Fence(undefined, undefined, { monotonic: () => now.mono, wall: () => now.wall });
    expect(fence.shut()).toBe(true);
    fence.setDeadline(1100, 5_000_100);
    expect(fence.shut()).toBe(false);
    expect(fence.shut(1100)).toBe(true);
    now.wall = 5_600_000; // the host was suspended: its monotonic clock stood still
    expect(fence.shut()).toBe(true);
    fence.setDeadline(1100, 5_600_100);
    expect(fence.shut()).toBe(false);
    now.wall = 0; // set back: no reason to stop, and none to go on for longer
    expect(fence.shut()).toBe(false);
    now.mono = 1100;
    expect(fence.shut()).toBe(true);
  });

  it('stays shut once revoked, whatever is set later', () => {
    const fence = new Fence(undefined, FOR_EVER);
    expect(fence.shut()).toBe(false);
    fence.revoke();
    fence.setDeadline(FOR_EVER, FOR_EVER);
    expect(fence.shut()).toBe(true);
    expect(new Fence(fence.memory).revoked).toBe(true);
  });

  it('lets a waiting thread and a waiting promise go on at the next deadline', async () => {
    const fence = new Fence();
    const thread = new Worker(`const { workerData } = require('node:worker_threads'); import(workerData.built).then(({ Fence }) => new Fence(workerData.memory).pass());`, {
      eval: true, workerData: { built: import.meta.resolve('@lunfs/device'), memory: fence.memory },
    });
    const ended = once(thread, 'exit');
    const opened = fence.opened();
    expect(await settled(opened)).toBe(false);
    fence.setDeadline(monotonicMs() - 1, FOR_EVER); // later than before, but past: still shut
    expect(await settled(Promise.race([opened, ended]))).toBe(false);
    fence.setDeadline(monotonicMs() + 60_000, wallMs() + 60_000);
    await Promise.all([opened, ended]);
  });
});

describe('what asks the fence', () => {
  const withImage = async (work: (image: string) => Promise<void>): Promise<void> => {
    const dir = mkdtempSync(path.join(tmpdir(), 'lunfs-fence-'));
    try {
      writeFileSync(path.join(dir, 'image'), new Uint8Array(1 << 20));
      await work(path.join(dir, 'image'));
    } finally {
      rmSync(dir, { recursive: true });
    }
  };
  const firstByte = (image: string): number => readFileSync(image)[0];
  const open = { openDevice, openIoWorkerDevice };

  it.each(['openDevice', 'openIoWorkerDevice'] as const)('%s: requests wait in their order, none fails, and none is done meanwhile', (how) => withImage(async (image) => {
    const fence = new Fence(undefined, FOR_EVER);
    const device = await open[how](image, { write: true, fence });
    expect(device.canDiscard).toBe(false);
    await device.write(0, new Uint8Array(4096).fill(1));
    fence.setDeadline(monotonicMs(), FOR_EVER);
    const read = new Uint8Array(4096);
    const parked = [device.write(0, new Uint8Array(4096).fill(2)), device.flush(), device.read(0, read), device.writeZeroes(8192, 8 << 10)];
    expect(await settled(Promise.race(parked))).toBe(false);
    expect(firstByte(image)).toBe(1);
    fence.setDeadline(FOR_EVER, FOR_EVER);
    await Promise.all(parked);
    expect(firstByte(image)).toBe(2);
    await device.close();
  }));

  it('a gate under it', () => {
    const fence = new Fence(undefined, FOR_EVER);
    const gate = Gate.under(fence);
    const worker = new Gate(gate.memory);
    expect(worker.enter(0, monotonicMs(), false)).toBe(true);
    worker.leave();
    fence.revoke();
    expect(worker.enter(0, monotonicMs(), false)).toBe(false);
  });
});
