/**
 * Setting and removing an attribute, in one operation. Where it goes is the kernel's rule (Linux 6.1
 * fs/ocfs2/xattr.c:__ocfs2_xattr_set_handle): into the dinode if it fits there, else into the xattr block, which becomes a
 * tree of buckets when it is full; what was in the other place then goes away. Values above 80 bytes lie in extents of
 * their own, whose blocks go through the journal like all metadata, so that an attribute changes as a whole or not at all.
 *
 * Room for attributes in the dinode is taken once and never given back, and so are xattr block and buckets; all goes with the
 * inode (wipe.ts). No quota counts any of it (the kernel's rule too).
 */
import { UsageError } from '@lunfs/device';
import { type ClusterRun, claimClusters, claimContiguous, claimMeta, stampMeta } from '../alloc/index.js';
import type { FsContext, InodeRef } from '../context.js';
import { insert, lookup, treeEnd, walk, xattrTree } from '../extents/index.js';
import { Block, badField } from '../format/block.js';
import { DYN, EXT, MODE, S_IFMT, SIG } from '../format/constants.js';
import { capacity } from '../format/geometry.js';
import { RAW_BLOCK, XATTR_BLOCK } from '../format/kinds.js';
import { ExtentList } from '../format/lists.js';
import { ID2, InlineData, XATTR_BLOCK_BODY, XATTR_INDEXED, XATTR_TREE_LIST, XattrBlock, XattrTreeRoot, XattrValueRoot } from '../format/structs.js';
import type { Op } from '../txn/index.js';
import { putInTree, removeFromTree, writeBucket } from './buckets.js';
import {
  VALUE_ROOT_SIZE, XATTR_INLINE_VALUE, type XattrItem, type XattrStorage, blockStorage, decodeEntries, encodeBlock, fitsBlock, inlineStorage, isLocal,
  sameName, withItem,
} from './entries.js';
import type { XattrName } from './names.js';
import { type FoundXattr, findInline, findOutside, hashOf, isIndexed, valueTree, xattrBlockOf } from './read.js';
import { freeValue, freeValueRange } from './wipe.js';

/** Smallest area for attributes in a dinode (OCFS2_MIN_XATTR_INLINE_SIZE), and blocks that never have one (OCFS2_MIN_BLOCKSIZE). */
const MIN_INLINE_AREA = 256;
const NO_INLINE_BLOCK_SIZE = 512;

/** `create`: only if it is not there; `replace`: only if it is. */
export type XattrSetMode = 'create' | 'replace' | 'either';

/** Set an attribute of an inode held by `ctx.editInode`. Times are the caller's. Throws XATTR_EXISTS, NO_XATTR, NO_SPACE. */
export function putXattr(op: Op, ctx: FsContext, inode: InodeRef, name: XattrName, value: Uint8Array, mode: XattrSetMode = 'either'): void {
  const inline = findInline(inode, name);
  const outside = inline === undefined ? findOutside(op, ctx, inode, name) : undefined;
  const old = inline ?? outside;
  if (old === undefined && mode === 'replace') throw noXattr(ctx, inode);
  if (old !== undefined && mode === 'create') {
    throw new UsageError('XATTR_EXISTS', 'EEXIST', `${ctx.geo.device}: inode ${inode.blkno} has this attribute already`, { device: ctx.geo.device, block: inode.blkno });
  }
  replaceItem(op, ctx, inode, { ...name, hash: hashOf(ctx, name), size: value.length, stored: storeValue(op, ctx, inode, old, value), offset: 0 }, inline, outside);
}

/** Put an attribute where there is room for it, and take it away from where it was (`inline` or `outside`). What its old value owns is the caller's. */
export function replaceItem(
  op: Op, ctx: FsContext, inode: InodeRef, item: XattrItem, inline = findInline(inode, item), outside = inline === undefined ? findOutside(op, ctx, inode, item) : undefined,
): void {
  if (putInline(ctx, inode, item)) {
    if (outside !== undefined) dropOutside(op, ctx, inode, outside.item);
  } else {
    putOutside(op, ctx, inode, item);
    if (inline !== undefined) dropInline(inode, inline.item);
  }
}

