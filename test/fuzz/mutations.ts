/** What is done to a field, or to a whole block, and the bytes that come of it. */
import type { Random } from '@lunfs/device';
import type { Geometry } from '@lunfs/ocfs2';
import type { Catalogue } from './catalogue.js';
import type { Place } from './cataloguer.js';

export const MUTATIONS = [
  'zeros', 'ones', 'random', 'small', 'one more', 'one less', 'top bit', 'one bit', 'the neighbour\'s value', 'another\'s value', 'its own block', 'the owner', 'a block of the same inode', 'a system structure', 'the end of the volume',
] as const;
export type Mutation = (typeof MUTATIONS)[number];

export const BLOCK_MUTATIONS = ['zeros', 'random', 'another block', 'half of another block'] as const;
export type BlockMutation = (typeof BLOCK_MUTATIONS)[number];

export interface Surroundings {
  readonly geo: Geometry;
  readonly catalogue: Catalogue;
  readonly random: Random;
  /** Bytes of a unit of the sound volume: its block, or blocks. */
  readonly read: (blkno: number) => Uint8Array;
}

/** New bytes of the field; always other ones than before. */
export function mutate(place: Place, mutation: Mutation, { geo, catalogue, random, read }: Surroundings): Uint8Array {
  const block = read(place.blkno);
  const old = block.slice(place.off, place.off + place.size);
  const out = old.slice();
  const put = (value: number): void => {
    let rest = value;
    for (let i = 0; i < out.length; i++) {
      out[place.bigEndian ? out.length - 1 - i : i] = rest % 256;
      rest = Math.floor(rest / 256);
    }
  };
  const number = (): number => {
    let value = 0;
    for (let i = Math.min(6, old.length) - 1; i >= 0; i--) value = value * 256 + old[place.bigEndian ? old.length - 1 - i : i];
    return value;
  };
  switch (mutation) {
    case 'zeros': out.fill(0); break;
    case 'ones': out.fill(0xff); break;
    case 'random': random.fill(out); break;
    case 'small': put(random.int(64)); break;
    case 'one more': put(number() + 1); break;
    case 'one less': put(Math.max(0, number() - 1)); break;
    case 'top bit': out[place.bigEndian ? 0 : out.length - 1] ^= 0x80; break;
    case 'one bit': out[random.int(out.length)] ^= 1 << random.int(8); break;
    case 'the neighbour\'s value': out.set(block.subarray(place.neighbour, Math.min(place.neighbour + out.length, block.length))); break;
    case 'another\'s value': {
      const other = random.pick(catalogue.byClass.get(place.cls) ?? [place]);
      out.set(read(other.blkno).subarray(other.off, other.off + Math.min(other.size, out.length)));
      break;
    }
    case 'its own block': put(place.blkno); break;
    case 'the owner': put(place.owner); break;
    // Loops of more than one step.
    case 'a block of the same inode': put(random.pick([...catalogue.blocks].filter(([, { owner }]) => owner === place.owner).map(([blkno]) => blkno))); break;
    case 'a system structure': put(random.pick([2, geo.rootBlkno, geo.systemDirBlkno, geo.firstClusterGroup, catalogue.sys.globalBitmap, catalogue.sys.journal[0], catalogue.sys.inodeAlloc[0]])); break;
    case 'the end of the volume': put(random.pick([geo.totalBlocks, geo.totalClusters]) - random.int(3)); break;
  }
  while (out.every((byte, i) => byte === old[i])) random.fill(out);
  return out;
}

/** New bytes of a whole block. */
export function mutateBlock(blkno: number, mutation: BlockMutation, { catalogue, random, read }: Surroundings): Uint8Array {
  const out = read(blkno).slice();
  const other = read(random.pick([...catalogue.blocks.keys()]));
  switch (mutation) {
    case 'zeros': return out.fill(0);
    case 'random': random.fill(out); return out;
    case 'another block': out.set(other.subarray(0, out.length)); return out;
    case 'half of another block': out.set(other.subarray(other.length / 2).subarray(0, out.length / 2), out.length / 2); return out;
  }
}
