/**
 * What lunfsd and a volume process say to each other: frames over one socket pair, in order, little-endian. A frame is a header of 20
 * bytes (payload's length, kind, node, message type, three numbers) and its payload, whose meaning the kind tells.
 */
import { InternalError } from '@lunfs/device';

/** Kinds of frame. First those of the volume process, then lunfsd's. */
export const KIND = {
  /** A request to another node: node, type, key, payload; `id` is answered by RESULT. */
  request: 1,
  /** Messages of a type and key come here from now on: type, key; `value` the longest payload, `id` names them in DELIVER. */
  handle: 2,
  /** They do no longer: `id`. What was delivered and not replied to is answered `no-handler`. */
  unhandle: 3,
  /** The status of a delivered message: `id`, `value`. */
  reply: 4,
  /** JSON: the device is this process's, and what volume is on it (`OpenedVolume`). */
  opened: 5,
  /** The domain is left and the volume unmounted: the process ends now, and nothing is to be recovered. */
  left: 6,
  /** JSON: what the process exports now (`ExportSpec[]`): the next incarnation exports it, too. */
  exports: 7,
  /** JSON: the domain is joined, its members (`number[]`): may the volume be used? Answered by ADMITTED or REFUSED. */
  joined: 8,

  /** How request `id` ended: `node` an index of RESULTS, `value` the status. */
  result: 33,
  /** A message: from `node`, `type`, `key` the handler's id, `id` to reply to, payload. */
  deliver: 34,
  /** A node was found alive or dead: `node`; payload: who is alive now. */
  nodeUp: 35,
  nodeDown: 36,
  /** JSON: this node is a member, and all it is connected to (`Joining`). */
  beating: 37,
  /** JSON: why this node cannot be a member (`WireError`). */
  refused: 38,
  /** Payload: who is suspected now (o2cb's `Suspicion`). */
  suspects: 39,
  /** The members of the domain beat where this node sees it: the volume may be used. */
  admitted: 40,
} as const;

/** Indexes on the wire of how a request ended. */
export const RESULTS = ['status', 'no-handler', 'overflow', 'host-down', 'not-connected'] as const;

export interface Frame {
  readonly kind: number;
  readonly node: number;
  readonly type: number;
  readonly id: number;
  readonly key: number;
  /** Signed 32 bits. */
  readonly value: number;
  readonly payload: Uint8Array;
}

export const HEADER_BYTES = 20;
/** A longer payload is a bug of the other side: facts of a volume are some hundred kilobytes at most. */
const PAYLOAD_MAX = 16 << 20;
const EMPTY = new Uint8Array(0);

export type FrameFields = Partial<Omit<Frame, 'kind'>>;

/** Put a frame's header at `at`. */
export function putFrameHeader(out: DataView, at: number, kind: number, { node = 0, type = 0, id = 0, key = 0, value = 0, payload = EMPTY }: FrameFields): void {
  out.setUint32(at, payload.length, true);
  out.setUint8(at + 4, kind);
  out.setUint8(at + 5, node);
  out.setUint16(at + 6, type, true);
  out.setUint32(at + 8, id, true);
  out.setUint32(at + 12, key, true);
  out.setInt32(at + 16, value, true);
}

/** Cuts a stream into frames. Each payload is a copy: the callee's to keep. Throws LINK_FRAME. */
export class FrameParser {
  #rest: Buffer = Buffer.alloc(0);

  constructor(private readonly frame: (frame: Frame) => void) {}

  push(chunk: Buffer): void {
    let bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    for (;;) {
      if (bytes.length < HEADER_BYTES) break;
      const length = bytes.readUInt32LE(0);
      if (length > PAYLOAD_MAX) throw new InternalError('LINK_FRAME', `a frame of ${length} bytes between lunfsd and a volume process`, { length });
      if (bytes.length < HEADER_BYTES + length) break;
      this.frame({
        kind: bytes[4], node: bytes[5], type: bytes.readUInt16LE(6), id: bytes.readUInt32LE(8), key: bytes.readUInt32LE(12), value: bytes.readInt32LE(16),
        payload: length === 0 ? EMPTY : new Uint8Array(bytes.subarray(HEADER_BYTES, HEADER_BYTES + length)),
      });
      bytes = bytes.subarray(HEADER_BYTES + length);
    }
    this.#rest = bytes;
  }
}
