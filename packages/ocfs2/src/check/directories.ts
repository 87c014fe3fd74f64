/** Pass 2: the entries of every directory, and its index against them. Passes 3 and 4 count with what it gathers. */
import type { Block } from '../format/block.js';
import { DIR_TRAILER_SIZE, DYN, EXT, FT, MODE, S_IFMT, fileTypeOfMode } from '../format/constants.js';
import { dirHash } from '../format/dirhash.js';
import { DIR_BLOCK, DIR_BLOCK_PLAIN, DX_LEAF, DX_ROOT, validateBlock } from '../format/kinds.js';
import { DxEntryList } from '../format/lists.js';
import { Dinode, DirTrailer, DX_INLINE, DX_LEAF_LIST, DX_ROOT_LIST, DxRoot, ID2, INLINE_DATA_START } from '../format/structs.js';
import type { Checker } from './checker.js';

/** What the directories say: link counts by inode, parents of directories, entries of orphan directories. */
export class LinkCounts {
  readonly links = new Map<number, number>();
  /** Directory → the directory whose entry names it. */
  readonly parents = new Map<number, number>();
  /** Directory → its `..`. */
  readonly dotdot = new Map<number, number>();
  /** Inode → orphan directory that lists it. */
  readonly orphans = new Map<number, number>();

  count(inode: number): void {
    this.links.set(inode, (this.links.get(inode) ?? 0) + 1);
  }
}

interface Area {
  readonly block: Block;
  readonly start: number;
  readonly end: number;
  readonly trailer: boolean;
}

const ENTRY_HEAD = 12;
const recLen = (nameLen: number) => (nameLen + ENTRY_HEAD + 3) & ~3;

/** Check one directory. `orphanDir`: its names are inode numbers of orphans, which do not count as links. */
export async function checkDirectory(c: Checker, links: LinkCounts, blkno: number, orphanDir: boolean): Promise<void> {
  const inode = await c.reader.inode(blkno);
  const di = Dinode.at(inode);
  const indexed = (di.dynFeatures & DYN.INDEXED_DIR) !== 0;
  const names = new Map<string, number>();
  /** Live entries by the block that holds them. */
  const byBlock = new Map<number, string[]>();
  const freeRec = new Map<number, { recorded: number; next: number }>();
  let position = 0;
  for await (const area of areas(c, inode)) {
    const live = checkArea(c, links, inode, area, position++ === 0, names, orphanDir);
    byBlock.set(area.block.blkno, live.names);
    if (!area.trailer) continue;
    const t = DirTrailer.at(area.block, area.end);
    const what = `directory ${blkno} block ${area.block.blkno}`;
    if (t.compatInode !== 0) c.findings.error('DIR_TRAILER_INODE', `${what}: the trailer has an inode`, area.block.blkno);
    if (t.compatNameLen !== 0) c.findings.error('DIR_TRAILER_NAME_LEN', `${what}: the trailer has a name`, area.block.blkno);
    if (t.compatRecLen !== DIR_TRAILER_SIZE) c.findings.error('DIR_TRAILER_REC_LEN', `${what}: the trailer's rec_len is ${t.compatRecLen}`, area.block.blkno);
    if (t.parentDinode !== blkno) c.findings.error('DIR_TRAILER_PARENT_INODE', `${what}: the trailer says it is of directory ${t.parentDinode}`, area.block.blkno);
    freeRec.set(area.block.blkno, { recorded: t.freeRecLen, next: t.freeNext });
    // Creation may understate the first hole (6.2); more than there is would let an insert run over an entry.
    if (indexed && t.freeRecLen > live.largestHole) c.findings.error('DX_FREE_LIST', `${what}: db_free_rec_len ${t.freeRecLen} exceeds the largest hole ${live.largestHole}`, area.block.blkno);
  }
  if (indexed) await c.guard('DX_TREE_CORRUPT', `directory ${blkno}`, () => checkIndex(c, inode, byBlock, freeRec, names.size));
}

