/**
 * Where the blocks of a fully allocated file lie on the volume: runs of adjacent blocks, in file order, without holes.
 * The journal reaches its log through one; log block n is file block n (ondisk-format.md 9.1).
 */
import { CorruptionError, InternalError } from '@lunfs/device';
import type { Geometry } from '../format/geometry.js';

/** Adjacent blocks on the volume. */
export interface BlockRun {
  readonly blkno: number;
  readonly count: number;
}

export class BlockMap {
  /** Blocks of the file. */
  readonly blocks: number;
  readonly runs: readonly BlockRun[];
  /** File block at which each run starts. */
  readonly #starts: readonly number[];

  /** Throws a corruption error if a run lies outside the volume. */
  constructor(geo: Geometry, runs: readonly BlockRun[]) {
    const starts: number[] = [];
    let blocks = 0;
    for (const { blkno, count } of runs) {
      if (blkno <= 0 || count <= 0 || blkno + count > geo.totalBlocks) {
        throw new CorruptionError('JOURNAL_EXTENT', `${geo.device}: the journal's extent of ${count} blocks at block ${blkno} is outside the volume; run fsck.ocfs2`, { device: geo.device, block: blkno, structure: 'extent_list', field: 'e_blkno' });
      }
      starts.push(blocks);
      blocks += count;
    }
    this.runs = runs;
    this.#starts = starts;
    this.blocks = blocks;
  }

  /** Block on the volume of file block `index`, and how many blocks from there on are adjacent. */
  at(index: number): BlockRun {
    if (index < 0 || index >= this.blocks) throw new InternalError('LOG_RANGE', `log block ${index} of ${this.blocks}`);
    let low = 0, high = this.runs.length - 1;
    while (low < high) {
      const mid = (low + high + 1) >> 1;
      if (this.#starts[mid] <= index) low = mid;
      else high = mid - 1;
    }
    const skip = index - this.#starts[low];
    return { blkno: this.runs[low].blkno + skip, count: this.runs[low].count - skip };
  }

  /** Is this block of the volume one of the file's? */
  contains(blkno: number): boolean {
    return this.runs.some((r) => blkno >= r.blkno && blkno < r.blkno + r.count);
  }
}
