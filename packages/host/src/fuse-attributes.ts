/** The engine's attributes as FUSE sends them, and the small translations between the two. */
import type { Attributes as InodeAttributes } from '@lunfs/ocfs2';
import { type Attributes, ROOT_ID } from '@lunfs/fuse';

export const S_IFMT = 0o170000;
export const S_IFREG = 0o100000;
export const S_IFDIR = 0o040000;
export const S_IFLNK = 0o120000;

/** Largest preferred I/O size told to programs: a cluster may be 1 MiB, and stdio allocates a buffer of this size per file. */
const BLKSIZE_MAX = 65536;
/** Directory entry types on disk (FT_*, as ext2's) to readdir's (DT_*). */
const DT = [0, 8, 4, 2, 6, 1, 12, 10];

export function direntType(fileType: number): number {
  return DT[fileType] ?? 0;
}

/** FUSE calls the root 1; every other inode is known by its block. */
export function nodeOf(blkno: number, root: number): number {
  return blkno === root ? ROOT_ID : blkno;
}

export function inodeOf(nodeid: number, root: number): number {
  return nodeid === ROOT_ID ? root : nodeid;
}

export function fuseAttributes(a: InodeAttributes): Attributes {
  return {
    ino: a.blkno, size: a.size, blocks: a.blocks, blksize: Math.min(a.blockSize, BLKSIZE_MAX), mode: a.mode, nlink: a.links, uid: a.uid, gid: a.gid, rdev: a.rdev,
    atime: a.atime.sec, atimensec: a.atime.nsec, mtime: a.mtime.sec, mtimensec: a.mtime.nsec, ctime: a.ctime.sec, ctimensec: a.ctime.nsec,
  };
}

/** What a write, truncate or chown by another than root takes away (Linux 6.1 fs/inode.c:should_remove_suid). */
export function withoutSuid(mode: number): number {
  return mode & ~(0o4000 | ((mode & 0o0010) !== 0 ? 0o2000 : 0));
}
