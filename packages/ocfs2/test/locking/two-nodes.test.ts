/**
 * Nodes that share a volume, each with its own log, over one Dlm: the rule of giving up a lock, exactly. A crash of all
 * nodes at any request, the logs replayed in any order, must leave every operation whole and in its place: no image of
 * one node's log may overwrite what another node wrote later under the same lock.
 */
import { type MemoryDevice, Random, RecordingDevice, prefixImages, reorderedImages } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { Journal, replayJournal } from '../../src/journal/index.js';
import { EX, type Dlm, HostileDlm, LockManager, MemoryDlm, PR } from '../../src/locking/index.js';
import { BlockCache, Engine } from '../../src/txn/index.js';
import { TestClock } from '../support/context.js';
import { TOY_BLOCK, type TinyVolume, readBlocks, tinyVolume } from '../support/tiny.js';

const REGIONS = 4, PER_REGION = 12;

interface Done {
  readonly node: number;
  /** Number of the operation on its node, from 1. */
  readonly n: number;
  readonly blocks: readonly number[];
}

/** A block says which operation wrote it last, and how often it was written at all. */
const stamp = (node: number, n: number): number => node * 0x10000 + n;

class Node {
  readonly cache: BlockCache;
  readonly locks: LockManager;
  readonly engine: Engine;
  count = 0;

  private constructor(readonly volume: TinyVolume, readonly index: number, device: RecordingDevice, readonly journal: Journal, dlm: Dlm) {
    this.cache = new BlockCache(device, volume.geo);
    this.locks = new LockManager({
      dlm,
      dropOwner: (name) => this.cache.dropOwner(name),
      settle: (name) => journal.flushOwner(name),
      onStuck: (_name, error) => {
        throw error;
      },
    });
    this.engine = new Engine(volume.geo, this.cache, this.locks, journal, new TestClock());
  }

  static async open(volume: TinyVolume, index: number, device: RecordingDevice, dlm: Dlm): Promise<Node> {
    return new Node(volume, index, device, await Journal.open(device, volume.geo, volume.maps[index], { clock: new TestClock() }), dlm);
  }

  /** Change blocks in one to three regions and this node's own counter block, or only look. */
  async operate(random: Random, log: Done[]): Promise<void> {
    const { first } = this.volume;
    const regions = [...new Set(Array.from({ length: 1 + random.int(3) }, () => random.int(REGIONS)))];
    const writes = random.chance(0.7);
    const picks = regions.flatMap((region) => Array.from({ length: 1 + random.int(4) }, () => ({ region, blkno: first + region * PER_REGION + random.int(PER_REGION) })));
    if (!writes) {
      await this.engine.read('look', (op) => {
        for (const { region, blkno } of picks) op.read(op.lock(`M${region}`, PR, region), blkno, TOY_BLOCK);
      });
      return;
    }
    await this.engine.run('change', (op) => {
      const n = this.count + 1;
      const counter = first + REGIONS * PER_REGION + this.index;
      op.write(op.lock(`C${this.index}`, EX, REGIONS), counter, TOY_BLOCK).dv.setUint32(0, n);
      for (const { region, blkno } of picks) {
        const { dv } = op.write(op.lock(`M${region}`, EX, region), blkno, TOY_BLOCK);
        dv.setUint32(0, stamp(this.index, n));
        dv.setUint32(4, dv.getUint32(4) + 1);
      }
      op.onApply(() => {
        this.count = n;
        log.push({ node: this.index, n, blocks: picks.map((p) => p.blkno) });
      });
    });
  }
}

