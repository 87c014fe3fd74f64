/**
 * The journal against a power failure at every request, exactly: random operations on a tiny volume, every crash image
 * recovered, and the blocks compared with the state after some prefix of the operations that holds all that was promised.
 */
import { type BlockDevice, FaultyDevice, type MemoryDevice, Random, RecordingDevice, prefixImages, reorderedImages } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { Journal, replayJournal } from '../../src/journal/index.js';
import { EX } from '../../src/locking/index.js';
import { BlockCache, Engine } from '../../src/txn/index.js';
import { FREE_LOCKS, TestClock } from '../support/context.js';
import { TOY_BLOCK, type TinyOptions, type TinyVolume, readBlocks, tinyVolume } from '../support/tiny.js';

/** What an operation leaves in a block: its number, sometimes in a block that looks like one of the log's own. */
function fill(bytes: Uint8Array, op: number, blkno: number): void {
  const dv = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  bytes.fill((op * 7 + blkno) & 0xff, 16);
  if (blkno % 5 === 0) dv.setUint32(0, 0xc03b3998);
  else dv.setUint32(0, 0x11111111);
  dv.setUint32(4, op);
}

interface Script {
  readonly volume: TinyVolume;
  readonly recording: RecordingDevice;
  /** Blocks each operation changed, by operation number from 1. */
  readonly ops: readonly (readonly number[])[];
}

