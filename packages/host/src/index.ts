/** One volume on this host: mounted, exported, controlled. */
export { type Frame, KIND } from './cluster/frames.js';
export { LOOK_MS, PULSE_MS, QUIET_MS } from './cluster/fence-protocol.js';
export { type Joining, type OpenedVolume, holdersOn, inspectDevice } from './cluster/joining.js';
export { Link, jsonOf } from './cluster/link.js';
export { MemberServer } from './cluster/member-server.js';
export { RemoteMember } from './cluster/remote-member.js';
export { VolumeDomain } from './cluster/volume-domain.js';
export { NodeStack, type NodeWorld } from './daemon/node-stack.js';
export type { DomainFacts, LockFacts, LockQuery } from './cluster/volume-domain.js';
export { connectVolumeProcess, VolumeProcess } from './control-client.js';
export {
  type CreateDiskOptions, DISK_SUFFIX, type DiskExtents, type DiskFacts, cloneDisk, createDisk, diskExtents, diskFacts, leaseOf, listDisks, removeDisk, resizeDisk,
} from './disks.js';
export { type ExportFacts, type ExportSpec, type ExportState, HostVolume, type HostVolumeOptions, type LostExport, type MountSpec, type RestoredExport, type VolumeFacts } from './host-volume.js';
export { VolumeDisks } from './guest-disks.js';
export { mountedDevice } from './mounted.js';
export type { LeaseFacts } from './leases.js';
export { type DiskAccess, type DiskLines, diskLines, type LineOptions } from './qemu-lines.js';
export { freeMountPoint } from './mount-point.js';
export { normalPath, pathNames, resolvePath, splitPath, withPath } from './paths.js';
export { type QuotaAccess, type QuotaReport, volumeQuota } from './quota.js';
export { deviceIdentity, exportSocket, runDirectory } from './run-directory.js';
export { type ProcessOptions, type StartOptions, type StartedProcess, exitCodeOf, startVolumeProcess } from './volume-process.js';
export { DaemonClient, connectDaemon } from './daemon/api.js';
export { type ProbedDevice, volumesHere } from './daemon/devices.js';
export type { ClusterFacts, NodeFacts, Persistence } from './daemon/lunfsd.js';
export type { ManagedFacts, Region, VolumeSpec, VolumeState } from './daemon/managed-volume.js';
export type { DaemonOptions } from './daemon/options.js';
export { startDaemon } from './daemon/start-daemon.js';
export { type DeviceContent, contentOf } from './luns/content.js';
export { type LunReport, reportLuns } from './luns/luns.js';
