/**
 * The port between the FUSE session and a file system: one method per operation, called on the main thread.
 *
 * A method answers at once or with a promise; while a promise is pending other requests are served. Whatever it throws is
 * answered by its errno (`errnoOf`). Optional methods that are absent are answered ENOSYS (the kernel then stops asking, or does
 * it itself); read-only file systems throw EROFS. Names are bytes: Linux has no encoding for them.
 *
 * Node ids are the handler's choice: the root is 1, all others are unique among living inodes and below 2^53. Every lookup,
 * create, mkdir, mknod, symlink, link, tmpfile and every entry of a readdirplus other than "." and ".." that was replied
 * counts one reference of that node id, which `forget` gives back.
 *
 * Data of a file whose `backend.direct` is set is read and written by the session's workers without these methods
 * (docs/design.md, "Data path"); `wrote` tells the handler afterwards. Kernel caches are dropped only on demand
 * (EXPLICIT_INVAL_DATA): whoever changes a file by another way than this mount calls `FuseSession.invalInode` first.
 */
import type { FileBackend } from '@lunfs/device';

export type MaybePromise<T> = T | Promise<T>;

/** Who asks. */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
  /** Thread id in the mount's pid name space; 0 for the kernel's own requests (read-ahead, writeback). */
  readonly pid: number;
  /** Aborted when the caller was interrupted by a signal: a method that waits (a lock) should then throw EINTR. */
  readonly signal: AbortSignal;
}

/** struct stat. Times are seconds since 1970 (may be negative) and nanoseconds; `blocks` counts 512 bytes. */
export interface Attributes {
  readonly ino: number;
  readonly size: number;
  readonly blocks: number;
  readonly atime: number;
  readonly atimensec: number;
  readonly mtime: number;
  readonly mtimensec: number;
  readonly ctime: number;
  readonly ctimensec: number;
  /** File type and permissions (S_IFMT | 07777). */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  /** Device number of a device node as the kernel's new_encode_dev packs it, else 0. */
  readonly rdev: number;
  readonly blksize: number;
}

/** Attributes with the seconds (fractions allowed) for which the kernel may keep them without asking. */
export interface AttributesReply {
  readonly attr: Attributes;
  readonly ttl: number;
}

/** A name's inode. `entryTtl`: seconds for which the kernel may keep the name, `ttl` the attributes. */
export interface Entry extends AttributesReply {
  readonly nodeid: number;
  /** Distinguishes inodes that had the same node id one after the other (dinode's i_generation). */
  readonly generation: number;
  readonly entryTtl: number;
}

/** "No such name", which the kernel may remember for `entryTtl` seconds. */
export interface NegativeEntry {
  readonly nodeid: 0;
  readonly entryTtl: number;
}

/** The fields of a SETATTR; undefined fields stay. `'now'` is the server's present time. */
export interface AttributeChanges {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  readonly atime?: 'now' | { readonly sec: number; readonly nsec: number };
  readonly mtime?: 'now' | { readonly sec: number; readonly nsec: number };
  readonly ctime?: { readonly sec: number; readonly nsec: number };
  /** Clear setuid, and setgid where group-execute is set, together with this change (chown, truncate). */
  readonly killSuidGid: boolean;
}

/** An open file; the handler returns its own object and gets it back with each request. */
export interface OpenFile {
  /**
   * Its data. READ and WRITE use `backend.map` and `backend.direct` in the workers where they can; where they cannot,
   * the handler's `read` and `write` are called.
   */
  readonly backend?: FileBackend;
  /** No page cache (O_DIRECT semantics for every read and write); mmap stays possible on Linux >= 6.6. */
  readonly directIo?: boolean;
  /** Keep the pages cached by earlier opens. */
  readonly keepCache?: boolean;
  readonly nonSeekable?: boolean;
  /** Direct writes inside EOF to one file may run in parallel. */
  readonly parallelDirectWrites?: boolean;
}

/** An open directory; the handler returns its own object and gets it back. */
export interface OpenDirectory {
  /** The kernel may cache the listing until the directory changes by this mount or is invalidated. */
  readonly cacheListing?: boolean;
  /** Keep a listing cached by earlier opens. */
  readonly keepCache?: boolean;
}

