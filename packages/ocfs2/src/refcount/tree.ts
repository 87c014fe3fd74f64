/**
 * One refcount tree in one operation: how often each physical cluster is referred to by the inodes that share the tree
 * (ondisk-format.md 7.4; Linux 6.1 fs/ocfs2/refcounttree.c).
 *
 * The root block holds the records while they fit. Then it roots an extent tree whose records are keys (lowest cluster,
 * 1 "cluster", block) of leaf blocks that hold them; a full leaf is split in the middle, an empty one leaves the tree, and
 * with the last of them the root holds records again. A leaf's rf_cpos always equals its key: the kernel finds the key of
 * a leaf by it.
 *
 * The lock (type T) is named by the root's block and rf_generation. It ranks after inodes, before allocators. All blocks of
 * the tree belong to it.
 */
import { type MetaClaim, claimMeta, claimOf, freeMeta, releaseClusters, stampMeta } from '../alloc/index.js';
import type { FsContext, InodeRef } from '../context.js';
import { type ExtentRec, type TreeRoot, insert, lastBefore, lookup, moveFirst, refcountTree, removeRange, walk } from '../extents/index.js';
import { type Block, badField } from '../format/block.js';
import { SIG } from '../format/constants.js';
import { capacity } from '../format/geometry.js';
import { REFCOUNT_BLOCK } from '../format/kinds.js';
import { ExtentList, RefcountRecList } from '../format/lists.js';
import { REFCOUNT_LEAF, REFCOUNT_LIST, REFCOUNT_TREE, RefcountBlock } from '../format/structs.js';
import { EX, type LockLevel, RANK, lockName } from '../locking/levels.js';
import type { MetaLock, Op } from '../txn/index.js';
import { leaveAlone } from './pending.js';
import { type Counted, firstAfter, fits, recordAt, setCount, splitRecords } from './records.js';

/** A tree that an operation holds. */
export interface RefTree {
  readonly op: Op;
  readonly ctx: FsContext;
  /** Root block. */
  readonly root: number;
  readonly lock: MetaLock;
}

/** Lowest cluster beyond every volume. */
const END = 0x1_0000_0000;

function refcountLock(op: Op, root: number, generation: number, level: LockLevel): MetaLock {
  return op.lock(lockName('T', root, generation), level, RANK.refcount);
}

/**
 * Lock the tree that an inode shares. Its lock's name holds the generation, which is read before the lock is held: that is
 * safe, since it does not change as long as the inode, whose lock is held, is in the tree. What an earlier tree in the same
 * block has left in the cache counts nobody if we freed it, else it shows another generation once it is read under the
 * lock (refcounttree.c:ocfs2_lock_refcount_tree).
 */
export function openRefTree(op: Op, ctx: FsContext, inode: InodeRef, level: LockLevel): RefTree {
  const root = inode.di.refcountLoc;
  if (root <= 2 || root >= ctx.totalClusters * ctx.geo.bpc) throw badField(inode.block, 'dinode', 'i_refcount_loc', root, 'is no block of the volume');
  const cached = op.overlay.get(root) ?? op.cache.peek(root);
  const known = cached?.kind === REFCOUNT_BLOCK && RefcountBlock.at(cached.block).count > 0;
  const { generation } = RefcountBlock.at(known ? cached.block : op.read(inode.lock, root, REFCOUNT_BLOCK));
  const lock = refcountLock(op, root, generation, level);
  const rb = RefcountBlock.at(op.read(lock, root, REFCOUNT_BLOCK));
  if (rb.generation !== generation) op.after('refcount tree made anew', () => Promise.resolve());
  if (rb.flags & REFCOUNT_LEAF) throw badField(rb.block, 'refcount_block', 'rf_flags', rb.flags, `is a leaf, but inode ${inode.blkno} has it as its root`);
  return { op, ctx, root, lock };
}

/** The record that counts `cluster`. Throws a corruption error if none does: somebody refers to it as shared. */
export function countOf(tree: RefTree, cluster: number): Counted {
  const { leaf } = leafOf(tree, cluster);
  const found = find(tree, leaf, cluster);
  if (found === undefined) throw badField(leaf, 'refcount_block', 'rf_records', cluster, `is a shared cluster that the refcount tree in block ${tree.root} does not count`);
  return found;
}

