/** The state machine of a region: on the dumps of a kernel cluster, and in every single step. */
import * as fs from 'node:fs';
import path from 'node:path';
import { Random } from '@lunfs/device';
import { describe, expect, it } from 'vitest';
import { crc32le, regionKey } from '../../src/crc32.js';
import { checksumGood, decodeBlock, encodeBlock } from '../../src/heartbeat/block.js';
import { SharedLiveCounts } from '../../src/heartbeat/live-nodes.js';
import { REGION_BLOCKS, Region, type RegionOptions, type RegionRequest } from '../../src/heartbeat/region.js';
import { NodeMap } from '../../src/node-map.js';

const fixtures = path.resolve(import.meta.dirname, '../../../../test/fixtures/o2cb');
const fixture = (name: string) => fs.readFileSync(path.join(fixtures, name));

describe('blocks', () => {
  it('of kernel nodes have our checksum, and are encoded to the same bytes', () => {
    const used = new Map<string, number>();
    for (const file of fs.readdirSync(fixtures).filter((name) => /^hb-.*\.bin$/.test(name))) {
      const bytes = fixture(file);
      const size = file === 'hb-4k-global.bin' ? 4096 : 512;
      for (let at = 0; at < bytes.length; at += size) {
        const sector = bytes.subarray(at, at + size);
        expect(checksumGood(sector), `${file} at ${at}`).toBe(true);
        const block = decodeBlock(sector);
        if (block.seq === 0n) continue;
        expect(block.node, `${file} at ${at}`).toBe((at / size) % (file === 'hb-series.bin' ? 4 : 256));
        expect(Buffer.from(encodeBlock(block, size)).equals(sector), `${file} at ${at}`).toBe(true);
        used.set(file, (used.get(file) ?? 0) + 1);
      }
    }
    expect(used.get('hb-00-fresh.bin')).toBeUndefined();
    expect(used.get('hb-03-three-nodes.bin')).toBe(3);
    expect(used.get('hb-4k-global.bin')).toBe(2);
    expect(decodeBlock(fixture('hb-02-two-nodes.bin').subarray(512))).toEqual({ seq: 0x6b02eb8dn, node: 1, generation: 0xfdcbd481bc3082b9n, deadMs: 62_000, over: false });
    expect(decodeBlock(fixture('hb-04-node3-left.bin').subarray(3 * 512)).generation).toBe(0n);
  });

  it('are known by any flipped bit', () => {
    const sector = encodeBlock({ seq: 1n, node: 3, generation: 9n, deadMs: 62_000 }, 512);
    for (let bit = 0; bit < 512 * 8; bit++) {
      sector[bit >> 3] ^= 1 << (bit & 7);
      expect(checksumGood(sector)).toBe(false);
      sector[bit >> 3] ^= 1 << (bit & 7);
    }
    expect(checksumGood(sector)).toBe(true);
  });

  it('and keys use one checksum', () => {
    const uuid = '0123456789ABCDEF0123456789ABCDEF';
    expect([crc32le(0, Buffer.from(uuid)), regionKey(uuid, 0), crc32le(0, new Uint8Array(99))]).toEqual([0xce613ceb, 0xf4d3e139, 0]);
  });
});

/** A region on a disk in memory, driven step by step. */
class Bench {
  readonly disk: Uint8Array;
  readonly region: Region;
  readonly events: string[] = [];
  readonly counts = new SharedLiveCounts();
  readonly blockBytes: number;
  seconds = 1000n;
  /** Milliseconds. */
  now = 0;
  writes = 0;
  fail?: 'read' | 'write';

  constructor(options: Partial<RegionOptions> & { before?: (bench: Bench) => void } = {}) {
    this.blockBytes = options.blockBytes ?? 512;
    this.disk = new Uint8Array(REGION_BLOCKS * this.blockBytes);
    options.before?.(this);
    this.region = new Region(
      { node: 0, blockBytes: this.blockBytes, threshold: 5, generation: 77n, live: this.counts, configured: () => new NodeMap([0, 1, 2]), ...options },
      { up: (n) => this.events.push(`up ${n}`), down: (n) => this.events.push(`down ${n}`), warning: (what, n) => this.events.push(`${what} ${n}`) },
    );
    this.region.populate(this.disk.slice());
  }

