/**
 * Where the volume processes of this host and user leave their sockets and logs, and by which name: that of the device itself, not
 * of the path it was called by, so that whoever names the same device in another way finds the process.
 */
import * as fs from 'node:fs';
import path from 'node:path';
import { IoError, UsageError } from '@lunfs/device';

/** Longest path of a Unix socket (sun_path without its NUL). */
const SOCKET_PATH_MAX = 107;

/** `/run/lunfs` for root, else `$XDG_RUNTIME_DIR/lunfs`; LUNFS_RUN_DIR overrides both. Made with mode 0700 when it is missing. */
export function runDirectory(env: NodeJS.ProcessEnv = process.env): string {
  const directory = env.LUNFS_RUN_DIR ?? (process.getuid?.() === 0 ? '/run/lunfs' : env.XDG_RUNTIME_DIR && path.join(env.XDG_RUNTIME_DIR, 'lunfs'));
  if (!directory) throw new UsageError('NO_RUN_DIR', 'ENOENT', 'there is no place for control sockets: set XDG_RUNTIME_DIR (a login session does) or LUNFS_RUN_DIR');
  try {
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new IoError('RUN_DIR', `cannot make ${directory} for control sockets: ${(cause as Error).message}`, { directory }, cause);
  }
  return directory;
}

/** What a device is called here: `disk-MAJOR:MINOR`, or `file-DEVICE-INODE` of an image. Throws DEVICE_MISSING. */
export function deviceIdentity(device: string): string {
  let stats: fs.Stats;
  try {
    stats = fs.statSync(device);
  } catch (cause) {
    throw new UsageError('DEVICE_MISSING', 'ENOENT', `${device} does not exist`, { device }, cause);
  }
  return stats.isBlockDevice() ? `disk-${stats.rdev.toString(16)}` : `file-${stats.dev.toString(16)}-${stats.ino.toString(16)}`;
}

/** Paths of one device's process. */
export function processPaths(device: string, directory = runDirectory()): { control: string; log: string } {
  const base = path.join(directory, deviceIdentity(device));
  return { control: checkSocketPath(`${base}.control`), log: `${base}.log` };
}

/** Where an export listens if nobody says otherwise; stable, so that clients find it again after a restart. */
export function exportSocket(device: string, name: string): string {
  return checkSocketPath(path.join(runDirectory(), `${deviceIdentity(device)}-${name.replaceAll('/', '_')}.nbd`));
}

export function checkSocketPath(socket: string): string {
  const resolved = path.resolve(socket);
  if (Buffer.byteLength(resolved) <= SOCKET_PATH_MAX) return resolved;
  throw new UsageError('SOCKET_PATH', 'ENAMETOOLONG', `${resolved} is longer than the ${SOCKET_PATH_MAX} bytes a Unix socket's path may have; choose a shorter one`, { socket });
}

/** Paths of this host's lunfsd: its control socket, the one for the fence, its log, and the lock of the incarnation. */
export function daemonPaths(directory = runDirectory()): { control: string; fence: string; log: string; lock: string } {
  const base = path.join(directory, 'lunfsd');
  return { control: checkSocketPath(`${base}.control`), fence: checkSocketPath(`${base}.fence`), log: `${base}.log`, lock: `${base}.lock` };
}
