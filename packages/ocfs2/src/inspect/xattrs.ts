/**
 * Extended attributes in all storages (ondisk-format.md 7.2): inline in the dinode, in one block, in a tree of buckets;
 * values beside their names or in extents of their own. Reading only.
 */
import { type Block, badField } from '../format/block.js';
import { verifyCheck } from '../format/blockcheck.js';
import { DYN, EXT } from '../format/constants.js';
import { ExtentList } from '../format/lists.js';
import { XATTR_BLOCK } from '../format/kinds.js';
import {
  Dinode, INLINE_DATA_START, XATTR_BLOCK_BODY, XATTR_BUCKET_SIZE, XATTR_INDEXED, XATTR_TREE_LIST, XattrBlock, XattrEntry, XattrHeader,
} from '../format/structs.js';
import type { ExtentRecord, RawReader } from './raw-reader.js';

/** Prefix of each xe_type; types 2 and 3 are whole names. */
const PREFIX: Readonly<Record<number, string>> = { 1: 'user.', 2: 'system.posix_acl_access', 3: 'system.posix_acl_default', 4: 'trusted.', 5: 'security.' };
const LOCAL_VALUE = 0x80;
const HEADER = 16;
const ENTRY = 16;
/** Longest value Linux accepts (include/uapi/linux/limits.h:XATTR_SIZE_MAX). */
const VALUE_MAX = 65536;

export interface RawXattr {
  /** Full name with prefix, e.g. `user.comment`. */
  readonly name: string;
  readonly nameBytes: Uint8Array;
  readonly type: number;
  readonly hash: number;
  readonly size: number;
  /** Where the value lies: in its storage, or in extents under a value root. */
  readonly local?: Uint8Array;
  readonly outside?: { readonly block: Block; readonly base: number };
}

/** A storage that holds entries: bytes from the header on, entry offsets relative to it. */
export interface XattrStorage {
  readonly kind: 'inline' | 'block' | 'bucket';
  readonly block: Block;
  /** Byte of the header in `block`. */
  readonly base: number;
  /** Bytes from the header to the storage's end. */
  readonly size: number;
}

/** The external xattr block of an inode, or undefined. */
export async function xattrBlock(reader: RawReader, inode: Block): Promise<Block | undefined> {
  const loc = Dinode.at(inode).xattrLoc;
  return loc === 0 ? undefined : reader.read(loc, XATTR_BLOCK);
}

/** Bucket extents of an indexed xattr block. */
export async function* bucketExtents(reader: RawReader, xb: Block): AsyncGenerator<ExtentRecord> {
  if (XattrBlock.at(xb).flags & XATTR_INDEXED) yield* reader.extents(xb, XATTR_TREE_LIST);
}

/** Every storage of an inode's attributes, in the order they are searched. */
export async function* xattrStorages(reader: RawReader, inode: Block): AsyncGenerator<XattrStorage> {
  const di = Dinode.at(inode);
  const { blockSize, clusterSize, metaecc } = reader.geo;
  if (!(di.dynFeatures & DYN.HAS_XATTR)) return;
  if (di.dynFeatures & DYN.INLINE_XATTR) {
    const size = di.xattrInlineSize;
    if (size < HEADER || size > blockSize - INLINE_DATA_START) throw badField(inode, 'dinode', 'i_xattr_inline_size', size, 'is no room for attributes');
    yield { kind: 'inline', block: inode, base: blockSize - size, size };
  }
  const xb = await xattrBlock(reader, inode);
  if (!xb) return;
  if (!(XattrBlock.at(xb).flags & XATTR_INDEXED)) {
    yield { kind: 'block', block: xb, base: XATTR_BLOCK_BODY, size: blockSize - XATTR_BLOCK_BODY };
    return;
  }
  const perBucket = XATTR_BUCKET_SIZE / blockSize;
  for await (const { blkno, clusters } of bucketExtents(reader, xb)) {
    const capacity = (clusters * clusterSize) / XATTR_BUCKET_SIZE;
    let buckets = 1;
    for (let b = 0; b < buckets; b++) {
      const bucket = await reader.readRaw(blkno + b * perBucket, perBucket);
      if (metaecc && verifyCheck(bucket.bytes, 8) === 'bad') throw badField(bucket, 'xattr_bucket', 'xh_check', 'CRC', 'does not match the bucket');
      if (b === 0) {
        buckets = XattrHeader.at(bucket).numBuckets;
        if (buckets > capacity) throw badField(bucket, 'xattr_header', 'xh_num_buckets', buckets, `exceeds the extent's ${capacity}`);
      }
      yield { kind: 'bucket', block: bucket, base: 0, size: XATTR_BUCKET_SIZE };
    }
  }
}