/** `times` more extents refer to clusters [start, start + len). */
export function addRefs(tree: RefTree, start: number, len: number, times = 1): void {
  for (let at = start; at < start + len; ) {
    const { leaf, end } = leafOf(tree, at);
    const found = find(tree, leaf, at);
    const list = new RefcountRecList(leaf);
    const next = firstAfter(list, at);
    const stop = Math.min(start + len, end, found !== undefined ? found.start + found.clusters : next < list.used ? list.cpos(next) : END);
    change(tree, leaf.blkno, at, stop - at, (found?.count ?? 0) + times);
    at = stop;
  }
}

/**
 * One extent less refers to clusters [start, start + len). `last`: where nobody is left the clusters are released; else
 * that last user keeps them, no longer shared.
 */
export function dropRefs(tree: RefTree, start: number, len: number, last: 'release' | 'keep'): void {
  const { op, ctx } = tree;
  for (let at = start; at < start + len; ) {
    const found = countOf(tree, at);
    const n = Math.min(start + len, found.start + found.clusters) - at;
    const { leaf } = leafOf(tree, at);
    change(tree, leaf.blkno, at, n, found.count - 1);
    if (found.count === 1 && last === 'release') releaseClusters(op, ctx, at, n);
    if (found.count === 2) leaveAlone(op, ctx, at, n);
    at += n;
  }
}

/** A new tree with one user, its records in the root. The inode must be for change. */
export function createRoot(op: Op, ctx: FsContext, generation: number): RefTree {
  const claim = claimMeta(op, ctx, 'extent');
  const lock = refcountLock(op, claim.blkno, generation, EX);
  Object.assign(RefcountBlock.at(newBlock({ op, ctx, lock }, claim)), { count: 1, generation });
  return { op, ctx, root: claim.blkno, lock };
}

/** A block just claimed, without records. */
function newBlock({ op, ctx, lock }: Omit<RefTree, 'root'>, claim: MetaClaim): Block {
  const block = op.create(lock, claim.blkno, REFCOUNT_BLOCK);
  stampMeta(ctx, RefcountBlock.at(block), SIG.refcount, claim);
  new RefcountRecList(block).count = capacity.refcount(ctx.geo.blockSize);
  return block;
}

/** Free the root, which holds nothing any more. It is left counting nobody (see `openRefTree`). */
export function freeRoot(tree: RefTree): void {
  const rb = RefcountBlock.at(tree.op.write(tree.lock, tree.root, REFCOUNT_BLOCK));
  rb.count = 0;
  const used = rb.flags & REFCOUNT_TREE ? 1 : new RefcountRecList(rb.block).used;
  if (used > 0) throw badField(rb.block, 'refcount_block', 'rf_records', used, 'are left, but nobody uses the tree');
  freeBlock(tree, rb.block);
}

export function rootBlock({ op, lock, root }: RefTree): Block {
  return op.read(lock, root, REFCOUNT_BLOCK);
}

function isTree(tree: RefTree): boolean {
  return (RefcountBlock.at(rootBlock(tree)).flags & REFCOUNT_TREE) !== 0;
}

function keys({ op, ctx, lock, root }: RefTree): TreeRoot {
  return refcountTree(lock, root, op, ctx);
}

/** The block whose records may cover `cluster`, and where its range ends. */
function leafOf(tree: RefTree, cluster: number): { leaf: Block; end: number } {
  const { op, ctx, lock } = tree;
  if (cluster < 1 || cluster >= ctx.totalClusters) throw badField(rootBlock(tree), 'refcount_block', 'rf_records', cluster, `is asked for; the volume has ${ctx.totalClusters} clusters`);
  if (!isTree(tree)) return { leaf: rootBlock(tree), end: END };
  const index = keys(tree);
  const key: ExtentRec | undefined = lastBefore(op, index, cluster + 1) ?? walk(op, index).next().value ?? undefined;
  if (key === undefined) throw badField(rootBlock(tree), 'refcount_block', 'rf_list.l_next_free_rec', 0, 'is a tree without leaves');
  const after = lookup(op, index, key.cpos + 1);
  const leaf = op.read(lock, key.blkno, REFCOUNT_BLOCK);
  const rb = RefcountBlock.at(leaf);
  if (!(rb.flags & REFCOUNT_LEAF)) throw badField(leaf, 'refcount_block', 'rf_flags', rb.flags, 'is no leaf');
  if (rb.parent !== tree.root) throw badField(leaf, 'refcount_block', 'rf_parent', rb.parent, `is not its root ${tree.root}`);
  if (rb.cpos !== key.cpos) throw badField(leaf, 'refcount_block', 'rf_cpos', rb.cpos, `is not its key ${key.cpos}`);
  return { leaf, end: after.hole ? Math.min(END, after.cpos + after.clusters) : after.cpos };
}

