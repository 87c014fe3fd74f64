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

/** As S.ATTR.write, field by field: a listing with attributes writes thousands of them. */
function putAttributes(view: DataView, at: number, attr: Attributes): void {
  const { at: field } = S.ATTR;
  writeU64(view, at + field.ino, attr.ino);
  writeU64(view, at + field.size, attr.size);
  writeU64(view, at + field.blocks, attr.blocks);
  putSeconds(view, at + field.atime, attr.atime);
  putSeconds(view, at + field.mtime, attr.mtime);
  putSeconds(view, at + field.ctime, attr.ctime);
  view.setUint32(at + field.atimensec, attr.atimensec, true);
  view.setUint32(at + field.mtimensec, attr.mtimensec, true);
  view.setUint32(at + field.ctimensec, attr.ctimensec, true);
  view.setUint32(at + field.mode, attr.mode, true);
  view.setUint32(at + field.nlink, attr.nlink, true);
  view.setUint32(at + field.uid, attr.uid, true);
  view.setUint32(at + field.gid, attr.gid, true);
  view.setUint32(at + field.rdev, attr.rdev, true);
  view.setUint32(at + field.blksize, attr.blksize, true);
  view.setUint32(at + field.flags, 0, true);
}

/** A signed 64-bit number without a bigint: the high word of a negative one is the floor. */
function putSeconds(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setInt32(at + 4, Math.floor(value / 0x100000000), true);
}

function putTtl(view: DataView, secondsAt: number, nanosecondsAt: number, ttl: number): void {
  const bounded = Math.min(Math.max(ttl, 0), TTL_MAX);
  const seconds = Math.floor(bounded);
  writeU64(view, secondsAt, seconds);
  view.setUint32(nanosecondsAt, Math.floor((bounded - seconds) * 1e9), true);
}

const NOBODY: Attributes = {
  ino: 0, size: 0, blocks: 0, atime: 0, atimensec: 0, mtime: 0, mtimensec: 0, ctime: 0, ctimensec: 0, mode: 0, nlink: 0, uid: 0, gid: 0, rdev: 0, blksize: 0,
};
/** In a listing with attributes: "look this name up when you need it". */
const NO_ENTRY: NegativeEntry = { nodeid: 0, entryTtl: 0 };

function putEntry(view: DataView, at: number, entry: Entry | NegativeEntry): void {
  const { at: field } = S.ENTRY_OUT;
  const known = 'attr' in entry ? entry : undefined;
  writeU64(view, at + field.nodeid, entry.nodeid);
  writeU64(view, at + field.generation, known?.generation ?? 0);
  putTtl(view, at + field.entry_valid, at + field.entry_valid_nsec, entry.entryTtl);
  putTtl(view, at + field.attr_valid, at + field.attr_valid_nsec, known?.ttl ?? 0);
  putAttributes(view, at + S.ENTRY_ATTR_AT, known?.attr ?? NOBODY);
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
    this.#view.setUint32(HEADER + S.ATTR_OUT.at.attr_valid_nsec + 4, 0, true);
    putTtl(this.#view, HEADER + S.ATTR_OUT.at.attr_valid, HEADER + S.ATTR_OUT.at.attr_valid_nsec, reply.ttl);
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
    if (this.#plus) putEntry(this.#view, at, entry.entry ?? NO_ENTRY);
    writeU64(this.#view, at + front + S.DIRENT.at.ino, entry.ino);
    writeU64(this.#view, at + front + S.DIRENT.at.off, entry.next);
    this.#view.setUint32(at + front + S.DIRENT.at.namelen, entry.name.length, true);
    this.#view.setUint32(at + front + S.DIRENT.at.type, entry.type, true);
    const name = at + front + S.DIRENT.size;
    this.#bytes.set(entry.name, name);
    for (let i = name + entry.name.length; i < at + length; i++) this.#bytes[i] = 0;
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
