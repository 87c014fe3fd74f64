/**
 * What the verifier must say of each field that was changed, and which changes give blocks away.
 *
 * A rule: the codes of which at least one must be among the findings, and, where a change of the field may be no damage at
 * all, why (`quiet`). A rule without codes is a field that is free by the format. The first rule that fits a class holds; a
 * class without a rule fails the case, so that a new field gets its line here.
 */
import type { LunfsError } from '@lunfs/device';
import type { CheckReport } from '@lunfs/ocfs2';
import { type Case, CaseFailed } from './run-case.js';

interface Rule {
  readonly of: RegExp;
  readonly codes: readonly string[];
  readonly quiet?: string;
}

const must = (of: RegExp, ...codes: string[]): Rule => ({ of, codes });
const may = (of: RegExp, quiet: string, ...codes: string[]): Rule => ({ of, codes, quiet });

/** In the place of codes: any. */
const ANY = '*';

const SYSTEM = 'global_bitmap|global_inode_alloc|inodeAlloc|extentAlloc|localAlloc|truncateLog|journal|heartbeat|slot_map|orphanDir|quota file|system file';

const RULES: readonly Rule[] = [
  // What nobody reads.
  may(/: reserved\.bytes$|\.reserved\d?$/, 'bytes that no table declares: reserved and kept as they are, or data, or one of many entries like those that are declared', ANY),
  may(/\.check$/, 'the checksum is stamped after the change; without metaecc nobody reads it', 'BAD_CRC32'),
  // Two findings at once: the copy is not what it was, and not what the superblock is.
  must(/backup superblock: /, 'BACKUP_SUPER_STALE', 'RECOVER_BACKUP_SUPERBLOCK', 'INODE_BLKNO'),
  // Lists of what features bring; their fields are those of other lists, the names are not.
  must(/^discontiguous group: extent_list\./, 'DISCONTIG_BG_DEPTH', 'DISCONTIG_BG_COUNT', 'DISCONTIG_BG_NEXT_FREE_REC', 'DISCONTIG_BG_LESS_CLUSTERS', 'DISCONTIG_BG_CLUSTERS', 'DISCONTIG_BG_REC_CORRUPT', 'GROUP_FREE_BITS'),
  may(/^discontiguous group: leaf_rec\.e_flags$/, 'records of groups have no flags', 'DISCONTIG_BG_REC_CORRUPT'),
  must(/^discontiguous group: leaf_rec\./, 'DISCONTIG_BG_REC_CORRUPT', 'DISCONTIG_BG_REC_RANGE', 'DISCONTIG_BG_CLUSTERS', 'DISCONTIG_BG_LESS_CLUSTERS', 'EXTENT_ALLOC_FREE', 'CLUSTER_ALLOC_BIT'),
  must(/^(indexed xattr block|extent block of indexed xattr block): (extent_list|leaf_rec|interior_rec)\./, 'XATTR_BLOCK_INVALID', 'XATTR_ENTRY_INVALID', 'EXTENT_LIST_COUNT', 'EXTENT_LIST_DEPTH', 'EXTENT_LIST_FREE', 'EXTENT_FLAGS', 'EXTENT_MARKED_REFCOUNTED', 'EXTENT_EB_INVALID', 'EXTENT_RANGES', 'CLUSTER_ALLOC_BIT', 'EXTENT_BLKNO_RANGE', 'EXTENT_BLKNO_UNALIGNED', 'EXTENT_MARKED_UNWRITTEN'),
  must(/^xattr value root: /, 'XATTR_VALUE_INVALID', 'EXTENT_LIST_DEPTH', 'EXTENT_LIST_FREE', 'EXTENT_FLAGS', 'EXTENT_MARKED_REFCOUNTED', 'EXTENT_MARKED_UNWRITTEN', 'NO_HOLES', 'CLUSTER_ALLOC_BIT', 'EXTENT_BLKNO_RANGE', 'EXTENT_BLKNO_UNALIGNED', 'REFCOUNT_COUNT_INVALID'),
  must(/^quota file: (dinode\.size|leaf_rec\.e_cpos)$/, 'QMAGIC_INVALID', 'QTREE_BLK_INVALID', 'DQBLK_INVALID', 'QUOTA_LOCAL', 'QUOTA_USAGE', 'QUOTA_FREE_LIST', 'INODE_SIZE', 'INODE_ALLOC_REPAIR', 'INODE_SPARSE_SIZE', 'EXTENT_OVERLAP', 'EXTENT_RANGES'),
  must(/^refcount tree: (extent_list|leaf_rec)\./, 'REFCOUNT_CLUSTERS', 'REFCOUNT_BLOCK_INVALID', 'EXTENT_LIST_COUNT', 'EXTENT_LIST_DEPTH', 'EXTENT_LIST_FREE', 'EXTENT_FLAGS', 'EXTENT_MARKED_REFCOUNTED', 'EXTENT_MARKED_UNWRITTEN', 'EXTENT_BLKNO_RANGE', 'RB_BLKNO', 'REFCOUNT_ROOT_BLOCK_INVALID', 'EXTENT_OVERLAP'),
  // Dinodes.
  may(/: dinode\.(uid|gid)$/, 'without quota anybody may own anything', 'QUOTA_USAGE'),
  may(/: dinode\.(atime|ctime|mtime|atimeNsec|ctimeNsec|mtimeNsec|attr|generation|dioOrphanedSlot)$/, 'owner, times, attribute bits and generation may have any value'),
  may(/superblock: dinode\.(generation|flags|links|mode|size)$/, 'nobody reads these of the superblock'),
  may(/superblock: dinode\.fsGeneration$/, 'all blocks carry it', 'CHAIN_COUNT', 'INODE_GEN'),
  must(/superblock: dinode\.clusters$/, 'SUPERBLOCK_CLUSTERS', 'CHAIN_I_CLUSTERS'),
  may(/superblock: dinode\.signature$/, 'bytes after the NUL are not compared, as in Linux'),
  must(/superblock: dinode\.blkno$/),
  must(/: dinode\.signature$/, 'INODE_ALLOC_REPAIR', 'CHAIN_COUNT'),
  must(/: dinode\.blkno$/, 'INODE_BLKNO'),
  must(/: dinode\.fsGeneration$/, 'INODE_GEN'),
  must(/: dinode\.suballoc(Slot|Bit)$/, 'INODE_SUBALLOC'),
  may(/: dinode\.suballocLoc$/, '0: the group is where the bit leads to, as before that field', 'INODE_SUBALLOC'),
  must(/: dinode\.dtime$/, 'INODE_NZ_DTIME'),
  may(new RegExp(`^(${SYSTEM}): dinode\\.links$`), 'links of system files are not counted', 'INODE_COUNT'),
  must(/: dinode\.links$/, 'INODE_COUNT'),
  may(/: dinode\.linksHi$/, 'counts in indexed directories only', 'INODE_COUNT'),
  may(/: dinode\.xattrInlineSize$/, 'read with the flag only', 'INODE_ALLOC_REPAIR', 'EXTENT_LIST_COUNT', 'INLINE_DATA_COUNT_INVALID', 'XATTR_LOCATION_INVALID'),
  may(/: dinode\.xattrLoc$/, 'read with the flag only; 0 means none, then what it named belongs to nobody', 'XATTR_BLOCK_INVALID', 'EXTENT_ALLOC_LEAK', 'CLUSTER_ALLOC_BIT'),
  may(/: dinode\.dxRoot$/, 'read with the flag only', 'DX_TREE_CORRUPT', 'EXTENT_ALLOC_LEAK'),
  must(/: dinode\.refcountLoc$/, 'REFCOUNT_LOC_INVALID', 'REFCOUNT_ROOT_BLOCK_INVALID', 'REFCOUNT_COUNT'),
  may(/: dinode\.lastEbBlk$/, 'means nothing where there is no extent tree', 'EXTENT_LAST_EB', 'EXTENT_ALLOC_LEAK'),
  may(/: dinode\.orphanedSlot$/, 'means nothing without the flag', 'INODE_NOT_CONNECTED'),
  may(/: dinode\.dynFeatures$/, 'bits that do not exist', 'REFCOUNT_LOC_INVALID', 'REFCOUNT_FLAG_INVALID', 'DX_TREE_CORRUPT', 'EXTENT_LIST_COUNT', 'INODE_ALLOC_REPAIR', 'INLINE_DATA_COUNT_INVALID', 'INLINE_DATA_FLAG_INVALID', 'EXTENT_ALLOC_LEAK', 'EXTENT_MARKED_REFCOUNTED', 'XATTR_BLOCK_INVALID', 'XATTR_LOCATION_INVALID', 'XATTR_COUNT_INVALID', 'DIRENT_INODE_FREE', 'DIR_TRAILER_BLKNO', 'REFCOUNT_ROOT_BLOCK_INVALID', 'CHAIN_COUNT', 'EXTENT_LIST_DEPTH', 'EXTENT_LIST_FREE'),
  may(/: dinode\.flags$/, 'bits that do not exist, or that only say what the file is for', 'QUOTA_USAGE', 'INODE_ALLOC_REPAIR', 'CHAIN_COUNT', 'INODE_ORPHANED', 'INODE_NOT_CONNECTED', 'INODE_COUNT', 'CLUSTER_ALLOC_BIT', 'DEALLOC_COUNT', 'LALLOC_SIZE', 'INODE_SIZE', 'INODE_CLUSTERS', 'NO_HOLES', 'DEALLOC_USED', 'LALLOC_BM_SIZE', 'LALLOC_NZ_USED', 'CHAIN_NEXT_FREE', 'CHAIN_CPG', 'JOURNAL_FILE_INVALID', 'QMAGIC_INVALID', 'EXTENT_LIST_COUNT', 'EXTENT_LIST_FREE', 'EXTENT_LIST_DEPTH'),
  may(/: dinode\.mode$/, 'permissions', 'EXTENT_LIST_COUNT', 'DIRENT_INODE_FREE', 'INODE_ALLOC_REPAIR', 'DIRENT_TYPE', 'CHAIN_COUNT', 'INODE_COUNT'),
  may(/(heartbeat|slot_map|system file|special file): dinode\.size$/, 'less than there are clusters for; device files have none', 'INODE_SIZE', 'INODE_ALLOC_REPAIR'),
  may(/(file|symlink): dinode\.size$/, 'a file may have any size', 'INODE_SIZE', 'INODE_ALLOC_REPAIR', 'INODE_SPARSE_SIZE', 'LINK_SIZE', 'LINK_NULLTERM', 'LINK_FAST_DATA', 'INODE_INLINE_SIZE'),
  must(/: dinode\.size$/, 'INODE_SIZE', 'INODE_ALLOC_REPAIR', 'CHAIN_I_SIZE', 'DIR_ZERO', 'INODE_COUNT', 'DIRENT_INODE_FREE', 'DIRENT_LENGTH', 'JOURNAL_TOO_SMALL', 'JOURNAL_FILE_INVALID', 'DX_LOOKUP_FAILED'),
  must(/: dinode\.clusters$/, 'CHAIN_I_CLUSTERS', 'INODE_SPARSE_CLUSTERS', 'INODE_CLUSTERS', 'INODE_ALLOC_REPAIR', 'LINK_FAST_DATA', 'EXTENT_LIST_COUNT', 'EXTENT_LIST_FREE', 'INODE_SIZE', 'LINK_SIZE', 'LINK_NULLTERM', 'INODE_INLINE_CLUSTERS'),
  may(/journal: dinode\.(rdev|journal1\..*)$/, 'clean or dirty is a state; the generation counts', 'JOURNAL_DIRTY'),
  may(/(file|directory|symlink|heartbeat|slot_map|orphanDir|truncateLog): dinode\.rdev$/, 'means something of device files and allocators only'),
  must(/: dinode\.(rdev|bitmap1\..*)$/, 'CHAIN_GROUP_BITS', 'LALLOC_BM_SIZE', 'LALLOC_NZ_USED', 'LALLOC_USED', 'LALLOC_USED_OVERRUN', 'LALLOC_BM_OVERRUN', 'DUP_CLUSTERS_CLONE', 'CLUSTER_ALLOC_BIT', 'LALLOC_NZ_BM'),
  must(/: inline_data\.idCount$/, 'INLINE_DATA_COUNT_INVALID'),
  may(/: inline_data\.data$/, 'data'),
  may(/: symlink\.target$/, 'data, as long as it ends where the size says', 'LINK_SIZE', 'LINK_NULLTERM'),
  // Allocators.
  may(/: chain_list\.cl_cpg$/, 'smaller groups than usual are none the worse', 'CHAIN_CPG', 'GROUP_FREE_BITS'),
  must(/: chain_list\.cl_bpc$/, 'CHAIN_CPG'),
  must(/: chain_list\.cl_count$/, 'CHAIN_COUNT'),
  must(/: chain_list\.cl_next_free_rec$/, 'CHAIN_NEXT_FREE', 'CHAIN_GROUP_BITS', 'CHAIN_EMPTY'),
  must(/: chain_rec\.(c_free|c_total)$/, 'CHAIN_BITS'),
  must(/: chain_rec\.c_blkno$/, 'CHAIN_HEAD_LINK_RANGE', 'CHAIN_LINK_MAGIC', 'CHAIN_EMPTY', 'GROUP_DUPLICATE', 'GROUP_CHAIN', 'CHAIN_BITS'),
  must(/: group_desc\.signature$/, 'CHAIN_LINK_MAGIC'),
  must(/: group_desc\.blkno$/, 'GROUP_BLKNO'),
  must(/: group_desc\.generation$/, 'GROUP_GEN'),
  must(/: group_desc\.parentDinode$/, 'GROUP_PARENT'),
  must(/: group_desc\.chain$/, 'GROUP_CHAIN'),
  must(/: group_desc\.nextGroup$/, 'CHAIN_LINK_RANGE', 'CHAIN_LINK_MAGIC', 'GROUP_CHAIN_LOOP', 'GROUP_DUPLICATE', 'CHAIN_BITS'),
  must(/: group_desc\.size$/, 'GROUP_SIZE', 'GROUP_FREE_BITS'),
  must(/: group_desc\.(bits|freeBits|bitmap)$/, 'GROUP_FREE_BITS'),
  may(/: local_alloc\.size$/, 'a smaller bitmap than there is room for', 'LALLOC_SIZE', 'LALLOC_BM_SIZE'),
  may(/: local_alloc\.bitmap$/, 'means nothing while there is no window', 'LALLOC_USED', 'CLUSTER_ALLOC_BIT', 'LALLOC_REPAIR'),
  must(/: local_alloc\.bmOff$/, 'LALLOC_NZ_BM', 'LALLOC_BM_OVERRUN', 'CLUSTER_ALLOC_BIT', 'DUP_CLUSTERS_CLONE'),
  must(/: truncate_log\.count$/, 'DEALLOC_COUNT'),
  may(/: truncate_log\.used$/, 'records that say nothing', 'DEALLOC_USED', 'CLUSTER_ALLOC_BIT', 'DUP_CLUSTERS_CLONE', 'TRUNCATE_REC_RANGE', 'TRUNCATE_REC_START_RANGE'),
  may(/: truncate_rec\./, 'means nothing beyond tl_used', 'TRUNCATE_REC_RANGE', 'TRUNCATE_REC_START_RANGE', 'CLUSTER_ALLOC_BIT', 'DUP_CLUSTERS_CLONE'),
  // Extent trees.
  must(/: extent_list\.l_count$/, 'EXTENT_LIST_COUNT'),
  must(/: extent_list\.l_tree_depth$/, 'EXTENT_LIST_DEPTH', 'EXTENT_LIST_FREE', 'EXTENT_EB_INVALID', 'EXTENT_LAST_EB', 'EXTENT_BLKNO_RANGE'),
  may(/: extent_list\.l_next_free_rec$/, 'one empty record is as good as none', 'EXTENT_LIST_FREE', 'INODE_SPARSE_CLUSTERS', 'INODE_CLUSTERS', 'DX_TREE_CORRUPT', 'EXTENT_BLKNO_RANGE', 'EXTENT_LAST_EB', 'EXTENT_EB_INVALID'),
  may(/: (leaf|interior)_rec\.e_cpos$/, 'in a sparse file a record may begin anywhere between its neighbours', 'NO_HOLES', 'EXTENT_OVERLAP', 'INODE_SPARSE_SIZE', 'EXTENT_RANGES', 'DX_LOOKUP_FAILED', 'DX_TREE_CORRUPT'),
  must(/: leaf_rec\.e_leaf_clusters$/, 'INODE_SPARSE_CLUSTERS', 'INODE_CLUSTERS', 'EXTENT_CLUSTERS_OVERRUN', 'DX_TREE_CORRUPT'),
  may(/: interior_rec\.e_int_clusters$/, 'nobody relies on the end of the last one', 'EXTENT_RANGES'),
  may(/: leaf_rec\.e_flags$/, 'unwritten is a state of data', 'EXTENT_FLAGS', 'EXTENT_MARKED_REFCOUNTED', 'EXTENT_MARKED_UNWRITTEN', 'DIR_ZERO', 'REFCOUNT_COUNT_INVALID'),
  must(/: leaf_rec\.e_blkno$/, 'DUP_CLUSTERS_CLONE', 'REFCOUNT_COUNT_INVALID', 'EXTENT_BLKNO_RANGE', 'EXTENT_BLKNO_UNALIGNED', 'EXTENT_CLUSTERS_OVERRUN', 'CLUSTER_ALLOC_BIT'),
  must(/: interior_rec\.e_blkno$/, 'EXTENT_EB_INVALID', 'EXTENT_LIST_DEPTH', 'METADATA_SHARED', 'EXTENT_RANGES'),
  must(/: extent_block\.signature$/, 'EXTENT_EB_INVALID'),
  must(/: extent_block\.blkno$/, 'EB_BLKNO'),
  must(/: extent_block\.fsGeneration$/, 'EB_GEN'),
  must(/: extent_block\.nextLeafBlk$/, 'EXTENT_LAST_EB'),
  may(/: (extent_block|dx_root)\.suballocLoc$/, '0: the group is where the bit leads to, as before that field', 'EXTENT_ALLOC_FREE', 'EXTENT_EB_INVALID', 'DX_TREE_CORRUPT'),
  must(/: (extent_block|dx_root)\.suballoc(Slot|Bit)$/, 'EXTENT_ALLOC_FREE'),
  // Directories.
  may(/: free_dirent\.(file_type|name_len)$/, 'a free entry has neither', 'DIRENT_LENGTH'),
  must(/: free_dirent\.inode$/, 'DIRENT_ZERO', 'DIRENT_INODE_RANGE', 'DIRENT_INODE_FREE', 'DX_LOOKUP_FAILED', 'DIRENT_LENGTH', 'DX_ENTRY_COUNT'),
  must(/: (free_)?(dot|dotdot|dirent)\.rec_len$/, 'DIRENT_LENGTH', 'INODE_COUNT', 'DX_LOOKUP_FAILED', 'DIRENT_DOT_EXCESS', 'DX_FREE_LIST'),
  may(/: (dot|dotdot|dirent)\.name_len$/, 'a shorter name is a name', 'DIRENT_LENGTH', 'DX_LOOKUP_FAILED', 'DIRENT_ZERO', 'DIRENT_NOT_DOTTY', 'DIRENT_NAME_CHARS', 'DIRENT_DUPLICATE', 'DIRENT_DOTTY_DUP', 'DX_FREE_LIST'),
  must(/: (dot|dotdot|dirent)\.file_type$/, 'DIRENT_TYPE'),
  must(/: (dot|dotdot|dirent)\.inode$/, 'DIRENT_INODE_RANGE', 'DIRENT_INODE_FREE', 'INODE_COUNT', 'DIRENT_DOT_INODE', 'DIR_DOTDOT', 'DIR_PARENT_DUP', 'DIRENT_TYPE', 'DIRENT_LENGTH', 'INODE_NOT_CONNECTED'),
  may(/: (dot|dotdot|dirent)\.name$/, 'bytes beyond the name; a name may be any', 'DX_LOOKUP_FAILED', 'DIRENT_NAME_CHARS', 'DIRENT_NOT_DOTTY', 'DIRENT_DUPLICATE', 'DIRENT_DOTTY_DUP'),
  must(/: dir_block_trailer\.(blkno|signature)$/, 'DIR_TRAILER_BLKNO'),
  must(/: dir_block_trailer\.compatInode$/, 'DIR_TRAILER_INODE'),
  must(/: dir_block_trailer\.compatNameLen$/, 'DIR_TRAILER_NAME_LEN'),
  must(/: dir_block_trailer\.compatRecLen$/, 'DIR_TRAILER_REC_LEN'),
  must(/: dir_block_trailer\.parentDinode$/, 'DIR_TRAILER_PARENT_INODE'),
  may(/: dir_block_trailer\.(freeNext|freeRecLen)$/, 'means something of indexed directories only; less room than there is may be told', 'DX_FREE_LIST'),
  must(/: dx_root\.freeBlk$/, 'DX_FREE_LIST'),
  must(/: dx_root\.numEntries$/, 'DX_ENTRY_COUNT'),
  may(/inline dx_root: dx_root\.(clusters|lastEbBlk)$/, 'an index in its root has no tree'),
  must(/: dx_root\.clusters$/, 'DX_TREE_CORRUPT'),
  must(/: dx_root\.lastEbBlk$/, 'EXTENT_LAST_EB'),
  may(/: dx_root\.flags$/, 'bits that do not exist', 'DX_TREE_CORRUPT', 'EXTENT_LIST_COUNT'),
  must(/: dx_root\.dirBlkno$/, 'DX_TREE_CORRUPT'),
  must(/: dx_(root|leaf)\.(signature|blkno|fsGeneration)$/, 'DX_TREE_CORRUPT'),
  must(/: dx_entry_list\./, 'DX_TREE_CORRUPT', 'DX_ENTRY_COUNT'),
  must(/: dx_entry\./, 'DX_LOOKUP_FAILED'),
  // Attributes.
  must(/: xattr_block\.(signature|blkno|fsGeneration)$/, 'XATTR_BLOCK_INVALID'),
  must(/: xattr_block\.flags$/, 'XATTR_BLOCK_INVALID', 'EXTENT_LIST_COUNT', 'XATTR_COUNT_INVALID', 'XATTR_ENTRY_INVALID'),
  must(/: xattr_block\.suballoc(Slot|Bit)$/, 'EXTENT_ALLOC_FREE'),
  may(/: xattr_block\.suballocLoc$/, '0: the group is where the bit leads to, as before that field', 'EXTENT_ALLOC_FREE', 'XATTR_BLOCK_INVALID'),
  must(/: xattr_tree_root\.clusters$/, 'XATTR_BLOCK_INVALID'),
  must(/: xattr_tree_root\.lastEbBlk$/, 'EXTENT_LAST_EB', 'XATTR_BLOCK_INVALID'),
  may(/^(inline xattrs|xattr block): xattr_header\.count$/, 'fewer attributes are attributes', 'XATTR_COUNT_INVALID', 'XATTR_ENTRY_INVALID', 'XATTR_NAME_OFFSET_INVALID', 'XATTR_VALUE_INVALID', 'XATTR_HASH_INVALID', 'CLUSTER_ALLOC_BIT'),
  must(/: xattr_header\.count$/, 'XATTR_VALUE_INVALID', 'XATTR_COUNT_INVALID', 'XATTR_ENTRY_INVALID', 'XATTR_NAME_OFFSET_INVALID', 'XATTR_HASH_INVALID', 'XATTR_FREE_START_INVALID', 'XATTR_VALUE_LEN_INVALID'),
  must(/^xattr bucket: xattr_header\.freeStart$/, 'XATTR_FREE_START_INVALID'),
  must(/^xattr bucket: xattr_header\.nameValueLen$/, 'XATTR_VALUE_LEN_INVALID'),
  may(/^xattr bucket: xattr_header\.numBuckets$/, 'counts in the first bucket of a record', 'XATTR_BUCKET_COUNT_INVALID', 'XATTR_ENTRY_INVALID'),
  may(/: xattr_header\.(freeStart|nameValueLen|numBuckets)$/, 'counts in buckets only'),
  must(/: xattr_entry\.nameHash$/, 'XATTR_HASH_INVALID'),
  may(/: xattr_entry\.type$/, 'another name space, of which the hash knows nothing', 'XATTR_ENTRY_INVALID', 'XATTR_VALUE_INVALID'),
  may(/: xattr_entry\.valueSize$/, 'another length of a value is its length, as long as it takes no more or fewer clusters and no sum tells', 'XATTR_VALUE_LEN_INVALID', 'XATTR_FREE_START_INVALID', 'XATTR_NAME_OFFSET_INVALID', 'XATTR_ENTRY_INVALID', 'XATTR_VALUE_INVALID'),
  must(/: xattr_entry\.(nameOffset|nameLen)$/, 'XATTR_HASH_INVALID', 'XATTR_NAME_OFFSET_INVALID', 'XATTR_ENTRY_INVALID', 'XATTR_VALUE_INVALID', 'XATTR_VALUE_LEN_INVALID'),
  must(/: xattr_name\.name$/, 'XATTR_HASH_INVALID'),
  may(/: xattr_value\.value$/, 'data'),
  must(/: xattr_value_root\./, 'XATTR_VALUE_INVALID', 'EXTENT_LAST_EB'),
  // Refcount trees.
  must(/: refcount_block\.signature$/, 'REFCOUNT_ROOT_BLOCK_INVALID', 'REFCOUNT_BLOCK_INVALID'),
  must(/: refcount_block\.blkno$/, 'RB_BLKNO'),
  must(/: refcount_block\.fsGeneration$/, 'RB_GEN'),
  must(/: refcount_block\.suballoc(Slot|Bit)$/, 'EXTENT_ALLOC_FREE'),
  may(/: refcount_block\.suballocLoc$/, '0: the group is where the bit leads to, as before that field', 'EXTENT_ALLOC_FREE'),
  must(/: refcount_block\.parent$/, 'RB_PARENT'),
  may(/^refcount (leaf|root): refcount_block\.(lastEbBlk|clusters)$/, 'only a tree has them'),
  may(/^refcount leaf: refcount_block\.count$/, 'the root counts the inodes'),
  must(/^refcount tree: refcount_block\.lastEbBlk$/, 'EXTENT_LAST_EB', 'REFCOUNT_ROOT_BLOCK_INVALID'),
  must(/: refcount_block\.clusters$/, 'REFCOUNT_CLUSTERS'),
  must(/: refcount_block\.count$/, 'REFCOUNT_COUNT'),
  may(/^refcount (tree|root): refcount_block\.cpos$/, 'a root has no key'),
  may(/^refcount root: refcount_block\.generation$/, 'a root without leaves has nobody to agree with'),
  must(/: refcount_block\.(cpos|flags|generation)$/, 'REFCOUNT_BLOCK_INVALID', 'REFCOUNT_ROOT_BLOCK_INVALID', 'REFCOUNT_LIST_COUNT', 'EXTENT_LIST_COUNT'),
  must(/: refcount_list\.rl_count$/, 'REFCOUNT_LIST_COUNT'),
  must(/: refcount_list\.rl_used$/, 'REFCOUNT_LIST_USED', 'REFCOUNT_LIST_EMPTY', 'REFCOUNT_CLUSTER_RANGE', 'REFCOUNT_COUNT_INVALID', 'REFCOUNT_REC_REDUNDANT'),
  must(/: refcount_rec\./, 'REFCOUNT_COUNT_INVALID', 'REFCOUNT_REC_REDUNDANT', 'REFCOUNT_CLUSTER_RANGE', 'REFCOUNT_CLUSTER_COLLISION'),
  // Quota.
  may(/: global_quota_info\.(spaceGrace|inodeGrace|syncMs)$/, 'settings'),
  must(/: global_quota_info\.(magic|version|blocks)$/, 'QMAGIC_INVALID'),
  must(/: global_quota_info\.(freeBlk|freeEntry)$/, 'QUOTA_FREE_LIST', 'QMAGIC_INVALID'),
  must(/: quota_ref\./, 'QTREE_BLK_INVALID', 'DQBLK_INVALID', 'QUOTA_FREE_LIST'),
  must(/: quota_leaf\.(nextFree|prevFree)$/, 'QUOTA_FREE_LIST'),
  must(/: quota_leaf\.entries$/, 'DQBLK_INVALID'),
  may(/: global_dquot\.(useCount|(inode|space)(Hard|Soft|Time))$/, 'settings, and a state', 'DQBLK_INVALID'),
  must(/: global_dquot\.id$/, 'DQBLK_INVALID', 'DUP_DQBLK_VALID'),
  must(/: global_dquot\.(inodes|space)$/, 'QUOTA_USAGE', 'DQBLK_INVALID'),
  must(/: local_quota_info\.(magic|version|chunks|blocks)$/, 'QUOTA_LOCAL'),
  may(/: local_quota_info\.flags$/, 'bits that do not exist', 'QUOTA_LOCAL_IN_USE', 'QUOTA_USAGE'),
  may(/: local_quota_chunk\./, 'nobody reads it of a file that was closed', 'QUOTA_LOCAL', 'QUOTA_USAGE'),
  must(/: local_dquot\./, 'QUOTA_USAGE', 'QUOTA_LOCAL'),
  // Journals, and what nodes say of themselves.
  must(/: jbd2_superblock\.magic$/, 'JOURNAL_FILE_INVALID'),
  may(/: jbd2_superblock\.(blockSize|blocktype|maxLen|first|start)$/, 'a shorter log, begun elsewhere, is a log', 'JOURNAL_FILE_INVALID'),
  may(/: jbd2_superblock\.feature(Compat|Incompat|RoCompat)$/, 'features that are known', 'JOURNAL_UNKNOWN_FEATURE', 'JOURNAL_MISSING_FEATURE'),
  may(/: jbd2_superblock\./, 'counters, and what only jbd2 beside OCFS2 uses'),
  may(/^journal (descriptor|commit): /, 'a log ends at the first block that is none: replay judges it'),
  may(/^slot map: /, 'the node of a free slot; who has the volume mounted is a state, which is told', 'SLOT_IN_USE', 'SLOT_MAP_INVALID'),
  may(/^heartbeat block: /, 'that a node lives is a state of the moment'),
  // The superblock.
  must(/: super_block\.(blockSizeBits|clusterSizeBits|majorRev|minorRev)$/),
  may(/: super_block\.(rootBlkno|systemDirBlkno)$/, 'not to be told when it leads to a directory like it', 'ROOT_DIR_MISSING', 'ROOT_NOTDIR', 'DIR_NOT_CONNECTED'),
  must(/: super_block\.firstClusterGroup$/, 'GROUP_UNEXPECTED_DESC', 'GROUP_EXPECTED_DESC'),
  may(/: super_block\.maxSlots$/, 'fewer slots than there are files for', 'EXTENT_ALLOC_FREE', 'CLUSTER_ALLOC_BIT'),
  may(/: super_block\.uuid(Hash)?$/, 'without attributes nobody hashes with it', 'SUPERBLOCK_UUID_HASH'),
  may(/: super_block\.dxSeed\d$/, 'without an index nobody hashes with it', 'DX_LOOKUP_FAILED'),
  may(/: super_block\.featureRoCompat$/, 'features that nothing here uses', 'FEATURES_UNKNOWN', 'EXTENT_MARKED_UNWRITTEN', 'QMAGIC_INVALID', 'UNREADABLE', 'QUOTA_FILE_MISSING'),
  may(/: super_block\.feature(Compat|Incompat)$/, 'features that nothing here uses', 'INLINE_DATA_FLAG_INVALID', 'NO_HOLES', 'FEATURE_INPROG', 'INODE_CLUSTERS', 'BAD_CRC32', 'DIR_TRAILER_BLKNO', 'INODE_SIZE', 'GROUP_SIZE'),
  may(/: super_block\./, 'counters, texts and hints that nobody interprets'),
];

