/**
 * Rename in all its cases as one operation (Linux 6.1 fs/ocfs2/namei.c:ocfs2_rename): plain, over a file, over an empty
 * directory, of a directory into another one (its `..`, and the links of both parents).
 *
 * What must not change under it: who lies below whom. A directory that changes its parent could otherwise end up below
 * itself; so the caller holds the volume's rename lock while it looks at ancestors and renames (namespace-volume.ts).
 */
import { badField } from '../format/block.js';
import type { FsContext, InodeRef } from '../context.js';
import { dirAdd, dirLookup, dirRemove, dirUpdate } from '../dir/index.js';
import { EX, PR } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import { ATTR, checkFlags, isDirectory, liveDirectory, refuse, setTimes } from './attributes.js';
import {
  type Unlinked, addLinks, changingDirectory, checkLinks, checkNewName, checkVictim, dropName, lockDentry, losesLastLink, notFound, targetOf,
} from './namespace.js';
import { lockOrphanDir } from './orphans.js';
import { UsageError } from '@lunfs/device';

const DOT_DOT = Uint8Array.of(0x2e, 0x2e);

export interface RenameRequest {
  readonly oldDir: number;
  readonly oldName: Uint8Array;
  readonly newDir: number;
  readonly newName: Uint8Array;
  /** Fail with EXISTS instead of replacing (RENAME_NOREPLACE). */
  readonly noReplace?: boolean;
}

/** How the two directories lie to each other, for the order of their locks. */
export interface Relation {
  /** Inode being renamed. */
  readonly blkno: number;
  readonly directory: boolean;
  /** `newDir` lies below `oldDir`, or the other way round. */
  readonly newBelowOld: boolean;
  readonly oldBelowNew: boolean;
}

/** The parent of a directory; the root's is itself. */
export function parentOf(op: Op, ctx: FsContext, blkno: number): number {
  const dir = liveDirectory(op, ctx, blkno, PR);
  const up = dirLookup(op, ctx, dir, DOT_DOT);
  if (up === undefined) throw badField(dir.block, 'directory', 'entries', '..', 'is missing');
  return up.blkno;
}

/**
 * Rename. `relation` was found before; undefined is returned when what it says of the inode is no longer so, and the
 * caller looks again. Otherwise the inode the new name stood for, if there was one.
 */
export function renameName(op: Op, ctx: FsContext, request: RenameRequest, relation: Relation): { replaced?: Unlinked } | undefined {
  const { oldDir, oldName, newDir, newName } = request;
  checkNewName(ctx, oldDir, oldName);
  checkNewName(ctx, newDir, newName);
  lockDirectories(op, ctx, request, relation);
  const from = changingDirectory(op, ctx, oldDir, true);
  const to = newDir === oldDir ? from : changingDirectory(op, ctx, newDir, false);

  const found = dirLookup(op, ctx, from, oldName);
  if (found === undefined) throw notFound(ctx, oldDir, oldName);
  if (found.blkno !== relation.blkno) return undefined;
  const look = ctx.inode(op, found.blkno, EX);
  const moved = isDirectory(look);
  if (moved !== relation.directory) return undefined;
  checkFlags(ctx, look, ATTR.IMMUTABLE | ATTR.APPEND);
  lockDentry(op, ctx, oldDir, found.blkno);

  const there = dirLookup(op, ctx, to, newName);
  if (there?.blkno === found.blkno && !request.noReplace) return {};
  const victim = there && checkTarget(op, ctx, request, moved, there.blkno);
  const newParent = moved && newDir !== oldDir;
  if (newParent) checkMove(op, ctx, look, to, oldDir, victim === undefined);
  if (victim !== undefined && losesLastLink(victim)) lockOrphanDir(op, ctx);

  const inode = ctx.editInode(op, found.blkno);
  const replaced = victim && replace(op, ctx, to, newName, inode, victim);
  if (replaced === undefined) dirAdd(op, ctx, to, newName, targetOf(inode));
  setTimes(inode.di, 'c', op.now);
  // Adding may have changed the form of the directory, so the old entry is looked for again.
  if (dirRemove(op, ctx, from, oldName)?.blkno !== found.blkno) throw badField(from.block, 'directory', 'entries', Buffer.from(oldName).toString(), 'cannot be found again');
  if (newParent) dirUpdate(op, ctx, inode, DOT_DOT, { ...targetOf(inode), blkno: newDir });
  const source = ctx.editInode(op, oldDir), target = ctx.editInode(op, newDir);
  if (moved) {
    addLinks(source, -1);
    if (replaced === undefined) addLinks(target, 1);
  }
  setTimes(source.di, 'mc', op.now);
  setTimes(target.di, 'mc', op.now);
  return { replaced };
}

/** Ancestor first, else the lower block number (namei.c:ocfs2_double_lock). */
function lockDirectories(op: Op, ctx: FsContext, { oldDir, newDir }: RenameRequest, { newBelowOld, oldBelowNew }: Relation): void {
  const newFirst = oldBelowNew || (!newBelowOld && newDir < oldDir);
  for (const blkno of newFirst ? [newDir, oldDir] : [oldDir, newDir]) ctx.metaLock(op, blkno, EX);
}

/** The inode to be replaced, if it may be. */
function checkTarget(op: Op, ctx: FsContext, { newDir, newName, noReplace }: RenameRequest, moved: boolean, blkno: number): InodeRef {
  if (noReplace) throw new UsageError('EXISTS', 'EEXIST', `${ctx.geo.device}: "${Buffer.from(newName).toString()}" is there already in directory ${newDir}`, { device: ctx.geo.device, block: newDir });
  const to = liveDirectory(op, ctx, newDir, EX);
  checkFlags(ctx, to, ATTR.APPEND);
  const victim = ctx.inode(op, blkno, EX);
  checkVictim(op, ctx, victim, moved);
  lockDentry(op, ctx, newDir, blkno);
  return victim;
}

/** May this directory get another parent? */
function checkMove(op: Op, ctx: FsContext, dir: InodeRef, to: InodeRef, oldDir: number, adds: boolean): void {
  const up = dirLookup(op, ctx, dir, DOT_DOT);
  if (up?.blkno !== oldDir) throw badField(dir.block, 'directory', '..', up?.blkno ?? 'missing', `should be ${oldDir}`);
  if (adds) checkLinks(ctx, to);
}

/** Let a name stand for `inode` instead of `victim`. */
function replace(op: Op, ctx: FsContext, to: InodeRef, name: Uint8Array, inode: InodeRef, victim: InodeRef): Unlinked {
  dirUpdate(op, ctx, to, name, targetOf(inode));
  const orphaned = losesLastLink(victim);
  const gone = ctx.editInode(op, victim.blkno);
  dropName(op, ctx, gone);
  setTimes(gone.di, 'c', op.now);
  return { blkno: victim.blkno, orphaned };
}

/** The error for a directory that would come to lie below itself. */
export function belowItself(ctx: FsContext, blkno: number): UsageError {
  return refuse(ctx, 'BELOW_ITSELF', 'EINVAL', blkno, 'is a directory and cannot be moved below itself');
}
