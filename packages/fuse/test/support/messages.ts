/** Builds messages as the kernel sends them. */
import { OPCODE } from '../../src/protocol/constants.js';
import type { OpName } from '../../src/protocol/constants.js';
import { IN_HEADER, READ_IN } from '../../src/protocol/structs.js';

export function message(op: OpName, body: Uint8Array, header: { unique?: number; nodeid?: number; uid?: number; len?: number; total_extlen?: number } = {}): Buffer {
  const bytes = Buffer.alloc(IN_HEADER.size + body.length);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  IN_HEADER.write(view, 0, { len: bytes.length, opcode: OPCODE[op], unique: 2, nodeid: 1, ...header });
  bytes.set(body, IN_HEADER.size);
  return bytes;
}

/** READ, or WRITE when `data` is given: both bodies have their fields at the same places. */
export function transfer(fields: { fh: number; offset: number; size: number; flags?: number; read_flags?: number }, data?: Uint8Array): Buffer {
  const body = Buffer.alloc(READ_IN.size + (data?.length ?? 0));
  READ_IN.write(new DataView(body.buffer, body.byteOffset, body.length), 0, fields);
  if (data !== undefined) body.set(data, READ_IN.size);
  return message(data === undefined ? 'READ' : 'WRITE', body);
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
