/**
 * Changing a file's size, and unmapping. Truncate goes in the kernel's order (ondisk-format.md 5.7): first i_size with the
 * rest of the last cluster zeroed, then clusters from the end backwards in several operations. A crash in between leaves a
 * consistent file with clusters beyond i_size; they are zeroed when the file grows over them and freed with the file.
 */
import { UsageError } from '@lunfs/device';
import type { FsContext, InodeRef } from '../context.js';
import { dinodeTree, lastBefore } from '../extents/index.js';
import { DYN } from '../format/constants.js';
import { capacity } from '../format/geometry.js';
import { InlineData } from '../format/structs.js';
import { EX } from '../locking/levels.js';
import { hasRefTree, leaveRefTree } from '../refcount/index.js';
import type { LockTable, Op } from '../txn/index.js';
import { unmapPiece } from './file-cow.js';
import { type Piece, zeroBytes } from './file-data.js';
import { inlineToExtents, resizeInline } from './file-inline.js';
import { isInline, lockFile } from './file-map.js';
import { type FileState, touch, withFile } from './file-state.js';
import { checkFileRange, fillTo, writtenPieces } from './file-write.js';
import { Ordered } from './ordered.js';

/** One past the last cluster of any file. */
export const NO_END = 0x1_0000_0000;

/**
 * Set a regular file's size. Shrinking, and setting the size it has (Linux 6.1 fs/ocfs2/file.c:ocfs2_setattr), frees the
 * clusters behind the new size and waits for direct I/O by old mappings; growing leaves a hole (volumes without SPARSE_ALLOC: zeroed
 * clusters). Throws FILE_TOO_LARGE, NO_SPACE.
 */
export async function truncateFile(ctx: FsContext, ino: number, size: number): Promise<void> {
  checkFileRange(ctx, ino, 0, size);
  await withFile(ctx, ino, async (state) => {
    for (;;) {
      const before = await ctx.engine.read('size', (op) => lockFile(op, ctx, ino, EX).di.size);
      if (size > before && !ctx.geo.sparse) return fillOrStay(ctx, ino, state, before, size);
      if (await resize(ctx, ino, state, before, size)) return;
    }
  });
}

/** `fillTo`, and when space runs out on the way the file is as long as before. */
async function fillOrStay(ctx: FsContext, ino: number, state: FileState, before: number, size: number): Promise<void> {
  try {
    await fillTo(ctx, ino, state, size);
  } catch (error) {
    const reached = await ctx.engine.read('size', (op) => lockFile(op, ctx, ino, EX).di.size);
    if (error instanceof UsageError && error.errno === 'ENOSPC') await resize(ctx, ino, state, reached, before);
    throw error;
  }
}

/** False: the size was not `before` any more. */
async function resize(ctx: FsContext, ino: number, state: FileState, before: number, size: number): Promise<boolean> {
  const { clusterSize } = ctx.geo;
  const release = await state.ranges.lock(Math.floor(Math.min(before, size) / clusterSize) * clusterSize, Number.POSITIVE_INFINITY, true);
  try {
    await state.recall();
    const ordered = new Ordered();
    const step = await ctx.engine.run('truncate', (op): { zero: Piece[]; unmap: boolean } | undefined => {
      const ref = lockFile(op, ctx, ino, EX);
      if (ref.di.size !== before) return undefined;
      ordered.attach(op, state);
      touch(op, ref.di, state);
      if (isInline(ref)) {
        if (size <= InlineData.at(ref.block).idCount) {
          resizeInline(ref, size);
          return { zero: [], unmap: false };
        }
        inlineToExtents(op, ctx, ref, ordered);
      }
      const end = Math.ceil(size / clusterSize);
      const zero = size <= before ? writtenPieces(op, ctx, ref, size, end * clusterSize, ordered) : writtenPieces(op, ctx, ref, before, size, ordered);
      ref.di.size = size;
      return { zero, unmap: size <= before };
    });
    if (step === undefined) return false;
    await ordered.finish(() => zeroPieces(ctx, step.zero));
    if (step.unmap) await removeClusters(ctx, ino, 'truncate', Math.ceil(size / clusterSize), NO_END);
    return true;
  } finally {
    release();
  }
}

export async function zeroPieces(ctx: FsContext, pieces: readonly Piece[]): Promise<void> {
  await Promise.all(pieces.map((p) => zeroBytes(ctx.engine.cache.device, p.device, p.length)));
}

/**
 * Unmap clusters [first, end) of a file from the end backwards, as many operations as it takes; the physical clusters go
 * to the truncate log, shared ones lose a reference. The caller holds the range lock and has recalled mappings.
 */
export async function removeClusters(ctx: FsContext, ino: number, name: string, first: number, end: number, locks?: LockTable): Promise<void> {
  for (let at = end; at > first; ) at = await ctx.engine.run(name, (op) => removeSome(op, ctx, ctx.editInode(op, ino), first, at), locks);
}

/** Free what a file has beyond its size: left by an unfinished truncate or direct write, or reserved there. */
export async function cutToSize(ctx: FsContext, ino: number): Promise<void> {
  await withFile(ctx, ino, async (state) => {
    const release = await state.ranges.lock(0, Number.POSITIVE_INFINITY, true);
    try {
      await state.recall();
      const first = await ctx.engine.read('size', (op) => {
        const ref = lockFile(op, ctx, ino, EX);
        return isInline(ref) ? NO_END : Math.ceil(ref.di.size / ctx.geo.clusterSize);
      });
      await removeClusters(ctx, ino, 'cut to size', first, NO_END);
    } finally {
      release();
    }
  });
}

/** One operation's worth: returns where the next one goes on, `first` at the end. Without any cluster left the file leaves its refcount tree (Linux 6.1 fs/ocfs2/file.c:ocfs2_truncate_file). */
function removeSome(op: Op, ctx: FsContext, ref: InodeRef, first: number, end: number): number {
  const tree = dinodeTree(ref, op, ctx);
  // All of them must fit an empty truncate log, or the operation would never get through.
  const most = Math.min(64, Math.floor(capacity.truncateRecs(ctx.geo.blockSize) / 2));
  let at = end;
  for (let i = 0; i < most; i++) {
    const rec = lastBefore(op, tree, at);
    if (rec === undefined || rec.cpos + rec.clusters <= first) {
      if (ref.di.clusters === 0 && hasRefTree(ref) && !mayShareValues(ref)) leaveRefTree(op, ctx, ref);
      return first;
    }
    at = unmapPiece(op, ctx, ref, rec, first, at);
  }
  return at;
}

/** May attributes of the inode lie outside it, in shared clusters? */
function mayShareValues({ di }: InodeRef): boolean {
  return (di.dynFeatures & DYN.HAS_XATTR) !== 0;
}
