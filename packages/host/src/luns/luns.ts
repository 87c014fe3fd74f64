/** LUNs of this host with all that is known of each: what @lunfs/san reads of the host, what is on the disk, and which volume process of ours has it. */
import { LunfsError } from '@lunfs/device';
import type { Finding, Lun, Use } from '@lunfs/san';
import { connectVolumeProcess } from '../control-client.js';
import { type DeviceContent, contentOf } from './content.js';

export interface LunReport extends Lun {
  readonly content: DeviceContent;
  /** What is on its partitions. */
  readonly partitionContent: readonly DeviceContent[];
}

/** Of LUNs as `lunsOf` finds them. A LUN without a path that works is not read. */
export async function reportLuns(luns: readonly Lun[]): Promise<LunReport[]> {
  const readable = luns.filter(({ findings }) => !findings.some(({ code }) => UNREADABLE.has(code)));
  const content = await contentOf(readable.flatMap((lun) => devicesOf(lun)));
  return await Promise.all(luns.map(async (lun) => {
    const [device, ...partitions] = devicesOf(lun);
    const why = lun.findings.find(({ code }) => UNREADABLE.has(code));
    return {
      ...lun, uses: [...lun.uses, ...(await volumeUses(devicesOf(lun)))],
      content: content.get(device) ?? { device, signatures: [], unknown: why?.text },
      partitionContent: partitions.map((partition) => content.get(partition) ?? { device: partition, signatures: [], unknown: why?.text }),
    };
  }));
}

const UNREADABLE = new Set<Finding['code']>(['NO_PATH', 'MAP_SUSPENDED']);

/** The LUN by its kernel name, which is always there, and its partitions. */
function devicesOf(lun: Lun): string[] {
  return [`/dev/${lun.kernelName.replaceAll('!', '/')}`, ...lun.partitions.map(({ device }) => device)];
}

/** The volume processes of this host that have one of the devices. */
async function volumeUses(devices: readonly string[]): Promise<Use[]> {
  const uses = await Promise.all(devices.map(async (device): Promise<Use[]> => {
    try {
      const volume = await connectVolumeProcess(device);
      try {
        const { mount, exports } = await volume.status();
        const how = [mount === undefined ? [] : [`mounted on ${mount}`], exports.length === 0 ? [] : [`${exports.length} export${exports.length === 1 ? '' : 's'}`]].flat();
        return [{ kind: 'volume', device, text: `lunfs volume${how.length === 0 ? '' : `, ${how.join(', ')}`}` }];
      } finally {
        volume.close();
      }
    } catch (error) {
      if (error instanceof LunfsError && ['NO_VOLUME_PROCESS', 'VOLUME_PROCESS_GONE', 'DEVICE_MISSING', 'NO_RUN_DIR', 'RUN_DIR'].includes(error.code)) return [];
      throw error;
    }
  }));
  return uses.flat();
}
