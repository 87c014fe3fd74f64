/**
 * Directories as rows of entries: inline in the dinode, or in blocks (ondisk-format.md 6.2-6.4). An indexed directory
 * has the same blocks; its index (dx.ts) only says in which of them a name is.
 *
 * A directory's blocks are protected by its meta lock. They are a file without holes, i_size counts the formatted ones.
 */
import { badField } from '../format/block.js';
import { DIR_TRAILER_SIZE, DYN, SIG } from '../format/constants.js';
import { type Geometry, capacity, dirBlockCount } from '../format/geometry.js';
import { type BlockKind, DIR_BLOCK, DIR_BLOCK_PLAIN } from '../format/kinds.js';
import { ExtentList } from '../format/lists.js';
import { DirTrailer, ID2, INLINE_DATA_START } from '../format/structs.js';
import type { FsContext, InodeRef } from '../context.js';
import type { Op } from '../txn/index.js';
import { claimClusters } from '../alloc/index.js';
import { dinodeTree, insert, lookup, walk } from '../extents/index.js';
import {
  type Area, type DirTarget, clearArea, dropEntry, findName, findRoom, largestHole, putDots, putEntry, stretchLast,
} from './dirent.js';

/** Where an entry is: the directory block (the dinode, when inline) and the entry's byte in its area. */
export interface Slot {
  readonly blkno: number;
  readonly off: number;
}

export function isInline(dir: InodeRef): boolean {
  return (dir.di.dynFeatures & DYN.INLINE_DATA) !== 0;
}

export function isIndexed(dir: InodeRef): boolean {
  return (dir.di.dynFeatures & DYN.INDEXED_DIR) !== 0;
}

/** Blocks of this directory end with a trailer (dir.c:ocfs2_supports_dir_trailer). */
function hasTrailer(geo: Geometry, dir: InodeRef): boolean {
  return geo.metaecc || isIndexed(dir);
}

/** The first block of a new directory gets a trailer before it has its index (dir.c:ocfs2_new_dir_wants_trailer). */
function wantsTrailer(geo: Geometry): boolean {
  return geo.metaecc || geo.indexedDirs;
}

function blockKind(geo: Geometry, dir: InodeRef): BlockKind {
  return hasTrailer(geo, dir) ? DIR_BLOCK : DIR_BLOCK_PLAIN;
}

/** The trailer of a directory block that has one. */
export function trailerOf(area: Area) {
  return DirTrailer.at(area.block, area.block.bytes.length - DIR_TRAILER_SIZE);
}

/** The entries of the directory block `blkno` (of the dinode, when inline), for reading. */
export function areaAt(op: Op, ctx: FsContext, dir: InodeRef, blkno: number): Area {
  const { geo } = ctx;
  if (isInline(dir)) return { block: dir.block, base: INLINE_DATA_START, size: dir.di.size };
  const block = op.read(dir.lock, blkno, blockKind(geo, dir));
  return checkedArea(geo, dir, { block, base: 0, size: geo.blockSize });
}

/** The same for change: the block is the operation's own from here on. `dir` must be from `ctx.editInode`. */
export function editAreaAt(op: Op, ctx: FsContext, dir: InodeRef, blkno: number): Area {
  const { geo } = ctx;
  if (isInline(dir)) return areaAt(op, ctx, dir, blkno);
  const block = op.write(dir.lock, blkno, blockKind(geo, dir));
  return checkedArea(geo, dir, { block, base: 0, size: geo.blockSize });
}

/** Cut the trailer off and see that it names this directory. */
function checkedArea(geo: Geometry, dir: InodeRef, whole: Area): Area {
  if (!hasTrailer(geo, dir)) return whole;
  const { parentDinode } = trailerOf(whole);
  if (parentDinode !== dir.blkno) throw badField(whole.block, 'dir_block_trailer', 'db_parent_dinode', parentDinode, `should be ${dir.blkno}`);
  return { ...whole, size: geo.blockSize - DIR_TRAILER_SIZE };
}

