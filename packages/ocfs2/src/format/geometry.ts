/**
 * What the superblock says of a volume, checked once, as plain numbers: every other module computes with this.
 * (Linux 6.1 fs/ocfs2/super.c:ocfs2_sb_probe, ocfs2_verify_volume, ocfs2_initialize_super.)
 */
import { UsageError } from '@lunfs/device';
import { type Block, badField } from './block.js';
import { verifyCheck } from './blockcheck.js';
import { BACKUP_SUPER_OFFSETS, COMPAT, INCOMPAT, MAX_SLOTS, RO_COMPAT, SIG, SUPER_BLOCK_BLKNO } from './constants.js';
import { Dinode, STACK_GLOBAL_HEARTBEAT, SuperBlock } from './structs.js';

export interface Geometry {
  readonly device: string;
  readonly blockBits: number;
  readonly blockSize: number;
  readonly clusterBits: number;
  readonly clusterSize: number;
  /** Blocks per cluster. */
  readonly bpc: number;
  /** Clusters a block number may lie in: the volume's as far as is known here. Grows with the volume (`growGeometry`), never shrinks. */
  readonly totalClusters: number;
  readonly totalBlocks: number;
  readonly compat: number;
  readonly incompat: number;
  readonly roCompat: number;
  readonly metaecc: boolean;
  readonly sparse: boolean;
  readonly unwritten: boolean;
  readonly inlineData: boolean;
  readonly indexedDirs: boolean;
  readonly extendedSlotMap: boolean;
  readonly discontigBg: boolean;
  readonly xattr: boolean;
  readonly refcount: boolean;
  readonly quota: boolean;
  readonly local: boolean;
  readonly maxSlots: number;
  readonly fsGeneration: number;
  readonly rootBlkno: number;
  readonly systemDirBlkno: number;
  readonly firstClusterGroup: number;
  /** Clusters (bits) per full group of the global bitmap: 8 * (blockSize - 64). */
  readonly clustersPerGroup: number;
  readonly uuid: Uint8Array;
  /** 32 upper-case hex digits; also the DLM domain. */
  readonly uuidText: string;
  readonly uuidHash: number;
  readonly dxSeed: readonly [number, number, number];
  readonly label: string;
  readonly xattrInlineSize: number;
  /** Cluster stack of the volume; undefined when it carries none (classic o2cb, or a local volume). */
  readonly stack?: { readonly name: string; readonly cluster: string; readonly globalHeartbeat: boolean };
}

const KNOWN_INCOMPAT = Object.values(INCOMPAT).reduce((a, b) => a | b, 0);
const KNOWN_RO_COMPAT = Object.values(RO_COMPAT).reduce((a, b) => a | b, 0);

/**
 * Geometry from the block that should hold the superblock (or a backup, then `backup` is true and i_blkno is its own).
 * Throws NOT_OCFS2 (no signature), FEATURES_UNKNOWN (features this version does not know), or a corruption error.
 */
