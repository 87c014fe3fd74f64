/**
 * A quota file in an operation: its blocks by their number in the file, and growth. Content goes through the journal like
 * all metadata; i_size covers exactly the blocks in use (fsck.ocfs2 compares it with the info block), clusters may reach
 * further. (Linux 6.1 fs/ocfs2/quota_global.c:ocfs2_quota_read, ocfs2_quota_write.)
 */
import { type Block, badField } from '../format/block.js';
import { DYN, FL } from '../format/constants.js';
import { QUOTA_BLOCK } from '../format/quota.js';
import type { FsContext, InodeRef } from '../context.js';
import { dinodeTree, lookup } from '../extents/index.js';
import { EX, type LockLevel } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import { allocate } from '../volume/file-write.js';

/** Inodes without an extent list. */
const NO_LIST = FL.CHAIN | FL.LOCAL_ALLOC | FL.DEALLOC | FL.SUPER_BLOCK;

export class QuotaFile {
  #ref: InodeRef;

  constructor(private readonly op: Op, private readonly ctx: FsContext, readonly ino: number, level: LockLevel) {
    this.#ref = ctx.inode(op, ino, level);
    const { flags, dynFeatures } = this.#ref.di;
    if (flags & NO_LIST || dynFeatures & DYN.INLINE_DATA) throw badField(this.#ref.block, 'dinode', 'i_flags', flags, 'is of no quota file, or its data lies in the dinode');
  }

  /** Blocks in use. */
  get blocks(): number {
    return Math.floor(this.#ref.di.size / this.ctx.geo.blockSize);
  }

  /** The dinode, for errors about the file as a whole. */
  get dinode(): Block {
    return this.#ref.block;
  }

  read(index: number): Block {
    return this.op.read(this.#ref.lock, this.place(index), QUOTA_BLOCK);
  }

  write(index: number): Block {
    return this.op.write(this.#ref.lock, this.place(index), QUOTA_BLOCK);
  }

  /** Ask for blocks before reading them one by one. */
  prefetch(indexes: readonly number[]): void {
    this.op.prefetch(this.#ref.lock, indexes.map((index) => this.place(index)), QUOTA_BLOCK);
  }

  /** Volume's block that holds block `index` of the file. */
  place(index: number): number {
    if (index >= this.blocks) throw badField(this.#ref.block, 'dinode', 'i_size', this.#ref.di.size, `ends the quota file before its block ${index}`);
    const { bpc } = this.ctx.geo;
    const rec = lookup(this.op, dinodeTree(this.#ref, this.op, this.ctx), Math.floor(index / bpc));
    if (rec.hole) throw badField(this.#ref.block, 'dinode.id2.extent_list', 'rec', index, 'is a block of a quota file that is not mapped');
    return rec.blkno + index - rec.cpos * bpc;
  }

  /** Add a block of zeros; its number in the file. Throws NO_SPACE. */
  append(): number {
    const { op, ctx } = this;
    const { bpc, blockSize } = ctx.geo;
    const index = this.blocks;
    this.#ref = ctx.editInode(op, this.ino);
    const cpos = Math.floor(index / bpc);
    if (lookup(op, dinodeTree(this.#ref, op, ctx), cpos).hole) allocate(op, ctx, this.#ref, cpos, 1, 0);
    this.#ref.di.size = (index + 1) * blockSize;
    op.create(ctx.metaLock(op, this.ino, EX), this.place(index), QUOTA_BLOCK);
    return index;
  }
}