/** Remove an attribute of an inode held by `ctx.editInode`. Throws NO_XATTR. */
export function dropXattr(op: Op, ctx: FsContext, inode: InodeRef, name: XattrName): void {
  const inline = findInline(inode, name);
  const found = inline ?? findOutside(op, ctx, inode, name);
  if (found === undefined) throw noXattr(ctx, inode);
  if (!isLocal(found.item)) freeValue(op, ctx, inode, found);
  if (inline !== undefined) dropInline(inode, inline.item);
  else dropOutside(op, ctx, inode, found.item);
}

export function noXattr(ctx: FsContext, { blkno }: Pick<InodeRef, 'blkno'>): UsageError {
  return new UsageError('NO_XATTR', 'ENODATA', `${ctx.geo.device}: inode ${blkno} has no such attribute`, { device: ctx.geo.device, block: blkno });
}

/** Make room in the dinode if there is some to be had, and put the attribute there if it fits. */
function putInline(ctx: FsContext, inode: InodeRef, item: XattrItem): boolean {
  const storage = inlineStorage(inode.block) ?? reserveInline(ctx, inode);
  if (storage === undefined) return false;
  const items = withItem(decodeEntries(storage), item);
  if (!fitsBlock(items, storage.size)) return false;
  encodeBlock(storage, items);
  return true;
}

function dropInline({ block }: InodeRef, item: XattrItem): void {
  const storage = inlineStorage(block)!;
  encodeBlock(storage, decodeEntries(storage).filter((one) => !sameName(one, item)));
}

/** Take the end of the dinode for attributes if it is free (xattr.c:ocfs2_xattr_has_space_inline, ocfs2_xattr_ibody_init). */
function reserveInline(ctx: FsContext, { block, di }: InodeRef): XattrStorage | undefined {
  const { blockSize, xattrInlineSize: want } = ctx.geo;
  if (blockSize === NO_INLINE_BLOCK_SIZE || want < MIN_INLINE_AREA || want % 16 !== 0 || want >= blockSize - ID2) return undefined;
  if (di.dynFeatures & DYN.INLINE_DATA) {
    const data = InlineData.at(block);
    if (data.idCount - di.size < want) return undefined;
    data.idCount -= want;
  } else if ((di.mode & S_IFMT) === MODE.LNK && di.clusters === 0) {
    // The kernel counts the NUL as free (ocfs2_fast_symlink_chars); fsck.ocfs2 looks for it before the attributes.
    if (capacity.fastSymlink(blockSize) - di.size < want) return undefined;
  } else {
    const list = new ExtentList(block, ID2);
    const records = want / 16;
    if (list.count - list.nextFree < records) return undefined;
    list.count -= records;
  }
  di.xattrInlineSize = want;
  di.dynFeatures |= DYN.INLINE_XATTR | DYN.HAS_XATTR;
  block.bytes.fill(0, blockSize - want);
  return inlineStorage(block);
}

function putOutside(op: Op, ctx: FsContext, inode: InodeRef, item: XattrItem): void {
  const blkno = xattrBlockOf(op, inode)?.blkno ?? createXattrBlock(op, ctx, inode);
  const block = op.write(inode.lock, blkno, XATTR_BLOCK);
  if (!isIndexed(block)) {
    const storage = blockStorage(block);
    const old = decodeEntries(storage);
    const items = withItem(old, item);
    if (fitsBlock(items, storage.size)) return encodeBlock(storage, items);
    makeIndex(op, ctx, inode, block, old);
  }
  putInTree(op, ctx, xattrTree(inode.lock, blkno, op, ctx), item);
}

function dropOutside(op: Op, ctx: FsContext, inode: InodeRef, item: XattrItem): void {
  const block = xattrBlockOf(op, inode)!;
  if (isIndexed(block)) return removeFromTree(op, ctx, xattrTree(inode.lock, block.blkno, op, ctx), item);
  const storage = blockStorage(op.write(inode.lock, block.blkno, XATTR_BLOCK));
  encodeBlock(storage, decodeEntries(storage).filter((one) => !sameName(one, item)));
}

function createXattrBlock(op: Op, ctx: FsContext, { lock, di }: InodeRef): number {
  const claim = claimMeta(op, ctx, 'extent');
  stampMeta(ctx, XattrBlock.at(op.create(lock, claim.blkno, XATTR_BLOCK)), SIG.xattr, claim);
  di.xattrLoc = claim.blkno;
  di.dynFeatures |= DYN.HAS_XATTR;
  return claim.blkno;
}

