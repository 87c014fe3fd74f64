/**
 * Looks at devices, given as one JSON argument, and prints for each that carries an OCFS2 volume one line of JSON (`ProbedDevice`). A program of its
 * own: a LUN that does not answer holds up nobody but it. Nothing is locked or written.
 */
import { LunfsError, openDevice } from '@lunfs/device';
import { RawReader } from '@lunfs/ocfs2';
import type { ProbedDevice } from '../devices.js';

async function probe(path: string): Promise<void> {
  try {
    const device = await openDevice(path);
    try {
      const { geo } = await RawReader.open(device);
      const found: ProbedDevice = { device: path, uuid: geo.uuidText, label: geo.label };
      process.stdout.write(`${JSON.stringify(found)}\n`);
    } finally {
      await device.close();
    }
  } catch (error) {
    // No volume of ours, or nothing that can be opened.
    if (!(error instanceof LunfsError)) throw error;
  }
}

await Promise.all((JSON.parse(process.argv[2]) as string[]).map(probe));
