/**
 * Paths from a tree's root to a leaf, and the upkeep of interior records along them.
 *
 * Invariants kept here (ondisk-format.md 5.2): an interior record starts at the first live record of its child and ends
 * where the next record starts, so the records of a list tile; the rightmost records of all levels end where the last
 * leaf record ends; only records on the leftmost path may start before the first leaf record.
 */
import { badField } from '../format/block.js';
import { MAX_TREE_DEPTH } from '../format/constants.js';
import { checkBlkno } from '../format/geometry.js';
import { EXTENT_BLOCK } from '../format/kinds.js';
import { ExtentList } from '../format/lists.js';
import { EB_LIST } from '../format/structs.js';
import type { Op } from '../txn/index.js';
import type { ExtentRec, TreeRoot } from './root.js';

/** Interior levels from the root down, then the leaf. */
export interface Path {
  /** Block of each level; [0] is the root block, the last one holds the leaf list. */
  readonly blocks: number[];
  /** Record followed in each interior level. */
  readonly index: number[];
}

/** Children read ahead of a walk from left to right. */
const READ_AHEAD = 64;

export function readList(op: Op, tree: TreeRoot, blkno: number): ExtentList {
  return blkno === tree.blkno ? tree.list() : new ExtentList(op.read(tree.owner, blkno, EXTENT_BLOCK), EB_LIST);
}

export function editList(op: Op, tree: TreeRoot, blkno: number): ExtentList {
  return blkno === tree.blkno ? tree.editList() : new ExtentList(op.write(tree.owner, blkno, EXTENT_BLOCK), EB_LIST);
}

export function leafBlock(path: Path): number {
  return path.blocks[path.blocks.length - 1];
}

/** Write leaf records from index `at` on; l_next_free_rec is the caller's. */
export function setRecords(list: ExtentList, at: number, recs: readonly ExtentRec[]): void {
  for (let i = 0; i < recs.length; i++) list.setLeaf(at + i, recs[i].cpos, recs[i].clusters, recs[i].blkno, recs[i].flags);
}

/** An empty record: only at index 0 of a leaf list. */
export function hasEmptyRecord(list: ExtentList): boolean {
  return list.depth === 0 && list.nextFree > 0 && list.clusters(0) === 0;
}

/** Index of the first live record of a leaf (its l_next_free_rec when there is none). */
export function firstLive(list: ExtentList): number {
  return hasEmptyRecord(list) ? 1 : 0;
}

/**
 * Put the empty record before the live ones. Only its length counts, but fsck.ocfs2 1.8.7 checks position and block of every
 * record and takes zeros for damage (EXTENT_BLKNO_RANGE): it repeats those of the first live record. Not its flags: a shared
 * extent met twice at one place ends fsck.ocfs2 with a failed assertion.
 */
export function addEmptyRecord(list: ExtentList): void {
  list.move(0, 1, list.nextFree);
  list.setLeaf(0, list.cpos(1), 0, list.blkno(1), 0);
  list.nextFree++;
}

/** Remove the empty record, if the leaf has one. */
export function dropEmptyRecord(list: ExtentList): boolean {
  if (!hasEmptyRecord(list)) return false;
  list.move(1, 0, list.nextFree - 1);
  list.nextFree--;
  list.clear(list.nextFree, 1);
  return true;
}

/** Last record in [from, nextFree) that starts at or before `cpos`, `from - 1` if none does. */
export function lastAtOrBefore(list: ExtentList, cpos: number, from: number): number {
  let lo = from, hi = list.nextFree;
  while (lo < hi) {
    const mid = (lo + hi) >>> 1;
    if (list.cpos(mid) <= cpos) lo = mid + 1;
    else hi = mid;
  }
  return lo - 1;
}

/** Path to the leaf whose range holds `cpos`. */
export function findPath(op: Op, tree: TreeRoot, cpos: number): Path {
  const path: Path = { blocks: [tree.blkno], index: [] };
  let list = tree.list();
  while (list.depth > 0) {
    const i = Math.max(0, lastAtOrBefore(list, cpos, 0));
    list = descend(op, tree, path, list, i);
  }
  return path;
}

/** Path to the leaf right of this one; undefined at the right edge. */
export function nextPath(op: Op, tree: TreeRoot, path: Path): Path | undefined {
  for (let level = path.index.length - 1; level >= 0; level--) {
    const list = readList(op, tree, path.blocks[level]);
    const i = path.index[level] + 1;
    if (i >= list.nextFree) continue;
    if (list.depth === 1) readAhead(op, tree, list, i);
    const next: Path = { blocks: path.blocks.slice(0, level + 1), index: path.index.slice(0, level) };
    let below = descend(op, tree, next, list, i);
    while (below.depth > 0) below = descend(op, tree, next, below, 0);
    return next;
  }
  return undefined;
}

