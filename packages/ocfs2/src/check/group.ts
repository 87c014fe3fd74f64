/** A group of an allocator, as the passes after the first need it. */
import { bits } from '../format/lists.js';

export interface Group {
  readonly blkno: number;
  readonly bits: number;
  /** 1: in use. */
  readonly bitmap: Uint8Array;
  /** Contiguous pieces in bit order: `bit` is the first bit, `blkno` its block. One piece unless discontiguous. */
  readonly pieces: readonly { bit: number; bits: number; blkno: number }[];
}

export function groupBitSet(group: Group, bit: number): boolean {
  return bit < group.bits && bits.test(group.bitmap, 0, bit);
}
