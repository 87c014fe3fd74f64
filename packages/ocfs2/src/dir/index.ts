/**
 * Directories by name, whatever their form: inline, linear blocks, indexed (ondisk-format.md 6). Callers hold the
 * directory's meta lock: PR to look, EX to change.
 *
 * A changing function takes the directory for change itself, so its `dir` may be the reading form; references taken
 * before it are stale after it.
 */
import { CorruptionError } from '@lunfs/device';
import { badField } from '../format/block.js';
import { DYN, FT } from '../format/constants.js';
import type { FsContext, InodeRef } from '../context.js';
import type { Op } from '../txn/index.js';
import { type DirTarget, findName, isFree, nameAt, recLenAt, retarget, targetAt } from './dirent.js';
import { addIndexed, attachIndex, findIndexed, indexedCount, removeIndexed, shrinkIndex } from './dx.js';
import {
  type Slot, addInline, addLinear, areaAt, dirBlocks, editAreaAt, expandInline, findLinear, initBlock, initInline, isIndexed, isInline, removeAt,
} from './linear.js';

export type { DirTarget } from './dirent.js';

/** One entry as readdir returns it. */
export interface DirEntry extends DirTarget {
  readonly name: Uint8Array;
  /** Byte in the directory at which reading goes on after this entry. */
  readonly next: number;
}

/** What a name stands for, or undefined. Throws if the inode number cannot be one. */
export function dirLookup(op: Op, ctx: FsContext, dir: InodeRef, name: Uint8Array): DirTarget | undefined {
  const slot = find(op, ctx, dir, name);
  return slot && targetAt(ctx.geo, areaAt(op, ctx, dir, slot.blkno), slot.off);
}

function find(op: Op, ctx: FsContext, dir: InodeRef, name: Uint8Array): Slot | undefined {
  checkEmptySize(dir);
  if (!isIndexed(dir)) return findLinear(op, ctx, dir, name);
  try {
    return findIndexed(op, ctx, dir, name);
  } catch (error) {
    // A damaged index hides no file from readers: the blocks are the truth. Changes are refused.
    if (op.readOnly && error instanceof CorruptionError) return findLinear(op, ctx, dir, name);
    throw error;
  }
}

function checkEmptySize(dir: InodeRef): void {
  if (dir.di.size === 0) throw badField(dir.block, 'dinode', 'i_size', 0, 'is no size of a directory');
}

/**
 * Up to `limit` entries from byte `position` on, `.` and `..` included, in disk order; `end` when there are no more.
 * A position is 0 or the `next` of an entry returned before, and stays good whatever is added and removed meanwhile:
 * an entry that is there all the time is returned exactly once (entries never move; reading goes on at the first entry
 * that starts at or after the position, dir.c:ocfs2_dir_foreach_blk_el).
 */
export function dirEntries(op: Op, ctx: FsContext, dir: InodeRef, position: number, limit: number): { entries: DirEntry[]; end: boolean } {
  checkEmptySize(dir);
  const { blockSize } = ctx.geo;
  const entries: DirEntry[] = [];
  let logical = isInline(dir) ? 0 : Math.floor(position / blockSize);
  for (const blkno of dirBlocks(op, ctx, dir, logical)) {
    const area = areaAt(op, ctx, dir, blkno);
    const start = logical * blockSize;
    for (let off = 0, next = 0; off < area.size; off = next) {
      next = off + recLenAt(area, off);
      if (start + off < position || isFree(area, off)) continue;
      if (entries.length === limit) return { entries, end: false };
      const { blkno: inode, type } = targetAt(ctx.geo, area, off);
      // Behind the last entry of a block comes the next block, not its trailer.
      entries.push({ name: nameAt(area, off), blkno: inode, type, next: next < area.size || isInline(dir) ? start + next : start + blockSize });
    }
    logical++;
  }
  return { entries, end: true };
}