async function* areas(c: Checker, inode: Block): AsyncGenerator<Area> {
  const di = Dinode.at(inode);
  const { geo } = c;
  if (di.dynFeatures & DYN.INLINE_DATA) {
    yield { block: inode, start: INLINE_DATA_START, end: INLINE_DATA_START + di.size, trailer: false };
    return;
  }
  const trailer = geo.metaecc || (di.dynFeatures & DYN.INDEXED_DIR) !== 0;
  let left = di.size / geo.blockSize;
  for await (const rec of c.reader.extents(inode, ID2)) {
    if (rec.flags & EXT.UNWRITTEN) c.findings.error('DIR_ZERO', `directory ${inode.blkno} has an unwritten extent`, inode.blkno);
    const count = Math.min(left, rec.clusters * geo.bpc);
    for (let i = 0; i < count; i++) {
      const block = await c.reader.readRaw(rec.blkno + i);
      const ok = await c.guard(geo.metaecc ? 'BAD_CRC32' : 'DIR_TRAILER_BLKNO', `directory ${inode.blkno}`, async () => {
        validateBlock(block, trailer ? DIR_BLOCK : DIR_BLOCK_PLAIN, geo);
        return true;
      });
      if (ok) yield { block, start: 0, end: geo.blockSize - (trailer ? DIR_TRAILER_SIZE : 0), trailer };
    }
    left -= count;
    if (left <= 0) return;
  }
}

function checkArea(c: Checker, links: LinkCounts, inode: Block, area: Area, first: boolean, names: Map<string, number>, orphanDir: boolean): { names: string[]; largestHole: number } {
  const { block } = area;
  const { dv } = block;
  const dir = inode.blkno;
  const found: string[] = [];
  let largestHole = 0;
  const bad = (code: string, text: string) => c.findings.error(code, `directory ${dir} block ${block.blkno}: ${text}`, block.blkno);
  let index = 0;
  for (let at = area.start; at < area.end; index++) {
    const len = dv.getUint16(at + 8, true), nameLen = dv.getUint8(at + 10), type = dv.getUint8(at + 11);
    const inode64 = dv.getUint32(at + 4, true) * 2 ** 32 + dv.getUint32(at, true);
    if (len < 16 || len % 4 !== 0 || at + len > area.end || (inode64 !== 0 && len < recLen(nameLen)) || (at + len < area.end && at + len > area.end - 16)) {
      bad('DIRENT_LENGTH', `entry at byte ${at - area.start} has rec_len ${len}, name_len ${nameLen}`);
      break;
    }
    const hole = inode64 === 0 ? len : len - recLen(nameLen);
    if (hole >= 16) largestHole = Math.max(largestHole, hole);
    if (inode64 !== 0) {
      const bytes = block.bytes.subarray(at + ENTRY_HEAD, at + ENTRY_HEAD + nameLen);
      const name = Buffer.from(bytes).toString('latin1');
      if (nameLen === 0) bad('DIRENT_ZERO', `entry at byte ${at - area.start} has no name`);
      else if (bytes.includes(0) || (bytes.includes(0x2f))) bad('DIRENT_NAME_CHARS', `entry at byte ${at - area.start} has a NUL or a slash in its name`);
      if (names.has(name)) bad('DIRENT_DUPLICATE', `"${name}" is there twice`);
      names.set(name, inode64);
      found.push(name);
      checkTarget(c, links, dir, name, inode64, type, first && index < 2 ? index : -1, orphanDir, bad);
      if (first && index === 0 && name === '.' && len !== 16) bad('DIRENT_DOT_EXCESS', `"." has rec_len ${len}`);
    } else if (first && index < 2) bad('DIRENT_NOT_DOTTY', `entry ${index} should be "${index === 0 ? '.' : '..'}"`);
    at += len;
  }
  return { names: found, largestHole };
}

function checkTarget(c: Checker, links: LinkCounts, dir: number, name: string, inode: number, type: number, dotIndex: number, orphanDir: boolean, bad: (code: string, text: string) => void): void {
  if (dotIndex >= 0) {
    const want = dotIndex === 0 ? '.' : '..';
    if (name !== want) bad('DIRENT_NOT_DOTTY', `entry ${dotIndex} is "${name}", should be "${want}"`);
    else if (dotIndex === 0 && inode !== dir) bad('DIRENT_DOT_INODE', `"." points to ${inode}`);
  } else if (name === '.' || name === '..') bad('DIRENT_DOTTY_DUP', `"${name}" is there again`);
  if (inode <= 2 || inode >= c.geo.totalBlocks) return bad('DIRENT_INODE_RANGE', `"${name}" points to block ${inode}, outside the volume`);
  const facts = c.inodes.get(inode);
  if (!facts) return bad('DIRENT_INODE_FREE', `"${name}" points to ${inode}, which is no live inode`);
  if (type !== fileTypeOfMode(facts.mode)) bad('DIRENT_TYPE', `"${name}" has type ${type}, its inode ${inode} is of type ${fileTypeOfMode(facts.mode)}`);
  if (name === '..') {
    links.dotdot.set(dir, inode);
    if (!orphanDir || inode !== dir) links.count(inode);
    return;
  }
  if (name === '.') return links.count(inode);
  if (orphanDir) {
    links.orphans.set(inode, dir);
    // A directory in the orphan directory still counts for its own "." only.
    return;
  }
  links.count(inode);
  if (type === FT.DIR || (facts.mode & S_IFMT) === MODE.DIR) {
    const other = links.parents.get(inode);
    if (other !== undefined) bad('DIR_PARENT_DUP', `directory ${inode} ("${name}") is also in directory ${other}`);
    else links.parents.set(inode, dir);
  }
}

