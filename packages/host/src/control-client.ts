/** A client of a volume process's control socket: what the command line talks to a mounted volume through. */
import type * as net from 'node:net';
import { UsageError } from '@lunfs/device';
import type { GrowOptions, Growth, GrowthPlan, TrimOptions, Trimmed } from '@lunfs/ocfs2';
import type { DomainFacts, LockFacts, LockQuery } from './cluster/volume-domain.js';
import { ControlConnection, connectControl } from './control-connection.js';
import type { CreateDiskOptions, DiskExtents, DiskFacts } from './disks.js';
import type { ExportFacts, ExportSpec, VolumeFacts } from './host-volume.js';
import type { LeaseFacts } from './leases.js';
import type { QuotaAccess } from './quota.js';
import { processPaths } from './run-directory.js';

/**
 * Connect to the process that has this device (named by any path) in use on this host. Throws NO_VOLUME_PROCESS when there is none,
 * DEVICE_MISSING.
 */
export async function connectVolumeProcess(device: string): Promise<VolumeProcess> {
  const absent = (cause: unknown): UsageError => new UsageError('NO_VOLUME_PROCESS', 'ENOENT', `no process of this host has ${device} mounted or exported; start one with "lunfs mount" or "lunfs disk export"`, { device }, cause);
  return new VolumeProcess(device, await connectControl(processPaths(device).control, absent));
}

export class VolumeProcess extends ControlConnection {
  constructor(readonly device: string, socket: net.Socket) {
    super(socket, () => new UsageError('VOLUME_PROCESS_GONE', 'ESHUTDOWN', `the process that has ${device} in use has ended; see its log`, { device }));
  }

  status(): Promise<VolumeFacts> {
    return this.call('status');
  }

  addExport(spec: ExportSpec): Promise<ExportFacts> {
    return this.call('export', spec);
  }

  removeExport(name: string): Promise<void> {
    return this.call('unexport', { name });
  }

  /** Everything acknowledged so far is durable. */
  sync(): Promise<void> {
    return this.call('sync');
  }

  /** Enlarge the volume: see `Volume.grow`. */
  grow({ size, progress }: GrowOptions = {}): Promise<Growth> {
    return this.call('grow', { size }, progress);
  }

  /** What that would change. */
  planGrowth({ size }: Pick<GrowOptions, 'size'> = {}): Promise<GrowthPlan> {
    return this.call('grow.plan', { size });
  }

  /** Discard free clusters: see `Volume.trim`. */
  trim({ progress, ...options }: TrimOptions = {}): Promise<Trimmed> {
    return this.call('trim', options, progress);
  }

  /** The volume's domain as this node sees it. Throws NOT_A_MEMBER. */
  domain(): Promise<DomainFacts> {
    return this.call('domain');
  }

  /** Cluster locks, busiest first. Throws NOT_A_MEMBER. */
  locks(query: LockQuery = {}): Promise<LockFacts[]> {
    return this.call('locks', query);
  }

  createDisk(path: string, { progress, ...options }: CreateDiskOptions): Promise<DiskFacts> {
    return this.call('disk.create', { path, ...options }, progress);
  }

  cloneDisk(source: string, path: string): Promise<DiskFacts> {
    return this.call('disk.clone', { source, path });
  }

  listDisks(directory?: string, all?: boolean): Promise<DiskFacts[]> {
    return this.call('disk.list', { directory, all });
  }

  diskInfo(path: string): Promise<DiskExtents> {
    return this.call('disk.info', { path });
  }

  /** Who may write a disk; null: nobody ever asked. */
  lease(path: string): Promise<LeaseFacts | null> {
    return this.call('disk.lease', { path });
  }

  /** A guest moves to another host: see `HostVolume.offerLease`, and what follows there. */
  offerLease(path: string, host: string): Promise<void> {
    return this.call('lease.offer', { path, host });
  }

  withdrawLease(path: string): Promise<void> {
    return this.call('lease.withdraw', { path });
  }

  switchLease(path: string): Promise<number> {
    return this.call('lease.switch', { path });
  }

  takeBackLease(path: string): Promise<number> {
    return this.call('lease.takeBack', { path });
  }

  resizeDisk(path: string, size: number, options: { readonly shrink?: boolean } = {}): Promise<DiskFacts> {
    return this.call('disk.resize', { path, size, ...options });
  }

  removeDisk(path: string): Promise<void> {
    return this.call('disk.remove', { path });
  }

  /** Quota of the volume. */
  readonly quota: QuotaAccess = {
    report: (type) => this.call('quota.report', { type }),
    setLimits: (type, id, limits) => this.call('quota.set', { type, id, limits }),
    setSettings: (type, settings) => this.call('quota.grace', { type, settings }),
  };

  /** End the process cleanly; resolves when its socket has gone, which is after the volume is unmounted. */
  async stop(): Promise<void> {
    await this.call('stop');
    await this.ended;
  }
}
