/**
 * The variable lists that live in blocks: extent lists, chain lists, dx entry lists, refcount records, bitmaps.
 * Plain accessors by index on the block's bytes; nothing is copied, nothing allocated per access.
 */
import { type Block, badField } from './block.js';

const TWO32 = 0x1_0000_0000;

function u64(dv: DataView, at: number): number {
  return dv.getUint32(at + 4, true) * TWO32 + dv.getUint32(at, true);
}
function setU64(dv: DataView, at: number, v: number): void {
  dv.setUint32(at, v % TWO32, true);
  dv.setUint32(at + 4, Math.floor(v / TWO32), true);
}

/** Size of an extent record in bytes. */
export const EXTENT_REC_SIZE = 16;

/**
 * ocfs2_extent_list: 16-byte header, then 16-byte records. Interior records (depth > 0) have 32-bit lengths and child
 * block numbers; leaf records 16-bit lengths, flags and data blocks.
 */
export class ExtentList {
  readonly #dv: DataView;
  constructor(readonly block: Block, readonly base: number) {
    this.#dv = block.dv;
  }
  get depth(): number { return this.#dv.getUint16(this.base, true); }
  set depth(v: number) { this.#dv.setUint16(this.base, v, true); }
  /** Capacity in records. */
  get count(): number { return this.#dv.getUint16(this.base + 2, true); }
  set count(v: number) { this.#dv.setUint16(this.base + 2, v, true); }
  /** Records in use. */
  get nextFree(): number { return this.#dv.getUint16(this.base + 4, true); }
  set nextFree(v: number) { this.#dv.setUint16(this.base + 4, v, true); }

  at(i: number): number { return this.base + 16 + i * EXTENT_REC_SIZE; }
  cpos(i: number): number { return this.#dv.getUint32(this.at(i), true); }
  setCpos(i: number, v: number): void { this.#dv.setUint32(this.at(i), v, true); }
  /** Length in clusters: 32-bit in interior records, 16-bit in leaf records. */
  clusters(i: number): number {
    return this.depth > 0 ? this.#dv.getUint32(this.at(i) + 4, true) : this.#dv.getUint16(this.at(i) + 4, true);
  }
  setClusters(i: number, v: number): void {
    if (this.depth > 0) this.#dv.setUint32(this.at(i) + 4, v, true);
    else {
      if (v > 0xffff) throw new RangeError(`leaf extent of ${v} clusters`);
      this.#dv.setUint16(this.at(i) + 4, v, true);
    }
  }
  /** Flags of a leaf record (EXT). */
  flags(i: number): number { return this.#dv.getUint8(this.at(i) + 7); }
  setFlags(i: number, v: number): void { this.#dv.setUint8(this.at(i) + 7, v); }
  blkno(i: number): number {
    const v = u64(this.#dv, this.at(i) + 8);
    if (!Number.isSafeInteger(v)) throw badField(this.block, 'extent_list', `rec[${i}].e_blkno`, v, 'is no block number');
    return v;
  }
  setBlkno(i: number, v: number): void { setU64(this.#dv, this.at(i) + 8, v); }
  /** End of the record: cpos + clusters. */
  end(i: number): number { return this.cpos(i) + this.clusters(i); }

  setLeaf(i: number, cpos: number, clusters: number, blkno: number, flags: number): void {
    const at = this.at(i);
    if (clusters > 0xffff) throw new RangeError(`leaf extent of ${clusters} clusters`);
    this.#dv.setUint32(at, cpos, true);
    this.#dv.setUint16(at + 4, clusters, true);
    this.#dv.setUint8(at + 6, 0);
    this.#dv.setUint8(at + 7, flags);
    setU64(this.#dv, at + 8, blkno);
  }
  setInterior(i: number, cpos: number, clusters: number, blkno: number): void {
    const at = this.at(i);
    this.#dv.setUint32(at, cpos, true);
    this.#dv.setUint32(at + 4, clusters, true);
    setU64(this.#dv, at + 8, blkno);
  }
  /** Copy `n` records from index `from` to index `to` (may overlap). */
  move(from: number, to: number, n: number): void {
    if (n > 0) this.block.bytes.copyWithin(this.at(to), this.at(from), this.at(from + n));
  }
  /** Zero `n` records from index `i`. */
  clear(i: number, n: number): void {
    if (n > 0) this.block.bytes.fill(0, this.at(i), this.at(i + n));
  }
}

/** ocfs2_chain_list at byte 0xC0 of an allocator dinode. */
export class ChainList {
  readonly #dv: DataView;
  constructor(readonly block: Block, readonly base = 0xc0) {
    this.#dv = block.dv;
  }
  /** Clusters per group. */
  get cpg(): number { return this.#dv.getUint16(this.base, true); }
  set cpg(v: number) { this.#dv.setUint16(this.base, v, true); }
  /** Bits per cluster. */
  get bpc(): number { return this.#dv.getUint16(this.base + 2, true); }
  set bpc(v: number) { this.#dv.setUint16(this.base + 2, v, true); }
  get count(): number { return this.#dv.getUint16(this.base + 4, true); }
  set count(v: number) { this.#dv.setUint16(this.base + 4, v, true); }
  get nextFree(): number { return this.#dv.getUint16(this.base + 6, true); }
  set nextFree(v: number) { this.#dv.setUint16(this.base + 6, v, true); }
  at(i: number): number { return this.base + 16 + i * 16; }
  free(i: number): number { return this.#dv.getUint32(this.at(i), true); }
  setFree(i: number, v: number): void { this.#dv.setUint32(this.at(i), v, true); }
  total(i: number): number { return this.#dv.getUint32(this.at(i) + 4, true); }
  setTotal(i: number, v: number): void { this.#dv.setUint32(this.at(i) + 4, v, true); }
  blkno(i: number): number {
    const v = u64(this.#dv, this.at(i) + 8);
    if (!Number.isSafeInteger(v)) throw badField(this.block, 'chain_list', `rec[${i}].c_blkno`, v, 'is no block number');
    return v;
  }
  setBlkno(i: number, v: number): void { setU64(this.#dv, this.at(i) + 8, v); }
}

/** ocfs2_dx_entry_list: header {u32 rsv, u16 count, u16 used}, entries {u32 major, u32 minor, u64 dirent block}. */
export class DxEntryList {
  readonly #dv: DataView;
  constructor(readonly block: Block, readonly base: number) {
    this.#dv = block.dv;
  }
  get count(): number { return this.#dv.getUint16(this.base + 4, true); }
  set count(v: number) { this.#dv.setUint16(this.base + 4, v, true); }
  get used(): number { return this.#dv.getUint16(this.base + 6, true); }
  set used(v: number) { this.#dv.setUint16(this.base + 6, v, true); }
  at(i: number): number { return this.base + 8 + i * 16; }
  major(i: number): number { return this.#dv.getUint32(this.at(i), true); }
  minor(i: number): number { return this.#dv.getUint32(this.at(i) + 4, true); }
  direntBlk(i: number): number {
    const v = u64(this.#dv, this.at(i) + 8);
    if (!Number.isSafeInteger(v)) throw badField(this.block, 'dx_entry_list', `entry[${i}].dx_dirent_blk`, v, 'is no block number');
    return v;
  }
  set(i: number, major: number, minor: number, direntBlk: number): void {
    const at = this.at(i);
    this.#dv.setUint32(at, major, true);
    this.#dv.setUint32(at + 4, minor, true);
    setU64(this.#dv, at + 8, direntBlk);
  }
  /** Remove entry i: shift the rest left, zero the vacated slot. */
  remove(i: number): void {
    const used = this.used;
    this.block.bytes.copyWithin(this.at(i), this.at(i + 1), this.at(used));
    this.block.bytes.fill(0, this.at(used - 1), this.at(used));
    this.used = used - 1;
  }
}

/** Refcount record list at byte 0x80 of a refcount block that is no tree: {u64 cpos, u32 clusters, u32 refcount}. */
export class RefcountRecList {
  readonly #dv: DataView;
  constructor(readonly block: Block, readonly base = 0x80) {
    this.#dv = block.dv;
  }
  get count(): number { return this.#dv.getUint16(this.base, true); }
  set count(v: number) { this.#dv.setUint16(this.base, v, true); }
  get used(): number { return this.#dv.getUint16(this.base + 2, true); }
  set used(v: number) { this.#dv.setUint16(this.base + 2, v, true); }
  at(i: number): number { return this.base + 16 + i * 16; }
  cpos(i: number): number { return u64(this.#dv, this.at(i)); }
  clusters(i: number): number { return this.#dv.getUint32(this.at(i) + 8, true); }
  refcount(i: number): number { return this.#dv.getUint32(this.at(i) + 12, true); }
  set(i: number, cpos: number, clusters: number, refcount: number): void {
    const at = this.at(i);
    setU64(this.#dv, at, cpos);
    this.#dv.setUint32(at + 8, clusters, true);
    this.#dv.setUint32(at + 12, refcount, true);
  }
  /** Copy `n` records from index `from` to index `to` (may overlap). */
  move(from: number, to: number, n: number): void {
    if (n > 0) this.block.bytes.copyWithin(this.at(to), this.at(from), this.at(from + n));
  }
  /** Zero `n` records from index `i`. */
  clear(i: number, n: number): void {
    if (n > 0) this.block.bytes.fill(0, this.at(i), this.at(i + n));
  }
}

/** Little-endian bitmaps: bit n is bit n&7 of byte n>>3; 1 = in use. `base` is a byte offset into `bytes`. */
export const bits = {
  test(bytes: Uint8Array, base: number, bit: number): boolean {
    return (bytes[base + (bit >>> 3)] & (1 << (bit & 7))) !== 0;
  },
  set(bytes: Uint8Array, base: number, bit: number): void {
    bytes[base + (bit >>> 3)] |= 1 << (bit & 7);
  },
  clear(bytes: Uint8Array, base: number, bit: number): void {
    bytes[base + (bit >>> 3)] &= ~(1 << (bit & 7));
  },
  /** Set the bits of [from, to). */
  fill(bytes: Uint8Array, base: number, from: number, to: number): void {
    let bit = from;
    while (bit < to && (bit & 7) !== 0) bits.set(bytes, base, bit++);
    const whole = to - (to % 8);
    if (whole > bit) {
      bytes.fill(0xff, base + bit / 8, base + whole / 8);
      bit = whole;
    }
    while (bit < to) bits.set(bytes, base, bit++);
  },
  /** First bit of the wanted value in [from, to), or `to`. Skips whole bytes. */
  next(bytes: Uint8Array, base: number, from: number, to: number, value: boolean): number {
    const skip = value ? 0x00 : 0xff;
    let bit = from;
    while (bit < to) {
      if ((bit & 7) === 0 && bytes[base + (bit >>> 3)] === skip) {
        bit += 8;
        continue;
      }
      if (bits.test(bytes, base, bit) === value) return bit;
      bit++;
    }
    return to;
  },
  /** Number of one bits in [0, n). */
  count(bytes: Uint8Array, base: number, n: number): number {
    let sum = 0;
    const whole = n >>> 3;
    for (let i = 0; i < whole; i++) sum += POPCOUNT[bytes[base + i]];
    for (let b = whole << 3; b < n; b++) if (bits.test(bytes, base, b)) sum++;
    return sum;
  },
};

const POPCOUNT = new Uint8Array(256);
for (let i = 1; i < 256; i++) POPCOUNT[i] = POPCOUNT[i >> 1] + (i & 1);
