/**
 * Pass 2: the entries of every directory, and its index against them. Passes 3 and 4 count with what it gathers in the
 * table of inodes. Directories are checked some at a time, in the order of the disk; of the names only hashes are kept.
 */
import type { Block } from '../format/block.js';
import { DIR_TRAILER_SIZE, DYN, EXT, MODE, fileTypeOfMode } from '../format/constants.js';
import { dirBlockCount } from '../format/geometry.js';
import { type DxHash, dirHash } from '../format/dirhash.js';
import { DIR_BLOCK, DIR_BLOCK_PLAIN, DX_ROOT, validateBlock } from '../format/kinds.js';
import { Dinode, DirTrailer, ID2, INLINE_DATA_START } from '../format/structs.js';
import { blocksAhead } from './block-runs.js';
import type { Checker } from './checker.js';
import { type FreeRecord, checkIndex } from './dir-index.js';
import { InFlight } from './in-flight.js';
import { NameTable } from './name-table.js';
import { DIRECTORIES } from './turns.js';

const DIRECTORIES_IN_FLIGHT = 16;
/** Rows of the table of inodes that one thread looks through at a time. */
const ROWS_PER_PART = 64;
/** Bytes of a usual entry, and how many names are made room for before they are there. */
const USUAL_ENTRY = 32;
const MOST_EXPECTED = 1 << 16;
const ENTRY_HEAD = 12;
const MIN_ENTRY = 16;
const SLASH = 0x2f, DOT = 0x2e;
const recLen = (nameLen: number) => (nameLen + ENTRY_HEAD + 3) & ~3;

/** Check this thread's part of all directories. `orphanSlot`: slot of an orphan directory's inode, whose entries do not count as links; else undefined. */
export async function checkDirectories(c: Checker, orphanSlot: (blkno: number) => number | undefined, onDirectory: () => void): Promise<void> {
  const { inodes } = c;
  const running = new InFlight(DIRECTORIES_IN_FLIGHT);
  for (const part of c.turns.parts(DIRECTORIES, Math.ceil(inodes.rows / ROWS_PER_PART))) {
    for (const row of inodes.liveRows(part * ROWS_PER_PART, (part + 1) * ROWS_PER_PART)) {
      if (!inodes.isDirectory(row)) continue;
      if (!inodes.isOrphaned(row)) {
        const blkno = inodes.blkno(row);
        await running.add(() => c.guard('UNREADABLE', `directory ${blkno}`, () => new DirectoryCheck(c, row, orphanSlot(blkno)).run(blkno)).then(() => undefined));
      }
      onDirectory();
    }
  }
  await running.done();
}

interface Area {
  readonly block: Block;
  readonly start: number;
  readonly end: number;
  readonly trailer: boolean;
}

class DirectoryCheck {
  #names = new NameTable(0);
  /** Blocks with entries, in order; the name table counts them. */
  readonly #blocks: number[] = [];
  readonly #free = new Map<number, FreeRecord>();
  /** Pairs of rows with the same hashes. */
  readonly #twins: [number, number][] = [];
  #dir = 0;

  constructor(private readonly c: Checker, private readonly row: number, private readonly orphanSlot: number | undefined) {}

