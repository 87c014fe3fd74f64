/** Allocation: clusters, and the blocks of inodes and trees. */
export { type ClusterRun, claimClusters, claimContiguous, closeLocalAlloc, flushTruncateLog, freeClustersNow, heldClusters, mayHoldClusters, releaseClusters, statClusters } from './clusters.js';
export { type MetaClaim, type MetaType, type Neighbour, claimMeta, claimOf, freeMeta, groupOf, stampMeta } from './suballoc.js';
export { beginDiscard, endDiscard, groupCount } from './free-runs.js';
export { type GrowthStep, type BitmapShape, addClusters, bitmapShape, growthSteps } from './grow.js';
export { freeTakenOver, takeOverClusters } from './take-over.js';
