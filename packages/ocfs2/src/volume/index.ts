/** A volume as its users see it. */
export { checkOffline, hasOfflineMark, setOfflineMark, watchHeartbeat } from './offline.js';
export { SlotMap } from './slot-map.js';
export { updateSuperBlock } from './superblock.js';
export type { Attributes } from './attributes.js';
export { type AtimeRule, type AttributeChange, DEFAULT_ATIME, type VolumeStatistics } from './attributes-change.js';
export { InodeTable, type OrphanRecovery, recoverOrphans, wipeInode } from './inode-life.js';
export type { NewInode } from './namespace.js';
export type { RenameRequest } from './namespace-rename.js';
export { Namespace } from './namespace-volume.js';
export { replayedView } from './replay-overlay.js';
export { type RecoveredSlot, recoverJournals, settleSlots } from './recovery.js';
export { pause, systemClock, systemTimers } from './clock.js';
export { systemRandom } from './random.js';
