/**
 * The tree of buckets of an indexed xattr block. A record's position is the lowest hash of its first bucket (0 for the first
 * record), its clusters hold `xh_num_buckets` buckets in ascending order of hash; names of equal hash share a bucket.
 *
 * How it grows is the kernel's (Linux 6.1 fs/ocfs2/xattr.c:ocfs2_add_new_xattr_bucket, ocfs2_add_new_xattr_cluster,
 * ocfs2_adjust_xattr_cross_cluster, ocfs2_extend_xattr_bucket, ocfs2_divide_xattr_bucket): a full bucket is divided where the
 * hash changes next to its middle, the buckets behind it moving up by one; a record without room gets the next cluster of the
 * volume if that is free and the record stays within 64 KiB, else the end of its last cluster moves to a record of its own.
 * Buckets and records never go away while the inode lives.
 *
 * A bucket's blocks carry one checksum over all of them, in its header: it is verified and stamped here, not by cache and journal.
 */
import { UsageError } from '@lunfs/device';
import { claimClusters } from '../alloc/index.js';
import type { FsContext } from '../context.js';
import { type ExtentRec, type TreeRoot, insert, lastBefore, lookup } from '../extents/index.js';
import { Block, badField } from '../format/block.js';
import { stampCheck, verifyCheck } from '../format/blockcheck.js';
import { RAW_BLOCK } from '../format/kinds.js';
import { XATTR_BUCKET_SIZE, XattrHeader } from '../format/structs.js';
import type { MetaLock, Op } from '../txn/index.js';
import { type XattrItem, type XattrStorage, decodeEntries, encodeBucket, firstHash, fitsBucket, sameName, withItem } from './entries.js';

/** Byte of the check field in a bucket. */
const BUCKET_CHECK = 8;
const HASH_END = 0x1_0000_0000;
/** Blocks of buckets moved in one operation at most: a record of large clusters and small blocks gets a neighbour before it is full. */
const MOST_MOVED = 512;

function blocksPerBucket(ctx: FsContext): number {
  return XATTR_BUCKET_SIZE / ctx.geo.blockSize;
}

/** Buckets that a record has room for. */
function capacityOf(ctx: FsContext, { clusters }: ExtentRec): number {
  return (clusters * ctx.geo.clusterSize) / XATTR_BUCKET_SIZE;
}

function bucketBlkno(ctx: FsContext, rec: ExtentRec, index: number): number {
  return rec.blkno + index * blocksPerBucket(ctx);
}

/** Bucket `index` of a record, as bytes of its own. */
export function readBucket(op: Op, ctx: FsContext, tree: TreeRoot, rec: ExtentRec, index: number): XattrStorage {
  const { blockSize, metaecc, device } = ctx.geo;
  const blkno = bucketBlkno(ctx, rec, index);
  const blocks = Array.from({ length: blocksPerBucket(ctx) }, (_, i) => blkno + i);
  op.prefetch(tree.owner, blocks, RAW_BLOCK);
  const bytes = new Uint8Array(XATTR_BUCKET_SIZE);
  for (const [i, at] of blocks.entries()) bytes.set(op.read(tree.owner, at, RAW_BLOCK).bytes, i * blockSize);
  const block = new Block(device, blkno, bytes);
  if (metaecc && verifyCheck(bytes, BUCKET_CHECK) === 'bad') throw badField(block, 'xattr_bucket', 'xh_check', 'CRC', 'does not match the bucket');
  return { kind: 'bucket', block, base: 0, size: XATTR_BUCKET_SIZE };
}

/** Put a bucket's bytes in its blocks. */
function putBucket(op: Op, ctx: FsContext, owner: MetaLock, blkno: number, bytes: Uint8Array): void {
  const { blockSize, metaecc } = ctx.geo;
  if (metaecc) stampCheck(bytes, BUCKET_CHECK);
  for (let i = 0; i < blocksPerBucket(ctx); i++) op.create(owner, blkno + i, RAW_BLOCK).bytes.set(bytes.subarray(i * blockSize, (i + 1) * blockSize));
}

/** Give a bucket these attributes, which must fit. */
export function writeBucket(op: Op, ctx: FsContext, owner: MetaLock, blkno: number, items: readonly XattrItem[], head: { firstHash: number; numBuckets: number }): void {
  const block = new Block(ctx.geo.device, blkno, new Uint8Array(XATTR_BUCKET_SIZE));
  encodeBucket({ kind: 'bucket', block, base: 0, size: XATTR_BUCKET_SIZE }, items, ctx.geo.blockSize, head);
  putBucket(op, ctx, owner, blkno, block.bytes);
}

