/** Heartbeats of whole clusters on a virtual clock: who is told of whom, what a silent node may still do, negotiations, losses. */
import { describe, expect, it } from 'vitest';
import { timeoutsOf } from '../../src/config/timeouts.js';
import { Beating, drive } from '../../src/heartbeat/beating.js';
import { FenceDeadline } from '../../src/heartbeat/fence-deadline.js';
import { SharedLiveCounts } from '../../src/heartbeat/live-nodes.js';
import { REGION_BLOCKS, type RegionRequest } from '../../src/heartbeat/region.js';
import { NodeMap } from '../../src/node-map.js';
import { Cluster, type SimNode } from './cluster.js';

const A = 'A'.repeat(32);
const B = 'B'.repeat(32);

function started(nodes: number, options: Partial<ConstructorParameters<typeof Cluster>[0]> = {}, regions: readonly string[] = [A]): Cluster {
  const cluster = new Cluster({ seed: 7, nodes, ...options });
  const results = cluster.nodes.flatMap((node) => {
    node.boot();
    return regions.map((region) => node.start(region));
  });
  cluster.run(60_000);
  expect(results).toEqual(results.map(() => ({ done: true })));
  for (const node of cluster.nodes) expect([...node.heartbeat.membership.live]).toEqual(cluster.nodes.map(({ number }) => number));
  for (const node of cluster.nodes) node.told = [];
  return cluster;
}

const parked = (node: SimNode): boolean => node.heartbeat.grant(A)!.monotonic <= node.cluster.time.now();
const armed = (node: SimNode, region = A): boolean => node.heartbeat.grant(region) !== undefined;

