/**
 * Payloads of messages as tables of name, offset and type (docs/design.md, rule 1). All integers are big endian. What no field covers is
 * padding: written as zero, ignored when read. Offsets are checked at load: no field leaves the structure or overlaps another.
 */
import { CorruptionError, InternalError } from '@lunfs/device';
import { MAX_NODES, NODE_MAP_BYTES, NodeMap } from '../node-map.js';

export interface Field<T> {
  /** Bytes the field occupies: pairs of offset and length. */
  readonly spans: readonly (readonly [offset: number, length: number])[];
  read(view: DataView): T;
  write(view: DataView, value: T): void;
}

type Fields = Readonly<Record<string, Field<unknown>>>;
type Values<F extends Fields> = { readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never };

/** A structure of fixed size. */
export interface Struct<V> {
  readonly size: number;
  /** Reads `bytes` from `at`. Throws CorruptionError DLM_PAYLOAD. */
  read(bytes: Uint8Array, at?: number): V;
  /** Writes into zeroed `bytes` at `at`. */
  write(bytes: Uint8Array, value: V, at?: number): void;
}

export function struct<F extends Fields>(name: string, size: number, fields: F): Struct<Values<F>> {
  const used = new Uint8Array(size);
  for (const [key, field] of Object.entries(fields)) {
    for (const [offset, length] of field.spans) {
      for (let i = offset; i < offset + length; i++) {
        if (i >= size || used[i] !== 0) throw new InternalError('DLM_LAYOUT', `${name}.${key} does not fit at ${offset}`);
        used[i] = 1;
      }
    }
  }
  const entries = Object.entries(fields);
  return {
    size,
    read(bytes, at = 0) {
      if (bytes.length < at + size) throw malformed(name, `has ${bytes.length - at} bytes instead of ${size}`);
      const view = new DataView(bytes.buffer, bytes.byteOffset + at, size);
      return Object.fromEntries(entries.map(([key, field]) => [key, field.read(view)])) as Values<F>;
    },
    write(bytes, value, at = 0) {
      const view = new DataView(bytes.buffer, bytes.byteOffset + at, size);
      for (const [key, field] of entries) field.write(view, (value as Record<string, unknown>)[key]);
    },
  };
}

/** What arrived is no message of this kind. */
export function malformed(name: string, what: string): CorruptionError {
  return new CorruptionError('DLM_PAYLOAD', `o2dlm message ${name}: ${what}`);
}

export const u8 = (at: number): Field<number> => ({ spans: [[at, 1]], read: (view) => view.getUint8(at), write: (view, value) => view.setUint8(at, value) });
export const s8 = (at: number): Field<number> => ({ spans: [[at, 1]], read: (view) => view.getInt8(at), write: (view, value) => view.setInt8(at, value) });
export const be16 = (at: number): Field<number> => ({ spans: [[at, 2]], read: (view) => view.getUint16(at), write: (view, value) => view.setUint16(at, value) });
export const be32 = (at: number): Field<number> => ({ spans: [[at, 4]], read: (view) => view.getUint32(at), write: (view, value) => view.setUint32(at, value) });
export const be64 = (at: number): Field<bigint> => ({ spans: [[at, 8]], read: (view) => view.getBigUint64(at), write: (view, value) => view.setBigUint64(at, value) });

/** A number of a node; what is none is refused. */
export const nodeNumber = (what: string, at: number): Field<number> => ({
  ...u8(at),
  read(view) {
    const node = view.getUint8(at);
    if (node >= MAX_NODES) throw malformed(what, `${node} is no node`);
    return node;
  },
});

/** Raw bytes; a copy when read. */
export const bytes = (at: number, length: number): Field<Uint8Array> => ({
  spans: [[at, length]],
  read: (view) => new Uint8Array(view.buffer, view.byteOffset + at, length).slice(),
  write: (view, value) => new Uint8Array(view.buffer, view.byteOffset + at, length).set(value.subarray(0, length)),
});

export const nodes = (at: number): Field<NodeMap> => {
  const raw = bytes(at, NODE_MAP_BYTES);
  return { spans: raw.spans, read: (view) => NodeMap.fromBytes(raw.read(view)), write: (view, value) => raw.write(view, value.toBytes()) };
};

/** A name as latin-1 text, zero padded to `capacity`, its length (1 to `longest`) in a byte of its own. */
export const text = (what: string, lengthAt: number, at: number, capacity: number, longest: number): Field<string> => ({
  spans: [[lengthAt, 1], [at, capacity]],
  read(view) {
    const length = view.getUint8(lengthAt);
    if (length < 1 || length > longest) throw malformed(what, `name of ${length} bytes (1 to ${longest} allowed)`);
    return Buffer.from(view.buffer, view.byteOffset + at, length).toString('latin1');
  },
  write(view, value) {
    if (value.length < 1 || value.length > longest) throw new InternalError('DLM_NAME', `a name of ${value.length} bytes (1 to ${longest} allowed)`);
    view.setUint8(lengthAt, value.length);
    Buffer.from(view.buffer, view.byteOffset + at, capacity).write(value, 'latin1');
  },
});
