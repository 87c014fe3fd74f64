import { expect, it } from 'vitest';
import { FenceDeadline } from '../../src/heartbeat/fence-deadline.js';

const FENCE = 45_000;
const SKEW = 1_700_000_000_000;

it('grants from the submission of a good beat, by both clocks, to every thread', () => {
  const fence = new FenceDeadline();
  const other = new FenceDeadline(fence.memory);
  expect([fence.state, fence.grant(), fence.lapsed(1e9)]).toEqual(['unarmed', undefined, false]);
  expect(fence.renew(0, 1000, FENCE, SKEW, 1400)).toBe(true);
  expect(other.grant()).toEqual({ monotonic: 46_000, wall: 46_000 + SKEW });
  expect(other.renew(0, 3000, FENCE, SKEW + 5, 3100)).toBe(true);
  expect(fence.grant()).toEqual({ monotonic: 48_000, wall: 48_000 + SKEW + 5 });
  expect(fence.state).toBe('armed');
});

it('is over for ever once it is over', () => {
  const fence = new FenceDeadline();
  fence.renew(0, 1000, FENCE, SKEW, 1400);
  expect(fence.lapsed(45_999.9)).toBe(false);
  // The next beat took so long that it came too late.
  expect(fence.renew(0, 3000, FENCE, SKEW, 46_000)).toBe(false);
  expect([fence.state, fence.grant(), fence.lapsed(0), fence.renew(0, 47_000, FENCE, SKEW, 47_001)]).toEqual(['fenced', undefined, true, false]);
});

it('moves by an approved negotiation, which a later beat does not take back', () => {
  const fence = new FenceDeadline();
  expect(fence.extend(0, 26_000, 0)).toBe(false);
  fence.renew(0, 1000, FENCE, SKEW, 1400);
  expect(fence.extend(0, 26_000, 31_000)).toBe(true);
  expect(fence.grant()!.monotonic).toBe(72_000);
  fence.renew(0, 3000, FENCE, SKEW, 60_000);
  expect(fence.grant()!.monotonic).toBe(72_000);
  fence.renew(0, 61_000, FENCE, SKEW, 61_010);
  expect(fence.grant()!.monotonic).toBe(106_000);
  expect(fence.extend(0, 26_000, 106_000)).toBe(false);
});

it('counts the time a host has slept', () => {
  const fence = new FenceDeadline();
  fence.renew(0, 1000, FENCE, SKEW, 1400);
  fence.slept(10_000);
  expect(fence.grant()!.monotonic).toBe(36_000);
  fence.slept(3_600_000);
  expect(fence.renew(0, 3000, FENCE, SKEW, 3001)).toBe(false);
});

it('is lost with half of the regions', () => {
  for (const [regions, lostWith] of [[1, 1], [2, 1], [3, 2], [4, 2], [5, 3], [32, 16]]) {
    const fence = new FenceDeadline();
    // The i-th falls silent at i seconds.
    for (let i = 0; i < regions; i++) fence.renew(i, 1000 * (i + 1), FENCE, SKEW, 1000);
    expect(fence.grant()!.monotonic, `${regions} regions`).toBe(lostWith * 1000 + FENCE);
  }
  const fence = new FenceDeadline();
  for (let i = 0; i < 3; i++) fence.renew(i, 1000 * (i + 1), FENCE, SKEW, 1000);
  fence.release(0);
  expect(fence.grant()!.monotonic).toBe(47_000);
  fence.fence();
  expect(fence.state).toBe('fenced');
});
