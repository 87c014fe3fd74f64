/**
 * Extent trees: lookup, walk, insert, change of flags, removal (ondisk-format.md 5.3 to 5.6).
 *
 * All change goes through one primitive, `splice` (splice.ts): replace adjacent records of one leaf by others.
 */
import { InternalError } from '@lunfs/device';
import type { FsContext } from '../context.js';
import { badField } from '../format/block.js';
import type { Op } from '../txn/index.js';
import { type Path, editList, findPath, firstLive, fixStart, lastAtOrBefore, leafBlock, nextPath, readList } from './path.js';
import type { ExtentRec, TreeRoot } from './root.js';
import { continues, joined, record, splice } from './splice.js';

/** A mapped piece of a tree. */
export interface Extent extends ExtentRec {
  readonly hole?: undefined;
}
/** An unmapped range, from the position asked for to the next record. */
export interface Hole {
  readonly hole: true;
  readonly cpos: number;
  readonly clusters: number;
}

/** One past the last cluster position a tree can hold. */
const CPOS_END = 0x1_0000_0000;

/** The whole record that holds `cpos`, or the hole from `cpos` to the next record (to 2^32 when there is none). */
export function lookup(op: Op, tree: TreeRoot, cpos: number): Extent | Hole {
  const path = findPath(op, tree, cpos);
  const list = readList(op, tree, leafBlock(path));
  const i = lastAtOrBefore(list, cpos, firstLive(list));
  if (i >= firstLive(list)) {
    const rec = record(tree, list, i);
    if (cpos < rec.cpos + rec.clusters) return rec;
  }
  for (let at: Path | undefined = path, k = i + 1; at !== undefined; at = nextPath(op, tree, at), k = 0) {
    const leaf = readList(op, tree, leafBlock(at));
    const next = Math.max(k, firstLive(leaf));
    if (next < leaf.nextFree) return { hole: true, cpos, clusters: leaf.cpos(next) - cpos };
  }
  return { hole: true, cpos, clusters: CPOS_END - cpos };
}

/** Records from the one that holds `from` (or the next one) on, in order. Reads leaves ahead. */
export function* walk(op: Op, tree: TreeRoot, from = 0): Generator<ExtentRec, void, undefined> {
  let end = 0;
  for (let path: Path | undefined = findPath(op, tree, from); path !== undefined; path = nextPath(op, tree, path)) {
    const list = readList(op, tree, leafBlock(path));
    const first = firstLive(list);
    for (let i = Math.max(first, lastAtOrBefore(list, from, first)); i < list.nextFree; i++) {
      const rec = record(tree, list, i);
      if (rec.cpos < end) throw badField(list.block, tree.rules.structure, `rec[${i}].e_cpos`, rec.cpos, `lies before the end of the record before it, ${end}`);
      end = rec.cpos + rec.clusters;
      if (end > from) yield rec;
    }
  }
}

/** The last record that starts before `cpos`. */
export function lastBefore(op: Op, tree: TreeRoot, cpos: number): ExtentRec | undefined {
  const list = readList(op, tree, leafBlock(findPath(op, tree, cpos - 1)));
  const i = lastAtOrBefore(list, cpos - 1, firstLive(list));
  return i >= firstLive(list) ? record(tree, list, i) : undefined;
}

/** End of the last record: the tree maps nothing from there on. */
export function treeEnd(op: Op, tree: TreeRoot): number {
  const last = lastBefore(op, tree, CPOS_END);
  return last === undefined ? 0 : last.cpos + last.clusters;
}

/** Map [cpos, cpos + clusters), which must be a hole. Joins neighbours in the same leaf that continue it, in the file and on the volume. */
export function insert(op: Op, ctx: FsContext, tree: TreeRoot, rec: ExtentRec): void {
  if (rec.clusters < 1 || rec.clusters > tree.rules.maxRecord || rec.cpos + rec.clusters > CPOS_END) {
    throw new InternalError('EXTENT_LENGTH', `extent of ${rec.clusters} clusters at ${rec.cpos} into the tree of block ${tree.blkno}`);
  }
  const path = findPath(op, tree, rec.cpos);
  const list = readList(op, tree, leafBlock(path));
  const i = lastAtOrBefore(list, rec.cpos, firstLive(list)) + 1;
  const left = i > firstLive(list) ? record(tree, list, i - 1) : undefined;
  if ((left !== undefined && left.cpos + left.clusters > rec.cpos) || (i < list.nextFree && list.cpos(i) < rec.cpos + rec.clusters)) {
    throw new InternalError('EXTENT_OVERLAP', `clusters ${rec.cpos}+${rec.clusters} are mapped already in the tree of block ${tree.blkno}`);
  }
  replace(op, ctx, tree, path, i, 0, [rec]);
  tree.clusters += rec.clusters;
}

/**
 * Set and clear flags of [cpos, cpos + clusters), which must be mapped throughout: records are split at the edges, and
 * pieces that came to agree with their neighbours are joined.
 */
export function setFlags(op: Op, ctx: FsContext, tree: TreeRoot, cpos: number, clusters: number, set: number, clear: number): void {
  change(op, ctx, tree, cpos, clusters, (rec) => ({ ...rec, flags: (rec.flags | set) & ~clear }));
}