export function parseSuperBlock(block: Block, backup = false): Geometry {
  const di = Dinode.at(block);
  const sb = SuperBlock.at(block);
  if (di.signature !== SIG.superBlock) {
    throw new UsageError('NOT_OCFS2', 'EINVAL', `${block.device}: no OCFS2 superblock in block ${block.blkno}; format it with "lunfs mkfs", or check that this is the right device`, { device: block.device });
  }
  if (sb.featureIncompat & INCOMPAT.META_ECC && verifyCheck(block.bytes, 0x80) === 'bad') throw badField(block, 'super_block', 'i_check', 'checksum', 'does not match the block');
  if (sb.majorRev !== 0 || sb.minorRev !== 90) throw badField(block, 'super_block', 's_*_rev_level', `${sb.majorRev}.${sb.minorRev}`, 'is not revision 0.90');
  const blockBits = sb.blockSizeBits, clusterBits = sb.clusterSizeBits;
  if (blockBits < 9 || blockBits > 12 || 1 << blockBits !== block.bytes.length) throw badField(block, 'super_block', 's_blocksize_bits', blockBits, 'does not fit the block it was read from');
  if (clusterBits < 12 || clusterBits > 20) throw badField(block, 'super_block', 's_clustersize_bits', clusterBits, 'is not between 12 and 20');
  if (di.blkno !== block.blkno || (!backup && di.blkno !== SUPER_BLOCK_BLKNO)) throw badField(block, 'super_block', 'i_blkno', di.blkno, 'is not its own block');
  if (sb.maxSlots < 1 || sb.maxSlots > MAX_SLOTS) throw badField(block, 'super_block', 's_max_slots', sb.maxSlots, 'is not between 1 and 255');
  const bpc = 1 << (clusterBits - blockBits);
  const totalClusters = di.clusters;
  const totalBlocks = totalClusters * bpc;
  for (const [field, v] of [['s_root_blkno', sb.rootBlkno], ['s_system_dir_blkno', sb.systemDirBlkno], ['s_first_cluster_group', sb.firstClusterGroup]] as const) {
    if (v === 0 || v >= totalBlocks) throw badField(block, 'super_block', field, v, `is outside the volume of ${totalBlocks} blocks`);
  }
  const incompat = sb.featureIncompat, roCompat = sb.featureRoCompat, compat = sb.featureCompat;
  const unknown = (incompat & ~KNOWN_INCOMPAT) >>> 0;
  if (unknown !== 0) throw new UsageError('FEATURES_UNKNOWN', 'EINVAL', `${block.device} has incompatible features this version does not know (0x${unknown.toString(16)}); use a newer lunfs`, { device: block.device, incompat: unknown });
  if (incompat & INCOMPAT.HEARTBEAT_DEV) throw new UsageError('HEARTBEAT_DEVICE', 'EINVAL', `${block.device} is a heartbeat device, it holds no file system`, { device: block.device });
  const uuid = sb.uuid.slice();
  const hasStack = (incompat & (INCOMPAT.USERSPACE_STACK | INCOMPAT.CLUSTERINFO)) !== 0;
  if (hasStack && !(incompat & INCOMPAT.LOCAL_MOUNT) && sb.stack.length !== 4) throw badField(block, 'super_block', 'ci_stack', sb.stack, 'is not four characters');
  const nul = sb.label.indexOf(0);
  return {
    device: block.device, blockBits, blockSize: 1 << blockBits, clusterBits, clusterSize: 2 ** clusterBits, bpc, totalClusters, totalBlocks,
    compat, incompat, roCompat,
    metaecc: (incompat & INCOMPAT.META_ECC) !== 0, sparse: (incompat & INCOMPAT.SPARSE_ALLOC) !== 0,
    unwritten: (roCompat & RO_COMPAT.UNWRITTEN) !== 0, inlineData: (incompat & INCOMPAT.INLINE_DATA) !== 0,
    indexedDirs: (incompat & INCOMPAT.INDEXED_DIRS) !== 0, extendedSlotMap: (incompat & INCOMPAT.EXTENDED_SLOT_MAP) !== 0,
    discontigBg: (incompat & INCOMPAT.DISCONTIG_BG) !== 0, xattr: (incompat & INCOMPAT.XATTR) !== 0,
    refcount: (incompat & INCOMPAT.REFCOUNT_TREE) !== 0, quota: (roCompat & (RO_COMPAT.USRQUOTA | RO_COMPAT.GRPQUOTA)) !== 0,
    local: (incompat & INCOMPAT.LOCAL_MOUNT) !== 0,
    maxSlots: sb.maxSlots, fsGeneration: di.fsGeneration, rootBlkno: sb.rootBlkno, systemDirBlkno: sb.systemDirBlkno,
    firstClusterGroup: sb.firstClusterGroup, clustersPerGroup: ((1 << blockBits) - 64) * 8,
    uuid, uuidText: Buffer.from(uuid).toString('hex').toUpperCase(), uuidHash: sb.uuidHash,
    dxSeed: [sb.dxSeed0, sb.dxSeed1, sb.dxSeed2],
    label: Buffer.from(nul < 0 ? sb.label : sb.label.subarray(0, nul)).toString('utf8'),
    xattrInlineSize: sb.xattrInlineSize,
    stack: hasStack ? { name: sb.stack, cluster: sb.clusterName, globalHeartbeat: (sb.stackFlags & STACK_GLOBAL_HEARTBEAT) !== 0 } : undefined,
  };
}