describe('a cluster', () => {
  it('comes up, is told of a goodbye at once and of a silent death after the threshold', () => {
    const cluster = started(4);
    const [a, b, c, d] = cluster.nodes;
    let left = false;
    d.heartbeat.stop(A, () => {
      left = true;
    });
    cluster.run(6_000);
    expect([left, d.told, armed(d)]).toEqual([true, ['down 0', 'down 1', 'down 2', 'down 3'], false]);
    for (const node of [a, b, c]) expect(node.told).toEqual(['down 3']);
    c.crash();
    cluster.run(59_000);
    expect(a.told).toEqual(['down 3']);
    cluster.run(6_000);
    for (const node of [a, b]) expect(node.told).toEqual(['down 3', 'down 2']);
    // A new incarnation is watched for before it writes, and then known.
    c.boot();
    const result = c.start(A);
    cluster.run(7_000);
    expect(result.done).toBe(false);
    cluster.run(15_000);
    expect(result).toEqual({ done: true });
    for (const node of [a, b]) expect(node.told).toEqual(['down 3', 'down 2', 'up 2']);
  });

  it('suspects a silent node and one that begins anew before anybody can take it for dead', () => {
    const cluster = started(4);
    const [a, b, c, d] = cluster.nodes;
    const seen: string[] = [];
    for (const node of [a, b]) node.heartbeat.suspicion.onSuspicion(() => seen.push(`${node.number} suspects ${[...node.heartbeat.suspicion.suspects].join()}`));
    // Nobody is told of a death before both have suspected.
    const check = (dead: string): void => {
      for (let i = 0; i < 900 && !(a.told.includes(dead) && b.told.includes(dead)); i++) {
        const all = seen.length >= 2;
        cluster.run(100);
        if (!all) expect([a.told.includes(dead), b.told.includes(dead)]).toEqual([false, false]);
      }
      expect([a.told.includes(dead), b.told.includes(dead)]).toEqual([true, true]);
      cluster.run(2500);
    };
    c.crash();
    check('down 2');
    expect(seen.toSorted()).toEqual(['0 suspects ', '0 suspects 2', '1 suspects ', '1 suspects 2']);
    seen.length = 0;
    d.crash();
    d.boot();
    d.start(A);
    check('down 3');
    expect(seen.toSorted()).toEqual(['0 suspects ', '0 suspects 3', '1 suspects ', '1 suspects 3']);
  });

  it('suspects the dead before anybody can take them for dead, however late its own looks come', () => {
    for (let seed = 1; seed <= 60; seed++) {
      const cluster = started(3, { seed });
      const [a, b, c] = cluster.nodes;
      const { threshold } = cluster.timeouts;
      const hang = 3000 + cluster.random.int(12_000);
      c.crash();
      cluster.run(cluster.random.int(threshold * 2000));
      b.path(A).hungUntil = cluster.time.now() + hang;
      for (let i = 0; i < 900 && !a.told.includes('down 2'); i++) cluster.run(100);
      b.heartbeat.catchUp();
      expect(b.told.includes('down 2') || b.heartbeat.suspicion.suspects.has(2), `seed ${seed}`).toBe(true);
      cluster.run(20_000);
      expect([[...b.heartbeat.suspicion.suspects], b.told, b.losses]).toEqual([[], ['down 2'], []]);
    }
  });

  it('suspects everybody while its disk does not answer: they may have begun anew', () => {
    const cluster = started(3);
    const [, b, c] = cluster.nodes;
    b.path(A).hungUntil = cluster.time.now() + 16_000;
    c.crash();
    c.boot();
    c.start(A);
    for (let i = 0; i < 15; i++) {
      cluster.run(1000);
      b.heartbeat.catchUp();
      // Its last look was up to one interval before.
      if (i >= 3) expect([...b.heartbeat.suspicion.suspects]).toEqual([0, 2]);
    }
    cluster.run(30_000);
    expect([[...b.heartbeat.suspicion.suspects], b.told]).toEqual([[], ['down 2', 'up 2']]);
  });

  it('knows a restart within the threshold', () => {
    const cluster = started(2);
    const [a, b] = cluster.nodes;
    b.crash();
    b.boot();
    b.start(A);
    cluster.run(30_000);
    expect(a.told).toEqual(['down 1', 'up 1']);
  });

  it('refuses a node number that is in use, and harms nobody', () => {
    const cluster = started(2);
    const [a, b] = cluster.nodes;
    const twin = new (b.constructor as typeof SimNode)(cluster, 1);
    twin.boot();
    const result = twin.start(A);
    cluster.run(30_000);
    expect(result).toEqual({ done: true, error: 'HEARTBEAT_SLOT_TAKEN' });
    expect([a.told, b.told, a.warnings, b.warnings]).toEqual([[], [], [], []]);
    expect(twin.start(A)).toEqual({ done: false });
    expect(b.start(A)).toEqual({ done: true, error: 'HEARTBEAT_TWICE' });
  });

  it('tells listeners of one event after the other, in their order', () => {
    const cluster = new Cluster({ seed: 1, nodes: 1 });
    const [a] = cluster.nodes;
    a.boot();
    const order: string[] = [];
    const { membership } = a.heartbeat;
    for (const at of [10, 0, 1, 10]) {
      membership.subscribe(at, { nodeUp: () => void order.push(`up ${at} ${[...membership.live].join()}`), nodeDown: () => void order.push(`down ${at} ${[...membership.live].join()}`) });
    }
    a.start(A);
    cluster.run(20_000);
    a.heartbeat.stop(A, () => undefined);
    cluster.run(3_000);
    expect(order).toEqual(['up 0 0', 'up 1 0', 'up 10 0', 'up 10 0', 'down 0 ', 'down 1 ', 'down 10 ', 'down 10 ']);
  });
});

