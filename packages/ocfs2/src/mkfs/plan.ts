/**
 * What a volume will be: every number that mkfs.ocfs2 1.8.7 derives from the device and its options, computed without
 * writing (ocfs2-tools mkfs.ocfs2/mkfs.c:fill_defaults and the functions it calls).
 */
import { type BlockDevice, UsageError } from '@lunfs/device';
import { capacity, COMPAT, INCOMPAT, MAX_BLOCK_SIZE, MAX_CLUSTER_SIZE, MAX_SLOTS, MIN_BLOCK_SIZE, MIN_CLUSTER_SIZE } from '../format/index.js';
import { type FeatureLevel, type FeatureSet, resolveFeatures } from './features.js';

export interface MkfsOptions {
  /** Bytes, a power of two: 512 to 4096. */
  readonly blockSize?: number;
  /** Bytes, a power of two: 4 KiB to 1 MiB. */
  readonly clusterSize?: number;
  /** Node slots, 1 to 255. */
  readonly slots?: number;
  /** Bytes of each slot's journal. */
  readonly journalSize?: number;
  /** The journals hold 64-bit block numbers (-J block64). */
  readonly journal64?: boolean;
  /** At most 64 bytes in UTF-8 (63 and a NUL). */
  readonly label?: string;
  /** 32 hex digits, dashes allowed. */
  readonly uuid?: string;
  readonly mount?: 'local' | 'cluster';
  readonly type?: 'mail' | 'datafiles' | 'vmstore';
  readonly featureLevel?: FeatureLevel;
  /** As --fs-features takes them. */
  readonly features?: string;
  readonly clusterStack?: string;
  readonly clusterName?: string;
  readonly globalHeartbeat?: boolean;
  readonly noBackupSuper?: boolean;
  /** Discard the whole volume first, where the device can (default). */
  readonly discard?: boolean;
  /** Blocks to use; default: all of the device. */
  readonly sizeInBlocks?: number;
}

export interface VolumePlan {
  readonly blockSize: number;
  readonly clusterSize: number;
  /** Blocks per cluster. */
  readonly bpc: number;
  readonly clusters: number;
  readonly blocks: number;
  readonly bytes: number;
  readonly slots: number;
  readonly journalSize: number;
  readonly journal64: boolean;
  /** Clusters each slot's extent allocator starts with. */
  readonly extentAllocClusters: number;
  /** Clusters per suballocator group. */
  readonly suballocCpg: number;
  readonly clusterGroups: number;
  /** Clusters per full cluster group, and in the last. */
  readonly clustersPerGroup: number;
  readonly tailGroupClusters: number;
  readonly features: FeatureSet;
  readonly backups: boolean;
  readonly local: boolean;
  readonly label: string;
  readonly stack?: { readonly name: string; readonly cluster: string; readonly globalHeartbeat: boolean };
  readonly type: 'default' | 'mail' | 'datafiles' | 'vmstore';
}

const MIB = 2 ** 20, GIB = 2 ** 30;
const MIN_JOURNAL = 4 * MIB;
/** The extent allocators together take at most this part of the volume, in percent. */
const MOST_EXTENT_ALLOC = 5;

const refuse = (code: string, message: string, fields: Record<string, string | number> = {}) => new UsageError(code, 'EINVAL', message, fields);

function powerOfTwo(value: number, least: number, most: number, what: string): number {
  if (!Number.isInteger(Math.log2(value)) || value < least || value > most) throw refuse('MKFS_SIZE', `${what} of ${value} bytes is no power of two between ${least} and ${most}`, { value });
  return value;
}

function defaultBlockSize(bytes: number): number {
  if (bytes <= 3 * MIB) return 512;
  if (bytes >= GIB) return 4096;
  return bytes >= GIB / 2 ? 2048 : 1024;
}

function defaultClusterSize(type: VolumePlan['type'], bytes: number): number {
  if (type === 'datafiles' || type === 'vmstore') {
    const gib = Math.floor(bytes / GIB);
    if (gib < 2) throw refuse('MKFS_TOO_SMALL', `a volume of type ${type} needs a device of at least 2 GiB; choose another type, or give the cluster size`);
    return (gib < 64 ? 128 : gib < 96 ? 256 : gib < 128 ? 512 : 1024) * 1024;
  }
  let size = MIN_CLUSTER_SIZE;
  while (size < MAX_CLUSTER_SIZE && Math.floor(bytes / size) > 0xfffffffe) size *= 2;
  return size;
}

