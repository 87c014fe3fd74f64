/** Looks at devices, given as one JSON argument, and prints what is on each as one line of JSON (`DeviceContent`). Nothing is locked or written. */
import { openDevice } from '@lunfs/device';
import { probeVolume } from '@lunfs/ocfs2';
import { probeSignatures } from '@lunfs/san';
import type { DeviceContent } from '../content.js';

async function contentOf(path: string): Promise<DeviceContent> {
  try {
    const device = await openDevice(path, { warn: () => undefined });
    try {
      const [volume, signatures] = [await probeVolume(device), await probeSignatures(device)];
      return { device: path, volume, signatures };
    } finally {
      await device.close();
    }
  } catch (error) {
    return { device: path, signatures: [], unknown: error instanceof Error ? error.message : String(error) };
  }
}

await Promise.all((JSON.parse(process.argv[2]) as string[]).map(async (path) => process.stdout.write(`${JSON.stringify(await contentOf(path))}\n`)));
