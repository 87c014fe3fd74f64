/**
 * Directory entries in the bytes they live in (ondisk-format.md 6.1): one area is the inline part of a dinode or one
 * directory block without its trailer. Entries tile their area without gaps; a free entry has inode 0.
 *
 * Every walk checks every entry it steps over (Linux 6.1 fs/ocfs2/dir.c:ocfs2_check_dir_entry), so that no length from
 * disk ever leads outside the area or in a circle.
 */
import { type Block, badField } from '../format/block.js';
import { MAX_NAME_LEN } from '../format/constants.js';
import { type Geometry, checkBlkno } from '../format/geometry.js';

/** Bytes of a block that entries tile. */
export interface Area {
  readonly block: Block;
  /** First byte in the block. */
  readonly base: number;
  readonly size: number;
}

/** What a name stands for: the inode's block and the dirent file type (FT). */
export interface DirTarget {
  readonly blkno: number;
  readonly type: number;
}

const NAME_AT = 12;
/** Shortest entry there is: a name of one byte. */
export const MIN_REC_LEN = 16;

/** Bytes an entry with a name of `nameLen` bytes takes at least. */
export function recLenFor(nameLen: number): number {
  return (nameLen + NAME_AT + 3) & ~3;
}

/** Checked length of the entry at byte `off` of the area. */
export function recLenAt(area: Area, off: number): number {
  const { block, base, size } = area;
  const at = base + off;
  if (off + MIN_REC_LEN > size) throw badEntry(area, off, 'rec_len', 'none', 'starts too close to the end');
  const len = block.dv.getUint16(at + 8, true), nameLen = block.bytes[at + 10], end = off + len;
  if (len < MIN_REC_LEN || (len & 3) !== 0) throw badEntry(area, off, 'rec_len', len, 'is no length of an entry');
  if (len < recLenFor(nameLen)) throw badEntry(area, off, 'rec_len', len, `is too short for a name of ${nameLen} bytes`);
  if (end > size) throw badEntry(area, off, 'rec_len', len, `leads outside the ${size} bytes of entries`);
  if (end !== size && end > size - MIN_REC_LEN) throw badEntry(area, off, 'rec_len', len, 'leaves too little room for the entry after it');
  return len;
}

function badEntry(area: Area, off: number, field: string, value: number | string, why: string): Error {
  return badField(area.block, `dir_entry at byte ${area.base + off}`, field, value, why);
}

function inodeLow(area: Area, off: number): number {
  return area.block.dv.getUint32(area.base + off, true);
}

/** Is the entry free? */
export function isFree(area: Area, off: number): boolean {
  return inodeLow(area, off) === 0 && area.block.dv.getUint32(area.base + off + 4, true) === 0;
}

/** Unused bytes of an entry: all of a free one, else what its name leaves over. */
function holeAt(area: Area, off: number, recLen: number): number {
  return isFree(area, off) ? recLen : recLen - recLenFor(area.block.bytes[area.base + off + 10]);
}

/** The live entry at `off`, its inode number checked. */
export function targetAt(geo: Geometry, area: Area, off: number): DirTarget {
  const { block, base } = area;
  const blkno = block.dv.getUint32(base + off + 4, true) * 0x1_0000_0000 + inodeLow(area, off);
  checkBlkno(geo, blkno, `dir_entry at byte ${base + off}`, 'inode', block);
  return { blkno, type: block.bytes[base + off + 11] };
}

/**
 * The name of the live entry at `off`: a view on the block's bytes, which never change once an operation has published them.
 * Names no path can hold are corrupt: empty ones and those with a slash or NUL.
 */
export function nameAt(area: Area, off: number): Uint8Array {
  const { bytes } = area.block;
  const from = area.base + off + NAME_AT, to = from + bytes[from - 2];
  let good = to > from;
  for (let i = from; i < to; i++) if (bytes[i] === 0x2f || bytes[i] === 0) good = false;
  const name = bytes.subarray(from, to);
  if (!good) throw badEntry(area, off, 'name', Buffer.from(name).toString('latin1'), 'is no file name');
  return name;
}

