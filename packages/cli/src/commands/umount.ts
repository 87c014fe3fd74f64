/** `lunfs umount`: ends a mount, or the whole process that has a device in use. */
import path from 'node:path';
import type { Command } from 'commander';
import { LunfsError, UsageError } from '@lunfs/device';
import { unmount } from '@lunfs/fuse';
import { type VolumeProcess, connectDaemon, connectVolumeProcess, mountedDevice } from '@lunfs/host';
import { examples } from '../command.js';
import { useData } from '../daemon-option.js';
import { note } from '../output.js';

export function umount(program: Command): void {
  useData(program
    .command('umount')
    .summary('unmount a volume, end its exports')
    .description('Unmount, and wait until the volume is closed. Given the device, its exports are ended too, which takes the disks from guests that use them; given the directory, exports go on.')
    .argument('<where>', 'the directory it is mounted on, or the device')
    .option('-f, --force', 'end exports that have clients, too')
    .addHelpText('after', examples('lunfs umount /mnt', 'lunfs umount /dev/mapper/lun0'))
    .action(async (where: string, options: { force?: boolean }) => {
      const device = mountedDevice(where);
      if (device === undefined) await endProcess(where, options.force ?? false);
      else await endMount(path.resolve(where), device);
    }));
}

/**
 * A process without mount and exports ends by itself, and asking it may come too late. It does not where another mount namespace (a container, a
 * program in a network namespace of ip-netns) has a copy of the mount: asked, it ends that after some seconds.
 */
function endUnused(control: VolumeProcess): Promise<void> {
  return control.stop().catch(() => control.ended);
}

async function endMount(directory: string, device: string): Promise<void> {
  const control = await connectVolumeProcess(device).catch(() => undefined); // its process may be dead: then the mount is taken away
  try {
    const exported = control === undefined ? 0 : (await control.status()).exports.length;
    await unmount(directory, control === undefined ? 'detach' : 'clean');
    if (control === undefined) note('umount', `${directory}: its process was gone; the next mount of ${device} recovers the journal`);
    else if (exported > 0) note('umount', `${device}: ${exported} export(s) go on`);
    else await endUnused(control);
  } finally {
    control?.close();
  }
}

/** A volume of the cluster that lunfsd is about to mount again has no process at the moment. */
async function endAwaited(device: string, error: unknown): Promise<undefined> {
  if (!(error instanceof LunfsError) || error.code !== 'NO_VOLUME_PROCESS') throw error;
  const daemon = await connectDaemon().catch(() => undefined);
  if (daemon === undefined) throw error;
  try {
    await daemon.umount(path.resolve(device));
  } catch (refused) {
    throw refused instanceof LunfsError && refused.code === 'NOT_MOUNTED' ? error : refused;
  } finally {
    daemon.close();
  }
}

async function endProcess(device: string, force: boolean): Promise<void> {
  const control = await connectVolumeProcess(device).catch((error: unknown) => endAwaited(device, error));
  if (control === undefined) return;
  try {
    const { exports, mount } = await control.status();
    const busy = exports.filter((one) => one.connections > 0).map((one) => one.name);
    if (busy.length > 0 && !force) throw new UsageError('EXPORT_IN_USE', 'EBUSY', `${device}: export ${busy.join(', ')} has clients (guests lose their disk); end them first, or use --force`, { device });
    if (mount !== undefined) await unmount(mount);
    if (mount === undefined || exports.length > 0) await control.stop();
    else await endUnused(control);
  } finally {
    control.close();
  }
}
