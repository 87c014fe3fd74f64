/**
 * The heartbeat block: one sector per node, little-endian (Linux 6.1 fs/ocfs2/cluster/ocfs2_heartbeat.h, cluster-protocols.md 2.2).
 *
 *      0  u64  seq          wall clock in seconds; all that matters is that it changes
 *      8  u8   node
 *      9  3    zero
 *     12  u32  checksum     crc32_le with seed 0 of the whole sector, this field zero
 *     16  u64  generation   random, one per run of a region on a node; 0: it has left
 *     24  u32  deadMs       after how long its writer takes a node for dead; 0 in blocks of old kernels
 *     28  zeros, but for
 *    504  8    "lunfsend" where a lunfs host says that the run of this generation is over although it said no goodbye, and that another one will
 *              follow (region.ts); to Linux the beat is no other for it
 *    512  zeros to the end of the sector
 */
import { crc32le } from '../crc32.js';

export interface HeartbeatBlock {
  readonly seq: bigint;
  readonly node: number;
  readonly generation: bigint;
  readonly deadMs: number;
  /** The run of this generation is over. */
  readonly over?: boolean;
}

const SEQ = 0;
const NODE = 8;
const CHECKSUM = 12;
const GENERATION = 16;
const DEAD_MS = 24;
const OVER = 504;
const OVER_MARK = new DataView(new TextEncoder().encode('lunfsend').buffer).getBigUint64(0);

const ZEROS = new Uint8Array(4);

/** A sector of `bytes` bytes, 512 to 4096. */
export function encodeBlock(block: HeartbeatBlock, bytes: number): Uint8Array {
  const sector = new Uint8Array(bytes);
  const view = new DataView(sector.buffer);
  view.setBigUint64(SEQ, block.seq, true);
  view.setUint8(NODE, block.node);
  view.setBigUint64(GENERATION, block.generation, true);
  view.setUint32(DEAD_MS, block.deadMs, true);
  if (block.over === true) view.setBigUint64(OVER, OVER_MARK);
  view.setUint32(CHECKSUM, crc32le(0, sector), true);
  return sector;
}

/** What a sector says. Nothing is checked: see `checksumGood`. */
export function decodeBlock(sector: Uint8Array): HeartbeatBlock {
  const view = new DataView(sector.buffer, sector.byteOffset, sector.byteLength);
  return {
    seq: view.getBigUint64(SEQ, true),
    node: view.getUint8(NODE),
    generation: view.getBigUint64(GENERATION, true),
    deadMs: view.getUint32(DEAD_MS, true),
    over: view.getBigUint64(OVER) === OVER_MARK,
  };
}

/** True for a sector of zeros, too: a slot that was never used. */
export function checksumGood(sector: Uint8Array): boolean {
  const stored = new DataView(sector.buffer, sector.byteOffset, sector.byteLength).getUint32(CHECKSUM, true);
  const before = crc32le(crc32le(0, sector.subarray(0, CHECKSUM)), ZEROS);
  return crc32le(before, sector.subarray(CHECKSUM + 4)) === stored;
}
