/**
 * Reflink: a new file that shares every cluster of another one (Linux 6.1 fs/ocfs2/refcounttree.c:ocfs2_reflink). The clone
 * is built in the orphan directory and moved to its name at the end, each step an operation of its own: a crash or an
 * error before the last one leaves an orphan, which is wiped, and of the source only flags and counts that say it is
 * alone.
 */
import type { FsContext, InodeRef } from '../context.js';
import { dirAdd } from '../dir/index.js';
import { DYN, MODE, fileTypeOfMode } from '../format/constants.js';
import { capacity } from '../format/geometry.js';
import { ID2, INLINE_DATA_START, InlineData } from '../format/structs.js';
import { EX } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import { ATTR, checkFlags, setLinkCount, setTimes } from './attributes.js';
import { isInline, lockFile } from './file-map.js';
import { foldLateTimes, withFile } from './file-state.js';
import { keepData, needReflink, shareExtents } from './file-share.js';
import type { InodeTable } from './inode-life.js';
import { changingDirectory, checkAbsent, checkNewName, makeInode } from './namespace.js';
import { orphanAdd, orphanRemove } from './orphans.js';
import { cloneXattrs, inheritAcl } from './xattrs.js';

/** How the clone differs from its source. */
export interface ReflinkOptions {
  /** Owner of the clone, and its permission bits (default: the source's). Ignored with `preserve`. */
  readonly uid: number;
  readonly gid: number;
  readonly mode?: number;
  /** A snapshot: owner, permissions and mtime as the source has them. The caller has the right to. */
  readonly preserve?: boolean;
}

/**
 * Clone regular file `source` as `name` in directory `dir`; returns its inode, referenced once in `inodes`. What a kernel
 * caches of the source above this volume must have been written before. Throws NO_REFLINK, EXISTS, NO_SPACE, FLAGS_FORBID.
 */
export async function reflinkFile(ctx: FsContext, inodes: InodeTable, source: number, dir: number, name: Uint8Array, options: ReflinkOptions): Promise<number> {
  needReflink(ctx);
  checkNewName(ctx, dir, name);
  const clone = await ctx.engine.run('reflink', (op) => {
    const inode = beginClone(op, ctx, source, dir, name, options);
    inodes.refer(op, inode);
    return inode.blkno;
  });
  try {
    await shareAll(ctx, source, clone, options);
    await cloneXattrs(ctx, source, clone, options.preserve === true);
    await ctx.engine.run('reflink name', (op) => nameClone(op, ctx, clone, dir, name, options));
    return clone;
  } catch (error) {
    await inodes.forget(clone);
    throw error;
  }
}

/** An empty inode without a name, for the clone. */
function beginClone(op: Op, ctx: FsContext, source: number, dirBlkno: number, name: Uint8Array, options: ReflinkOptions): InodeRef {
  const dir = changingDirectory(op, ctx, dirBlkno, false);
  checkAbsent(op, ctx, dir, name);
  const { di } = checkSource(ctx, lockFile(op, ctx, source, EX));
  const inode = makeInode(op, ctx, dir, { mode: MODE.REG | ((options.mode ?? di.mode) & 0o7777), uid: options.uid, gid: options.gid });
  setLinkCount(inode.di, 0);
  orphanAdd(op, ctx, inode);
  return inode;
}

function checkSource(ctx: FsContext, source: InodeRef): InodeRef {
  checkFlags(ctx, source, ATTR.IMMUTABLE | ATTR.APPEND);
  return source;
}

async function shareAll(ctx: FsContext, source: number, clone: number, options: ReflinkOptions): Promise<void> {
  await withFile(ctx, source, async (state) => {
    const release = await state.ranges.lock(0, Number.POSITIVE_INFINITY, true);
    try {
      await state.recall();
      const kept = await keepData(ctx, [source]);
      try {
        for (let at: number | undefined = 0; at !== undefined; ) {
          const from: number = at;
          at = await ctx.engine.run('reflink share', (op) => shareStep(op, ctx, source, clone, from, options), kept);
        }
      } finally {
        kept.release();
      }
    } finally {
      release();
    }
  });
}

/** One operation's worth; returns where the next one goes on, undefined when the clone shows all that the source does. */
function shareStep(op: Op, ctx: FsContext, sourceNo: number, cloneNo: number, from: number, options: ReflinkOptions): number | undefined {
  const source = checkSource(ctx, lockFile(op, ctx, sourceNo, EX)), clone = ctx.editInode(op, cloneNo);
  foldLateTimes(op, ctx, source);
  if (isInline(source)) copyInline(source, clone);
  else {
    const end = Math.ceil(source.di.size / ctx.geo.clusterSize);
    const next = shareExtents(op, ctx, source, clone, from, end, 0);
    if (next < end) return next;
  }
  completeClone(op, source, clone, options);
  return undefined;
}

function copyInline(source: InodeRef, clone: InodeRef): void {
  const { idCount } = InlineData.at(source.block);
  clone.block.bytes.set(source.block.bytes.subarray(ID2, INLINE_DATA_START + idCount), ID2);
  // Behind the source's data may be attributes; the clone gets its own.
  InlineData.at(clone.block).idCount = capacity.inlineData(clone.block.bytes.length);
  clone.di.dynFeatures |= DYN.INLINE_DATA;
}

/** (refcounttree.c:ocfs2_complete_reflink.) */
function completeClone(op: Op, source: InodeRef, clone: InodeRef, { preserve }: ReflinkOptions): void {
  const from = source.di, to = clone.di;
  to.size = from.size;
  to.attr = from.attr;
  if (!preserve) return;
  to.uid = from.uid;
  to.gid = from.gid;
  to.mode = from.mode;
  setTimes(to, 'm', { sec: from.mtime, nsec: from.mtimeNsec });
  setTimes(to, 'c', op.now);
}

/** From the orphan directory to its name (namei.c:ocfs2_mv_orphaned_inode_to_new). */
function nameClone(op: Op, ctx: FsContext, clone: number, dirBlkno: number, name: Uint8Array, { preserve }: ReflinkOptions): void {
  const look = changingDirectory(op, ctx, dirBlkno, false);
  checkAbsent(op, ctx, look, name);
  const dir = ctx.editInode(op, dirBlkno), inode = ctx.editInode(op, clone);
  orphanRemove(op, ctx, inode);
  setLinkCount(inode.di, 1);
  if (!preserve) inheritAcl(op, ctx, dir, inode, 0);
  dirAdd(op, ctx, dir, name, { blkno: clone, type: fileTypeOfMode(inode.di.mode) });
}