/** The entries of one storage. */
export function storageEntries(storage: XattrStorage): RawXattr[] {
  const { block, base, size } = storage;
  const count = XattrHeader.at(block, base).count;
  if (HEADER + count * ENTRY > size) throw badField(block, 'xattr_header', 'xh_count', count, `does not fit ${size} bytes`);
  const out: RawXattr[] = [];
  for (let i = 0; i < count; i++) {
    const e = XattrEntry.at(block, base + HEADER + i * ENTRY);
    const type = e.type & ~LOCAL_VALUE;
    const prefix = PREFIX[type];
    if (prefix === undefined) throw badField(block, 'xattr_entry', `[${i}].xe_type`, e.type, 'is no known kind of attribute');
    const { nameOffset, nameLen, valueSize } = e;
    const valueAt = nameOffset + ((nameLen + 3) & ~3);
    const isLocal = (e.type & LOCAL_VALUE) !== 0;
    const stored = isLocal ? valueSize : 48;
    if (valueSize > VALUE_MAX) throw badField(block, 'xattr_entry', `[${i}].xe_value_size`, valueSize, `exceeds ${VALUE_MAX}`);
    if (nameOffset < HEADER + count * ENTRY || valueAt + stored > size) throw badField(block, 'xattr_entry', `[${i}].xe_name_offset`, nameOffset, 'points outside its storage');
    const nameBytes = block.bytes.slice(base + nameOffset, base + nameOffset + nameLen);
    out.push({
      name: prefix + Buffer.from(nameBytes).toString('utf8'), nameBytes, type, hash: e.nameHash, size: valueSize,
      local: isLocal ? block.bytes.slice(base + valueAt, base + valueAt + valueSize) : undefined,
      outside: isLocal ? undefined : { block, base: base + valueAt },
    });
  }
  return out;
}

/** Extents of a value that lies outside its storage. */
export async function* valueExtents(reader: RawReader, outside: { block: Block; base: number }): AsyncGenerator<ExtentRecord> {
  const list = new ExtentList(outside.block, outside.base + 0x10);
  if (list.count !== 1 || list.nextFree > 1) throw badField(outside.block, 'xattr_value_root', 'xr_list', `${list.nextFree}/${list.count}`, 'is no value root');
  yield* reader.extents(outside.block, outside.base + 0x10);
}

/** A value's bytes. */
export async function xattrValue(reader: RawReader, attr: RawXattr): Promise<Uint8Array> {
  if (attr.local) return attr.local;
  const out = new Uint8Array(attr.size);
  const { blockSize, clusterSize } = reader.geo;
  for await (const { cpos, clusters, blkno, flags } of valueExtents(reader, attr.outside!)) {
    const at = cpos * clusterSize;
    if (at >= attr.size || flags & EXT.UNWRITTEN) continue;
    const want = Math.min(clusters * clusterSize, attr.size - at);
    out.set((await reader.readRaw(blkno, Math.ceil(want / blockSize))).bytes.subarray(0, want), at);
  }
  return out;
}

/** All attributes of an inode. */
export async function listXattrs(reader: RawReader, inode: Block): Promise<RawXattr[]> {
  const out: RawXattr[] = [];
  for await (const storage of xattrStorages(reader, inode)) out.push(...storageEntries(storage));
  return out;
}
