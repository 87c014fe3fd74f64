/** Which device of ours is mounted on a directory, and the process that has it. */
import * as fs from 'node:fs';
import path from 'node:path';
import { LunfsError, UsageError } from '@lunfs/device';
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

/** The device that is mounted on a directory; undefined when the path is no directory. Throws NOT_MOUNTED. */
export function mountedDevice(where: string): string | undefined {
  const directory = path.resolve(where);
  // Fields as in proc(5); the source comes after the dash and the type.
  const plain = (text: string) => text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  const lines = fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\n').map((line) => line.split(' '));
  const line = lines.findLast((fields) => fields.length > 9 && plain(fields[4]) === directory && fields[fields.indexOf('-', 6) + 1] === 'fuse.lunfs');
  if (line !== undefined) return plain(line[line.indexOf('-', 6) + 2]);
  if (!fs.statSync(directory, { throwIfNoEntry: false })?.isDirectory()) return undefined;
  throw new UsageError('NOT_MOUNTED', 'EINVAL', `nothing of lunfs is mounted on ${directory} (findmnt -t fuse.lunfs lists what is)`, { directory });
}
