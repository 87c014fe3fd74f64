/**
 * The index of a directory (ondisk-format.md 6.5-6.8): hashes of names and the directory blocks they are in. The root
 * holds the entries itself while they are few (inline); later clusters of leaf blocks hold them, found by the major
 * hash in a tree of extents and by the minor hash within a cluster.
 *
 * Directory blocks with room for another entry form a list from dr_free_blk over db_free_next.
 */
import { UsageError } from '@lunfs/device';
import { badField } from '../format/block.js';
import { DYN, SIG } from '../format/constants.js';
import { type DxHash, dirHash } from '../format/dirhash.js';
import { type Geometry, capacity, checkBlkno } from '../format/geometry.js';
import { DX_LEAF, DX_ROOT, EXTENT_BLOCK } from '../format/kinds.js';
import { DxEntryList, ExtentList } from '../format/lists.js';
import { DX_INLINE, DX_LEAF_LIST, DX_ROOT_LIST, DxLeaf, DxRoot, type DxRootView, EB_LIST } from '../format/structs.js';
import type { FsContext, InodeRef } from '../context.js';
import type { Op } from '../txn/index.js';
import { claimMeta, claimOf, freeMeta, releaseClusters, stampMeta } from '../alloc/index.js';
import { dxTree, insert, lookup, removeRange, treeEnd } from '../extents/index.js';
import { type Area, type DirTarget, dropEntry, findName, findRoom, largestHole, liveEntries, nameAt, putEntry, recLenFor } from './dirent.js';
import { type Slot, appendBlock, areaAt, blockCount, claimDirCluster, editAreaAt, trailerOf } from './linear.js';

/** Most entries of an index (Linux 6.1 fs/ocfs2/ocfs2_fs.h:OCFS2_DX_ENTRIES_MAX). */
const DX_ENTRIES_MAX = 0xffffffff;

/** Where an index entry is: the root or leaf block's list, and its place in it. */
interface IndexSlot extends Slot {
  readonly listBlkno: number;
  readonly index: number;
}

function hashOf(geo: Geometry, name: Uint8Array, unsignedChars = false): DxHash {
  return dirHash(name, geo.dxSeed[0], geo.dxSeed[1], unsignedChars);
}

/** The index root, checked to belong to this directory. */
function readRoot(op: Op, ctx: FsContext, dir: InodeRef): DxRootView {
  checkBlkno(ctx.geo, dir.di.dxRoot, 'dinode', 'i_dx_root', dir.block);
  return ownRoot(dir, DxRoot.at(op.read(dir.lock, dir.di.dxRoot, DX_ROOT)));
}

function editRoot(op: Op, ctx: FsContext, dir: InodeRef): DxRootView {
  checkBlkno(ctx.geo, dir.di.dxRoot, 'dinode', 'i_dx_root', dir.block);
  return ownRoot(dir, DxRoot.at(op.write(dir.lock, dir.di.dxRoot, DX_ROOT)));
}

function ownRoot(dir: InodeRef, root: DxRootView): DxRootView {
  if (root.dirBlkno !== dir.blkno) throw badField(root.block, 'dx_root', 'dr_dir_blkno', root.dirBlkno, `should be ${dir.blkno}`);
  return root;
}

function isInlineRoot(root: DxRootView): boolean {
  return (root.flags & DX_INLINE) !== 0;
}

/** The list of a root (inline) or leaf block. */
function listOf(op: Op, dir: InodeRef, root: DxRootView, blkno: number): DxEntryList {
  return blkno === root.blkno ? new DxEntryList(root.block, DX_ROOT_LIST) : new DxEntryList(op.read(dir.lock, blkno, DX_LEAF), DX_LEAF_LIST);
}

function editListOf(op: Op, dir: InodeRef, root: DxRootView, blkno: number): DxEntryList {
  return blkno === root.blkno ? new DxEntryList(root.block, DX_ROOT_LIST) : new DxEntryList(op.write(dir.lock, blkno, DX_LEAF), DX_LEAF_LIST);
}