describe('silence', () => {
  it('is counted from the submission of a beat, however long it takes', () => {
    let now = 1000;
    const fence = new FenceDeadline();
    const disk = new Uint8Array(REGION_BLOCKS * 512);
    const timeouts = timeoutsOf();
    const beating = new Beating({
      node: 0, blockBytes: 512, timeouts, generation: 5n, firstGlobal: false, counts: true, index: 0, fence, live: new SharedLiveCounts(), configured: () => new NodeMap([0]),
      clock: { monotonic: () => now, wall: () => now + 5_000_000, boot: () => now }, report: () => undefined,
    });
    let submitted = 0;
    const perform = (request: RegionRequest): Uint8Array | undefined => {
      if (request.op === 'read') return disk.slice(request.first * 512, (request.first + request.count) * 512);
      submitted = now;
      disk.set(request.block, request.node * 512);
      now += 7_000;
      return undefined;
    };
    drive(beating.begin(), perform);
    for (let i = 0; i < 8; i++) {
      now += 500;
      expect(drive(beating.iterate(), perform)).toBe(true);
    }
    expect([fence.grant(), fence.end()]).toEqual([{ monotonic: submitted + timeouts.fenceMs, wall: submitted + 5_000_000 + timeouts.fenceMs }, submitted + timeouts.lossMs]);
  });

  it('parks I/O at three quarters of the earliest death, and loses the incarnation before it', () => {
    const cluster = started(2);
    const [a, b] = cluster.nodes;
    b.path(A).fails = true;
    cluster.run(43_000);
    expect([parked(b), b.losses]).toEqual([false, []]);
    cluster.run(3_000);
    expect([parked(b), b.losses]).toEqual([true, []]);
    cluster.run(8_000);
    b.path(A).fails = false;
    cluster.run(4_000);
    expect([parked(b), b.losses, a.told]).toEqual([false, [], []]);
    b.path(A).fails = true;
    cluster.run(60_000);
    expect([armed(b), b.losses]).toEqual([false, [{ regions: [A], node: false, reason: `no good beat in region ${A} in time` }]]);
    expect(a.told).toEqual([]);
    b.path(A).fails = false;
    cluster.run(60_000);
    expect([armed(b), a.told, [...b.heartbeat.membership.live]]).toEqual([false, ['down 1'], []]);
    b.boot();
    b.start(A);
    cluster.run(30_000);
    expect([armed(b), a.told]).toEqual([true, ['down 1', 'up 1']]);
  });

  it('of a write that hangs is noticed by the clock, and the beat that comes too late gives nothing back', () => {
    const cluster = started(2);
    const [a, b] = cluster.nodes;
    b.path(A).hungUntil = cluster.time.now() + 65_000;
    cluster.run(64_000);
    expect([armed(b), b.losses.length]).toEqual([false, 1]);
    cluster.run(100_000);
    expect([armed(b), a.told]).toEqual([false, ['down 1']]);
  });

  it('of a suspended host counts, though its clock stands still', () => {
    for (const [ms, lost] of [[50_000, false], [70_000, true]] as const) {
      const cluster = started(2);
      const [, b] = cluster.nodes;
      const before = b.heartbeat.grant(A)!;
      b.asleep += ms;
      // What the gates compare: the wall clock goes on.
      expect(cluster.time.now() + b.asleep + 1e12 < before.wall).toBe(false);
      cluster.run(4_000);
      expect([armed(b), b.losses.length, b.warnings]).toEqual([!lost, lost ? 1 : 0, [`${A}: the host slept for ${(ms / 1000).toFixed(1)} s; the time is taken off the deadline`]]);
      if (!lost) expect([parked(b), b.heartbeat.grant(A)!.wall - b.heartbeat.grant(A)!.monotonic]).toEqual([false, 1e12 + ms]);
    }
  });

  it('costs one volume, unless others would not see this node die', () => {
    const cluster = new Cluster({ seed: 3, nodes: 3 });
    const [a, b, c] = cluster.nodes;
    for (const node of cluster.nodes) node.boot();
    a.start(A);
    a.start(B);
    b.start(A);
    c.start(B);
    cluster.run(30_000);
    a.path(A).fails = true;
    cluster.run(100_000);
    expect(a.losses).toEqual([{ regions: [A], node: false, reason: expect.any(String) as string }]);
    expect([armed(a, A), armed(a, B), b.told.includes('down 0'), c.told.includes('down 0'), a.told.includes('down 1'), a.told.includes('down 2')]).toEqual([false, true, true, false, true, false]);
    // Now b beats in both: it would take a for alive.
    a.path(A).fails = false;
    a.start(A);
    b.start(B);
    cluster.run(30_000);
    a.path(A).fails = true;
    cluster.run(62_000);
    expect(a.losses[1]).toMatchObject({ node: true });
    expect([armed(a, A), armed(a, B), a.heartbeat.lost]).toEqual([false, false, true]);
    expect(a.start('C'.repeat(32))).toEqual({ done: true, error: 'HEARTBEAT_FENCED' });
    cluster.run(70_000);
    expect(b.told.filter((line) => line === 'down 0')).toHaveLength(2);
  });

  it('of the quorum: everything is given up without a goodbye', () => {
    const cluster = started(2, {}, [A, B]);
    const [a, b] = cluster.nodes;
    b.heartbeat.giveUp('the quorum is lost');
    b.heartbeat.giveUp('again');
    expect([b.losses, armed(b, A), armed(b, B)]).toEqual([[{ regions: [A, B], node: true, reason: 'the quorum is lost' }], false, false]);
    cluster.run(55_000);
    expect(a.told).toEqual([]);
    cluster.run(15_000);
    expect(a.told).toEqual(['down 1']);
  });
});

