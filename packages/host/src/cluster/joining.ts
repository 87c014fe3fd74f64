/** What lunfsd and a volume process tell each other when the process joins, as JSON in frames; and what is on a device before anybody has joined. */
import { type BlockDevice, UsageError, openDevice } from '@lunfs/device';
import type { ClusterNode, HeartbeatMode, Timeouts } from '@lunfs/o2cb';
import { ID2, RawReader, SlotMap, readSystemFiles } from '@lunfs/ocfs2';

/** One heartbeat block per node number. */
const HEARTBEAT_NODES = 255;

/** A volume that a process has opened, and where its cluster beats on it. */
export interface OpenedVolume {
  readonly device: string;
  /** 32 hex digits, upper case; also the domain and the region. */
  readonly uuid: string;
  readonly label: string;
  /** What the superblock says of the stack; nothing with the classic one. */
  readonly stack?: { readonly name: string; readonly cluster: string; readonly globalHeartbeat: boolean };
  readonly region: {
    /** Bytes from the device's start. */
    readonly offset: number;
    /** Bytes of a node's block: the device's logical block. */
    readonly blockBytes: number;
    readonly blocks: number;
  };
}

/** What a process is a member of from now on. */
export interface Joining {
  readonly node: number;
  /** Who beats now, this node included; all are connected. */
  readonly live: readonly number[];
  /** Who of them is suspected to be dead. */
  readonly suspects: readonly number[];
  readonly nodes: readonly ClusterNode[];
  readonly heartbeatMode: HeartbeatMode;
  /** Regions of global heartbeat; none with local. */
  readonly regions: readonly string[];
  readonly timeouts: Timeouts;
}

/**
 * Read what lunfsd must know of a volume, by a descriptor of our own that no fence holds up: nothing is written, and what is read was made
 * by mkfs. Throws what `RawReader.open` refuses, NO_HEARTBEAT_AREA.
 */
export async function inspectVolume(path: string, logicalBlockSize?: number): Promise<OpenedVolume> {
  const device = await openDevice(path, { logicalBlockSize });
  try {
    return await inspectDevice(device, path);
  } finally {
    await device.close();
  }
}

/** The same of a device that is open. */
export async function inspectDevice(device: BlockDevice, path: string): Promise<OpenedVolume> {
  const reader = await RawReader.open(device);
  const { geo } = reader;
  const sys = await readSystemFiles(reader);
  const inode = await reader.inode(sys.heartbeat);
  const first = await reader.extents(inode, ID2).next();
  const extent = first.done ? undefined : first.value;
  const blockBytes = device.logicalBlockSize;
  if (extent === undefined || extent.clusters * geo.clusterSize < HEARTBEAT_NODES * blockBytes) {
    throw new UsageError('NO_HEARTBEAT_AREA', 'EINVAL', `${path} has no room for heartbeats: it was made for one node. Enlarge it with tunefs.ocfs2 -M cluster`, { device: path });
  }
  return { device: path, uuid: geo.uuidText, label: geo.label, stack: geo.stack, region: { offset: extent.blkno * geo.blockSize, blockBytes, blocks: HEARTBEAT_NODES } };
}

/** Nodes that the slot map says have a volume mounted, dead ones included until they are recovered. Read as it lies there, without a lock. */
export async function slotHolders(path: string, logicalBlockSize?: number): Promise<number[]> {
  const device = await openDevice(path, { logicalBlockSize });
  try {
    return await holdersOn(device);
  } finally {
    await device.close();
  }
}

/** The same of a device that is open. */
export async function holdersOn(device: BlockDevice): Promise<number[]> {
  const reader = await RawReader.open(device);
  return (await SlotMap.read(reader, (await readSystemFiles(reader)).slotMap)).taken().map(({ node }) => node);
}
