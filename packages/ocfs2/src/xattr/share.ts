/**
 * The attributes of a clone: short values are copied, those that lie outside are shared like data, both inodes being in one refcount
 * tree (Linux 6.1 fs/ocfs2/xattr.c:ocfs2_xattr_attach_refcount_tree, ocfs2_reflink_xattr_header).
 *
 * Blocks of values go through the journal, and the cache has them under the lock of one inode. So a value is shared only when all of it
 * is in place: then whoever asks for it under the other lock, here or on another node, reads it from the device. From then on nobody
 * changes these blocks: a new value gets new clusters (write.ts: storeValue), and what is removed only drops a count (wipe.ts). They are
 * freed by the truncate log, whose flush puts the journal's images in place first.
 */
import type { FsContext, InodeRef } from '../context.js';
import { type TreeRoot, lookup, treeEnd } from '../extents/index.js';
import { badField } from '../format/block.js';
import { commonRefTree, shareRecord } from '../refcount/index.js';
import type { Op } from '../txn/index.js';
import { isLocal } from './entries.js';
import type { XattrName } from './names.js';
import { type FoundXattr, findXattr, valueTree } from './read.js';
import { emptyRoot, putXattr, replaceItem } from './write.js';

/** Give `clone`, held by `ctx.editInode` and without the attribute, one of `source`, held EX, if that has it. Throws NO_SPACE. */
export function cloneXattr(op: Op, ctx: FsContext, source: InodeRef, clone: InodeRef, name: XattrName): void {
  const found = findXattr(op, ctx, source, name);
  if (found === undefined) return;
  if (isLocal(found.item)) putXattr(op, ctx, clone, name, found.item.stored);
  else shareValue(op, ctx, ctx.editInode(op, source.blkno), clone, found);
}

function shareValue(op: Op, ctx: FsContext, source: InodeRef, clone: InodeRef, { item, blkno }: FoundXattr): void {
  const stored = item.stored.slice(), own = emptyRoot(ctx);
  const from = valueTree(op, ctx, source, blkno, stored), to = valueTree(op, ctx, clone, clone.blkno, own);
  needInPlace(op, ctx, from);
  const tree = commonRefTree(op, ctx, source, clone);
  for (let at = 0, end = treeEnd(op, from); at < end; ) at = shareRecord(op, ctx, tree, from, recordAt(op, from, at), at, end, to, 0);
  replaceItem(op, ctx, source, { ...item, stored });
  replaceItem(op, ctx, clone, { ...item, stored: own, offset: 0 });
}

function recordAt(op: Op, tree: TreeRoot, cpos: number) {
  const rec = lookup(op, tree, cpos);
  if (rec.hole) throw badField(tree.list().block, tree.rules.structure, 'rec', cpos, 'leaves a hole in the value');
  return rec;
}

/** Waits until no block of the value is newer in the journal than on the device. */
function needInPlace(op: Op, ctx: FsContext, value: TreeRoot): void {
  for (let at = 0, end = treeEnd(op, value); at < end; ) {
    const { blkno, cpos, clusters } = recordAt(op, value, at);
    for (let i = 0; i < clusters * ctx.geo.bpc; i++) if (op.cache.peek(blkno + i)?.dirty === true) op.after('value in place', () => ctx.engine.log.flush());
    at = cpos + clusters;
  }
}