/**
 * The volume has grown to so many clusters: all that compute with this geometry know from now on. The only change that a geometry
 * in use ever sees.
 */
export function growGeometry(geo: Geometry, clusters: number): void {
  if (clusters <= geo.totalClusters) return;
  Object.assign(geo, { totalClusters: clusters, totalBlocks: clusters * geo.bpc });
}

/** ro_compat features this version does not know; non-zero means: mount read-only only. */
export function unknownRoCompat(geo: Geometry): number {
  return (geo.roCompat & ~KNOWN_RO_COMPAT) >>> 0;
}

/** Blocks of the backup superblocks that lie inside a volume of `clusters` clusters (whatever the BACKUP_SB bit says). */
export function backupBlocks(geo: Geometry, clusters = geo.totalClusters): number[] {
  return BACKUP_SUPER_OFFSETS.map((at) => at / geo.blockSize).filter((blk) => blk < clusters * geo.bpc);
}

/** Backup superblocks are kept on this volume. */
export function hasBackups(geo: Geometry): boolean {
  return (geo.compat & COMPAT.BACKUP_SB) !== 0;
}

/** Blocks of a directory that is not inline, by its i_size: whole blocks, but the lost+found of mkfs.ocfs2 1.8.7 can lack the trailer's bytes. */
export function dirBlockCount(geo: Geometry, size: number): number {
  return Math.ceil(size / geo.blockSize);
}

/** Cluster that holds block `blkno`. */
export function blockToCluster(geo: Geometry, blkno: number): number {
  return Math.floor(blkno / geo.bpc);
}

/** Global bitmap group of a cluster: the descriptor's block and the bit in it (ondisk-format.md 4.1). */
export function clusterToGroup(geo: Geometry, cluster: number): { group: number; bit: number } {
  const g = Math.floor(cluster / geo.clustersPerGroup);
  return { group: g === 0 ? geo.firstClusterGroup : g * geo.clustersPerGroup * geo.bpc, bit: cluster % geo.clustersPerGroup };
}

/** Absolute cluster of bit 0 of a global bitmap group: group 0 counts from the volume's start. */
export function groupFirstCluster(geo: Geometry, groupBlkno: number): number {
  return groupBlkno === geo.firstClusterGroup ? 0 : groupBlkno / geo.bpc;
}

/** Throws unless `blkno` can be a metadata or data block of the volume. */
export function checkBlkno(geo: Geometry, blkno: number, structure: string, field: string, block: Block): void {
  if (!Number.isSafeInteger(blkno) || blkno <= SUPER_BLOCK_BLKNO || blkno >= geo.totalBlocks) throw badField(block, structure, field, blkno, `is outside the volume of ${geo.totalBlocks} blocks`);
}

/** Capacities by block size (ondisk-format.md 14.1). */
export const capacity = {
  dinodeExtents: (bs: number, inlineXattr = 0) => Math.floor((bs - 0xd0) / 16) - inlineXattr / 16,
  chains: (bs: number) => (bs - 0xd0) / 16,
  extentBlock: (bs: number) => (bs - 0x40) / 16,
  dxRootExtents: (bs: number) => (bs - 0xd0) / 16,
  dxRootEntries: (bs: number) => Math.floor((bs - 0xc8) / 16),
  dxLeafEntries: (bs: number) => (bs - 0x30) / 16,
  xattrTree: (bs: number) => (bs - 0x50) / 16,
  refcount: (bs: number) => (bs - 0x90) / 16,
  groupList: (bs: number) => (bs - 0x150) / 16,
  truncateRecs: (bs: number) => (bs - 0xc8) / 8,
  localAllocBytes: (bs: number) => bs - 0xd0,
  inlineData: (bs: number, inlineXattr = 0) => bs - 0xc8 - inlineXattr,
  fastSymlink: (bs: number) => bs - 0xc0 - 1,
  /** Bytes of one suballocator group. */
  suballocGroupBytes: (bs: number) => (bs >= 2048 ? 4 << 20 : bs === 1024 ? 2 << 20 : 1 << 20),
};