async function checkIndex(c: Checker, inode: Block, byBlock: ReadonlyMap<number, string[]>, freeRec: ReadonlyMap<number, { recorded: number; next: number }>, entries: number): Promise<void> {
  const { geo, findings } = c;
  const dir = inode.blkno;
  const root = await c.reader.read(Dinode.at(inode).dxRoot, DX_ROOT);
  const dr = DxRoot.at(root);
  /** Index entries by "major minor block", counted. */
  const index = new Map<string, number>();
  let total = 0;
  const gather = (block: Block, base: number) => {
    const list = new DxEntryList(block, base);
    for (let i = 0; i < list.used; i++) {
      const key = `${list.major(i)} ${list.minor(i)} ${list.direntBlk(i)}`;
      index.set(key, (index.get(key) ?? 0) + 1);
      total++;
    }
  };
  if (dr.flags & DX_INLINE) gather(root, DX_ROOT_LIST);
  else {
    const records = [];
    for await (const rec of c.reader.extents(root, DX_ROOT_LIST)) records.push(rec);
    for (let r = 0; r < records.length; r++) {
      const rec = records[r];
      const end = r + 1 < records.length ? records[r + 1].cpos : 2 ** 32;
      for (let cl = 0; cl < rec.clusters; cl++) {
        for (let b = 0; b < geo.bpc; b++) {
          const leaf = await c.reader.read(rec.blkno + cl * geo.bpc + b, DX_LEAF);
          const list = new DxEntryList(leaf, DX_LEAF_LIST);
          for (let i = 0; i < list.used; i++) {
            const major = list.major(i);
            const own = Math.min(major - rec.cpos, rec.clusters - 1) === cl && major >= rec.cpos && major < end && (list.minor(i) & (geo.bpc - 1)) === b;
            if (!own) findings.error('DX_LOOKUP_FAILED', `directory ${dir}: index entry ${i} of leaf ${leaf.blkno} is in the wrong leaf`, leaf.blkno);
          }
          gather(leaf, DX_LEAF_LIST);
        }
      }
    }
  }
  for (const [blkno, names] of byBlock) {
    for (const name of names) {
      const bytes = Buffer.from(name, 'latin1');
      const found = [false, true].some((unsigned) => {
        const h = dirHash(bytes, geo.dxSeed[0], geo.dxSeed[1], unsigned);
        const key = `${h.major} ${h.minor} ${blkno}`;
        const n = index.get(key) ?? 0;
        if (n > 0) index.set(key, n - 1);
        return n > 0;
      });
      if (!found) findings.error('DX_LOOKUP_FAILED', `directory ${dir}: "${Buffer.from(name, 'latin1').toString('utf8')}" is not in the index`, dir);
    }
  }
  const stray = [...index.values()].reduce((a, b) => a + b, 0);
  if (stray > 0) findings.error('DX_LOOKUP_FAILED', `directory ${dir}: ${stray} index entries point to no name`, dir);
  if (dr.numEntries !== entries) findings.error('DX_ENTRY_COUNT', `directory ${dir}: the index counts ${dr.numEntries} entries, there are ${entries}`, root.blkno);
  if (total !== entries) findings.error('DX_ENTRY_COUNT', `directory ${dir}: the index holds ${total} entries, there are ${entries}`, root.blkno);
  checkFreeList(c, dir, dr.freeBlk, freeRec);
}

function checkFreeList(c: Checker, dir: number, head: number, freeRec: ReadonlyMap<number, { recorded: number; next: number }>): void {
  const listed = new Set<number>();
  for (let at = head; at !== 0; ) {
    const block = freeRec.get(at);
    if (!block || listed.has(at)) return c.findings.error('DX_FREE_LIST', `directory ${dir}: the list of blocks with room ${block ? 'loops at' : 'leads to foreign'} block ${at}`, at);
    listed.add(at);
    at = block.next;
  }
  for (const [blkno, { recorded }] of freeRec) {
    if (recorded > 0 && !listed.has(blkno)) c.findings.error('DX_FREE_LIST', `directory ${dir}: block ${blkno} has room but is not on the list`, blkno);
  }
}
