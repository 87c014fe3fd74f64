/**
 * One volume on this host: the device, the mounted engine, a mount of the name space, exports. What a volume process runs; tests
 * and programs that want all in one process use it directly.
 *
 * Order of the end: exports first (clients are answered, then disconnected), then the mount (nothing may be asked of the volume any
 * more), then the volume, then the device. Each step is tried even when one before it failed; the first error is thrown.
 */
import os from 'node:os';
import path from 'node:path';
import { readFileSync } from 'node:fs';
import { type IoWorkerDevice, LunfsError, UsageError, openIoWorkerDevice } from '@lunfs/device';
import { type FuseMount, mountFuse } from '@lunfs/fuse';
import { NbdServer } from '@lunfs/nbd';
import { type LeasedDisk, Leases, type MountOptions, NO_NODE, type Recovery, Volume, asRequester } from '@lunfs/ocfs2';
import type { ClusterSide } from './cluster/cluster-side.js';
import { VolumeDomain } from './cluster/volume-domain.js';
import { type CreateDiskOptions, type DiskFacts, cloneDisk, createDisk, needFile, removeDisk, resizeDisk } from './disks.js';
import { pause } from './clock.js';
import { FileTable, type OpenedFile } from './file-table.js';
import { randomGeneration } from './daemon/random.js';
import { nodeOf } from './fuse-attributes.js';
import { type MountedDirectory, type MountedFile, VolumeHandler } from './fuse-handler.js';
import { ParkingBackend } from './parking-backend.js';
import { normalPath, resolvePath, splitPath, withPath } from './paths.js';
import { sealMountPoint } from './mount-point.js';
import { checkSocketPath, exportSocket } from './run-directory.js';

/** The kernel drops pages that it need not wait for in less. */
const DROP_PATIENCE_MS = 5;
/** For others to be done with the lock of a disk whose lease is ours. */
const RESUME_TRIES = 20;
const RESUME_PAUSE_MS = 500;

export interface HostVolumeOptions {
  /** Path of the block device or image file. */
  readonly device: string;
  readonly readOnly?: boolean;
  /** Write to a volume of a cluster while nobody has it mounted. */
  readonly offline?: boolean;
  /** 512 or 4096; default: the device's own. */
  readonly logicalBlockSize?: number;
  /** lunfsd's: be a member of the volume's cluster. */
  readonly cluster?: ClusterSide;
  /** Lines for the operator: warnings, and errors that no caller sees. */
  readonly log?: (line: string) => void;
}

export interface MountSpec {
  readonly directory: string;
  readonly allowOther?: boolean;
  /** More mount options (noatime, nosuid, …). */
  readonly options?: readonly string[];
  /** Nothing is to be written to the directory below while the volume is not mounted (mount-point.ts). */
  readonly seal?: boolean;
  /** Prints every FUSE message. */
  readonly trace?: (line: string) => void;
  readonly workers?: number;
  /**
   * write(2) ends in the kernel's page cache: many times faster for small writes, and durable at fsync as ever, but no space (ENOSPC) is told at close and fsync,
   * and nothing but the mount may change files: no exports, no new sizes of disks, no limits of quota, no other nodes.
   */
  readonly writeback?: boolean;
}

/** What to export and where. */
export interface ExportSpec {
  /** Path of the file inside the volume. */
  readonly path: string;
  /** Name clients ask for; default: the file's name. */
  readonly name?: string;
  /** Unix socket, mode 0600; default: one in the run directory. */
  readonly socket?: string;
  /** Listen on TCP instead of a Unix socket; `port` 0: any. */
  readonly tcp?: { readonly host: string; readonly port: number };
  /** PEM files; with them nothing is answered in the clear. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca?: string; readonly clientCertificates?: 'none' | 'optional' | 'required' };
  readonly readOnly?: boolean;
  /** The guest's TRIM and WRITE_ZEROES keep the space: thick disks stay thick. */
  readonly keepSpace?: boolean;
  /** For a guest that moves here from the host that has offered the disk (docs/leases.md): reads are served, writes wait until that host has switched. */
  readonly incoming?: boolean;
}

/** What an incarnation of lunfsd's tells the next one of an export. */
export interface RestoredExport extends ExportSpec {
  readonly name: string;
  /** Of its lease; undefined: it had none. */
  readonly epoch?: number;
}