/** Path to the rightmost leaf. */
export function lastPath(op: Op, tree: TreeRoot): Path {
  const path: Path = { blocks: [tree.blkno], index: [] };
  let list = tree.list();
  while (list.depth > 0) list = descend(op, tree, path, list, list.nextFree - 1);
  return path;
}

export function isRightmost(op: Op, tree: TreeRoot, path: Path): boolean {
  return path.index.every((i, level) => i === readList(op, tree, path.blocks[level]).nextFree - 1);
}

/** Before a walk to the right comes to child `from` of a list: if it is not there, ask for it and those after it at once. */
function readAhead(op: Op, tree: TreeRoot, list: ExtentList, from: number): void {
  const first = childBlock(tree, list, from);
  if (op.overlay.has(first) || op.cache.get(first, EXTENT_BLOCK, tree.owner.name) !== undefined) return;
  const blocks: number[] = [];
  for (let i = from; i < list.nextFree && blocks.length < READ_AHEAD; i++) blocks.push(childBlock(tree, list, i));
  op.prefetch(tree.owner, blocks, EXTENT_BLOCK);
}

/** Follow record `i` of `list`: extends the path, returns the child's list after checking it against its parent. */
function descend(op: Op, tree: TreeRoot, path: Path, list: ExtentList, i: number): ExtentList {
  const blkno = childBlock(tree, list, i);
  const below = readList(op, tree, blkno);
  if (below.depth !== list.depth - 1) throw badField(below.block, 'extent_block.h_list', 'l_tree_depth', below.depth, `should be ${list.depth - 1} below block ${list.block.blkno}`);
  if (below.depth > 0 && below.nextFree === 0) throw badField(below.block, 'extent_block.h_list', 'l_next_free_rec', 0, 'leaves an interior block without records');
  path.index.push(i);
  path.blocks.push(blkno);
  return below;
}

function childBlock(tree: TreeRoot, list: ExtentList, i: number): number {
  const structure = list.block.blkno === tree.blkno ? tree.rules.structure : 'extent_block.h_list';
  if (i < 0 || i >= list.nextFree) throw badField(list.block, structure, 'l_next_free_rec', list.nextFree, 'leaves an interior list without records');
  const blkno = list.blkno(i);
  if (list.depth >= MAX_TREE_DEPTH || blkno === tree.blkno) throw badField(list.block, structure, `rec[${i}].e_blkno`, blkno, 'is no child of this list');
  checkBlkno(tree.geo, blkno, structure, `rec[${i}].e_blkno`, list.block);
  return blkno;
}

/**
 * Make the interior records agree with where the path's leaf now starts: the record that holds the leaf's subtree and
 * all below it start there, its left neighbour and that one's rightmost descendants end there.
 */
export function fixStart(op: Op, tree: TreeRoot, path: Path): void {
  const leaf = readList(op, tree, leafBlock(path));
  const first = firstLive(leaf);
  if (path.index.length === 0 || first >= leaf.nextFree) return;
  const start = leaf.cpos(first);
  // The lowest list in which the leaf's subtree has a left neighbour; -1 on the leftmost path.
  let pivot = path.index.length - 1;
  while (pivot >= 0 && path.index[pivot] === 0) pivot--;
  for (let level = path.index.length - 1; level >= Math.max(0, pivot); level--) {
    const list = readList(op, tree, path.blocks[level]);
    const i = path.index[level];
    if (pivot < 0 ? list.cpos(i) <= start : list.cpos(i) === start) continue;
    const end = Math.max(list.end(i), start);
    editList(op, tree, path.blocks[level]).setInterior(i, start, end - start, list.blkno(i));
  }
  if (pivot < 0) return;
  const left: Path = { blocks: [path.blocks[pivot]], index: [] };
  let list = readList(op, tree, left.blocks[0]);
  let i = path.index[pivot] - 1;
  while (list.depth > 0) {
    if (list.end(i) !== start) {
      if (list.cpos(i) > start) throw badField(list.block, tree.rules.structure, `rec[${i}].e_cpos`, list.cpos(i), `lies after its right neighbour, which starts at ${start}`);
      editList(op, tree, list.block.blkno).setClusters(i, start - list.cpos(i));
    }
    if (list.depth === 1) return;
    list = descend(op, tree, left, list, i);
    i = list.nextFree - 1;
  }
}

/** Make the last records of all levels end where the last leaf record ends. `path` must be the rightmost. */
export function fixEnd(op: Op, tree: TreeRoot, path: Path): void {
  const leaf = readList(op, tree, leafBlock(path));
  if (path.index.length === 0 || leaf.nextFree === firstLive(leaf)) return;
  const end = leaf.end(leaf.nextFree - 1);
  for (let level = 0; level < path.index.length; level++) {
    const list = readList(op, tree, path.blocks[level]);
    const i = path.index[level];
    if (list.end(i) !== end) editList(op, tree, path.blocks[level]).setClusters(i, end - list.cpos(i));
  }
}
