/**
 * Codec of the log's own blocks over the tables in format/structs.ts: superblock, descriptor, commit and revoke blocks
 * (ondisk-format.md 9.1, 9.2; Linux 6.1 include/linux/jbd2.h, fs/jbd2/{journal,commit,recovery}.c). Big-endian, no I/O.
 *
 * Written: descriptors with plain 32-bit or 64BIT tags, sixteen zero bytes of uuid after the first tag as the kernel
 * does, commit blocks without checksum. Revoke blocks are read but never written: OCFS2 needs none, because clusters
 * are checkpointed before they can be reused (ondisk-format.md 4.7, 9.2).
 */
import { UsageError } from '@lunfs/device';
import { Block, badField } from '../format/block.js';
import { JBD2_BLOCK, JBD2_COMPAT, JBD2_INCOMPAT, JBD2_MAGIC, JBD2_TAG, Jbd2Commit, Jbd2Header, Jbd2Revoke, Jbd2Super } from '../format/structs.js';
import type { Geometry } from '../format/geometry.js';
import type { Timestamp } from '../txn/op.js';
import type { BlockMap } from './block-map.js';

const HEADER = 12;
const TAG_UUID = 16;
const REVOKE_HEADER = 16;
/** Smallest log JBD2 accepts (Linux 6.1 include/linux/jbd2.h:JBD2_MIN_JOURNAL_BLOCKS). */
const MIN_LOG_BLOCKS = 1024;

/** The journal superblock, checked. Sequence numbers are the 32-bit ones of the disk. */
export interface LogSuper {
  readonly block: Block;
  /** First block after the circular log area. */
  readonly maxLen: number;
  /** First block of the circular log area. */
  readonly first: number;
  /** Sequence number of the first transaction in the log. */
  readonly sequence: number;
  /**
   * Log block at which it starts; 0: the log is empty. mkfs.ocfs2 writes 1 also where the log area begins at 2 (512-byte
   * blocks): nothing can start before `first`, so that log is empty too.
   */
  readonly start: number;
  readonly bit64: boolean;
}

/** Next sequence number: 32 bits, wrapping. */
export function nextSequence(sequence: number, by = 1): number {
  return (sequence + by) >>> 0;
}

/** Is `a` at or after `b` in the circle of sequence numbers? (include/linux/jbd2.h:tid_geq) */
export function sequenceAtOrAfter(a: number, b: number): boolean {
  return ((a - b) | 0) >= 0;
}

function refuse(block: Block, what: string): UsageError {
  return new UsageError('JOURNAL_FEATURES', 'EOPNOTSUPP', `${block.device}: the journal at block ${block.blkno} uses ${what}, which lunfs cannot replay; mount the volume once with the system that wrote it`, { device: block.device, block: block.blkno });
}