  async run(blkno: number): Promise<void> {
    const { c } = this;
    this.#dir = blkno;
    const inode = await c.reader.inode(blkno);
    const indexed = (Dinode.at(inode).dynFeatures & DYN.INDEXED_DIR) !== 0;
    this.#names = new NameTable(Math.min(MOST_EXPECTED, Dinode.at(inode).size / USUAL_ENTRY));
    for await (const area of this.#areas(inode)) {
      const largestHole = this.#checkArea(area);
      if (area.trailer) c.guardSync('DIR_TRAILER_INODE', `directory ${blkno}`, () => this.#checkTrailer(area, indexed, largestHole));
    }
    if (this.#blocks.length === 0) c.findings.error('DIR_ZERO', `directory ${blkno} has no blocks`, blkno);
    for (const [a, b] of this.#twins) await this.#checkTwins(inode, a, b);
    if (!indexed) return;
    await c.guard('DX_TREE_CORRUPT', `directory ${blkno}`, async () => {
      const root = await c.reader.read(Dinode.at(inode).dxRoot, DX_ROOT);
      await checkIndex(c, blkno, root, this.#blocks, this.#names, this.#free, (place) => this.#nameAt(inode, place));
    });
  }

  async *#areas(inode: Block): AsyncGenerator<Area> {
    const { c } = this;
    const { geo } = c;
    const di = Dinode.at(inode);
    if (di.dynFeatures & DYN.INLINE_DATA) {
      yield { block: inode, start: INLINE_DATA_START, end: INLINE_DATA_START + di.size, trailer: false };
      return;
    }
    const trailer = geo.metaecc || (di.dynFeatures & DYN.INDEXED_DIR) !== 0;
    const extents = c.reader.extents(inode, ID2);
    const unwritten = () => c.findings.error('DIR_ZERO', `directory ${inode.blkno} has an unwritten extent`, inode.blkno);
    for await (const block of blocksAhead(c.reader, extents, dirBlockCount(geo, di.size), (rec) => void (rec.flags & EXT.UNWRITTEN && unwritten()))) {
      const usable = c.guardSync('DIR_TRAILER_BLKNO', `directory ${inode.blkno}`, () => {
        validateBlock(block, trailer ? DIR_BLOCK : DIR_BLOCK_PLAIN, geo);
        return true;
      });
      if (usable) yield { block, start: 0, end: geo.blockSize - (trailer ? DIR_TRAILER_SIZE : 0), trailer };
    }
  }

  #checkTrailer(area: Area, indexed: boolean, largestHole: number): void {
    const { findings } = this.c;
    const { blkno } = area.block;
    const t = DirTrailer.at(area.block, area.end);
    const what = `directory ${this.#dir} block ${blkno}`;
    if (t.compatInode !== 0) findings.error('DIR_TRAILER_INODE', `${what}: the trailer has an inode`, blkno);
    if (t.compatNameLen !== 0) findings.error('DIR_TRAILER_NAME_LEN', `${what}: the trailer has a name`, blkno);
    if (t.compatRecLen !== DIR_TRAILER_SIZE) findings.error('DIR_TRAILER_REC_LEN', `${what}: the trailer's rec_len is ${t.compatRecLen}`, blkno);
    if (t.parentDinode !== this.#dir) findings.error('DIR_TRAILER_PARENT_INODE', `${what}: the trailer says it is of directory ${t.parentDinode}`, blkno);
    if (!indexed) return;
    this.#free.set(blkno, { recorded: t.freeRecLen, next: t.freeNext });
    // Creation may understate the first hole (6.2); more than there is would let an insert run over an entry.
    if (t.freeRecLen > largestHole) findings.error('DX_FREE_LIST', `${what}: db_free_rec_len ${t.freeRecLen} exceeds the largest hole ${largestHole}`, blkno);
  }

  /** The entries of one block, or of the dinode. Returns its largest hole. */
  #checkArea({ block, start, end }: Area): number {
    const { c } = this;
    const { dv, bytes } = block;
    const [seed0, seed1] = c.geo.dxSeed;
    const bad = (code: string, text: string) => c.findings.error(code, `directory ${this.#dir} block ${block.blkno}: ${text}`, block.blkno);
    const number = this.#blocks.push(block.blkno) - 1;
    let largestHole = 0;
    for (let at = start, index = number === 0 ? 0 : 2; at < end; index++) {
      const rest = end - at;
      const len = rest < ENTRY_HEAD ? 0 : dv.getUint16(at + 8, true);
      const nameLen = rest < ENTRY_HEAD ? 0 : dv.getUint8(at + 10);
      const inode = rest < ENTRY_HEAD ? 0 : dv.getUint32(at + 4, true) * 2 ** 32 + dv.getUint32(at, true);
      if (len < MIN_ENTRY || len % 4 !== 0 || len > rest || (inode !== 0 && len < recLen(nameLen)) || (len < rest && len > rest - MIN_ENTRY)) {
        bad('DIRENT_LENGTH', `entry at byte ${at - start} has rec_len ${len}, name_len ${nameLen}`);
        break;
      }
      const hole = inode === 0 ? len : len - recLen(nameLen);
      if (hole >= MIN_ENTRY && hole > largestHole) largestHole = hole;
      if (inode === 0) {
        if (index < 2) bad('DIRENT_NOT_DOTTY', `entry ${index} should be "${index === 0 ? '.' : '..'}"`);
      } else {
        const name = bytes.subarray(at + ENTRY_HEAD, at + ENTRY_HEAD + nameLen);
        if (nameLen === 0) bad('DIRENT_ZERO', `entry at byte ${at - start} has no name`);
        else if (!areNameBytes(name)) bad('DIRENT_NAME_CHARS', `entry at byte ${at - start} has a NUL or a slash in its name`);
        this.#noteName(name, dirHash(name, seed0, seed1), number, at);
        this.#checkTarget(name, inode, dv.getUint8(at + 11), index, bad);
        if (index === 0 && len !== MIN_ENTRY && isDots(name, 1)) bad('DIRENT_DOT_EXCESS', `"." has rec_len ${len}`);
      }
      at += len;
    }
    return largestHole;
  }

  #noteName(name: Uint8Array, hash: DxHash, block: number, at: number): void {
    const twin = this.#names.add(hash.major, hash.minor, block, at);
    // "." and ".." hash to the same by definition; doubles of theirs are told from their place.
    if (twin >= 0 && !isDots(name, 1) && !isDots(name, 2)) this.#twins.push([twin, this.#names.length - 1]);
    if (isAscii(name)) return;
    const [seed0, seed1] = this.c.geo.dxSeed;
    const other = dirHash(name, seed0, seed1, true);
    if (other.major !== hash.major || other.minor !== hash.minor) this.#names.addAlias(other.major, other.minor);
  }

  #checkTarget(name: Uint8Array, inode: number, type: number, index: number, bad: (code: string, text: string) => void): void {
    const { inodes, geo } = this.c;
    const self = isDots(name, 1), parent = isDots(name, 2);
    if (index === 0 && !self) bad('DIRENT_NOT_DOTTY', `entry 0 is "${text(name)}", should be "."`);
    else if (index === 0 && inode !== this.#dir) bad('DIRENT_DOT_INODE', `"." points to ${inode}`);
    else if (index === 1 && !parent) bad('DIRENT_NOT_DOTTY', `entry 1 is "${text(name)}", should be ".."`);
    else if (index > 1 && (self || parent)) bad('DIRENT_DOTTY_DUP', `"${text(name)}" is there again`);
    if (inode <= 2 || inode >= geo.totalBlocks) return bad('DIRENT_INODE_RANGE', `"${text(name)}" points to block ${inode}, outside the volume`);
    const row = inodes.liveRow(inode);
    if (row < 0) return bad('DIRENT_INODE_FREE', `"${text(name)}" points to ${inode}, which is no live inode`);
    const isType = fileTypeOfMode(inodes.type(row));
    if (type !== isType) bad('DIRENT_TYPE', `"${text(name)}" has type ${type}, its inode ${inode} is of type ${isType}`);
    if (parent) {
      inodes.setDotdot(this.row, row);
      // An orphan directory's own ".." is itself or the system directory; both count.
      if (this.orphanSlot === undefined || inode !== this.#dir) inodes.countEntry(row);
      return;
    }
    if (self) return inodes.countEntry(row);
    // An orphan's entry is no link: it has none, or is about to lose the last.
    if (this.orphanSlot !== undefined) return inodes.setOrphanDir(row, this.orphanSlot);
    inodes.countEntry(row);
    if (inodes.type(row) !== MODE.DIR) return;
    const other = inodes.setParent(row, this.row);
    if (other < 0) return;
    this.c.turns.contest();
    bad('DIR_PARENT_DUP', `directory ${inode} ("${text(name)}") is also in directory ${inodes.blkno(other)}`);
  }

  async #checkTwins(inode: Block, a: number, b: number): Promise<void> {
    const one = await this.#nameAt(inode, this.#names.place(a)), other = await this.#nameAt(inode, this.#names.place(b));
    if (one !== other) return;
    const blkno = this.#blocks[this.#names.place(b).block];
    this.c.findings.error('DIRENT_DUPLICATE', `directory ${this.#dir} block ${blkno}: "${one}" is there twice`, blkno);
  }

  /** The name of an entry seen before, read again. */
  async #nameAt(inode: Block, { block, at }: { block: number; at: number }): Promise<string> {
    const blkno = this.#blocks[block];
    const { bytes } = blkno === inode.blkno ? inode : await this.c.reader.readRaw(blkno);
    return text(bytes.subarray(at + ENTRY_HEAD, at + ENTRY_HEAD + bytes[at + 10]));
  }
}

function isDots(name: Uint8Array, n: 1 | 2): boolean {
  return name.length === n && name[0] === DOT && name[n - 1] === DOT;
}

function areNameBytes(name: Uint8Array): boolean {
  for (let i = 0; i < name.length; i++) if (name[i] === 0 || name[i] === SLASH) return false;
  return true;
}

function isAscii(name: Uint8Array): boolean {
  for (let i = 0; i < name.length; i++) if (name[i] > 0x7f) return false;
  return true;
}

function text(name: Uint8Array): string {
  return Buffer.from(name).toString('utf8');
}
