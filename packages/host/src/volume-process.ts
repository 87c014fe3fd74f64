/** Starting a volume process: by the command line, or by lunfsd, which supervises it. */
import type { ChildProcess } from 'node:child_process';
import path from 'node:path';
import { type StartedProgram, startProgram } from './child-process.js';
import type { ClusterSpec } from './cluster/cluster-side.js';
import type { WireError } from './control-protocol.js';
import type { ExportSpec, HostVolumeOptions, MountSpec, RestoredExport, VolumeFacts } from './host-volume.js';
import { processPaths } from './run-directory.js';

/** What a volume process is told. */
export interface ProcessOptions extends Omit<HostVolumeOptions, 'log' | 'cluster'> {
  /** Started by lunfsd, as a member of its cluster. */
  readonly cluster?: ClusterSpec;
  readonly mount?: Omit<MountSpec, 'trace'> & { readonly trace?: boolean };
  readonly exports?: readonly ExportSpec[];
  /** What an earlier incarnation served; its paths are absolute. */
  readonly restored?: readonly RestoredExport[];
}

export interface StartOptions extends ProcessOptions {
  /** Stay attached to the caller's terminal and process group. */
  readonly foreground?: boolean;
  /** lunfsd's: where sockets and log go, and what it needs of the child from its first moment. */
  readonly supervised?: { readonly runDirectory: string; readonly lockFd: number; readonly begun: (child: ChildProcess) => void };
}

export type StartedProcess = StartedProgram<VolumeFacts>;

/** Exit codes by mount(8)'s convention: 4 a bug, 1 what the caller asked is wrong, 32 the mount failed. */
export function exitCodeOf(error: WireError): number {
  if (error.kind === 'internal') return 4;
  return error.kind === 'usage' && error.errno === 'EINVAL' ? 1 : 32;
}

/** The same with every path absolute: a background process has another working directory. */
function absolute(options: ProcessOptions): ProcessOptions {
  const { device, mount, exports } = options;
  return {
    ...options, device: path.resolve(device), mount: mount && { ...mount, directory: path.resolve(mount.directory) },
    exports: exports?.map((one) => ({
      ...one, socket: one.socket && path.resolve(one.socket),
      tls: one.tls && { ...one.tls, cert: path.resolve(one.tls.cert), key: path.resolve(one.tls.key), ca: one.tls.ca && path.resolve(one.tls.ca) },
    })),
  };
}

/**
 * Start a process for a volume. Resolves when it is mounted and exported; rejects with the error that kept it from it: DEVICE_BUSY
 * where another writer has the device, FUSE_*, NBD_ADDRESS_IN_USE, what `Volume.mount` refuses, VOLUME_PROCESS_DIED.
 */
export async function startVolumeProcess({ foreground = false, supervised, ...options }: StartOptions): Promise<StartedProcess> {
  return startProgram<VolumeFacts>({
    main: new URL('./main.js', import.meta.url), options: absolute(options), what: `the process for ${options.device}`, died: 'VOLUME_PROCESS_DIED', foreground,
    log: processPaths(options.device, supervised?.runDirectory).log, env: supervised && { LUNFS_RUN_DIR: supervised.runDirectory }, begun: supervised?.begun, lockFd: supervised?.lockFd,
  });
}