/** A full xattr block becomes the root of a tree of one bucket that holds its attributes (xattr.c:ocfs2_xattr_create_index_block). */
function makeIndex(op: Op, ctx: FsContext, inode: InodeRef, block: Block, items: readonly XattrItem[]): void {
  const { bpc, blockSize } = ctx.geo;
  const blkno = claimClusters(op, ctx, 1, 1).start * bpc;
  writeBucket(op, ctx, inode.lock, blkno, items, { firstHash: 0, numBuckets: 1 });
  block.bytes.fill(0, XATTR_BLOCK_BODY);
  XattrBlock.at(block).flags |= XATTR_INDEXED;
  XattrTreeRoot.at(block).clusters = 1;
  const list = new ExtentList(block, XATTR_TREE_LIST);
  list.count = capacity.xattrTree(blockSize);
  list.nextFree = 1;
  list.setLeaf(0, 0, 1, blkno, 0);
}

/**
 * What is stored for a value: the value, or a root whose extents hold it. Extents of the old value are used again if they
 * reach, written anew through the journal; what is too much of them is freed. A value gets one extent where there is one:
 * fsck.ocfs2 1.8.7 takes the second value of several extents in a storage for damage (EXTENT_LIST_DEPTH: xattr.c:check_xattr_value
 * keeps the depth it expects from the value before), and its repair would be some.
 */
function storeValue(op: Op, ctx: FsContext, inode: InodeRef, old: FoundXattr | undefined, value: Uint8Array): Uint8Array {
  let reused = old !== undefined && !isLocal(old.item) ? old : undefined;
  if (reused !== undefined && (value.length <= XATTR_INLINE_VALUE || isShared(op, ctx, inode, reused))) {
    freeValue(op, ctx, inode, reused);
    reused = undefined;
  }
  if (value.length <= XATTR_INLINE_VALUE) return value;
  const { blockSize, bpc, clusterSize } = ctx.geo;
  const stored = reused?.item.stored.slice() ?? emptyRoot(ctx);
  const tree = valueTree(op, ctx, inode, reused?.blkno ?? inode.blkno, stored);
  const want = Math.ceil(value.length / clusterSize);
  const had = treeEnd(op, tree);
  if (had > want) freeValueRange(op, ctx, inode, tree, want);
  else if (had < want) {
    const whole = claimWhole(op, ctx, want);
    if (whole !== undefined) freeValueRange(op, ctx, inode, tree, 0);
    for (let end = treeEnd(op, tree); end < want; end = treeEnd(op, tree)) {
      const { start, len } = whole ?? claimClusters(op, ctx, want - end, 1);
      insert(op, ctx, tree, { cpos: end, clusters: len, blkno: start * bpc, flags: 0 });
    }
  }
  for (let i = 0; i * blockSize < value.length; i++) {
    const rec = lookup(op, tree, Math.floor(i / bpc));
    if (rec.hole) throw badField(tree.list().block, tree.rules.structure, 'rec', i, 'leaves a hole in the value');
    op.create(inode.lock, rec.blkno + i - rec.cpos * bpc, RAW_BLOCK).bytes.set(value.subarray(i * blockSize, (i + 1) * blockSize));
  }
  return stored;
}

/** One run of clusters, if there is one. */
function claimWhole(op: Op, ctx: FsContext, clusters: number): ClusterRun | undefined {
  try {
    return claimContiguous(op, ctx, clusters);
  } catch (error) {
    if (error instanceof UsageError && error.code === 'NO_SPACE') return undefined;
    throw error;
  }
}

/** Extents that a clone of the inode has too are not written again. */
function isShared(op: Op, ctx: FsContext, inode: InodeRef, { item, blkno }: FoundXattr): boolean {
  for (const rec of walk(op, valueTree(op, ctx, inode, blkno, item.stored))) if (rec.flags & EXT.REFCOUNTED) return true;
  return false;
}

/** The value root of a value without extents. */
export function emptyRoot(ctx: FsContext): Uint8Array {
  const root = new Block(ctx.geo.device, 0, new Uint8Array(VALUE_ROOT_SIZE));
  new ExtentList(root, XattrValueRoot.size).count = 1;
  return root.bytes;
}