/** A cluster of the index: the hash it starts at and its first block. */
interface LeafCluster {
  readonly cpos: number;
  readonly blkno: number;
}

/**
 * The cluster that holds a major hash: of the last record that starts at or below it, the cluster as far in as the hash
 * reaches (dir.c:ocfs2_dx_dir_lookup). Hashes between two records belong to the last cluster of the lower one.
 */
function clusterOf(op: Op, ctx: FsContext, dir: InodeRef, root: DxRootView, major: number): LeafCluster {
  const { geo } = ctx;
  let list = new ExtentList(root.block, DX_ROOT_LIST);
  while (true) {
    let i = list.nextFree - 1;
    while (i >= 0 && list.cpos(i) > major) i--;
    if (i < 0 || list.clusters(i) === 0) throw badField(list.block, 'dx extent_list', 'rec[0].e_cpos', list.nextFree > 0 ? list.cpos(0) : 'none', `leaves no place for hash ${major}`);
    const blkno = list.blkno(i);
    checkBlkno(geo, blkno, 'dx extent_list', `rec[${i}].e_blkno`, list.block);
    if (list.depth === 0) {
      const step = Math.min(major - list.cpos(i), list.clusters(i) - 1);
      return { cpos: list.cpos(i) + step, blkno: blkno + step * geo.bpc };
    }
    const below = new ExtentList(op.read(dir.lock, blkno, EXTENT_BLOCK), EB_LIST);
    if (below.depth !== list.depth - 1) throw badField(below.block, 'extent_block.h_list', 'l_tree_depth', below.depth, `should be ${list.depth - 1}`);
    list = below;
  }
}

/** Block (root or leaf) whose list holds a hash. */
function listBlock(op: Op, ctx: FsContext, dir: InodeRef, root: DxRootView, hash: DxHash): number {
  if (isInlineRoot(root)) return root.blkno;
  return clusterOf(op, ctx, dir, root, hash.major).blkno + (hash.minor & (ctx.geo.bpc - 1));
}

/** Find a name by the index. */
export function findIndexed(op: Op, ctx: FsContext, dir: InodeRef, name: Uint8Array): IndexSlot | undefined {
  const root = readRoot(op, ctx, dir);
  const found = findHash(op, ctx, dir, root, name, hashOf(ctx.geo, name));
  // Kernels whose char is unsigned hash bytes beyond ASCII differently.
  if (found !== undefined || name.every((c) => c < 0x80)) return found;
  return findHash(op, ctx, dir, root, name, hashOf(ctx.geo, name, true));
}

function findHash(op: Op, ctx: FsContext, dir: InodeRef, root: DxRootView, name: Uint8Array, { major, minor }: DxHash): IndexSlot | undefined {
  const listBlkno = listBlock(op, ctx, dir, root, { major, minor });
  const list = listOf(op, dir, root, listBlkno);
  for (let index = 0, used = list.used; index < used; index++) {
    if (list.major(index) !== major || list.minor(index) !== minor) continue;
    const blkno = list.direntBlk(index);
    checkBlkno(ctx.geo, blkno, 'dx_entry_list', `entry[${index}].dx_dirent_blk`, list.block);
    const off = findName(areaAt(op, ctx, dir, blkno), name);
    if (off >= 0) return { blkno, off, listBlkno, index };
  }
  return undefined;
}

/** Live entries as the index counts them, `.` and `..` included. */
export function indexedCount(op: Op, ctx: FsContext, dir: InodeRef): number {
  return readRoot(op, ctx, dir).numEntries;
}

