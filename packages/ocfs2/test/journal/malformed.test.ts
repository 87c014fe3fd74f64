/** Logs that lie: whatever is in one, replay ends, and either replays what is whole or says what is wrong. */
import { LunfsError, type MemoryDevice, Random } from '@lunfs/device';
import { beforeAll, describe, expect, test } from 'vitest';
import { Block, JBD2_BLOCK, JBD2_COMPAT, JBD2_INCOMPAT, JBD2_MAGIC, JBD2_TAG, Jbd2Revoke, Jbd2Super } from '../../src/format/index.js';
import { Journal, LogReader, replayJournal } from '../../src/journal/index.js';
import { EX } from '../../src/locking/index.js';
import { BlockCache, Engine } from '../../src/txn/index.js';
import { FREE_LOCKS, TestClock } from '../support/context.js';
import { TOY_BLOCK, type TinyVolume, readBlocks, tinyVolume } from '../support/tiny.js';

/** Transactions in the log, of `PER` blocks each: descriptor, copies, commit. */
const TRANSACTIONS = 5, PER = 6;

let volume: TinyVolume;

beforeAll(async () => {
  volume = tinyVolume();
  const { geo, map, device, first } = volume;
  const journal = await Journal.open(device, geo, map, { clock: new TestClock() });
  const engine = new Engine(geo, new BlockCache(device, geo), FREE_LOCKS, journal, new TestClock());
  for (let t = 1; t <= TRANSACTIONS; t++) {
    await engine.run('x', (op) => {
      const lock = op.lock('M', EX, 0);
      for (let i = 0; i < PER; i++) op.create(lock, first + t + i, TOY_BLOCK).dv.setUint32(0, t);
    });
    await journal.commit();
  }
});

/** A copy of the volume with log block `at` (from the log's file) changed. */
function withLogBlock(at: number, change: (block: Block) => void, on = volume.device.clone()): MemoryDevice {
  const { geo, map } = volume;
  const block = new Block('tiny', map.at(at).blkno, new Uint8Array(geo.blockSize));
  on.readSync(block.blkno * geo.blockSize, block.bytes);
  change(block);
  on.writeSync(block.blkno * geo.blockSize, block.bytes);
  return on;
}

/** Log block of the n-th transaction's descriptor, n from 0. */
const descriptor = (n: number): number => 2 + n * (PER + 2);

async function replay(device: MemoryDevice): Promise<number> {
  return (await replayJournal(device, volume.geo, volume.map)).transactions;
}

async function unchanged(device: MemoryDevice): Promise<void> {
  const { geo, first, end, device: before } = volume;
  expect(Buffer.compare(await readBlocks(device, geo.blockSize, first, end), await readBlocks(before, geo.blockSize, first, end))).toBe(0);
}

test('the log as written holds all transactions', async () => {
  expect(await replay(volume.device.clone())).toBe(TRANSACTIONS);
});

describe('the superblock', () => {
  test.each([
    ['h_magic', (sb: ReturnType<typeof Jbd2Super.at>) => (sb.magic = 0)], ['h_blocktype', (sb) => (sb.blocktype = 5)], ['s_blocksize', (sb) => (sb.blockSize = 4096)],
    ['s_maxlen', (sb) => (sb.maxLen = 1025)], ['s_maxlen', (sb) => (sb.maxLen = 3)], ['s_first', (sb) => (sb.first = 0)], ['s_first', (sb) => (sb.first = 1)],
    ['s_first', (sb) => (sb.first = 1023)], ['s_start', (sb) => (sb.start = 1024)],
  ] as [string, (sb: ReturnType<typeof Jbd2Super.at>) => number][])('with a wrong %s is refused by name', async (field, change) => {
    const device = withLogBlock(0, (block) => change(Jbd2Super.at(block)));
    await expect(replay(device)).rejects.toThrow(field);
    await unchanged(device);
  });

  test.each([...Object.entries(JBD2_INCOMPAT).filter(([name]) => name !== 'REVOKE' && name !== 'BIT64').map(([name, bit]) => [name, { incompat: bit, compat: 0 }] as const),
    ['CHECKSUM', { incompat: 0, compat: JBD2_COMPAT.CHECKSUM }] as const, ['0x800', { incompat: 0x800, compat: 0 }] as const])('with the feature %s is refused by name', async (name, { incompat, compat }) => {
    const device = withLogBlock(0, (block) => {
      Jbd2Super.at(block).featureIncompat |= incompat;
      Jbd2Super.at(block).featureCompat |= compat;
    });
    await expect(replay(device)).rejects.toMatchObject({ code: 'JOURNAL_FEATURES', message: expect.stringContaining(name) as unknown });
    await unchanged(device);
  });

  test('whose log starts in the middle of a transaction holds nothing', async () => {
    expect(await replay(withLogBlock(0, (block) => void (Jbd2Super.at(block).start += 1)))).toBe(0);
  });
});

