/**
 * Mounting without native code: /dev/fuse is opened here, mount(8) makes the mount with that descriptor as its own fd 3, and the
 * session serves it. Type `fuse.lunfs`, so that `mount`, `findmnt -t` and platforms that look for shared directories see what it is.
 *
 * A reader blocked on /dev/fuse ends only when the kernel ends the connection, and `process.exit()` waits for it. So every way out of
 * the process ends the mount first:
 *  - `close()` unmounts, by force when it stays busy (umount -f aborts the connection, -l detaches it), and aborts the connection when another
 *    mount namespace (a container, `ip netns exec`) goes on holding a copy of the mount;
 *  - an exit hook does the same synchronously when the process exits by another way (an exception, process.exit);
 *  - a guard, a shell that waits on a pipe, detaches the mount when the process is killed: no dead mount (ENOTCONN) is left,
 *    unless it is the only thing that keeps writers from what is below (`prepare`).
 *  - A mount that was left all the same is detached by the next `mountFuse` at that place.
 */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { IoError, parseMountInfo, UsageError } from '@lunfs/device';
import type { MountEntry } from '@lunfs/device';
import { delay } from './clock.js';
import type { FuseHandler, OpenDirectory, OpenFile } from './handler.js';
import { INIT_FLAG, MAX_WRITE } from './protocol/constants.js';
import { FuseSession } from './session/session.js';
import type { SessionOptions } from './session/session.js';

export interface MountOptions extends Omit<SessionOptions, 'abort'> {
  /** Where: an existing directory. */
  readonly directory: string;
  /** What `mount` and `df` show as the source: the device. */
  readonly source: string;
  /** The type is `fuse.<subtype>`. Default lunfs. */
  readonly subtype?: string;
  readonly readOnly?: boolean;
  /** Let other users in (permissions are checked by the kernel). Default true. */
  readonly allowOther?: boolean;
  /** More mount options (noatime, nosuid, nodev, noexec, …). */
  readonly options?: readonly string[];
  /**
   * Called with the directory (no symlinks) when nothing dead is mounted on it any more and before the mount. False: what is below it must not be reached; then a mount whose process was
   * killed stays where it is, and every access says ENOTCONN, until the next mount takes its place.
   */
  readonly prepare?: (directory: string) => Promise<boolean>;
  /** Read-ahead of buffered reads, KiB. Default 1024. */
  readonly readAheadKiB?: number;
}

/** Runs a program; its exit code and what it said on stderr. */
async function run(program: string, args: readonly string[], fd?: number): Promise<{ code: number | null; stderr: string }> {
  const child = spawn(program, args, { stdio: fd === undefined ? ['ignore', 'ignore', 'pipe'] : ['ignore', 'ignore', 'pipe', fd] });
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => { stderr += chunk.toString('utf8'); });
  return new Promise((resolve, reject) => {
    child.once('error', (cause) => reject(new IoError('FUSE_NO_MOUNT_PROGRAM', `cannot run ${program}: install util-linux's mount`, { program }, cause)));
    child.once('close', (code) => resolve({ code, stderr: stderr.trim() }));
  });
}

/** The mount on top at exactly this directory (absolute, no symlinks), found without touching it. */
function mountAt(directory: string): MountEntry | undefined {
  return parseMountInfo(fs.readFileSync('/proc/self/mountinfo', 'utf8')).findLast((entry) => entry.mountPoint === directory);
}

/** True when the directory is the mount of a FUSE process that has died (every access says ENOTCONN). */
export function isStaleMount(directory: string): boolean {
  try {
    fs.statSync(directory);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOTCONN';
  }
}

/** Unmount. `detach`: at once for new users, later for those inside (umount -l). `force`: end the connection as well; those inside get errors. */
export async function unmount(directory: string, how: 'clean' | 'detach' | 'force' = 'clean'): Promise<void> {
  const flags = { clean: ['-i', '-n'], detach: ['-i', '-n', '-l'], force: ['-i', '-n', '-f', '-l'] }[how];
  const { code, stderr } = await run('umount', [...flags, directory]);
  if (code === 0) return;
  const busy = /busy/.test(stderr);
  throw new UsageError(busy ? 'FUSE_BUSY' : 'FUSE_UMOUNT', busy ? 'EBUSY' : 'EINVAL',
    busy ? `${directory} is in use: end what uses it (fuser -vm ${directory}) or detach it (umount -l)` : `cannot unmount ${directory}: ${stderr}`, { directory });
}

