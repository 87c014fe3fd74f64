/**
 * One lunfsd at a time in a directory, and none while a volume process of an earlier one lives: with global heartbeat the new generation appears on
 * the disk before any device is taken, and peers would recover what that process still writes to.
 */
import { closeSync, openSync } from 'node:fs';
import { ClusterError, IoError, UsageError, flock } from '@lunfs/device';
import type { Timeouts } from '@lunfs/o2cb';
import { connectControl } from '../control-connection.js';
import { daemonPaths } from '../run-directory.js';

/** For a process that has been told to end. */
const GRACE_S = 5;

/**
 * The lock that lunfsd and its volume processes hold together, as a descriptor that they inherit; it goes with the last of them. Those of a lunfsd
 * that died end by their fence: it is waited for. Throws DAEMON_RUNS, INCARNATION.
 */
export async function onlyIncarnation(directory: string, { lossMs }: Timeouts): Promise<number> {
  const { control, lock } = daemonPaths(directory);
  const other = await connectControl(control, (cause) => new UsageError('NO_DAEMON', 'ENOENT', `nothing listens at ${control}`, {}, cause)).catch(() => undefined);
  if (other !== undefined) {
    other.destroy();
    throw new UsageError('DAEMON_RUNS', 'EBUSY', `lunfsd runs on this host already (${control}); lunfs status shows what it has. For another one on this machine give a directory: --data DIR`, { control });
  }
  const fd = openSync(lock, 'a', 0o600);
  const { status, missing, stderr } = await flock(fd, 'exclusive', Math.ceil(lossMs / 1000) + GRACE_S);
  if (status === 0) return fd;
  closeSync(fd);
  if (missing) throw new UsageError('INCARNATION', 'ENOENT', 'the program flock is missing, by which lunfsd knows that nothing of an earlier one runs. Install util-linux', { lock });
  if (status !== 1) throw new IoError('INCARNATION', `${lock} cannot be locked: ${stderr}`, { lock });
  throw new ClusterError('INCARNATION', `volume processes of a lunfsd that has died still run (fuser ${lock} shows them): nothing can be begun while they might write. End them, or reset this host`, { lock }, undefined, 'EBUSY');
}