describe('a log block', () => {
  test.each([['magic', 0], ['sequence', 8], ['type', 4]])('with another %s ends the log', async (_what, at) => {
    for (let n = 0; n < TRANSACTIONS; n++) {
      for (const where of [descriptor(n), descriptor(n) + PER + 1]) expect(await replay(withLogBlock(where, (block) => block.dv.setUint32(at, 0x77)))).toBe(n);
    }
  });

  test('a descriptor that never ends is longer than its transaction, so that one did not commit', async () => {
    expect(await replay(withLogBlock(descriptor(2), (block) => {
      for (let at = 12; at + 8 <= 512; at += 8) block.dv.setUint16(at + 6, block.dv.getUint16(at + 6) & ~JBD2_TAG.LAST);
    }))).toBe(2);
  });

  test.each([['outside the volume', 0xffff_fff0], ['of the journal itself', -1], ['of the superblock', 2]])('a committed tag %s raises before anything is written', async (_what, blkno) => {
    const device = withLogBlock(descriptor(3), (block) => block.dv.setUint32(12, blkno < 0 ? volume.map.at(77).blkno : blkno));
    await expect(replay(device)).rejects.toMatchObject({ code: 'CORRUPT_FIELD' });
    await unchanged(device);
  });

  test('revoked blocks are not replayed, up to the transaction that revokes them', async () => {
    const { geo, map, first } = volume;
    // Transaction 4 of 5 becomes one that only revokes: the block all others but it and the first wrote.
    const revoked = first + 5;
    const device = withLogBlock(descriptor(3), (block) => {
      block.bytes.fill(0, 12);
      block.dv.setUint32(4, JBD2_BLOCK.revoke);
      Jbd2Revoke.at(block).count = 20;
      block.dv.setUint32(16, revoked);
    });
    const commit = new Uint8Array(geo.blockSize);
    device.readSync(map.at(descriptor(3) + PER + 1).blkno * geo.blockSize, commit);
    device.writeSync(map.at(descriptor(3) + 1).blkno * geo.blockSize, commit);
    expect(await replay(device)).toBe(4); // what follows is no transaction any more
    const value = async (blkno: number): Promise<number> => new DataView((await readBlocks(device, geo.blockSize, blkno, blkno + 1)).buffer).getUint32(0);
    expect(await value(revoked)).toBe(0);
    expect(await value(revoked - 1)).toBe(3);
    await expect(replay(withLogBlock(descriptor(3), (block) => {
      block.dv.setUint32(4, JBD2_BLOCK.revoke);
      Jbd2Revoke.at(block).count = 9999;
    }, withCommitAfter(3)))).rejects.toThrow('r_count');
  });
});

/** A copy in which the block after the n-th descriptor is its commit block. */
function withCommitAfter(n: number): MemoryDevice {
  const { geo, map } = volume;
  const device = volume.device.clone();
  const commit = new Uint8Array(geo.blockSize);
  device.readSync(map.at(descriptor(n) + PER + 1).blkno * geo.blockSize, commit);
  device.writeSync(map.at(descriptor(n) + 1).blkno * geo.blockSize, commit);
  return device;
}

test('random damage never does worse than an error', async () => {
  const random = new Random(11);
  const outcomes = new Set<string>();
  for (let round = 0; round < 3000; round++) {
    const device = volume.device.clone();
    for (let n = 1 + random.int(4); n > 0; n--) {
      const at = random.chance(0.2) ? 0 : descriptor(random.int(TRANSACTIONS)) + (random.chance(0.7) ? 0 : random.int(PER + 2));
      withLogBlock(at, (block) => {
        const where = random.chance(0.8) ? 4 * random.int(24) : 4 * random.int(128);
        block.dv.setUint32(where, random.pick([0, 1, 2, 3, 5, 0xffff_ffff, JBD2_MAGIC, random.u32(), random.int(1200)]));
      }, device);
    }
    try {
      outcomes.add(`replayed ${await replay(device)}`);
      const { sb } = await LogReader.open(device, volume.geo, volume.map);
      expect(sb.start).toBeLessThan(sb.first);
    } catch (error) {
      expect(error).toBeInstanceOf(LunfsError);
      outcomes.add((error as LunfsError).code);
    }
  }
  expect(outcomes.size).toBeGreaterThan(5);
});
