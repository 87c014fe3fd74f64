/** Blocks of the extent allocators, one bit each: which are referred to. References are checked against the allocator as they come. */
import { bits } from '../format/lists.js';
import { type Group, groupBitSet } from './group.js';
import type { Findings } from './findings.js';

/** Where a metadata block says it was allocated. */
export interface MetaRef {
  readonly blkno: number;
  readonly slot: number;
  readonly bit: number;
  readonly loc: number;
  readonly who: string;
}

interface Piece {
  readonly group: Group;
  readonly slot: number;
  readonly blkno: number;
  readonly bit: number;
  readonly bits: number;
}

export class MetaTable {
  readonly #pieces: readonly Piece[];
  readonly #referred = new Map<Group, Uint8Array>();

  constructor(private readonly findings: Findings, groupsBySlot: readonly (readonly Group[])[]) {
    this.#pieces = groupsBySlot.flatMap((groups, slot) => groups.flatMap((group) => group.pieces.map((p) => ({ group, slot, ...p })))).sort((a, b) => a.blkno - b.blkno);
    for (const group of groupsBySlot.flat()) this.#referred.set(group, new Uint8Array(Math.ceil(group.bits / 8)));
  }

  /** Note a reference. False: the block was referred to before, so whatever hangs below it has been seen. */
  refer(ref: MetaRef): boolean {
    const { blkno, who } = ref;
    const piece = this.#find(blkno);
    const bad = (code: string, text: string) => this.findings.error(code, `${who}: block ${blkno} ${text}`, blkno);
    if (piece === undefined) {
      bad('EXTENT_ALLOC_FREE', 'is in no group of an extent allocator');
      return true;
    }
    const { group } = piece;
    const bit = piece.bit + blkno - piece.blkno;
    const referred = this.#referred.get(group)!;
    if (bits.test(referred, 0, bit)) {
      bad('METADATA_SHARED', 'belongs to something else, too');
      return false;
    }
    bits.set(referred, 0, bit);
    if (piece.slot !== ref.slot) bad('EXTENT_ALLOC_FREE', `is in no group of extent_alloc slot ${ref.slot}, but of slot ${piece.slot}`);
    else if (bit !== ref.bit) bad('EXTENT_ALLOC_FREE', `says it is bit ${ref.bit}, it is bit ${bit}`);
    else if (ref.loc !== group.blkno && (ref.loc !== 0 || blkno - bit !== group.blkno)) bad('EXTENT_ALLOC_FREE', `says its group is ${ref.loc}, it is ${group.blkno}`);
    if (!groupBitSet(group, bit)) bad('EXTENT_ALLOC_FREE', 'is free in its allocator');
    return true;
  }

  /** After all references: blocks in use that nothing refers to. */
  reportLeaks(): void {
    for (const { group, slot, blkno, bit, bits: count } of this.#pieces) {
      const referred = this.#referred.get(group)!;
      for (let i = 0; i < count; i++) {
        if (blkno + i === group.blkno || bits.test(referred, 0, bit + i) || !groupBitSet(group, bit + i)) continue;
        this.findings.add('leak', 'EXTENT_ALLOC_LEAK', `block ${blkno + i} of extent_alloc slot ${slot} is in use but nothing refers to it`, blkno + i);
      }
    }
  }

  #find(blkno: number): Piece | undefined {
    let lo = 0, hi = this.#pieces.length;
    while (lo < hi) {
      const mid = (lo + hi) >>> 1;
      if (this.#pieces[mid].blkno <= blkno) lo = mid + 1;
      else hi = mid;
    }
    const piece = this.#pieces[lo - 1];
    return piece !== undefined && blkno < piece.blkno + piece.bits ? piece : undefined;
  }
}