  put(node: number, seq: bigint, generation: bigint, deadMs = 10_000): void {
    this.disk.set(encodeBlock({ seq, node, generation, deadMs }, this.blockBytes), node * this.blockBytes);
  }

  slot(node: number): Uint8Array {
    return this.disk.subarray(node * this.blockBytes, (node + 1) * this.blockBytes);
  }

  /** One iteration; gives what it reported. */
  beat(afterMs = 2000): { good: boolean; events: string[]; failed: boolean } {
    this.now += afterMs;
    const beat = this.region.beat((this.seconds += 2n), this.now);
    let step = beat.next();
    while (step.done !== true) {
      const request: RegionRequest = step.value;
      if (this.fail === request.op) {
        step = beat.throw(new Error(`${request.op} fails`));
      } else if (request.op === 'read') {
        step = beat.next(this.disk.slice(request.first * this.blockBytes, (request.first + request.count) * this.blockBytes));
      } else {
        expect(request.block.length).toBe(this.blockBytes);
        this.disk.set(request.block, request.node * this.blockBytes);
        this.writes++;
        step = beat.next(undefined);
      }
    }
    return { good: step.value.good, events: this.events.splice(0), failed: step.value.error !== undefined };
  }
}

/** Iterations of the bench in which nothing about ourselves is told. */
const settled = (options: ConstructorParameters<typeof Bench>[0] = {}): Bench => {
  const bench = new Bench(options);
  for (let i = 0; i < 6; i++) bench.beat();
  expect(bench.region.state).toBe('steady');
  return bench;
};

