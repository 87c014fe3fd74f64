import { DirectMap, Fence, Gate } from '@lunfs/device';
import * as fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { OWNER, OWNER_UNALIGNED, decide } from '../../src/server/decide.js';

let fence: Fence;
let gate: Gate;
let map: DirectMap;

beforeEach(() => {
  fence = new Fence(undefined, Number.POSITIVE_INFINITY);
  gate = Gate.under(fence);
  map = new DirectMap();
  map.reset(gate.epoch);
  map.add(65536, 65536, 1 << 30);
});

/** In flight according to the gate: a recall waits for it. */
async function entered(): Promise<boolean> {
  const recalled = gate.recall().then(() => false);
  const waiting = await Promise.race([recalled, new Promise<boolean>((resolve) => { setTimeout(() => resolve(true), 20); })]);
  if (waiting) gate.leave();
  await recalled;
  return waiting;
}

describe('decide', () => {
  it('gives the device byte inside a run, and has entered the gate', async () => {
    expect(decide(65536 + 4096, 8192, true, map, gate, 4096, 0)).toBe((1 << 30) + 4096);
    expect(await entered()).toBe(true);
  });

  it.each([
    ['before the run', 61440, 4096, OWNER],
    ['over its end', 126976, 8192, OWNER],
    ['unaligned offset', 65536 + 512, 4096, OWNER_UNALIGNED],
    ['unaligned length', 65536, 512, OWNER_UNALIGNED],
  ])('asks the owner: %s', async (_what, offset, length, answer) => {
    expect(decide(offset, length, false, map, gate, 4096, 0)).toBe(answer);
    expect(await entered()).toBe(false);
  });

  it('asks the owner once the mapping is recalled, the deadline has passed or writes are forbidden', async () => {
    fence.setDeadline(100, Number.POSITIVE_INFINITY);
    expect(decide(65536, 4096, false, map, gate, 4096, 100)).toBe(OWNER);
    expect(decide(65536, 4096, false, map, gate, 4096, 99)).toBe(1 << 30);
    gate.leave();
    gate.forbidWrites(true);
    expect(decide(65536, 4096, true, map, gate, 4096, 0)).toBe(OWNER);
    expect(decide(65536, 4096, false, map, gate, 4096, 0)).toBe(1 << 30);
    gate.leave();
    await gate.recall();
    expect(decide(65536, 4096, false, map, gate, 4096, 0)).toBe(OWNER);
    expect(await entered()).toBe(false);
  });

  it('never answers a byte that no fact of the map covers', () => {
    const runs = fc.array(fc.tuple(fc.nat(200), fc.integer({ min: 1, max: 30 }), fc.nat(1000)), { maxLength: 20 });
    fc.assert(fc.property(runs, fc.nat(230), fc.integer({ min: 1, max: 10 }), (facts, block, count) => {
      const model = new Map<number, number>();
      const built = new DirectMap();
      built.reset(gate.epoch);
      for (const [at, length, device] of facts) {
        built.add(at * 4096, length * 4096, device * 4096);
        for (let i = 0; i < length; i++) model.set(at + i, device + i);
      }
      const device = decide(block * 4096, count * 4096, false, built, gate, 4096, 0);
      if (device < 0) return;
      gate.leave();
      for (let i = 0; i < count; i++) expect(model.get(block + i)).toBe(device / 4096 + i);
    }));
  });
});
