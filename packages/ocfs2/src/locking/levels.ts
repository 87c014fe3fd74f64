/** Lock levels and names as the kernel's DLM has them (cluster-protocols.md 7.1; Linux 6.1 fs/ocfs2/ocfs2_lockid.h, dlmglue.c). */

/** DLM lock modes used by OCFS2 (include/uapi/linux/dlmconstants.h numbers). */
export const NL = 0;
export const PR = 3;
export const EX = 5;
export type LockLevel = typeof NL | typeof PR | typeof EX;

/**
 * Lock types by their first character: meta, rw (write), open, super, rename, refcount tree, quota info, orphan scan, NFS
 * sync, flock, trim. (`D`, data, is no longer used; `N`, dentry, has a name of its own form.)
 *
 * `L` is ours and never reaches a Dlm: files that only the node in their slot touches, or who recovers it. The kernel takes
 * no cluster lock for them (local allocs, truncate logs); here it only keys their blocks in the cache.
 */
export type LockType = 'M' | 'W' | 'O' | 'S' | 'R' | 'T' | 'Q' | 'P' | 'Y' | 'F' | 'I' | 'L';

/** Taken without asking anybody. */
export function isPrivate(name: string): boolean {
  return name.startsWith('L');
}

/** Does the lock carry a value block? (dlmglue.c: LOCK_TYPE_USES_LVB.) Others are asked for and converted without one. */
export function usesLvb(name: string): boolean {
  return name.startsWith('M') || name.startsWith('Q') || name.startsWith('P') || name.startsWith('I');
}

/** Resource name: type, six `0`, 16 hex digits of the block, 8 of the generation, lower case. */
export function lockName(type: LockType, blkno: number, generation: number): string {
  return `${type}000000${blkno.toString(16).padStart(16, '0')}${generation.toString(16).padStart(8, '0')}`;
}

/** Dentry lock of a name in directory `parent` for inode `blkno`: text up to a NUL, then the inode as 8 big-endian bytes (dlmglue.c:ocfs2_dentry_lock_res_init). */
export function dentryLockName(parent: number, blkno: number): string {
  const inode = Buffer.alloc(8);
  inode.writeBigUInt64BE(BigInt(blkno));
  return `N${parent.toString(16).padStart(16, '0')}\0${inode.toString('latin1')}`.padEnd(31, '\0');
}

/** Super lock: slot map, mount, unmount and recovery (dlmglue.c:ocfs2_super_lock_res_init). */
export const SUPER_LOCK = lockName('S', 2, 0);
/** Rename lock: directories that get another parent. */
export const RENAME_LOCK = lockName('R', 0, 0);
/** NFS sync lock: inodes that are wiped, against file handles. */
export const NFS_SYNC_LOCK = lockName('Y', 0, 0);
/** Orphan scan lock: one scan at a time. */
export const ORPHAN_SCAN_LOCK = lockName('P', 0, 0);

/** Trim lock: one node discards free clusters at a time (dlmglue.c:ocfs2_trim_fs_lock_res_init). */
export const TRIM_LOCK = lockName('I', 0, 0);

/** Directory and inode in the name of a dentry lock; undefined for other locks. */
export function parseDentryLockName(name: string): { readonly parent: number; readonly blkno: number } | undefined {
  if (name[0] !== 'N') return undefined;
  return { parent: Number.parseInt(name.slice(1, 17), 16), blkno: Number(Buffer.from(name.slice(18, 26), 'latin1').readBigUInt64BE()) };
}

/** Type and block number in a lock name of the standard form; undefined for dentry locks. */
export function parseLockName(name: string): { readonly type: LockType; readonly blkno: number } | undefined {
  if (name[0] === 'N') return undefined;
  return { type: name[0] as LockType, blkno: Number.parseInt(name.slice(7, 23), 16) };
}

/**
 * The order in which one operation waits for locks, outermost first (ondisk-format.md 14.2 and
 * Linux 6.1 fs/ocfs2/dlmglue.c, namei.c). Locks of one rank are taken in the order the operation asks.
 */
export const RANK = {
  super: 0, nfsSync: 1, rename: 2, rw: 3, open: 4, inode: 5, dentry: 6, flock: 7, orphanDir: 8, localQuota: 9, quota: 9.5, refcount: 10.5,
  truncateLog: 11, localAlloc: 12, inodeAlloc: 13, extentAlloc: 14, globalBitmap: 15,
} as const;
