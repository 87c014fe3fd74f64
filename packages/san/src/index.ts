export type { Disk, Partition, PathTimes, Transport } from './blocks.js';
export type { Finding } from './findings.js';
export { type SanHost, type Ran, printable, thisHost } from './host.js';
export { type FoundLun, type Lun, type LunMap, type LunPath, type SanView, findLun, lunsOf, nameFindings, refuseUnfit, viewOf } from './luns.js';
export type { MapPath, MultipathMap, Multipathd, PathGroup, Queueing } from './multipathd.js';
export { isUnstableName } from './names.js';
export { type Signature, probeSignatures } from './signatures.js';
export { type ClusterTimes, timesFindings } from './times.js';
export type { Use, UseKind } from './use.js';
