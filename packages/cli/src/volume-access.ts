/**
 * Mounting the volume of a device for one command.
 *
 * A reader mounts read-only: dirty journals are replayed in memory, nothing is written. It holds the device against writers of this
 * host meanwhile, as writers do against everybody: what a live writer has not yet put in place would be read half. So beside a mount
 * of the same device on this host both are refused, with where to look instead; several readers go together.
 */
import { type BlockDevice, openIoWorkerDevice } from '@lunfs/device';
import { Volume } from '@lunfs/ocfs2';
import { type SuperChoice, byBackup, explainBusy } from './device-access.js';
import { catchSignals } from './interrupt.js';
import { note } from './output.js';

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

async function withDevice<T>(command: string, path: string, write: boolean, work: (device: BlockDevice) => Promise<T>): Promise<T> {
  const warn = (message: string) => note(command, message);
  const device = await openIoWorkerDevice(path, { write, exclusive: true, warn }).catch((error: unknown) => explainBusy(path, error, write));
  try {
    return await work(device);
  } finally {
    await device.close();
  }
}