/** Add an entry to a directory block with room and to the index. The name must not be there yet. */
export function addIndexed(op: Op, ctx: FsContext, dir: InodeRef, name: Uint8Array, target: DirTarget): void {
  const root = editRoot(op, ctx, dir);
  if (root.numEntries === DX_ENTRIES_MAX) throw indexFull(ctx, dir);
  const hash = hashOf(ctx.geo, name);
  const list = listWithRoom(op, ctx, dir, root, hash);
  const { area, before } = blockWithRoom(op, ctx, dir, root, name.length);
  const off = findRoom(area, name.length);
  if (off < 0) throw badField(area.block, 'dir_block_trailer', 'db_free_rec_len', trailerOf(area).freeRecLen, 'is more than the block has');
  putEntry(area, off, name, target);
  append(list, hash, area.block.blkno);
  root.numEntries++;
  const trailer = trailerOf(area);
  trailer.freeRecLen = largestHole(area);
  if (trailer.freeRecLen === 0) {
    if (before === undefined) root.freeBlk = trailer.freeNext;
    else trailerOf(editAreaAt(op, ctx, dir, before)).freeNext = trailer.freeNext;
    trailer.freeNext = 0;
  }
}

/** Remove an entry from its directory block and from the index. */
export function removeIndexed(op: Op, ctx: FsContext, dir: InodeRef, slot: IndexSlot): void {
  const root = editRoot(op, ctx, dir);
  if (root.numEntries === 0) throw badField(root.block, 'dx_root', 'dr_num_entries', 0, 'is too few');
  const area = editAreaAt(op, ctx, dir, slot.blkno);
  const trailer = trailerOf(area);
  const wasFull = trailer.freeRecLen === 0;
  dropEntry(area, slot.off);
  trailer.freeRecLen = largestHole(area);
  if (wasFull) linkFree(root, area);
  root.numEntries--;
  editListOf(op, dir, root, slot.listBlkno).remove(slot.index);
}

/** Put a directory block at the head of the free list. */
function linkFree(root: DxRootView, area: Area): void {
  trailerOf(area).freeNext = root.freeBlk;
  root.freeBlk = area.block.blkno;
}

function append(list: DxEntryList, { major, minor }: DxHash, blkno: number): void {
  const n = list.used;
  list.set(n, major, minor, blkno);
  list.used = n + 1;
}

/** The first block of the free list with room for the name, or a new one; and the block before it in the list. */
function blockWithRoom(op: Op, ctx: FsContext, dir: InodeRef, root: DxRootView, nameLen: number): { area: Area; before?: number } {
  const need = recLenFor(nameLen);
  let before: number | undefined;
  let steps = blockCount(ctx.geo, dir);
  for (let blkno = root.freeBlk; blkno !== 0; ) {
    checkBlkno(ctx.geo, blkno, 'free list of dx_root', 'blkno', root.block);
    if (steps-- === 0) throw badField(root.block, 'dx_root', 'dr_free_blk', root.freeBlk, 'starts a list that runs in a circle');
    const trailer = trailerOf(areaAt(op, ctx, dir, blkno));
    if (trailer.freeRecLen >= need) return { area: editAreaAt(op, ctx, dir, blkno), before };
    before = blkno;
    blkno = trailer.freeNext;
  }
  const area = appendBlock(op, ctx, dir);
  linkFree(root, area);
  return { area };
}

/** The list for a hash, for change, with room for one more entry; the index grows for it. */
function listWithRoom(op: Op, ctx: FsContext, dir: InodeRef, root: DxRootView, hash: DxHash): DxEntryList {
  if (isInlineRoot(root)) {
    const list = new DxEntryList(root.block, DX_ROOT_LIST);
    if (list.used < list.count) return list;
    expandRoot(op, ctx, dir, root);
  }
  for (let split = false; ; split = true) {
    const cluster = clusterOf(op, ctx, dir, root, hash.major);
    const list = editListOf(op, dir, root, cluster.blkno + (hash.minor & (ctx.geo.bpc - 1)));
    if (list.used < list.count) return list;
    if (split) throw indexFull(ctx, dir);
    splitCluster(op, ctx, dir, root, cluster, list, hash.major);
  }
}

