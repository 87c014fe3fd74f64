export * from './format/index.js';
export * from './txn/index.js';
export * from './locking/levels.js';
export * from './context.js';
export * from './inspect/index.js';
export * from './check/index.js';
export * from './alloc/index.js';
export * from './volume/index.js';
export * as extentTrees from './extents/index.js';
