/** The inodes that share a refcount tree: who makes it, joins it and leaves it; rf_count says how many they are. */
import type { FsContext, InodeRef } from '../context.js';
import { badField } from '../format/block.js';
import { DYN } from '../format/constants.js';
import { REFCOUNT_BLOCK } from '../format/kinds.js';
import { RefcountBlock } from '../format/structs.js';
import { EX } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import { type RefTree, createRoot, freeRoot, openRefTree, rootBlock } from './tree.js';

/** Does the inode share a tree? */
export function hasRefTree({ di }: InodeRef): boolean {
  return (di.dynFeatures & DYN.HAS_REFCOUNT) !== 0;
}

/** The inode's tree; a new one if it has none. `inode` must be for change. */
export function ensureRefTree(op: Op, ctx: FsContext, inode: InodeRef): RefTree {
  if (hasRefTree(inode)) return openRefTree(op, ctx, inode, EX);
  const generation = ctx.nextGeneration;
  op.onApply(() => {
    ctx.nextGeneration = (generation + 1) >>> 0;
  });
  const tree = createRoot(op, ctx, generation);
  enter(inode, tree.root);
  return tree;
}

/** Make an inode without a tree one more user of this one. `inode` must be for change. */
export function joinRefTree(tree: RefTree, inode: InodeRef): void {
  const rb = RefcountBlock.at(tree.op.write(tree.lock, tree.root, REFCOUNT_BLOCK));
  rb.count++;
  enter(inode, tree.root);
}

/** The tree both inodes are in, or come to be in now. Both must be for change, and not in different trees. */
export function commonRefTree(op: Op, ctx: FsContext, source: InodeRef, target: InodeRef): RefTree {
  if (!hasRefTree(source) && hasRefTree(target)) {
    const tree = openRefTree(op, ctx, target, EX);
    joinRefTree(tree, source);
    return tree;
  }
  const tree = ensureRefTree(op, ctx, source);
  if (!hasRefTree(target)) joinRefTree(tree, target);
  return tree;
}

/** An inode that refers to no shared cluster leaves its tree; the last one frees it. `inode` must be for change. */
export function leaveRefTree(op: Op, ctx: FsContext, inode: InodeRef): void {
  const tree = openRefTree(op, ctx, inode, EX);
  const { count } = RefcountBlock.at(rootBlock(tree));
  if (count === 0) throw badField(rootBlock(tree), 'refcount_block', 'rf_count', 0, `counts nobody, but inode ${inode.blkno} uses the tree`);
  inode.di.dynFeatures &= ~DYN.HAS_REFCOUNT;
  inode.di.refcountLoc = 0;
  if (count === 1) freeRoot(tree);
  else RefcountBlock.at(op.write(tree.lock, tree.root, REFCOUNT_BLOCK)).count = count - 1;
}

function enter(inode: InodeRef, root: number): void {
  inode.di.dynFeatures |= DYN.HAS_REFCOUNT;
  inode.di.refcountLoc = root;
}
