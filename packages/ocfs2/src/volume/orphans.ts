/**
 * Orphan directories (ondisk-format.md 9.7): an inode without links is entered in the orphan directory of the slot that
 * unlinked it, in the same operation, and stays there until it is wiped; so no crash loses its space. A file that a
 * direct write grows beyond its size has a second kind of entry, `dio-…`; the file itself lives on.
 */
import { badField } from '../format/block.js';
import { FL, fileTypeOfMode } from '../format/constants.js';
import type { FsContext, InodeRef } from '../context.js';
import { dirAdd, dirEntries, dirLookup, dirRemove } from '../dir/index.js';
import { EX, PR } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import { isDirectory, linkCount, setLinkCount } from './attributes.js';

const DIO_PREFIX = 'dio-';

/** Name of an inode's entry: 16 lower-case hex digits (namei.c:ocfs2_blkno_stringify). */
function orphanName(blkno: number, dio = false): Uint8Array {
  return Buffer.from((dio ? DIO_PREFIX : '') + blkno.toString(16).padStart(16, '0'));
}

/** Orphan directory of a slot that a dinode names. */
function orphanDirOf(ctx: FsContext, inode: InodeRef, field: string, slot: number): number {
  const blkno = ctx.sys.orphanDir[slot];
  if (blkno === undefined) throw badField(inode.block, 'dinode', field, slot, 'is no slot of this volume');
  return blkno;
}

/** Take the lock of the own slot's orphan directory, before anything that ranks below it is asked for. */
export function lockOrphanDir(op: Op, ctx: FsContext): void {
  ctx.inode(op, ctx.sys.orphanDir[ctx.slot], EX);
}

/** Enter an inode that has just lost its last link. `inode` must be for change (namei.c:ocfs2_orphan_add). */
export function orphanAdd(op: Op, ctx: FsContext, inode: InodeRef): void {
  const dir = ctx.editInode(op, ctx.sys.orphanDir[ctx.slot]);
  dirAdd(op, ctx, dir, orphanName(inode.blkno), { blkno: inode.blkno, type: fileTypeOfMode(inode.di.mode) });
  if (isDirectory(inode)) setLinkCount(dir.di, linkCount(dir.di) + 1);
  inode.di.flags |= FL.ORPHANED;
  inode.di.orphanedSlot = ctx.slot;
}

/** Does the orphan directory that an orphan names have its entry? */
export function isListedOrphan(op: Op, ctx: FsContext, inode: InodeRef): boolean {
  const dir = ctx.inode(op, orphanDirOf(ctx, inode, 'i_orphaned_slot', inode.di.orphanedSlot), EX);
  return dirLookup(op, ctx, dir, orphanName(inode.blkno))?.blkno === inode.blkno;
}

/** Remove an inode's entry; its slot is the one it was orphaned in (namei.c:ocfs2_orphan_del). */
export function orphanRemove(op: Op, ctx: FsContext, inode: InodeRef): void {
  const dir = ctx.editInode(op, orphanDirOf(ctx, inode, 'i_orphaned_slot', inode.di.orphanedSlot));
  takeEntry(op, ctx, dir, inode, false);
  if (isDirectory(inode)) setLinkCount(dir.di, linkCount(dir.di) - 1);
  inode.di.flags &= ~FL.ORPHANED;
}

/** Remove a file's `dio-` entry (namei.c:ocfs2_del_inode_from_orphan). */
export function dioOrphanRemove(op: Op, ctx: FsContext, inode: InodeRef): void {
  const dir = ctx.editInode(op, orphanDirOf(ctx, inode, 'i_dio_orphaned_slot', inode.di.dioOrphanedSlot));
  takeEntry(op, ctx, dir, inode, true);
  inode.di.flags &= ~FL.DIO_ORPHANED;
  inode.di.dioOrphanedSlot = 0;
}

function takeEntry(op: Op, ctx: FsContext, dir: InodeRef, inode: InodeRef, dio: boolean): void {
  const name = orphanName(inode.blkno, dio);
  if (dirRemove(op, ctx, dir, name)?.blkno !== inode.blkno) {
    throw badField(inode.block, 'dinode', 'i_flags', inode.di.flags, `names orphan directory ${dir.blkno}, which has no entry "${Buffer.from(name).toString()}" for it`);
  }
}

/** An entry of an orphan directory. */
export interface Orphan {
  readonly blkno: number;
  /** The inode lives on: only what lies beyond its size is to go. */
  readonly dio: boolean;
}

/** Entries of one slot's orphan directory from `position` on, and where to go on (undefined: that was all). */
export function listOrphans(op: Op, ctx: FsContext, slot: number, position: number, limit: number): { orphans: Orphan[]; next?: number } {
  const dir = ctx.inode(op, ctx.sys.orphanDir[slot], PR);
  const { entries, end } = dirEntries(op, ctx, dir, position, limit);
  const orphans: Orphan[] = [];
  for (const { name, blkno } of entries) {
    const text = Buffer.from(name).toString('latin1');
    if (text === '.' || text === '..') continue;
    const dio = text.startsWith(DIO_PREFIX);
    if (text === Buffer.from(orphanName(blkno, dio)).toString()) orphans.push({ blkno, dio });
  }
  // A file may have both kinds of entry: it is wiped only once its direct write is dealt with.
  orphans.sort((a, b) => Number(b.dio) - Number(a.dio));
  return end ? { orphans } : { orphans, next: entries[entries.length - 1].next };
}