function defaultSlots(bytes: number): number {
  const gib = Math.floor(bytes / GIB);
  return gib < 2 ? 2 : gib < 10 ? 4 : gib < 1024 ? 8 : 16;
}

function defaultJournalBlocks(type: VolumePlan['type'], blocks: number, blockSize: number): number {
  const bySize = (small: number, middle: number, large: number) => (blocks < 262144 ? small : blocks < 524288 ? middle : large);
  switch (type) {
    case 'datafiles': return 8192;
    case 'mail': return bySize(16384, 32768, 65536);
    case 'vmstore': return bySize(8192, 16384, 32768);
    case 'default':
      if (blocks < 32768) return MIN_JOURNAL / blockSize;
      if (blocks < 262144) return 4096;
      return Math.min(65536, Math.max(16384, Math.floor(blocks / 160)));
  }
}

function journalBytes(type: VolumePlan['type'], asked: number | undefined, blocks: number, blockSize: number, clusterSize: number, slots: number): number {
  if (blocks < 2048) throw refuse('MKFS_TOO_SMALL', `a volume of ${blocks} blocks has no room for a journal`, { blocks });
  const fits = (bytes: number) => Math.floor(bytes / blockSize) * slots + 1024 <= blocks;
  const whole = (bytes: number) => Math.ceil(bytes / clusterSize) * clusterSize;
  // A transaction must be able to hold more than a cluster's worth of blocks, and is at most a part of the journal.
  const least = 9 * clusterSize;
  if (asked !== undefined) {
    if (asked < MIN_JOURNAL) throw refuse('MKFS_JOURNAL_SIZE', `a journal of ${asked} bytes is smaller than ${MIN_JOURNAL}`, { asked });
    if (!fits(asked)) throw refuse('MKFS_JOURNAL_SIZE', `${slots} journals of ${asked} bytes do not fit on the volume`, { asked, slots });
    if (whole(asked) < least) throw refuse('MKFS_JOURNAL_SIZE', `a journal of ${asked} bytes is smaller than 9 clusters (${least} bytes)`, { asked, least });
    return whole(asked);
  }
  // With small blocks mkfs.ocfs2's default falls below what a kernel mounts, and it gives up; the least that works does.
  const size = whole(Math.max(MIN_JOURNAL, defaultJournalBlocks(type, blocks, blockSize) * blockSize));
  if (size >= least) return size;
  if (!fits(least)) throw refuse('MKFS_TOO_SMALL', `the volume is too small for ${slots} journals of ${least} bytes; use a larger device or smaller clusters`, { slots, least });
  return least;
}

function extentAllocGroups(type: VolumePlan['type'], unit: number, bytes: number): number {
  const target = type === 'datafiles' || type === 'vmstore' ? 0.3 : 0.1;
  let groups = 1;
  while ((unit * groups * 100) / bytes < target) groups++;
  return (unit * groups * 100) / bytes > MOST_EXTENT_ALLOC ? groups - 1 : groups;
}

function stackOf(options: MkfsOptions, local: boolean): VolumePlan['stack'] {
  const { clusterStack, clusterName, globalHeartbeat = false } = options;
  if (clusterStack === undefined && clusterName === undefined && !globalHeartbeat) return undefined;
  if (local) throw refuse('MKFS_CLUSTER', 'a local volume has no cluster stack, cluster name or global heartbeat');
  if (clusterStack === undefined || !['o2cb', 'pcmk', 'cman'].includes(clusterStack)) throw refuse('MKFS_CLUSTER', `the cluster stack must be o2cb, pcmk or cman, not "${clusterStack ?? ''}"`);
  const o2cb = clusterStack === 'o2cb';
  if (clusterName === undefined || !(o2cb ? /^[A-Za-z0-9]{1,16}$/ : /^[\x21-\x7e]{1,16}$/).test(clusterName)) {
    throw refuse('MKFS_CLUSTER', `the cluster name must be 1 to 16 ${o2cb ? 'letters and digits' : 'characters'}, not "${clusterName ?? ''}"`);
  }
  if (globalHeartbeat && !o2cb) throw refuse('MKFS_CLUSTER', 'only the o2cb stack has a global heartbeat');
  return { name: clusterStack, cluster: clusterName, globalHeartbeat };
}

