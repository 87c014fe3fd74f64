import { expect, it } from 'vitest';
import { timeoutsOf } from '../../src/config/timeouts.js';
import { FenceDeadline } from '../../src/heartbeat/fence-deadline.js';

/** 45 s and 59.5 s. */
const TIMES = timeoutsOf();
const SKEW = 1_700_000_000_000;

/** With 32 regions that count. */
function counted(): FenceDeadline {
  const fence = new FenceDeadline();
  for (let i = 0; i < 32; i++) fence.count(i);
  return fence;
}

it('grants from the submission of a good beat, by both clocks, to every thread', () => {
  const fence = counted();
  const other = new FenceDeadline(fence.memory);
  expect([fence.state, fence.grant(), fence.end(), fence.parked(1e9), fence.lapsed(1e9)]).toEqual(['unarmed', undefined, undefined, false, false]);
  expect(fence.renew(0, 1000, TIMES, SKEW, 1400)).toBe(true);
  expect(other.grant()).toEqual({ monotonic: 46_000, wall: 46_000 + SKEW });
  expect(other.renew(0, 3000, TIMES, SKEW + 5, 3100)).toBe(true);
  expect(fence.grant()).toEqual({ monotonic: 48_000, wall: 48_000 + SKEW + 5 });
  expect([fence.state, fence.end()]).toEqual(['armed', 62_500]);
});

it('is parked when its time is over, goes on with a beat that comes in time, and is lost for ever without', () => {
  const fence = counted();
  fence.renew(0, 1000, TIMES, SKEW, 1400);
  expect([45_999.9, 46_000].map((at) => fence.parked(at))).toEqual([false, true]);
  expect([fence.lapsed(60_499.9), fence.renew(0, 3000, TIMES, SKEW, 60_499.9)]).toEqual([false, true]);
  expect([fence.parked(47_999), fence.parked(60_500)]).toEqual([false, true]);
  expect(fence.renew(0, 58_000, TIMES, SKEW, 62_500)).toBe(false);
  expect([fence.state, fence.grant(), fence.end(), fence.lapsed(0), fence.renew(0, 63_000, TIMES, SKEW, 63_001)]).toEqual(['lost', undefined, undefined, true, false]);
});

it('is lost later by an approved negotiation, but parked all the same', () => {
  const fence = counted();
  expect(fence.extend(0, 26_000, 0)).toBe(false);
  fence.renew(0, 1000, TIMES, SKEW, 1400);
  expect(fence.extend(0, 26_000, 31_000)).toBe(true);
  expect([fence.grant()!.monotonic, fence.end()]).toEqual([46_000, 86_500]);
  // A beat that hung takes nothing back of it.
  fence.renew(0, 3000, TIMES, SKEW, 80_000);
  expect([fence.grant()!.monotonic, fence.end()]).toEqual([48_000, 86_500]);
  fence.renew(0, 80_100, TIMES, SKEW, 80_110);
  expect([fence.grant()!.monotonic, fence.end()]).toEqual([125_100, 139_600]);
  expect(fence.extend(0, 26_000, 139_600)).toBe(false);
});

it('counts the time a host has slept', () => {
  const fence = counted();
  fence.renew(0, 1000, TIMES, SKEW, 1400);
  fence.slept(10_000);
  expect([fence.grant()!.monotonic, fence.end()]).toEqual([36_000, 50_500]);
  fence.slept(3_600_000);
  expect(fence.renew(0, 3000, TIMES, SKEW, 3001)).toBe(false);
});

it('is lost with half of the regions', () => {
  for (const [regions, lostWith] of [[1, 1], [2, 1], [3, 2], [4, 2], [5, 3], [32, 16]]) {
    const fence = counted();
    // The i-th falls silent at i seconds.
    for (let i = 0; i < regions; i++) fence.renew(i, 1000 * (i + 1), TIMES, SKEW, 1000);
    expect([fence.grant()!.monotonic, fence.end()], `${regions} regions`).toEqual([lostWith * 1000 + TIMES.fenceMs, lostWith * 1000 + TIMES.lossMs]);
  }
  const fence = counted();
  for (let i = 0; i < 3; i++) fence.renew(i, 1000 * (i + 1), TIMES, SKEW, 1000);
  fence.release(0);
  expect(fence.grant()!.monotonic).toBe(47_000);
  fence.lose();
  expect(fence.state).toBe('lost');
});

it('knows how long a device has been silent, and does not stand on regions that do not count', () => {
  const fence = new FenceDeadline();
  expect(fence.silence(3, 1000)).toEqual({ hanging: 0, sinceGood: Number.POSITIVE_INFINITY });
  expect(fence.renew(3, 1000, TIMES, SKEW, 1001)).toBe(true);
  expect(fence.state).toBe('unarmed');
  fence.busy(3, 3000);
  expect(fence.silence(3, 4000)).toEqual({ hanging: 1000, sinceGood: 3000 });
  fence.busy(3, undefined);
  fence.count(3);
  expect(fence.state).toBe('unarmed');
  fence.renew(3, 5000, TIMES, SKEW, 5001);
  expect([fence.state, fence.silence(3, 6000).hanging]).toEqual(['armed', 0]);
  fence.release(3);
  fence.renew(3, 7000, TIMES, SKEW, 7001);
  expect(fence.state).toBe('unarmed');
});