const ruleOf = new Map<string, Rule | undefined>();

function findRule(cls: string): Rule | undefined {
  if (!ruleOf.has(cls)) ruleOf.set(cls, RULES.find(({ of }) => of.test(cls)));
  return ruleOf.get(cls);
}

/** Throws CaseFailed unless the verifier found what the case broke. `refused`: the volume could not even be opened, and why. */
export function judgeFindings(one: Case, report: CheckReport | undefined, refused: LunfsError | undefined): void {
  // Without superblock or system directory there is nothing to verify: the error names them.
  if (refused !== undefined || report === undefined) return;
  const before = new Set(one.target.clean.findings.map(({ code, block }) => `${code} ${block}`));
  const codes = new Set(report.findings.filter(({ code, block }) => !before.has(`${code} ${block}`)).map(({ code }) => code));
  // Where there are backups they differ from whatever was changed in the superblock.
  if (one.cls?.startsWith('superblock')) codes.delete('BACKUP_SUPER_STALE');
  const found = [...codes].join(' ') || 'nothing';
  if (one.stale) {
    // One flipped bit is mended by the parity, as Linux does it; the check itself may be wrong in what is not compared.
    if (codes.size === 0 && (one.bits === 1 || one.cls?.endsWith('.check') === true)) return;
    if (!codes.has('BAD_CRC32')) throw new CaseFailed(`the check of the block is wrong; the verifier found ${found}`);
    return;
  }
  if (one.cls === undefined) {
    if (codes.size === 0 && !one.mayBeNothing) throw new CaseFailed('the verifier found nothing in a block that is another');
    return;
  }
  const rule = findRule(one.cls);
  if (rule === undefined) throw new CaseFailed(`expectations.ts has no rule for ${one.cls}; the verifier found ${found}`);
  if (codes.size === 0 && rule.quiet !== undefined) return;
  if (rule.codes.some((code) => code === ANY || codes.has(code))) return;
  // One flipped bit of a block whose place of the check moved with it, and the like: found all the same.
  if (codes.has('BAD_CRC32')) return;
  throw new CaseFailed(`the verifier found ${found}, expected was one of ${rule.codes.join(' ') || 'nothing'}`);
}