/** Check and read a journal superblock: magic, version, sizes against file and volume, features (refused by name). */
export function parseLogSuper(block: Block, geo: Geometry, map: BlockMap): LogSuper {
  const sb = Jbd2Super.at(block);
  if (sb.magic !== JBD2_MAGIC) throw badField(block, 'jbd2_superblock', 'h_magic', sb.magic, 'is not the magic number of a journal');
  if (sb.blocktype !== JBD2_BLOCK.superV2 && sb.blocktype !== JBD2_BLOCK.superV1) throw badField(block, 'jbd2_superblock', 'h_blocktype', sb.blocktype, 'is no superblock');
  if (sb.blockSize !== geo.blockSize) throw badField(block, 'jbd2_superblock', 's_blocksize', sb.blockSize, `should be ${geo.blockSize}`);
  if (sb.maxLen > map.blocks) throw badField(block, 'jbd2_superblock', 's_maxlen', sb.maxLen, `exceeds the journal file of ${map.blocks} blocks`);
  if (sb.maxLen < MIN_LOG_BLOCKS) throw badField(block, 'jbd2_superblock', 's_maxlen', sb.maxLen, `is below ${MIN_LOG_BLOCKS}`);
  // The superblock is 1024 bytes: with 512-byte blocks it takes two (ondisk-format.md 9.1).
  const least = Math.ceil(Jbd2Super.size / geo.blockSize);
  if (sb.first < least || sb.first > sb.maxLen - MIN_LOG_BLOCKS / 2) throw badField(block, 'jbd2_superblock', 's_first', sb.first, `is not between ${least} and the log's middle`);
  if (sb.start >= sb.maxLen) throw badField(block, 'jbd2_superblock', 's_start', sb.start, `is outside the log (${sb.first}..${sb.maxLen - 1})`);
  if (sb.blocktype === JBD2_BLOCK.superV1) return { block, maxLen: sb.maxLen, first: sb.first, sequence: sb.sequence, start: sb.start, bit64: false };
  const { ASYNC_COMMIT, CSUM_V2, CSUM_V3, FAST_COMMIT, REVOKE, BIT64 } = JBD2_INCOMPAT;
  const incompat = sb.featureIncompat;
  for (const [name, bit] of Object.entries({ ASYNC_COMMIT, CSUM_V2, CSUM_V3, FAST_COMMIT })) if (incompat & bit) throw refuse(block, `the feature ${name}`);
  const unknown = (incompat & ~(REVOKE | BIT64)) >>> 0;
  if (unknown !== 0) throw refuse(block, `unknown incompatible features 0x${unknown.toString(16)}`);
  if (sb.featureCompat & JBD2_COMPAT.CHECKSUM) throw refuse(block, 'the feature CHECKSUM');
  if (sb.featureRoCompat !== 0) throw refuse(block, `unknown read-only features 0x${sb.featureRoCompat.toString(16)}`);
  return { block, maxLen: sb.maxLen, first: sb.first, sequence: sb.sequence, start: sb.start, bit64: (incompat & BIT64) !== 0 };
}

/** The superblock's bytes with another tail; `start` 0 says the log is empty. */
export function encodeLogSuper(sb: LogSuper, sequence: number, start: number): Uint8Array {
  const copy = new Block(sb.block.device, sb.block.blkno, sb.block.bytes.slice());
  const view = Jbd2Super.at(copy);
  view.sequence = sequence;
  view.start = start;
  return copy.bytes;
}

/** Bytes of one tag. */
function tagSize(bit64: boolean): number {
  return bit64 ? 12 : 8;
}

/** Tags in one descriptor block, as many as the kernel puts there: it closes a block when another tag with a uuid would not fit. */
export function tagsPerDescriptor(blockSize: number, bit64: boolean): number {
  return Math.floor((blockSize - HEADER - TAG_UUID - (tagSize(bit64) + TAG_UUID)) / tagSize(bit64)) + 1;
}

/** Log blocks a transaction of `n` blocks takes: descriptors, copies and the commit block. */
export function logBlocksFor(n: number, blockSize: number, bit64: boolean): number {
  return n + Math.ceil(n / tagsPerDescriptor(blockSize, bit64)) + 1;
}

function setHeader(dv: DataView, type: number, sequence: number): void {
  dv.setUint32(0, JBD2_MAGIC);
  dv.setUint32(4, type);
  dv.setUint32(8, sequence);
}

/** Must this block image be escaped in the log (it starts like a log block)? */
export function needsEscape(bytes: Uint8Array): boolean {
  return bytes[0] === 0xc0 && bytes[1] === 0x3b && bytes[2] === 0x39 && bytes[3] === 0x98;
}

