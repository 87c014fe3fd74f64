/**
 * What the passes must remember of every inode, in columns: a number of bytes per bit of the inode allocators, whatever the
 * volume claims of itself. Rows are the bits of all groups in block order.
 */
import { DYN, FL } from '../format/constants.js';
import { InternalError } from '@lunfs/device';
import type { Group } from './group.js';

const BYTES_PER_ROW = 21;
const LIVE = 0x10, SYSTEM = 0x20, ORPHANED = 0x40, INDEXED = 0x80;

/** What later passes need of an inode. */
export interface InodeFacts {
  readonly mode: number;
  readonly links: number;
  readonly flags: number;
  readonly dynFeatures: number;
  readonly orphanedSlot: number;
}

interface Piece {
  readonly blkno: number;
  readonly bits: number;
  readonly row: number;
}

export class InodeTable {
  /** In block order; pieces that overlap one before are left out (they are reported where clusters are claimed). */
  readonly #pieces: Piece[] = [];
  /** Type (mode >> 12) and the flags above. */
  readonly #state: Uint8Array;
  readonly #links: Uint32Array;
  /** Entries that name the inode, `.` and `..` included. */
  readonly #entries: Uint32Array;
  /** i_orphaned_slot of flagged inodes. */
  readonly #orphanedSlot: Uint16Array;
  /** Slot + 1 of the orphan directory that lists it; 0: none does. */
  readonly #orphanDir: Uint16Array;
  /** Row + 1 of the directory whose entry names this directory; 0: none does. */
  readonly #parent: Uint32Array;
  /** Row + 1 of what `..` names; 0: unknown. */
  readonly #dotdot: Uint32Array;
  readonly rows: number;
  /** Live inodes, and directories of them, that this table was told of. */
  live = 0;
  directories = 0;
  #last: Piece | undefined;

  /** Shared by all threads. */
  readonly memory: SharedArrayBuffer;

  /** `memory`: of another thread's table of the same groups. */
  constructor(groups: readonly Group[], memory?: SharedArrayBuffer) {
    let rows = 0, end = 0;
    for (const { blkno, bits } of groups.flatMap((g) => g.pieces).sort((a, b) => a.blkno - b.blkno)) {
      if (blkno < end) continue;
      this.#pieces.push({ blkno, bits, row: rows });
      rows += bits;
      end = blkno + bits;
    }
    this.rows = rows;
    this.memory = memory ?? new SharedArrayBuffer(rows * BYTES_PER_ROW);
    [this.#links, this.#entries, this.#parent, this.#dotdot] = [0, 4, 8, 12].map((at) => new Uint32Array(this.memory, at * rows, rows));
    [this.#orphanedSlot, this.#orphanDir] = [16, 18].map((at) => new Uint16Array(this.memory, at * rows, rows));
    this.#state = new Uint8Array(this.memory, 20 * rows, rows);
  }

  /** Row of a block, or -1 if it lies in no inode allocator. */
  row(blkno: number): number {
    const last = this.#last;
    if (last !== undefined && blkno >= last.blkno && blkno < last.blkno + last.bits) return last.row + blkno - last.blkno;
    const piece = this.#find((p) => p.blkno <= blkno);
    if (piece === undefined || blkno >= piece.blkno + piece.bits) return -1;
    this.#last = piece;
    return piece.row + blkno - piece.blkno;
  }

  /** Row of a live inode, or -1. */
  liveRow(blkno: number): number {
    const row = this.row(blkno);
    return row >= 0 && this.#state[row] & LIVE ? row : -1;
  }

  blkno(row: number): number {
    const piece = this.#find((p) => p.row <= row);
    if (piece === undefined) throw new InternalError('CHECK_ROW', `the verifier has no inode in row ${row}`);
    return piece.blkno + row - piece.row;
  }

  /** Note a live inode. False: it is there already, or in a group that overlaps another. */
  add(blkno: number, facts: InodeFacts): boolean {
    const row = this.row(blkno);
    if (row < 0 || this.#state[row] & LIVE) return false;
    const { flags } = facts;
    this.#state[row] = LIVE | (facts.mode >>> 12) | (flags & FL.SYSTEM ? SYSTEM : 0) | (flags & FL.ORPHANED ? ORPHANED : 0) | (facts.dynFeatures & DYN.INDEXED_DIR ? INDEXED : 0);
    this.#links[row] = facts.links;
    this.#orphanedSlot[row] = facts.orphanedSlot;
    this.live++;
    if (this.isDirectory(row)) this.directories++;
    return true;
  }

  /** Rows of live inodes of [from, to), ascending. */
  *liveRows(from = 0, to = this.rows): Generator<number> {
    for (let row = from; row < Math.min(to, this.rows); row++) if (this.#state[row] & LIVE) yield row;
  }

  /** i_mode's type bits. */
  type(row: number): number {
    return (this.#state[row] & 0xf) << 12;
  }
  isDirectory(row: number): boolean {
    return (this.#state[row] & 0xf) === 4;
  }
  isSystem(row: number): boolean {
    return (this.#state[row] & SYSTEM) !== 0;
  }
  isOrphaned(row: number): boolean {
    return (this.#state[row] & ORPHANED) !== 0;
  }
  isIndexed(row: number): boolean {
    return (this.#state[row] & INDEXED) !== 0;
  }
  links(row: number): number {
    return this.#links[row];
  }
  orphanedSlot(row: number): number {
    return this.#orphanedSlot[row];
  }

  /** One more entry names the inode. */
  countEntry(row: number): void {
    Atomics.add(this.#entries, row, 1);
  }
  entries(row: number): number {
    return this.#entries[row];
  }

  /** The orphan directory of `slot` lists the inode. */
  setOrphanDir(row: number, slot: number): void {
    this.#orphanDir[row] = slot + 1;
  }
  /** Slot of the orphan directory that lists it, or -1. */
  orphanDir(row: number): number {
    return this.#orphanDir[row] - 1;
  }

  /** An entry of `parent` names the directory. Returns the row of another that did before, or -1. */
  setParent(row: number, parent: number): number {
    return Atomics.compareExchange(this.#parent, row, 0, parent + 1) - 1;
  }
  /** Row of the directory whose entry names it, or -1. */
  parent(row: number): number {
    return this.#parent[row] - 1;
  }
  setDotdot(row: number, target: number): void {
    this.#dotdot[row] = target + 1;
  }
  /** Row of what its `..` names, or -1. */
  dotdot(row: number): number {
    return this.#dotdot[row] - 1;
  }

  /** Last piece for which `before` holds; it holds for a first part of them. */
  #find(before: (piece: Piece) => boolean): Piece | undefined {
    let lo = 0, hi = this.#pieces.length;
    while (lo < hi) {
      const mid = (lo + hi) >>> 1;
      if (before(this.#pieces[mid])) lo = mid + 1;
      else hi = mid;
    }
    return this.#pieces[lo - 1];
  }
}
