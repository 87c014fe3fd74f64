/**
 * The o2net wire in one file: the handshake that opens each direction of a connection, and the frames that follow it, to the end
 * (cluster-protocols.md 4.2, 4.3; Linux 6.1 fs/ocfs2/cluster/tcp.h, tcp_internal.h). All integers are big endian. Nothing here does
 * I/O. A stream that does not follow the protocol can't be read on from any later byte: the decoder throws, and stays at its end.
 */
import { CorruptionError } from '@lunfs/device';

/** What a frame is. */
export const Magic = { MESSAGE: 0xfa55, STATUS: 0xfa56, KEEPALIVE_REQUEST: 0xfa57, KEEPALIVE_RESPONSE: 0xfa58 } as const;
export type Magic = (typeof Magic)[keyof typeof Magic];

/** The version of o2net we speak; peers with another are refused. */
export const PROTOCOL_VERSION = 11n;
/** Longest payload of a message: a page less the header. */
export const MAX_PAYLOAD = 4072;

/** Byte offsets and sizes. */
export const HandshakeLayout = { VERSION: 0, CONNECTOR_ID: 8, HEARTBEAT_TIMEOUT: 16, IDLE_TIMEOUT: 20, KEEPALIVE_DELAY: 24, RECONNECT_DELAY: 28, BYTES: 32 } as const;
export const HeaderLayout = { MAGIC: 0, LENGTH: 2, TYPE: 4, PAD: 6, SYSTEM_STATUS: 8, STATUS: 12, KEY: 16, NUMBER: 20, BYTES: 24 } as const;

/** `sys_status` of a status frame: whether the handler ran at all. */
export const SystemStatus = { NONE: 0, NO_HANDLER: 1, OVERFLOW: 2 } as const;

/** What each side says of itself first. All times in milliseconds. */
export interface Handshake {
  version: bigint;
  /** 1; nobody looks at it. */
  connectorId: bigint;
  /** After which a node that can't write its heartbeat fences itself: (dead threshold - 1) * 2000. */
  heartbeatTimeout: number;
  idleTimeout: number;
  keepaliveDelay: number;
  /** Sent, but not compared. */
  reconnectDelay: number;
}

export interface Frame {
  magic: Magic;
  /** Message type, 16 bits; 0 in keepalives. */
  type: number;
  /** Two bytes without meaning, echoed in the status. */
  pad: number;
  /** `SystemStatus` in a status, 0 elsewhere. */
  systemStatus: number;
  /** What the handler returned, signed; 0 elsewhere. */
  status: number;
  /** Under which the handler is registered, unsigned 32 bits. */
  key: number;
  /** Chosen by the requester, echoed in the status. */
  number: number;
  payload: Uint8Array;
}

const NOTHING = new Uint8Array();

export function encodeHandshake(handshake: Handshake): Uint8Array {
  const bytes = new Uint8Array(HandshakeLayout.BYTES);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(HandshakeLayout.VERSION, handshake.version);
  view.setBigUint64(HandshakeLayout.CONNECTOR_ID, handshake.connectorId);
  view.setUint32(HandshakeLayout.HEARTBEAT_TIMEOUT, handshake.heartbeatTimeout);
  view.setUint32(HandshakeLayout.IDLE_TIMEOUT, handshake.idleTimeout);
  view.setUint32(HandshakeLayout.KEEPALIVE_DELAY, handshake.keepaliveDelay);
  view.setUint32(HandshakeLayout.RECONNECT_DELAY, handshake.reconnectDelay);
  return bytes;
}

