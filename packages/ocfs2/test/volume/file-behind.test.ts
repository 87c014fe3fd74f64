/** Writes that are answered before their data is on the device: what may be seen of them before, and what waits for them. */
import { describe, expect, test } from 'vitest';
import type { MemoryDevice } from '@lunfs/device';
import type { FsContext } from '../../src/context.js';
import { MOST_BEHIND } from '../../src/volume/file-write.js';
import { readFile, truncateFile, writeFile } from '../../src/volume/index.js';
import { openTestContext } from '../support/context.js';
import { makeFile } from '../support/files.js';
import { HOSTILE } from '../support/locks.js';
import { GEOMETRIES, expectFsckClean, makeVolume } from '../support/volume.js';

const BEHIND = { behind: true };
const PIECE = 65536;
const FILL = 0x5a;

/** A device that keeps data of the test's pattern back until it is let go, or fails it. */
function holdData(device: MemoryDevice): { held: number; release(error?: Error): void } {
  const write = device.write.bind(device);
  const waiting: ((error?: Error) => void)[] = [];
  let open = false;
  const gate = { held: 0, release(error?: Error) { open = error === undefined; for (const one of waiting.splice(0)) one(error); } };
  device.write = async (offset, from) => {
    if (!open && from.every((byte) => byte === FILL)) {
      gate.held++;
      await new Promise<void>((resolve, reject) => waiting.push((error) => (error === undefined ? resolve() : reject(error))));
    }
    await write(offset, from);
  };
  return gate;
}

/** Has it settled after everything that can go on has? */
async function isDone(work: Promise<unknown>): Promise<boolean> {
  let done = false;
  work.then(() => (done = true), () => (done = true));
  await new Promise((resolve) => setTimeout(resolve, 50));
  return done;
}

async function open(index: number): Promise<{ device: MemoryDevice; ctx: FsContext; ino: number }> {
  const device = await makeVolume(GEOMETRIES[index]);
  const ctx = await openTestContext(device, { journal: true, hostile: false });
  const ino = await makeFile(ctx, 'file');
  await ctx.engine.log.flush();
  return { device, ctx, ino };
}

const data = (length: number) => new Uint8Array(length).fill(FILL);

// (A hostile Dlm takes the lock away between two writes, and waits for the data before.)
describe.runIf(!HOSTILE).each([0, 1, 3])('writes behind their answer, geometry %i', { timeout: 60_000 }, (index) => {
  test('nobody sees or commits what is not there yet', async () => {
    const { device, ctx, ino } = await open(index);
    const gate = holdData(device);
    await writeFile(ctx, ino, 0, data(PIECE), BEHIND);
    // The next one goes on beside it.
    const second = writeFile(ctx, ino, PIECE, data(PIECE), BEHIND);
    expect(await isDone(second)).toBe(true);
    expect(gate.held).toBe(2);
    const into = new Uint8Array(PIECE);
    const reading = readFile(ctx, ino, 0, into), committing = ctx.engine.log.commit(), cutting = truncateFile(ctx, ino, PIECE / 2);
    expect(await isDone(reading)).toBe(false);
    expect(await isDone(committing)).toBe(false);
    expect(await isDone(cutting)).toBe(false);
    gate.release();
    await Promise.all([reading, committing, cutting]);
    expect(into.every((byte) => byte === FILL)).toBe(true);
    await ctx.engine.log.flush();
    const again = await openTestContext(device, { journal: true, hostile: false });
    expect(await readFile(again, ino, 0, into)).toBe(PIECE / 2);
    expect(into.subarray(0, PIECE / 2).every((byte) => byte === FILL)).toBe(true);
    await expectFsckClean(device);
  });

  test('the writer may use its memory again', async () => {
    const { device, ctx, ino } = await open(index);
    const gate = holdData(device);
    const from = data(PIECE);
    await writeFile(ctx, ino, 0, from, BEHIND);
    from.fill(1);
    gate.release();
    const into = new Uint8Array(PIECE);
    await readFile(ctx, ino, 0, into);
    expect(into.every((byte) => byte === FILL)).toBe(true);
  });

  test('a failure ends the log before anything shows clusters without their data', async () => {
    const { device, ctx, ino } = await open(index);
    const gate = holdData(device);
    await writeFile(ctx, ino, 0, data(PIECE), BEHIND);
    const committing = ctx.engine.log.commit();
    gate.release(new Error('the device fails'));
    await expect(committing).rejects.toThrow();
    await expect(ctx.engine.log.commit()).rejects.toThrow();
    const again = await openTestContext(device, { hostile: false });
    expect(await readFile(again, ino, 0, new Uint8Array(1))).toBe(0);
  });

  test('not more than a bounded amount is behind', async () => {
    const { device, ctx, ino } = await open(index);
    const gate = holdData(device);
    const count = MOST_BEHIND / PIECE;
    for (let i = 0; i < count; i++) await writeFile(ctx, ino, i * PIECE, data(PIECE), BEHIND);
    const over = writeFile(ctx, ino, count * PIECE, data(PIECE), BEHIND);
    expect(await isDone(over)).toBe(false);
    gate.release();
    await over;
    await ctx.engine.log.flush();
    await expectFsckClean(device);
  });
});