/** Formatted blocks of a directory that is not inline. */
export function blockCount(geo: Geometry, dir: InodeRef): number {
  return dirBlockCount(geo, dir.di.size);
}

/** Blocks of a directory from logical block `from` on, in order; the dinode's own block for an inline one. */
export function* dirBlocks(op: Op, ctx: FsContext, dir: InodeRef, from = 0): Generator<number> {
  const { geo } = ctx;
  if (isInline(dir)) {
    if (from === 0) yield dir.blkno;
    return;
  }
  const end = blockCount(geo, dir);
  let next = from;
  if (next >= end) return;
  for (const rec of walk(op, dinodeTree(dir, op, ctx), Math.floor(from / geo.bpc))) {
    const first = rec.cpos * geo.bpc, last = Math.min(end, first + rec.clusters * geo.bpc);
    if (last <= next) continue;
    if (first > next) break;
    for (let at = next; at < last; at += MAX_PREFETCH) {
      const run = Array.from({ length: Math.min(MAX_PREFETCH, last - at) }, (_, i) => rec.blkno + (at - first) + i);
      op.prefetch(dir.lock, run, blockKind(geo, dir));
      yield* run;
    }
    next = last;
    if (next >= end) return;
  }
  throw badField(dir.block, 'dinode.id2.extent_list', 'blocks', next, `is a hole in a directory of ${end} blocks`);
}

/** Blocks asked for at once on a walk. */
const MAX_PREFETCH = 64;

/** Find a name by walking all entries. */
export function findLinear(op: Op, ctx: FsContext, dir: InodeRef, name: Uint8Array): Slot | undefined {
  for (const blkno of dirBlocks(op, ctx, dir)) {
    const off = findName(areaAt(op, ctx, dir, blkno), name);
    if (off >= 0) return { blkno, off };
  }
  return undefined;
}

/** Put an entry into the first block with room, or into a new block. The directory is neither inline nor indexed. */
export function addLinear(op: Op, ctx: FsContext, dir: InodeRef, name: Uint8Array, target: DirTarget): void {
  for (const blkno of dirBlocks(op, ctx, dir)) {
    const off = findRoom(areaAt(op, ctx, dir, blkno), name.length);
    if (off < 0) continue;
    putEntry(editAreaAt(op, ctx, dir, blkno), off, name, target);
    return;
  }
  putEntry(appendBlock(op, ctx, dir), 0, name, target);
}

/** Put an entry into an inline directory, if there is room. */
export function addInline(op: Op, ctx: FsContext, dir: InodeRef, name: Uint8Array, target: DirTarget): boolean {
  const area = areaAt(op, ctx, dir, dir.blkno);
  const off = findRoom(area, name.length);
  if (off >= 0) putEntry(area, off, name, target);
  return off >= 0;
}

/** Free an entry. */
export function removeAt(op: Op, ctx: FsContext, dir: InodeRef, slot: Slot): void {
  dropEntry(editAreaAt(op, ctx, dir, slot.blkno), slot.off);
}

/** Add a block of one free entry at the end, and a cluster before that where the last one is full (dir.c:ocfs2_extend_dir). */
export function appendBlock(op: Op, ctx: FsContext, dir: InodeRef): Area {
  const { geo } = ctx;
  const { di } = dir;
  const logical = blockCount(geo, dir);
  if (logical === di.clusters * geo.bpc) addCluster(op, ctx, dir);
  const blkno = physicalBlock(op, ctx, dir, logical);
  const area = newArea(op, ctx, dir, blkno, hasTrailer(geo, dir));
  clearArea(area);
  di.size = (logical + 1) * geo.blockSize;
  setFreeRecLen(geo, area);
  return area;
}

