/**
 * Where an extent tree hangs: the five kinds of roots (ondisk-format.md 5.1) behind one face. A root names the lock that
 * protects the tree's blocks, the block with the root list, where in it list, cluster count and last-leaf field sit, and
 * the rules its records follow. It belongs to one attempt of one operation and reads the block anew on every access, so
 * it always shows the operation's present bytes.
 */
import { InternalError } from '@lunfs/device';
import type { FsContext, InodeRef } from '../context.js';
import { Block, badField } from '../format/block.js';
import { DYN, FL, MAX_TREE_DEPTH } from '../format/constants.js';
import type { Geometry } from '../format/geometry.js';
import { type BlockKind, DINODE, DX_ROOT, REFCOUNT_BLOCK, XATTR_BLOCK } from '../format/kinds.js';
import { ExtentList } from '../format/lists.js';
import {
  DX_INLINE, DX_ROOT_LIST, Dinode, DxRoot, ID2, REFCOUNT_LIST, REFCOUNT_TREE, RefcountBlock, XATTR_INDEXED, XATTR_TREE_LIST, XattrBlock, XattrTreeRoot,
  XattrValueRoot,
} from '../format/structs.js';
import { PR } from '../locking/levels.js';
import type { MetaLock, Op } from '../txn/index.js';

/** A leaf record: clusters [cpos, cpos + clusters) of the tree lie from block `blkno` on. */
export interface ExtentRec {
  readonly cpos: number;
  readonly clusters: number;
  readonly blkno: number;
  /** EXT bits. */
  readonly flags: number;
}

/** What differs between trees besides the place of the root. */
interface TreeRules {
  /** Name of the structure that holds the root list, for errors. */
  readonly structure: string;
  /** Longest leaf record in clusters. */
  readonly maxRecord: number;
  /** Adjacent records may become one. */
  readonly merges: boolean;
  /** Records name whole clusters of the volume (refcount trees name single blocks). */
  readonly inClusters: boolean;
  /**
   * A leaf that lost a record may keep the place as the empty record. Not in refcount trees: fsck.ocfs2 1.8.7 follows every
   * record to its refcount block, an empty one too.
   */
  readonly emptyRecords: boolean;
  /** lunfs changes trees of this kind. */
  readonly editable: boolean;
}

/** The two root fields beside the list; every root structure has both. */
interface RootFields {
  clusters: number;
  lastEbBlk: number;
}

/** The same tree in another operation, by the lock level that one needs; undefined if it is gone. */
export type ReopenTree = (op: Op) => TreeRoot | undefined;

/** e_leaf_clusters is 16 bits wide. */
const MAX_LEAF_CLUSTERS = 0xffff;

export class TreeRoot {
  constructor(
    private readonly op: Op,
    readonly geo: Geometry,
    /** Blocks of the volume now: no record may reach beyond. */
    readonly volumeBlocks: number,
    /** The lock that protects the root and all extent blocks. */
    readonly owner: MetaLock,
    /** Block that holds the root list. */
    readonly blkno: number,
    /** Kind of that block, or the root's bytes where the caller keeps them and puts them into their block (outside xattr values). */
    private readonly root: BlockKind | Block,
    private readonly listAt: number,
    private readonly fieldsOf: (block: Block) => RootFields,
    readonly rules: TreeRules,
    /** Absent: changes of this tree are made in one operation, whatever they take. */
    readonly reopen?: ReopenTree,
  ) {}