/** A frame as it goes out: header and payload in one piece. Throws RangeError if the payload is longer than MAX_PAYLOAD. */
export function encodeFrame(frame: Pick<Frame, 'magic'> & Partial<Frame>): Uint8Array {
  const payload = frame.payload ?? NOTHING;
  if (payload.length > MAX_PAYLOAD) throw new RangeError(`a payload of ${payload.length} bytes; o2net carries at most ${MAX_PAYLOAD}`);
  const bytes = new Uint8Array(HeaderLayout.BYTES + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(HeaderLayout.MAGIC, frame.magic);
  view.setUint16(HeaderLayout.LENGTH, payload.length);
  view.setUint16(HeaderLayout.TYPE, frame.type ?? 0);
  view.setUint16(HeaderLayout.PAD, frame.pad ?? 0);
  view.setUint32(HeaderLayout.SYSTEM_STATUS, frame.systemStatus ?? 0);
  view.setInt32(HeaderLayout.STATUS, frame.status ?? 0);
  view.setUint32(HeaderLayout.KEY, frame.key ?? 0);
  view.setUint32(HeaderLayout.NUMBER, frame.number ?? 0);
  bytes.set(payload, HeaderLayout.BYTES);
  return bytes;
}

function isMagic(value: number): value is Magic {
  return value >= Magic.MESSAGE && value <= Magic.KEEPALIVE_RESPONSE;
}

/** One direction of a connection, taken apart. Memory is bounded by one frame and the piece last pushed. */
export class StreamDecoder {
  #bytes: Uint8Array = NOTHING;
  #handshake: boolean;

  /** `handshake`: whether the stream begins with one, as every connection does; false for a capture that begins later. */
  constructor(handshake = true) {
    this.#handshake = handshake;
  }

  /** Bytes that are no whole frame yet. */
  get rest(): number {
    return this.#bytes.length;
  }

  /** More of the stream, in pieces of any size. Kept without a copy until the next call of `next` that finds no whole frame. */
  push(bytes: Uint8Array): void {
    if (this.#bytes.length === 0) this.#bytes = bytes;
    else {
      const joined = new Uint8Array(this.#bytes.length + bytes.length);
      joined.set(this.#bytes);
      joined.set(bytes, this.#bytes.length);
      this.#bytes = joined;
    }
  }

  /**
   * What comes next, or undefined until more is pushed. Payloads are copies. Throws CorruptionError `O2NET_FRAME` at a header that is
   * none or announces more than MAX_PAYLOAD bytes, again at each later call.
   */
  next(): Handshake | Frame | undefined {
    const view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.length);
    return this.#handshake ? this.#nextHandshake(view) : this.#nextFrame(view);
  }

  #nextHandshake(view: DataView): Handshake | undefined {
    if (view.byteLength < HandshakeLayout.BYTES) return undefined;
    this.#handshake = false;
    this.#bytes = this.#bytes.subarray(HandshakeLayout.BYTES);
    return {
      version: view.getBigUint64(HandshakeLayout.VERSION),
      connectorId: view.getBigUint64(HandshakeLayout.CONNECTOR_ID),
      heartbeatTimeout: view.getUint32(HandshakeLayout.HEARTBEAT_TIMEOUT),
      idleTimeout: view.getUint32(HandshakeLayout.IDLE_TIMEOUT),
      keepaliveDelay: view.getUint32(HandshakeLayout.KEEPALIVE_DELAY),
      reconnectDelay: view.getUint32(HandshakeLayout.RECONNECT_DELAY),
    };
  }

  #nextFrame(view: DataView): Frame | undefined {
    if (view.byteLength < HeaderLayout.BYTES) return undefined;
    const magic = view.getUint16(HeaderLayout.MAGIC);
    const length = view.getUint16(HeaderLayout.LENGTH);
    if (!isMagic(magic)) throw new CorruptionError('O2NET_FRAME', `a frame begins with 0x${magic.toString(16).padStart(4, '0')}, which no frame of o2net does`, { field: 'magic', magic });
    if (length > MAX_PAYLOAD) throw new CorruptionError('O2NET_FRAME', `a frame announces ${length} bytes of payload; at most ${MAX_PAYLOAD} are allowed`, { field: 'data_len', length });
    const end = HeaderLayout.BYTES + length;
    if (view.byteLength < end) return undefined;
    const payload = new Uint8Array(this.#bytes.subarray(HeaderLayout.BYTES, end)); // Buffer's slice would be a view
    this.#bytes = this.#bytes.subarray(end);
    return {
      magic,
      type: view.getUint16(HeaderLayout.TYPE),
      pad: view.getUint16(HeaderLayout.PAD),
      systemStatus: view.getUint32(HeaderLayout.SYSTEM_STATUS),
      status: view.getInt32(HeaderLayout.STATUS),
      key: view.getUint32(HeaderLayout.KEY),
      number: view.getUint32(HeaderLayout.NUMBER),
      payload,
    };
  }
}
