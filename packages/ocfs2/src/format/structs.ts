/** Every fixed structure of the format as a table of name, offset, type (ondisk-format.md sections 1-7, 10; all verified there). */
import { type ViewOf, LE, BE, struct } from './block.js';

const { u8, u16, u32, u64, time, big, text, bytes } = LE;

/** ocfs2_dinode; the unions id1 (0xB8) and id2 (0xC0) have structures of their own below. */
export const Dinode = struct('dinode', 0xc0, {
  signature: text(0x00, 8), generation: u32(0x08), suballocSlot: u16(0x0c), suballocBit: u16(0x0e), linksHi: u16(0x10),
  xattrInlineSize: u16(0x12), clusters: u32(0x14), uid: u32(0x18), gid: u32(0x1c), size: u64(0x20), mode: u16(0x28),
  links: u16(0x2a), flags: u32(0x2c), atime: time(0x30), ctime: time(0x38), mtime: time(0x40), dtime: time(0x48),
  blkno: u64(0x50), lastEbBlk: u64(0x58), fsGeneration: u32(0x60), atimeNsec: u32(0x64), ctimeNsec: u32(0x68),
  mtimeNsec: u32(0x6c), attr: u32(0x70), orphanedSlot: u16(0x74), dynFeatures: u16(0x76), xattrLoc: u64(0x78),
  check: bytes(0x80, 8), dxRoot: u64(0x88), refcountLoc: u64(0x90), suballocLoc: u64(0x98), dioOrphanedSlot: u16(0xa0),
  reserved: bytes(0xa2, 22),
  // id1
  rdev: big(0xb8),
});
export type DinodeView = ViewOf<typeof Dinode>;
/** Byte offset of id2 in a dinode: extent list, chain list, local alloc, truncate log, inline data, symlink text or superblock. */
export const ID2 = 0xc0;
/** id1 of allocators and local alloc. */
export const BitmapId1 = struct('dinode.bitmap1', 0xc0, { used: u32(0xb8), total: u32(0xbc) });
/** id1 of journal dinodes; flags bit 0 = dirty. */
export const JournalId1 = struct('dinode.journal1', 0xc0, { flags: u32(0xb8), recoveryGeneration: u32(0xbc) });
export const JOURNAL_DIRTY = 1;

export const InlineData = struct('inline_data', 0xc8, { idCount: u16(0xc0), reserved0: u16(0xc2), reserved1: u32(0xc4) });
/** First byte of inline data in a dinode. */
export const INLINE_DATA_START = 0xc8;

/** ocfs2_super_block, offsets from the start of the block that holds it. */
export const SuperBlock = struct('super_block', 0x188, {
  majorRev: u16(0xc0), minorRev: u16(0xc2), mntCount: u16(0xc4), maxMntCount: u16(0xc6), state: u16(0xc8), errors: u16(0xca),
  checkInterval: u32(0xcc), lastCheck: time(0xd0), creatorOs: u32(0xd8), featureCompat: u32(0xdc), featureIncompat: u32(0xe0),
  featureRoCompat: u32(0xe4), rootBlkno: u64(0xe8), systemDirBlkno: u64(0xf0), blockSizeBits: u32(0xf8),
  clusterSizeBits: u32(0xfc), maxSlots: u16(0x100), tunefsFlag: u16(0x102), uuidHash: u32(0x104), firstClusterGroup: u64(0x108),
  label: bytes(0x110, 64), uuid: bytes(0x150, 16), stack: text(0x160, 4), stackFlags: u8(0x164), clusterName: text(0x168, 16),
  xattrInlineSize: u16(0x178), dxSeed0: u32(0x17c), dxSeed1: u32(0x180), dxSeed2: u32(0x184),
});
export type SuperBlockView = ViewOf<typeof SuperBlock>;
/** ci_stackflags bit: o2cb global heartbeat. */
export const STACK_GLOBAL_HEARTBEAT = 1;

