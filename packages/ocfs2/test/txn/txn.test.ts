import { MemoryDevice, RecordingDevice, UsageError } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import type { BlockKind, Geometry } from '../../src/format/index.js';
import { EX, type LockLevel, PR } from '../../src/locking/index.js';
import { BlockCache, Engine, type LockTable, type Op, WriteBackLog } from '../../src/txn/index.js';
import { FREE_LOCKS, TestClock } from '../support/context.js';
import { TOY_BLOCK } from '../support/tiny.js';

const geo = { device: 'mem', blockSize: 512, metaecc: false, totalBlocks: 4096 } as unknown as Geometry;
const BAD: BlockKind = { name: 'bad block', checkAt: () => -1, validate: (block) => {
  if (block.blkno === 7) throw new UsageError('BAD', 'EIO', 'block 7 is bad');
} };

/** A device that counts reads and can hold them up. */
class Reads extends MemoryDevice {
  readonly seen: [offset: number, length: number][] = [];
  gate: Promise<void> = Promise.resolve();
  constructor() {
    super({ size: 4096 * 512 });
  }
  override async read(offset: number, into: Uint8Array): Promise<void> {
    this.seen.push([offset / 512, into.length / 512]);
    const { gate } = this;
    super.readSync(offset, into);
    await gate;
  }
}

function bench(capacity?: number, locks: LockTable = FREE_LOCKS): { device: Reads; cache: BlockCache; engine: Engine; log: WriteBackLog } {
  const device = new Reads();
  const cache = new BlockCache(device, geo, capacity);
  const log = new WriteBackLog(device, geo);
  return { device, cache, log, engine: new Engine(geo, cache, locks, log, new TestClock()) };
}

const wish = (blkno: number, owner = 'A', kind = TOY_BLOCK) => ({ blkno, kind, owner });

describe('the block cache', () => {
  test('reads adjacent blocks in one request, and each block once for all who ask', async () => {
    const { device, cache } = bench();
    await Promise.all([cache.load([wish(3), wish(1), wish(2), wish(9)]), cache.load([wish(2), wish(3)])]);
    expect(device.seen).toEqual([[1, 3], [9, 1]]);
    expect(cache.get(2, TOY_BLOCK, 'A')?.block.blkno).toBe(2);
    expect(cache.get(2, TOY_BLOCK, 'B')).toBeUndefined();
  });

  test('publishes the good blocks of a request that holds a bad one, and says so only to who asked for that', async () => {
    const { cache } = bench();
    const [first, second] = await Promise.allSettled([cache.load([wish(6, 'A', BAD), wish(7, 'A', BAD), wish(8, 'A', BAD)]), cache.load([wish(7)])]);
    expect(first).toMatchObject({ status: 'rejected', reason: { code: 'BAD' } });
    expect(second.status).toBe('fulfilled');
    expect(cache.get(8, BAD, 'A')).toBeDefined();
    await cache.load([wish(7)]);
    expect(cache.get(7, TOY_BLOCK, 'A')).toBeDefined();
  });

  test('an operation may need more blocks at a time than the cache keeps', async () => {
    const { engine, cache } = bench(10);
    const all = Array.from({ length: 100 }, (_, i) => i);
    const read = (op: Op): number[] => {
      const lock = op.lock('A', PR, 0);
      return all.map((blkno) => op.read(lock, blkno, TOY_BLOCK).blkno);
    };
    expect(await engine.read('many', read)).toEqual(all);
    await cache.load([wish(200)]);
    expect(cache.size).toBeLessThan(11);
  });

  test('drops a load that comes after the block was made anew', async () => {
    const { device, cache, engine } = bench();
    let open!: () => void;
    device.gate = new Promise((resolve) => {
      open = resolve;
    });
    const late = cache.load([wish(5)]);
    await engine.run('create', (op) => op.create(op.lock('A', EX, 0), 5, TOY_BLOCK).dv.setUint32(0, 42));
    open();
    await late;
    expect(cache.get(5, TOY_BLOCK, 'A')?.block.dv.getUint32(0)).toBe(42);
  });

  test('never loads over a change, and never gives up a lock with one', async () => {
    const { cache, engine, log } = bench();
    await engine.run('create', (op) => void op.create(op.lock('A', EX, 0), 5, TOY_BLOCK));
    await expect(cache.load([wish(5, 'B')])).rejects.toMatchObject({ kind: 'corruption', code: 'BLOCK_SHARED', fields: { block: 5 } });
    expect(() => cache.dropOwner('A')).toThrow('not in place');
    await log.flush();
    cache.dropOwner('A');
    expect(cache.ownedBy('A')).toEqual([]);
  });

  test('keeps every change however small it is, and settles with far more blocks than it holds', async () => {
    const { cache, engine, log } = bench(16);
    await engine.run('many', (op) => {
      const lock = op.lock('A', EX, 0);
      for (let i = 0; i < 200; i++) op.create(lock, 100 + i, TOY_BLOCK).dv.setUint32(0, i);
    });
    expect(cache.ownedBy('A')).toHaveLength(200);
    await log.flush();
    const sum = await engine.read('walk', (op) => {
      const lock = op.lock('A', PR, 0);
      op.prefetch(lock, Array.from({ length: 200 }, (_, i) => 100 + i), TOY_BLOCK);
      let total = 0;
      for (let i = 0; i < 200; i++) total += op.read(lock, 100 + i, TOY_BLOCK).dv.getUint32(0);
      return total;
    });
    expect(sum).toBe((199 * 200) / 2);
  });
});

