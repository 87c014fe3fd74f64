/**
 * Kinds of metadata blocks: where the checksum sits and what must hold before any field is used (docs/design.md,
 * rule 3). The block cache validates each block once per load as the kind it was asked for.
 */
import { type Block, type View, badField } from './block.js';
import { verifyCheck } from './blockcheck.js';
import { DIR_TRAILER_SIZE, DYN, FL, MAX_TREE_DEPTH, MODE, S_IFMT, SIG } from './constants.js';
import { type Geometry, capacity } from './geometry.js';
import { ChainList, DxEntryList, ExtentList, RefcountRecList } from './lists.js';
import {
  Dinode, DirTrailer, DX_INLINE, DX_LEAF_LIST, DX_ROOT_LIST, DxLeaf, DxRoot, EB_LIST, ExtentBlock, GroupDesc, ID2, InlineData, LocalAlloc,
  REFCOUNT_LIST, REFCOUNT_TREE, RefcountBlock, TruncateLog, XattrBlock, XATTR_INDEXED, XATTR_TREE_LIST,
} from './structs.js';

export interface BlockKind {
  readonly name: string;
  /** A weaker kind that every block of this kind is, too. */
  readonly implies?: BlockKind;
  /** Byte of the 8 check bytes, -1 when the kind carries none. */
  checkAt(geo: Geometry): number;
  /** Throws a CorruptionError that names block, structure and field. */
  validate(block: Block, geo: Geometry): void;
}

function want(block: Block, structure: string, field: string, value: unknown, expected: unknown): void {
  if (value !== expected) throw badField(block, structure, field, value, `should be ${String(expected)}`);
}

/** Every block read is asked for its signature: it is compared where it lies, and a text made of it only for the error. */
function wantSignature(block: Block, structure: string, field: string, view: View & { readonly signature: string }, expected: string, at = view.base): void {
  let i = 0;
  while (i < expected.length && block.bytes[at + i] === expected.charCodeAt(i)) i++;
  if (i < expected.length || block.bytes[at + i] !== 0) want(block, structure, field, view.signature, expected);
}

/** The checks every extent list must pass at a known capacity. `maxDepth`: exclusive upper bound for its depth. */
export function validateExtentList(block: Block, list: ExtentList, structure: string, count: number, maxDepth = MAX_TREE_DEPTH): void {
  want(block, structure, 'l_count', list.count, count);
  if (list.depth >= maxDepth) throw badField(block, structure, 'l_tree_depth', list.depth, `is not below ${maxDepth}`);
  if (list.nextFree > list.count) throw badField(block, structure, 'l_next_free_rec', list.nextFree, `exceeds l_count ${list.count}`);
}

/** A dinode block that may be freed (VALID clear): of an inode known by its number only, and for scans of suballocators. */
export const DINODE_ANY: BlockKind = {
  name: 'dinode (any state)',
  checkAt: () => 0x80,
  validate(block) {
    wantSignature(block, 'dinode', 'i_signature', Dinode.at(block), SIG.dinode);
    want(block, 'dinode', 'i_blkno', Dinode.at(block).blkno, block.blkno);
  },
};

/** An inode. (Linux 6.1 fs/ocfs2/inode.c:ocfs2_validate_inode_block, ocfs2_filecheck.) Freed dinodes are rejected. */
export const DINODE: BlockKind = {
  name: 'dinode',
  implies: DINODE_ANY,
  checkAt: () => 0x80,
  validate(block, geo) {
    const di = Dinode.at(block);
    wantSignature(block, 'dinode', 'i_signature', di, SIG.dinode);
    want(block, 'dinode', 'i_blkno', di.blkno, block.blkno);
    want(block, 'dinode', 'i_fs_generation', di.fsGeneration, geo.fsGeneration);
    if (!(di.flags & FL.VALID)) throw badField(block, 'dinode', 'i_flags', di.flags, 'says the inode is not in use');
    validateDinodeBody(block, geo);
  },
};

const TYPES: ReadonlySet<number> = new Set(Object.values(MODE));

