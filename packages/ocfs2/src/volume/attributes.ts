/** What stat tells of an inode, and the fields behind it: links, times, flags (ondisk-format.md 2). */
import { UsageError } from '@lunfs/device';
import { DYN, FL, MODE, S_IFMT } from '../format/constants.js';
import type { Geometry } from '../format/geometry.js';
import { DINODE_ANY } from '../format/kinds.js';
import { Dinode, type DinodeView } from '../format/structs.js';
import type { FsContext, InodeRef } from '../context.js';
import type { LockLevel } from '../locking/levels.js';
import type { Op, Timestamp } from '../txn/index.js';

/** An inode as stat shows it. */
export interface Attributes {
  /** Inode number: its block. */
  readonly blkno: number;
  readonly generation: number;
  /** Type and permission bits. */
  readonly mode: number;
  readonly links: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** Units of 512 bytes. */
  readonly blocks: number;
  /** Preferred I/O size: the cluster. */
  readonly blockSize: number;
  /** Linux device number of device files, else 0: huge_encode_dev as on disk. */
  readonly rdev: number;
  readonly atime: Timestamp;
  readonly mtime: Timestamp;
  readonly ctime: Timestamp;
  /** FS_IOC_GETFLAGS bits (ATTR). */
  readonly flags: number;
}

/** i_attr bits that lunfs honours (include/uapi/linux/fs.h:FS_*_FL). */
export const ATTR = { IMMUTABLE: 0x10, APPEND: 0x20, NOATIME: 0x80, DIRSYNC: 0x10000 } as const;
/** Bits a user may set (include/uapi/linux/fs.h:FS_FL_USER_MODIFIABLE). */
export const ATTR_MODIFIABLE = 0x000380ff;

export function fileType(di: DinodeView): number {
  return di.mode & S_IFMT;
}

export function isDirectory(ref: InodeRef): boolean {
  return fileType(ref.di) === MODE.DIR;
}

/** Device number of a device file (huge_encode_dev), else 0. */
export function rdevOf(di: DinodeView): number {
  const type = fileType(di);
  return type === MODE.CHR || type === MODE.BLK ? Number(di.rdev & 0xffffffffn) : 0;
}

/** Symlink with its text in the dinode (inode.h:ocfs2_inode_is_fast_symlink). */
export function isFastSymlink(di: DinodeView): boolean {
  return fileType(di) === MODE.LNK && di.clusters === 0;
}

/** i_links_count_hi counts only on indexed directories (ocfs2.h:ocfs2_read_links_count). */
export function linkCount(di: DinodeView): number {
  return di.links + (di.dynFeatures & DYN.INDEXED_DIR ? di.linksHi * 0x10000 : 0);
}

export function setLinkCount(di: DinodeView, links: number): void {
  di.links = links & 0xffff;
  di.linksHi = links >>> 16;
}

/** Set the times named by letters: a, m, c. */
export function setTimes(di: DinodeView, which: string, { sec, nsec }: Timestamp): void {
  if (which.includes('a')) [di.atime, di.atimeNsec] = [sec, nsec];
  if (which.includes('m')) [di.mtime, di.mtimeNsec] = [sec, nsec];
  if (which.includes('c')) [di.ctime, di.ctimeNsec] = [sec, nsec];
}

/** (Linux 6.1 fs/ocfs2/inode.h:ocfs2_inode_sector_count, file.c:ocfs2_getattr.) */
export function attributesOf(geo: Geometry, { blkno, di }: InodeRef): Attributes {
  const inline = (di.dynFeatures & DYN.INLINE_DATA) !== 0;
  return {
    blkno, generation: di.generation, mode: di.mode, links: linkCount(di), uid: di.uid, gid: di.gid, size: di.size,
    blocks: inline ? Math.ceil(di.size / 512) : di.clusters * (geo.clusterSize / 512),
    blockSize: geo.clusterSize,
    rdev: rdevOf(di),
    atime: { sec: di.atime, nsec: di.atimeNsec }, mtime: { sec: di.mtime, nsec: di.mtimeNsec }, ctime: { sec: di.ctime, nsec: di.ctimeNsec },
    flags: di.attr,
  };
}

/** Lock and read an inode that somebody knew once; undefined if it has been wiped since, here or by another node. That is no corruption: no name led here. */
export function knownInode(op: Op, ctx: FsContext, blkno: number, level: LockLevel): InodeRef | undefined {
  const lock = ctx.metaLock(op, blkno, level);
  return Dinode.at(op.read(lock, blkno, DINODE_ANY)).flags & FL.VALID ? ctx.inode(op, blkno, level) : undefined;
}

/** Lock and read an inode that a caller knows by number. Throws STALE if it is gone, or another by now, or a system file. */
export function liveInode(op: Op, ctx: FsContext, blkno: number, level: LockLevel, generation?: number): InodeRef {
  const ref = knownInode(op, ctx, blkno, level);
  const di = ref?.di;
  // mkfs.ocfs2 marks the root directory as a system file too.
  const system = di !== undefined && (di.flags & FL.SYSTEM) !== 0 && blkno !== ctx.geo.rootBlkno;
  if (ref === undefined || system || (generation !== undefined && ref.di.generation !== generation)) {
    throw new UsageError('STALE', 'ESTALE', `${ctx.geo.device}: inode ${blkno} is no longer the file it was`, { device: ctx.geo.device, block: blkno });
  }
  return ref;
}

/** The same for a directory. Throws NOT_A_DIRECTORY. */
export function liveDirectory(op: Op, ctx: FsContext, blkno: number, level: LockLevel): InodeRef {
  const ref = liveInode(op, ctx, blkno, level);
  if (!isDirectory(ref)) throw refuse(ctx, 'NOT_A_DIRECTORY', 'ENOTDIR', blkno, 'is no directory');
  return ref;
}

/** A refusal that names the inode. */
export function refuse(ctx: FsContext, code: string, errno: UsageError['errno'], blkno: number, why: string): UsageError {
  return new UsageError(code, errno, `${ctx.geo.device}: inode ${blkno} ${why}`, { device: ctx.geo.device, block: blkno });
}

/** Refuse a change that the inode's flags forbid (Linux 6.1 fs/namei.c:may_delete, may_create). */
export function checkFlags(ctx: FsContext, { blkno, di }: InodeRef, mask: number): void {
  if (di.attr & mask) throw refuse(ctx, 'FLAGS_FORBID', 'EPERM', blkno, `is ${di.attr & mask & ATTR.IMMUTABLE ? 'immutable' : 'append-only'}; clear the flag with chattr first`);
}