describe('an operation', () => {
  test('that fails leaves no trace', async () => {
    const { engine, cache, device } = bench();
    let applied = 0;
    await expect(engine.run('fail', (op) => {
      op.write(op.lock('A', EX, 0), 5, TOY_BLOCK).dv.setUint32(0, 1);
      op.onApply(() => applied++);
      throw new UsageError('NO_SPACE', 'ENOSPC', 'full');
    })).rejects.toMatchObject({ code: 'NO_SPACE' });
    expect(cache.get(5, TOY_BLOCK, 'A')?.block.dv.getUint32(0)).toBe(0);
    expect(applied).toBe(0);
    await engine.log.flush();
    const bytes = new Uint8Array(512);
    device.readSync(5 * 512, bytes);
    expect(bytes.every((b) => b === 0)).toBe(true);
  });

  test('is run again from its start for each need, and applies once', async () => {
    const { engine } = bench();
    let attempts = 0, waited = 0, applied = 0;
    const result = await engine.run('needy', (op) => {
      attempts++;
      op.onApply(() => applied++);
      op.read(op.lock('A', PR, 0), 1, TOY_BLOCK);
      if (waited < 2) op.after('something', async () => void waited++);
      return 'done';
    });
    expect([result, attempts, waited, applied]).toEqual(['done', 4, 2, 1]);
  });

  test('may not change what it only reads, nor under a lock too low', async () => {
    const { engine } = bench();
    await expect(engine.read('reader', (op) => op.write(op.lock('A', EX, 0), 1, TOY_BLOCK))).rejects.toMatchObject({ code: 'READ_ONLY_OP' });
    await expect(engine.run('low', (op) => op.write(op.lock('A', PR, 0), 1, TOY_BLOCK))).rejects.toMatchObject({ code: 'LOCK_LEVEL' });
  });

  test('can be tried without waiting', async () => {
    const { engine } = bench();
    const look = (): number | undefined => engine.readNow('look', (op) => op.read(op.lock('A', PR, 0), 1, TOY_BLOCK).blkno);
    expect(look()).toBeUndefined();
    await engine.read('look', (op) => op.read(op.lock('A', PR, 0), 1, TOY_BLOCK).blkno);
    expect(look()).toBe(1);
  });
});

test('an operation waits for locks in rank order, and gives back what comes after the one it waits for', async () => {
  const cached = new Set(['late']);
  const steps: string[] = [];
  const table: LockTable = {
    tryHold: (name) => {
      if (cached.has(name)) steps.push(`try ${name}`);
      return cached.has(name);
    },
    hold: async (name: string, level: LockLevel) => void steps.push(`wait ${name} ${level}`),
    tryLock: async () => true,
    share: () => undefined,
    drop: (name) => void steps.push(`drop ${name}`),
    giveUp: () => undefined,
    surrender: async () => undefined,
    pin: () => undefined,
  };
  const { engine } = bench(undefined, table);
  await engine.run('locks', (op) => {
    op.lock('late', EX, 9);
    op.lock('middle', PR, 5);
    op.lock('first', PR, 1);
    op.lock('middle', EX, 5);
  });
  expect(steps).toEqual([
    'try late', 'drop late', 'wait middle 3', 'wait late 5', // middle ranks before late
    'drop middle', 'drop late', 'wait first 3', 'wait middle 3', 'wait late 5',
    'drop middle', 'drop late', 'wait middle 5', 'wait late 5', // the upgrade is asked for anew
    'drop late', 'drop middle', 'drop first',
  ]);
});

test('the write-back log: a flush that comes while one runs waits for that one too', async () => {
  const device = new RecordingDevice(new MemoryDevice({ size: 4096 * 512 }));
  const cache = new BlockCache(device, geo);
  const log = new WriteBackLog(device, geo);
  const engine = new Engine(geo, cache, FREE_LOCKS, log, new TestClock());
  await engine.run('create', (op) => void op.create(op.lock('A', EX, 0), 5, TOY_BLOCK));
  const first = log.flush();
  await log.flushOwner();
  cache.dropOwner('A');
  await first;
  expect(device.changes).toBe(1);
});