function physicalBlock(op: Op, ctx: FsContext, dir: InodeRef, logical: number): number {
  const { bpc } = ctx.geo;
  const rec = lookup(op, dinodeTree(dir, op, ctx), Math.floor(logical / bpc));
  if (rec.hole) throw badField(dir.block, 'dinode.id2.extent_list', 'blocks', logical, 'is a hole in a directory');
  return rec.blkno + logical - rec.cpos * bpc;
}

/** Add one cluster at the end of the directory's data. Returns its first block. */
function addCluster(op: Op, ctx: FsContext, dir: InodeRef): number {
  const { geo } = ctx;
  const start = claimDirCluster(op, ctx);
  insert(op, ctx, dinodeTree(dir, op, ctx), { cpos: dir.di.clusters, clusters: 1, blkno: start * geo.bpc, flags: 0 });
  return start * geo.bpc;
}

/** A cluster for a directory's entries or its index. */
export function claimDirCluster(op: Op, ctx: FsContext): number {
  return claimClusters(op, ctx, 1, 1).start;
}

/** A new directory block, its trailer set but for the free length, its entries still zeros. */
function newArea(op: Op, ctx: FsContext, dir: InodeRef, blkno: number, trailer: boolean): Area {
  const { geo } = ctx;
  const block = op.create(dir.lock, blkno, trailer ? DIR_BLOCK : DIR_BLOCK_PLAIN);
  if (!trailer) return { block, base: 0, size: geo.blockSize };
  const area = { block, base: 0, size: geo.blockSize - DIR_TRAILER_SIZE };
  const t = trailerOf(area);
  t.signature = SIG.dirTrailer;
  t.compatRecLen = DIR_TRAILER_SIZE;
  t.blkno = blkno;
  t.parentDinode = dir.blkno;
  return area;
}

/** Bring the trailer's largest hole up to date. Returns it (0 without trailer). */
function setFreeRecLen(geo: Geometry, area: Area): number {
  if (area.size === geo.blockSize) return 0;
  return (trailerOf(area).freeRecLen = largestHole(area));
}

/** Fill a new inline directory. The dinode must have INLINE_DATA set and its inline area be zeros. */
export function initInline(ctx: FsContext, dir: InodeRef, self: DirTarget, parent: DirTarget): void {
  dir.di.size = capacity.inlineData(ctx.geo.blockSize);
  putDots({ block: dir.block, base: INLINE_DATA_START, size: dir.di.size }, self, parent);
}

/** Fill a new directory with its first block. The dinode must have an empty extent list. */
export function initBlock(op: Op, ctx: FsContext, dir: InodeRef, self: DirTarget, parent: DirTarget): Area {
  const blkno = addCluster(op, ctx, dir);
  const area = newArea(op, ctx, dir, blkno, wantsTrailer(ctx.geo));
  putDots(area, self, parent);
  dir.di.size = ctx.geo.blockSize;
  setFreeRecLen(ctx.geo, area);
  return area;
}

/** Move the entries of an inline directory into a block of their own (dir.c:ocfs2_expand_inline_dir). Positions stay. */
export function expandInline(op: Op, ctx: FsContext, dir: InodeRef): Area {
  const { geo } = ctx;
  const { di, block: dinode } = dir;
  const oldSize = di.size;
  const entries = dinode.bytes.slice(INLINE_DATA_START, INLINE_DATA_START + oldSize);
  const inlineXattr = di.dynFeatures & DYN.INLINE_XATTR ? di.xattrInlineSize : 0;
  dinode.bytes.fill(0, ID2, geo.blockSize - inlineXattr);
  di.dynFeatures &= ~DYN.INLINE_DATA;
  const list = new ExtentList(dinode, ID2);
  list.count = capacity.dinodeExtents(geo.blockSize, inlineXattr);
  const blkno = addCluster(op, ctx, dir);
  const area = newArea(op, ctx, dir, blkno, wantsTrailer(geo));
  area.block.bytes.set(entries);
  stretchLast(area, oldSize);
  di.size = geo.blockSize;
  setFreeRecLen(geo, area);
  return area;
}
