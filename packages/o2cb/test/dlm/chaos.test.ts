import { describe, expect, it } from 'vitest';
import { type Chaos, Run } from './support/chaos.js';

const seeds = (n: number, base: number) => Array.from({ length: n }, (_, i) => base + i);

describe('domains of several nodes', () => {
  const matrix: [string, Omit<Chaos, 'seed'>, number[]][] = [
    ['locks only', { nodes: 3, names: 4, steps: 600 }, seeds(8, 100)],
    ['many nodes on few names', { nodes: 6, names: 2, steps: 500 }, seeds(8, 200)],
    ['members come and go', { nodes: 4, names: 6, steps: 600, leaves: 0.01 }, seeds(20, 300)],
    ['members die', { nodes: 4, names: 6, steps: 600, deaths: 0.004 }, seeds(30, 400)],
    ['members die and leave', { nodes: 5, names: 5, steps: 700, deaths: 0.004, leaves: 0.006 }, seeds(40, 500)],
  ];
  for (const [what, chaos, list] of matrix) {
    it.each(list)(`${what}, seed %i`, (seed) => {
      const run = new Run({ ...chaos, seed });
      expect(run.run()).toEqual([]);
      expect(run.truth.grants).toBeGreaterThan(50);
      // Value blocks are for being valid: without deaths and migrations they are, once one has been put.
      if (!chaos.deaths && !chaos.leaves) expect(run.truth.values).toBeGreaterThan(0.9 * run.truth.grants);
    });
  }
});
