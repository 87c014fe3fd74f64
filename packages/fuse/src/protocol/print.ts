/**
 * One line of text for every message, for `--trace`: requests with the fields of their decoded form, replies by what their
 * request asked for, notifications by their code. Never raises: a message that does not decode is printed as what it is.
 */
import { NOTIFY } from './constants.js';
import type { OpName } from './constants.js';
import { decodeRequest, opName } from './requests.js';
import type { Fields, Struct } from './struct.js';
import * as S from './structs.js';

const TEXT_LIMIT = 96;
/** Fields best read in octal or hexadecimal. */
const OCTAL = new Set(['mode', 'umask']);
const HEX = new Set(['flags', 'flags2', 'setxattr_flags', 'open_flags', 'valid', 'write_flags', 'read_flags', 'lock_owner', 'owner', 'cmd']);

const REPLY: Partial<Record<OpName, readonly Struct<Fields>[]>> = {
  LOOKUP: [S.ENTRY_OUT, S.ATTR], SYMLINK: [S.ENTRY_OUT, S.ATTR], MKNOD: [S.ENTRY_OUT, S.ATTR], MKDIR: [S.ENTRY_OUT, S.ATTR], LINK: [S.ENTRY_OUT, S.ATTR],
  GETATTR: [S.ATTR_OUT], SETATTR: [S.ATTR_OUT], OPEN: [S.OPEN_OUT], OPENDIR: [S.OPEN_OUT], WRITE: [S.WRITE_OUT], COPY_FILE_RANGE: [S.WRITE_OUT],
  STATFS: [S.STATFS_OUT], LSEEK: [S.LSEEK_OUT], GETLK: [S.LK_OUT], INIT: [S.INIT_OUT], IOCTL: [S.IOCTL_OUT],
};

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function text(bytes: Uint8Array): string {
  const shown = JSON.stringify(Buffer.from(bytes.subarray(0, TEXT_LIMIT)).toString('utf8'));
  return bytes.length > TEXT_LIMIT ? `${shown}+${bytes.length - TEXT_LIMIT}` : shown;
}

function value(key: string, v: unknown): string {
  if (v instanceof Uint8Array) return key === 'data' || key === 'value' ? `<${v.length} bytes>` : text(v);
  if (Array.isArray(v)) return `[${v.map((one: unknown) => fields(one as object)).join('; ')}]`;
  if (typeof v === 'number' && OCTAL.has(key)) return `0${v.toString(8)}`;
  if ((typeof v === 'number' || typeof v === 'bigint') && HEX.has(key)) return `0x${v.toString(16)}`;
  return String(v);
}

function fields(values: object): string {
  return Object.entries(values).map(([key, v]) => `${key}=${value(key, v)}`).join(' ');
}

/** A request as it was read from the kernel. */
export function printRequest(bytes: Uint8Array): string {
  if (bytes.length < S.IN_HEADER.size) return `-> message of ${bytes.length} bytes, too short for a header`;
  try {
    const { op, header, body } = decodeRequest(bytes);
    return `-> ${op} #${header.unique} node ${header.nodeid} by ${header.uid}:${header.gid}/${header.pid} ${fields(body)}`.trimEnd();
  } catch (error) {
    const opcode = viewOf(bytes).getUint32(4, true);
    return `-> ${opName(opcode) ?? `opcode ${opcode}`} of ${bytes.length} bytes: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** A reply as it is written; `op` is what it answers. */
export function printReply(op: OpName | undefined, bytes: Uint8Array): string {
  if (bytes.length < S.OUT_HEADER.size) return `<- message of ${bytes.length} bytes, too short for a header`;
  const view = viewOf(bytes);
  const unique = view.getUint32(8, true) + view.getUint32(12, true) * 0x100000000;
  const error = view.getInt32(4, true);
  const label = `<- ${op ?? 'reply'} #${unique}`;
  if (error !== 0) return `${label} errno ${-error}`;
  const payload = bytes.length - S.OUT_HEADER.size;
  if (payload === 0) return `${label} ok`;
  try {
    const parts: string[] = [];
    let at = S.OUT_HEADER.size;
    const structs = op === undefined ? [] : op === 'CREATE' || op === 'TMPFILE' ? [S.ENTRY_OUT, S.OPEN_OUT] : REPLY[op] ?? [];
    for (const s of structs) {
      if (s === S.ATTR) at = S.OUT_HEADER.size + S.ENTRY_ATTR_AT;
      if (at + s.size > bytes.length) return `${label} ${payload} bytes, too short for ${s.name}`;
      parts.push(fields(s.read(view, at)));
      at += s.size;
      if (s === S.ATTR_OUT) parts.push(fields(S.ATTR.read(view, S.OUT_HEADER.size + S.ATTR_OUT_ATTR_AT)));
    }
    if (op === 'READLINK') return `${label} ${text(bytes.subarray(S.OUT_HEADER.size))}`;
    return parts.length === 0 ? `${label} <${payload} bytes>` : `${label} ${parts.join(' ')}`;
  } catch (error) {
    return `${label} ${payload} bytes: ${error instanceof Error ? error.message : String(error)}`;
  }
}

const NOTIFY_STRUCTS: ReadonlyMap<number, readonly [string, Struct<Fields>]> = new Map<number, readonly [string, Struct<Fields>]>([
  [NOTIFY.INVAL_INODE, ['INVAL_INODE', S.NOTIFY_INVAL_INODE_OUT]],
  [NOTIFY.INVAL_ENTRY, ['INVAL_ENTRY', S.NOTIFY_INVAL_ENTRY_OUT]],
  [NOTIFY.DELETE, ['DELETE', S.NOTIFY_DELETE_OUT]],
]);

/** A notification as it is written. */
export function printNotification(bytes: Uint8Array): string {
  const view = viewOf(bytes);
  const known = NOTIFY_STRUCTS.get(view.getInt32(4, true));
  if (known === undefined) return `<- notification ${view.getInt32(4, true)} of ${bytes.length} bytes`;
  const [name, s] = known;
  const rest = bytes.subarray(S.OUT_HEADER.size + s.size, Math.max(bytes.length - 1, 0));
  return `<- NOTIFY ${name} ${fields(s.read(view, S.OUT_HEADER.size))}${rest.length > 0 ? ` ${text(rest)}` : ''}`;
}