describe('with global heartbeat', () => {
  const regions = ['1', '2', '3'].map((digit) => digit.repeat(32));

  it('one region of three may be lost and come back, two may not', () => {
    const cluster = started(2, { mode: 'global' }, regions);
    const [a, b] = cluster.nodes;
    expect(b.heartbeat.regions().map(({ quorum }) => quorum)).toEqual([true, true, true]);
    b.path(regions[0]).fails = true;
    cluster.run(200_000);
    expect([b.losses, armed(b), a.told]).toEqual([[], true, []]);
    b.path(regions[0]).fails = false;
    cluster.run(20_000);
    b.path(regions[1]).fails = true;
    b.path(regions[2]).fails = true;
    cluster.run(62_000);
    expect([b.losses.length, b.losses[0]?.node, armed(b)]).toEqual([1, true, false]);
    cluster.run(70_000);
    expect(a.told).toEqual(['down 1']);
  });
});

describe('a negotiation', () => {
  it('lets everybody live through a LUN that serves nobody, for a while', () => {
    const cluster = started(3);
    for (const node of cluster.nodes) node.path(A).hungUntil = cluster.time.now() + 200_000;
    cluster.run(199_000);
    expect(cluster.nodes.map((node) => [armed(node) && parked(node), node.losses.length])).toEqual([[true, 0], [true, 0], [true, 0]]);
    cluster.run(60_000);
    expect(cluster.nodes.map((node) => [parked(node), node.told])).toEqual([[false, []], [false, []], [false, []]]);
  });

  it('lets a node alone wait for as long as it takes, unless somebody came meanwhile', () => {
    for (const visited of [false, true]) {
      const cluster = new Cluster({ seed: 5, nodes: 2 });
      const [a, b] = cluster.nodes;
      a.boot();
      a.start(A);
      cluster.run(30_000);
      a.path(A).hungUntil = cluster.time.now() + 3_600_000;
      cluster.run(1_800_000);
      expect([armed(a) && parked(a), a.losses]).toEqual([true, []]);
      if (visited) {
        b.boot();
        b.start(A);
        cluster.run(10_000);
        b.crash();
      }
      cluster.run(1_850_000);
      expect([armed(a), a.losses.length]).toEqual(visited ? [false, 1] : [true, 0]);
    }
  });

  it('does not help one whose LUN serves others', () => {
    const cluster = started(3);
    const [a, b, c] = cluster.nodes;
    for (const node of [a, c]) node.path(A).hungUntil = cluster.time.now() + 90_000;
    cluster.run(62_000);
    expect([a.losses.length, b.losses.length, c.losses.length]).toEqual([1, 0, 1]);
    cluster.run(20_000);
    expect(b.told.sort()).toEqual(['down 0', 'down 2']);
  });

  it('is not over with a beat that looked before it hung', () => {
    const cluster = new Cluster({ seed: 5, nodes: 2 });
    const [a, b] = cluster.nodes;
    a.boot();
    a.start(A);
    cluster.run(30_000);
    const path = a.path(A);
    path.hungUntil = cluster.time.now() + 100_000;
    cluster.run(99_000);
    // The read that hangs is served in a second, sees nobody, and the write behind it hangs: then somebody comes.
    Object.assign(path, { reads: true, hungUntil: cluster.time.now() + 31_000 });
    cluster.run(2_000);
    b.boot();
    b.start(A);
    cluster.run(10_000);
    b.crash();
    cluster.run(30_000);
    expect([armed(a), a.losses.length]).toEqual([false, 1]);
  });

  it('proves no more than that nobody counted meanwhile', () => {
    const cluster = started(2);
    const [a, b] = cluster.nodes;
    a.path(A).hungUntil = cluster.time.now() + 36_000;
    b.path(A).hungUntil = cluster.time.now() + 110_000;
    cluster.run(70_000);
    // Without the approval it would be lost now.
    expect([b.losses, a.told]).toEqual([[], []]);
    // The other is served again and counts on; we must be gone before it is at the end.
    cluster.run(45_000);
    expect([armed(b), b.losses.length, a.told]).toEqual([false, 1, ['down 1']]);
  });

  it('cannot be had by a message alone', () => {
    const cluster = started(2);
    const [, b] = cluster.nodes;
    b.path(A).fails = true;
    for (let i = 0; i < 12; i++) {
      cluster.run(5_000);
      for (const [name, handler] of b.handlers) if (name.startsWith('2 ')) handler(0, new Uint8Array([0]), () => undefined);
    }
    expect(b.losses).toHaveLength(1);
  });
});

