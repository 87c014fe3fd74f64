import { describe, expect, it } from 'vitest';
import { Random } from '../src/random.js';

const take = (random: Random, n: number): number[] => Array.from({ length: n }, () => random.u32());

describe('Random', () => {
  it('gives the same sequence for the same seed, another for another', () => {
    expect(take(new Random(7), 50)).toEqual(take(new Random(7), 50));
    expect(take(new Random(7), 50)).not.toEqual(take(new Random(8), 50));
    expect(take(new Random(2 ** 40 + 7), 50)).not.toEqual(take(new Random(7), 50));
  });

  it('is xoshiro128**: 32 evenly used bits', () => {
    const random = new Random(1);
    const ones = new Array<number>(32).fill(0);
    for (let i = 0; i < 20_000; i++) {
      const word = random.u32();
      for (let bit = 0; bit < 32; bit++) ones[bit] += (word >>> bit) & 1;
    }
    for (const n of ones) expect(Math.abs(n - 10_000)).toBeLessThan(500); // 7 sigma
  });

  it('keeps floats and integers in their ranges and reaches the ends', () => {
    const random = new Random(3);
    const seen = new Set<number>();
    for (let i = 0; i < 1000; i++) {
      const x = random.float();
      expect(x >= 0 && x < 1).toBe(true);
      seen.add(random.int(5));
    }
    expect([...seen].sort()).toEqual([0, 1, 2, 3, 4]);
    expect(random.chance(0)).toBe(false);
    expect(random.chance(1)).toBe(true);
  });

  it('shuffles to a permutation, picks members, fills odd lengths', () => {
    const random = new Random(4);
    const items = Array.from({ length: 20 }, (_, i) => i);
    const shuffled = random.shuffle([...items]);
    expect(shuffled).not.toEqual(items);
    expect([...shuffled].sort((a, b) => a - b)).toEqual(items);
    expect(items).toContain(random.pick(items));
    const bytes = new Uint8Array(1001);
    random.fill(bytes);
    expect(new Set(bytes).size).toBeGreaterThan(200);
  });

  it('forks generators that do not repeat their parent', () => {
    const random = new Random(5);
    expect(take(random.fork(), 20)).not.toEqual(take(random, 20));
    expect(take(new Random(5).fork(), 20)).toEqual(take(new Random(5).fork(), 20));
  });
});
