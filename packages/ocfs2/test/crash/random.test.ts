/** Crashes at writes of random steps: one after the other, several at once, and by a node that keeps no lock (support/survive.ts). */
import { Random } from '@lunfs/device';
import { describe, test } from 'vitest';
import { CRASH_VOLUMES, type CrashVolume, record, recordTogether } from '../support/crash.js';
import { SCRIPTS, playground, randomSteps } from '../support/crash-scripts.js';
import { hostileDlm } from '../support/locks.js';
import type { Step } from '../support/posix.js';
import { SEED, THOROUGH, geometryOf, survive } from '../support/survive.js';

const NUMBERS = THOROUGH ? [1, 2, 3, 4, 5, 6, 7, 8] : [1];

/** Random steps in four directories at once. */
function lanes(spec: CrashVolume, n: number): { lane: string; script: Step[] }[] {
  const { clusterSize } = geometryOf(spec);
  const lane = (name: string, count: number) => ({
    lane: name, script: [...playground(`${name}/`).slice(0, 8), ...randomSteps(new Random(SEED + 10 * n + count), count, { reach: 5 * clusterSize, clusterSize, under: `${name}/`, promises: 0.06 })],
  });
  return ['one', 'two', 'three', 'four'].map((name, i) => lane(name, 30 + 10 * i));
}

describe.each(CRASH_VOLUMES.map((spec) => [spec.name, spec] as const))('%s', { timeout: 3_600_000 }, (_, spec) => {
  const { clusterSize } = geometryOf(spec);

  test.each(NUMBERS)('crash in random steps %i', async (n) => {
    const steps = [...playground(), ...randomSteps(new Random(SEED + n), 130, { reach: 6 * clusterSize, clusterSize })];
    await survive(`${spec.name} crash in random steps ${n}`, [await record(spec, steps, SEED)], 40);
  });

  test.each(NUMBERS)('crash in several scripts at once %i', async (n) => {
    await survive(`${spec.name} crash in several scripts at once ${n}`, await recordTogether(spec, lanes(spec, n), SEED + n), 40);
  });

  test('crash of a node that gives every lock away at once', async () => {
    const dlm = () => {
      const random = new Random(SEED);
      return hostileDlm(() => random.float());
    };
    const { steps } = SCRIPTS[SEED % 3];
    const random = [...playground(), ...randomSteps(new Random(SEED), 40, { reach: 30_000, clusterSize })];
    await survive(`${spec.name} crash of a node that gives every lock away at once`, [await record(spec, [...steps(geometryOf(spec)), ...random], SEED, { dlm: dlm() })], 16);
  });
});