/** ocfs2_group_desc; the bitmap starts at GROUP_BITMAP, a discontiguous group's extent list at GROUP_LIST. */
export const GroupDesc = struct('group_desc', 0x40, {
  signature: text(0x00, 8), size: u16(0x08), bits: u16(0x0a), freeBits: u16(0x0c), chain: u16(0x0e), generation: u32(0x10),
  reserved1: u32(0x14), nextGroup: u64(0x18), parentDinode: u64(0x20), blkno: u64(0x28), check: bytes(0x30, 8), reserved2: big(0x38),
});
export type GroupDescView = ViewOf<typeof GroupDesc>;
export const GROUP_BITMAP = 0x40;
export const GROUP_LIST = 0x140;
/** bg_size of suballocator groups on volumes with DISCONTIG_BG. */
export const DISCONTIG_BITMAP_SIZE = 256;

export const ExtentBlock = struct('extent_block', 0x30, {
  signature: text(0x00, 8), check: bytes(0x08, 8), suballocSlot: u16(0x10), suballocBit: u16(0x12), fsGeneration: u32(0x14),
  blkno: u64(0x18), suballocLoc: u64(0x20), nextLeafBlk: u64(0x28),
});
export type ExtentBlockView = ViewOf<typeof ExtentBlock>;
export const EB_LIST = 0x30;

export const LocalAlloc = struct('local_alloc', 0xd0, { bmOff: u32(0xc0), size: u16(0xc4), reserved1: u16(0xc6), reserved2: big(0xc8) });
export const LOCAL_ALLOC_BITMAP = 0xd0;

export const TruncateLog = struct('truncate_log', 0xc8, { count: u16(0xc0), used: u16(0xc2), reserved: u32(0xc4) });
/** Records {u32 t_start, u32 t_clusters} from here. */
export const TRUNCATE_RECS = 0xc8;

export const DirTrailer = struct('dir_block_trailer', 0x40, {
  compatInode: u64(0x00), compatRecLen: u16(0x08), compatNameLen: u8(0x0a), freeRecLen: u16(0x0e), signature: text(0x10, 8),
  freeNext: u64(0x20), blkno: u64(0x28), parentDinode: u64(0x30), check: bytes(0x38, 8),
});

export const DxRoot = struct('dx_root', 0x50, {
  signature: text(0x00, 8), check: bytes(0x08, 8), suballocSlot: u16(0x10), suballocBit: u16(0x12), fsGeneration: u32(0x14),
  blkno: u64(0x18), lastEbBlk: u64(0x20), clusters: u32(0x28), flags: u8(0x2c), dirBlkno: u64(0x30), numEntries: u32(0x38),
  freeBlk: u64(0x40), suballocLoc: u64(0x48),
});
export type DxRootView = ViewOf<typeof DxRoot>;
export const DX_INLINE = 1;
/** Byte of dx_root's extent list or (inline) entry list. */
export const DX_ROOT_LIST = 0xc0;

export const DxLeaf = struct('dx_leaf', 0x28, { signature: text(0x00, 8), check: bytes(0x08, 8), blkno: u64(0x10), fsGeneration: u32(0x18) });
export const DX_LEAF_LIST = 0x28;

export const XattrBlock = struct('xattr_block', 0x30, {
  signature: text(0x00, 8), suballocSlot: u16(0x08), suballocBit: u16(0x0a), fsGeneration: u32(0x0c), blkno: u64(0x10),
  check: bytes(0x18, 8), flags: u16(0x20), suballocLoc: u64(0x28),
});
export const XATTR_INDEXED = 1;
/** Byte of the xattr header, or of the tree root, in an xattr block. */
export const XATTR_BLOCK_BODY = 0x30;
/** Tree root, offsets from the start of the xattr block. */
export const XattrTreeRoot = struct('xattr_tree_root', 0x40, { clusters: u32(0x30), lastEbBlk: u64(0x38) });
export const XATTR_TREE_LIST = 0x40;
export const XATTR_BUCKET_SIZE = 4096;
export const XattrHeader = struct('xattr_header', 0x10, { count: u16(0x00), freeStart: u16(0x02), nameValueLen: u16(0x04), numBuckets: u16(0x06), check: bytes(0x08, 8) });
export const XattrEntry = struct('xattr_entry', 0x10, { nameHash: u32(0x00), nameOffset: u16(0x04), nameLen: u8(0x06), type: u8(0x07), valueSize: u64(0x08) });
/** Value root; its extent list starts at +0x10. */
export const XattrValueRoot = struct('xattr_value_root', 0x10, { clusters: u32(0x00), lastEbBlk: u64(0x08) });

