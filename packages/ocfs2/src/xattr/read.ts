/**
 * Reading the attributes of an inode in an operation, under its meta lock: which storages it has, where a name is, what its
 * value is (Linux 6.1 fs/ocfs2/xattr.c:ocfs2_xattr_get_nolock, ocfs2_listxattr).
 */
import type { FsContext, InodeRef } from '../context.js';
import { type TreeRoot, lookup, xattrTree, xattrValueTree } from '../extents/index.js';
import { Block, badField } from '../format/block.js';
import { DYN } from '../format/constants.js';
import { xattrHash } from '../format/dirhash.js';
import { RAW_BLOCK, XATTR_BLOCK } from '../format/kinds.js';
import { XATTR_INDEXED, XattrBlock } from '../format/structs.js';
import type { Op } from '../txn/index.js';
import { bucketCount, bucketOf, readBucket, recordsDown } from './buckets.js';
import { type XattrItem, type XattrStorage, blockStorage, decodeEntries, inlineStorage, isLocal, sameName } from './entries.js';
import type { XattrName } from './names.js';

/** The xattr block of an inode, if it has one. */
export function xattrBlockOf(op: Op, { lock, di }: InodeRef): Block | undefined {
  return di.dynFeatures & DYN.HAS_XATTR && di.xattrLoc !== 0 ? op.read(lock, di.xattrLoc, XATTR_BLOCK) : undefined;
}

export function isIndexed(block: Block): boolean {
  return (XattrBlock.at(block).flags & XATTR_INDEXED) !== 0;
}

/** The stored hash of a name. */
export function hashOf(ctx: FsContext, { rest }: XattrName): number {
  return xattrHash(rest, ctx.geo.uuidHash);
}

/** An attribute and the block number of its storage. */
export interface FoundXattr {
  readonly item: XattrItem;
  readonly blkno: number;
}

/** Find a name in the dinode. */
export function findInline({ block }: InodeRef, name: XattrName): FoundXattr | undefined {
  const storage = inlineStorage(block);
  return storage && findIn(storage, name);
}

/** Find a name in the xattr block or its buckets. */
export function findOutside(op: Op, ctx: FsContext, inode: InodeRef, name: XattrName): FoundXattr | undefined {
  const block = xattrBlockOf(op, inode);
  if (block === undefined) return undefined;
  if (!isIndexed(block)) return findIn(blockStorage(block), name);
  const tree = xattrTree(inode.lock, block.blkno, op, ctx);
  // An inode being wiped may have lost all its buckets.
  return tree.list().nextFree === 0 ? undefined : findIn(bucketOf(op, ctx, tree, hashOf(ctx, name)).storage, name);
}

function findIn(storage: XattrStorage, name: XattrName): FoundXattr | undefined {
  const item = decodeEntries(storage).find((one) => sameName(one, name));
  return item && { item, blkno: storage.block.blkno };
}

/** Find a name. */
export function findXattr(op: Op, ctx: FsContext, inode: InodeRef, name: XattrName): FoundXattr | undefined {
  if (!(inode.di.dynFeatures & DYN.HAS_XATTR)) return undefined;
  return findInline(inode, name) ?? findOutside(op, ctx, inode, name);
}

/** All attributes, in the kernel's order: dinode, block, buckets from the highest hash record down. */
export function listXattr(op: Op, ctx: FsContext, inode: InodeRef): FoundXattr[] {
  if (!(inode.di.dynFeatures & DYN.HAS_XATTR)) return [];
  const out: FoundXattr[] = [];
  const take = (storage: XattrStorage): void => {
    for (const item of decodeEntries(storage)) out.push({ item, blkno: storage.block.blkno });
  };
  const inline = inlineStorage(inode.block);
  if (inline !== undefined) take(inline);
  const block = xattrBlockOf(op, inode);
  if (block === undefined) return out;
  if (!isIndexed(block)) take(blockStorage(block));
  else {
    const tree = xattrTree(inode.lock, block.blkno, op, ctx);
    for (const rec of recordsDown(op, tree)) for (let i = 0, n = bucketCount(op, ctx, tree, rec); i < n; i++) take(readBucket(op, ctx, tree, rec, i));
  }
  return out;
}

/** The value root of an attribute that lies outside, as a tree whose changes are made in `item.stored`. */
export function valueTree(op: Op, ctx: FsContext, inode: InodeRef, blkno: number, stored: Uint8Array): TreeRoot {
  return xattrValueTree(inode.lock, new Block(ctx.geo.device, blkno, stored), op, ctx);
}

/** The value of an attribute. */
export function readValue(op: Op, ctx: FsContext, inode: InodeRef, { item, blkno }: FoundXattr): Uint8Array {
  if (isLocal(item)) return item.stored;
  const { blockSize, bpc } = ctx.geo;
  const tree = valueTree(op, ctx, inode, blkno, item.stored);
  const blocks: number[] = [];
  for (const want = Math.ceil(item.size / blockSize); blocks.length < want; ) {
    const cpos = blocks.length / bpc;
    const rec = lookup(op, tree, cpos);
    if (rec.hole) throw badField(tree.list().block, 'xattr_value_root', 'xr_clusters', tree.clusters, `is less than a value of ${item.size} bytes needs`);
    for (let i = (cpos - rec.cpos) * bpc; i < rec.clusters * bpc && blocks.length < want; i++) blocks.push(rec.blkno + i);
  }
  op.prefetch(inode.lock, blocks, RAW_BLOCK);
  const value = new Uint8Array(item.size);
  for (const [i, at] of blocks.entries()) {
    const bytes = op.read(inode.lock, at, RAW_BLOCK).bytes;
    value.set(bytes.subarray(0, Math.min(blockSize, item.size - i * blockSize)), i * blockSize);
  }
  return value;
}