/** An export of an earlier incarnation that did not come back, and why. */
export interface LostExport {
  readonly name: string;
  readonly path: string;
  /** Of the error that kept it from coming back: LEASE_LOST, DISK_IN_USE, NOT_FOUND, … */
  readonly code: string;
  readonly reason: string;
}

export interface ExportFacts {
  readonly name: string;
  readonly path: string;
  readonly size: number;
  readonly readOnly: boolean;
  /** `nbd+unix:///NAME?socket=PATH` or `nbd://HOST:PORT/NAME` (nbds with TLS). */
  readonly uri: string;
  readonly socket?: string;
  readonly tcp?: { readonly host: string; readonly port: number };
  readonly connections: number;
  /** Of its lease; read-only exports need none. */
  readonly epoch?: number;
  readonly state: ExportState;
}

/** `incoming`: not yet this host's to write; `switched`: no more. Writes wait in both. */
export type ExportState = 'active' | 'incoming' | 'switched';

export interface VolumeFacts {
  readonly device: string;
  readonly uuid: string;
  readonly label: string;
  readonly readOnly: boolean;
  /** Why the volume takes no more changes, though it was mounted for writing. */
  readonly trouble?: string;
  readonly recovery: { readonly slots: readonly number[]; readonly blocks: number };
  readonly mount?: string;
  readonly exports: readonly ExportFacts[];
  /** Until they are exported anew, or given up. */
  readonly lostExports: readonly LostExport[];
}

interface Export {
  readonly spec: ExportSpec;
  readonly name: string;
  readonly path: string;
  readonly ino: number;
  readonly opened: OpenedFile;
  readonly server: NbdServer;
  readonly uri: string;
  readonly socket?: string;
  readonly tcp?: { readonly host: string; readonly port: number };
  state: ExportState;
  epoch?: number;
  /** Members': what holds writes up while the guest moves. */
  readonly parking?: ParkingBackend;
  readonly offer?: Offer;
}

/** An offer of another host that an export has accepted. */
interface Offer {
  readonly active: Promise<number>;
  /** Give it up; resolves when that is done, and to the epoch if it was too late. */
  readonly end: () => Promise<number | undefined>;
}

/** After these of `Leases.switchOver` the lease is still here. */
const NOT_SWITCHED: readonly string[] = ['NOT_ACCEPTED', 'HANDOVER_SHARED'];

export class HostVolume {
  readonly files: FileTable;
  /** Who may write a disk. */
  readonly leases: Leases;
  readonly #exports = new Map<string, Export>();
  readonly #lost = new Map<string, LostExport>();
  #restoring = false;
  readonly #log: (line: string) => void;
  #mount: FuseMount<MountedFile, MountedDirectory> | undefined;
  /** The mount's directory, from before it is made: the kernel above decides over sizes and times of files. */
  #writeback: string | undefined;