/** Runs requests on a device that takes its time, in an order the dice choose. */
class Dawdler {
  constructor(private readonly random: Random) {}
  async sleep(): Promise<void> {
    for (let turns = this.random.int(4); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
  }
}

/** `large`: share of the operations that change up to 200 blocks. */
async function runScript(seed: number, options: TinyOptions, count: number, large = 0.1): Promise<Script> {
  const random = new Random(seed);
  const volume = tinyVolume(options);
  const { geo, map, device, first, end } = volume;
  const recording = new RecordingDevice(device);
  // The delay sits below the recording: requests submitted together complete in any order.
  const slow = new FaultyDevice(device, { random: random.fork(), clock: new Dawdler(random.fork()), latency: () => 1 });
  (recording as { inner: BlockDevice }).inner = slow;
  const journal = await Journal.open(recording, geo, map, { clock: new TestClock() });
  const cache = new BlockCache(recording, geo);
  const engine = new Engine(geo, cache, FREE_LOCKS, journal, new TestClock());
  const ops: number[][] = [[]];
  const pending: Promise<unknown>[] = [];
  for (let i = 1; i <= count; i++) {
    const n = random.chance(large) ? 1 + random.int(200) : 1 + random.int(8);
    const blocks = Array.from({ length: n }, () => first + random.int(end - first));
    await engine.run('toy', (op) => {
      const lock = op.lock('M', EX, 0);
      const distinct = [...new Set(blocks)];
      for (const blkno of distinct) {
        if (blkno % 2 === 0) fill(op.create(lock, blkno, TOY_BLOCK).bytes, ops.length, blkno);
        else fill(op.write(lock, blkno, TOY_BLOCK).bytes, ops.length, blkno);
      }
      op.onApply(() => ops.push(distinct));
    });
    const number = ops.length - 1;
    const dice = random.int(12);
    const promise = (async (): Promise<void> => {
      if (dice < 2) {
        await journal.commit();
        recording.mark(`durable ${number}`);
      } else if (dice < 4) {
        await journal.commit({ durable: false });
        recording.mark(`logged ${number}`);
      } else if (dice === 4) {
        await journal.flush();
        recording.mark(`durable ${number}`);
      }
    })();
    if (random.chance(0.5)) await promise;
    else pending.push(promise);
  }
  await Promise.all(pending);
  await journal.close();
  recording.mark(`durable ${ops.length - 1}`);
  return { volume, recording, ops };
}

function promised(marks: readonly string[], kinds: readonly string[]): number {
  return Math.max(0, ...marks.map((m) => m.split(' ')).filter(([kind]) => kinds.includes(kind)).map(([, n]) => Number(n)));
}

/** Recover an image; returns the number of operations it shows, after checking that it shows them wholly. */
async function recovered(script: Script, image: MemoryDevice): Promise<number> {
  const { geo, map, first, end } = script.volume;
  await replayJournal(image, geo, map);
  const bytes = await readBlocks(image, geo.blockSize, first, end);
  const dv = new DataView(bytes.buffer);
  const size = geo.blockSize;
  let last = 0;
  for (let b = 0; b < end - first; b++) last = Math.max(last, dv.getUint32(b * size + 4));
  const want = new Map<number, number>();
  for (let op = 1; op <= last; op++) for (const blkno of script.ops[op]) want.set(blkno, op);
  const expected = new Uint8Array(size);
  for (let blkno = first; blkno < end; blkno++) {
    const block = bytes.subarray((blkno - first) * size, (blkno - first + 1) * size);
    expected.fill(0);
    const op = want.get(blkno);
    if (op !== undefined) fill(expected, op, blkno);
    block.fill(0, 8, 16); // the checksum
    if (Buffer.compare(block, expected) !== 0) throw new Error(`block ${blkno}: shows operation ${dv.getUint32((blkno - first) * size + 4)}, wanted ${op} of ${last}`);
  }
  // A second recovery changes nothing.
  expect((await replayJournal(image, geo, map)).replayed).toBe(0);
  return last;
}

const CASES: readonly (TinyOptions & { readonly name: string; readonly seed: number; readonly count: number; readonly large?: number })[] = [
  { name: '512-byte blocks, numbers that wrap', blockSize: 512, sequence: 0xffff_fff0, seed: 1, count: 100 },
  { name: '1K blocks, 64-bit tags', blockSize: 1024, bit64: true, metaecc: false, seed: 2, count: 60 },
  { name: '4K blocks', blockSize: 4096, seed: 3, count: 40 },
  { name: 'a log that is always full', blockSize: 512, seed: 4, count: 60, large: 0.9 },
];

describe.each(CASES)('a crash at every request, $name', (options) => {
  test('kept in order: everything logged is there', async () => {
    const script = await runScript(options.seed, options, options.count, options.large);
    let images = 0;
    for (const { device, marks, point } of prefixImages(script.recording)) {
      const shown = await recovered(script, device);
      expect(shown, `crash at ${point}`).toBeGreaterThanOrEqual(promised(marks, ['durable', 'logged']));
      images++;
    }
    expect(images).toBeGreaterThan(100);
  });

  test('reordered, lost and torn: everything durable is there', async () => {
    const script = await runScript(options.seed + 100, options, options.count, options.large);
    for (const { device, marks, point, seed } of reorderedImages(script.recording, new Random(options.seed), { perPoint: 2 })) {
      const shown = await recovered(script, device);
      expect(shown, `crash at ${point}, seed ${seed}`).toBeGreaterThanOrEqual(promised(marks, ['durable']));
    }
  });
});

test('a recovered volume goes on, and a crash of that is recovered too', async () => {
  const script = await runScript(7, {}, 40);
  const { geo, map, first } = script.volume;
  let n = 0;
  for (const { device } of reorderedImages(script.recording, new Random(7), { perPoint: 1, select: (p) => p % 5 === 0 })) {
    const shown = await recovered(script, device);
    const again = new RecordingDevice(device);
    const journal = await Journal.open(again, geo, map, { clock: new TestClock() });
    const engine = new Engine(geo, new BlockCache(again, geo), FREE_LOCKS, journal, new TestClock());
    for (let i = 0; i < 3; i++) {
      await engine.run('more', (op) => fill(op.create(op.lock('M', EX, 0), first + i, TOY_BLOCK).bytes, 1000 + i, first + i));
      await journal.commit();
      again.mark(String(i + 1));
    }
    for (const second of prefixImages(again)) {
      await replayJournal(second.device, geo, map);
      const bytes = await readBlocks(second.device, geo.blockSize, first, first + 3);
      const dv = new DataView(bytes.buffer);
      const got = [0, 1, 2].filter((i) => dv.getUint32(i * geo.blockSize + 4) === 1000 + i).length;
      expect(got).toBeGreaterThanOrEqual(second.marks.length);
    }
    expect(shown).toBeGreaterThanOrEqual(0);
    n++;
  }
  expect(n).toBeGreaterThan(10);
});

test('a crash of the recovery itself, at every request', async () => {
  const script = await runScript(8, {}, 30);
  const { geo, map, first, end } = script.volume;
  let replays = 0;
  for (const { device } of reorderedImages(script.recording, new Random(8), { select: (p) => p % 10 === 1 })) {
    const recording = new RecordingDevice(device);
    const { replayed } = await replayJournal(recording, geo, map);
    if (replayed === 0) continue;
    replays++;
    const want = await readBlocks(device, geo.blockSize, first, end);
    for (const images of [prefixImages(recording), reorderedImages(recording, new Random(replays))]) {
      for (const image of images) {
        await replayJournal(image.device, geo, map);
        expect(Buffer.compare(await readBlocks(image.device, geo.blockSize, first, end), want)).toBe(0);
      }
    }
  }
  expect(replays).toBeGreaterThan(3);
});
