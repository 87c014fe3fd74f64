/** Block cache, operations and the engine that runs them. */
export { BlockCache, CacheEntry, type BlockWish } from './block-cache.js';
export { Engine, type Clock, type CommitOptions, type Log } from './engine.js';
export { type RankedLock, assertRanks, lockOrder } from './lock-order.js';
export { LockSession, type LockTable } from './lock-session.js';
export { type MetaLock, Need } from './need.js';
export { Op, type Timestamp } from './op.js';
export { Within } from './within.js';
export { WriteBackLog } from './write-back-log.js';
