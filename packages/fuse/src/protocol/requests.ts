/**
 * Requests of the kernel: one decoder per opcode. Every length, count and name is checked here, before a handler sees a request.
 *
 * Two kinds of failure: `FramingError`, when the message as a whole cannot be trusted (the session ends), and a `UsageError` with
 * the errno to answer, when only its body is wrong. Decoded names, link targets and values are copies: the message's memory is
 * reused once it is decoded. The payload of a WRITE alone is a view on the message (no copy on the data path).
 */
import { CorruptionError, UsageError } from '@lunfs/device';
import { INIT_FLAG, NAME_MAX, OPCODE, XATTR_SIZE_MAX } from './constants.js';
import type { OpName } from './constants.js';
import type { Fields, Struct, Values } from './struct.js';
import * as S from './structs.js';

export type Header = Values<typeof S.IN_HEADER.fields>;

/** The message is not a FUSE message: nothing of it can be answered. */
export class FramingError extends CorruptionError {
  constructor(message: string, fields: Record<string, number>) {
    super('FUSE_FRAMING', `${message}; the kernel and lunfs disagree about the protocol, unmount and report this`, fields);
  }
}

const OP_NAMES: ReadonlyMap<number, OpName> = new Map(Object.entries(OPCODE).map(([name, code]) => [code, name as OpName]));

/** Name of an opcode, undefined when this protocol version has none. */
export function opName(opcode: number): OpName | undefined {
  return OP_NAMES.get(opcode);
}

/** A cursor over the body of one message. */
class Body {
  #at: number;
  readonly #op: OpName;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #end: number;

  constructor(op: OpName, bytes: Uint8Array, view: DataView, end: number) {
    this.#op = op; this.#bytes = bytes; this.#view = view; this.#end = end;
    this.#at = S.IN_HEADER.size;
  }