function openFuse(): number {
  try {
    return fs.openSync('/dev/fuse', 'r+');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    throw new UsageError('FUSE_NO_DEVICE', code === 'EACCES' ? 'EACCES' : 'ENODEV',
      `cannot open /dev/fuse (${code}): ${code === 'ENOENT' || code === 'ENODEV' ? 'load the kernel module fuse (modprobe fuse)' : 'mounting needs root'}`, {}, cause);
  }
}

/** The directory without symlinks; a dead mount on it is detached first. */
async function mountPoint(directory: string, type: string): Promise<string> {
  if (isStaleMount(directory)) {
    const parentless = fs.realpathSync(directory.replace(/\/+$/, '').replace(/[^/]*$/, '') || '.');
    const path = `${parentless.replace(/\/$/, '')}/${directory.replace(/\/+$/, '').replace(/^.*\//, '')}`;
    if (mountAt(path)?.type !== type) throw new UsageError('FUSE_STALE', 'EBUSY', `${directory} is a dead mount of another program: umount -l ${directory}`, { directory });
    await unmount(path, 'detach');
  }
  let real: string;
  try {
    real = fs.realpathSync(directory);
  } catch (cause) {
    throw new UsageError('FUSE_MOUNTPOINT', 'ENOENT', `the mount point ${directory} cannot be used: make the directory first`, { directory }, cause);
  }
  if (!fs.statSync(real).isDirectory()) throw new UsageError('FUSE_MOUNTPOINT', 'ENOTDIR', `the mount point ${directory} is not a directory`, { directory });
  return real;
}

/** Detaches the mount when this process dies without doing it; `read` returns when the pipe is closed by its death. */
const GUARD = 'read -r word && exit 0; while read -r id parent device rest; do [ "$device" = "$1" ] && exec umount -i -n -l "$2"; done < /proc/self/mountinfo';