function validateDinodeBody(block: Block, geo: Geometry): void {
  const di = Dinode.at(block);
  const { flags, mode, dynFeatures } = di;
  const type = mode & S_IFMT;
  if (!TYPES.has(type)) throw badField(block, 'dinode', 'i_mode', mode, 'is of no known type');
  const inlineXattr = dynFeatures & DYN.INLINE_XATTR ? di.xattrInlineSize : 0;
  if (inlineXattr > 0 && (inlineXattr % 16 !== 0 || inlineXattr > geo.blockSize - 0xd0)) throw badField(block, 'dinode', 'i_xattr_inline_size', inlineXattr, 'does not fit the block');
  if (flags & FL.CHAIN) {
    const cl = new ChainList(block);
    want(block, 'chain_list', 'cl_count', cl.count, capacity.chains(geo.blockSize));
    if (cl.nextFree > cl.count) throw badField(block, 'chain_list', 'cl_next_free_rec', cl.nextFree, `exceeds cl_count ${cl.count}`);
    if (cl.bpc === 0 || cl.cpg === 0) throw badField(block, 'chain_list', cl.bpc === 0 ? 'cl_bpc' : 'cl_cpg', 0, 'is zero');
  } else if (flags & FL.LOCAL_ALLOC) {
    if (LocalAlloc.at(block).size > capacity.localAllocBytes(geo.blockSize)) throw badField(block, 'local_alloc', 'la_size', LocalAlloc.at(block).size, 'does not fit the block');
  } else if (flags & FL.DEALLOC) {
    const tl = TruncateLog.at(block);
    want(block, 'truncate_log', 'tl_count', tl.count, capacity.truncateRecs(geo.blockSize));
    if (tl.used > tl.count) throw badField(block, 'truncate_log', 'tl_used', tl.used, `exceeds tl_count ${tl.count}`);
  } else if (flags & FL.SUPER_BLOCK) {
    throw badField(block, 'dinode', 'i_flags', flags, 'claims to be a superblock');
  } else if (dynFeatures & DYN.INLINE_DATA) {
    if (type !== MODE.REG && type !== MODE.DIR) throw badField(block, 'dinode', 'i_dyn_features', dynFeatures, 'has inline data but is neither file nor directory');
    want(block, 'dinode', 'i_clusters', di.clusters, 0);
    want(block, 'inline_data', 'id_count', InlineData.at(block).idCount, capacity.inlineData(geo.blockSize, inlineXattr));
    if (di.size > InlineData.at(block).idCount) throw badField(block, 'dinode', 'i_size', di.size, `exceeds the inline area of ${InlineData.at(block).idCount} bytes`);
  } else if (type === MODE.LNK && di.clusters === 0) {
    if (di.size > geo.blockSize - 0xc0 - 1 - inlineXattr) throw badField(block, 'dinode', 'i_size', di.size, 'exceeds a fast symlink');
  } else if (type === MODE.REG || type === MODE.DIR || type === MODE.LNK) {
    const list = new ExtentList(block, ID2);
    // A list of l_count 0 with everything zero is an old special case of system files without extents.
    validateExtentList(block, list, 'dinode.id2.extent_list', capacity.dinodeExtents(geo.blockSize, inlineXattr));
    // mkfs.ocfs2 1.8.7 without inline-data counts the usable bytes of lost+found's block, not those of its trailer.
    if (type === MODE.DIR && di.size % geo.blockSize !== 0 && di.size !== geo.blockSize - DIR_TRAILER_SIZE) throw badField(block, 'dinode', 'i_size', di.size, 'of a directory is not in whole blocks');
    if (type === MODE.DIR && di.size > di.clusters * geo.clusterSize) throw badField(block, 'dinode', 'i_size', di.size, `of a directory exceeds its ${di.clusters} clusters`);
  }
}

export const EXTENT_BLOCK: BlockKind = {
  name: 'extent_block',
  checkAt: () => 0x08,
  validate(block, geo) {
    const eb = ExtentBlock.at(block);
    wantSignature(block, 'extent_block', 'h_signature', eb, SIG.extentBlock);
    want(block, 'extent_block', 'h_blkno', eb.blkno, block.blkno);
    want(block, 'extent_block', 'h_fs_generation', eb.fsGeneration, geo.fsGeneration);
    validateExtentList(block, new ExtentList(block, EB_LIST), 'extent_block.h_list', capacity.extentBlock(geo.blockSize));
  },
};

/** (Linux 6.1 fs/ocfs2/suballoc.c:ocfs2_validate_gd_self.) Checks against the parent are the allocator's. */
export const GROUP_DESC: BlockKind = {
  name: 'group_desc',
  checkAt: () => 0x30,
  validate(block, geo) {
    const gd = GroupDesc.at(block);
    wantSignature(block, 'group_desc', 'bg_signature', gd, SIG.group);
    want(block, 'group_desc', 'bg_blkno', gd.blkno, block.blkno);
    want(block, 'group_desc', 'bg_generation', gd.generation, geo.fsGeneration);
    if (gd.size > geo.blockSize - 0x40) throw badField(block, 'group_desc', 'bg_size', gd.size, 'does not fit the block');
    if (gd.bits > 8 * gd.size) throw badField(block, 'group_desc', 'bg_bits', gd.bits, `exceeds the bitmap of ${gd.size} bytes`);
    if (gd.freeBits > gd.bits) throw badField(block, 'group_desc', 'bg_free_bits_count', gd.freeBits, `exceeds bg_bits ${gd.bits}`);
  },
};

