/** A group of an allocator, as the passes after the first need it. */
import type { Block } from '../format/block.js';
import { bits } from '../format/lists.js';
import { GROUP_BITMAP } from '../format/structs.js';

export interface Group {
  readonly block: Block;
  readonly blkno: number;
  readonly bits: number;
  /** Contiguous pieces in bit order: `bit` is the first bit, `blkno` its block. One piece unless discontiguous. */
  readonly pieces: readonly { bit: number; bits: number; blkno: number }[];
}

export function groupBitSet(group: Group, bit: number): boolean {
  return bit < group.bits && bits.test(group.block.bytes, GROUP_BITMAP, bit);
}