  private constructor(readonly device: IoWorkerDevice, readonly volume: Volume, private readonly options: HostVolumeOptions, private readonly domain?: VolumeDomain) {
    this.#log = options.log ?? (() => undefined);
    this.leases = new Leases(volume.ctx, volume.flocks, {
      node: domain?.node ?? NO_NODE, incarnation: randomGeneration() | 1n, host: domain?.hostOf(domain.node) ?? os.hostname(), hostOf: (node) => domain?.hostOf(node), lives: (node) => domain?.live().includes(node) ?? false,
    });
    const { fd, direct } = device.file;
    this.files = new FileTable(volume.ctx, direct ? { fd, alignment: device.logicalBlockSize, fence: device.file.fence } : undefined, this.#report);
  }

  /** Open the device, exclusively unless only reading, and mount its volume. Throws what `openDevice` and `Volume.mount` refuse by name. */
  static async open(options: HostVolumeOptions): Promise<HostVolume> {
    const log = options.log ?? (() => undefined);
    const { cluster, readOnly, offline, logicalBlockSize } = options;
    const device = await openIoWorkerDevice(options.device, { write: !readOnly, logicalBlockSize, warn: log, fence: cluster?.fence });
    const undo: (() => Promise<void>)[] = [() => device.close()];
    try {
      const domain = cluster && (await VolumeDomain.join(cluster, options.device, logicalBlockSize, log));
      if (domain !== undefined) undo.push(() => domain.leave());
      const mountOptions: MountOptions = {
        readOnly, offline, cluster: domain, onReadOnly: (reason) => log(`no more changes: ${reason.message}`),
        onStuck: (reason) => dieAsMember(log, reason),
      };
      return new HostVolume(device, await Volume.mount(device, mountOptions), options, domain);
    } catch (error) {
      for (const step of undo.reverse()) await step();
      await cluster?.left();
      throw error;
    }
  }

  get recovery(): Recovery {
    return this.volume.recovery;
  }

  /** The mount, if there is one. */
  get mounted(): FuseMount<MountedFile, MountedDirectory> | undefined {
    return this.#mount;
  }

  /** The volume's domain. Throws NOT_A_MEMBER where it is mounted for this host alone. */
  get member(): VolumeDomain {
    if (this.domain !== undefined) return this.domain;
    throw new UsageError('NOT_A_MEMBER', 'EINVAL', `${this.options.device} is not mounted as a member of a cluster: it has no cluster locks`, { device: this.options.device });
  }

  get exportCount(): number {
    return this.#exports.size;
  }

  /** Mount the name space. Throws WRITEBACK_REFUSED and what `mountFuse` refuses by name. */
  async mount(spec: MountSpec): Promise<FuseMount<MountedFile, MountedDirectory>> {
    if (this.#mount !== undefined) throw new UsageError('ALREADY_MOUNTED', 'EBUSY', `${this.options.device} is mounted on ${this.#mount.directory} already`, { directory: this.#mount.directory });
    const writeback = (spec.writeback ?? false) && !this.options.readOnly;
    if (writeback) this.#allowWriteback(spec.directory);
    const handler = new VolumeHandler(this.volume, this.files, this.#report, { shared: this.domain !== undefined, writeback });
    const { uuidText, label } = this.volume.geo;
    const mount = await mountFuse(handler, {
      ...spec, prepare: spec.seal ? (directory) => sealMountPoint(directory, `${label === '' ? '' : `${label}, `}UUID ${uuidText}`, this.#log) : undefined, source: this.options.device, readOnly: this.options.readOnly, onError: (error, what) => this.#report(error, what),
      // Limits are checked deep below the request; where there are none nothing has to be carried there.
      around: this.#around(),
    }).catch((error: unknown) => {
      this.#writeback = undefined;
      throw error;
    });
    this.#mount = mount;
    this.files.invalidate = async (ino, offset, length) => {
      await mount.session.invalInode(nodeOf(ino, this.volume.names.root), offset, length);
    };
    if (this.domain !== undefined) {
      const drop = (ino: number, from: number, to: number): Promise<unknown> => mount.session.invalInode(nodeOf(ino, this.volume.names.root), from, Number.isFinite(to) ? to - from : 0);
      this.volume.caches = { drop: async (ino, from, to) => void (await drop(ino, from, to)), pause: () => pause(DROP_PATIENCE_MS) };
    }
    void mount.closed.then(() => {
      this.#mount = undefined;
      this.#writeback = undefined;
      this.volume.caches = undefined;
      this.files.invalidate = () => Promise.resolve();
    });
    return mount;
  }

  /**
   * Export a file. For writing by one host at a time (docs/leases.md); `resume`: only if nobody has had it since that epoch of ours. Throws NOT_FOUND, NOT_A_FILE, EXPORT_EXISTS,
   * WRITEBACK_MOUNT, SOCKET_PATH, DISK_IN_USE, LEASE_NEEDS_XATTR, LEASE_LOST, LEASE_UNKNOWN, NOT_OFFERED, NOT_A_MEMBER and what the server refuses (NBD_ADDRESS_IN_USE).
   */
  async addExport(spec: ExportSpec, resume?: number): Promise<ExportFacts> {
    const filePath = normalPath(spec.path);
    this.#refuseWriteback(filePath, 'exported');
    const name = spec.name ?? path.posix.basename(filePath);
    if (this.#exports.has(name)) throw new UsageError('EXPORT_EXISTS', 'EEXIST', `${this.options.device} has an export ${name} already; choose another name, or remove that one`, { name });
    const readOnly = (spec.readOnly ?? false) || (this.options.readOnly ?? false);
    const found = await resolvePath(this.volume, filePath);
    const undo: (() => Promise<unknown>)[] = [() => this.volume.names.forget(found.blkno)];
    try {
      needFile(this.volume, filePath, found);
      const disk = this.#disk({ ino: found.blkno, path: filePath });
      const offer = spec.incoming && !readOnly ? await this.#accept(disk, undo) : undefined;
      const epoch = readOnly || offer ? undefined : await this.#lease(disk, resume, undo);
      const opened = await this.files.openExported(found.blkno, { readOnly, survives: !readOnly, keepSpace: spec.keepSpace });
      undo.push(() => opened.close());
      const parking = this.domain === undefined || readOnly ? undefined : new ParkingBackend(opened.backend, disk.name, offer !== undefined);
      const server = new NbdServer({ report: (message) => this.#log(`export ${name}: ${message}`), tls: spec.tls && readTls(spec.tls) });
      undo.push(() => server.close());
      server.addExport({ name, description: `${this.options.device}:${filePath}`, backend: parking ?? opened.backend, multiConn: true, fastZero: !spec.keepSpace && this.volume.geo.sparse && this.volume.geo.unwritten });
      const at = await listen(server, spec, this.options.device, name);
      const one: Export = { spec, name, path: filePath, ino: found.blkno, opened, server, epoch, parking, offer, state: offer === undefined ? 'active' : 'incoming', ...at };
      this.#exports.set(name, one);
      if (offer !== undefined) void this.#begin(one, offer);
      this.#lost.delete(name);
      this.#exportsChanged();
      return factsOf(one);
    } catch (error) {
      for (const step of undo.reverse()) await step();
      throw error;
    }
  }

  /** Exports of an earlier incarnation. What cannot come back stays away, with the reason, and keeps nothing else from coming back. */
  async restoreExports(exports: readonly RestoredExport[]): Promise<void> {
    this.#restoring = true;
    for (const { epoch, ...spec } of exports) {
      try {
        await this.#restore(spec, epoch);
      } catch (error) {
        if (!(error instanceof LunfsError) || error.kind === 'internal' || error.kind === 'corruption') throw error;
        this.#lost.set(spec.name, { name: spec.name, path: spec.path, code: error.code, reason: error.message });
        this.#log(`export ${spec.name} does not come back: ${error.code}: ${error.message}`);
      }
    }
    this.#restoring = false;
    this.#exportsChanged();
  }

  /** Whoever holds the lock of a disk whose lease is ours still may be about to let go, or to take the lease: it will be told. */
  async #restore(spec: ExportSpec, epoch: number | undefined): Promise<void> {
    for (let tries = RESUME_TRIES; ; tries--) {
      try {
        return void (await this.addExport(spec, epoch));
      } catch (error) {
        const ours = error instanceof LunfsError && error.code === 'DISK_IN_USE' && error.fields.epoch === epoch && error.fields.node === this.leases.self.node;
        if (!ours || tries === 0) throw error;
        await pause(RESUME_PAUSE_MS);
      }
    }
  }

  /** End an export: its clients are answered and disconnected. Throws EXPORT_UNKNOWN. */
  async removeExport(name: string): Promise<void> {
    if (this.#lost.delete(name) && !this.#exports.has(name)) return;
    const found = this.#exports.get(name);
    if (found === undefined) throw new UsageError('EXPORT_UNKNOWN', 'ENOENT', `${this.options.device} has no export ${name}`, { name });
    this.#exports.delete(name);
    this.#exportsChanged();
    const late = await found.offer?.end();
    found.epoch ??= found.state === 'incoming' ? late : undefined;
    // What waits for a lease that does not come is not answered: clients see the end of their connection.
    if (found.state !== 'active') found.parking?.abandon();
    await found.server.removeExport(name, { abandon: found.state !== 'active' });
    await found.server.close();
    await found.opened.close();
    if (found.epoch !== undefined) await this.leases.release(this.#disk(found)).finally(() => this.volume.names.forget(found.ino));
    else await this.volume.names.forget(found.ino);
  }

  /** Under the very names and sockets they have now, so that clients that reconnect find them. */
  #exportsChanged(): void {
    // Should this process die while it brings them back, the next one has them all to bring back.
    if (this.#restoring) return;
    const lasting = [...this.#exports.values()].filter(({ state }) => state === 'active');
    this.options.cluster?.exporting(lasting.map(({ spec, name, socket, tcp, epoch }): RestoredExport => ({ ...spec, incoming: undefined, name, epoch, socket: spec.tcp === undefined ? socket : undefined, tcp })));
  }

  /** Offer a disk that is exported here to the host its guest moves to. Throws NO_SUCH_HOST, HANDOVER_SELF, EXPORT_UNKNOWN, NOT_A_MEMBER. */
  async offerLease(diskPath: string, host: string): Promise<void> {
    const node = this.member.nodeOf(host);
    if (node === undefined) throw new UsageError('NO_SUCH_HOST', 'EINVAL', `no node of the cluster is called ${host} (lunfs cluster status lists them)`, { host });
    await this.leases.offer(this.#disk(this.#exported(diskPath, 'active')), node);
  }

  /** Take the offer back. Throws EXPORT_UNKNOWN. */
  async withdrawLease(diskPath: string): Promise<void> {
    await this.leases.withdraw(this.#disk(this.#exported(diskPath, 'active')));
  }

  /**
   * The guest has stopped here: let the other host have the disk. Its export stays, and what wants to write waits. Resolves to the lease's new epoch.
   * Throws EXPORT_UNKNOWN, NOT_ACCEPTED, HANDOVER_SHARED: then the guest may go on here; after any other error its export stays as it is.
   */
  async switchLease(diskPath: string): Promise<number> {
    const one = this.#exported(diskPath, 'active');
    await one.parking?.park();
    try {
      const epoch = await this.leases.switchOver(this.#disk(one));
      one.state = 'switched';
      one.epoch = undefined;
      this.#exportsChanged();
      return epoch;
    } catch (error) {
      if (error instanceof LunfsError && NOT_SWITCHED.includes(error.code)) one.parking?.unpark();
      throw error;
    }
  }

  /** The guest did not come to run on the other host, and goes on here. Resolves to the new epoch. Throws EXPORT_UNKNOWN, DISK_IN_USE, HANDOVER_LOST. */
  async takeBackLease(diskPath: string): Promise<number> {
    const one = this.#exported(diskPath, 'switched');
    one.epoch = await this.leases.takeBack(this.#disk(one));
    one.state = 'active';
    one.parking?.unpark();
    this.#exportsChanged();
    return one.epoch;
  }

  /** An export of a disk, in a state; for writing. */
  #exported(diskPath: string, state: ExportState): Export {
    const at = normalPath(diskPath);
    const found = [...this.#exports.values()].find((one) => one.path === at && one.state === state && !(one.spec.readOnly ?? false));
    if (found !== undefined) return found;
    throw new UsageError('EXPORT_UNKNOWN', 'ENOENT', `${this.options.device} has no export of ${at} ${state === 'active' ? 'for writing' : 'that was handed over'} on this host`, { path: at });
  }

  async #accept(disk: LeasedDisk, undo: (() => Promise<unknown>)[]): Promise<Offer> {
    const abort = new AbortController();
    const { active } = await this.leases.accept(disk, abort.signal);
    const end = (): Promise<number | undefined> => {
      abort.abort();
      return active.catch(() => undefined);
    };
    undo.push(async () => {
      if ((await end()) !== undefined) await this.leases.release(disk);
    });
    return { active, end };
  }

  /** An incoming export becomes this host's, or ends. */
  async #begin(one: Export, { active }: Offer): Promise<void> {
    try {
      const epoch = await active;
      if (this.#exports.get(one.name) !== one) return; // its end has the lease
      one.epoch = epoch;
      one.state = 'active';
      one.parking?.unpark();
      this.#exportsChanged();
    } catch (error) {
      if (this.#exports.get(one.name) !== one) return;
      const { code, message } = error as LunfsError;
      await this.removeExport(one.name).catch((failure: unknown) => this.#report(failure, `export ${one.name}`));
      this.#lost.set(one.name, { name: one.name, path: one.path, code, reason: message });
      this.#log(`export ${one.name} does not begin: ${code}: ${message}`);
    }
  }

  facts(): VolumeFacts {
    const { geo, readOnlyReason, recovery } = this.volume;
    return {
      device: this.options.device, uuid: geo.uuidText, label: geo.label, readOnly: this.options.readOnly ?? false,
      trouble: this.options.readOnly ? undefined : readOnlyReason?.message,
      recovery: { slots: recovery.slots, blocks: recovery.blocks },
      mount: this.#mount?.directory, exports: [...this.#exports.values()].map(factsOf), lostExports: [...this.#lost.values()],
    };
  }

  /** `createDisk` while the volume is in use: a mount sees the new name at once. */
  async createDisk(diskPath: string, options: CreateDiskOptions): Promise<DiskFacts> {
    try {
      return await createDisk(this.volume, diskPath, options);
    } finally {
      await this.#nameChanged(diskPath);
    }
  }

  /** `cloneDisk` while the volume is in use, the source by guests too: the clone is what a power failure now would leave of it. */
  async cloneDisk(source: string, diskPath: string): Promise<DiskFacts> {
    try {
      // What was written by mmap is in the kernel's cache only; to drop pages it writes them first.
      const session = this.#mount?.session;
      if (session !== undefined) await withPath(this.volume, source, (found) => session.invalInode(nodeOf(found.blkno, this.volume.names.root), 0, 0));
      return await cloneDisk(this.volume, source, diskPath);
    } finally {
      await this.#nameChanged(diskPath);
    }
  }

  /** `removeDisk` while the volume is in use. Throws DISK_EXPORTED, DISK_IN_USE. */
  async removeDisk(diskPath: string): Promise<void> {
    await withPath(this.volume, diskPath, async ({ blkno: ino }) => {
      this.#refuseExported(diskPath, ino, 'removed');
      await this.leases.guard(this.#disk({ ino, path: normalPath(diskPath) }), () => removeDisk(this.volume, diskPath));
    });
    await this.#nameChanged(diskPath);
  }

  /** `resizeDisk` while the volume is in use. An export keeps the size it has told its clients until they connect anew. Throws DISK_EXPORTED and DISK_IN_USE for less, WRITEBACK_MOUNT. */
  async resizeDisk(diskPath: string, size: number, options: { readonly shrink?: boolean } = {}): Promise<DiskFacts> {
    this.#refuseWriteback(normalPath(diskPath), 'given another size here (truncate(1) in the mount does it)');
    const found = await resolvePath(this.volume, diskPath);
    try {
      if (size < found.size) this.#refuseExported(diskPath, found.blkno, 'made shorter');
      const resize = (): Promise<DiskFacts> => resizeDisk(this.volume, diskPath, size, options);
      const facts = await (size < found.size ? this.leases.guard(this.#disk({ ino: found.blkno, path: normalPath(diskPath) }), resize) : resize());
      await this.#mount?.session.invalInode(nodeOf(found.blkno, this.volume.names.root), Math.min(size, found.size), 0);
      return facts;
    } finally {
      await this.volume.names.forget(found.blkno);
    }
  }

  /** End everything in order. Idempotent in effect; call it once. */
  async close(): Promise<void> {
    const errors: unknown[] = [];
    const attempt = async (step: () => Promise<unknown> | undefined): Promise<void> => {
      try {
        await step();
      } catch (error) {
        errors.push(error);
      }
    };
    await Promise.all([...this.#exports.keys()].map((name) => attempt(() => this.removeExport(name))));
    await attempt(() => this.#mount?.close());
    await attempt(() => this.volume.unmount());
    const { cluster, readOnly } = this.options;
    if (cluster !== undefined && (errors.length > 0 || (!readOnly && this.volume.readOnlyReason !== undefined))) {
      // What is in our journal, or could not be given back, is the others' to recover: to leave would hide it from them.
      dieAsMember(this.#log, errors[0] ?? this.volume.readOnlyReason);
    }
    await attempt(() => this.domain?.leave());
    await attempt(() => this.device.close());
    await attempt(() => cluster?.left());
    if (errors.length > 0) throw errors[0];
  }

  #disk({ ino, path: at }: Pick<Export, 'ino' | 'path'>): LeasedDisk {
    return { ino, name: `${this.options.device}:${at}` };
  }

  /** The lease that an export for writing needs, given back by `undo`. A host that has the volume to itself has none where there is no place for it. */
  async #lease(disk: LeasedDisk, resume: number | undefined, undo: (() => Promise<unknown>)[]): Promise<number | undefined> {
    if (this.domain === undefined && !this.volume.geo.xattr) return undefined;
    const epoch = await (resume === undefined ? this.leases.acquire(disk) : this.leases.resume(disk, resume));
    undo.push(() => this.leases.release(disk));
    return epoch;
  }

  readonly #report = (error: unknown, what: string): void => {
    this.#log(`${what}: ${error instanceof LunfsError ? `${error.code}: ${error.message}` : String(error instanceof Error ? (error.stack ?? error.message) : error)}`);
  };

  /** What surrounds each request of the mount: where there is nothing to surround it with, nothing. */
  #around(): Parameters<typeof mountFuse>[1]['around'] {
    const { quota } = this.volume;
    const fence = this.options.cluster?.fence;
    // Limits are checked deep below the request; where there are none nothing has to be carried there.
    if (fence === undefined) return quota && (({ uid }, serve) => asRequester({ uid }, serve));
    // Past the deadline nothing is answered, not even from memory: others may have changed it.
    return (caller, serve) => {
      const run = quota === undefined ? serve : () => asRequester({ uid: caller.uid }, serve);
      return fence.shut() ? fence.opened().then(run) : run();
    };
  }

  /** The kernel will keep dirty pages, sizes and times: only where it alone changes files, and where nobody's limit depends on who writes (written-back pages carry no uid). */
  #allowWriteback(directory: string): void {
    const { quota } = this.volume;
    const why = this.domain !== undefined ? 'other nodes change it, too' : quota !== undefined ? 'its quota limits could be passed' : this.#exports.size > 0 ? 'files of it are exported' : undefined;
    if (why !== undefined) throw new UsageError('WRITEBACK_REFUSED', 'EINVAL', `${this.options.device} cannot be mounted with writeback: ${why}; mount it without`, { device: this.options.device });
    this.#writeback = directory;
  }

  #refuseWriteback(filePath: string, what: string): void {
    if (this.#writeback === undefined) return;
    throw new UsageError('WRITEBACK_MOUNT', 'EBUSY', `${this.options.device} is mounted on ${this.#writeback} with writeback, where only the mount changes files: ${filePath} cannot be ${what}; mount without writeback first`,
      { device: this.options.device, path: filePath });
  }

  #refuseExported(diskPath: string, ino: number, what: string): void {
    if (!this.files.isExported(ino)) return;
    throw new UsageError('DISK_EXPORTED', 'EBUSY', `${this.options.device}:${normalPath(diskPath)} is exported and cannot be ${what}; end the export first`, { path: diskPath });
  }

  async #nameChanged(diskPath: string): Promise<void> {
    const session = this.#mount?.session;
    if (session === undefined) return;
    const { directory, name } = splitPath(diskPath);
    await withPath(this.volume, directory, async (dir) => {
      const node = nodeOf(dir.blkno, this.volume.names.root);
      await session.invalEntry(node, Buffer.from(name));
      await session.invalInode(node, 0, 0);
    });
  }
}

/** This node goes as if it had crashed, and the others recover it: it can neither keep what it holds nor give it back. */
function dieAsMember(log: (line: string) => void, why: unknown): void {
  log(`this process ends so that the other nodes recover the volume: ${why instanceof Error ? why.message : String(why)}`);
  process.kill(process.pid, 'SIGKILL');
}

async function listen(server: NbdServer, spec: ExportSpec, device: string, name: string): Promise<Pick<Export, 'uri' | 'socket' | 'tcp'>> {
  const scheme = spec.tls ? 'nbds' : 'nbd';
  const escaped = encodeURIComponent(name);
  if (spec.tcp !== undefined) {
    const { host } = spec.tcp;
    const port = await server.listenTcp(spec.tcp.port, host);
    return { uri: `${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}/${escaped}`, tcp: { host, port } };
  }
  const socket = spec.socket === undefined ? exportSocket(device, name) : checkSocketPath(spec.socket);
  await server.listenUnix(socket);
  return { uri: `${scheme}+unix:///${escaped}?socket=${encodeURI(socket)}`, socket };
}

function readTls({ cert, key, ca, clientCertificates }: NonNullable<ExportSpec['tls']>): { cert: Buffer; key: Buffer; ca?: Buffer; clientCertificates?: 'none' | 'optional' | 'required' } {
  return { cert: readFileSync(cert), key: readFileSync(key), ca: ca === undefined ? undefined : readFileSync(ca), clientCertificates };
}

function factsOf({ spec, name, path: filePath, opened, server, uri, socket, tcp, epoch, state }: Export): ExportFacts {
  return { name, path: filePath, size: opened.backend.size, readOnly: opened.backend.readOnly || (spec.readOnly ?? false), uri, socket, tcp, connections: server.connections, epoch, state };
}