/** A directory block with a trailer (metaecc volumes, indexed directories). */
export const DIR_BLOCK: BlockKind = {
  name: 'directory block',
  checkAt: (geo) => geo.blockSize - DIR_TRAILER_SIZE + 0x38,
  validate(block, geo) {
    const t = DirTrailer.at(block, geo.blockSize - DIR_TRAILER_SIZE);
    wantSignature(block, 'dir_block_trailer', 'db_signature', t, SIG.dirTrailer, t.base + 0x10);
    want(block, 'dir_block_trailer', 'db_blkno', t.blkno, block.blkno);
  },
};

/** A directory block without a trailer. Its entries are checked as they are walked. */
export const DIR_BLOCK_PLAIN: BlockKind = { name: 'directory block', checkAt: () => -1, validate: () => undefined };

export const DX_ROOT: BlockKind = {
  name: 'dx_root',
  checkAt: () => 0x08,
  validate(block, geo) {
    const root = DxRoot.at(block);
    wantSignature(block, 'dx_root', 'dr_signature', root, SIG.dxRoot);
    want(block, 'dx_root', 'dr_blkno', root.blkno, block.blkno);
    want(block, 'dx_root', 'dr_fs_generation', root.fsGeneration, geo.fsGeneration);
    if (root.flags & DX_INLINE) {
      const list = new DxEntryList(block, DX_ROOT_LIST);
      want(block, 'dx_root', 'dr_entries.de_count', list.count, capacity.dxRootEntries(geo.blockSize));
      if (list.used > list.count) throw badField(block, 'dx_root', 'dr_entries.de_num_used', list.used, `exceeds de_count ${list.count}`);
    } else validateExtentList(block, new ExtentList(block, DX_ROOT_LIST), 'dx_root.dr_list', capacity.dxRootExtents(geo.blockSize));
  },
};

export const DX_LEAF: BlockKind = {
  name: 'dx_leaf',
  checkAt: () => 0x08,
  validate(block, geo) {
    const leaf = DxLeaf.at(block);
    wantSignature(block, 'dx_leaf', 'dl_signature', leaf, SIG.dxLeaf);
    want(block, 'dx_leaf', 'dl_blkno', leaf.blkno, block.blkno);
    want(block, 'dx_leaf', 'dl_fs_generation', leaf.fsGeneration, geo.fsGeneration);
    const list = new DxEntryList(block, DX_LEAF_LIST);
    want(block, 'dx_leaf', 'dl_list.de_count', list.count, capacity.dxLeafEntries(geo.blockSize));
    if (list.used > list.count) throw badField(block, 'dx_leaf', 'dl_list.de_num_used', list.used, `exceeds de_count ${list.count}`);
  },
};

export const XATTR_BLOCK: BlockKind = {
  name: 'xattr_block',
  checkAt: () => 0x18,
  validate(block, geo) {
    const xb = XattrBlock.at(block);
    wantSignature(block, 'xattr_block', 'xb_signature', xb, SIG.xattr);
    want(block, 'xattr_block', 'xb_blkno', xb.blkno, block.blkno);
    want(block, 'xattr_block', 'xb_fs_generation', xb.fsGeneration, geo.fsGeneration);
    if (xb.flags & XATTR_INDEXED) validateExtentList(block, new ExtentList(block, XATTR_TREE_LIST), 'xattr_block.xt_list', capacity.xattrTree(geo.blockSize));
  },
};

export const REFCOUNT_BLOCK: BlockKind = {
  name: 'refcount_block',
  checkAt: () => 0x20,
  validate(block, geo) {
    const rb = RefcountBlock.at(block);
    wantSignature(block, 'refcount_block', 'rf_signature', rb, SIG.refcount);
    want(block, 'refcount_block', 'rf_blkno', rb.blkno, block.blkno);
    want(block, 'refcount_block', 'rf_fs_generation', rb.fsGeneration, geo.fsGeneration);
    if (rb.flags & REFCOUNT_TREE) validateExtentList(block, new ExtentList(block, REFCOUNT_LIST), 'refcount_block.rf_list', capacity.refcount(geo.blockSize));
    else {
      const list = new RefcountRecList(block);
      want(block, 'refcount_block', 'rl_count', list.count, capacity.refcount(geo.blockSize));
      if (list.used > list.count) throw badField(block, 'refcount_block', 'rl_used', list.used, `exceeds rl_count ${list.count}`);
    }
  },
};

/** Bytes without a structure of their own: symlink targets, outside xattr values, xattr buckets (validated by their readers). */
export const RAW_BLOCK: BlockKind = { name: 'data block', checkAt: () => -1, validate: () => undefined };

/** Validate a freshly read block as `kind`: checksum (mending one flipped bit, as the kernel does), then fields. */
export function validateBlock(block: Block, kind: BlockKind, geo: Geometry): void {
  if (geo.metaecc) {
    const at = kind.checkAt(geo);
    if (at >= 0 && verifyCheck(block.bytes, at) === 'bad') throw badField(block, kind.name, 'checksum', 'CRC', 'does not match the block');
  }
  kind.validate(block, geo);
}