  get left(): number { return this.#end - this.#at; }

  bad(what: string): UsageError {
    return new UsageError('FUSE_MALFORMED', 'EINVAL', `FUSE ${this.#op}: ${what}`, { op: this.#op, length: this.#end });
  }

  struct<F extends Fields>(s: Struct<F>): Values<F> {
    if (this.left < s.size) throw this.bad(`${s.name} needs ${s.size} bytes, ${this.left} are there`);
    const values = s.read(this.#view, this.#at);
    this.#at += s.size;
    return values;
  }

  /** The next NUL-terminated string, without the NUL, copied. Empty is wrong. */
  string(what: string): Buffer {
    const nul = this.#bytes.subarray(0, this.#end).indexOf(0, this.#at);
    if (nul < 0) throw this.bad(`${what} does not end in NUL`);
    if (nul === this.#at) throw this.bad(`${what} is empty`);
    const text = this.copy(nul - this.#at);
    this.#at++;
    return text;
  }

  /** Is what is left a NUL-terminated string, not empty, and `more` bytes? */
  isString(more: number): boolean {
    const nul = this.#bytes.subarray(0, this.#end).indexOf(0, this.#at);
    return nul > this.#at && nul + 1 + more === this.#end;
  }

  /** A component of a path. */
  name(): Buffer {
    const name = this.string('name');
    if (name.length > NAME_MAX) throw new UsageError('FUSE_NAME_TOO_LONG', 'ENAMETOOLONG', `a name of ${name.length} bytes; ${NAME_MAX} is the limit`);
    if (name.includes(0x2f)) throw this.bad('name contains a slash');
    return name;
  }

  copy(length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length);
    bytes.set(this.take(length));
    return bytes;
  }

  /** A view on the next bytes of the message. */
  take(length: number): Uint8Array {
    if (this.left < length) throw this.bad(`${length} bytes of data announced, ${this.left} are there`);
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  done(): void {
    if (this.left !== 0) throw this.bad(`${this.left} bytes too many`);
  }
}

function read(b: Body) {
  return b.struct(S.READ_IN);
}

function lock(b: Body) {
  return b.struct(S.LK_IN);
}

const DECODE = {
  LOOKUP: (b: Body) => ({ name: b.name() }),
  FORGET: (b: Body) => b.struct(S.FORGET_IN),
  BATCH_FORGET: (b: Body) => {
    const { count } = b.struct(S.BATCH_FORGET_IN);
    if (b.left !== count * S.FORGET_ONE.size) throw b.bad(`${count} entries announced in ${b.left} bytes`);
    return { entries: Array.from({ length: count }, () => b.struct(S.FORGET_ONE)) };
  },
  GETATTR: (b: Body) => b.struct(S.GETATTR_IN),
  SETATTR: (b: Body) => b.struct(S.SETATTR_IN),
  READLINK: () => ({}),
  SYMLINK: (b: Body) => ({ name: b.name(), target: b.string('target') }),
  MKNOD: (b: Body) => ({ ...b.struct(S.MKNOD_IN), name: b.name() }),
  MKDIR: (b: Body) => ({ ...b.struct(S.MKDIR_IN), name: b.name() }),
  UNLINK: (b: Body) => ({ name: b.name() }),
  RMDIR: (b: Body) => ({ name: b.name() }),
  RENAME: (b: Body) => ({ ...b.struct(S.RENAME_IN), flags: 0, name: b.name(), newName: b.name() }),
  RENAME2: (b: Body) => ({ ...b.struct(S.RENAME2_IN), name: b.name(), newName: b.name() }),
  LINK: (b: Body) => ({ ...b.struct(S.LINK_IN), name: b.name() }),
  OPEN: (b: Body) => b.struct(S.OPEN_IN),
  READ: read,
  WRITE: (b: Body) => {
    const fields = b.struct(S.WRITE_IN);
    return { ...fields, data: b.take(fields.size) };
  },
  STATFS: () => ({}),
  RELEASE: (b: Body) => b.struct(S.RELEASE_IN),
  FSYNC: (b: Body) => b.struct(S.FSYNC_IN),
  SETXATTR: (b: Body) => {
    const { size, flags } = b.struct(S.SETXATTR_IN);
    // The long form begins with flags whose first or second byte is zero: no name with its value can end where the message does.
    const { setxattr_flags } = b.isString(size) ? { setxattr_flags: 0 } : b.struct(S.SETXATTR_IN_EXT);
    const name = b.string('xattr name');
    if (size > XATTR_SIZE_MAX) throw new UsageError('FUSE_XATTR_TOO_BIG', 'E2BIG', `an extended attribute of ${size} bytes; ${XATTR_SIZE_MAX} is the limit`);
    return { flags, setxattr_flags, name, value: b.copy(size) };
  },
  GETXATTR: (b: Body) => ({ ...b.struct(S.GETXATTR_IN), name: b.string('xattr name') }),
  LISTXATTR: (b: Body) => b.struct(S.GETXATTR_IN),
  REMOVEXATTR: (b: Body) => ({ name: b.string('xattr name') }),
  FLUSH: (b: Body) => b.struct(S.FLUSH_IN),
  INIT: (b: Body) => {
    const init = b.struct(S.INIT_IN);
    const { flags2 } = (init.flags & INIT_FLAG.INIT_EXT) !== 0 ? b.struct(S.INIT_IN_EXT) : { flags2: 0 };
    b.take(b.left); // later minors add fields behind
    return { ...init, flags2 };
  },
  OPENDIR: (b: Body) => b.struct(S.OPEN_IN),
  READDIR: read,
  READDIRPLUS: read,
  RELEASEDIR: (b: Body) => b.struct(S.RELEASE_IN),
  FSYNCDIR: (b: Body) => b.struct(S.FSYNC_IN),
  GETLK: lock,
  SETLK: lock,
  SETLKW: lock,
  ACCESS: (b: Body) => b.struct(S.ACCESS_IN),
  CREATE: (b: Body) => ({ ...b.struct(S.CREATE_IN), name: b.name() }),
  /** The name that follows is a placeholder of the VFS ("/"). */
  TMPFILE: (b: Body) => ({ ...b.struct(S.CREATE_IN), placeholder: b.string('name') }),
  INTERRUPT: (b: Body) => b.struct(S.INTERRUPT_IN),
  BMAP: (b: Body) => b.struct(S.BMAP_IN),
  DESTROY: () => ({}),
  IOCTL: (b: Body) => {
    const fields = b.struct(S.IOCTL_IN);
    return { ...fields, data: b.copy(fields.in_size) };
  },
  POLL: (b: Body) => b.struct(S.POLL_IN),
  NOTIFY_REPLY: (b: Body) => ({ data: b.copy(b.left) }),
  FALLOCATE: (b: Body) => b.struct(S.FALLOCATE_IN),
  LSEEK: (b: Body) => b.struct(S.LSEEK_IN),
  COPY_FILE_RANGE: (b: Body) => b.struct(S.COPY_FILE_RANGE_IN),
  SETUPMAPPING: (b: Body) => ({ data: b.copy(b.left) }),
  REMOVEMAPPING: (b: Body) => ({ data: b.copy(b.left) }),
  SYNCFS: (b: Body) => b.struct(S.SYNCFS_IN),
  STATX: (b: Body) => ({ data: b.copy(b.left) }),
} satisfies Record<OpName, (b: Body) => object>;

export type RequestBody<K extends OpName> = ReturnType<(typeof DECODE)[K]>;
/** A checked request, discriminated by `op`. */
export type Request = { [K in OpName]: { readonly op: K; readonly header: Header; readonly body: RequestBody<K> } }[OpName];

/** The header of a message of exactly `bytes.length` bytes. Raises FramingError when length or extension length cannot be. */
export function decodeHeader(bytes: Uint8Array, view: DataView): Header {
  if (bytes.length < S.IN_HEADER.size) throw new FramingError(`a FUSE message of ${bytes.length} bytes`, { length: bytes.length });
  const header = S.IN_HEADER.read(view, 0);
  if (header.len !== bytes.length) throw new FramingError(`a FUSE message says ${header.len} bytes and has ${bytes.length}`, { length: bytes.length, says: header.len });
  if (S.IN_HEADER.size + header.total_extlen * 8 > header.len) {
    throw new FramingError(`a FUSE message of ${header.len} bytes announces ${header.total_extlen * 8} bytes of extensions`, { length: header.len });
  }
  return header;
}

/** Decode a message whose header was checked. Raises ENOSYS for an unknown opcode, the body's errno when the body is wrong. */
export function decodeBody(header: Header, bytes: Uint8Array, view: DataView): Request {
  const op = OP_NAMES.get(header.opcode);
  if (op === undefined) throw new UsageError('FUSE_UNKNOWN_OP', 'ENOSYS', `FUSE opcode ${header.opcode} is unknown`, { opcode: header.opcode });
  const body = new Body(op, bytes, view, header.len - header.total_extlen * 8);
  const decoded = DECODE[op](body);
  body.done();
  return { op, header, body: decoded } as Request;
}

/** `decodeHeader` and `decodeBody` of one message. */
export function decodeRequest(bytes: Uint8Array): Request {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return decodeBody(decodeHeader(bytes, view), bytes, view);
}
