/** A volume as its users see it. */
export { checkOffline, hasOfflineMark, setOfflineMark, watchHeartbeat } from './offline.js';
export { SlotMap } from './slot-map.js';
export { updateSuperBlock } from './superblock.js';
