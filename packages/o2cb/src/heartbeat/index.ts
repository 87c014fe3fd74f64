export { Beating, type BeatingOptions, type HeartbeatClock, type RegionReport } from './beating.js';
export { type HeartbeatBlock, checksumGood, decodeBlock, encodeBlock } from './block.js';
export { FenceDeadline, type FenceGrant, type FenceState } from './fence-deadline.js';
export { Heartbeat, type HeartbeatOptions, type LoopStart, type Loss, type RegionFacts, type RegionLoop, type StartLoop } from './heartbeat.js';
export { refuseClone, refuseUnseen, type Sightings, type VolumeDevice } from './identity.js';
export { SharedLiveCounts } from './live-nodes.js';
export { REGION_BLOCKS, type RegionRequest, type RegionState } from './region.js';
export { type RegionPlace, regionThread } from './region-thread.js';
export { Watchdog, type WatchdogPlace } from './watchdog.js';
