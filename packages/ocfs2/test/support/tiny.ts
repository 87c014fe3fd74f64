/**
 * A tiny volume for journal and lock tests: a log and a few hundred blocks of no structure, so that thousands of crash
 * images can be recovered and compared whole. Real volumes are in volume.ts.
 */
import { type BlockDevice, MemoryDevice } from '@lunfs/device';
import { Block, type BlockKind, type Geometry, Jbd2Super, JBD2_BLOCK, JBD2_INCOMPAT, JBD2_MAGIC, stampCheck } from '../../src/format/index.js';
import { BlockMap } from '../../src/journal/index.js';

/** Plain blocks with a checksum at byte 8 on metaecc volumes. */
export const TOY_BLOCK: BlockKind = { name: 'toy block', checkAt: () => 8, validate: () => undefined };

export interface TinyVolume {
  readonly geo: Geometry;
  /** The first log. */
  readonly map: BlockMap;
  /** All logs, one per slot. */
  readonly maps: readonly BlockMap[];
  readonly device: MemoryDevice;
  /** First and one past the last of the blocks that operations may change. */
  readonly first: number;
  readonly end: number;
}

export interface TinyOptions {
  readonly blockSize?: number;
  readonly metaecc?: boolean;
  readonly bit64?: boolean;
  /** Sequence number the log begins with. */
  readonly sequence?: number;
  readonly logBlocks?: number;
  readonly toyBlocks?: number;
  readonly slots?: number;
}

/** A formatted tiny volume. Each log lies in two runs, the second before the first. */
export function tinyVolume({ blockSize = 512, metaecc = true, bit64 = false, sequence = 1, logBlocks = 1024, toyBlocks = 300, slots = 1 }: TinyOptions = {}): TinyVolume {
  const first = 16, end = first + toyBlocks;
  const totalBlocks = end + slots * logBlocks + 8;
  const half = logBlocks >> 1;
  // Only what the journal and the cache look at.
  const geo = { device: 'tiny', blockSize, metaecc, totalBlocks } as unknown as Geometry;
  const device = new MemoryDevice({ size: Math.ceil((totalBlocks * blockSize) / 4096) * 4096, name: 'tiny' });
  const maps = Array.from({ length: slots }, (_, slot) => {
    const at = end + slot * logBlocks;
    const map = new BlockMap(geo, [{ blkno: at + half, count: logBlocks - half }, { blkno: at, count: half }]);
    const block = new Block('tiny', map.at(0).blkno, new Uint8Array(blockSize));
    Object.assign(Jbd2Super.at(block), {
      magic: JBD2_MAGIC, blocktype: JBD2_BLOCK.superV2, blockSize, maxLen: logBlocks, first: blockSize === 512 ? 2 : 1, sequence, start: 1, // as mkfs.ocfs2 leaves it
      featureIncompat: bit64 ? JBD2_INCOMPAT.BIT64 : 0,
    });
    device.writeSync(block.blkno * blockSize, block.bytes);
    return map;
  });
  const toy = new Uint8Array(blockSize);
  if (metaecc) stampCheck(toy, 8);
  for (let blkno = first; blkno < end; blkno++) device.writeSync(blkno * blockSize, toy);
  return { geo, map: maps[0], maps, device, first, end };
}

export async function readBlocks(device: BlockDevice, blockSize: number, first: number, end: number): Promise<Uint8Array> {
  const bytes = new Uint8Array((end - first) * blockSize);
  await device.read(first * blockSize, bytes);
  return bytes;
}

/** Timers that a test fires by hand. */
export class TestTimers {
  #pending = new Set<() => void>();
  after(_ms: number, fn: () => void): () => void {
    this.#pending.add(fn);
    return () => void this.#pending.delete(fn);
  }
  get pending(): number {
    return this.#pending.size;
  }
  fire(): void {
    const all = [...this.#pending];
    this.#pending.clear();
    for (const fn of all) fn();
  }
}
