/**
 * One metadata block in memory, and the views on its bytes (docs/design.md, rule 1): structures are declared once, as
 * tables of name, offset and type; a view reads and writes the block's own bytes, so reserved bytes survive a rewrite.
 *
 * OCFS2 is little-endian, JBD2 (the journal's content) big-endian (ondisk-format.md, conventions).
 */
import { CorruptionError } from '@lunfs/device';

/** The bytes of one block and where they come from. Once published by the block cache the bytes are never changed. */
export class Block {
  readonly dv: DataView;
  constructor(
    /** Name of the device, for error texts. */
    readonly device: string,
    /** Block number from the start of the volume (for log blocks: of the journal file). */
    readonly blkno: number,
    readonly bytes: Uint8Array,
  ) {
    this.dv = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
}

export interface FieldDef<T> {
  readonly off: number;
  readonly size: number;
  // Methods, not properties: a table of fields of all types is then a Record of FieldDef<unknown>.
  get(dv: DataView, at: number, view: View): T;
  set(dv: DataView, at: number, value: T, view: View): void;
}

/** What every view has. */
export interface View {
  readonly block: Block;
  /** Byte offset of the structure in the block. */
  readonly base: number;
}

type Values<F> = { -readonly [K in keyof F]: F[K] extends FieldDef<infer T> ? T : never };
export type ViewOf<S> = S extends { at(block: Block, base?: number): infer V } ? V : never;

type Fields = Record<string, FieldDef<unknown>>;

export interface StructDef<F extends Fields> {
  readonly structName: string;
  /** Bytes the declared fields span; the structure itself may be longer. */
  readonly size: number;
  readonly fields: F;
  /** A view on the structure at byte `base` of the block. */
  at(block: Block, base?: number): View & Values<F>;
}

/** Bytes read as a text up to the first NUL (latin-1: field texts are ASCII by definition; labels are decoded by their users). */
function readText(dv: DataView, at: number, size: number): string {
  let s = '';
  for (let i = 0; i < size; i++) {
    const c = dv.getUint8(at + i);
    if (c === 0) break;
    s += String.fromCharCode(c);
  }
  return s;
}

function writeText(dv: DataView, at: number, size: number, text: string): void {
  if (text.length > size) throw new RangeError(`"${text}" is longer than ${size} bytes`);
  for (let i = 0; i < size; i++) dv.setUint8(at + i, i < text.length ? text.charCodeAt(i) : 0);
}

const TWO32 = 0x1_0000_0000;

/** Constructors of field definitions for one byte order. `off` is the byte offset in the structure. */
function fieldsFor(le: boolean) {
  return {
    u8: (off: number): FieldDef<number> => ({ off, size: 1, get: (dv, at) => dv.getUint8(at), set: (dv, at, v) => dv.setUint8(at, v) }),
    u16: (off: number): FieldDef<number> => ({ off, size: 2, get: (dv, at) => dv.getUint16(at, le), set: (dv, at, v) => dv.setUint16(at, v, le) }),
    u32: (off: number): FieldDef<number> => ({ off, size: 4, get: (dv, at) => dv.getUint32(at, le), set: (dv, at, v) => dv.setUint32(at, v, le) }),
    /** A block number, size or count: a safe integer, else the field is corrupt. */
    u64: (off: number): FieldDef<number> => ({
      off, size: 8,
      get: (dv, at, view) => {
        const lo = dv.getUint32(le ? at : at + 4, le), hi = dv.getUint32(le ? at + 4 : at, le);
        if (hi > 0x1f_ffff) throw unsafe(view, off, (BigInt(hi) << 32n) | BigInt(lo));
        return hi * TWO32 + lo;
      },
      set: (dv, at, v) => {
        if (!Number.isSafeInteger(v) || v < 0) throw new RangeError(`${v} is not an unsigned safe integer`);
        dv.setUint32(le ? at : at + 4, v % TWO32, le);
        dv.setUint32(le ? at + 4 : at, Math.floor(v / TWO32), le);
      },
    }),
    /** Signed seconds. Times outside the safe integers are clamped to them: a wild time is no corruption. */
    time: (off: number): FieldDef<number> => ({
      off, size: 8,
      get: (dv, at) => Math.max(Number.MIN_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, Number(dv.getBigInt64(at, le)))),
      set: (dv, at, v) => dv.setBigInt64(at, BigInt(Math.trunc(v)), le),
    }),
    /** A signed count that may be wild: clamped to the safe integers, as times are. */
    s64: (off: number): FieldDef<number> => ({
      off, size: 8,
      get: (dv, at) => Math.max(Number.MIN_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, Number(dv.getBigInt64(at, le)))),
      set: (dv, at, v) => dv.setBigInt64(at, BigInt(v), le),
    }),
    /** An opaque 64-bit value. */
    big: (off: number): FieldDef<bigint> => ({ off, size: 8, get: (dv, at) => dv.getBigUint64(at, le), set: (dv, at, v) => dv.setBigUint64(at, v, le) }),
    /** A NUL-padded text of `size` bytes. */
    text: (off: number, size: number): FieldDef<string> => ({ off, size, get: (dv, at) => readText(dv, at, size), set: (dv, at, v) => writeText(dv, at, size, v) }),
    /** A range of raw bytes: get returns a view on the block's bytes, set copies. */
    bytes: (off: number, size: number): FieldDef<Uint8Array> => ({
      off, size,
      get: (_dv, at, view) => view.block.bytes.subarray(at, at + size),
      set: (_dv, at, v, view) => {
        if (v.length !== size) throw new RangeError(`expected ${size} bytes, got ${v.length}`);
        view.block.bytes.set(v, at);
      },
    }),
  };
}

