/**
 * Opening a device for one command that looks at it without a mount, and telling who else has it. Loads little: what a command does
 * not need costs it no time.
 */
import { type BlockDevice, LunfsError, UsageError, openDevice } from '@lunfs/device';
import type { VolumeFacts } from '@lunfs/host';
import { note } from './output.js';

/** What the process that has a device in use on this host says; undefined when there is none. */
export async function processFacts(device: string): Promise<VolumeFacts | undefined> {
  // Loaded when it is wanted: with FUSE and NBD behind it, it takes longer than many a command.
  const { connectVolumeProcess } = await import('@lunfs/host');
  try {
    const control = await connectVolumeProcess(device);
    try {
      return await control.status();
    } finally {
      control.close();
    }
  } catch (error) {
    if (error instanceof LunfsError && ['NO_VOLUME_PROCESS', 'VOLUME_PROCESS_GONE', 'DEVICE_MISSING', 'NO_RUN_DIR', 'RUN_DIR'].includes(error.code)) return undefined;
    throw error;
  }
}

/** By which superblock a volume is read: the one in its place, or a backup (1 to 6, or a block). */
export interface SuperChoice {
  readonly backupSuper?: number;
}

/** The device as that superblock shows it. */
export async function byBackup(device: BlockDevice, { backupSuper }: SuperChoice): Promise<BlockDevice> {
  if (backupSuper === undefined) return device;
  const { backupView, readBackupSuper } = await import('@lunfs/ocfs2');
  return backupView(device, await readBackupSuper(device, backupSuper));
}

/** Run `work` with the device open for reading, held against writers unless `beside` allows to look while one is at work. */
export async function withRawDevice<T>(command: string, path: string, options: SuperChoice & { readonly beside: boolean }, work: (device: BlockDevice) => Promise<T>): Promise<T> {
  const warn = (message: string) => note(command, message);
  const facts = options.beside ? await processFacts(path) : undefined;
  if (facts !== undefined) note(command, `${path} is in use on this host${facts.mount ? ` (mounted on ${facts.mount})` : ''}: shown is what is on the disk now, which may be some seconds old`);
  const device = await openDevice(path, { exclusive: !options.beside, warn }).catch((error: unknown) => explainBusy(path, error, false));
  try {
    return await work(await byBackup(device, options));
  } finally {
    await device.close();
  }
}

/** Throws the error; DEVICE_BUSY by a volume process of ours tells what to do instead. */
export async function explainBusy(device: string, error: unknown, write = true): Promise<never> {
  if (!(error instanceof LunfsError) || error.code !== 'DEVICE_BUSY') throw error;
  const facts = await processFacts(device);
  if (facts === undefined) throw error;
  const instead = facts.mount === undefined
    ? `it serves ${facts.exports.length} export(s) (lunfs disk ls ${device}); end them with "lunfs umount ${device}", or mount it with "lunfs mount"`
    : `it is mounted on ${facts.mount}; ${write ? 'change' : 'read'} files there, and disks with "lunfs disk"`;
  throw new UsageError('DEVICE_BUSY', 'EBUSY', `${device} is in use by a volume process of this host: ${instead}`, { device, mount: facts.mount }, error);
}
