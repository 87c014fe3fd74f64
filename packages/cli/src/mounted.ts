/** The process that has a device in use. */
import { LunfsError } from '@lunfs/device';
import { type VolumeProcess, connectVolumeProcess } from '@lunfs/host';

/** Run `work` with the process of this host that has the device in use, or `otherwise` if none has. */
export async function throughProcess<T>(device: string, work: (process: VolumeProcess) => Promise<T>, otherwise: () => Promise<T>): Promise<T> {
  const control = await connectVolumeProcess(device).catch((error: unknown) => {
    if (error instanceof LunfsError && ['NO_VOLUME_PROCESS', 'NO_RUN_DIR', 'RUN_DIR', 'DEVICE_MISSING'].includes(error.code)) return undefined;
    throw error;
  });
  if (control === undefined) return otherwise();
  try {
    return await work(control);
  } finally {
    control.close();
  }
}
