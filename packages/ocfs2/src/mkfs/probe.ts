/**
 * The OCFS2 volume on a device, if there is one, as somebody who is about to use the device for something else has to know it: which it is, and who
 * has it mounted. (What else may be there is told by @lunfs/san.)
 */
import type { BlockDevice } from '@lunfs/device';
import { RawReader, readSystemFiles } from '../inspect/index.js';
import { watchHeartbeat } from '../volume/offline.js';
import { SlotMap } from '../volume/slot-map.js';

export interface VolumeSignature {
  readonly kind: 'ocfs2';
  /** For operators: what it is. */
  readonly text: string;
  readonly label?: string;
  readonly uuid?: string;
  /** How many nodes can mount it at once; undefined when it is damaged. */
  readonly slots?: number;
  /** Bytes that it takes of the device. */
  readonly size?: number;
  /** `local`: of one host; else the name of the cluster stack, with the cluster's where the volume names it. */
  readonly stack?: string;
  readonly cluster?: string;
  /** Why it must not be overwritten now (mounted by nodes of a cluster); undefined: no sign of use. */
  readonly inUse?: string;
}

/**
 * The volume, with who uses it: nodes whose heartbeat changes while we watch, else slots that are taken. `pause` waits so many milliseconds; with it the heartbeat of a clustered volume is watched (some seconds), without it only
 * its slot map is read. Undefined: no volume of OCFS2.
 */
export async function probeVolume(device: BlockDevice, pause?: (ms: number) => Promise<void>): Promise<VolumeSignature | undefined> {
  let reader: RawReader;
  try {
    reader = await RawReader.open(device);
  } catch (error) {
    if ((error as { code?: unknown }).code === 'NOT_OCFS2') return undefined;
    return { kind: 'ocfs2', text: 'a damaged OCFS2 volume, or one of a newer version' };
  }
  const { geo } = reader;
  return {
    kind: 'ocfs2', text: `an OCFS2 volume${geo.stack === undefined ? '' : ` of cluster "${geo.stack.cluster}"`}`, label: geo.label === '' ? undefined : geo.label, uuid: geo.uuidText,
    slots: geo.maxSlots, size: geo.totalBlocks * geo.blockSize, stack: geo.local ? 'local' : (geo.stack?.name ?? 'o2cb'), cluster: geo.stack?.cluster, inUse: await usersOf(reader, pause),
  };
}

async function usersOf(reader: RawReader, pause?: (ms: number) => Promise<void>): Promise<string | undefined> {
  try {
    const sys = await readSystemFiles(reader);
    const alive = pause === undefined || reader.geo.local ? [] : await watchHeartbeat(reader, sys.heartbeat, pause);
    if (alive.length > 0) return `node${alive.length === 1 ? '' : 's'} ${alive.join(', ')} beating on it now`;
    const slots = (await SlotMap.read(reader, sys.slotMap)).taken().length;
    return slots > 0 ? `${slots} slot${slots === 1 ? '' : 's'} taken: mounted, or not cleanly unmounted` : undefined;
  } catch {
    // A volume too damaged to say who uses it is still named; nothing more can be known.
    return undefined;
  }
}
