/**
 * Clusters of full nodes in one thread, by the simulator (packages/sim): whatever goes wrong, no rule is broken, and a seed replays exactly.
 * LUNFS_SEED=… begins the hunt elsewhere; `npm run sim -- --seed S --steps N` repeats a run.
 */
import { type SimulationResult, simulate } from '@lunfs/sim';
import { afterAll, describe, expect, test } from 'vitest';
import { seed } from '../support/temp.js';

const SEED = seed('simulator');
const STEPS = 400;
const HUNT_MS = 80_000;
const sums = { runs: 0, steps: 0, virtualMs: 0, crashes: 0, fences: 0, grants: 0, reads: 0, hits: 0, dropped: 0 };

async function run(options: Parameters<typeof simulate>[0]): Promise<SimulationResult> {
  const result = await simulate(options);
  expect(result.violations, `npm run sim -- --seed ${options.seed} --steps ${options.steps}`).toEqual([]);
  sums.runs++;
  for (const key of ['steps', 'virtualMs', 'crashes', 'fences', 'grants', 'reads'] as const) sums[key] += result[key];
  for (const key of ['hits', 'dropped'] as const) sums[key] += result.pages[key];
  return result;
}

afterAll(() => {
  console.log(`simulator: ${sums.runs} runs, ${sums.steps} steps in ${(sums.virtualMs / 60_000).toFixed(0)} minutes of their time, ${sums.crashes} losses of power, ${sums.fences} fences, ${sums.grants} grants, ${sums.reads} records read, ${sums.hits} loads and stores of cached pages, ${sums.dropped} pages recalled`);
});

describe('the simulator', { timeout: 600_000 }, () => {
  test('a seed replays exactly, another one does not', async () => {
    const first = await run({ seed: 11, steps: 250 });
    expect(await run({ seed: 11, steps: 250 })).toEqual(first);
    expect((await run({ seed: 12, steps: 250 })).hash).not.toBe(first.hash);
  });

  test('without faults nobody is fenced', async () => {
    expect(await run({ seed: SEED, steps: 300, nodes: 3, faults: [] })).toMatchObject({ crashes: 1, fences: 0 });
  });

  // Each of them broke a rule once.
  test.each([2008, 2011])('seed %i: the second dies while it recovers the first', async (fixed) => {
    await run({ seed: fixed, steps: 600, faults: ['double', 'crash', 'kill'], maps: false });
  });

  test('stopped programs', async () => {
    expect((await run({ seed: 1018, steps: 400, faults: ['stop'], maps: false })).faults.stop).toBeGreaterThan(0);
  });

  test('a volume that grows while those who grow it die', async () => {
    expect((await run({ seed: 3006, steps: 300, faults: ['grow', 'crash'], maps: false })).faults.grow).toBeGreaterThan(0);
  });

  test('fresh seeds', async () => {
    const begun = performance.now();
    for (let i = 0; performance.now() - begun < HUNT_MS; i++) await run({ seed: SEED + i, steps: STEPS });
    expect(sums.fences).toBeGreaterThan(0);
    expect(sums.dropped).toBeGreaterThan(0);
  });
});
