/** Blocks of the extent allocators, one bit each: which are referred to. References are checked against the allocator as they come. */
import { bits } from '../format/lists.js';
import { type Group, groupBitSet } from './group.js';
import type { Findings } from './findings.js';
import type { Turns } from './turns.js';

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
  /** Of the group's first bit, among the bits of all groups. */
  readonly base: number;
  readonly blkno: number;
  readonly bit: number;
  readonly bits: number;
}

export class MetaTable {
  /** Shared by all threads. */
  readonly memory: SharedArrayBuffer;
  readonly #pieces: readonly Piece[];
  readonly #referred: Uint8Array;

  /** `memory`: of another thread's table of the same groups. */
  constructor(private readonly findings: Findings, private readonly turns: Turns, groupsBySlot: readonly (readonly Group[])[], memory?: SharedArrayBuffer) {
    const pieces: Piece[] = [];
    let base = 0;
    for (const [slot, groups] of groupsBySlot.entries()) {
      for (const group of groups) {
        for (const piece of group.pieces) pieces.push({ group, slot, base, ...piece });
        base += group.bits;
      }
    }
    this.#pieces = pieces.sort((a, b) => a.blkno - b.blkno);
    this.memory = memory ?? new SharedArrayBuffer(Math.ceil(base / 8));
    this.#referred = new Uint8Array(this.memory);
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
    const at = piece.base + bit, mark = 1 << (at & 7);
    if (Atomics.or(this.#referred, at >>> 3, mark) & mark) {
      this.turns.contest();
      bad('METADATA_SHARED', 'belongs to something else, too');
      return false;
    }
    if (piece.slot !== ref.slot) bad('EXTENT_ALLOC_FREE', `is in no group of extent_alloc slot ${ref.slot}, but of slot ${piece.slot}`);
    else if (bit !== ref.bit) bad('EXTENT_ALLOC_FREE', `says it is bit ${ref.bit}, it is bit ${bit}`);
    else if (ref.loc !== group.blkno && (ref.loc !== 0 || blkno - bit !== group.blkno)) bad('EXTENT_ALLOC_FREE', `says its group is ${ref.loc}, it is ${group.blkno}`);
    if (!groupBitSet(group, bit)) bad('EXTENT_ALLOC_FREE', 'is free in its allocator');
    return true;
  }

  /** After all references: blocks in use that nothing refers to. */
  reportLeaks(): void {
    for (const { group, slot, base, blkno, bit, bits: count } of this.#pieces) {
      for (let i = 0; i < count; i++) {
        if (blkno + i === group.blkno || bits.test(this.#referred, 0, base + bit + i) || !groupBitSet(group, bit + i)) continue;
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