function startGuard(directory: string, device: string): ChildProcess {
  const guard = spawn('/bin/sh', ['-c', GUARD, 'lunfs-mount-guard', device, directory], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
  guard.on('error', () => undefined); // without a guard only a killed process leaves its mount behind
  guard.stdin?.on('error', () => undefined);
  guard.unref();
  (guard.stdin as Socket | null)?.unref();
  return guard;
}

export class FuseMount<F extends OpenFile = OpenFile, D extends OpenDirectory = OpenDirectory> {
  readonly directory: string;
  readonly session: FuseSession<F, D>;
  /** Resolves when the mount is gone, whoever unmounted it, and the session has released everything. */
  readonly closed: Promise<void>;
  /** The device number of the mount. */
  readonly #device: string | undefined;

  /** `guarded`: it is detached when this process is killed. */
  constructor(directory: string, session: FuseSession<F, D>, guarded = true) {
    this.directory = directory;
    this.session = session;
    this.#device = mountAt(directory)?.number;
    const guard = this.#device === undefined || !guarded ? undefined : startGuard(directory, this.#device);
    const onExit = () => {
      spawnSync('umount', ['-i', '-n', '-f', '-l', directory], { stdio: 'ignore', timeout: 5000 });
      guard?.stdin?.end('done\n');
    };
    process.once('exit', onExit);
    this.closed = session.closed.then(() => {
      process.removeListener('exit', onExit);
      guard?.stdin?.end('done\n');
    });
  }

  /** Unmount and wait for the end. A mount that is still in use after `graceMs` is ended by force: those inside get errors. */
  async close(graceMs = 5000): Promise<void> {
    const over = new AbortController();
    const closed = this.closed.finally(() => over.abort());
    for (let waited = 0; !over.signal.aborted; waited += 100) {
      try {
        // The end by force drops what waits in the kernel for files that are still open. Who cannot sync loses only that.
        if (waited >= graceMs && (this.session.negotiated.flags & INIT_FLAG.WRITEBACK_CACHE) !== 0) await run('sync', ['-f', this.directory]).catch(() => undefined);
        await unmount(this.directory, waited < graceMs ? 'clean' : 'force');
        break;
      } catch (error) {
        // Someone else has unmounted it; the session may still have to learn of that.
        if (over.signal.aborted || mountAt(this.directory)?.number !== this.#device) break;
        if (waited >= graceMs || !(error instanceof UsageError) || error.code !== 'FUSE_BUSY') throw error;
      }
      await delay(100, over.signal);
    }
    // A copy of the mount in another mount namespace, of which this one is not told, holds the connection. It must not be one that has ended and of
    // which the session has still to hear: its number may be another mount's by then.
    await delay(Math.max(graceMs, 2000), over.signal);
    await delay(0, over.signal);
    if (!over.signal.aborted && this.#device !== undefined) await abortConnection(this.#device);
    await closed;
  }
}

/** False: there is no such connection, or no such file system here. */
function endBy(file: string): boolean {
  try {
    fs.writeFileSync(file, '1');
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

/** End a mount's connection: whoever still has it anywhere gets errors. `device`: major:minor of the mount (Linux 6.1 fs/fuse/control.c). */
async function abortConnection(device: string): Promise<void> {
  const file = `${device.split(':')[1]}/abort`;
  const usual = `/sys/fs/fuse/connections/${file}`;
  if (endBy(usual)) return;
  const directory = fs.mkdtempSync(join(tmpdir(), 'lunfs-fusectl-'));
  try {
    const { code, stderr } = await run('mount', ['-i', '-n', '-t', 'fusectl', 'none', directory]);
    if (code !== 0) throw new UsageError('FUSE_ABORT', 'EBUSY', `the mount is still held in another mount namespace, and its connection cannot be ended: ${stderr}`, { device });
    try {
      endBy(join(directory, file)); // not there: it has ended meanwhile
    } finally {
      await run('umount', ['-i', '-n', '-l', directory]);
    }
  } finally {
    fs.rmdirSync(directory);
  }
}

/** Mount `handler` and serve it. Raises by name when /dev/fuse, mount(8), the directory or the permission is missing. */
export async function mountFuse<F extends OpenFile, D extends OpenDirectory>(handler: FuseHandler<F, D>, options: MountOptions): Promise<FuseMount<F, D>> {
  const type = `fuse.${options.subtype ?? 'lunfs'}`;
  const directory = await mountPoint(options.directory, type);
  const guarded = (await options.prepare?.(directory)) ?? true;
  const fd = openFuse();
  try {
    const flags = [
      'fd=3', 'rootmode=40000', `user_id=${process.getuid?.() ?? 0}`, `group_id=${process.getgid?.() ?? 0}`, 'default_permissions', `max_read=${MAX_WRITE}`,
      ...(options.allowOther === false ? [] : ['allow_other']), ...(options.readOnly ? ['ro'] : []), ...(options.options ?? []),
    ];
    const { code, stderr } = await run('mount', ['-i', '-n', '-t', type, '-o', flags.join(','), options.source, directory], fd);
    if (code !== 0) throw new UsageError('FUSE_MOUNT', 'EPERM', `cannot mount ${options.source} on ${directory}: ${stderr}`, { directory });
    const session = FuseSession.start(fd, handler, { ...options, abort: () => void unmount(directory, 'force').catch((error: unknown) => options.onError?.(error, 'abort')) });
    setReadAhead(directory, options.readAheadKiB ?? 1024);
    return new FuseMount(directory, session, guarded);
  } catch (error) {
    fs.closeSync(fd); // ends the connection if there is one
    if (mountAt(directory)?.type === type) await unmount(directory, 'detach');
    throw error;
  }
}

/** INIT can only lower the kernel's 128 KiB of read-ahead; sysfs can raise it. Best effort: it only costs speed. */
function setReadAhead(directory: string, kib: number): void {
  const device = mountAt(directory)?.number;
  if (device === undefined) return;
  try {
    fs.writeFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, String(kib));
  } catch {
    // no sysfs in this name space
  }
}
