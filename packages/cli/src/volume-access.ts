/**
 * Opening the volume of a device for one command.
 *
 * A reader mounts read-only: dirty journals are replayed in memory, nothing is written. It holds the device against writers of this
 * host meanwhile, as writers do against everybody: what a live writer has not yet put in place would be read half. So beside a mount
 * of the same device on this host both are refused, with where to look instead; several readers go together.
 */
import { type BlockDevice, LunfsError, UsageError, openDevice, openIoWorkerDevice } from '@lunfs/device';
import type { VolumeFacts } from '@lunfs/host';
import { Volume, backupView, readBackupSuper } from '@lunfs/ocfs2';
import { catchSignals } from './interrupt.js';
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

async function byBackup(device: BlockDevice, { backupSuper }: SuperChoice): Promise<BlockDevice> {
  return backupSuper === undefined ? device : backupView(device, await readBackupSuper(device, backupSuper));
}

/** Run `work` with the volume mounted read-only. */
export function withReader<T>(command: string, device: string, choice: SuperChoice, work: (volume: Volume) => Promise<T>): Promise<T> {
  return withDevice(command, device, false, async (opened) => {
    const volume = await Volume.mount(await byBackup(opened, choice), { readOnly: true });
    const { slots } = volume.recovery;
    if (slots.length > 0) note(command, `${device}: the journal of slot ${slots.join(', ')} was not closed (a crash, or a node that has it mounted); shown is what recovery would make of it`);
    return await work(volume);
  });
}

export interface WriterOptions {
  /** Write to a volume of a cluster while nobody has it mounted. */
  readonly offline?: boolean;
}

/** Run `work` with the volume mounted for writing; closes it cleanly whatever happens, and says what mounting had to recover. */
export function withWriter<T>(command: string, device: string, options: WriterOptions, work: (volume: Volume) => Promise<T>): Promise<T> {
  return withDevice(command, device, true, async (opened) => {
    const restore = catchSignals();
    try {
      const volume = await Volume.mount(opened, { offline: options.offline });
      const { slots, blocks } = volume.recovery;
      if (slots.length > 0) note(command, `${device}: recovered the journal of slot ${slots.join(', ')} (${blocks} blocks)`);
      try {
        return await work(volume);
      } finally {
        await volume.unmount();
      }
    } finally {
      restore();
    }
  });
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

async function withDevice<T>(command: string, path: string, write: boolean, work: (device: BlockDevice) => Promise<T>): Promise<T> {
  const warn = (message: string) => note(command, message);
  const device = await openIoWorkerDevice(path, { write, exclusive: true, warn }).catch((error: unknown) => explainBusy(path, error, write));
  try {
    return await work(device);
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