/** Byte of the live entry called `name`, or -1. */
export function findName(area: Area, name: Uint8Array): number {
  const { bytes } = area.block;
  const n = name.length;
  for (let off = 0; off < area.size; ) {
    const len = recLenAt(area, off);
    const at = area.base + off;
    if (bytes[at + 10] === n && bytes[at + NAME_AT] === name[0] && !isFree(area, off)) {
      let i = 1;
      while (i < n && bytes[at + NAME_AT + i] === name[i]) i++;
      if (i === n) return off;
    }
    off += len;
  }
  return -1;
}

/** Bytes of the live entries, in order. */
export function* liveEntries(area: Area): Generator<number> {
  for (let off = 0; off < area.size; ) {
    const len = recLenAt(area, off);
    if (!isFree(area, off)) yield off;
    off += len;
  }
}

/** Largest room for a new entry in the area, 0 when even the shortest does not fit (dir.c:ocfs2_find_max_rec_len). */
export function largestHole(area: Area): number {
  let largest = 0;
  for (let off = 0; off < area.size; ) {
    const len = recLenAt(area, off);
    largest = Math.max(largest, holeAt(area, off, len));
    off += len;
  }
  return largest >= MIN_REC_LEN ? largest : 0;
}

/** Byte of the first entry with room for a name of `nameLen` bytes, or -1. */
export function findRoom(area: Area, nameLen: number): number {
  const need = recLenFor(nameLen);
  for (let off = 0; off < area.size; ) {
    const len = recLenAt(area, off);
    if (holeAt(area, off, len) >= need) return off;
    off += len;
  }
  return -1;
}

/** Put an entry where `findRoom` found room. The area's block must be the operation's own. */
export function putEntry(area: Area, off: number, name: Uint8Array, target: DirTarget): void {
  const { block, base } = area;
  if (name.length === 0 || name.length > MAX_NAME_LEN) throw new RangeError(`a name of ${name.length} bytes`);
  let at = base + off;
  if (!isFree(area, off)) {
    // Split: the entry keeps what it needs, the new one takes the rest.
    const len = block.dv.getUint16(at + 8, true), keep = recLenFor(block.bytes[at + 10]);
    block.dv.setUint16(at + 8, keep, true);
    at += keep;
    block.dv.setUint16(at + 8, len - keep, true);
  }
  setTarget(block, at, target);
  block.bytes[at + 10] = name.length;
  block.bytes.set(name, at + NAME_AT);
}

/** Make the entry at `off` stand for another inode. */
export function retarget(area: Area, off: number, target: DirTarget): void {
  setTarget(area.block, area.base + off, target);
}

function setTarget(block: Block, at: number, { blkno, type }: DirTarget): void {
  block.dv.setUint32(at, blkno % 0x1_0000_0000, true);
  block.dv.setUint32(at + 4, Math.floor(blkno / 0x1_0000_0000), true);
  block.bytes[at + 11] = type;
}

/** Free the entry at `off`; the one before it takes its room (dir.c:__ocfs2_delete_entry). Its other bytes stay. */
export function dropEntry(area: Area, off: number): void {
  const { block, base } = area;
  let before = -1;
  for (let at = 0; at < off; at += recLenAt(area, at)) before = at;
  if (before >= 0) block.dv.setUint16(base + before + 8, recLenAt(area, before) + recLenAt(area, off), true);
  block.dv.setUint32(base + off, 0, true);
  block.dv.setUint32(base + off + 4, 0, true);
}

/** Make the whole area one free entry. */
export function clearArea(area: Area): void {
  area.block.dv.setUint16(area.base + 8, area.size, true);
}

const DOT = Uint8Array.of(0x2e);
const DOT_DOT = Uint8Array.of(0x2e, 0x2e);

/** The first two entries of every directory. The area must be zeros. */
export function putDots(area: Area, self: DirTarget, parent: DirTarget): void {
  clearArea(area);
  putEntry(area, 0, DOT, self);
  putEntry(area, 0, DOT_DOT, parent);
}

/** Let the last entry reach to the end of a larger area (an inline directory moves into a block). */
export function stretchLast(area: Area, oldSize: number): void {
  const old = { ...area, size: oldSize };
  let last = 0;
  for (let at = 0; at < oldSize; at += recLenAt(old, at)) last = at;
  area.block.dv.setUint16(area.base + last + 8, area.size - last, true);
}
