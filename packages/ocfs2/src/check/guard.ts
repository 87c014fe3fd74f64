/** What goes wrong while something is checked is a finding about it; only a bug of ours is thrown. */
import { LunfsError } from '@lunfs/device';
import type { Findings } from './findings.js';

/** Run a part; what it throws becomes a finding under `code`. */
export async function guard<T>(findings: Findings, code: string, what: string, part: () => Promise<T>): Promise<T | undefined> {
  try {
    return await part();
  } catch (error) {
    report(findings, code, what, error);
    return undefined;
  }
}

/** The same for code that does no I/O. */
export function guardSync<T>(findings: Findings, code: string, what: string, part: () => T): T | undefined {
  try {
    return part();
  } catch (error) {
    report(findings, code, what, error);
    return undefined;
  }
}

/** Fields that make a block unusable (kinds.ts) and that fsck.ocfs2 has a name of its own for. */
const FIELD_CODES: Readonly<Record<string, string>> = {
  'dinode.i_blkno': 'INODE_BLKNO', 'dinode.i_fs_generation': 'INODE_GEN', 'dinode.id2.extent_list.l_count': 'EXTENT_LIST_COUNT',
  'dinode.id2.extent_list.l_next_free_rec': 'EXTENT_LIST_FREE', 'dinode.id2.extent_list.l_tree_depth': 'EXTENT_LIST_DEPTH',
  'chain_list.cl_count': 'CHAIN_COUNT', 'chain_list.cl_next_free_rec': 'CHAIN_NEXT_FREE', 'chain_list.cl_cpg': 'CHAIN_CPG', 'chain_list.cl_bpc': 'CHAIN_CPG',
  'local_alloc.la_size': 'LALLOC_SIZE', 'truncate_log.tl_count': 'DEALLOC_COUNT', 'truncate_log.tl_used': 'DEALLOC_USED',
  'inline_data.id_count': 'INLINE_DATA_COUNT_INVALID',
  'extent_block.h_blkno': 'EB_BLKNO', 'extent_block.h_fs_generation': 'EB_GEN', 'extent_block.h_list.l_count': 'EXTENT_LIST_COUNT',
  'extent_block.h_list.l_next_free_rec': 'EXTENT_LIST_FREE', 'extent_block.h_list.l_tree_depth': 'EXTENT_LIST_DEPTH',
  'group_desc.bg_blkno': 'GROUP_BLKNO', 'group_desc.bg_generation': 'GROUP_GEN', 'group_desc.bg_bits': 'GROUP_FREE_BITS', 'group_desc.bg_size': 'GROUP_FREE_BITS',
  'group_desc.bg_free_bits_count': 'GROUP_FREE_BITS',
  'dir_block_trailer.db_blkno': 'DIR_TRAILER_BLKNO',
  'dx_root.dr_list.l_count': 'EXTENT_LIST_COUNT', 'dx_root.dr_list.l_next_free_rec': 'EXTENT_LIST_FREE', 'dx_root.dr_list.l_tree_depth': 'EXTENT_LIST_DEPTH',
  'xattr_block.xt_list.l_count': 'EXTENT_LIST_COUNT', 'xattr_block.xt_list.l_next_free_rec': 'EXTENT_LIST_FREE', 'xattr_block.xt_list.l_tree_depth': 'EXTENT_LIST_DEPTH',
  'refcount_block.rf_list.l_count': 'EXTENT_LIST_COUNT', 'refcount_block.rf_list.l_next_free_rec': 'EXTENT_LIST_FREE', 'refcount_block.rf_list.l_tree_depth': 'EXTENT_LIST_DEPTH',
  // Fields of 64 bits that hold no number there can be (block.ts).
  'dinode.size': 'INODE_SIZE', 'dinode.lastEbBlk': 'EXTENT_LAST_EB', 'dinode.refcountLoc': 'REFCOUNT_LOC_INVALID', 'dinode.suballocLoc': 'INODE_SUBALLOC',
  'dinode.dxRoot': 'DX_TREE_CORRUPT', 'dinode.blkno': 'INODE_BLKNO', 'extent_block.blkno': 'EB_BLKNO', 'extent_block.suballocLoc': 'EXTENT_ALLOC_FREE',
  'group_desc.blkno': 'GROUP_BLKNO', 'group_desc.nextGroup': 'CHAIN_LINK_RANGE', 'group_desc.parentDinode': 'GROUP_PARENT', 'dir_block_trailer.blkno': 'DIR_TRAILER_BLKNO',
  'dir_block_trailer.parentDinode': 'DIR_TRAILER_PARENT_INODE', 'dir_block_trailer.freeNext': 'DX_FREE_LIST', 'dx_root.freeBlk': 'DX_FREE_LIST', 'dx_root.lastEbBlk': 'EXTENT_LAST_EB',
  'refcount_block.blkno': 'RB_BLKNO', 'refcount_block.parent': 'RB_PARENT', 'refcount_block.suballocLoc': 'EXTENT_ALLOC_FREE',
  'refcount_block.rf_blkno': 'RB_BLKNO', 'refcount_block.rf_fs_generation': 'RB_GEN', 'refcount_block.rl_count': 'REFCOUNT_LIST_COUNT', 'refcount_block.rl_used': 'REFCOUNT_LIST_USED',
  'xattr_header.xh_count': 'XATTR_COUNT_INVALID', 'xattr_entry.xe_name_offset': 'XATTR_NAME_OFFSET_INVALID', 'xattr_entry.xe_type': 'XATTR_ENTRY_INVALID',
  'xattr_entry.xe_value_size': 'XATTR_VALUE_INVALID', 'xattr_entry.valueSize': 'XATTR_VALUE_INVALID', 'xattr_value_root.lastEbBlk': 'EXTENT_LAST_EB', 'xattr_tree_root.lastEbBlk': 'EXTENT_LAST_EB', 'xattr_header.xh_num_buckets': 'XATTR_BUCKET_COUNT_INVALID',
};

/** Only what the volume or the device did: anything else is a bug of ours and must not look like a finding. */
function report(findings: Findings, code: string, what: string, error: unknown): void {
  if (!(error instanceof LunfsError) || error.kind === 'internal') throw error;
  const { structure, field } = error.fields;
  const block = typeof error.fields.block === 'number' ? error.fields.block : undefined;
  // A wrong checksum has a code of its own, as in fsck.ocfs2; what it does to the whole is told, too.
  if (field === 'checksum' || field === 'i_check' || field === 'xh_check') findings.error('BAD_CRC32', `${what}: ${error.message}`, block);
  findings.error(error.kind === 'io' ? 'UNREADABLE' : (FIELD_CODES[`${String(structure)}.${String(field).replace(/^\[\d+\]\./, '')}`] ?? code), `${what}: ${error.message}`, block);
}