export const RefcountBlock = struct('refcount_block', 0x50, {
  signature: text(0x00, 8), suballocSlot: u16(0x08), suballocBit: u16(0x0a), fsGeneration: u32(0x0c), blkno: u64(0x10),
  parent: u64(0x18), check: bytes(0x20, 8), lastEbBlk: u64(0x28), count: u32(0x30), flags: u32(0x34), clusters: u32(0x38),
  cpos: u32(0x3c), generation: u32(0x40), suballocLoc: u64(0x48),
});
export const REFCOUNT_LEAF = 1;
export const REFCOUNT_TREE = 2;
/** Byte of the record list (or extent list) in a refcount block. */
export const REFCOUNT_LIST = 0x80;

/** One entry of the extended slot map. */
export const ExtendedSlot = struct('extended_slot', 8, { valid: u8(0x00), nodeNum: u32(0x04) });

/** One heartbeat block (ondisk-format.md 10.2). */
export const HeartbeatBlock = struct('hb_block', 0x20, { seq: big(0x00), node: u8(0x08), cksum: u32(0x0c), generation: big(0x10), deadMs: u32(0x18) });

/** JBD2 (ondisk-format.md 9), big-endian. */
export const JBD2_MAGIC = 0xc03b3998;
export const JBD2_BLOCK = { descriptor: 1, commit: 2, superV1: 3, superV2: 4, revoke: 5 } as const;
export const JBD2_TAG = { ESCAPE: 1, SAME_UUID: 2, DELETED: 4, LAST: 8 } as const;
export const JBD2_INCOMPAT = { REVOKE: 0x1, BIT64: 0x2, ASYNC_COMMIT: 0x4, CSUM_V2: 0x8, CSUM_V3: 0x10, FAST_COMMIT: 0x20 } as const;
export const JBD2_COMPAT = { CHECKSUM: 0x1 } as const;
export const Jbd2Header = struct('jbd2_header', 12, { magic: BE.u32(0), blocktype: BE.u32(4), sequence: BE.u32(8) });
export const Jbd2Super = struct('jbd2_superblock', 0x400, {
  magic: BE.u32(0x00), blocktype: BE.u32(0x04), headerSequence: BE.u32(0x08), blockSize: BE.u32(0x0c), maxLen: BE.u32(0x10),
  first: BE.u32(0x14), sequence: BE.u32(0x18), start: BE.u32(0x1c), errno: BE.u32(0x20), featureCompat: BE.u32(0x24),
  featureIncompat: BE.u32(0x28), featureRoCompat: BE.u32(0x2c), uuid: BE.bytes(0x30, 16), nrUsers: BE.u32(0x40),
  dynSuper: BE.u32(0x44), maxTransaction: BE.u32(0x48), maxTransData: BE.u32(0x4c), checksumType: BE.u8(0x50),
  numFcBlocks: BE.u32(0x54), checksum: BE.u32(0xfc),
});
export const Jbd2Commit = struct('jbd2_commit', 0x3c, { magic: BE.u32(0), blocktype: BE.u32(4), sequence: BE.u32(8), checksumType: BE.u8(12), checksumSize: BE.u8(13), commitSec: BE.time(0x30), commitNsec: BE.u32(0x38) });
export const Jbd2Revoke = struct('jbd2_revoke', 16, { magic: BE.u32(0), blocktype: BE.u32(4), sequence: BE.u32(8), count: BE.u32(12) });
