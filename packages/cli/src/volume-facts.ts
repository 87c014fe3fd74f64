/** What a volume's own structures say about it: superblock, slots, journals, usage. Read without a mount. */
import {
  BitmapId1, Dinode, type Geometry, JOURNAL_DIRTY, JournalId1, type RawReader, SUPER_BLOCK_BLKNO, SlotMap, SuperBlock, type SystemFiles, readSystemFiles,
} from '@lunfs/ocfs2';
import { volumeFeatures } from './features.js';

export interface SlotFacts {
  readonly slot: number;
  /** Node number that has it, if any. */
  readonly node?: number;
  readonly journal: { readonly size: number; readonly dirty: boolean };
}

export interface SpaceFacts {
  readonly clusters: number;
  readonly usedClusters: number;
  readonly bytes: number;
  readonly usedBytes: number;
  readonly freeBytes: number;
}

export interface VolumeDescription {
  readonly device: string;
  readonly label: string;
  readonly uuid: string;
  readonly revision: string;
  readonly created: number;
  readonly mountCount: number;
  readonly state: number;
  readonly errors: number;
  readonly blockSize: number;
  readonly clusterSize: number;
  readonly blocks: number;
  readonly maxSlots: number;
  readonly rootInode: number;
  readonly systemDirectoryInode: number;
  readonly firstClusterGroup: number;
  readonly cluster: Geometry['stack'] | 'local' | 'o2cb';
  readonly features: ReturnType<typeof volumeFeatures>;
  readonly space: SpaceFacts;
  readonly slots: readonly SlotFacts[];
}

export async function describeVolume(reader: RawReader): Promise<VolumeDescription> {
  const { geo } = reader;
  const sys = await readSystemFiles(reader);
  const block = await reader.readRaw(SUPER_BLOCK_BLKNO);
  const sb = SuperBlock.at(block);
  return {
    device: geo.device, label: geo.label, uuid: geo.uuidText, revision: `${sb.majorRev}.${sb.minorRev}`, created: sb.lastCheck, mountCount: sb.mntCount, state: sb.state, errors: sb.errors,
    blockSize: geo.blockSize, clusterSize: geo.clusterSize, blocks: geo.totalBlocks, maxSlots: geo.maxSlots, rootInode: geo.rootBlkno,
    systemDirectoryInode: geo.systemDirBlkno, firstClusterGroup: geo.firstClusterGroup, cluster: geo.local ? 'local' : (geo.stack ?? 'o2cb'),
    features: volumeFeatures(geo), space: await space(reader, sys), slots: await slots(reader, sys),
  };
}

async function space(reader: RawReader, sys: SystemFiles): Promise<SpaceFacts> {
  const { used, total } = BitmapId1.at(await reader.inode(sys.globalBitmap));
  const { clusterSize } = reader.geo;
  return { clusters: total, usedClusters: used, bytes: total * clusterSize, usedBytes: used * clusterSize, freeBytes: (total - used) * clusterSize };
}

async function slots(reader: RawReader, sys: SystemFiles): Promise<SlotFacts[]> {
  const map = await SlotMap.read(reader, sys.slotMap);
  const out: SlotFacts[] = [];
  for (let slot = 0; slot < reader.geo.maxSlots; slot++) {
    const inode = await reader.inode(sys.journal[slot]);
    out.push({ slot, node: map.node(slot), journal: { size: Dinode.at(inode).size, dirty: (JournalId1.at(inode).flags & JOURNAL_DIRTY) !== 0 } });
  }
  return out;
}
