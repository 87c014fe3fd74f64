/**
 * The entries of one storage of attributes (ondisk-format.md 7.2): a header, entries from the front, names with their values
 * (or value roots) from the back. Dinode area, xattr block and bucket share this form; a bucket is sorted by hash, counts
 * what it holds, and no name with its value crosses a block border in it.
 *
 * A storage is changed by decoding it, changing the list, and encoding it anew: so it never has holes (the kernel leaves
 * some in buckets, and removes them when it needs the room: Linux 6.1 fs/ocfs2/xattr.c:ocfs2_defrag_xattr_bucket). Pairs keep
 * the order they lie in, whatever was removed or became shorter between them: packed so from the end each comes to lie no lower
 * than before, block borders included, so what fits stays fitting.
 */
import { type Block, badField } from '../format/block.js';
import { DYN } from '../format/constants.js';
import { Dinode, INLINE_DATA_START, XATTR_BLOCK_BODY, XATTR_BUCKET_SIZE, XattrEntry, XattrHeader } from '../format/structs.js';
import { XATTR_LOCAL, fullXattrName, xattrPrefix } from './names.js';

/** Longest value beside its name (OCFS2_XATTR_INLINE_SIZE); longer ones lie in extents. */
export const XATTR_INLINE_VALUE = 80;
/** Longest value Linux accepts (include/uapi/linux/limits.h:XATTR_SIZE_MAX). */
export const XATTR_VALUE_MAX = 65536;
/** Bytes of a value root with its one extent record. */
export const VALUE_ROOT_SIZE = 48;
/** Free bytes that always stay between entries and names (OCFS2_XATTR_HEADER_GAP). */
const GAP = 4;
const HEADER = XattrHeader.size;
const ENTRY = XattrEntry.size;

/** A storage that holds entries: bytes from the header on, entry offsets relative to it. */
export interface XattrStorage {
  readonly kind: 'inline' | 'block' | 'bucket';
  /** The dinode, the xattr block, or all blocks of a bucket as one. */
  readonly block: Block;
  /** Byte of the header in `block`. */
  readonly base: number;
  /** Bytes from the header to the storage's end. */
  readonly size: number;
}

/** The attributes area of a dinode, if it has one. */
export function inlineStorage(inode: Block): XattrStorage | undefined {
  const { dynFeatures, xattrInlineSize: size } = Dinode.at(inode);
  if (!(dynFeatures & DYN.INLINE_XATTR)) return undefined;
  const most = inode.bytes.length - INLINE_DATA_START;
  if (size < HEADER || size > most) throw badField(inode, 'dinode', 'i_xattr_inline_size', size, 'is no room for attributes');
  return { kind: 'inline', block: inode, base: inode.bytes.length - size, size };
}

/** The entries' part of an xattr block that is not indexed. */
export function blockStorage(block: Block): XattrStorage {
  return { kind: 'block', block, base: XATTR_BLOCK_BODY, size: block.bytes.length - XATTR_BLOCK_BODY };
}

/** One attribute. */
export interface XattrItem {
  readonly type: number;
  /** The name without its prefix. */
  readonly rest: Uint8Array;
  readonly hash: number;
  /** Bytes of the value. */
  readonly size: number;
  /** The value, or (above XATTR_INLINE_VALUE) its value root. */
  readonly stored: Uint8Array;
  /** Offset of the name in its storage; 0 for one that has no place yet. */
  readonly offset: number;
}

export function isLocal({ size }: Pick<XattrItem, 'size'>): boolean {
  return size <= XATTR_INLINE_VALUE;
}

/** Full name as a text, for people. */
export function xattrText({ type, rest }: Pick<XattrItem, 'type' | 'rest'>): string {
  return Buffer.from(fullXattrName({ type, rest })).toString('utf8');
}

const round4 = (n: number): number => (n + 3) & ~3;

/** Bytes of a name with its value or value root (xattr.c:namevalue_size). */
export function pairSize({ rest, size }: Pick<XattrItem, 'rest' | 'size'>): number {
  return round4(rest.length) + (size > XATTR_INLINE_VALUE ? VALUE_ROOT_SIZE : round4(size));
}

/** The attributes of a storage in the order of their entries. `stored` is a copy. */
export function decodeEntries({ block, base, size }: XattrStorage): XattrItem[] {
  if (size < HEADER || base < 0) throw badField(block, 'xattr_header', 'size', size, 'is too small for a header');
  const { count } = XattrHeader.at(block, base);
  if (HEADER + count * ENTRY > size) throw badField(block, 'xattr_header', 'xh_count', count, `does not fit ${size} bytes`);
  const out: XattrItem[] = [];
  for (let i = 0; i < count; i++) {
    const e = XattrEntry.at(block, base + HEADER + i * ENTRY);
    const bad = (field: string, value: number, why: string) => badField(block, 'xattr_entry', `[${i}].${field}`, value, why);
    const type = e.type & ~XATTR_LOCAL;
    const { nameOffset, nameLen, valueSize, nameHash: hash } = e;
    if (xattrPrefix(type) === undefined) throw bad('xe_type', e.type, 'is no known kind of attribute');
    if (valueSize > XATTR_VALUE_MAX) throw bad('xe_value_size', valueSize, `exceeds ${XATTR_VALUE_MAX}`);
    if ((e.type & XATTR_LOCAL) !== 0 !== valueSize <= XATTR_INLINE_VALUE) throw bad('xe_type', e.type, `says a value of ${valueSize} bytes lies ${e.type & XATTR_LOCAL ? 'beside its name' : 'outside'}`);
    const rest = block.bytes.slice(base + nameOffset, base + nameOffset + nameLen);
    const item = { type, rest, hash, size: valueSize, offset: nameOffset };
    if (nameOffset < HEADER + count * ENTRY || nameOffset + nameLen > size || nameOffset + pairSize(item) > size) throw bad('xe_name_offset', nameOffset, 'points outside its storage');
    const at = base + nameOffset + round4(nameLen);
    out.push({ ...item, stored: block.bytes.slice(at, at + (isLocal(item) ? valueSize : VALUE_ROOT_SIZE)) });
  }
  return out;
}

