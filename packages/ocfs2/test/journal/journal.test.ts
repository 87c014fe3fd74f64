import { type BlockDevice, FaultyDevice, Random, RecordingDevice } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { Block, Jbd2Super } from '../../src/format/index.js';
import { Journal, LogReader, replayJournal } from '../../src/journal/index.js';
import { EX } from '../../src/locking/index.js';
import { BlockCache, Engine, type Op } from '../../src/txn/index.js';
import { FREE_LOCKS, TestClock } from '../support/context.js';
import { TestTimers, TOY_BLOCK, type TinyOptions, type TinyVolume, readBlocks, tinyVolume } from '../support/tiny.js';

interface Bench {
  readonly volume: TinyVolume;
  readonly recording: RecordingDevice;
  readonly faulty: FaultyDevice;
  readonly journal: Journal;
  readonly engine: Engine;
  readonly timers: TestTimers;
  /** Write `value` into blocks from the volume's first, under a lock. */
  change(value: number, blocks: readonly number[], more?: (op: Op) => void, owner?: string): Promise<void>;
}

async function bench(options: TinyOptions = {}): Promise<Bench> {
  const volume = tinyVolume(options);
  const { geo, map, device, first } = volume;
  const faulty = new FaultyDevice(device, { random: new Random(1) });
  const recording = new RecordingDevice(device);
  (recording as { inner: BlockDevice }).inner = faulty;
  const timers = new TestTimers();
  const journal = await Journal.open(recording, geo, map, { clock: new TestClock(), timers });
  const engine = new Engine(geo, new BlockCache(recording, geo), FREE_LOCKS, journal, new TestClock());
  return {
    volume, recording, faulty, journal, engine, timers,
    change: (value, blocks, more, owner = 'M') => engine.run('change', (op) => {
      const lock = op.lock(owner, EX, 0);
      for (const n of blocks) op.create(lock, first + n, TOY_BLOCK).dv.setUint32(0, value);
      more?.(op);
    }),
  };
}

/** Values of the first `n` blocks on a copy of the device after recovery. */
async function recoveredValues(b: Bench, n: number): Promise<number[]> {
  const copy = b.faulty.snapshot();
  const { geo, map, first } = b.volume;
  await replayJournal(copy, geo, map);
  const bytes = await readBlocks(copy, geo.blockSize, first, first + n);
  return Array.from({ length: n }, (_, i) => new DataView(bytes.buffer).getUint32(i * geo.blockSize));
}

const flushes = (b: Bench): number => b.recording.log.filter((e) => e.kind === 'flush').length;

describe('commit', () => {
  test('makes operations recoverable, not those after it', async () => {
    const b = await bench();
    await b.change(1, [0, 1]);
    await b.change(2, [1, 2]);
    await b.journal.commit();
    await b.change(3, [0]);
    expect(await recoveredValues(b, 3)).toEqual([1, 2, 2]);
  });

  test('is shared by callers that come while one runs', async () => {
    const b = await bench();
    await b.change(1, [0]);
    const before = flushes(b);
    const first = b.journal.commit();
    const rest: Promise<void>[] = [];
    for (let i = 1; i <= 20; i++) {
      await b.change(i, [i]);
      rest.push(b.journal.commit());
    }
    await Promise.all([first, ...rest]);
    // At most: the first commit, one shared by all who came meanwhile, and one for those who came between.
    expect(flushes(b) - before).toBeLessThanOrEqual(6);
    expect(await recoveredValues(b, 21)).toEqual([1, ...Array.from({ length: 20 }, (_, i) => i + 1)]);
  });

  test('of nothing touches nothing, but a barrier flushes what was written directly', async () => {
    const b = await bench();
    await b.journal.commit();
    const before = b.recording.log.length;
    await b.journal.commit();
    expect(b.recording.log.length).toBe(before);
    await b.recording.write(0, new Uint8Array(512));
    await b.journal.commit({ barrier: true });
    expect(b.recording.log.slice(before).map((e) => e.kind)).toEqual(['write', 'flush']);
  });

  test('without durability spares the last flush; onCommit waits for it', async () => {
    const b = await bench();
    let told = 0;
    await b.change(1, [0], (op) => op.onCommit(() => told++));
    const before = flushes(b);
    await b.journal.commit({ durable: false });
    expect(flushes(b) - before).toBe(1);
    expect(told).toBe(0);
    expect(await recoveredValues(b, 1)).toEqual([1]); // the process may die now
    await b.journal.commit();
    expect(flushes(b) - before).toBe(2);
    expect(told).toBe(1);
  });

  test('comes by itself after the interval', async () => {
    const b = await bench();
    await b.change(1, [0]);
    expect(b.timers.pending).toBe(1);
    b.timers.fire();
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
    expect(await recoveredValues(b, 1)).toEqual([1]);
    expect(b.timers.pending).toBe(0);
  });

  test('waits for ordered data, and its failure stops the journal', async () => {
    const b = await bench();
    let written!: () => void;
    const data = new Promise<void>((resolve) => {
      written = resolve;
    });
    await b.change(1, [0], (op) => op.ordered(data));
    let done = false;
    const commit = b.journal.commit().then(() => (done = true));
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
    expect(done).toBe(false);
    expect(await recoveredValues(b, 1)).toEqual([0]);
    written();
    await commit;
    expect(await recoveredValues(b, 1)).toEqual([1]);
    await b.change(2, [0], (op) => op.ordered(Promise.reject(new Error('no such sector'))));
    await expect(b.journal.commit()).rejects.toMatchObject({ code: 'JOURNAL_ABORTED' });
    expect(await recoveredValues(b, 1)).toEqual([1]);
  });

  test('of many blocks takes few device writes', async () => {
    const b = await bench({ blockSize: 4096, toyBlocks: 300 });
    const before = b.recording.changes;
    await b.change(1, Array.from({ length: 240 }, (_, i) => i));
    await b.journal.commit();
    // 241 log blocks of 4 KiB in requests of up to 512 KiB, the commit block, the superblock.
    expect(b.recording.changes - before).toBeLessThanOrEqual(5);
  });
});

