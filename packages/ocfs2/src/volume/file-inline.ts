/**
 * Files whose data lies in the dinode (ondisk-format.md 5.7, "Inline data"): when one begins so, writes inside it, and the
 * conversion to extents. The area is shorter by the inline xattrs behind it, which stay where they are.
 */
import type { FsContext, InodeRef } from '../context.js';
import { claimClusters } from '../alloc/index.js';
import { dinodeTree, insert } from '../extents/index.js';
import { DYN, MODE, S_IFMT } from '../format/constants.js';
import { capacity } from '../format/geometry.js';
import { ExtentList } from '../format/lists.js';
import { ID2, INLINE_DATA_START, InlineData } from '../format/structs.js';
import type { Op } from '../txn/index.js';
import { writeFresh } from './file-data.js';
import { isInline } from './file-map.js';
import type { Ordered } from './ordered.js';

/** Bytes at the end of the dinode that belong to inline xattrs. */
function xattrBytes(ref: InodeRef): number {
  return ref.di.dynFeatures & DYN.INLINE_XATTR ? ref.di.xattrInlineSize : 0;
}

/** Is, or may now become, a file of `end` bytes inline? */
export function becomesInline(ctx: FsContext, ref: InodeRef, end: number): boolean {
  const { di } = ref;
  if (isInline(ref)) return end <= InlineData.at(ref.block).idCount;
  return ctx.geo.inlineData && (di.mode & S_IFMT) === MODE.REG && di.clusters === 0 && di.size === 0 && end <= capacity.inlineData(ctx.geo.blockSize, xattrBytes(ref));
}

/** Write into the inline area, making the file inline first if it is not. `becomesInline` must hold for the end. */
export function writeInline(ctx: FsContext, ref: InodeRef, offset: number, from: Uint8Array): void {
  const { di, block } = ref;
  if (!isInline(ref)) {
    const idCount = capacity.inlineData(ctx.geo.blockSize, xattrBytes(ref));
    block.bytes.fill(0, ID2, INLINE_DATA_START + idCount);
    InlineData.at(block).idCount = idCount;
    di.dynFeatures |= DYN.INLINE_DATA;
  }
  resizeInline(ref, Math.max(di.size, offset + from.length));
  block.bytes.set(from, INLINE_DATA_START + offset);
}

/** Set the size of an inline file; everything behind the smaller of both ends becomes zero. */
export function resizeInline(ref: InodeRef, size: number): void {
  const { idCount } = InlineData.at(ref.block);
  ref.block.bytes.fill(0, INLINE_DATA_START + Math.min(ref.di.size, size), INLINE_DATA_START + idCount);
  ref.di.size = size;
}

/** Turn an inline file into one with extents: its bytes move to one new cluster, written with the operation's ordered data. */
export function inlineToExtents(op: Op, ctx: FsContext, ref: InodeRef, ordered: Ordered): void {
  const { di, block } = ref;
  const data = block.bytes.slice(INLINE_DATA_START, INLINE_DATA_START + di.size);
  di.dynFeatures &= ~DYN.INLINE_DATA;
  block.bytes.fill(0, ID2, block.bytes.length - xattrBytes(ref));
  new ExtentList(block, ID2).count = capacity.dinodeExtents(ctx.geo.blockSize, xattrBytes(ref));
  if (data.length === 0) return;
  const { start } = claimClusters(op, ctx, 1, 1);
  const { bpc, blockSize, clusterSize } = ctx.geo;
  insert(op, ctx, dinodeTree(ref, op, ctx), { cpos: 0, clusters: 1, blkno: start * bpc, flags: 0 });
  const piece = { offset: 0, length: clusterSize, device: start * bpc * blockSize };
  ordered.add(() => writeFresh(ctx.engine.cache.device, piece, 0, data));
}
