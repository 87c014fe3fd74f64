/**
 * Quota files (docs/format.md; ondisk-format.md 7.5; Linux 6.1 fs/ocfs2/ocfs2_fs.h, quota_local.c, fs/quota/quota_tree.c).
 *
 * One global file per type says what each id uses in the cluster and may use: block 0 holds header and info, block 1 is the
 * root of a radix tree over the id, whose leaves hold records. One local file per type and slot holds what the node in that
 * slot has changed since it last told the global file: block 0 header and info, then chunks of a bitmap block and blocks of
 * entries. The last 8 bytes of every block of both are its block check.
 */
import { type Block, LE, badField, struct } from './block.js';
import { RO_COMPAT } from './constants.js';
import type { Geometry } from './geometry.js';
import type { BlockKind } from './kinds.js';

const { u16, u32, u64, s64, time } = LE;

/** In the order of their numbers (USRQUOTA 0, GRPQUOTA 1). */
export const QUOTA_TYPES = ['user', 'group'] as const;
export type QuotaType = (typeof QUOTA_TYPES)[number];

const FEATURE: Record<QuotaType, number> = { user: RO_COMPAT.USRQUOTA, group: RO_COMPAT.GRPQUOTA };

/** Kinds of quota a volume keeps. */
export function quotaTypes({ roCompat }: Pick<Geometry, 'roCompat'>): QuotaType[] {
  return QUOTA_TYPES.filter((type) => roCompat & FEATURE[type]);
}

export const QUOTA_MAGIC = { global: { user: 0x0cf52470, group: 0x0cf52471 }, local: { user: 0x0cf524c0, group: 0x0cf524c1 } } as const;
/** Grace times in seconds and the time between two syncs in milliseconds, as mkfs.ocfs2 sets them. */
export const QUOTA_DEFAULTS = { spaceGrace: 604800, inodeGrace: 604800, syncMs: 10000 } as const;

/** Bytes at the end of each block that hold its check. */
const RESERVED = 8;

export const GlobalQuotaInfo = struct('global_quota_info', 0x20, {
  magic: u32(0x00), version: u32(0x04), spaceGrace: u32(0x08), inodeGrace: u32(0x0c), syncMs: u32(0x10), blocks: u32(0x14), freeBlk: u32(0x18), freeEntry: u32(0x1c),
});
export const LocalQuotaInfo = struct('local_quota_info', 0x14, { magic: u32(0x00), version: u32(0x04), flags: u32(0x08), chunks: u32(0x0c), blocks: u32(0x10) });
/** Nothing in the file: it was closed cleanly. */
export const LOCAL_QUOTA_CLEAN = 1;
/** Head of a leaf of the tree, and of a free block; records follow. */
export const QuotaLeaf = struct('quota_leaf', 0x10, { nextFree: u32(0x00), prevFree: u32(0x04), entries: u16(0x08) });
/** Limits of 0 are none; times are seconds at which a grace period ends, 0 when none runs. */
export const GlobalDquot = struct('global_dquot', 0x58, {
  id: u32(0x00), useCount: u32(0x04), inodeHard: s64(0x08), inodeSoft: s64(0x10), inodes: s64(0x18), spaceHard: s64(0x20), spaceSoft: s64(0x28), space: s64(0x30),
  spaceTime: time(0x38), inodeTime: time(0x40),
});
export type GlobalDquotView = ReturnType<typeof GlobalDquot.at>;
export const LocalQuotaChunk = struct('local_quota_chunk', 0x04, { free: u32(0x00) });
/** Byte of the bitmap in a chunk's first block. */
export const LOCAL_QUOTA_BITMAP = 4;
export const LocalDquot = struct('local_dquot', 0x18, { id: u64(0x00), space: s64(0x08), inodes: s64(0x10) });
export type LocalDquotView = ReturnType<typeof LocalDquot.at>;

/** Block of the tree's root in a global file. */
export const QUOTA_ROOT = 1;

/** A block of a quota file. What it holds follows from its place in the file, so its readers check it. */
export const QUOTA_BLOCK: BlockKind = { name: 'quota block', checkAt: (geo) => geo.blockSize - RESERVED, validate: () => undefined };

export interface QuotaLayout {
  /** References in a block of the tree. */
  readonly refs: number;
  /** Levels of the tree above the leaves. */
  readonly depth: number;
  /** Records in a leaf. */
  readonly records: number;
  /** Entries in a block of a local file; blocks of entries and entries of a full chunk. */
  readonly entries: number;
  readonly chunkBlocks: number;
  readonly chunkEntries: number;
}

const layouts = new Map<number, QuotaLayout>();

/** How much fits the blocks of quota files. */
export function quotaLayout(blockSize: number): QuotaLayout {
  let layout = layouts.get(blockSize);
  if (layout === undefined) {
    const refs = (blockSize - RESERVED) / 4;
    let depth = 1;
    while (refs ** depth < 2 ** 32) depth++;
    const entries = Math.floor((blockSize - RESERVED) / LocalDquot.size);
    const chunkBlocks = Math.floor(((blockSize - LOCAL_QUOTA_BITMAP - RESERVED) * 8) / entries);
    const records = Math.floor((blockSize - RESERVED - QuotaLeaf.size) / GlobalDquot.size);
    layouts.set(blockSize, (layout = { refs, depth, records, entries, chunkBlocks, chunkEntries: chunkBlocks * entries }));
  }
  return layout;
}

/** Place of an id in a tree block of the level, the root being level 0. */
export function quotaTreeIndex({ refs, depth }: QuotaLayout, id: number, level: number): number {
  return Math.floor(id / refs ** (depth - 1 - level)) % refs;
}

/** Block of a local file that holds a chunk's bitmap. */
export function chunkBlock({ chunkBlocks }: QuotaLayout, chunk: number): number {
  return 1 + (chunkBlocks + 1) * chunk;
}

/** Entries of a chunk that have blocks, when the file has `blocks` of them. */
export function chunkLength(layout: QuotaLayout, chunk: number, blocks: number): number {
  return Math.max(0, Math.min(layout.chunkBlocks, blocks - chunkBlock(layout, chunk) - 1)) * layout.entries;
}

/** The record is not in use (all zero). */
export function isFreeRecord(block: Block, at: number): boolean {
  for (let i = 0; i < GlobalDquot.size; i++) if (block.bytes[at + i] !== 0) return false;
  return true;
}

/** Check the first block of a global or local file. Throws a corruption error. */
export function checkQuotaHeader(block: Block, where: keyof typeof QUOTA_MAGIC, type: QuotaType): void {
  const structure = where === 'global' ? GlobalQuotaInfo : LocalQuotaInfo;
  const { magic, version } = structure.at(block);
  const expected = QUOTA_MAGIC[where][type];
  if (magic !== expected) throw badField(block, structure.structName, 'dqh_magic', `0x${magic.toString(16)}`, `should be 0x${expected.toString(16)}`);
  if (version !== 0) throw badField(block, structure.structName, 'dqh_version', version, 'is unknown, only 0 is known');
}

/** Check the numbers of a local file's first block against the size of the file in blocks. */
export function checkLocalInfo(block: Block, layout: QuotaLayout, fileBlocks: number): void {
  const { chunks, blocks } = LocalQuotaInfo.at(block);
  if (blocks > fileBlocks) throw badField(block, 'local_quota_info', 'dqi_blocks', blocks, `exceeds the file's ${fileBlocks}`);
  if (chunks > 0 && chunkBlock(layout, chunks - 1) >= blocks) throw badField(block, 'local_quota_info', 'dqi_chunks', chunks, `does not fit ${blocks} blocks`);
}