  /** The root list; not to be changed. */
  list(): ExtentList {
    return new ExtentList(this.#read(), this.listAt);
  }

  /** The root list, for change. */
  editList(): ExtentList {
    return new ExtentList(this.#edit(), this.listAt);
  }

  /** Clusters of all leaf records. */
  get clusters(): number {
    return this.fieldsOf(this.#read()).clusters;
  }
  set clusters(v: number) {
    this.fieldsOf(this.#edit()).clusters = v;
  }

  /** Block of the rightmost leaf, 0 while the root list is the only leaf. */
  get lastEb(): number {
    return this.fieldsOf(this.#read()).lastEbBlk;
  }
  set lastEb(v: number) {
    this.fieldsOf(this.#edit()).lastEbBlk = v;
  }

  #edit(): Block {
    if (!this.rules.editable) throw new InternalError('TREE_READ_ONLY', `${this.rules.structure} of block ${this.blkno} is only read by this version`);
    return this.root instanceof Block ? this.root : this.op.write(this.owner, this.blkno, this.root);
  }

  #read(): Block {
    return this.root instanceof Block ? this.root : this.op.read(this.owner, this.blkno, this.root);
  }
}

/** The data tree of an inode that has one. To change it hold the inode by `ctx.editInode`. */
export function dinodeTree(ref: InodeRef, op: Op, ctx: FsContext): TreeRoot {
  // An inode with a name is a file: only a corrupt one says that it is an allocator, a log or a superblock.
  if (ref.di.flags & NO_TREE) throw badField(ref.block, 'dinode', 'i_flags', ref.di.flags, 'says that it has no extent list, where it should have one');
  if (!hasTree(ref)) throw new InternalError('NO_TREE', `inode ${ref.blkno} has no extent list`);
  const { generation } = ref.di;
  return new TreeRoot(op, ctx.geo, ctx.totalClusters * ctx.geo.bpc, ref.lock, ref.blkno, DINODE, ID2, (block) => Dinode.at(block), {
    structure: 'dinode.id2.extent_list', maxRecord: MAX_LEAF_CLUSTERS, merges: true, inClusters: true, emptyRecords: true, editable: true,
  }, (other) => {
    const again = other.readOnly ? ctx.inode(other, ref.blkno, PR) : ctx.editInode(other, ref.blkno);
    return hasTree(again) && again.di.generation === generation ? dinodeTree(again, other, ctx) : undefined;
  });
}

const NO_TREE = FL.CHAIN | FL.LOCAL_ALLOC | FL.DEALLOC | FL.SUPER_BLOCK;

function hasTree({ di }: InodeRef): boolean {
  return !(di.dynFeatures & DYN.INLINE_DATA || di.flags & NO_TREE);
}

/** The index tree of a directory whose dx_root (block `blkno`) is not inline. `owner`: the directory's meta lock. */
export function dxTree(owner: MetaLock, blkno: number, op: Op, ctx: FsContext): TreeRoot {
  const block = op.read(owner, blkno, DX_ROOT);
  if (DxRoot.at(block).flags & DX_INLINE) throw new InternalError('NO_TREE', `dx_root ${blkno} keeps its entries inline`);
  return new TreeRoot(op, ctx.geo, ctx.totalClusters * ctx.geo.bpc, owner, blkno, DX_ROOT, DX_ROOT_LIST, (b) => DxRoot.at(b), {
    structure: 'dx_root.dr_list', maxRecord: MAX_LEAF_CLUSTERS, merges: true, inClusters: true, emptyRecords: true, editable: true,
  });
}

/** Bytes of the longest record in an xattr bucket tree (Linux 6.1 fs/ocfs2/ocfs2_fs.h:OCFS2_MAX_XATTR_TREE_LEAF_SIZE). */
const XATTR_RECORD_BYTES = 65536;

/** The bucket tree of an indexed xattr block. `owner`: the inode's meta lock. */
export function xattrTree(owner: MetaLock, blkno: number, op: Op, ctx: FsContext): TreeRoot {
  const block = op.read(owner, blkno, XATTR_BLOCK);
  if (!(XattrBlock.at(block).flags & XATTR_INDEXED)) throw new InternalError('NO_TREE', `xattr block ${blkno} is not indexed`);
  return new TreeRoot(op, ctx.geo, ctx.totalClusters * ctx.geo.bpc, owner, blkno, XATTR_BLOCK, XATTR_TREE_LIST, (b) => XattrTreeRoot.at(b), {
    structure: 'xattr_block.xt_list', maxRecord: Math.max(1, XATTR_RECORD_BYTES / ctx.geo.clusterSize), merges: true, inClusters: true, emptyRecords: true, editable: true,
  });
}

/**
 * The tree of an outside xattr value. `root`: the value root alone, under the number of the block it belongs to; changes are
 * made in its bytes, and the caller puts them back into their storage.
 */
export function xattrValueTree(owner: MetaLock, root: Block, op: Op, ctx: FsContext): TreeRoot {
  const list = new ExtentList(root, XattrValueRoot.size);
  if (list.count !== 1 || list.nextFree > 1 || list.depth >= MAX_TREE_DEPTH) {
    throw badField(root, 'xattr_value_root', 'xr_list', `${list.nextFree}/${list.count}`, 'is not a list of one record');
  }
  return new TreeRoot(op, ctx.geo, ctx.totalClusters * ctx.geo.bpc, owner, root.blkno, root, XattrValueRoot.size, (b) => XattrValueRoot.at(b), {
    structure: 'xattr_value_root.xr_list', maxRecord: MAX_LEAF_CLUSTERS, merges: true, inClusters: true, emptyRecords: true, editable: true,
  });
}

/** A refcount tree whose root block is no leaf. `owner`: the refcount tree's lock. */
export function refcountTree(owner: MetaLock, blkno: number, op: Op, ctx: FsContext): TreeRoot {
  const block = op.read(owner, blkno, REFCOUNT_BLOCK);
  if (!(RefcountBlock.at(block).flags & REFCOUNT_TREE)) throw new InternalError('NO_TREE', `refcount block ${blkno} holds its records itself`);
  return new TreeRoot(op, ctx.geo, ctx.totalClusters * ctx.geo.bpc, owner, blkno, REFCOUNT_BLOCK, REFCOUNT_LIST, (b) => RefcountBlock.at(b), {
    structure: 'refcount_block.rf_list', maxRecord: 1, merges: false, inClusters: false, emptyRecords: false, editable: true,
  });
}
