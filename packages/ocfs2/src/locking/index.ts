/** Cluster locks: names and levels, the Dlm port and its implementations for one process, the lock cache. */
export * from './levels.js';
export { type AstResult, type Dlm, type DlmEvents, type DlmLock, type DlmRequest, LVB_SIZE, compatible } from './dlm.js';
export { LocalDlm } from './local-dlm.js';
export { LockManager, type LockManagerOptions } from './lock-manager.js';
export { MemoryDlm, type MemoryDlmOptions } from './memory-dlm.js';
export { HostileDlm, type HostileDlmOptions } from './hostile-dlm.js';
export { type MetaValue, type PackedTime, decodeMetaLvb, encodeMetaLvb, META_LVB_VERSION, MetaLvb } from './meta-lvb.js';