/** Let [cpos, cpos + clusters), which must be mapped throughout, lie from block `blkno` on, with these flags. What becomes of the old place is the caller's. */
export function remap(op: Op, ctx: FsContext, tree: TreeRoot, cpos: number, clusters: number, blkno: number, flags: number): void {
  change(op, ctx, tree, cpos, clusters, (rec) => ({ ...rec, blkno: blkno + (rec.cpos - cpos) * tree.geo.bpc, flags }));
}

function change(op: Op, ctx: FsContext, tree: TreeRoot, cpos: number, clusters: number, to: (rec: ExtentRec) => ExtentRec): void {
  const end = cpos + clusters;
  for (let at = cpos; at < end; ) {
    const path = findPath(op, tree, at);
    const list = readList(op, tree, leafBlock(path));
    const first = lastAtOrBefore(list, at, firstLive(list));
    const recs: ExtentRec[] = [];
    let gone = 0;
    for (let i = first; i >= firstLive(list) && i < list.nextFree && at < end; i++, gone++) {
      const rec = record(tree, list, i);
      const recEnd = rec.cpos + rec.clusters;
      if (at < rec.cpos || at >= recEnd) break;
      const stop = Math.min(recEnd, end);
      if (at > rec.cpos) recs.push(part(tree, rec, rec.cpos, at));
      recs.push(to(part(tree, rec, at, stop)));
      if (stop < recEnd) recs.push(part(tree, rec, stop, recEnd));
      at = stop;
    }
    if (gone === 0) throw new InternalError('EXTENT_HOLE', `cluster ${at} is not mapped in the tree of block ${tree.blkno}`);
    replace(op, ctx, tree, path, first, gone, recs);
  }
}

/** Let the leftmost record start at `to` instead of `from`, which is later: for trees whose records are keys (refcount trees). */
export function moveFirst(op: Op, tree: TreeRoot, from: number, to: number): void {
  const path = findPath(op, tree, from);
  const list = editList(op, tree, leafBlock(path));
  const first = firstLive(list);
  if (to > from || first === list.nextFree || list.cpos(first) !== from || path.index.some((i) => i > 0)) {
    throw new InternalError('EXTENT_MOVE', `record at ${from} is to start at ${to}, but is not the first of the tree of block ${tree.blkno}`);
  }
  list.setCpos(first, to);
  fixStart(op, tree, path);
}

/**
 * Unmap [cpos, cpos + clusters); holes in it are fine. `onFree` gets every physical piece (first cluster of the volume,
 * clusters, flags) and must free it in this operation. Extent blocks no longer needed are freed here.
 */
export function removeRange(op: Op, ctx: FsContext, tree: TreeRoot, cpos: number, clusters: number, onFree: (start: number, clusters: number, flags: number) => void): void {
  let end = Math.min(cpos + clusters, CPOS_END);
  while (end > cpos) {
    const path = findPath(op, tree, end - 1);
    const list = readList(op, tree, leafBlock(path));
    const live = firstLive(list);
    const leafStart = leafRange(op, tree, path);
    let i = lastAtOrBefore(list, end - 1, live);
    let gone = 0;
    const recs: ExtentRec[] = [];
    for (; i >= live; i--, gone++) {
      const rec = record(tree, list, i);
      const recEnd = rec.cpos + rec.clusters;
      if (recEnd <= cpos) break;
      const from = Math.max(cpos, rec.cpos), to = Math.min(end, recEnd);
      if (to <= from) break;
      if (to < recEnd) recs.unshift(part(tree, rec, to, recEnd));
      if (from > rec.cpos) recs.unshift(part(tree, rec, rec.cpos, from));
      onFree(Math.floor(rec.blkno / tree.geo.bpc) + (from - rec.cpos), to - from, rec.flags);
      tree.clusters -= to - from;
    }
    if (gone > 0) replace(op, ctx, tree, path, i + 1, gone, recs, false);
    if (leafStart >= end) return;
    end = leafStart;
  }
}

/** Where the leaf's range begins: the cpos of its parent record, 0 on the leftmost path. */
function leafRange(op: Op, tree: TreeRoot, path: Path): number {
  if (path.index.every((i) => i === 0)) return 0;
  const parent = path.index.length - 1;
  return readList(op, tree, path.blocks[parent]).cpos(path.index[parent]);
}

/** The piece [from, to) of a record. */
function part(tree: TreeRoot, rec: ExtentRec, from: number, to: number): ExtentRec {
  return { cpos: from, clusters: to - from, blkno: rec.blkno + (from - rec.cpos) * tree.geo.bpc, flags: rec.flags };
}

/** Replace `gone` records from index `at` by `recs`, joining these with each other and (`merge`) with the neighbours in the leaf. */
function replace(op: Op, ctx: FsContext, tree: TreeRoot, path: Path, at: number, gone: number, recs: readonly ExtentRec[], merge = true): void {
  const list = readList(op, tree, leafBlock(path));
  if (!merge || recs.length === 0) return splice(op, ctx, tree, path, at, gone, recs);
  const run = [...recs];
  if (at > firstLive(list) && continues(tree, record(tree, list, at - 1), run[0])) {
    run.unshift(record(tree, list, at - 1));
    at--;
    gone++;
  }
  if (at + gone < list.nextFree && continues(tree, run[run.length - 1], record(tree, list, at + gone))) {
    run.push(record(tree, list, at + gone));
    gone++;
  }
  splice(op, ctx, tree, path, at, gone, joined(tree, run));
}
