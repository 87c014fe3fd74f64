/**
 * Extended attributes without a mount, in all storages (ondisk-format.md 7.2): inline in the dinode, in one block, in a tree
 * of buckets; values beside their names or in extents of their own. What a storage holds is xattr/entries.ts's.
 */
import { Block, badField } from '../format/block.js';
import { verifyCheck } from '../format/blockcheck.js';
import { DYN, EXT } from '../format/constants.js';
import { ExtentList } from '../format/lists.js';
import { XATTR_BLOCK } from '../format/kinds.js';
import { Dinode, XATTR_BUCKET_SIZE, XATTR_INDEXED, XATTR_TREE_LIST, XattrBlock, XattrHeader, XattrValueRoot } from '../format/structs.js';
import { type XattrStorage, blockStorage, decodeEntries, inlineStorage, isLocal } from '../xattr/entries.js';
import type { FoundXattr } from '../xattr/read.js';
import type { ExtentRecord, RawReader } from './raw-reader.js';

/** The external xattr block of an inode, or undefined. */
async function xattrBlock(reader: RawReader, inode: Block): Promise<Block | undefined> {
  const loc = Dinode.at(inode).xattrLoc;
  return loc === 0 ? undefined : reader.read(loc, XATTR_BLOCK);
}

/** Bucket extents of an indexed xattr block. */
async function* bucketExtents(reader: RawReader, xb: Block): AsyncGenerator<ExtentRecord> {
  if (XattrBlock.at(xb).flags & XATTR_INDEXED) yield* reader.extents(xb, XATTR_TREE_LIST);
}

/** Every storage of an inode's attributes, in the order they are searched. */
export async function* xattrStorages(reader: RawReader, inode: Block): AsyncGenerator<XattrStorage> {
  const di = Dinode.at(inode);
  const { blockSize, clusterSize, metaecc } = reader.geo;
  if (!(di.dynFeatures & DYN.HAS_XATTR)) return;
  const inline = inlineStorage(inode);
  if (inline !== undefined) yield inline;
  const xb = await xattrBlock(reader, inode);
  if (!xb) return;
  if (!(XattrBlock.at(xb).flags & XATTR_INDEXED)) {
    yield blockStorage(xb);
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

/** A value's bytes. */
export async function xattrValue(reader: RawReader, { item, blkno }: FoundXattr): Promise<Uint8Array> {
  if (isLocal(item)) return item.stored;
  const out = new Uint8Array(item.size);
  const { blockSize, clusterSize, device } = reader.geo;
  const root = new Block(device, blkno, item.stored);
  const list = new ExtentList(root, XattrValueRoot.size);
  if (list.count !== 1 || list.nextFree > 1) throw badField(root, 'xattr_value_root', 'xr_list', `${list.nextFree}/${list.count}`, 'is no value root');
  for await (const { cpos, clusters, blkno: at, flags } of reader.extents(root, XattrValueRoot.size)) {
    const from = cpos * clusterSize;
    if (from >= item.size || flags & EXT.UNWRITTEN) continue;
    const want = Math.min(clusters * clusterSize, item.size - from);
    out.set((await reader.readRaw(at, Math.ceil(want / blockSize))).bytes.subarray(0, want), from);
  }
  return out;
}

/** All attributes of an inode. */
export async function listXattrs(reader: RawReader, inode: Block): Promise<FoundXattr[]> {
  const out: FoundXattr[] = [];
  for await (const storage of xattrStorages(reader, inode)) for (const item of decodeEntries(storage)) out.push({ item, blkno: storage.block.blkno });
  return out;
}
