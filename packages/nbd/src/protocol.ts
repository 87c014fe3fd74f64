/**
 * The NBD wire in one file: every number and every offset, by the names of the NBD specification
 * (NetworkBlockDevice/nbd doc/proto.md). All integers are big-endian. Nothing here does I/O.
 */

/** Opening of the handshake: `INIT_PASSWD`, then `IHAVEOPT`, which also starts every option. */
export const NBD_MAGIC = 0x4e42444d41474943n;
export const IHAVEOPT = 0x49484156454f5054n;
export const NBD_REP_MAGIC = 0x0003e889045565a9n;
export const NBD_REQUEST_MAGIC = 0x25609513;
export const NBD_SIMPLE_REPLY_MAGIC = 0x67446698;
export const NBD_STRUCTURED_REPLY_MAGIC = 0x668e33ef;

/** Handshake flags (server, 16 bits) and client flags (32 bits) share their two bits. */
export const HandshakeFlag = { FIXED_NEWSTYLE: 1, NO_ZEROES: 2 } as const;

/** What an export can do (16 bits). */
export const TransmissionFlag = {
  HAS_FLAGS: 1 << 0, READ_ONLY: 1 << 1, SEND_FLUSH: 1 << 2, SEND_FUA: 1 << 3, ROTATIONAL: 1 << 4, SEND_TRIM: 1 << 5,
  SEND_WRITE_ZEROES: 1 << 6, SEND_DF: 1 << 7, CAN_MULTI_CONN: 1 << 8, SEND_RESIZE: 1 << 9, SEND_CACHE: 1 << 10, SEND_FAST_ZERO: 1 << 11,
} as const;

export const Option = {
  EXPORT_NAME: 1, ABORT: 2, LIST: 3, PEEK_EXPORT: 4, STARTTLS: 5, INFO: 6, GO: 7, STRUCTURED_REPLY: 8, LIST_META_CONTEXT: 9, SET_META_CONTEXT: 10,
} as const;

const ERR = 0x80000000;
export const OptionReply = {
  ACK: 1, SERVER: 2, INFO: 3, META_CONTEXT: 4,
  ERR_UNSUP: ERR + 1, ERR_POLICY: ERR + 2, ERR_INVALID: ERR + 3, ERR_PLATFORM: ERR + 4, ERR_TLS_REQD: ERR + 5,
  ERR_UNKNOWN: ERR + 6, ERR_SHUTDOWN: ERR + 7, ERR_BLOCK_SIZE_REQD: ERR + 8, ERR_TOO_BIG: ERR + 9,
} as const;

export const Info = { EXPORT: 0, NAME: 1, DESCRIPTION: 2, BLOCK_SIZE: 3 } as const;

export const Command = { READ: 0, WRITE: 1, DISC: 2, FLUSH: 3, TRIM: 4, CACHE: 5, WRITE_ZEROES: 6, BLOCK_STATUS: 7 } as const;

export const CommandFlag = { FUA: 1 << 0, NO_HOLE: 1 << 1, DF: 1 << 2, REQ_ONE: 1 << 3, FAST_ZERO: 1 << 4 } as const;

/** Command flags that each command takes; FUA is valid for all (existing clients set it on reads). Index: command. */
export const COMMAND_FLAGS: readonly number[] = [
  CommandFlag.FUA | CommandFlag.DF,
  CommandFlag.FUA,
  CommandFlag.FUA,
  CommandFlag.FUA,
  CommandFlag.FUA,
  CommandFlag.FUA,
  CommandFlag.FUA | CommandFlag.NO_HOLE | CommandFlag.FAST_ZERO,
  CommandFlag.FUA | CommandFlag.REQ_ONE,
];

export const ReplyFlag = { DONE: 1 } as const;
export const ReplyType = { NONE: 0, OFFSET_DATA: 1, OFFSET_HOLE: 2, BLOCK_STATUS: 5, ERROR: 0x8001, ERROR_OFFSET: 0x8002 } as const;
/** Any reply type with this bit is an error chunk, known or not. */
export const REPLY_TYPE_ERROR_BIT = 0x8000;

/** `base:allocation`: HOLE = nothing allocated, ZERO = reads as zero. */
export const BlockState = { HOLE: 1, ZERO: 2 } as const;
export const META_BASE_ALLOCATION = 'base:allocation';

/** The error values of the wire, which are not the host's errno. */
export const NbdErrno = { EPERM: 1, EIO: 5, ENOMEM: 12, EINVAL: 22, ENOSPC: 28, EOVERFLOW: 75, ENOTSUP: 95, ESHUTDOWN: 108 } as const;

/** Byte offsets and sizes of the fixed structures. */
export const Hello = { PASSWD: 0, OPTMAGIC: 8, FLAGS: 16, BYTES: 18 } as const;
export const OptionHeader = { MAGIC: 0, OPTION: 8, LENGTH: 12, BYTES: 16 } as const;
export const OptionReplyHeader = { MAGIC: 0, OPTION: 8, TYPE: 12, LENGTH: 16, BYTES: 20 } as const;
/** The answer to EXPORT_NAME: size, flags, then 124 zero bytes unless NO_ZEROES was agreed. */
export const ExportNameReply = { SIZE: 0, FLAGS: 8, BYTES: 10, PADDING: 124 } as const;
export const Request = { MAGIC: 0, FLAGS: 4, TYPE: 6, COOKIE: 8, OFFSET: 16, LENGTH: 24, BYTES: 28 } as const;
export const SimpleReply = { MAGIC: 0, ERROR: 4, COOKIE: 8, BYTES: 16 } as const;
export const Chunk = { MAGIC: 0, FLAGS: 4, TYPE: 6, COOKIE: 8, LENGTH: 16, BYTES: 20 } as const;
/** OFFSET_DATA: the chunk header, then 64 bits of offset, then the data. */
export const OFFSET_DATA_BYTES = Chunk.BYTES + 8;
export const OFFSET_HOLE_BYTES = Chunk.BYTES + 12;

/** Longest payload of one READ or WRITE that we take: what the specification asks every server to take. */
export const MAX_PAYLOAD = 32 * 1024 * 1024;
/** Longest string on the wire. */
export const MAX_STRING = 4096;
/** Longest option we read (a name, and queries or information requests); longer ones end the connection. */
export const MAX_OPTION = 64 * 1024;
/** What INFO_BLOCK_SIZE says: any byte may be addressed, whole 4 KiB blocks are fast. */
export const MINIMUM_BLOCK = 1;
export const PREFERRED_BLOCK = 4096;

const names = (table: Record<string, number>): Map<number, string> => new Map(Object.entries(table).map(([name, value]) => [value, name]));
const COMMAND_NAMES = names(Command);
const OPTION_NAMES = names(Option);

/** `WRITE_ZEROES`, or `command 77` for what nobody defined. */
export function commandName(command: number): string {
  return COMMAND_NAMES.get(command) ?? `command ${command}`;
}

export function optionName(option: number): string {
  return OPTION_NAMES.get(option) ?? `option ${option}`;
}
