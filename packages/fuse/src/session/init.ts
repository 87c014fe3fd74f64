/**
 * The INIT handshake: which version and which features. Pure: message in, reply out.
 */
import { CorruptionError, UsageError } from '@lunfs/device';
import { FUSE_MAJOR, FUSE_MINOR, FUSE_MINOR_LEAST, INIT_FLAG, INIT_FLAG2, MAX_PAGES, MAX_WRITE } from '../protocol/constants.js';
import { Replies } from '../protocol/replies.js';
import { decodeRequest } from '../protocol/requests.js';

/**
 * Every feature we ask for, with its reason. Left out on purpose:
 * AUTO_INVAL_DATA (it drops the cache after our own writes, whose mtime is ours to set; data that changes elsewhere is
 * invalidated before the lock goes); EXPORT_SUPPORT (NFS would look up "." of inodes nobody has opened); SPLICE_* (needs splice(2),
 * which Node lacks; a READ's data is not copied anyway); NO_OPEN_SUPPORT and NO_OPENDIR_SUPPORT (handlers count opens);
 * SECURITY_CTX (a security module labels the mount as a whole then, not each new file); CREATE_SUPP_GROUP (the group
 * of a new inode is its creator's or the directory's); ABORT_ERROR (ENODEV alone means "ended").
 */
const WANTED =
  INIT_FLAG.ASYNC_READ // several read-ahead requests of one file at once
  | INIT_FLAG.BIG_WRITES // writes larger than a page
  | INIT_FLAG.ATOMIC_O_TRUNC // open with O_TRUNC is one request: no window in which another node sees the file half done
  | INIT_FLAG.ASYNC_DIO // O_DIRECT requests of AIO and io_uring in parallel: QEMU and fio depend on it
  | INIT_FLAG.PARALLEL_DIROPS // lookups and listings of one directory need not wait for each other
  | INIT_FLAG.MAX_PAGES // 1 MiB per request instead of 128 KiB
  | INIT_FLAG.DO_READDIRPLUS // ls -l without a LOOKUP per name…
  | INIT_FLAG.READDIRPLUS_AUTO // …only where someone looks at the attributes
  | INIT_FLAG.CACHE_SYMLINKS // a symlink's target never changes while its inode lives
  | INIT_FLAG.EXPLICIT_INVAL_DATA // cached pages stay until invalInode says otherwise
  | INIT_FLAG.HANDLE_KILLPRIV_V2 // setuid bits fall together with the write, and no xattr is asked for before each one
  | INIT_FLAG.INIT_EXT; // the second word of flags is valid

/** For handlers that serve ACLs. */
const WANTED_ACL =
  INIT_FLAG.POSIX_ACL // the kernel, which knows the caller's groups, decides by the ACLs it reads from us
  | INIT_FLAG.DONT_MASK // a default ACL takes the umask's place: mode and umask come apart
  | INIT_FLAG.SETXATTR_EXT; // tells whether an ACL that is set takes setgid away

/**
 * For handlers that ask for it alone (`FuseHandler.writeback`): write(2) ends in the kernel's page cache, and the kernel decides over size, mtime and ctime of
 * regular files. Never where somebody else may change a file: pages dirty in the kernel would outlive a cluster lock, and what it is told of a size it ignores.
 */
const WANTED_WRITEBACK = INIT_FLAG.WRITEBACK_CACHE;

/** mmap of files opened with FOPEN_DIRECT_IO (kernels of 7.39 and later). */
const WANTED2 = INIT_FLAG2.DIRECT_IO_ALLOW_MMAP;

/** Requests of read-ahead and AIO that may be outstanding; the kernel's default of 12 is less than one VM disk's queue. */
const MAX_BACKGROUND = 64;
/** A fourth of what a lane's ring has entries for (lane.ts). */
const MOST_BACKGROUND = 4096;

export interface Negotiated {
  /** The kernel's minor. */
  readonly minor: number;
  readonly flags: number;
  readonly flags2: number;
}

/** What a handler serves. */
export interface Support {
  readonly posixLocks: boolean;
  readonly flock: boolean;
  readonly acl: boolean;
  /** Writes may wait in the kernel's page cache. */
  readonly writeback: boolean;
  /** Requests in the background that may be outstanding. */
  readonly background?: number;
}

/**
 * Answer the first message of a connection. `agreed` is absent when the kernel speaks a later major: it then asks again with ours.
 * Raises when the message is no INIT or the kernel is too old (nothing is answered: the mount fails).
 */
export function answerInit(message: Uint8Array, support: Support): { reply: Uint8Array; agreed?: Negotiated } {
  const { op, header, body } = decodeRequest(message);
  if (op !== 'INIT') throw new CorruptionError('FUSE_NO_INIT', `the kernel began the FUSE connection with ${op} instead of INIT`, { op });
  const replies = new Replies();
  const background = Math.min(MOST_BACKGROUND, support.background ?? MAX_BACKGROUND);
  if (body.major > FUSE_MAJOR) return { reply: replies.init(header.unique, { major: FUSE_MAJOR, minor: FUSE_MINOR }) };
  if (body.major < FUSE_MAJOR || body.minor < FUSE_MINOR_LEAST) {
    throw new UsageError('FUSE_TOO_OLD', 'EPROTO', `the kernel speaks FUSE ${body.major}.${body.minor}; ${FUSE_MAJOR}.${FUSE_MINOR_LEAST} (Linux 4.20) or later is needed`,
      { major: body.major, minor: body.minor });
  }
  const wanted = WANTED | (support.posixLocks ? INIT_FLAG.POSIX_LOCKS : 0) | (support.flock ? INIT_FLAG.FLOCK_LOCKS : 0) | (support.acl ? WANTED_ACL : 0)
    | (support.writeback ? WANTED_WRITEBACK : 0);
  const agreed: Negotiated = { minor: body.minor, flags: (wanted & body.flags) >>> 0, flags2: (WANTED2 & body.flags2) >>> 0 };
  const reply = replies.init(header.unique, {
    major: FUSE_MAJOR,
    minor: Math.min(FUSE_MINOR, body.minor),
    max_readahead: body.max_readahead,
    flags: agreed.flags,
    flags2: agreed.flags2,
    max_background: background,
    congestion_threshold: Math.floor((background * 3) / 4),
    max_write: MAX_WRITE,
    max_pages: MAX_PAGES,
    time_gran: 1, // times have nanoseconds
  });
  return { reply, agreed };
}
