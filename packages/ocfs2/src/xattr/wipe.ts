/**
 * Freeing what attributes own: the extents of a value, and all of an inode's attributes when it is wiped, in as many operations
 * as that takes (Linux 6.1 fs/ocfs2/xattr.c:ocfs2_xattr_remove). After each operation the attributes left are whole.
 */
import { claimOf, freeMeta, releaseClusters } from '../alloc/index.js';
import type { FsContext, InodeRef } from '../context.js';
import { type TreeRoot, removeRange, treeEnd, xattrTree } from '../extents/index.js';
import { DYN, EXT } from '../format/constants.js';
import { XATTR_BLOCK } from '../format/kinds.js';
import { XattrBlock } from '../format/structs.js';
import { EX } from '../locking/levels.js';
import { dropRefs, openRefTree } from '../refcount/index.js';
import type { Op } from '../txn/index.js';
import { bucketCount, readBucket, recordsDown, rewriteBucket } from './buckets.js';
import { type XattrItem, type XattrStorage, blockStorage, decodeEntries, encodeBlock, inlineStorage, isLocal } from './entries.js';
import { type FoundXattr, isIndexed, valueTree, xattrBlockOf } from './read.js';

/** Extents of one value at most: 64 KiB in clusters of 4 KiB. */
const PIECES_OF_VALUE = 16;

/** Free the clusters of a value from position `cpos` on; returns the pieces. `tree`: of its value root. */
export function freeValueRange(op: Op, ctx: FsContext, inode: InodeRef, tree: TreeRoot, cpos: number): number {
  let pieces = 0;
  removeRange(op, ctx, tree, cpos, treeEnd(op, tree) - cpos, (start, clusters, flags) => {
    if (flags & EXT.REFCOUNTED) dropRefs(openRefTree(op, ctx, inode, EX), start, clusters, 'release');
    else releaseClusters(op, ctx, start, clusters);
    pieces++;
  });
  return pieces;
}

/** Free a value that lies outside; the entry is the caller's to remove. Returns the pieces. */
export function freeValue(op: Op, ctx: FsContext, inode: InodeRef, { item, blkno }: FoundXattr): number {
  return freeValueRange(op, ctx, inode, valueTree(op, ctx, inode, blkno, item.stored.slice()), 0);
}

/**
 * Free attributes of an inode held by `ctx.editInode`, `pieces` extents (at least PIECES_OF_VALUE for progress) at most. Returns the pieces left over; `undefined`
 * if attributes are left: call again in the next operation.
 */
export function xattrWipe(op: Op, ctx: FsContext, inode: InodeRef, pieces: number): number | undefined {
  const { di, lock } = inode;
  if (!(di.dynFeatures & DYN.HAS_XATTR)) return pieces;
  const inline = inlineStorage(inode.block);
  if (inline !== undefined) {
    const { left, items } = freeValues(op, ctx, inode, inline, pieces);
    encodeBlock(inline, items);
    if (items.some((one) => !isLocal(one))) return undefined;
    pieces = left;
  }
  const block = xattrBlockOf(op, inode);
  if (block !== undefined) {
    const left = isIndexed(block) ? wipeTree(op, ctx, inode, block.blkno, pieces) : wipeBlock(op, ctx, inode, block.blkno, pieces);
    if (left === undefined) return undefined;
    pieces = left;
    freeMeta(op, ctx, 'extent', claimOf(XattrBlock.at(op.read(lock, block.blkno, XATTR_BLOCK))));
    di.xattrLoc = 0;
  }
  di.dynFeatures &= ~(DYN.HAS_XATTR | DYN.INLINE_XATTR);
  return pieces;
}

/** Free outside values of a storage while `pieces` reach for a whole one: what is left of both. */
function freeValues(op: Op, ctx: FsContext, inode: InodeRef, storage: XattrStorage, pieces: number): { left: number; items: XattrItem[] } {
  const items = decodeEntries(storage);
  for (let i = items.length - 1; i >= 0 && pieces >= PIECES_OF_VALUE; i--) {
    if (isLocal(items[i])) continue;
    pieces -= freeValue(op, ctx, inode, { item: items[i], blkno: storage.block.blkno });
    items.splice(i, 1);
  }
  return { left: pieces, items };
}

function wipeBlock(op: Op, ctx: FsContext, inode: InodeRef, blkno: number, pieces: number): number | undefined {
  const storage = blockStorage(op.write(inode.lock, blkno, XATTR_BLOCK));
  const { left, items } = freeValues(op, ctx, inode, storage, pieces);
  encodeBlock(storage, items);
  return items.some((one) => !isLocal(one)) ? undefined : left;
}

function wipeTree(op: Op, ctx: FsContext, inode: InodeRef, blkno: number, pieces: number): number | undefined {
  const tree = xattrTree(inode.lock, blkno, op, ctx);
  for (const rec of recordsDown(op, tree)) {
    for (let i = bucketCount(op, ctx, tree, rec) - 1; i >= 0; i--) {
      const storage = readBucket(op, ctx, tree, rec, i);
      if (decodeEntries(storage).every(isLocal)) continue;
      const { left, items } = freeValues(op, ctx, inode, storage, pieces);
      rewriteBucket(op, ctx, tree.owner, storage, items);
      if (items.some((one) => !isLocal(one))) return undefined;
      pieces = left;
    }
    if (pieces === 0) return undefined;
    removeRange(op, ctx, tree, rec.cpos, rec.clusters, (start, clusters) => releaseClusters(op, ctx, start, clusters));
    pieces--;
  }
  return pieces;
}
