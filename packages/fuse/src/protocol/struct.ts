/**
 * A structure of the wire declared once, as a table of name, offset and type; readers, writers and sizes come from it.
 *
 * Invariants, asserted when a structure is declared: fields are aligned to their own size, do not overlap and end within
 * the declared size. All integers are little endian (FUSE uses host order; Node runs on little-endian Linux only where we do).
 */
import { InternalError, UsageError } from '@lunfs/device';
import type { ErrnoName } from '@lunfs/device';

/**
 * u16, u32, i32, s64, u64 become numbers (s64 and u64 raise when they leave the safe range; `off` is a u64 that answers EFBIG
 * then, for file offsets and sizes); x64 is an opaque 64-bit value, a bigint.
 */
export type FieldType = 'u16' | 'u32' | 'i32' | 's64' | 'u64' | 'off' | 'x64';

export type Field = readonly [offset: number, type: FieldType];
export type Fields = Readonly<Record<string, Field>>;
export type Values<F extends Fields> = { -readonly [K in keyof F]: F[K][1] extends 'x64' ? bigint : number };

export interface Struct<F extends Fields> {
  readonly name: string;
  readonly size: number;
  readonly fields: F;
  /** Byte offset of each field, for hot paths that read one or two fields. */
  readonly at: { readonly [K in keyof F]: number };
  /** Decode at `base`; the caller has checked that `size` bytes are there. */
  read(view: DataView, base: number): Values<F>;
  /** Zero `size` bytes at `base`, then write the given fields. */
  write(view: DataView, base: number, values: Partial<Values<F>>): void;
}

const WIDTH: Record<FieldType, number> = { u16: 2, u32: 4, i32: 4, s64: 8, u64: 8, off: 8, x64: 8 };

/** A 64-bit number on the wire is out of the range that a JavaScript number holds exactly. */
export class WireRangeError extends UsageError {
  constructor(struct: string, field: string, value: bigint, errno: ErrnoName) {
    super('FUSE_VALUE_RANGE', errno, `${struct}.${field} is ${value}, which no file of this file system can have`, { struct, field, value });
  }
}

/** Read a u64 as a number; -1 when it is not a safe integer. No bigint is made. */
export function readU64(view: DataView, at: number): number {
  const high = view.getUint32(at + 4, true);
  return high > 0x1fffff ? -1 : high * 0x100000000 + view.getUint32(at, true);
}

/** Write a number as u64. A value that is no u64 is a bug of the caller: it raises, it never wraps. */
export function writeU64(view: DataView, at: number, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw new InternalError('FUSE_REPLY_RANGE', `${value} cannot be a 64-bit field of a FUSE reply`, { value });
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / 0x100000000), true);
}

export function struct<const F extends Fields>(name: string, size: number, fields: F): Struct<F> {
  let end = 0;
  for (const [field, [offset, type]] of Object.entries(fields)) {
    if (offset < end || offset % WIDTH[type] !== 0) throw new InternalError('FUSE_STRUCT', `${name}.${field}: offset ${offset} overlaps or is unaligned`);
    end = offset + WIDTH[type];
  }
  if (end > size || size % 4 !== 0) throw new InternalError('FUSE_STRUCT', `${name}: ${end} bytes of fields in ${size}`);
  const entries = Object.entries(fields);
  return {
    name, size, fields,
    at: Object.fromEntries(entries.map(([k, [offset]]) => [k, offset])) as Struct<F>['at'],
    read(view, base) {
      const out: Record<string, number | bigint> = {};
      for (const [field, [offset, type]] of entries) out[field] = readField(name, field, type, view, base + offset);
      return out as Values<F>;
    },
    write(view, base, values) {
      for (let i = 0; i < size; i += 4) view.setUint32(base + i, 0, true);
      for (const [field, [offset, type]] of entries) {
        const value = (values as Record<string, number | bigint | undefined>)[field];
        if (value !== undefined) writeField(type, view, base + offset, value);
      }
    },
  };
}

function readField(struct: string, field: string, type: FieldType, view: DataView, at: number): number | bigint {
  switch (type) {
    case 'u16': return view.getUint16(at, true);
    case 'u32': return view.getUint32(at, true);
    case 'i32': return view.getInt32(at, true);
    case 'x64': return view.getBigUint64(at, true);
    case 's64': {
      const value = Number(view.getBigInt64(at, true));
      if (!Number.isSafeInteger(value)) throw new WireRangeError(struct, field, view.getBigInt64(at, true), 'EINVAL');
      return value;
    }
    case 'u64': case 'off': {
      const value = readU64(view, at);
      if (value < 0) throw new WireRangeError(struct, field, view.getBigUint64(at, true), type === 'off' ? 'EFBIG' : 'EINVAL');
      return value;
    }
  }
}

function writeField(type: FieldType, view: DataView, at: number, value: number | bigint): void {
  switch (type) {
    case 'u16': view.setUint16(at, Number(value), true); break;
    case 'u32': view.setUint32(at, Number(value), true); break;
    case 'i32': view.setInt32(at, Number(value), true); break;
    case 's64': view.setBigInt64(at, BigInt(value), true); break;
    case 'x64': view.setBigUint64(at, BigInt(value), true); break;
    case 'u64': case 'off': writeU64(view, at, Number(value)); break;
  }
}