describe('space', () => {
  test('an operation larger than a transaction is refused', async () => {
    const b = await bench();
    await expect(b.change(1, Array.from({ length: 260 }, (_, i) => i))).rejects.toMatchObject({ code: 'JOURNAL_OPERATION_SIZE' });
    await b.change(1, Array.from({ length: b.journal.maxBlocks }, (_, i) => i));
    await b.journal.commit();
  });

  test('many large operations at once go round the log many times', async () => {
    const b = await bench();
    const random = new Random(5);
    const last: number[] = new Array<number>(300).fill(0);
    for (let round = 0; round < 6; round++) {
      await Promise.all(Array.from({ length: 10 }, (_, i) => {
        const value = round * 10 + i + 1;
        const blocks = [...new Set(Array.from({ length: 200 }, () => random.int(300)))];
        return b.change(value, blocks, (op) => op.onApply(() => {
          for (const n of blocks) last[n] = value;
        }));
      }));
    }
    await b.journal.commit();
    expect(await recoveredValues(b, 300)).toEqual(last);
    await b.journal.flush();
    const { geo, map } = b.volume;
    const copy = b.faulty.snapshot();
    expect((await replayJournal(copy, geo, map)).transactions).toBe(0);
    expect(await recoveredValues(b, 300)).toEqual(last);
  });
});

test('a flush for one lock leaves changes under others where they are', async () => {
  const b = await bench();
  await b.change(1, [0], undefined, 'A');
  await b.journal.flushOwner('A');
  await b.change(2, [1], undefined, 'B');
  const before = b.recording.log.length;
  await b.journal.flushOwner('A');
  expect(b.recording.log.length).toBe(before);
  await b.journal.flushOwner('B');
  expect(b.recording.log.length).toBeGreaterThan(before);
});

test('a clean close leaves an empty log, and its numbers are never used again', async () => {
  const b = await bench({ sequence: 0xffff_ffff });
  const { geo, map } = b.volume;
  const sequences: number[] = [];
  for (let i = 0; i < 3; i++) {
    const journal = await Journal.open(b.recording, geo, map, { clock: new TestClock() });
    const engine = new Engine(geo, new BlockCache(b.recording, geo), FREE_LOCKS, journal, new TestClock());
    await engine.run('x', (op) => void op.create(op.lock('M', EX, 0), b.volume.first, TOY_BLOCK));
    await journal.commit();
    const { transactions } = await (await LogReader.open(b.faulty.snapshot(), geo, map)).scan();
    sequences.push(...transactions.map((t) => t.sequence));
    await journal.close();
    await expect(journal.commit()).rejects.toMatchObject({ code: 'JOURNAL_CLOSED' });
    const block = new Block('tiny', 0, await readBlocks(b.faulty.snapshot(), geo.blockSize, map.at(0).blkno, map.at(0).blkno + 1));
    expect(Jbd2Super.at(block).start).toBe(0);
  }
  expect(new Set(sequences).size).toBe(3);
});

test('a failed write or flush stops the journal for good, wherever it happens', async () => {
  for (const operation of ['write', 'flush'] as const) {
    for (let after = 0; ; after++) {
      const b = await bench();
      b.faulty.fail({ operations: [operation], after, times: 1 });
      let promised = 0, failed: unknown;
      try {
        for (let value = 1; value <= 4; value++) {
          await b.change(value, [0, value]);
          await b.journal.commit();
          promised = value;
          if (value % 2 === 0) await b.journal.flush();
        }
      } catch (error) {
        failed = error;
      }
      if (failed === undefined) {
        expect(after).toBeGreaterThan(5);
        break;
      }
      expect(failed).toMatchObject({ code: 'JOURNAL_ABORTED' });
      expect(b.journal.aborted).toBe(failed);
      const before = b.recording.log.length;
      await expect(b.change(9, [0])).rejects.toMatchObject({ code: 'JOURNAL_ABORTED' });
      await expect(b.journal.commit()).rejects.toMatchObject({ code: 'JOURNAL_ABORTED' });
      await expect(b.journal.flush()).rejects.toMatchObject({ code: 'JOURNAL_ABORTED' });
      await expect(b.journal.close()).rejects.toMatchObject({ code: 'JOURNAL_ABORTED' });
      expect(b.recording.log.length).toBe(before);
      const [shown] = await recoveredValues(b, 1);
      expect(shown).toBeGreaterThanOrEqual(promised);
      expect(await recoveredValues(b, 5)).toEqual([shown, ...[1, 2, 3, 4].map((v) => (v <= shown ? v : 0))]);
    }
  }
});