/** Replace the attributes of a bucket that is there. */
export function rewriteBucket(op: Op, ctx: FsContext, owner: MetaLock, storage: XattrStorage, items: readonly XattrItem[]): void {
  writeBucket(op, ctx, owner, storage.block.blkno, items, { firstHash: firstHash(storage), numBuckets: XattrHeader.at(storage.block).numBuckets });
}

function setBucketCount(op: Op, ctx: FsContext, tree: TreeRoot, rec: ExtentRec, numBuckets: number): void {
  const { block } = readBucket(op, ctx, tree, rec, 0);
  XattrHeader.at(block).numBuckets = numBuckets;
  putBucket(op, ctx, tree.owner, rec.blkno, block.bytes);
}

/** Buckets in use of a record. */
export function bucketCount(op: Op, ctx: FsContext, tree: TreeRoot, rec: ExtentRec): number {
  const { block } = readBucket(op, ctx, tree, rec, 0);
  const { numBuckets } = XattrHeader.at(block);
  if (numBuckets === 0 || numBuckets > capacityOf(ctx, rec)) throw badField(block, 'xattr_header', 'xh_num_buckets', numBuckets, `is none of 1 to ${capacityOf(ctx, rec)}`);
  return numBuckets;
}

/** The records of a tree from the highest hash down, as the kernel walks them (xattr.c:ocfs2_iterate_xattr_index_block). */
export function* recordsDown(op: Op, tree: TreeRoot): Generator<ExtentRec, void, undefined> {
  for (let rec = lastBefore(op, tree, HASH_END); rec !== undefined; rec = rec.cpos > 0 ? lastBefore(op, tree, rec.cpos) : undefined) yield rec;
}

/** A bucket of a record. */
interface Place {
  readonly rec: ExtentRec;
  readonly index: number;
  readonly storage: XattrStorage;
}

/** The bucket where a hash is or belongs: the last one that begins at or below it (xattr.c:ocfs2_xattr_bucket_find). */
export function bucketOf(op: Op, ctx: FsContext, tree: TreeRoot, hash: number): Place {
  const rec = lastBefore(op, tree, hash + 1);
  if (rec === undefined) {
    const { block } = tree.list();
    throw badField(block, tree.rules.structure, 'rec[0].e_cpos', hash, 'has no record at or below it');
  }
  let low = 0;
  for (let high = bucketCount(op, ctx, tree, rec) - 1; low < high; ) {
    const mid = (low + high + 1) >>> 1;
    if (firstHash(readBucket(op, ctx, tree, rec, mid)) <= hash) low = mid;
    else high = mid - 1;
  }
  return { rec, index: low, storage: readBucket(op, ctx, tree, rec, low) };
}

/** Add or replace an attribute (xattr.c:ocfs2_xattr_set_entry_index_block). Throws NO_SPACE. */
export function putInTree(op: Op, ctx: FsContext, tree: TreeRoot, item: XattrItem): void {
  if (putIfFits(op, ctx, tree, item)) return;
  const place = bucketOf(op, ctx, tree, item.hash);
  const items = decodeEntries(place.storage);
  if (items.every((one) => one.hash === item.hash)) throw noRoom(ctx, tree, 'too many names have the same hash');
  addBucket(op, ctx, tree, place);
  if (!putIfFits(op, ctx, tree, item)) throw noRoom(ctx, tree, 'too many names have the same hash');
}

function putIfFits(op: Op, ctx: FsContext, tree: TreeRoot, item: XattrItem): boolean {
  const { storage } = bucketOf(op, ctx, tree, item.hash);
  const items = withItem(decodeEntries(storage), item);
  if (!fitsBucket(items, ctx.geo.blockSize)) return false;
  rewriteBucket(op, ctx, tree.owner, storage, items);
  return true;
}

/** Take an attribute out of its bucket, which stays even if it is empty. */
export function removeFromTree(op: Op, ctx: FsContext, tree: TreeRoot, item: Pick<XattrItem, 'hash' | 'type' | 'rest'>): void {
  const { storage } = bucketOf(op, ctx, tree, item.hash);
  rewriteBucket(op, ctx, tree.owner, storage, decodeEntries(storage).filter((one) => !sameName(one, item)));
}

function noRoom(ctx: FsContext, tree: TreeRoot, why: string): UsageError {
  return new UsageError('NO_SPACE', 'ENOSPC', `${ctx.geo.device}: no room for another extended attribute in the tree of block ${tree.blkno}: ${why}; use other names`, { device: ctx.geo.device, block: tree.blkno });
}