async function run(seed: number, nodes: number, operations: number, makeDlm: (random: Random) => Dlm): Promise<{ volume: TinyVolume; recording: RecordingDevice; log: Done[] }> {
  const random = new Random(seed);
  const volume = tinyVolume({ toyBlocks: REGIONS * PER_REGION + nodes, slots: nodes });
  const recording = new RecordingDevice(volume.device);
  const dlm = makeDlm(random.fork());
  const log: Done[] = [];
  await Promise.all(Array.from({ length: nodes }, async (_, index) => {
    const node = await Node.open(volume, index, recording, dlm);
    // Two users of each node at once.
    await Promise.all([0, 1].map(async () => {
      for (let i = 0; i < operations; i++) {
        await node.operate(random, log);
        if (random.chance(0.2)) {
          const upTo = node.count;
          await node.journal.commit();
          recording.mark(`${index} ${upTo}`);
        }
        if (random.chance(0.3)) await new Promise((resolve) => setImmediate(resolve));
      }
    }));
    await node.journal.close();
    await node.locks.close();
    recording.mark(`${index} ${node.count}`);
  }));
  return { volume, recording, log };
}

async function check({ volume, log }: { volume: TinyVolume; log: readonly Done[] }, image: MemoryDevice, marks: readonly string[], order: readonly number[]): Promise<void> {
  const { geo, maps, first, end } = volume;
  for (const slot of order) await replayJournal(image, geo, maps[slot]);
  const dv = new DataView((await readBlocks(image, geo.blockSize, first, end)).buffer);
  const at = (blkno: number): number => (blkno - first) * geo.blockSize;
  const shown = maps.map((_, node) => dv.getUint32(at(first + REGIONS * PER_REGION + node)));
  for (const mark of marks) {
    const [node, n] = mark.split(' ').map(Number);
    expect(shown[node]).toBeGreaterThanOrEqual(n);
  }
  const want = new Map<number, { stamp: number; writes: number }>();
  for (const { node, n, blocks } of log) {
    for (const blkno of blocks) {
      if (n <= shown[node]) want.set(blkno, { stamp: stamp(node, n), writes: (want.get(blkno)?.writes ?? 0) + 1 });
    }
  }
  for (let blkno = first; blkno < first + REGIONS * PER_REGION; blkno++) {
    const got = { stamp: dv.getUint32(at(blkno)), writes: dv.getUint32(at(blkno) + 4) };
    const expected = want.get(blkno) ?? { stamp: 0, writes: 0 };
    // The count shows that no write of an operation that survived was lost, or built on one that did not.
    if (got.stamp !== expected.stamp || got.writes !== expected.writes) {
      throw new Error(`block ${blkno}: ${JSON.stringify(got)}, wanted ${JSON.stringify(expected)} with ${shown.join(', ')} operations of each node`);
    }
  }
}

const shared = (random: Random): Dlm => new MemoryDlm({ defer: (fn) => (random.chance(0.7) ? queueMicrotask(fn) : void setImmediate(fn)), pick: (n) => random.int(n) });

describe.each([1, 2, 3])('nodes sharing a volume, seed %i', (seed) => {
  test('a crash of all of them at every request', async () => {
    const script = await run(seed, 2, 14, shared);
    const random = new Random(seed);
    for (const { device, marks } of prefixImages(script.recording)) await check(script, device, marks, random.shuffle([0, 1]));
    for (const { device, marks } of reorderedImages(script.recording, random)) await check(script, device, marks, random.shuffle([0, 1]));
    expect(new Set(script.log.map((d) => d.node)).size).toBe(2);
  });

  test('three of them, and each sees what the others did', async () => {
    const script = await run(seed + 10, 3, 30, shared);
    await check(script, script.recording.base!.clone(), [], []); // nothing is there at the start
    await check(script, script.volume.device, script.recording.log.flatMap((e) => (e.kind === 'mark' ? [e.label] : [])), [2, 0, 1]);
  });
});

test('users of one node against a Dlm that wants every lock back at once', async () => {
  for (const seed of [1, 2, 3, 4]) {
    const holder: { dlm?: HostileDlm } = {};
    const script = await run(seed, 1, 40, (random) => (holder.dlm = new HostileDlm({
      random: () => random.float(),
      defer: (fn) => (random.chance(0.8) ? queueMicrotask(fn) : void setImmediate(fn)),
    })));
    expect(holder.dlm!.taken).toBeGreaterThan(20);
    await check(script, script.volume.device, [], []);
  }
});