function featuresOf(options: MkfsOptions): { features: FeatureSet; backups: boolean; local: boolean } {
  const resolved = resolveFeatures(options.featureLevel ?? 'default', options.features ?? '');
  const { roCompat } = resolved;
  let { compat, incompat } = resolved;
  if (!(incompat & INCOMPAT.INLINE_DATA) && incompat & (INCOMPAT.INDEXED_DIRS | INCOMPAT.META_ECC)) {
    throw new UsageError('FEATURE_UNSUPPORTED', 'EOPNOTSUPP', 'without inline-data this version makes no volumes with indexed-dirs or metaecc; refuse those too ("noindexed-dirs,nometaecc"), or keep inline-data');
  }
  const local = options.mount !== undefined ? options.mount === 'local' : (incompat & INCOMPAT.LOCAL_MOUNT) !== 0;
  if (local) incompat |= INCOMPAT.LOCAL_MOUNT;
  const backups = (compat & COMPAT.BACKUP_SB) !== 0 && options.noBackupSuper !== true;
  if (!backups) compat &= ~COMPAT.BACKUP_SB;
  if (options.clusterStack !== undefined) {
    incompat |= INCOMPAT.EXTENDED_SLOT_MAP;
    if (!(incompat & INCOMPAT.CLUSTERINFO)) incompat |= options.clusterStack === 'o2cb' ? INCOMPAT.CLUSTERINFO : INCOMPAT.USERSPACE_STACK;
  }
  return { features: { compat, incompat, roCompat }, backups, local };
}

/** Compute the plan. Throws UsageError with what is wrong and what would do. */
export function planVolume(device: Pick<BlockDevice, 'name' | 'size' | 'logicalBlockSize'>, options: MkfsOptions): VolumePlan {
  const type = options.type ?? 'default';
  const { features, backups, local } = featuresOf(options);
  const stack = stackOf(options, local);
  if (options.blockSize !== undefined) powerOfTwo(options.blockSize, MIN_BLOCK_SIZE, MAX_BLOCK_SIZE, 'a block size');
  const least = options.blockSize ?? MAX_BLOCK_SIZE;
  if (least < device.logicalBlockSize) throw refuse('MKFS_SIZE', `${device.name} has blocks of ${device.logicalBlockSize} bytes; the block size cannot be smaller`);
  const sizeIn = (blockSize: number) => {
    const most = Math.floor(device.size / blockSize);
    if ((options.sizeInBlocks ?? 0) > most) throw refuse('MKFS_SIZE', `${options.sizeInBlocks} blocks of ${blockSize} bytes are more than the ${most} of ${device.name}`);
    return (options.sizeInBlocks ?? most) * blockSize;
  };
  const blockSize = options.blockSize ?? Math.max(device.logicalBlockSize, defaultBlockSize(sizeIn(MAX_BLOCK_SIZE)));
  const given = sizeIn(blockSize);
  const clusterSize = options.clusterSize !== undefined ? powerOfTwo(options.clusterSize, MIN_CLUSTER_SIZE, MAX_CLUSTER_SIZE, 'a cluster size') : defaultClusterSize(type, given);
  const clusters = Math.floor(given / clusterSize);
  if (clusters > 0xffffffff) throw refuse('MKFS_SIZE', `${device.name} has more than 2^32 clusters of ${clusterSize} bytes; choose larger clusters`);
  const bytes = clusters * clusterSize, blocks = bytes / blockSize;
  const slots = options.slots ?? (local ? 1 : defaultSlots(bytes));
  if (!Number.isInteger(slots) || slots < 1 || slots > MAX_SLOTS) throw refuse('MKFS_SLOTS', `${slots} is no number of node slots (1 to ${MAX_SLOTS})`, { slots });
  const journal64 = options.journal64 ?? false;
  if (blocks > 0xffffffff && !journal64) throw refuse('MKFS_JOURNAL64', `${device.name} has ${blocks} blocks, more than 32-bit journals can name; use -J block64`, { blocks });
  const label = options.label ?? '';
  if (Buffer.byteLength(label) > 63) throw refuse('MKFS_LABEL', `the label "${label}" is longer than 63 bytes`);
  const bpc = clusterSize / blockSize;
  const suballocCpg = capacity.suballocGroupBytes(blockSize) / clusterSize;
  const clustersPerGroup = Math.min((blockSize - 64) * 8, clusters);
  return {
    blockSize, clusterSize, bpc, clusters, blocks, bytes, slots, journal64, features, backups, local, label, stack, type, suballocCpg,
    journalSize: journalBytes(type, options.journalSize, blocks, blockSize, clusterSize, slots),
    extentAllocClusters: suballocCpg * extentAllocGroups(type, suballocCpg * clusterSize * slots, bytes),
    clusterGroups: Math.ceil(clusters / clustersPerGroup), clustersPerGroup, tailGroupClusters: clusters % clustersPerGroup || clustersPerGroup,
  };
}