interface Placement {
  readonly at: ReadonlyMap<XattrItem, number>;
  /** The lowest of them. */
  readonly freeStart: number;
}

/** Where each pair comes to lie. `unit`: bytes of a block that pairs in a bucket must not leave. */
function place(items: readonly XattrItem[], size: number, unit: number | undefined): Placement {
  const at = new Map<XattrItem, number>();
  let end = size;
  for (const item of [...items].sort((a, b) => b.offset - a.offset)) {
    const length = pairSize(item);
    if (unit !== undefined && length > 0 && Math.floor((end - length) / unit) !== Math.floor((end - 1) / unit)) end -= end % unit;
    end -= length;
    at.set(item, end);
  }
  return { at, freeStart: end };
}

function leavesGap(items: readonly XattrItem[], freeStart: number): boolean {
  return freeStart >= HEADER + items.length * ENTRY + GAP;
}

/** Do the attributes fit the dinode area or xattr block of `size` bytes? */
export function fitsBlock(items: readonly XattrItem[], size: number): boolean {
  return leavesGap(items, place(items, size, undefined).freeStart);
}

/** Do the attributes fit a bucket of blocks of `blockSize`? */
export function fitsBucket(items: readonly XattrItem[], blockSize: number): boolean {
  return leavesGap(items, place(items, XATTR_BUCKET_SIZE, blockSize).freeStart);
}

/** Write attributes, which must fit, into the dinode area or xattr block. Their order is kept. */
export function encodeBlock(storage: XattrStorage, items: readonly XattrItem[]): void {
  write(storage, items, place(items, storage.size, undefined));
}

/**
 * Write attributes, which must fit, sorted by hash into a bucket. `firstHash`: what an empty bucket keeps as its place in the
 * order; `numBuckets`: of the whole record in its first bucket, else 0.
 */
export function encodeBucket(storage: XattrStorage, items: readonly XattrItem[], blockSize: number, { firstHash, numBuckets }: { firstHash: number; numBuckets: number }): void {
  const placed = place(items, XATTR_BUCKET_SIZE, blockSize);
  write(storage, [...items].sort((a, b) => a.hash - b.hash), placed);
  const header = XattrHeader.at(storage.block);
  header.freeStart = placed.freeStart;
  header.nameValueLen = items.reduce((sum, item) => sum + pairSize(item), 0);
  header.numBuckets = numBuckets;
  if (items.length === 0) XattrEntry.at(storage.block, HEADER).nameHash = firstHash;
}

function write({ block, base, size }: XattrStorage, items: readonly XattrItem[], { at, freeStart }: Placement): void {
  // Ours to have checked for new attributes; old ones that do not fit overlapped.
  if (freeStart < HEADER + items.length * ENTRY) throw badField(block, 'xattr_header', 'xh_count', items.length, 'counts names and values that overlap each other');
  block.bytes.fill(0, base, base + size);
  XattrHeader.at(block, base).count = items.length;
  for (const [i, item] of items.entries()) {
    const offset = at.get(item)!;
    const e = XattrEntry.at(block, base + HEADER + i * ENTRY);
    e.nameHash = item.hash;
    e.nameOffset = offset;
    e.nameLen = item.rest.length;
    e.type = item.type | (isLocal(item) ? XATTR_LOCAL : 0);
    e.valueSize = item.size;
    block.bytes.set(item.rest, base + offset);
    block.bytes.set(item.stored, base + offset + round4(item.rest.length));
  }
}

/** Hash that places a bucket among the others: of its first entry, which an emptied bucket keeps. */
export function firstHash({ block, base }: XattrStorage): number {
  return XattrEntry.at(block, base + HEADER).nameHash;
}

/** Replace or add an attribute in a list; an existing one keeps its index, and its place if that is large enough. */
export function withItem(items: readonly XattrItem[], item: XattrItem): XattrItem[] {
  const i = items.findIndex((one) => sameName(one, item));
  if (i < 0) return [...items, item];
  const out = [...items];
  out[i] = { ...item, offset: pairSize(item) <= pairSize(items[i]) ? items[i].offset : 0 };
  return out;
}

export function sameName(a: Pick<XattrItem, 'type' | 'rest'>, b: Pick<XattrItem, 'type' | 'rest'>): boolean {
  return a.type === b.type && Buffer.compare(a.rest, b.rest) === 0;
}
