/** `lunfs umount`: ends a mount, or the whole process that has a device in use. */
import path from 'node:path';
import type { Command } from 'commander';
import { LunfsError, UsageError } from '@lunfs/device';
import { unmount } from '@lunfs/fuse';
import { type VolumeProcess, connectDaemon, connectVolumeProcess, freeMountPoint, mountedDevice } from '@lunfs/host';
import { examples } from '../command.js';
import { useData } from '../daemon-option.js';
import { note } from '../output.js';

export function umount(program: Command): void {
  useData(program
    .command('umount')
    .summary('unmount a volume, end its exports')
    .description('Unmount, and wait until the volume is closed. Given the device, its exports are ended too, which takes the disks from guests that use them; given the directory, exports go on. A volume of a cluster does not come back then, as it does at the next boot after umount(8).')
    .argument('<where>', 'the directory it is mounted on, or the device; of a volume that lunfsd waits for the UUID, too')
    .option('-f, --force', 'end exports that have clients, too')
    .addHelpText('after', examples('lunfs umount /mnt', 'lunfs umount /dev/mapper/lun0'))
    .action(async (where: string, options: { force?: boolean }) => {
      let device: string | undefined;
      let absent: LunfsError | undefined;
      try {
        device = mountedDevice(where);
      } catch (error) {
        // lunfsd may be about to mount something there.
        if (!(error instanceof LunfsError) || error.code !== 'NOT_MOUNTED') throw error;
        absent = error;
      }
      await forget(device === undefined ? await endProcess(where, options.force ?? false, absent) : await endMount(path.resolve(where), device));
    }));
}

/** It is not to come back: by its UUID, or the directory on which it was mounted. */
async function forget(where: string | undefined): Promise<void> {
  if (where === undefined) return;
  const daemon = await connectDaemon().catch(() => undefined); // nobody brings anything back then
  try {
    await daemon?.forget(where);
  } finally {
    daemon?.close();
  }
}

/** As lunfsd knows it: a UUID, or a path, which it would take from its own working directory. */
function named(where: string): string {
  const hex = where.replaceAll('-', '').toUpperCase();
  return /^[0-9A-F]{32}$/.test(hex) ? hex : path.resolve(where);
}

/**
 * A process without mount and exports ends by itself, and asking it may come too late. It does not where another mount namespace (a container, a
 * program in a network namespace of ip-netns) has a copy of the mount: asked, it ends that after some seconds.
 */
export function endUnused(control: VolumeProcess): Promise<void> {
  return control.stop().catch(() => control.ended);
}

async function endMount(directory: string, device: string): Promise<string> {
  const control = await connectVolumeProcess(device).catch(() => undefined); // its process may be dead: then the mount is taken away
  try {
    const { uuid = directory, exports = [] } = (await control?.status()) ?? {};
    await unmount(directory, control === undefined ? 'detach' : 'clean');
    if (control === undefined) note('umount', `${directory}: its process was gone; the next mount of ${device} recovers the journal`);
    else if (exports.length > 0) note('umount', `${device}: ${exports.length} export(s) go on`);
    else await endUnused(control);
    await freeMountPoint(directory);
    return uuid;
  } finally {
    control?.close();
  }
}

/** A volume of the cluster that lunfsd is about to mount again has no process at the moment, and may have no device. */
async function endAwaited(where: string, error: unknown, absent = error): Promise<undefined> {
  if (!(error instanceof LunfsError) || !['NO_VOLUME_PROCESS', 'DEVICE_MISSING'].includes(error.code)) throw error;
  const daemon = await connectDaemon().catch(() => undefined);
  if (daemon === undefined) throw absent;
  try {
    await daemon.umount(named(where));
  } catch (refused) {
    throw refused instanceof LunfsError && refused.code === 'NOT_MOUNTED' ? absent : refused;
  } finally {
    daemon.close();
  }
}

async function endProcess(device: string, force: boolean, absent?: LunfsError): Promise<string | undefined> {
  const control = await connectVolumeProcess(device).catch((error: unknown) => endAwaited(device, error, absent));
  if (control === undefined) return undefined;
  try {
    const { uuid, exports, mount } = await control.status();
    const busy = exports.filter((one) => one.connections > 0).map((one) => one.name);
    if (busy.length > 0 && !force) throw new UsageError('EXPORT_IN_USE', 'EBUSY', `${device}: export ${busy.join(', ')} has clients (guests lose their disk); end them first, or use --force`, { device });
    if (mount !== undefined) await unmount(mount);
    if (mount === undefined || exports.length > 0) await control.stop();
    else await endUnused(control);
    if (mount !== undefined) await freeMountPoint(mount);
    return uuid;
  } finally {
    control.close();
  }
}