export interface DirectoryEntry {
  readonly name: Uint8Array;
  readonly ino: number;
  /** S_IFMT >> 12 (DT_REG 8, DT_DIR 4, …; 0 unknown). */
  readonly type: number;
  /** Cookie (0 < cookie < 2^53) from which a later call goes on *after* this entry; stable while the directory changes. */
  readonly next: number;
  /** For readdirplus; absent for "." and ".." and where it is not cheap: the kernel then looks the name up when needed. */
  readonly entry?: Entry;
}

/** Takes an entry into the reply; false when it does not fit (not taken: no reference counted, stop). */
export type AddEntry = (entry: DirectoryEntry) => boolean;

/** struct statvfs; blocks are counted in `frsize` bytes. */
export interface FileSystemStatus {
  readonly blocks: number;
  readonly bfree: number;
  readonly bavail: number;
  readonly files: number;
  readonly ffree: number;
  readonly bsize: number;
  readonly frsize: number;
  readonly namelen: number;
}

/** A POSIX record lock; `end` is inclusive, 2^63-1 for "to the end". */
export interface FileLock {
  readonly start: bigint;
  readonly end: bigint;
  readonly type: 'read' | 'write' | 'unlock';
  readonly pid: number;
}

export interface Created<F> extends Entry {
  readonly file: F;
}

export interface FuseHandler<F extends OpenFile = OpenFile, D extends OpenDirectory = OpenDirectory> {
  /**
   * POSIX ACLs are served through the xattr methods: the kernel then decides by them who may do what. `mode` of new inodes comes without
   * the umask, which is the handler's to apply where no default ACL does its work; else the kernel has applied it.
   */
  readonly acl?: boolean;
  /**
   * write(2) ends in the kernel's page cache, which is written back at close, fsync and now and then. Only where nobody but this mount changes files: the kernel
   * keeps size, mtime and ctime of regular files itself (`setattr` brings the times) and ignores what it is told of them as long as it knows the inode.
   * `read` may be asked of files opened for writing alone; `write` then comes mostly `cached`, and errors of space reach close and fsync. `lseek` must be absent:
   * it would not know what waits in the kernel.
   */
  readonly writeback?: boolean;
  /** Requests that nobody waits for (read-ahead, write-back, AIO) and that the kernel lets be outstanding; default 64, at most 4096. */
  readonly background?: number;
  /** Entry of `name` in directory `parent`. Throws ENOENT, or returns a negative entry to be remembered. */
  lookup(caller: Caller, parent: number, name: Buffer): MaybePromise<Entry | NegativeEntry>;
  /** The kernel gives back `count` references of `nodeid`. Must not fail; there is no reply. */
  forget(nodeid: number, count: number): void;
  /** `file` is set when the kernel asks by an open file (fstat). */
  getattr(caller: Caller, nodeid: number, file: F | undefined): MaybePromise<AttributesReply>;
  setattr(caller: Caller, nodeid: number, changes: AttributeChanges, file: F | undefined): MaybePromise<AttributesReply>;
  readlink(caller: Caller, nodeid: number): MaybePromise<Uint8Array>;
  symlink(caller: Caller, parent: number, name: Buffer, target: Buffer): MaybePromise<Entry>;
  /** Any type of node but directory and symlink. */
  mknod(caller: Caller, parent: number, name: Buffer, mode: number, rdev: number, umask: number): MaybePromise<Entry>;
  mkdir(caller: Caller, parent: number, name: Buffer, mode: number, umask: number): MaybePromise<Entry>;
  unlink(caller: Caller, parent: number, name: Buffer): MaybePromise<void>;
  rmdir(caller: Caller, parent: number, name: Buffer): MaybePromise<void>;
  /** `flags`: RENAME_NOREPLACE, RENAME_EXCHANGE (the session refuses others). */
  rename(caller: Caller, parent: number, name: Buffer, newParent: number, newName: Buffer, flags: number): MaybePromise<void>;
  link(caller: Caller, nodeid: number, newParent: number, newName: Buffer): MaybePromise<Entry>;