describe('a region', () => {
  it('sees in the dumps of a kernel cluster who came and went', () => {
    const series = fixture('hb-series.bin');
    const sample = (i: number) => series.subarray(i * 2048, (i + 1) * 2048);
    const told: string[] = [];
    let at = 0;
    const region = new Region(
      { node: 9, blockBytes: 512, threshold: 31, generation: 1n, live: new SharedLiveCounts(), configured: () => new NodeMap([0, 1, 2, 3, 9]) },
      { up: (n) => told.push(`${at} up ${n}`), down: (n) => told.push(`${at} down ${n}`), warning: (what) => told.push(what) },
    );
    const disk = new Uint8Array(REGION_BLOCKS * 512);
    disk.set(sample(0));
    region.populate(disk.slice());
    for (at = 0; at < 115; at += 2) {
      disk.set(sample(at));
      const beat = region.beat(BigInt(at + 1), at * 1000);
      beat.next();
      const { value } = beat.next(disk.slice(0, 10 * 512));
      disk.set((value as { block: Uint8Array }).block, 9 * 512);
      beat.next(undefined);
    }
    // Node 1 begins in sample 3, node 2 in 9; node 2 says goodbye in 28; node 1 is killed, its last beat is in 31.
    expect(told.filter((line) => !line.endsWith(' 9'))).toEqual(['6 up 1', '12 up 2', '28 down 2', '94 down 1']);
  });

  it('takes a node for live with two changes, for dead after T samples without one', () => {
    const bench = settled();
    let seq = 5n;
    const told = Array.from({ length: 12 }, (_, i) => {
      if (i < 4) bench.put(1, seq++, 3n);
      return bench.beat().events.join();
    });
    expect(told).toEqual(['', 'up 1', '', '', '', '', '', '', 'down 1', '', '', '']);
  });

  it('takes a goodbye for a death at once, and a new generation for a death and a birth', () => {
    const bench = settled();
    bench.put(1, 5n, 3n);
    bench.beat();
    bench.put(1, 6n, 3n);
    expect(bench.beat().events).toEqual(['up 1']);
    bench.put(1, 7n, 3n);
    expect(bench.beat().events).toEqual([]);
    bench.put(1, 8n, 0n);
    expect(bench.beat().events).toEqual(['down 1']);
    bench.beat();
    bench.put(1, 9n, 4n);
    // The change that was its goodbye counts, too.
    expect(bench.beat().events).toEqual(['up 1']);
    bench.put(1, 10n, 5n);
    expect(bench.beat().events).toEqual(['down 1']);
    expect(bench.beat().events).toEqual(['up 1']);
  });

  it('believes nothing of a block with a bad checksum: a missed beat', () => {
    const bench = settled();
    for (let seq = 1n; seq < 4n; seq++) {
      bench.put(1, seq, 3n);
      bench.beat();
    }
    for (let i = 0; i < 5; i++) {
      bench.put(1, BigInt(10 + i), 3n);
      bench.slot(1)[100] ^= 1;
      expect(bench.beat().events).toEqual(i < 4 ? ['bad-checksum 1'] : ['bad-checksum 1', 'down 1']);
    }
    expect(bench.beat().events).toEqual([]);
  });

  it('tells of another threshold, and ignores nodes that are not configured unless they live', () => {
    let nodes = new NodeMap([0, 1, 2]);
    const bench = settled({ configured: () => nodes });
    for (let seq = 1n; seq < 5n; seq++) {
      bench.put(1, seq, 3n, 62_000);
      bench.put(2, seq, 3n, 0);
      bench.put(3, seq, 3n);
      expect(bench.beat().events).toEqual(seq === 2n ? ['other-threshold 1', 'up 1', 'up 2'] : []);
    }
    nodes = new NodeMap([0, 2]);
    for (let i = 0; i < 4; i++) expect(bench.beat().events).toEqual([]);
    expect(bench.beat().events).toEqual(['down 1', 'down 2']);
  });

  it('is steady after three good beats in which nobody came or went, of which the first in a slot never used is none', () => {
    const steps = (bench: Bench, count: number) => Array.from({ length: count }, () => `${bench.beat().good} ${bench.region.state}`);
    expect(steps(new Bench(), 5)).toEqual(['false settling', 'true settling', 'true settling', 'true settling', 'true steady']);
    // After a goodbye the first counts. The second brings ourselves up, which is a change.
    expect(steps(new Bench({ before: (b) => b.put(0, 500n, 0n) }), 4)).toEqual(['true settling', 'true settling', 'true settling', 'true steady']);
    expect(steps(new Bench({ firstGlobal: true, before: (b) => b.put(0, 500n, 0n) }), 6).indexOf('true steady')).toBe(5);
  });

  it('gives up to settle after three times as many', () => {
    const bench = new Bench();
    bench.fail = 'write';
    const states = Array.from({ length: 9 }, () => {
      bench.beat();
      return bench.region.state;
    });
    expect(states.indexOf('unstable')).toBe(8);
    expect(bench.writes).toBe(0);
  });

  it('renews nothing by a beat that failed or found another in its slot', () => {
    const bench = settled();
    bench.fail = 'write';
    expect(bench.beat()).toMatchObject({ good: false, failed: true });
    bench.fail = 'read';
    expect(bench.beat()).toMatchObject({ good: false, failed: true });
    bench.fail = undefined;
    // Whether or not the write that failed came to the disk: what is there is ours.
    expect(bench.beat()).toMatchObject({ good: true, events: [] });
    const old = bench.slot(0).slice();
    bench.beat();
    bench.slot(0).set(old);
    expect(bench.beat()).toMatchObject({ good: false, events: ['lost-beat 0'] });
    expect(bench.beat().good).toBe(true);
    bench.put(0, 5n, 99n);
    expect(bench.beat()).toMatchObject({ good: false, events: ['foreign-beat 0'] });
    bench.slot(0).set(encodeBlock({ seq: 5n, node: 1, generation: 77n, deadMs: 0 }, 512));
    expect(bench.beat()).toMatchObject({ good: false, events: ['foreign-beat 0'] });
  });

  it('watches a slot that nobody left before it writes, and never writes where somebody beats', () => {
    const crashed = new Bench({ before: (b) => b.put(0, 500n, 12n) });
    for (let i = 0; i < 2; i++) expect([crashed.region.state, crashed.beat().good, crashed.writes, crashed.region.state]).toEqual(['watching', false, 0, 'watching']);
    // Nobody is there: the others are told that the run is over, by a beat that is no other one to Linux, and have three intervals to see it.
    for (let i = 0; i < 3; i++) {
      expect([crashed.beat().good, crashed.writes, crashed.region.state]).toEqual([false, 1, 'watching']);
      expect([checksumGood(crashed.slot(0)), decodeBlock(crashed.slot(0))]).toEqual([true, { seq: 500n, node: 0, generation: 12n, deadMs: 10_000, over: true }]);
    }
    expect([crashed.beat().good, crashed.writes, crashed.region.state, decodeBlock(crashed.slot(0)).over]).toEqual([true, 2, 'settling', false]);
    const taken = new Bench({ before: (b) => b.put(0, 500n, 12n) });
    taken.beat();
    taken.put(0, 502n, 12n);
    expect(taken.beat()).toMatchObject({ good: false, events: ['foreign-beat 0'] });
    // We never wrote: there is nothing to take back.
    expect([taken.region.state, taken.writes, taken.region.leave(1n)]).toEqual(['taken', 0, undefined]);
  });

  it('writes a seq that is never the same, whatever the clock does', () => {
    const bench = new Bench();
    const seen = new Set<bigint>();
    for (const seconds of [1000n, 1000n, 1000n, 5n, 0n, 4000n, 4001n, 4000n]) {
      bench.seconds = seconds - 2n;
      bench.beat();
      const { seq, generation, deadMs } = decodeBlock(bench.slot(0));
      expect([generation, deadMs, seen.has(seq)]).toEqual([77n, 10_000, false]);
      seen.add(seq);
    }
    const zero = new Bench();
    zero.seconds = -2n;
    zero.beat();
    expect(decodeBlock(zero.slot(0)).seq).toBe(1n);
    const same = new Bench({ before: (b) => b.put(0, 1002n, 0n) });
    same.beat();
    expect(decodeBlock(same.slot(0)).seq).toBe(1003n);
  });

  it('suspects who is nearly silent for long enough, and whose run is over, until they beat or are dead', () => {
    const bench = settled({ threshold: 7 });
    const suspects = (): number[] => {
      bench.beat();
      return bench.region.suspects(bench.now);
    };
    for (let seq = 1n; seq < 4n; seq++) for (const node of [1, 2]) {
      bench.put(node, seq, 3n);
      bench.beat();
    }
    bench.put(1, 9n, 3n);
    bench.put(2, 9n, 3n);
    expect(Array.from({ length: 5 }, suspects)).toEqual([[], [], [], [], [1, 2]]);
    bench.put(2, 10n, 3n);
    expect(Array.from({ length: 3 }, suspects)).toEqual([[1], [1], []]);
    expect(bench.region.silent()).toEqual([[0, 0], [2, 2]]);
    bench.slot(2).set(encodeBlock({ seq: 10n, node: 2, generation: 3n, deadMs: 0, over: true }, 512));
    expect(suspects()).toEqual([2]);
    bench.put(2, 11n, 4n);
    expect([suspects(), bench.region.silent()]).toEqual([[], [[0, 0]]]);
  });

  it('suspects, when its looks came late, whom others may have found dead by now', () => {
    const bench = settled({ threshold: 7 });
    for (let seq = 1n; seq < 6n; seq++) {
      bench.put(1, seq, 3n);
      bench.beat();
    }
    // What it sees now may have been written seven seconds ago.
    bench.put(1, 9n, 3n);
    bench.beat(7000);
    const suspects = (): number[] => {
      bench.beat();
      return bench.region.suspects(bench.now);
    };
    expect([bench.region.suspects(bench.now), suspects(), suspects()]).toEqual([[], [], [1]]);
    bench.put(1, 10n, 3n);
    expect(suspects()).toEqual([]);
    bench.fail = 'read';
    const { looked } = bench.region;
    bench.beat();
    expect([bench.region.looked, bench.now - looked]).toEqual([looked, 2000]);
  });

  it('is unsure of those who went without goodbye until they were quiet for long enough', () => {
    const bench = new Bench({ before: (b) => {
      b.put(1, 500n, 12n);
      b.put(2, 500n, 0n);
    } });
    const unsure = (): number[] => {
      bench.beat();
      return bench.region.unsure();
    };
    expect(Array.from({ length: 5 }, unsure)).toEqual([[1], [1], [1], [1], []]);
    bench.put(1, 502n, 12n);
    bench.beat();
    expect(bench.region.unsure()).toEqual([1]);
    bench.put(1, 504n, 12n);
    bench.beat();
    expect(bench.region.unsure()).toEqual([]);
    expect(bench.region.silent()).toContainEqual([1, 0]);
  });

  it('says goodbye when it leaves, after it took everybody down', () => {
    const bench = settled({ blockBytes: 4096 });
    for (let seq = 1n; seq < 4n; seq++) {
      bench.put(2, seq, 3n);
      bench.beat();
    }
    const block = bench.region.leave(5000n)!;
    expect(bench.events.splice(0)).toEqual(['down 0', 'down 2']);
    expect([checksumGood(block), block.length, decodeBlock(block)]).toEqual([true, 4096, { seq: 5000n, node: 0, generation: 0n, deadMs: 10_000, over: false }]);
    expect([0, 1, 2].map((n) => bench.counts.has(n))).toEqual([false, false, false]);
  });

  it('reads no more than from the lowest to the highest node, and writes its own sector alone', () => {
    const bench = new Bench({ node: 4, configured: () => new NodeMap([3, 4, 8]) });
    const beat = bench.region.beat(1n, 0);
    expect(beat.next().value).toEqual({ op: 'read', first: 3, count: 6 });
    expect(beat.next(new Uint8Array(6 * 512)).value).toMatchObject({ op: 'write', node: 4 });
  });

  it('agrees with the rules as they are written down, for random writers', () => {
    const random = new Random(Number(process.env.LUNFS_SEED ?? 20_261_122));
    for (let round = 0; round < 300; round++) {
      const threshold = 3 + random.int(5);
      const bench = new Bench({ threshold });
      // cluster-protocols.md 2.4 for one slot, as plainly as it can be said.
      let seq = 0n;
      let generation = 0n;
      const model = { seq: 0n, generation: 0n, changed: 0, equal: 0, live: false };
      const told: string[] = [];
      const expected: string[] = [];
      let mode = random.int(3);
      for (let i = 0; i < 60; i++) {
        if (random.chance(0.15)) mode = random.int(3);
        if (random.chance(0.05)) generation = BigInt(random.int(3));
        if (mode > 0 && random.chance(mode === 1 ? 1 : 0.3)) seq += BigInt(1 + random.int(3));
        bench.put(1, seq, generation);
        const bad = random.chance(0.08);
        if (bad) bench.slot(1)[30] ^= 8;
        told.push(...bench.beat().events.filter((event) => /^(up|down) 1$/.test(event)));
        let renewed = false;
        if (bad) {
          if (!model.live) continue;
          model.equal++;
        } else {
          if (seq !== model.seq) model.changed++;
          else model.equal++;
          renewed = generation !== model.generation;
          if (renewed) model.equal = 0;
          model.seq = seq;
          model.generation = generation;
        }
        if (!model.live) {
          if (model.changed >= 2) {
            model.live = true;
            model.equal = 0;
            expected.push('up 1');
          }
        } else if (model.equal >= threshold || renewed) {
          model.live = false;
          if (!renewed) model.changed = 0;
          expected.push('down 1');
        } else if (model.changed > 0) {
          model.changed = 0;
          model.equal = 0;
        }
        expect(told, `seed ${random.seed}, round ${round}, step ${i}`).toEqual(expected);
      }
    }
  });
});