function indexFull(ctx: FsContext, dir: InodeRef): UsageError {
  return new UsageError('DIR_INDEX_FULL', 'ENOSPC', `${ctx.geo.device}: the index of directory ${dir.blkno} has no room for this name; choose another name or another directory`, { device: ctx.geo.device, block: dir.blkno });
}

/** A cluster of empty leaves. */
function newCluster(op: Op, ctx: FsContext, dir: InodeRef): DxEntryList[] {
  const { geo } = ctx;
  const first = claimDirCluster(op, ctx) * geo.bpc;
  return Array.from({ length: geo.bpc }, (_, i) => {
    const block = op.create(dir.lock, first + i, DX_LEAF);
    const leaf = DxLeaf.at(block);
    leaf.signature = SIG.dxLeaf;
    leaf.blkno = first + i;
    leaf.fsGeneration = geo.fsGeneration;
    const list = new DxEntryList(block, DX_LEAF_LIST);
    list.count = capacity.dxLeafEntries(geo.blockSize);
    return list;
  });
}

/** Move the entries of an inline root into a first cluster of leaves (dir.c:ocfs2_expand_inline_dx_root). */
function expandRoot(op: Op, ctx: FsContext, dir: InodeRef, root: DxRootView): void {
  const { geo } = ctx;
  const leaves = newCluster(op, ctx, dir);
  const old = new DxEntryList(root.block, DX_ROOT_LIST);
  for (let i = 0, used = old.used; i < used; i++) {
    append(leaves[old.minor(i) & (geo.bpc - 1)], { major: old.major(i), minor: old.minor(i) }, old.direntBlk(i));
  }
  makeTree(op, ctx, dir, root, leaves[0].block.blkno);
}

/** Make a root the root of a tree whose one cluster starts at `first`. */
function makeTree(op: Op, ctx: FsContext, dir: InodeRef, root: DxRootView, first: number): void {
  root.flags &= ~DX_INLINE;
  root.block.bytes.fill(0, DX_ROOT_LIST);
  new ExtentList(root.block, DX_ROOT_LIST).count = capacity.dxRootExtents(ctx.geo.blockSize);
  insert(op, ctx, dxTree(dir.lock, root.blkno, op, ctx), { cpos: 0, clusters: 1, blkno: first, flags: 0 });
}

/** Give the upper half of a full leaf, and of its siblings in the cluster, to a new cluster (dir.c:ocfs2_dx_dir_rebalance). */
function splitCluster(op: Op, ctx: FsContext, dir: InodeRef, root: DxRootView, cluster: LeafCluster, full: DxEntryList, major: number): void {
  const { bpc } = ctx.geo;
  const at = splitHash(full, cluster.cpos, major);
  if (at === undefined) throw indexFull(ctx, dir);
  const blocks = Array.from({ length: bpc }, (_, i) => cluster.blkno + i);
  op.prefetch(dir.lock, blocks, DX_LEAF);
  const upper = newCluster(op, ctx, dir);
  insert(op, ctx, dxTree(dir.lock, root.blkno, op, ctx), { cpos: at, clusters: 1, blkno: upper[0].block.blkno, flags: 0 });
  for (let i = 0; i < bpc; i++) {
    if (moves(new DxEntryList(op.read(dir.lock, blocks[i], DX_LEAF), DX_LEAF_LIST), at)) {
      moveUpper(new DxEntryList(op.write(dir.lock, blocks[i], DX_LEAF), DX_LEAF_LIST), upper[i], at);
    }
  }
}

function moves(list: DxEntryList, at: number): boolean {
  for (let i = 0, used = list.used; i < used; i++) if (list.major(i) >= at) return true;
  return false;
}