/**
 * What all of this is for: whatever hangs, fails, dies and comes back, no node is taken for dead by another before the last moment
 * at which it may submit I/O, and after it none is ever allowed to again.
 */
it('nobody is declared dead while he may still submit', { timeout: 120_000 }, () => {
  const seed = Number(process.env.LUNFS_SEED ?? 1_122_334);
  let deaths = 0;
  let losses = 0;
  for (let round = 0; round < 24; round++) {
    const nodes = 2 + (round % 3);
    const cluster = new Cluster({ seed: seed + round, nodes, settings: { heartbeatThreshold: [7, 31, 12][round % 3] }, mode: round % 4 === 3 ? 'global' : 'local' });
    const { random, time } = cluster;
    const regions = cluster.mode === 'global' ? [A, B] : [A];
    for (const node of cluster.nodes) {
      node.onDown = (dead) => {
        const other = cluster.nodes[dead];
        // One that was fenced itself, or does not get steady, sees nobody any more.
        if (other === node || node.heartbeat.regions().filter(({ state }) => state === 'steady').length < regions.length) return;
        deaths++;
        // It crashed, or another incarnation of it takes the place of the one that is meant.
        if (!other.running || !other.generations.has(node.seen.get(dead)!)) return;
        const still = regions.map((region) => other.heartbeat.grant(region)?.monotonic ?? Number.NEGATIVE_INFINITY);
        expect(Math.max(...still), `LUNFS_SEED=${seed}, round ${round}: node ${node.number} takes ${dead} for dead at ${time.now()}`).toBeLessThanOrEqual(time.now());
        // One that is not steady yet holds nothing that could be taken from it.
        if (Math.max(...still) > 0) other.declared = other.incarnation;
      };
      node.onRenewed = () => {
        if (node.declared !== node.incarnation) return;
        const still = regions.map((region) => node.heartbeat.grant(region)?.monotonic ?? Number.NEGATIVE_INFINITY);
        expect(Math.max(...still), `LUNFS_SEED=${seed}, round ${round}: node ${node.number} goes on at ${time.now()}, others took it for dead`).toBeLessThanOrEqual(time.now());
      };
      node.boot();
      for (const region of regions) node.start(region);
    }
    cluster.run(60_000);
    for (let step = 0; step < 40; step++) {
      const node = random.pick(cluster.nodes);
      const path = node.path(random.pick(regions));
      const { writeTimeoutMs } = cluster.timeouts;
      switch (random.int(7)) {
        case 0:
          path.hungUntil = time.now() + random.int(writeTimeoutMs * 2);
          break;
        case 1: {
          const until = time.now() + random.int(writeTimeoutMs * 3);
          for (const one of cluster.nodes) for (const region of regions) one.path(region).hungUntil = Math.max(0, until + random.int(4000) - 2000);
          break;
        }
        case 2:
          path.latency = 1 + random.int(random.pick([20, 500, 3000, writeTimeoutMs / 2]));
          break;
        case 3:
          path.fails = !path.fails;
          break;
        case 4: {
          const pair = `${random.int(nodes)} ${random.int(nodes)}`;
          if (!cluster.cut.delete(pair)) cluster.cut.add(pair);
          break;
        }
        case 5:
          node.crash();
          break;
        default:
          path.fails = false;
          path.latency = 20;
      }
      cluster.run(random.int(writeTimeoutMs));
      for (const one of cluster.nodes) {
        losses += one.losses.splice(0).length;
        // A node that is fenced or dead comes back some time later, as another incarnation.
        // With global heartbeat it beats in all regions or in none.
        if ((one.running && !one.heartbeat.lost && one.heartbeat.regions().length === regions.length) || random.chance(0.5)) continue;
        one.crash();
        one.boot();
        for (const region of regions) one.start(region);
      }
    }
  }
  expect(deaths).toBeGreaterThan(50);
  expect(losses).toBeGreaterThan(50);
});
