/** An engine over a test volume: everything real but the clock, the dice and (until a test asks for more) the locks. */
import type { BlockDevice } from '@lunfs/device';
import { FsContext } from '../../src/context.js';
import { Journal, JournalInode } from '../../src/journal/index.js';
import { type Dlm, EX, LockManager, parseLockName } from '../../src/locking/index.js';
import { giveUpFile } from '../../src/volume/file-state.js';
import { RawReader, readSystemFiles } from '../../src/inspect/index.js';
import { BlockCache, type Clock, Engine, type LockTable, type Log, WriteBackLog } from '../../src/txn/index.js';
import type { Geometry } from '../../src/format/index.js';
import { randomFrom } from '../../../../test/support/temp.js';
import { HOSTILE, hostileDlm } from './locks.js';

/** Grants every lock at once: one node alone, one operation after the other. */
export const FREE_LOCKS: LockTable = { tryHold: () => true, hold: async () => undefined, tryLock: async () => true, share: () => undefined, drop: () => undefined, giveUp: () => undefined, surrender: async () => undefined, pin: () => undefined };

/** Wall-clock time that advances one second per reading, so that changed times show; monotonic time is real. */
export class TestClock implements Clock {
  #sec: number;
  constructor(startSec = 1_700_000_000) {
    this.#sec = startSec;
  }
  now(): { sec: number; nsec: number } {
    return { sec: this.#sec++, nsec: 123_456_789 };
  }
  monotonic(): number {
    return performance.now();
  }
}

export interface TestContextOptions {
  /** Slot of the pretended node. */
  readonly slot?: number;
  /** Seed of `ctx.random`. */
  readonly seed?: number;
  readonly locks?: LockTable;
  /** Run over a lock cache whose Dlm demands every lock back at once (seeded by `seed`); instead of `locks`. Default: `HOSTILE`. */
  readonly hostile?: boolean;
  /** The lock manager that several contexts on one volume share; instead of `locks`. */
  readonly dlm?: Dlm;
  /** Use the slot's journal; the volume must not need recovery. Its dinode is left clean. Instead of `log`. */
  readonly journal?: boolean;
  /** The log to use; a WriteBackLog by default. */
  readonly log?: (device: BlockDevice, geo: Geometry) => Log | Promise<Log>;
  /** Blocks the cache keeps; small values make every operation restart often. */
  readonly cacheBlocks?: number;
}

/** A context on a volume. Nothing is written to the device before `ctx.engine.log.commit()` or `flush()`. */
export async function openTestContext(device: BlockDevice, options: TestContextOptions = {}): Promise<FsContext> {
  const { slot = 0, seed = 1, log, cacheBlocks, dlm, hostile = HOSTILE && options.locks === undefined && dlm === undefined, journal = false } = options;
  const reader = await RawReader.open(device);
  const { geo } = reader;
  const sys = await readSystemFiles(reader);
  const random = randomFrom(seed);
  const theLog = journal
    ? await Journal.open(device, geo, (await JournalInode.read(reader, sys.journal[slot])).map, { clock: new TestClock() })
    : await (log?.(device, geo) ?? new WriteBackLog(device, geo));
  const cache = new BlockCache(device, geo, cacheBlocks);
  let ctx: FsContext | undefined;
  const locks = dlm !== undefined ? cachedLocks(cache, theLog, dlm, () => ctx) : hostile ? hostileLocks(cache, theLog, seed, () => ctx) : (options.locks ?? FREE_LOCKS);
  const engine = new Engine(geo, cache, locks, theLog, new TestClock());
  ctx = new FsContext(geo, sys, slot, engine, { u32: () => Math.floor(random() * 2 ** 32) });
  return ctx;
}

/** A lock cache over a HostileDlm that fails the test when a lock that went left something behind in the cache. */
function hostileLocks(cache: BlockCache, log: Log, seed: number, context: () => FsContext | undefined): LockManager {
  const dlm = hostileDlm(randomFrom(seed), (name, level) => {
    const kept = cache.ownedBy(name).filter((entry) => level === EX || entry.dirty);
    if (kept.length > 0) throw new Error(`lock ${name} was given up to level ${level}, but block ${kept[0].block.blkno} is still cached`);
  });
  return cachedLocks(cache, log, dlm, context);
}

/** A lock cache as a mount has it (src/volume/mount.ts). */
function cachedLocks(cache: BlockCache, log: Log, dlm: Dlm, context: () => FsContext | undefined): LockManager {
  return new LockManager({
    dlm,
    dropOwner: (name) => cache.dropOwner(name),
    settle: (name) => log.flushOwner(name),
    onDowngrade: async (name, from, to, table) => {
      const lock = parseLockName(name), ctx = context();
      if (ctx !== undefined && (lock?.type === 'M' || lock?.type === 'W')) await giveUpFile(ctx, lock.blkno, { type: lock.type, from, to }, table);
    },
    onStuck: (_name, error) => {
      throw error;
    },
  });
}