/** Fill `out` (one zeroed block) with the descriptor of these blocks; the copies follow it in the log in this order. */
export function encodeDescriptor(out: Uint8Array, sequence: number, bit64: boolean, tags: readonly { blkno: number; escaped: boolean }[]): void {
  const dv = new DataView(out.buffer, out.byteOffset, out.byteLength);
  setHeader(dv, JBD2_BLOCK.descriptor, sequence);
  let at = HEADER;
  tags.forEach(({ blkno, escaped }, i) => {
    const flags = (escaped ? JBD2_TAG.ESCAPE : 0) | (i > 0 ? JBD2_TAG.SAME_UUID : 0) | (i === tags.length - 1 ? JBD2_TAG.LAST : 0);
    dv.setUint32(at, blkno % 2 ** 32);
    dv.setUint16(at + 6, flags);
    if (bit64) dv.setUint32(at + 8, Math.floor(blkno / 2 ** 32));
    at += tagSize(bit64) + (i === 0 ? TAG_UUID : 0);
  });
}

/** Fill `out` (one zeroed block) with a commit block. */
export function encodeCommit(out: Uint8Array, sequence: number, now: Timestamp): void {
  setHeader(new DataView(out.buffer, out.byteOffset, out.byteLength), JBD2_BLOCK.commit, sequence);
  const commit = Jbd2Commit.at(new Block('', 0, out));
  commit.commitSec = now.sec;
  commit.commitNsec = now.nsec;
}

/** One tag of a descriptor. */
export interface LogTag {
  readonly blkno: number;
  readonly escaped: boolean;
}

/** The type of a log block of transaction `sequence`; undefined if it is anything else. */
export function logBlockType(block: Block, sequence: number): number | undefined {
  const head = Jbd2Header.at(block);
  return head.magic === JBD2_MAGIC && head.sequence === sequence ? head.blocktype : undefined;
}

/** Number of tags, without looking at them: a descriptor of a transaction that never committed may hold anything. */
export function countTags(block: Block, bit64: boolean): number {
  let n = 0;
  for (const _tag of walkTags(block, bit64)) n++;
  return n;
}

/** The tags, each checked to be a block of the volume outside the journal itself. */
export function readTags(block: Block, geo: Geometry, map: BlockMap, bit64: boolean): LogTag[] {
  const tags: LogTag[] = [];
  for (const at of walkTags(block, bit64)) {
    const blkno = (bit64 ? block.dv.getUint32(at + 8) * 2 ** 32 : 0) + block.dv.getUint32(at);
    const field = `t_blocknr[${tags.length}]`;
    if (!Number.isSafeInteger(blkno) || blkno >= geo.totalBlocks) throw badField(block, 'jbd2_descriptor', field, blkno, `is outside the volume of ${geo.totalBlocks} blocks`);
    if (map.contains(blkno)) throw badField(block, 'jbd2_descriptor', field, blkno, 'is a block of the journal itself');
    tags.push({ blkno, escaped: (block.dv.getUint16(at + 6) & JBD2_TAG.ESCAPE) !== 0 });
  }
  return tags;
}

/** Byte offsets of the tags; ends at the tag marked last or at the end of the block. */
function* walkTags(block: Block, bit64: boolean): Generator<number> {
  const size = tagSize(bit64);
  for (let at = HEADER; at + size <= block.bytes.length; ) {
    yield at;
    const flags = block.dv.getUint16(at + 6);
    if (flags & JBD2_TAG.LAST) return;
    at += size + (flags & JBD2_TAG.SAME_UUID ? 0 : TAG_UUID);
  }
}

/** Block numbers of a revoke block. Throws if its count does not fit the block. */
export function readRevokes(block: Block, bit64: boolean): number[] {
  const used = Jbd2Revoke.at(block).count;
  const size = bit64 ? 8 : 4;
  if (used < REVOKE_HEADER || used > block.bytes.length || (used - REVOKE_HEADER) % size !== 0) throw badField(block, 'jbd2_revoke', 'r_count', used, 'does not fit the block');
  const out: number[] = [];
  for (let at = REVOKE_HEADER; at < used; at += size) {
    out.push(bit64 ? block.dv.getUint32(at) * 2 ** 32 + block.dv.getUint32(at + 4) : block.dv.getUint32(at));
  }
  return out;
}