/** Divide a bucket, making room for one more in its record first. */
function addBucket(op: Op, ctx: FsContext, tree: TreeRoot, place: Place): void {
  let { rec, index } = place;
  let count = bucketCount(op, ctx, tree, rec);
  const capacity = capacityOf(ctx, rec);
  const perCluster = ctx.geo.clusterSize / XATTR_BUCKET_SIZE;
  const early = count * blocksPerBucket(ctx) >= MOST_MOVED;
  if (count === capacity || early) {
    const blkno = claimClusters(op, ctx, 1, 1, Math.floor(rec.blkno / ctx.geo.bpc) + rec.clusters).start * ctx.geo.bpc;
    if (!early && blkno === rec.blkno + rec.clusters * ctx.geo.bpc && rec.clusters < tree.rules.maxRecord) {
      addRecord(op, ctx, tree, { cpos: rec.cpos + rec.clusters, clusters: 1, blkno, flags: 0 }, true);
      rec = { ...rec, clusters: rec.clusters + 1 };
    } else if (perCluster === 1 && (rec.clusters === 1 || index === count - 1)) {
      const hash = divide(op, ctx, tree, rec, count - 1, blkno, 1);
      return addRecord(op, ctx, tree, { cpos: hash, clusters: 1, blkno, flags: 0 });
    } else {
      // The last cluster alone moves to the other record: the upper half of its buckets, or its only one.
      const moved = perCluster === 1 ? 1 : Math.floor(Math.min(count, perCluster) / 2);
      const from = count - moved;
      const first = readBucket(op, ctx, tree, rec, from);
      for (let i = 0; i < moved; i++) copyBucket(op, ctx, tree, rec, from + i, blkno + i * blocksPerBucket(ctx));
      const other: ExtentRec = { cpos: firstHash(first), clusters: 1, blkno, flags: 0 };
      setBucketCount(op, ctx, tree, rec, from);
      setBucketCount(op, ctx, tree, other, moved);
      addRecord(op, ctx, tree, other);
      if (index >= from) {
        rec = other;
        index -= from;
        count = moved;
      } else count = from;
    }
  }
  for (let i = count - 1; i > index; i--) copyBucket(op, ctx, tree, rec, i, bucketBlkno(ctx, rec, i + 1));
  divide(op, ctx, tree, rec, index, bucketBlkno(ctx, rec, index + 1), 0);
  setBucketCount(op, ctx, tree, rec, count + 1);
}

function copyBucket(op: Op, ctx: FsContext, tree: TreeRoot, rec: ExtentRec, index: number, to: number): void {
  putBucket(op, ctx, tree.owner, to, readBucket(op, ctx, tree, rec, index).block.bytes);
}

/**
 * Move the upper part of a bucket to the bucket at block `to`, whose record has `numBuckets` (0: not its first). Returns the
 * hash where that one begins. If all names have one hash it begins empty, behind that hash.
 */
function divide(op: Op, ctx: FsContext, tree: TreeRoot, rec: ExtentRec, index: number, to: number, numBuckets: number): number {
  const storage = readBucket(op, ctx, tree, rec, index);
  const items = decodeEntries(storage).sort((a, b) => a.hash - b.hash);
  const at = dividePosition(items);
  const upper = items.slice(at);
  const hash = upper.length > 0 ? upper[0].hash : items[items.length - 1].hash + 1;
  if (hash >= HASH_END) throw noRoom(ctx, tree, 'the highest hash fills a bucket');
  writeBucket(op, ctx, tree.owner, to, upper, { firstHash: hash, numBuckets });
  if (upper.length > 0) rewriteBucket(op, ctx, tree.owner, storage, items.slice(0, at));
  return hash;
}

/** Where the hash changes next to the middle; the list's length if it never does (xattr.c:ocfs2_xattr_find_divide_pos). */
function dividePosition(items: readonly XattrItem[]): number {
  const middle = Math.floor(items.length / 2);
  const changes = (i: number): boolean => i > 0 && i < items.length && items[i - 1].hash !== items[i].hash;
  for (let delta = 0; delta < middle; delta++) {
    if (changes(middle - delta)) return middle - delta;
    if (changes(middle + delta + 1)) return middle + delta + 1;
  }
  return items.length;
}

/**
 * Insert a record. Positions are hashes: a record of several clusters may reach over the next one's position, and one that happens to
 * continue its neighbour would become one with it. Hashes so near are refused (with random names one case in a hundred million).
 */
function addRecord(op: Op, ctx: FsContext, tree: TreeRoot, rec: ExtentRec, continues = false): void {
  const end = (one: ExtentRec): number => one.cpos + one.clusters;
  const before = lastBefore(op, tree, rec.cpos);
  const gap = lookup(op, tree, rec.cpos);
  const meetsBefore = before !== undefined && (end(before) > rec.cpos || (!continues && end(before) === rec.cpos && before.blkno + before.clusters * ctx.geo.bpc === rec.blkno));
  if (meetsBefore || !gap.hole || (gap.clusters <= rec.clusters && rec.cpos + gap.clusters < HASH_END)) throw noRoom(ctx, tree, 'the hashes of two buckets are too near to each other');
  insert(op, ctx, tree, rec);
}