/** Add an entry; the caller has seen that the name is not there. Sets the directory's mtime and ctime. Throws NO_SPACE, DIR_INDEX_FULL. */
export function dirAdd(op: Op, ctx: FsContext, dir: InodeRef, name: Uint8Array, target: DirTarget): void {
  const edit = ctx.editInode(op, dir.blkno);
  if (!isInline(edit) || !addInline(op, ctx, edit, name, target)) {
    if (isInline(edit)) {
      const first = expandInline(op, ctx, edit);
      if (ctx.geo.indexedDirs) attachIndex(op, ctx, edit, first);
    }
    if (isIndexed(edit)) addIndexed(op, ctx, edit, name, target);
    else addLinear(op, ctx, edit, name, target);
  }
  const { di } = edit;
  di.mtime = di.ctime = op.now.sec;
  di.mtimeNsec = di.ctimeNsec = op.now.nsec;
}

/** Remove an entry; returns what it stood for, or undefined if the name is not there. Times are the caller's. */
export function dirRemove(op: Op, ctx: FsContext, dir: InodeRef, name: Uint8Array): DirTarget | undefined {
  const edit = ctx.editInode(op, dir.blkno);
  if (!isIndexed(edit)) {
    const slot = findLinear(op, ctx, edit, name);
    if (slot === undefined) return undefined;
    const target = targetAt(ctx.geo, areaAt(op, ctx, edit, slot.blkno), slot.off);
    removeAt(op, ctx, edit, slot);
    return target;
  }
  const slot = findIndexed(op, ctx, edit, name);
  if (slot === undefined) return undefined;
  const target = targetAt(ctx.geo, areaAt(op, ctx, edit, slot.blkno), slot.off);
  removeIndexed(op, ctx, edit, slot);
  return target;
}

/** Make an existing name stand for another inode; an index does not change. False if the name is not there. */
export function dirUpdate(op: Op, ctx: FsContext, dir: InodeRef, name: Uint8Array, target: DirTarget): boolean {
  const slot = find(op, ctx, dir, name);
  if (slot === undefined) return false;
  retarget(editAreaAt(op, ctx, isInline(dir) ? ctx.editInode(op, dir.blkno) : dir, slot.blkno), slot.off, target);
  return true;
}

/** Nothing but `.` and `..`, and these where they belong. */
export function dirIsEmpty(op: Op, ctx: FsContext, dir: InodeRef): boolean {
  checkEmptySize(dir);
  if (isIndexed(dir) && indexedCount(op, ctx, dir) !== 2) return false;
  const { entries } = dirEntries(op, ctx, dir, 0, 3);
  const [dot, dotDot] = entries;
  if (dot?.next !== DOT_DOT_AT || dot.blkno !== dir.blkno || findName(areaAt(op, ctx, dir, firstBlock(op, ctx, dir)), Buffer.from('..')) !== DOT_DOT_AT || dotDot === undefined) {
    throw badField(dir.block, 'directory', 'first entries', entries.map((e) => Buffer.from(e.name).toString('latin1')).join(' '), 'are not "." and ".."');
  }
  return entries.length === 2;
}

/** Byte at which `..` starts. */
const DOT_DOT_AT = 16;

function firstBlock(op: Op, ctx: FsContext, dir: InodeRef): number {
  for (const blkno of dirBlocks(op, ctx, dir)) return blkno;
  return dir.blkno;
}

/** Fill a new directory: `dir` is its new dinode, for change, with an empty id2. Inline where the volume allows (dir.c:ocfs2_fill_new_dir). */
export function initDir(op: Op, ctx: FsContext, dir: InodeRef, parent: number): void {
  const self = { blkno: dir.blkno, type: FT.DIR }, up = { blkno: parent, type: FT.DIR };
  if (dir.di.dynFeatures & DYN.INLINE_DATA) {
    initInline(ctx, dir, self, up);
    return;
  }
  const first = initBlock(op, ctx, dir, self, up);
  if (ctx.geo.indexedDirs) attachIndex(op, ctx, dir, first);
}

/**
 * Free up to `pieces` extents of a wiped directory's index, at last the index itself (dir.c:ocfs2_dx_dir_truncate).
 * Returns the pieces left to use; the index is gone when INDEXED_DIR is clear.
 */
export function dirShrinkIndex(op: Op, ctx: FsContext, dir: InodeRef, pieces: number): number {
  return isIndexed(dir) ? shrinkIndex(op, ctx, ctx.editInode(op, dir.blkno), pieces) : pieces;
}
