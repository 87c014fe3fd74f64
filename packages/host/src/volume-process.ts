/**
 * Starting a volume process, in the background (it goes on when its parent ends, its messages go to a log in the run directory) or in
 * the foreground (it shares the terminal, and signals reach it). Either way the caller learns how the start went: facts, or the very error.
 */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { InternalError, IoError } from '@lunfs/device';
import { type WireError, fromWire, lineSplitter } from './control-protocol.js';
import type { ExportSpec, HostVolumeOptions, MountSpec, VolumeFacts } from './host-volume.js';
import { processPaths } from './run-directory.js';

/** The child's descriptor on which it reports its start. */
export const READY_FD = 3;

/** What a volume process is told. */
export interface ProcessOptions extends Omit<HostVolumeOptions, 'log'> {
  readonly mount?: Omit<MountSpec, 'trace'> & { readonly trace?: boolean };
  readonly exports?: readonly ExportSpec[];
}

export interface StartOptions extends ProcessOptions {
  /** Stay attached to the caller's terminal and process group. */
  readonly foreground?: boolean;
}

export type StartReport = { readonly ready: VolumeFacts } | { readonly error: WireError };

export interface StartedProcess {
  readonly pid: number;
  readonly facts: VolumeFacts;
  /** Where its messages go in the background. */
  readonly log?: string;
  /** How it ended. Waiting for it keeps the caller alive; a background process needs nobody to wait. */
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  kill(signal: NodeJS.Signals): void;
}

/** Exit codes by mount(8)'s convention: 4 a bug, 1 what the caller asked is wrong, 32 the mount failed. */
export function exitCodeOf(error: WireError): number {
  if (error.kind === 'internal') return 4;
  return error.kind === 'usage' && error.errno === 'EINVAL' ? 1 : 32;
}

/** libuv's pool serves I/O of exports at depth and invalidations: more threads than cores, but few (measured on 2 cores: docs/benchmarks.md). */
function poolSize(): string {
  return process.env.UV_THREADPOOL_SIZE ?? String(Math.min(16, Math.max(8, 2 * os.availableParallelism())));
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
export async function startVolumeProcess(options: StartOptions): Promise<StartedProcess> {
  const { foreground = false, ...rest } = options;
  const given = absolute(rest);
  const { log } = processPaths(options.device);
  const out = foreground ? 'inherit' : fs.openSync(log, 'a', 0o600);
  const child = spawn(process.execPath, [fileURLToPath(new URL('./main.js', import.meta.url)), JSON.stringify(given)], {
    stdio: ['ignore', out, out, 'pipe'], detached: !foreground, env: { ...process.env, UV_THREADPOOL_SIZE: poolSize() },
    // Not the caller's: the working directory of a background process would keep a file system busy.
    cwd: foreground ? undefined : '/',
  });
  if (typeof out === 'number') fs.closeSync(out);
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
  });
  const report = await new Promise<StartReport>((resolve, reject) => {
    const pipe = child.stdio[READY_FD] as Readable;
    let told = false;
    pipe.on('data', lineSplitter((line) => {
      told = true;
      resolve(JSON.parse(line) as StartReport);
    }));
    pipe.once('close', () => {
      if (!told) reject(new InternalError('VOLUME_PROCESS_DIED', `the process for ${options.device} ended before it said why${foreground ? '' : `; see ${log}`}`, { device: options.device }));
    });
    child.once('error', (cause) => reject(new IoError('VOLUME_PROCESS', `cannot start a process for ${options.device}: ${cause.message}`, { device: options.device }, cause)));
  });
  if ('error' in report) {
    await exited;
    throw fromWire(report.error);
  }
  if (!foreground) child.unref();
  return { pid: child.pid!, facts: report.ready, log: foreground ? undefined : log, exited, kill: (signal) => void child.kill(signal) };
}
