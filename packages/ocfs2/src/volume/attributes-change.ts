/** Changing what stat shows: mode, owner, times, flags (Linux 6.1 fs/ocfs2/file.c:ocfs2_setattr, ioctl.c:ocfs2_fileattr_set); statfs; the rule for atime. */
import { MAX_NAME_LEN, MODE } from '../format/constants.js';
import { heartbeatCrc } from '../format/blockcheck.js';
import type { DinodeView } from '../format/structs.js';
import type { FsContext, InodeRef } from '../context.js';
import { heldClusters, statClusters } from '../alloc/index.js';
import { EX } from '../locking/levels.js';
import type { Op, Timestamp } from '../txn/index.js';
import { ATTR, ATTR_MODIFIABLE, checkFlags, fileType, isDirectory, liveInode, setTimes } from './attributes.js';
import { foldLateTimes } from './file-state.js';
import { valuesOf } from './value-blocks.js';
import { aclFollowsMode } from './xattrs.js';

/** Attributes to change; the size of a file is changed by truncate. */
export interface AttributeChange {
  /** Permission bits with setuid, setgid, sticky; the file type stays. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly atime?: Timestamp | 'now';
  readonly mtime?: Timestamp | 'now';
  /** Default: now. Of a kernel that keeps the times of files itself (FUSE's writeback cache). */
  readonly ctime?: Timestamp;
}

/** Change attributes; ctime becomes now unless it is given. Throws FLAGS_FORBID, STALE. */
export function changeAttributes(op: Op, ctx: FsContext, blkno: number, change: AttributeChange): InodeRef {
  const look = liveInode(op, ctx, blkno, EX);
  checkFlags(ctx, look, setsMore(change) ? ATTR.IMMUTABLE | ATTR.APPEND : ATTR.IMMUTABLE);
  const { mode, uid, gid, atime, mtime, ctime } = change;
  const inode = ctx.editInode(op, blkno);
  foldLateTimes(op, ctx, inode);
  const { di } = inode;
  if (mode !== undefined) {
    di.mode = fileType(di) | (mode & 0o7777);
    if (fileType(di) !== MODE.LNK) aclFollowsMode(op, ctx, inode);
  }
  if (uid !== undefined) di.uid = uid;
  if (gid !== undefined) di.gid = gid;
  if (atime !== undefined) setTimes(di, 'a', atime === 'now' ? op.now : atime);
  if (mtime !== undefined) setTimes(di, 'm', mtime === 'now' ? op.now : mtime);
  setTimes(di, 'c', ctime ?? op.now);
  return inode;
}

/** More than touching: append-only files refuse it too (Linux 6.1 fs/attr.c:may_setattr). An mtime that comes with its ctime is that of a write. */
function setsMore({ mode, uid, gid, atime, mtime, ctime }: AttributeChange): boolean {
  return mode !== undefined || uid !== undefined || gid !== undefined || typeof atime === 'object' || (typeof mtime === 'object' && ctime === undefined);
}

/** Set the flags of FS_IOC_SETFLAGS that a user may set. The caller has the right to (CAP_LINUX_IMMUTABLE for immutable and append). */
export function changeFlags(op: Op, ctx: FsContext, blkno: number, flags: number): InodeRef {
  liveInode(op, ctx, blkno, EX);
  const inode = ctx.editInode(op, blkno);
  const wanted = isDirectory(inode) ? flags : flags & ~ATTR.DIRSYNC;
  inode.di.attr = ((wanted & ATTR_MODIFIABLE) | (inode.di.attr & ~ATTR_MODIFIABLE)) >>> 0;
  return inode;
}

/** When reading updates atime. */
export interface AtimeRule {
  /** `relative`: when it is not newer than mtime and ctime. `interval`: when it is older than `quantum` seconds. */
  readonly mode: 'never' | 'relative' | 'interval';
  readonly quantum: number;
}

/** The kernel's defaults: relatime mounts, atime_quantum 60 seconds for the others. */
export const DEFAULT_ATIME: AtimeRule = { mode: 'relative', quantum: 60 };

/** Should a read at `now` update atime? (Linux 6.1 fs/ocfs2/file.c:ocfs2_should_update_atime.) */
export function atimeIsDue(di: DinodeView, now: Timestamp, { mode, quantum }: AtimeRule): boolean {
  if (mode === 'never' || di.attr & ATTR.NOATIME) return false;
  if (mode === 'interval') return now.sec - di.atime > quantum;
  const notAfter = (sec: number, nsec: number) => di.atime < sec || (di.atime === sec && di.atimeNsec <= nsec);
  return notAfter(di.mtime, di.mtimeNsec) || notAfter(di.ctime, di.ctimeNsec);
}

/** Set atime to now. */
export function touchAtime(op: Op, ctx: FsContext, blkno: number): void {
  liveInode(op, ctx, blkno, EX);
  setTimes(ctx.editInode(op, blkno).di, 'a', op.now);
}

/**
 * What statfs shows; in blocks of `blockSize` (Linux 6.1 fs/ocfs2/super.c:ocfs2_statfs: inodes are counted as clusters).
 * Free is what can be written: the only node has its window and truncate log counted as free, although Linux shows them as used.
 */
export interface VolumeStatistics {
  readonly blockSize: number;
  readonly blocks: number;
  readonly freeBlocks: number;
  readonly files: number;
  readonly freeFiles: number;
  readonly nameLength: number;
  /** f_fsid, two words made from the uuid. */
  readonly fsid: readonly [number, number];
}

export function volumeStatistics(op: Op, ctx: FsContext): VolumeStatistics {
  // What this node alone could bring back is no other's: members say what the bitmap says (Linux 6.1 fs/ocfs2/super.c:ocfs2_statfs).
  const held = valuesOf(ctx) === undefined ? heldClusters(op, ctx) : 0;
  const { total, free: unused } = statClusters(op, ctx);
  const free = unused + held;
  const { bpc, blockSize, uuidText } = ctx.geo;
  const half = (from: number) => heartbeatCrc(Buffer.from(uuidText.slice(from, from + 16)));
  return { blockSize, blocks: total * bpc, freeBlocks: free * bpc, files: total, freeFiles: free, nameLength: MAX_NAME_LEN, fsid: [half(0), half(16)] };
}