/** Move all entries with a major hash of `at` or more. */
function moveUpper(list: DxEntryList, upper: DxEntryList, at: number): void {
  const used = list.used;
  let kept = 0;
  for (let i = 0; i < used; i++) {
    const hash = { major: list.major(i), minor: list.minor(i) }, blkno = list.direntBlk(i);
    if (hash.major >= at) append(upper, hash, blkno);
    else list.set(kept++, hash.major, hash.minor, blkno);
  }
  list.block.bytes.fill(0, list.at(kept), list.at(used));
  list.used = kept;
}

/**
 * The hash to split a full leaf at: its median, or a neighbour of it that leaves both sides sensible
 * (dir.c:ocfs2_dx_dir_find_leaf_split). Undefined when all its entries and the new one have one hash: no split helps.
 */
function splitHash(list: DxEntryList, cpos: number, inserted: number): number | undefined {
  const majors = Array.from({ length: list.used }, (_, i) => list.major(i)).sort((a, b) => a - b);
  const lowest = majors[0];
  if (lowest !== majors[majors.length - 1]) return majors.slice(majors.length >>> 1).find((m) => m > cpos);
  if (lowest === inserted) return undefined;
  if (lowest === cpos) return cpos + 1;
  return Math.max(lowest, inserted);
}

/** Give a directory with one block its index (dir.c:ocfs2_dx_dir_attach_index). `first` is the area of that block. */
export function attachIndex(op: Op, ctx: FsContext, dir: InodeRef, first: Area): void {
  const { geo } = ctx;
  const claim = claimMeta(op, ctx, 'extent');
  const root = DxRoot.at(op.create(dir.lock, claim.blkno, DX_ROOT));
  stampMeta(ctx, root, SIG.dxRoot, claim);
  root.dirBlkno = dir.blkno;
  root.freeBlk = trailerOf(first).freeRecLen > 0 ? first.block.blkno : 0;
  dir.di.dxRoot = claim.blkno;
  dir.di.dynFeatures |= DYN.INDEXED_DIR;
  const hashes = [...liveEntries(first)].map((off) => hashOf(geo, nameAt(first, off)));
  root.numEntries = hashes.length;
  // Room for the entry that is about to be added is part of the decision (dir.c:ocfs2_new_dx_should_be_inline).
  if (hashes.length < capacity.dxRootEntries(geo.blockSize)) {
    root.flags = DX_INLINE;
    const list = new DxEntryList(root.block, DX_ROOT_LIST);
    list.count = capacity.dxRootEntries(geo.blockSize);
    for (const hash of hashes) append(list, hash, first.block.blkno);
    return;
  }
  const leaves = newCluster(op, ctx, dir);
  for (const hash of hashes) append(leaves[hash.minor & (geo.bpc - 1)], hash, first.block.blkno);
  makeTree(op, ctx, dir, root, leaves[0].block.blkno);
}

/** Free up to `pieces` extents of the index of a directory that is being wiped, and in the end its root. Returns the pieces left to use. */
export function shrinkIndex(op: Op, ctx: FsContext, dir: InodeRef, pieces: number): number {
  const root = editRoot(op, ctx, dir);
  if (!isInlineRoot(root)) {
    const tree = dxTree(dir.lock, root.blkno, op, ctx);
    for (let end = treeEnd(op, tree); end > 0; end = treeEnd(op, tree), pieces--) {
      if (pieces <= 0) return 0;
      const rec = lookup(op, tree, end - 1);
      if (rec.hole) throw badField(root.block, 'dx_root.dr_list', 'rec', end, 'ends the tree but maps nothing');
      removeRange(op, ctx, tree, rec.cpos, rec.clusters, (start, clusters) => releaseClusters(op, ctx, start, clusters));
    }
  }
  freeMeta(op, ctx, 'extent', claimOf(root));
  dir.di.dxRoot = 0;
  dir.di.dynFeatures &= ~DYN.INDEXED_DIR;
  return pieces;
}
