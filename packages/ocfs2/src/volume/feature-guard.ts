/**
 * What this version reads but does not change: extended attributes. An operation that would have to change them is refused by name before
 * it changes anything, so they are never left half true.
 */
import { UsageError } from '@lunfs/device';
import { badField } from '../format/block.js';
import { DYN } from '../format/constants.js';
import { XATTR_BLOCK } from '../format/kinds.js';
import { XATTR_BLOCK_BODY, XATTR_INDEXED, XattrBlock, XattrEntry, XattrHeader } from '../format/structs.js';
import type { FsContext, InodeRef } from '../context.js';
import type { Op } from '../txn/index.js';

/** xe_type of the ACL attributes, and the bit that says the value lies beside the name (ondisk-format.md 7.2). */
const XATTR_TYPE = { ACL_ACCESS: 2, ACL_DEFAULT: 3 } as const;
const XATTR_LOCAL = 0x80;

function refuse(ctx: FsContext, blkno: number, feature: string, what: string): UsageError {
  return new UsageError(
    'FEATURE_READ_ONLY', 'EOPNOTSUPP',
    `${ctx.geo.device}: ${what} inode ${blkno} would change its ${feature}, which this version of lunfs only reads; do it on a Linux node, or with a later lunfs that writes ${feature}`,
    { device: ctx.geo.device, block: blkno, feature },
  );
}

/** Refuse to free an inode that owns blocks this version cannot free. Attributes that lie in the dinode go with it. */
export function guardWipe(ctx: FsContext, inode: InodeRef): void {
  const { di } = inode;
  if (!(di.dynFeatures & DYN.HAS_XATTR)) return;
  if (di.xattrLoc !== 0 || inlineTypes(ctx, inode).some((type) => !(type & XATTR_LOCAL))) throw refuse(ctx, inode.blkno, 'extended attributes', 'removing');
}

/** Refuse a new inode in this directory: it would inherit an ACL. */
export function guardCreate(op: Op, ctx: FsContext, dir: InodeRef): void {
  if (mayHave(op, ctx, dir, XATTR_TYPE.ACL_DEFAULT)) throw refuse(ctx, dir.blkno, 'default ACL', 'creating in');
}

/** Refuse new permission bits where an access ACL repeats them. */
export function guardMode(op: Op, ctx: FsContext, inode: InodeRef): void {
  if (mayHave(op, ctx, inode, XATTR_TYPE.ACL_ACCESS)) throw refuse(ctx, inode.blkno, 'access ACL', 'changing the mode of');
}

/** Does the inode have an attribute of this type? A tree of buckets is not searched: it may. */
function mayHave(op: Op, ctx: FsContext, inode: InodeRef, type: number): boolean {
  const { di } = inode;
  if (!(di.dynFeatures & DYN.HAS_XATTR)) return false;
  const is = (t: number) => (t & ~XATTR_LOCAL) === type;
  if (inlineTypes(ctx, inode).some(is)) return true;
  if (di.xattrLoc === 0) return false;
  const block = op.read(inode.lock, di.xattrLoc, XATTR_BLOCK);
  if (XattrBlock.at(block).flags & XATTR_INDEXED) return true;
  return entryTypes(block, XATTR_BLOCK_BODY, ctx.geo.blockSize - XATTR_BLOCK_BODY).some(is);
}

/** xe_type of the attributes in the dinode. */
function inlineTypes(ctx: FsContext, { block, di }: InodeRef): number[] {
  if (!(di.dynFeatures & DYN.INLINE_XATTR)) return [];
  return entryTypes(block, ctx.geo.blockSize - di.xattrInlineSize, di.xattrInlineSize);
}

function entryTypes(block: InodeRef['block'], base: number, size: number): number[] {
  if (size < XattrHeader.size) throw badField(block, 'xattr_header', 'size', size, 'is too small for a header');
  const { count } = XattrHeader.at(block, base);
  if (XattrHeader.size + count * XattrEntry.size > size) throw badField(block, 'xattr_header', 'xh_count', count, `does not fit ${size} bytes`);
  return Array.from({ length: count }, (_, i) => XattrEntry.at(block, base + XattrHeader.size + i * XattrEntry.size).type);
}
