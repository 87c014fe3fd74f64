/** An engine over a test volume: everything real but the clock, the dice and (until a test asks for more) the locks. */
import type { BlockDevice } from '@lunfs/device';
import { FsContext } from '../../src/context.js';
import { RawReader, readSystemFiles } from '../../src/inspect/index.js';
import { BlockCache, type Clock, Engine, type LockTable, type Log, WriteBackLog } from '../../src/txn/index.js';
import type { Geometry } from '../../src/format/index.js';
import { randomFrom } from '../../../../test/support/temp.js';

/** Grants every lock at once: one node alone, one operation after the other. */
export const FREE_LOCKS: LockTable = { tryHold: () => true, hold: async () => undefined, drop: () => undefined };

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
  /** The log to use; a WriteBackLog by default. */
  readonly log?: (device: BlockDevice, geo: Geometry) => Log | Promise<Log>;
  /** Blocks the cache keeps; small values make every operation restart often. */
  readonly cacheBlocks?: number;
}

/** A context on a volume. Nothing is written to the device before `ctx.engine.log.commit()` or `flush()`. */
export async function openTestContext(device: BlockDevice, options: TestContextOptions = {}): Promise<FsContext> {
  const { slot = 0, seed = 1, locks = FREE_LOCKS, log, cacheBlocks } = options;
  const reader = await RawReader.open(device);
  const { geo } = reader;
  const sys = await readSystemFiles(reader);
  const random = randomFrom(seed);
  const theLog = await (log?.(device, geo) ?? new WriteBackLog(device, geo));
  const engine = new Engine(geo, new BlockCache(device, geo, cacheBlocks), locks, theLog, new TestClock());
  return new FsContext(geo, sys, slot, engine, { u32: () => Math.floor(random() * 2 ** 32) });
}
