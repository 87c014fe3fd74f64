/** Numbers of the on-disk format (docs/format.md; Linux 6.1 fs/ocfs2/ocfs2_fs.h). */

export const SUPER_BLOCK_BLKNO = 2;
export const INVALID_SLOT = 0xffff;
export const MAX_SLOTS = 255;
export const MIN_BLOCK_SIZE = 512;
export const MAX_BLOCK_SIZE = 4096;
export const MIN_CLUSTER_SIZE = 4096;
export const MAX_CLUSTER_SIZE = 1 << 20;
/** Byte offsets of the backup superblocks: 1 GiB << 2i. */
export const BACKUP_SUPER_OFFSETS: readonly number[] = [0, 1, 2, 3, 4, 5].map((i) => 2 ** 30 * 4 ** i);

export const SIG = {
  superBlock: 'OCFSV2', dinode: 'INODE01', extentBlock: 'EXBLK01', group: 'GROUP01', dirTrailer: 'DIRTRL1',
  dxRoot: 'DXDIR01', dxLeaf: 'DXLEAF1', xattr: 'XATTR01', refcount: 'REFCNT1',
} as const;

export const COMPAT = { BACKUP_SB: 0x1, JBD2_SB: 0x2 } as const;
export const INCOMPAT = {
  HEARTBEAT_DEV: 0x2, RESIZE_INPROG: 0x4, LOCAL_MOUNT: 0x8, SPARSE_ALLOC: 0x10, TUNEFS_INPROG: 0x20, INLINE_DATA: 0x40,
  USERSPACE_STACK: 0x80, EXTENDED_SLOT_MAP: 0x100, XATTR: 0x200, INDEXED_DIRS: 0x400, META_ECC: 0x800,
  REFCOUNT_TREE: 0x1000, DISCONTIG_BG: 0x2000, CLUSTERINFO: 0x4000, APPEND_DIO: 0x8000,
} as const;
export const RO_COMPAT = { UNWRITTEN: 0x1, USRQUOTA: 0x2, GRPQUOTA: 0x4 } as const;

/** Dinode i_flags. */
export const FL = {
  VALID: 0x1, ORPHANED: 0x4, SYSTEM: 0x10, SUPER_BLOCK: 0x20, LOCAL_ALLOC: 0x40, BITMAP: 0x80, JOURNAL: 0x100,
  HEARTBEAT: 0x200, CHAIN: 0x400, DEALLOC: 0x800, QUOTA: 0x1000, DIO_ORPHANED: 0x2000,
} as const;

/** Dinode i_dyn_features. */
export const DYN = { INLINE_DATA: 0x1, HAS_XATTR: 0x2, INLINE_XATTR: 0x4, INDEXED_DIR: 0x8, HAS_REFCOUNT: 0x10 } as const;

/** Leaf extent record flags. */
export const EXT = { UNWRITTEN: 0x1, REFCOUNTED: 0x2 } as const;
/** Lists with this depth or more are rejected (Linux 6.1 fs/ocfs2/alloc.h:OCFS2_MAX_PATH_DEPTH). */
export const MAX_TREE_DEPTH = 5;

export const S_IFMT = 0o170000;
export const MODE = { FIFO: 0o010000, CHR: 0o020000, DIR: 0o040000, BLK: 0o060000, REG: 0o100000, LNK: 0o120000, SOCK: 0o140000 } as const;
/** Dirent file_type by mode type. */
export const FT = { UNKNOWN: 0, REG: 1, DIR: 2, CHR: 3, BLK: 4, FIFO: 5, SOCK: 6, LNK: 7 } as const;

export function fileTypeOfMode(mode: number): number {
  switch (mode & S_IFMT) {
    case MODE.REG: return FT.REG;
    case MODE.DIR: return FT.DIR;
    case MODE.CHR: return FT.CHR;
    case MODE.BLK: return FT.BLK;
    case MODE.FIFO: return FT.FIFO;
    case MODE.SOCK: return FT.SOCK;
    case MODE.LNK: return FT.LNK;
    default: return FT.UNKNOWN;
  }
}

export const DIR_TRAILER_SIZE = 64;
export const MAX_NAME_LEN = 255;
/** Link limits (Linux 6.1 fs/ocfs2/ocfs2_fs.h:OCFS2_LINK_MAX, OCFS2_DX_LINK_MAX). */
export const LINK_MAX = 32000;
export const DX_LINK_MAX = 0x7fffffff;

/** System files: name on disk; per-slot ones carry the slot as four decimal digits. */
export const SYSTEM_FILES = {
  badBlocks: 'bad_blocks', globalInodeAlloc: 'global_inode_alloc', slotMap: 'slot_map', heartbeat: 'heartbeat',
  globalBitmap: 'global_bitmap', userQuota: 'aquota.user', groupQuota: 'aquota.group', orphanDir: 'orphan_dir',
  extentAlloc: 'extent_alloc', inodeAlloc: 'inode_alloc', journal: 'journal', localAlloc: 'local_alloc',
  truncateLog: 'truncate_log', localUserQuota: 'aquota.user', localGroupQuota: 'aquota.group',
} as const;
export type SlotFile = 'orphanDir' | 'extentAlloc' | 'inodeAlloc' | 'journal' | 'localAlloc' | 'truncateLog' | 'localUserQuota' | 'localGroupQuota';

/** Name of a per-slot system file, e.g. `journal:0003`. */
export function slotFileName(type: SlotFile, slot: number): string {
  return `${SYSTEM_FILES[type]}:${String(slot).padStart(4, '0')}`;
}