/**
 * Changes after which the volume says, with every check in order, that blocks of the kept files belong to others or to
 * nobody: writing to them then is no fault of the writer. No reader can tell; the verifier does. And why that is so.
 */
const GIVES_AWAY: readonly (readonly [of: RegExp, why: string])[] = [
  [/^group of [^:]*: group_desc\.bitmap$/, 'a bit says that what a kept file has is free'],
  [/^localAlloc: (local_alloc\.(bmOff|bitmap)|dinode\.(bitmap1\..*|rdev))$/, 'the window lies over clusters of kept files'],
  [/^truncateLog: truncate_(rec\.|log\.used$)/, 'clusters of kept files wait to be freed'],
  [/: leaf_rec\.(e_blkno|e_leaf_clusters|e_cpos)$/, 'an extent of a file, or a piece of a group, lies over those of kept files'],
  [/: interior_rec\.e_blkno$/, 'extent blocks do not say whose they are'],
  [/: (dot|dotdot|dirent|free_dirent)\.inode$/, 'a name leads to a kept file'],
  [/: dinode\.(xattrLoc|refcountLoc)$/, 'blocks of attributes and refcount trees do not say whose they are'],
  [/^journal (superblock|descriptor): /, 'replay puts blocks where the log says'],
  [/^superblock: /, 'the geometry says where everything is'],
  [/: reserved\.bytes$/, 'bytes that are not listed: data, or more of the same as above'],
];

/** Whole blocks that are replaced may do any of it. */
export function mayGiveAway({ cls }: Case): boolean {
  return cls === undefined || GIVES_AWAY.some(([of]) => of.test(cls));
}