export const LE = fieldsFor(true);
export const BE = fieldsFor(false);

function unsafe(view: View, off: number, value: bigint): CorruptionError {
  const def = (view as unknown as { constructor: { def: StructDef<Fields> } }).constructor.def;
  const field = Object.keys(def.fields).find((k) => def.fields[k].off === off) ?? `byte ${off}`;
  return badField(view.block, def.structName, field, value, 'is no valid 64-bit number here');
}

/**
 * Declare a structure. `span` is the byte length that the description gives for the declared part; it is checked
 * against the fields when the module loads, and so is overlap.
 */
export function struct<F extends Fields>(structName: string, span: number, fields: F): StructDef<F> {
  const sorted = Object.entries(fields).sort((a, b) => a[1].off - b[1].off);
  let end = 0;
  for (const [name, f] of sorted) {
    if (f.off < end) throw new Error(`${structName}.${name} overlaps the field before it`);
    end = f.off + f.size;
  }
  if (end > span) throw new Error(`${structName} spans ${end} bytes, declared ${span}`);
  class StructView implements View {
    static readonly def = { structName, size: span, fields } as unknown;
    constructor(readonly block: Block, readonly base: number) {}
  }
  for (const [name, f] of Object.entries(fields)) {
    const off = f.off;
    const get = f.get.bind(f), set = f.set.bind(f);
    Object.defineProperty(StructView.prototype, name, {
      get(this: StructView) { return get(this.block.dv, this.base + off, this); },
      set(this: StructView, v: unknown) { set(this.block.dv, this.base + off, v as never, this); },
      enumerable: true,
    });
  }
  return {
    structName, size: span, fields,
    at: (block, base = 0) => new StructView(block, base) as unknown as View & Values<F>,
  };
}

/** The corruption error for one field: names device, block, structure and field (docs/design.md, rule 3). */
export function badField(block: Block, structure: string, field: string, value: unknown, why: string): CorruptionError {
  return new CorruptionError('CORRUPT_FIELD', `${block.device}: block ${block.blkno}: ${structure}.${field} = ${String(value)} ${why}; run "lunfs check" on the volume`, {
    device: block.device, block: block.blkno, structure, field, value: String(value),
  });
}
