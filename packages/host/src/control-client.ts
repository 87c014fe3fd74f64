/** A client of a volume process's control socket: what the command line talks to a mounted volume through. */
import * as net from 'node:net';
import { UsageError } from '@lunfs/device';
import { type Response, fromWire, lineSplitter } from './control-protocol.js';
import type { CreateDiskOptions, DiskExtents, DiskFacts } from './disks.js';
import type { ExportFacts, ExportSpec, VolumeFacts } from './host-volume.js';
import type { QuotaAccess } from './quota.js';
import { processPaths } from './run-directory.js';

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly progress?: (done: number, total: number) => void;
}

/**
 * Connect to the process that has this device (named by any path) in use on this host. Throws NO_VOLUME_PROCESS when there is none,
 * DEVICE_MISSING.
 */
export async function connectVolumeProcess(device: string): Promise<VolumeProcess> {
  const { control } = processPaths(device);
  const socket = net.connect({ path: control });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', (cause) => reject(new UsageError('NO_VOLUME_PROCESS', 'ENOENT', `no process of this host has ${device} mounted or exported; start one with "lunfs mount" or "lunfs disk export"`, { device }, cause)));
  });
  return new VolumeProcess(device, socket);
}

export class VolumeProcess {
  #next = 1;
  readonly #pending = new Map<number, Pending>();
  /** Resolves when the connection has ended: the process has ended, or `close` was called. */
  readonly ended: Promise<void>;

  constructor(readonly device: string, private readonly socket: net.Socket) {
    const split = lineSplitter((text) => this.#received(JSON.parse(text) as Response));
    socket.on('data', (chunk) => {
      try {
        split(chunk);
      } catch (error) {
        socket.destroy(error as Error);
      }
    });
    socket.on('error', () => undefined); // 'close' follows
    this.ended = new Promise((resolve) => {
      socket.once('close', () => {
        for (const { reject } of this.#pending.values()) reject(new UsageError('VOLUME_PROCESS_GONE', 'ESHUTDOWN', `the process that has ${device} in use has ended; see its log`, { device }));
        this.#pending.clear();
        resolve();
      });
    });
  }

  status(): Promise<VolumeFacts> {
    return this.#call('status');
  }

  addExport(spec: ExportSpec): Promise<ExportFacts> {
    return this.#call('export', spec);
  }

  removeExport(name: string): Promise<void> {
    return this.#call('unexport', { name });
  }

  /** Everything acknowledged so far is durable. */
  sync(): Promise<void> {
    return this.#call('sync');
  }

  createDisk(path: string, { progress, ...options }: CreateDiskOptions): Promise<DiskFacts> {
    return this.#call('disk.create', { path, ...options }, progress);
  }

  cloneDisk(source: string, path: string): Promise<DiskFacts> {
    return this.#call('disk.clone', { source, path });
  }

  listDisks(directory?: string, all?: boolean): Promise<DiskFacts[]> {
    return this.#call('disk.list', { directory, all });
  }

  diskInfo(path: string): Promise<DiskExtents> {
    return this.#call('disk.info', { path });
  }

  resizeDisk(path: string, size: number, options: { readonly shrink?: boolean } = {}): Promise<DiskFacts> {
    return this.#call('disk.resize', { path, size, ...options });
  }

  removeDisk(path: string): Promise<void> {
    return this.#call('disk.remove', { path });
  }

  /** Quota of the volume. */
  readonly quota: QuotaAccess = {
    report: (type) => this.#call('quota.report', { type }),
    setLimits: (type, id, limits) => this.#call('quota.set', { type, id, limits }),
    setSettings: (type, settings) => this.#call('quota.grace', { type, settings }),
  };

  /** End the process cleanly; resolves when its socket has gone, which is after the volume is unmounted. */
  async stop(): Promise<void> {
    await this.#call('stop');
    await this.ended;
  }

  /** End this connection alone. */
  close(): void {
    this.socket.end();
  }

  #call<T>(method: string, params: object = {}, progress?: (done: number, total: number) => void): Promise<T> {
    const id = this.#next++;
    return new Promise<T>((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve as (value: unknown) => void, reject, progress });
      this.socket.write(`${JSON.stringify({ id, method, params })}\n`);
    });
  }

  #received(response: Response): void {
    const call = this.#pending.get(response.id);
    if (call === undefined) return;
    if ('progress' in response) {
      call.progress?.(response.progress.done, response.progress.total);
      return;
    }
    this.#pending.delete(response.id);
    if ('error' in response) call.reject(fromWire(response.error));
    else call.resolve(response.result);
  }
}
