/**
 * Replies and notifications: everything that is written to the kernel, built with its 16-byte header in front.
 *
 * `Replies` builds small replies in one scratch buffer: what a method returns is valid until the next call of any of them (it is
 * written at once). Directory listings are built by `DirectoryReply`, data replies lie in the memory of their request.
 */
import type { Attributes, AttributesReply, DirectoryEntry, Entry, FileLock, FileSystemStatus, NegativeEntry } from '../handler.js';
import { NOTIFY } from './constants.js';
import { writeU64 } from './struct.js';
import * as S from './structs.js';

const HEADER = S.OUT_HEADER.size;
/** Longer than any kernel keeps anything, and far from overflowing its jiffies. */
const TTL_MAX = 2 ** 31;
const LOCK_TYPES = ['read', 'write', 'unlock'] as const;

/** struct file_lock type of the wire (F_RDLCK 0, F_WRLCK 1, F_UNLCK 2), undefined when it is none of them. */
export function lockType(type: number): FileLock['type'] | undefined {
  return LOCK_TYPES[type];
}

/** Header of a reply of `length` bytes in all; `error` is a positive errno. */
export function putHeader(view: DataView, at: number, length: number, error: number, unique: number): void {
  view.setUint32(at, length, true);
  view.setInt32(at + 4, -error, true);
  writeU64(view, at + 8, unique);
}

function putAttributes(view: DataView, at: number, attr: Attributes): void {
  S.ATTR.write(view, at, attr);
}

/** [whole seconds, nanoseconds] of a time to live in seconds. */
function split(ttl: number): [number, number] {
  const bounded = Math.min(Math.max(ttl, 0), TTL_MAX);
  const seconds = Math.floor(bounded);
  return [seconds, Math.floor((bounded - seconds) * 1e9)];
}

function putEntry(view: DataView, at: number, entry: Entry | NegativeEntry): void {
  const [entry_valid, entry_valid_nsec] = split(entry.entryTtl);
  if (entry.nodeid === 0) {
    S.ENTRY_OUT.write(view, at, { nodeid: 0, entry_valid, entry_valid_nsec });
    S.ATTR.write(view, at + S.ENTRY_ATTR_AT, {});
    return;
  }
  const { nodeid, generation, ttl, attr } = entry as Entry;
  const [attr_valid, attr_valid_nsec] = split(ttl);
  S.ENTRY_OUT.write(view, at, { nodeid, generation: BigInt(generation), entry_valid, entry_valid_nsec, attr_valid, attr_valid_nsec });
  putAttributes(view, at + S.ENTRY_ATTR_AT, attr);
}

export class Replies {
  readonly #bytes = Buffer.alloc(512);
  readonly #view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.length);

  #done(unique: number, length: number): Uint8Array {
    putHeader(this.#view, 0, HEADER + length, 0, unique);
    return this.#bytes.subarray(0, HEADER + length);
  }