/** The record of a block that covers `cluster`. */
function find({ ctx }: RefTree, block: Block, cluster: number): Counted | undefined {
  const list = new RefcountRecList(block);
  const i = firstAfter(list, cluster);
  return i < list.used && list.cpos(i) <= cluster ? recordAt(ctx.totalClusters, list, i) : undefined;
}

/** Set a count in block `blkno`, which is split first if it has no room, and leaves the tree if nothing is left in it. */
function change(tree: RefTree, blkno: number, start: number, len: number, count: number): void {
  const { op, ctx, lock } = tree;
  let block = op.read(lock, blkno, REFCOUNT_BLOCK);
  if (!fits(ctx.totalClusters, block, start, len, count)) {
    split(tree, blkno === tree.root ? moveIntoLeaf(tree) : blkno);
    block = leafOf(tree, start).leaf;
  }
  block = op.write(lock, block.blkno, REFCOUNT_BLOCK);
  setCount(ctx.totalClusters, block, start, len, count);
  if (block.blkno === tree.root) return;
  const list = new RefcountRecList(block), rb = RefcountBlock.at(block);
  if (list.used === 0) return removeLeaf(tree, block);
  if (list.cpos(0) < rb.cpos) {
    moveFirst(op, keys(tree), rb.cpos, list.cpos(0));
    rb.cpos = list.cpos(0);
  }
}

/** The root's records go to a leaf, the first of a tree (refcounttree.c:ocfs2_expand_inline_ref_root). */
function moveIntoLeaf(tree: RefTree): number {
  const { op, ctx, lock } = tree;
  const root = op.write(lock, tree.root, REFCOUNT_BLOCK);
  const leaf = newLeaf(tree, 0);
  leaf.bytes.set(root.bytes.subarray(REFCOUNT_LIST), REFCOUNT_LIST);
  root.bytes.fill(0, REFCOUNT_LIST);
  const rb = RefcountBlock.at(root);
  rb.flags = REFCOUNT_TREE;
  rb.clusters = 0;
  rb.lastEbBlk = 0;
  new ExtentList(root, REFCOUNT_LIST).count = capacity.refcount(ctx.geo.blockSize);
  insert(op, ctx, keys(tree), { cpos: 0, clusters: 1, blkno: leaf.blkno, flags: 0 });
  return leaf.blkno;
}

/** Halve a full leaf (refcounttree.c:ocfs2_new_leaf_refcount_block). */
function split(tree: RefTree, blkno: number): void {
  const { op, ctx, lock } = tree;
  const lower = op.write(lock, blkno, REFCOUNT_BLOCK);
  const upper = newLeaf(tree, 0);
  const cpos = splitRecords(lower, upper);
  RefcountBlock.at(upper).cpos = cpos;
  insert(op, ctx, keys(tree), { cpos, clusters: 1, blkno: upper.blkno, flags: 0 });
}

function newLeaf(tree: RefTree, cpos: number): Block {
  const block = newBlock(tree, claimMeta(tree.op, tree.ctx, 'extent'));
  Object.assign(RefcountBlock.at(block), { parent: tree.root, flags: REFCOUNT_LEAF, cpos, generation: RefcountBlock.at(rootBlock(tree)).generation });
  return block;
}

/** Take an empty leaf out of the tree; without leaves the root holds records again (refcounttree.c:ocfs2_remove_refcount_extent). */
function removeLeaf(tree: RefTree, leaf: Block): void {
  const { op, ctx, lock } = tree;
  removeRange(op, ctx, keys(tree), RefcountBlock.at(leaf).cpos, 1, () => undefined);
  freeBlock(tree, leaf);
  const root = op.write(lock, tree.root, REFCOUNT_BLOCK);
  if (new ExtentList(root, REFCOUNT_LIST).nextFree > 0) return;
  root.bytes.fill(0, REFCOUNT_LIST);
  Object.assign(RefcountBlock.at(root), { flags: 0, parent: 0, cpos: 0, clusters: 0, lastEbBlk: 0 });
  new RefcountRecList(root).count = capacity.refcount(ctx.geo.blockSize);
}

function freeBlock({ op, ctx }: RefTree, block: Block): void {
  freeMeta(op, ctx, 'extent', claimOf(RefcountBlock.at(block)));
}
