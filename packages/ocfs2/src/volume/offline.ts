/**
 * Writing to a volume of a cluster without being a member ("offline"). Three things make it safe:
 *  1. nobody beats: the heartbeat area is watched for three beats; a block that changes is a live node;
 *  2. nobody is mounted by the slot map, where the beats cannot be seen (global heartbeat: they are on other devices);
 *  3. while we write, the superblock carries TUNEFS_INPROG, which every Linux node refuses to mount
 *     (Linux 6.1 fs/ocfs2/ocfs2_fs.h leaves it out of
 *     OCFS2_FEATURE_INCOMPAT_SUPP; super.c:ocfs2_initialize_super). It is cleared at clean close, or
 *     after our own recovery, so a crash of ours leaves a volume that only lunfs (which replays our journal) opens.
 * TUNEFS_INPROG with an s_tunefs_flag of 0 is ours: tunefs.ocfs2 always names its operation there.
 */
import { type BlockDevice, ClusterError, UsageError } from '@lunfs/device';
import { INCOMPAT } from '../format/constants.js';
import type { Geometry } from '../format/geometry.js';
import { HeartbeatBlock, ID2, SuperBlock } from '../format/structs.js';
import { Block } from '../format/block.js';
import type { RawReader } from '../inspect/raw-reader.js';
import { SlotMap } from './slot-map.js';
import { updateSuperBlock } from './superblock.js';

/** Time between two beats of a node (Linux 6.1 fs/ocfs2/cluster/heartbeat.h:O2HB_REGION_TIMEOUT_MS). */
export const BEAT_MS = 2000;
const BEATS_TO_WATCH = 3;
/** One heartbeat block per node number. */
const HEARTBEAT_NODES = 255;

/** Node numbers whose heartbeat block changed during three beats. `pause` waits the given milliseconds. */
export async function watchHeartbeat(reader: RawReader, heartbeat: number, pause: (ms: number) => Promise<void>): Promise<number[]> {
  const unit = reader.device.logicalBlockSize;
  const inode = await reader.inode(heartbeat);
  const first = await reader.extents(inode, ID2).next();
  if (first.done) return [];
  const blocks = Math.ceil((HEARTBEAT_NODES * unit) / reader.geo.blockSize);
  const available = Math.min(blocks, first.value.clusters * reader.geo.bpc);
  const look = async () => (await reader.readRaw(first.value.blkno, available)).bytes;
  const before = await look();
  const alive = new Set<number>();
  for (let beat = 0; beat < BEATS_TO_WATCH; beat++) {
    await pause(BEAT_MS);
    const now = await look();
    for (let node = 0; (node + 1) * unit <= now.length; node++) {
      const block = new Block(reader.geo.device, first.value.blkno, now.subarray(node * unit, (node + 1) * unit));
      if (!Buffer.from(before.buffer, before.byteOffset + node * unit, unit).equals(block.bytes)) alive.add(HeartbeatBlock.at(block).node);
    }
  }
  return [...alive].sort((a, b) => a - b);
}

/**
 * Throws unless the volume may be written offline: CLUSTER_ALIVE, SLOTS_TAKEN, TUNEFS_INTERRUPTED. `liveNodes`: nodes that the
 * caller knows to beat, on whatever device the cluster does; then nothing is left to doubt about nodes whose slots are taken.
 */
export async function checkOffline(
  reader: RawReader, sys: { heartbeat: number; slotMap: number }, pause: (ms: number) => Promise<void>, liveNodes?: () => Promise<readonly number[]>,
): Promise<void> {
  const { geo } = reader;
  const known = (await liveNodes?.()) ?? [];
  const beating = await watchHeartbeat(reader, sys.heartbeat, pause);
  const taken = (await SlotMap.read(reader, sys.slotMap)).taken();
  const alive = [...new Set([...beating, ...taken.map(({ node }) => node).filter((node) => known.includes(node))])].sort((a, b) => a - b);
  if (alive.length > 0) {
    throw new ClusterError('CLUSTER_ALIVE', `${geo.device} is in use: node${alive.length > 1 ? 's' : ''} ${alive.join(', ')} are alive and may have it mounted; unmount it everywhere, or make this host a member of the cluster`, { device: geo.device, nodes: alive.join(',') });
  }
  if (taken.length > 0 && geo.stack?.globalHeartbeat && liveNodes === undefined) {
    const text = taken.map((t) => `slot ${t.slot} by node ${t.node}`).join(', ');
    throw new ClusterError('SLOTS_TAKEN', `${geo.device} is marked mounted (${text}) and its cluster beats on other devices (global heartbeat), so it cannot be told whether they live; unmount it everywhere, or run fsck.ocfs2 if those nodes are gone`, { device: geo.device, slots: text });
  }
}

/** True if the superblock carries our own mark of an offline writer. */
export async function hasOfflineMark(reader: RawReader): Promise<boolean> {
  if (!(reader.geo.incompat & INCOMPAT.TUNEFS_INPROG)) return false;
  const sb = SuperBlock.at(await reader.readRaw(2));
  if (sb.tunefsFlag !== 0) {
    throw new UsageError('TUNEFS_INTERRUPTED', 'EINVAL', `${reader.geo.device}: a run of tunefs.ocfs2 was interrupted (flag ${sb.tunefsFlag}); run fsck.ocfs2 first`, { device: reader.geo.device });
  }
  return true;
}

/** Set or clear the mark, durable when it resolves. */
export function setOfflineMark(device: BlockDevice, geo: Geometry, on: boolean): Promise<Geometry> {
  return updateSuperBlock(device, geo, (sb) => {
    sb.featureIncompat = on ? (sb.featureIncompat | INCOMPAT.TUNEFS_INPROG) >>> 0 : (sb.featureIncompat & ~INCOMPAT.TUNEFS_INPROG) >>> 0;
  });
}