  /** An errno, or with 0 the plain "done". */
  error(unique: number, errno: number): Uint8Array {
    putHeader(this.#view, 0, HEADER, errno, unique);
    return this.#bytes.subarray(0, HEADER);
  }

  entry(unique: number, entry: Entry | NegativeEntry): Uint8Array {
    putEntry(this.#view, HEADER, entry);
    return this.#done(unique, S.ENTRY_OUT.size);
  }

  attr(unique: number, reply: AttributesReply): Uint8Array {
    const [attr_valid, attr_valid_nsec] = split(reply.ttl);
    S.ATTR_OUT.write(this.#view, HEADER, { attr_valid, attr_valid_nsec });
    putAttributes(this.#view, HEADER + S.ATTR_OUT_ATTR_AT, reply.attr);
    return this.#done(unique, S.ATTR_OUT.size);
  }

  open(unique: number, fh: number, open_flags: number): Uint8Array {
    S.OPEN_OUT.write(this.#view, HEADER, { fh, open_flags });
    return this.#done(unique, S.OPEN_OUT.size);
  }

  create(unique: number, entry: Entry, fh: number, open_flags: number): Uint8Array {
    putEntry(this.#view, HEADER, entry);
    S.OPEN_OUT.write(this.#view, HEADER + S.ENTRY_OUT.size, { fh, open_flags });
    return this.#done(unique, S.ENTRY_OUT.size + S.OPEN_OUT.size);
  }

  written(unique: number, size: number): Uint8Array {
    S.WRITE_OUT.write(this.#view, HEADER, { size });
    return this.#done(unique, S.WRITE_OUT.size);
  }

  statfs(unique: number, status: FileSystemStatus): Uint8Array {
    S.STATFS_OUT.write(this.#view, HEADER, { ...status });
    return this.#done(unique, S.STATFS_OUT.size);
  }

  xattrSize(unique: number, size: number): Uint8Array {
    S.GETXATTR_OUT.write(this.#view, HEADER, { size });
    return this.#done(unique, S.GETXATTR_OUT.size);
  }

  lseek(unique: number, offset: number): Uint8Array {
    S.LSEEK_OUT.write(this.#view, HEADER, { offset });
    return this.#done(unique, S.LSEEK_OUT.size);
  }

  lock(unique: number, lock: FileLock): Uint8Array {
    S.LK_OUT.write(this.#view, HEADER, { start: lock.start, end: lock.end, type: LOCK_TYPES.indexOf(lock.type), pid: lock.pid });
    return this.#done(unique, S.LK_OUT.size);
  }

  init(unique: number, values: Parameters<typeof S.INIT_OUT.write>[2]): Uint8Array {
    S.INIT_OUT.write(this.#view, HEADER, values);
    return this.#done(unique, S.INIT_OUT.size);
  }
}

/** A reply of bytes, with an optional struct in front of them. */
export function bytesReply(unique: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.length, HEADER);
  const reply = Buffer.allocUnsafe(length);
  putHeader(new DataView(reply.buffer, reply.byteOffset, HEADER), 0, length, 0, unique);
  let at = HEADER;
  for (const part of parts) {
    reply.set(part, at);
    at += part.length;
  }
  return reply;
}

export function ioctlReply(unique: number, output: Uint8Array): Uint8Array {
  const head = new Uint8Array(S.IOCTL_OUT.size); // result 0, no retry vectors
  return bytesReply(unique, head, output);
}

/** Builds the answer to READDIR and READDIRPLUS in at most `limit` bytes. */
export class DirectoryReply {
  readonly #bytes: Buffer;
  readonly #view: DataView;
  readonly #plus: boolean;
  #end = HEADER;

  constructor(limit: number, plus: boolean) {
    this.#plus = plus;
    this.#bytes = Buffer.allocUnsafe(HEADER + limit);
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.length);
  }

  /** False when it does not fit; the entry is then not in the reply. */
  add(entry: DirectoryEntry): boolean {
    const front = this.#plus ? S.ENTRY_OUT.size : 0;
    const length = (front + S.DIRENT.size + entry.name.length + 7) & ~7;
    const at = this.#end;
    if (at + length > this.#bytes.length) return false;
    if (this.#plus) putEntry(this.#view, at, entry.entry ?? { nodeid: 0, entryTtl: 0 });
    S.DIRENT.write(this.#view, at + front, { ino: entry.ino, off: entry.next, namelen: entry.name.length, type: entry.type });
    const name = at + front + S.DIRENT.size;
    this.#bytes.set(entry.name, name);
    this.#bytes.fill(0, name + entry.name.length, at + length);
    this.#end = at + length;
    return true;
  }

  finish(unique: number): Uint8Array {
    putHeader(this.#view, 0, this.#end, 0, unique);
    return this.#bytes.subarray(0, this.#end);
  }
}

/** A notification is a reply with unique 0 and its code in the place of the error (fs/fuse/dev.c:fuse_dev_do_write). */
function notification(code: number, size: number, name: Uint8Array | undefined, put: (view: DataView, at: number) => void): Uint8Array {
  const length = HEADER + size + (name === undefined ? 0 : name.length + 1);
  const bytes = Buffer.alloc(length);
  const view = new DataView(bytes.buffer, bytes.byteOffset, length);
  putHeader(view, 0, length, -code, 0);
  put(view, HEADER);
  if (name !== undefined) bytes.set(name, HEADER + size);
  return bytes;
}

/** Drop cached attributes, and pages of [off, off+len); len 0: to the end; off < 0: attributes only. */
export function invalInode(ino: number, off: number, len: number): Uint8Array {
  return notification(NOTIFY.INVAL_INODE, S.NOTIFY_INVAL_INODE_OUT.size, undefined, (view, at) => S.NOTIFY_INVAL_INODE_OUT.write(view, at, { ino, off, len }));
}

export function invalEntry(parent: number, name: Uint8Array, flags: number): Uint8Array {
  return notification(NOTIFY.INVAL_ENTRY, S.NOTIFY_INVAL_ENTRY_OUT.size, name, (view, at) => {
    S.NOTIFY_INVAL_ENTRY_OUT.write(view, at, { parent, namelen: name.length, flags });
  });
}

export function notifyDelete(parent: number, child: number, name: Uint8Array): Uint8Array {
  return notification(NOTIFY.DELETE, S.NOTIFY_DELETE_OUT.size, name, (view, at) => {
    S.NOTIFY_DELETE_OUT.write(view, at, { parent, child, namelen: name.length });
  });
}
