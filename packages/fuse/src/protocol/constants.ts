/**
 * Numbers of the FUSE protocol. Source: Linux include/uapi/linux/fuse.h (7.38; the two values of 7.39 that we use from 6.6's).
 * Names are the header's with the prefix that the enclosing object carries taken off.
 */

export const FUSE_MAJOR = 7;
/** The minor we implement: 39 brought DIRECT_IO_ALLOW_MMAP and STATX (answered ENOSYS: OCFS2 has no birth time, all else GETATTR tells). */
export const FUSE_MINOR = 39;
/** The oldest kernel minor we serve: 7.28 (Linux 4.20) has MAX_PAGES, COPY_FILE_RANGE and every struct size we rely on. */
export const FUSE_MINOR_LEAST = 28;
export const ROOT_ID = 1;

export const PAGE = 4096;
/** Largest payload of one WRITE or READ: 256 pages. */
export const MAX_PAGES = 256;
export const MAX_WRITE = MAX_PAGES * PAGE;
/** Linux NAME_MAX; longer names are answered ENAMETOOLONG before a handler sees them. */
export const NAME_MAX = 255;
export const XATTR_SIZE_MAX = 65536;

export const OPCODE = {
  LOOKUP: 1, FORGET: 2, GETATTR: 3, SETATTR: 4, READLINK: 5, SYMLINK: 6, MKNOD: 8, MKDIR: 9, UNLINK: 10, RMDIR: 11, RENAME: 12, LINK: 13,
  OPEN: 14, READ: 15, WRITE: 16, STATFS: 17, RELEASE: 18, FSYNC: 20, SETXATTR: 21, GETXATTR: 22, LISTXATTR: 23, REMOVEXATTR: 24, FLUSH: 25,
  INIT: 26, OPENDIR: 27, READDIR: 28, RELEASEDIR: 29, FSYNCDIR: 30, GETLK: 31, SETLK: 32, SETLKW: 33, ACCESS: 34, CREATE: 35, INTERRUPT: 36,
  BMAP: 37, DESTROY: 38, IOCTL: 39, POLL: 40, NOTIFY_REPLY: 41, BATCH_FORGET: 42, FALLOCATE: 43, READDIRPLUS: 44, RENAME2: 45, LSEEK: 46,
  COPY_FILE_RANGE: 47, SETUPMAPPING: 48, REMOVEMAPPING: 49, SYNCFS: 50, TMPFILE: 51, STATX: 52,
} as const;
export type OpName = keyof typeof OPCODE;

/** fuse_setattr_in.valid */
export const FATTR = {
  MODE: 1 << 0, UID: 1 << 1, GID: 1 << 2, SIZE: 1 << 3, ATIME: 1 << 4, MTIME: 1 << 5, FH: 1 << 6, ATIME_NOW: 1 << 7, MTIME_NOW: 1 << 8,
  LOCKOWNER: 1 << 9, CTIME: 1 << 10, KILL_SUIDGID: 1 << 11,
} as const;

/** fuse_open_out.open_flags */
export const FOPEN = {
  DIRECT_IO: 1 << 0, KEEP_CACHE: 1 << 1, NONSEEKABLE: 1 << 2, CACHE_DIR: 1 << 3, STREAM: 1 << 4, NOFLUSH: 1 << 5, PARALLEL_DIRECT_WRITES: 1 << 6,
} as const;

/** fuse_init_in/out.flags, bits 0..31 */
export const INIT_FLAG = {
  ASYNC_READ: 1 << 0, POSIX_LOCKS: 1 << 1, FILE_OPS: 1 << 2, ATOMIC_O_TRUNC: 1 << 3, EXPORT_SUPPORT: 1 << 4, BIG_WRITES: 1 << 5, DONT_MASK: 1 << 6,
  SPLICE_WRITE: 1 << 7, SPLICE_MOVE: 1 << 8, SPLICE_READ: 1 << 9, FLOCK_LOCKS: 1 << 10, HAS_IOCTL_DIR: 1 << 11, AUTO_INVAL_DATA: 1 << 12,
  DO_READDIRPLUS: 1 << 13, READDIRPLUS_AUTO: 1 << 14, ASYNC_DIO: 1 << 15, WRITEBACK_CACHE: 1 << 16, NO_OPEN_SUPPORT: 1 << 17,
  PARALLEL_DIROPS: 1 << 18, HANDLE_KILLPRIV: 1 << 19, POSIX_ACL: 1 << 20, ABORT_ERROR: 1 << 21, MAX_PAGES: 1 << 22, CACHE_SYMLINKS: 1 << 23,
  NO_OPENDIR_SUPPORT: 1 << 24, EXPLICIT_INVAL_DATA: 1 << 25, MAP_ALIGNMENT: 1 << 26, SUBMOUNTS: 1 << 27, HANDLE_KILLPRIV_V2: 1 << 28,
  SETXATTR_EXT: 1 << 29, INIT_EXT: 1 << 30,
} as const;

/** fuse_init_in/out.flags2: bits 32..63 of the flags, shifted down */
export const INIT_FLAG2 = { SECURITY_CTX: 1 << 0, HAS_INODE_DAX: 1 << 1, CREATE_SUPP_GROUP: 1 << 2, HAS_EXPIRE_ONLY: 1 << 3, DIRECT_IO_ALLOW_MMAP: 1 << 4 } as const;

export const GETATTR_FH = 1 << 0;
export const FSYNC_FDATASYNC = 1 << 0;
export const OPEN_KILL_SUIDGID = 1 << 0;
/** fuse_write_in.write_flags */
export const WRITE_FLAG = { CACHE: 1 << 0, LOCKOWNER: 1 << 1, KILL_SUIDGID: 1 << 2 } as const;
/** fuse_setxattr_in.setxattr_flags: an access ACL is set by somebody outside the file's group. */
export const SETXATTR_ACL_KILL_SGID = 1 << 0;
export const LK_FLOCK = 1 << 0;
export const EXPIRE_ONLY = 1 << 0;
/** fuse_ioctl_in.flags */
export const IOCTL_FLAG = { COMPAT: 1 << 0, UNRESTRICTED: 1 << 1, RETRY: 1 << 2, IS_32BIT: 1 << 3, DIR: 1 << 4 } as const;

export const NOTIFY = { POLL: 1, INVAL_INODE: 2, INVAL_ENTRY: 3, STORE: 4, RETRIEVE: 5, DELETE: 6 } as const;

/** renameat2(2) flags (include/uapi/linux/fs.h) */
export const RENAME_NOREPLACE = 1 << 0;
export const RENAME_EXCHANGE = 1 << 1;

/** lseek(2) whence; the kernel sends only these two */
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

/** fallocate(2) modes (include/uapi/linux/falloc.h) */
export const FALLOC = { KEEP_SIZE: 0x01, PUNCH_HOLE: 0x02, COLLAPSE_RANGE: 0x08, ZERO_RANGE: 0x10, INSERT_RANGE: 0x20, UNSHARE_RANGE: 0x40 } as const;

/** open(2) flags as x86-64 and arm64 kernels send them (include/uapi/asm-generic/fcntl.h) */
export const O = {
  ACCMODE: 3, RDONLY: 0, WRONLY: 1, RDWR: 2, CREAT: 0o100, EXCL: 0o200, TRUNC: 0o1000, APPEND: 0o2000, DSYNC: 0o10000, SYNC: 0o4010000,
} as const;
