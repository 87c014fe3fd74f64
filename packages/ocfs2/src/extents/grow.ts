/**
 * Trees get and lose leaves at their right edge only: a new rightmost leaf hangs on the lowest list of the rightmost path
 * that has a free record, or the root's list moves into an extent block first (one level more). So all but the rightmost
 * blocks of a level are always full. (Linux 6.1 fs/ocfs2/alloc.c:ocfs2_grow_tree, ocfs2_shift_tree_depth, ocfs2_add_branch,
 * ocfs2_unlink_subtree; ondisk-format.md 5.4, 5.6.)
 */
import { InternalError, UsageError } from '@lunfs/device';
import { claimMeta, claimOf, freeMeta, stampMeta } from '../alloc/suballoc.js';
import type { FsContext } from '../context.js';
import { MAX_TREE_DEPTH, SIG } from '../format/constants.js';
import { capacity } from '../format/geometry.js';
import { EXTENT_BLOCK } from '../format/kinds.js';
import { ExtentList } from '../format/lists.js';
import { EB_LIST, ExtentBlock } from '../format/structs.js';
import type { Op } from '../txn/index.js';
import { type Path, dropEmptyRecord, editList, fixEnd, fixStart, lastPath, leafBlock, readList, setRecords } from './path.js';
import type { ExtentRec, TreeRoot } from './root.js';

/** Add a leaf right of all others that holds `recs` (at least one, sorted, beyond every record of the tree). The rightmost leaf must be full. */
export function appendLeaf(op: Op, ctx: FsContext, tree: TreeRoot, recs: readonly ExtentRec[]): void {
  let path = lastPath(op, tree);
  let level = lowestWithRoom(op, tree, path);
  if (level < 0) {
    shiftDepth(op, ctx, tree);
    path = lastPath(op, tree);
    level = lowestWithRoom(op, tree, path);
  }
  const start = recs[0].cpos;
  const end = recs[recs.length - 1].cpos + recs[recs.length - 1].clusters;
  const leaf = newExtentBlock(op, ctx, tree, 0);
  if (recs.length > leaf.count) throw new InternalError('LEAF_OVERFLOW', `${recs.length} records for one new leaf`);
  setRecords(leaf, 0, recs);
  leaf.nextFree = recs.length;
  let child = leaf.block.blkno;
  for (let depth = 1; depth < path.index.length - level; depth++) {
    const list = newExtentBlock(op, ctx, tree, depth);
    list.setInterior(0, start, end - start, child);
    list.nextFree = 1;
    child = list.block.blkno;
  }
  const target = editList(op, tree, path.blocks[level]);
  target.setInterior(target.nextFree, start, end - start, child);
  target.nextFree++;
  ExtentBlock.at(op.write(tree.owner, leafBlock(path), EXTENT_BLOCK)).nextLeafBlk = leaf.block.blkno;
  tree.lastEb = leaf.block.blkno;
  const added = lastPath(op, tree);
  fixStart(op, tree, added);
  fixEnd(op, tree, added);
}

/** The root list, a full leaf so far, becomes an extent block, which has more room. Returns the path to it. */
export function moveRootIntoLeaf(op: Op, ctx: FsContext, tree: TreeRoot): Path {
  shiftDepth(op, ctx, tree);
  return lastPath(op, tree);
}

/** Remove the rightmost leaf, which holds no live record any more, with the interior blocks that existed for it alone. */
export function unlinkLastLeaf(op: Op, ctx: FsContext, tree: TreeRoot, path: Path): void {
  let level = path.index.length - 1;
  for (; level >= 0; level--) {
    freeExtentBlock(op, ctx, tree, path.blocks[level + 1]);
    const list = editList(op, tree, path.blocks[level]);
    list.nextFree--;
    list.clear(list.nextFree, 1);
    if (list.nextFree > 0) break;
  }
  if (level < 0) {
    tree.editList().depth = 0;
    tree.lastEb = 0;
    return;
  }
  const last = lastPath(op, tree);
  const leaf = leafBlock(last);
  ExtentBlock.at(op.write(tree.owner, leaf, EXTENT_BLOCK)).nextLeafBlk = 0;
  tree.lastEb = leaf;
  // An empty record only keeps a place in leaves that must be full; the rightmost need not be.
  dropEmptyRecord(editList(op, tree, leaf));
  fixEnd(op, tree, last);
}

/** Lowest interior level of the path whose list has a free record, -1 if all are full. */
function lowestWithRoom(op: Op, tree: TreeRoot, path: Path): number {
  let level = path.index.length - 1;
  for (; level >= 0; level--) {
    const list = readList(op, tree, path.blocks[level]);
    if (list.nextFree < list.count) break;
  }
  return level;
}

/** One level more: the root's list moves into a new extent block, whose only record the root keeps. */
function shiftDepth(op: Op, ctx: FsContext, tree: TreeRoot): void {
  const old = tree.list();
  if (old.depth + 1 >= MAX_TREE_DEPTH) {
    throw new UsageError('TREE_FULL', 'ENOSPC', `${tree.geo.device}: the extent tree in block ${tree.blkno} cannot grow deeper than ${MAX_TREE_DEPTH - 1} levels; copy the file, so that it gets larger extents`, { block: tree.blkno });
  }
  const list = newExtentBlock(op, ctx, tree, old.depth);
  const root = tree.editList();
  const used = root.nextFree;
  list.block.bytes.set(root.block.bytes.subarray(root.at(0), root.at(used)), list.at(0));
  list.nextFree = used;
  root.clear(0, used);
  root.depth++;
  root.nextFree = 1;
  // The leftmost record starts at 0 even if the first extent starts later: lookups of a smaller cpos must end here, not in the last record.
  root.setInterior(0, 0, list.end(used - 1), list.block.blkno);
  if (root.depth === 1) tree.lastEb = list.block.blkno;
}

/** A new, empty extent block of that depth. */
function newExtentBlock(op: Op, ctx: FsContext, tree: TreeRoot, depth: number): ExtentList {
  const claim = claimMeta(op, ctx, 'extent');
  const block = op.create(tree.owner, claim.blkno, EXTENT_BLOCK);
  stampMeta(ctx, ExtentBlock.at(block), SIG.extentBlock, claim);
  const list = new ExtentList(block, EB_LIST);
  list.depth = depth;
  list.count = capacity.extentBlock(tree.geo.blockSize);
  return list;
}

function freeExtentBlock(op: Op, ctx: FsContext, tree: TreeRoot, blkno: number): void {
  freeMeta(op, ctx, 'extent', claimOf(ExtentBlock.at(op.read(tree.owner, blkno, EXTENT_BLOCK))));
}