  /** `flags`: open(2)'s. O_TRUNC is the handler's to do (`killSuidGid`: with it); O_APPEND offsets are the kernel's. */
  open(caller: Caller, nodeid: number, flags: number, killSuidGid: boolean): MaybePromise<F>;
  /** Create and open. Without O_EXCL an existing name is opened. */
  create(caller: Caller, parent: number, name: Buffer, mode: number, flags: number, umask: number): MaybePromise<Created<F>>;
  /** O_TMPFILE: an open file without a name (nlink 0). */
  tmpfile?(caller: Caller, parent: number, mode: number, flags: number, umask: number): MaybePromise<Created<F>>;
  /** Fill `into` from `offset`; the number of bytes read, short only at EOF. `into` is page aligned. */
  read(caller: Caller, file: F, offset: number, into: Uint8Array): MaybePromise<number>;
  /**
   * Write all of `from` (page aligned, valid until this settles), extending the file where needed; the number of bytes written.
   * Resolves when the write survives SIGKILL of our processes. `cached`: written back from the kernel's page cache (mmap), the file
   * handle is a guess and the caller unknown. `append`: opened with O_APPEND, `offset` is the end of the file as this kernel knows it. `killSuidGid`: as in setattr.
   */
  write(caller: Caller, file: F, offset: number, from: Uint8Array, how: { readonly killSuidGid: boolean; readonly cached: boolean; readonly append: boolean }): MaybePromise<number>;
  /**
   * Workers wrote data of `file` in place since the last call, the last time at `at` (monotonic ms): mtime and ctime are due. Called
   * before any other request that could see them, and by `FuseSession.foldWrites`.
   */
  wrote(file: F, at: number): void;
  /** close(2) of one descriptor. Absent: nothing to do at close. */
  flush?(caller: Caller, file: F, lockOwner: bigint): MaybePromise<void>;
  /** The last descriptor is gone: release the file and its backend. No error reaches anyone. */
  release(caller: Caller, file: F): MaybePromise<void>;
  fsync(caller: Caller, file: F, dataOnly: boolean): MaybePromise<void>;
  fallocate?(caller: Caller, file: F, mode: number, offset: number, length: number): MaybePromise<void>;
  /** SEEK_DATA (3) or SEEK_HOLE (4); throws ENXIO past EOF. */
  lseek?(caller: Caller, file: F, offset: number, whence: number): MaybePromise<number>;
  /** The number of bytes copied; absent: the kernel copies by read and write. */
  copyFileRange?(caller: Caller, from: F, fromOffset: number, to: F, toOffset: number, length: number): MaybePromise<number>;

  opendir(caller: Caller, nodeid: number): MaybePromise<D>;
  /** Entries after cookie `offset` (0: from the start), "." and ".." included, until `add` says false. `plus`: with `entry`. */
  readdir(caller: Caller, directory: D, offset: number, plus: boolean, add: AddEntry): MaybePromise<void>;
  releasedir(caller: Caller, directory: D): MaybePromise<void>;
  fsyncdir(caller: Caller, directory: D, dataOnly: boolean): MaybePromise<void>;
  statfs(caller: Caller): MaybePromise<FileSystemStatus>;
  /** syncfs(2) (the kernel sends it for trusted servers only). */
  syncfs?(caller: Caller): MaybePromise<void>;

  /** The whole value; the session compares sizes (ERANGE). Throws ENODATA. */
  getxattr?(caller: Caller, nodeid: number, name: Buffer): MaybePromise<Uint8Array>;
  /** `flags`: XATTR_CREATE 1, XATTR_REPLACE 2. `killSetgid`: an access ACL that is set clears the setgid bit. */
  setxattr?(caller: Caller, nodeid: number, name: Buffer, value: Buffer, flags: number, killSetgid: boolean): MaybePromise<void>;
  listxattr?(caller: Caller, nodeid: number): MaybePromise<readonly Uint8Array[]>;
  removexattr?(caller: Caller, nodeid: number, name: Buffer): MaybePromise<void>;

  /** ioctl(2) with at most `outSize` bytes of answer; throws ENOTTY. On a directory `file` is its OpenDirectory. */
  ioctl?(caller: Caller, nodeid: number, file: F | D, command: number, input: Buffer, outSize: number): MaybePromise<Uint8Array>;
  /** Present: POSIX locks are the handler's; absent: the kernel's, local to this mount. */
  getlk?(caller: Caller, file: F, owner: bigint, lock: FileLock): MaybePromise<FileLock>;
  /** `wait`: may stay pending until granted or `caller.signal` aborts. Throws EAGAIN when it conflicts and must not wait. */
  setlk?(caller: Caller, file: F, owner: bigint, lock: FileLock, wait: boolean): MaybePromise<void>;
  /** Present: flock(2) locks are the handler's. */
  flock?(caller: Caller, file: F, owner: bigint, type: 'read' | 'write' | 'unlock', wait: boolean): MaybePromise<void>;

  /** The kernel ended the connection (umount or abort); nothing more will be asked. */
  destroy?(): MaybePromise<void>;
}
