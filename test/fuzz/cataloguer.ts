/** What the catalogue is made of: places of fields by class, the units they lie in, and the lists that many structures have. */
import { type Block, EB_LIST, ExtentBlock, ExtentList, INLINE_DATA_START, type RawReader } from '@lunfs/ocfs2';

export interface Place {
  /** `kind of block: structure.field`. */
  readonly cls: string;
  /** First block of the unit it lies in, nearly always the only one. */
  readonly blkno: number;
  /** Byte in the block, and bytes. */
  readonly off: number;
  readonly size: number;
  /** Byte of the block's check, -1: it has none. */
  readonly checkAt: number;
  readonly bigEndian: boolean;
  /** Byte of the next field of the same structure: where the neighbour's value comes from. */
  readonly neighbour: number;
  /** Inode the block belongs to, its own number for inodes. */
  readonly owner: number;
}

/** A block, or as many as one check covers (buckets of attributes). */
export interface Unit {
  readonly checkAt: number;
  readonly kind: string;
  readonly size: number;
  readonly owner: number;
}

export interface Structure {
  readonly structName: string;
  readonly fields: Readonly<Record<string, { readonly off: number; readonly size: number }>>;
}

export interface Scope {
  readonly kind: string;
  readonly blkno: number;
  readonly checkAt: number;
  readonly owner: number;
  /** Bytes that the check covers; default: the block. */
  readonly size?: number;
}

/** Longest run of equal things (records, entries) of one block that are listed one by one; of more, the first, the last and some between. */
const MOST = 6;

export class Cataloguer {
  readonly byClass = new Map<string, Place[]>();
  readonly blocks = new Map<number, Unit>();
  readonly kept: { from: number; to: number; what: string }[] = [];
  readonly #declared = new Map<number, Uint8Array>();

  constructor(readonly reader: RawReader) {}

  add(scope: Scope, structure: string, field: string, off: number, size: number, neighbour: number, bigEndian = false): void {
    const { kind, blkno, checkAt, owner } = scope;
    const cls = `${kind}: ${structure}.${field}`;
    const places = this.byClass.get(cls);
    const place = { cls, blkno, off, size, checkAt, bigEndian, neighbour, owner };
    if (places === undefined) this.byClass.set(cls, [place]);
    else places.push(place);
    const unit = scope.size ?? this.reader.geo.blockSize;
    if (!this.blocks.has(blkno)) this.blocks.set(blkno, { checkAt, kind, size: unit, owner });
    let declared = this.#declared.get(blkno);
    if (declared === undefined) this.#declared.set(blkno, (declared = new Uint8Array(unit)));
    declared.fill(1, off, off + size);
  }

  struct(scope: Scope, { structName, fields }: Structure, base = 0, bigEndian = false): void {
    const list = Object.entries(fields).sort((a, b) => a[1].off - b[1].off);
    for (const [i, [name, { off, size }]] of list.entries()) {
      const next = list[i + 1] ?? list[i - 1] ?? list[i];
      this.add(scope, structName, name, base + off, size, base + next[1].off, bigEndian);
    }
  }

  /** Bytes of the blocks seen that nothing declared. */
  reserved(): void {
    for (const [blkno, declared] of this.#declared) {
      const { checkAt, kind, size } = this.blocks.get(blkno)!;
      const free: number[] = [];
      for (let at = 0; at + 4 <= declared.length; at += 4) if (!declared.subarray(at, at + 4).includes(1)) free.push(at);
      for (const at of spread(free.length).map((i) => free[i])) this.add({ kind, blkno, checkAt, owner: blkno, size }, 'reserved', 'bytes', at, 4, at);
    }
  }

  extentList(scope: Scope, block: Block, base: number): void {
    const list = new ExtentList(block, base);
    const head: [string, number][] = [['l_tree_depth', 0], ['l_count', 2], ['l_next_free_rec', 4]];
    for (const [name, at] of head) this.add(scope, 'extent_list', name, base + at, 2, base + (at === 4 ? 2 : at + 2));
    for (const i of spread(list.nextFree)) {
      const at = list.at(i);
      const rec = list.depth > 0 ? 'interior_rec' : 'leaf_rec';
      this.add(scope, rec, 'e_cpos', at, 4, at + 4);
      if (list.depth > 0) this.add(scope, rec, 'e_int_clusters', at + 4, 4, at);
      else {
        this.add(scope, rec, 'e_leaf_clusters', at + 4, 2, at);
        this.add(scope, rec, 'e_flags', at + 7, 1, at + 4);
      }
      this.add(scope, rec, 'e_blkno', at + 8, 8, at);
    }
  }

  bitmap(scope: Scope, structure: string, base: number, bits: number): void {
    for (const i of spread(Math.ceil(bits / 8))) this.add(scope, structure, 'bitmap', base + i, 1, base + (i ^ 1));
  }

  entries(scope: Scope, block: Block, start: number, end: number): void {
    const { dv } = block;
    const at: number[] = [];
    for (let p = start; p < end; p += dv.getUint16(p + 8, true)) at.push(p);
    for (const i of spread(at.length)) {
      const p = at[i];
      const rec = start === INLINE_DATA_START || start === 0 ? (i === 0 ? 'dot' : i === 1 ? 'dotdot' : 'dirent') : 'dirent';
      const free = dv.getUint32(p, true) === 0 && dv.getUint32(p + 4, true) === 0;
      const name = free ? 'free_dirent' : rec;
      this.add(scope, name, 'inode', p, 8, p + 8);
      this.add(scope, name, 'rec_len', p + 8, 2, p + 10);
      this.add(scope, name, 'name_len', p + 10, 1, p + 11);
      this.add(scope, name, 'file_type', p + 11, 1, p + 10);
      if (!free) this.add(scope, name, 'name', p + 12, Math.min(4, dv.getUint8(p + 10)), p + 12);
    }
  }
}

/** Indices of [0, n): all if few, else the first ones, the last and some between. */
export function spread(n: number): number[] {
  if (n <= MOST) return Array.from({ length: n }, (_, i) => i);
  return [0, 1, 2, Math.floor(n / 2), n - 2, n - 1];
}

export async function extentBlocks(c: Cataloguer, scope: Scope, block: Block, base: number): Promise<void> {
  const list = new ExtentList(block, base);
  if (list.depth === 0) return;
  for (const i of spread(list.nextFree)) {
    const eb = await c.reader.readRaw(list.blkno(i));
    const own = { ...scope, kind: `extent block of ${scope.kind}`.replace(/^(extent block of )+/, '$1'), blkno: eb.blkno, checkAt: 8 };
    c.struct(own, ExtentBlock);
    c.extentList(own, eb, EB_LIST);
    await extentBlocks(c, own, eb, EB_LIST);
  }
}
