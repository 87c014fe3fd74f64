/** What a dead node owed the global bitmap, taken over by another one. */
import { Random } from '@lunfs/device';
import { expect, test } from 'vitest';
import { claimContiguous, closeLocalAlloc, flushTruncateLog, mayHoldClusters, releaseClusters, takeOverClusters } from '../../src/alloc/index.js';
import { openTestContext } from '../support/context.js';
import { slowDevice } from '../support/crash.js';
import { GEOMETRIES, expectFsckClean, makeVolume } from '../support/volume.js';

// Were it kept in memory, the death of who recovers would leak it.
test('it goes to the truncate log, also while that is being flushed', async () => {
  const device = await makeVolume(GEOMETRIES[1]);
  const dead = await openTestContext(device, { slot: 1 });
  const held = await dead.engine.run('claim', (op) => claimContiguous(op, dead, 4));
  await dead.engine.log.flush();

  const slow = slowDevice(device, new Random(1));
  const ctx = await openTestContext(slow, { slot: 0 });
  const runs = [];
  for (let i = 0; i < 40; i++) runs.push(await ctx.engine.run('claim', (op) => claimContiguous(op, ctx, 1 + (i % 3))));
  for (const { start, len } of runs.filter((_, i) => i % 2 === 0)) await ctx.engine.run('free', (op) => releaseClusters(op, ctx, start, len));
  let flushed = false;
  const flushing = flushTruncateLog(ctx).then(() => {
    flushed = true;
  });
  expect(await takeOverClusters(ctx, 1)).toEqual([]);
  expect(flushed).toBe(false);
  await flushing;
  if (mayHoldClusters(ctx)) await flushTruncateLog(ctx);
  expect(mayHoldClusters(ctx)).toBe(false);
  for (const { start, len } of [held, ...runs.filter((_, i) => i % 2 === 1)]) await ctx.engine.run('free', (op) => releaseClusters(op, ctx, start, len));
  await flushTruncateLog(ctx);
  await closeLocalAlloc(ctx);
  await ctx.engine.log.flush();
  await expectFsckClean(slow.snapshot());
});
