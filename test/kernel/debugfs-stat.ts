/**
 * `debugfs.ocfs2 stat` of every dinode against what our own reader makes of the same bytes: we print what debugfs prints
 * (extent trees, chains and groups included) and compare line by line.
 *
 * Left out: names of users, times as text (their numbers are compared), mode bits above 0777 (debugfs prints none), and what debugfs cannot print of a name or target that is not plain text.
 */
import { MODE, S_IFMT } from '@lunfs/ocfs2';
import {
  type Block, BitmapId1, ChainList, DISCONTIG_BITMAP_SIZE, DYN, Dinode, EB_LIST, EXTENT_BLOCK, ExtentBlock, ExtentList, FL, GROUP_BITMAP, GROUP_DESC, GROUP_LIST, GroupDesc, ID2, InlineData,
  JOURNAL_DIRTY, JournalId1, LocalAlloc, RawReader, SUPER_BLOCK_BLKNO, TRUNCATE_RECS, TruncateLog, bits,
} from '@lunfs/ocfs2';
import type { BlockDevice } from '@lunfs/device';
import fs from 'node:fs';
import path from 'node:path';
import { eachOf } from '../support/parallel.js';
import { type Cleanup, exec, tempDir } from '../support/temp.js';

const TYPES: Record<number, string> = {
  [MODE.REG]: 'Regular', [MODE.DIR]: 'Directory', [MODE.CHR]: 'Char Device', [MODE.BLK]: 'Block Device', [MODE.FIFO]: 'FIFO', [MODE.LNK]: 'Symbolic Link', [MODE.SOCK]: 'Socket',
};
/** In the order in which debugfs prints them; it has no word for QUOTA. */
const FLAGS: [number, string][] = [
  [FL.VALID, 'Valid'], [FL.ORPHANED, 'Orphan'], [FL.SYSTEM, 'System'], [FL.SUPER_BLOCK, 'Superblock'], [FL.LOCAL_ALLOC, 'Localalloc'], [FL.BITMAP, 'Allocbitmap'],
  [FL.JOURNAL, 'Journal'], [FL.HEARTBEAT, 'Heartbeat'], [FL.CHAIN, 'Chain'], [FL.DEALLOC, 'Dealloc'],
];
const DYN_FEATURES: [number, string][] = [
  [DYN.INLINE_DATA, 'InlineData'], [DYN.HAS_XATTR, 'HasXattr'], [DYN.INLINE_XATTR, 'InlineXattr'], [DYN.INDEXED_DIR, 'IndexedDir'], [DYN.HAS_REFCOUNT, 'Refcounted'],
];

const names = (value: number, table: [number, string][]) => table.filter(([bit]) => value & bit).map(([, name]) => name).join(' ');

/** Inodes in one run of debugfs.ocfs2: what it prints of them fits a string. */
const PER_RUN = 5000;

/** Compares all dinodes; resolves to their number. Throws with the first differences. */
export async function compareWithDebugfs(cleanup: Cleanup, device: BlockDevice, image: string): Promise<number> {
  const reader = await RawReader.open(device);
  const inodes = await allInodes(reader);
  const commands = path.join(tempDir(cleanup, 'debugfs'), 'commands');
  const differences: string[] = [];
  for (let from = 0; from < inodes.length; from += PER_RUN) differences.push(...(await compareSome(reader, inodes.slice(from, from + PER_RUN), commands, image)));
  if (differences.length > 0) throw new Error(`${image}: debugfs.ocfs2 disagrees on ${differences.length} of ${inodes.length} inodes\n${differences.slice(0, 10).join('\n')}`);
  return inodes.length;
}

async function compareSome(reader: RawReader, inodes: readonly number[], commands: string, image: string): Promise<string[]> {
  fs.writeFileSync(commands, inodes.map((blkno) => `stat <${blkno}>\n`).join(''));
  const { stdout, stderr } = await exec('bash', ['--norc', '-c', 'debugfs.ocfs2 -n -f "$1" "$2"', 'debugfs', commands, image]);
  if (stderr.replace(/^debugfs\.ocfs2 [\d.]+\s*/m, '').trim() !== '') throw new Error(`debugfs.ocfs2: ${stderr.slice(0, 2000)}`);
  const theirs = stdout.split(/^(?=\tInode: )/m);
  if (theirs.length !== inodes.length) throw new Error(`debugfs.ocfs2 printed ${theirs.length} inodes of ${inodes.length}`);
  const differences: string[] = [];
  const printedByUs = await eachOf(inodes, (blkno) => printed(reader, blkno));
  for (const [i, blkno] of inodes.entries()) {
    const ours = printedByUs[i];
    const found = theirs[i].split('\n').map(normalized).filter(Boolean);
    const line = Array.from({ length: Math.max(ours.length, found.length) }, (_, n) => n).find((n) => ours[n] !== found[n]);
    if (line !== undefined) differences.push(`inode ${blkno} (${found[3]}), line ${line}\n  debugfs ${found[line]}\n  lunfs   ${ours[line]}`);
  }
  return differences;
}

function normalized(line: string): string {
  return line.replace(/ -- .*$/, '').replace(/ \([^)]*\)(?= {3}(Group|Size): )/g, '').replace(/^(\s*Fast Symlink Destination:).*/, '$1').replace(/\s+/g, ' ').trim();
}

/** Every inode that has a name, system files included, each once. */
async function allInodes(reader: RawReader): Promise<number[]> {
  const seen = new Set<number>([reader.geo.rootBlkno, reader.geo.systemDirBlkno]);
  const directories = [...seen];
  for (let dir = directories.pop(); dir !== undefined; dir = directories.pop()) {
    const found = (await reader.entries(await reader.inode(dir))).map(({ inode }) => inode).filter((inode) => !seen.has(inode));
    const isDirectory = await eachOf(found, async (inode) => (Dinode.at(await reader.inode(inode)).mode & S_IFMT) === MODE.DIR);
    for (const [i, inode] of found.entries()) {
      if (isDirectory[i] && !seen.has(inode)) directories.push(inode);
      seen.add(inode);
    }
  }
  seen.delete(SUPER_BLOCK_BLKNO);
  return [...seen].sort((a, b) => a - b);
}

async function printed(reader: RawReader, blkno: number): Promise<string[]> {
  const block = await reader.inode(blkno);
  const di = Dinode.at(block);
  const hex = (v: number | bigint) => `0x${v.toString(16)}`;
  const time = (sec: number, nsec: number) => `${hex(sec < 0 ? 2n ** 64n + BigInt(sec) : sec)} ${hex(nsec)}`;
  const { check } = di;
  const view = new DataView(check.buffer, check.byteOffset);
  const lines = [
    `Inode: ${blkno} Mode: 0${(di.mode & 0o777).toString(8)} Generation: ${di.generation} (${hex(di.generation)})`,
    `FS Generation: ${di.fsGeneration} (${hex(di.fsGeneration)})`,
    checkLine(view),
    `Type: ${TYPES[di.mode & S_IFMT]} Attr: ${hex(di.attr)} Flags: ${names(di.flags, FLAGS)}`,
    `Dynamic Features: (${hex(di.dynFeatures)}) ${names(di.dynFeatures, DYN_FEATURES)}`,
  ];
  if (di.dynFeatures & DYN.HAS_XATTR) lines.push(`Extended Attributes Block: ${di.xattrLoc} Extended Attributes Inline Size: ${di.xattrInlineSize}`);
  lines.push(
    `User: ${di.uid | 0} Group: ${di.gid | 0} Size: ${di.size}`,
    `Links: ${di.links + di.linksHi * 0x10000} Clusters: ${di.clusters}`,
    `ctime: ${time(di.ctime, di.ctimeNsec)}`, `atime: ${time(di.atime, di.atimeNsec)}`, `mtime: ${time(di.mtime, di.mtimeNsec)}`, `dtime: ${hex(di.dtime)}`,
    `Refcount Block: ${di.refcountLoc}`,
    `Last Extblk: ${di.lastEbBlk} Orphan Slot: ${di.orphanedSlot}`,
    `Sub Alloc Slot: ${di.suballocSlot === 0xffff ? 'Global' : di.suballocSlot} Sub Alloc Bit: ${di.suballocBit}${di.suballocLoc === 0 ? '' : ` Sub Alloc Group ${di.suballocLoc}`}`,
  );
  lines.push(...(await body(reader, block)));
  return lines.map((line) => line.trim());
}

function checkLine(view: DataView): string {
  return `CRC32: ${view.getUint32(0, true).toString(16).padStart(8, '0')} ECC: ${view.getUint16(4, true).toString(16).padStart(4, '0')}`;
}

async function body(reader: RawReader, block: Block): Promise<string[]> {
  const di = Dinode.at(block);
  const lines: string[] = [];
  const bitmap = BitmapId1.at(block);
  if (di.flags & FL.BITMAP) lines.push(`Bitmap Total: ${bitmap.total} Used: ${bitmap.used} Free: ${bitmap.total - bitmap.used}`);
  if (di.flags & FL.JOURNAL) {
    const journal = JournalId1.at(block);
    lines.push(`Journal Flags: ${journal.flags & JOURNAL_DIRTY ? 'Dirty' : ''}`, `Recovery Generation: ${journal.recoveryGeneration}`);
  }
  if (di.flags & FL.LOCAL_ALLOC) {
    const la = LocalAlloc.at(block);
    return [...lines, `Local Bitmap Offset: ${la.bmOff} Size: ${la.size}`];
  }
  if (di.flags & FL.DEALLOC) {
    const tl = TruncateLog.at(block);
    lines.push(`Total Records: ${tl.count} Used: ${tl.used}`, '## Start Cluster Num Clusters');
    for (let i = 0; i < tl.used; i++) lines.push(`${i} ${block.dv.getUint32(TRUNCATE_RECS + i * 8, true)} ${block.dv.getUint32(TRUNCATE_RECS + i * 8 + 4, true)}`);
    return lines;
  }
  if (di.flags & FL.CHAIN) return [...lines, ...(await chains(reader, block))];
  if (di.dynFeatures & DYN.INDEXED_DIR) lines.push(`Indexed Tree Root: ${di.dxRoot}`);
  if (di.dynFeatures & DYN.INLINE_DATA) return [...lines, `Inline Data Max: ${InlineData.at(block).idCount}`];
  if ((di.mode & S_IFMT) === MODE.LNK && di.clusters === 0) return [...lines, 'Fast Symlink Destination:'];
  return [...lines, ...(await extents(reader, block, ID2))];
}

async function extents(reader: RawReader, block: Block, base: number): Promise<string[]> {
  const list = new ExtentList(block, base);
  const lines = [`Tree Depth: ${list.depth} Count: ${list.count} Next Free Rec: ${list.nextFree}`];
  if (list.nextFree === 0) return lines;
  lines.push(list.depth > 0 ? '## Offset Clusters Block#' : '## Offset Clusters Block# Flags');
  for (let i = 0; i < list.nextFree; i++) {
    const at = `${i} ${list.cpos(i)} ${list.clusters(i)} ${list.blkno(i)}`;
    const flags = list.depth > 0 ? 0 : list.flags(i);
    lines.push(list.depth > 0 ? at : `${at} 0x${flags.toString(16)} ${[...(flags & 1 ? ['Unwritten'] : []), ...(flags & 2 ? ['Refcounted'] : [])].join(' ')}`.trim());
  }
  for (let i = 0; list.depth > 0 && i < list.nextFree; i++) {
    const child = await reader.read(list.blkno(i), EXTENT_BLOCK);
    const eb = ExtentBlock.at(child);
    const group = eb.suballocLoc === 0 ? '' : ` SubAlloc Group: ${eb.suballocLoc}`;
    lines.push(`SubAlloc Bit: ${eb.suballocBit} SubAlloc Slot: ${eb.suballocSlot}${group}`, `Blknum: ${eb.blkno} Next Leaf: ${eb.nextLeafBlk}`, checkLine(new DataView(eb.check.buffer, eb.check.byteOffset)));
    lines.push(...(await extents(reader, child, EB_LIST)));
  }
  return lines;
}

async function chains(reader: RawReader, block: Block): Promise<string[]> {
  const list = new ChainList(block);
  const lines = [`Clusters per Group: ${list.cpg} Bits per Cluster: ${list.bpc}`, `Count: ${list.count} Next Free Rec: ${list.nextFree}`];
  if (list.nextFree > 0) lines.push('## Total Used Free Block#');
  for (let i = 0; i < list.nextFree; i++) lines.push(`${i} ${list.total(i)} ${list.total(i) - list.free(i)} ${list.free(i)} ${list.blkno(i)}`);
  for (let i = 0; i < list.nextFree; i++) {
    for (let blkno = list.blkno(i), n = 0; blkno !== 0; n++) {
      const group = await reader.read(blkno, GROUP_DESC);
      const gd = GroupDesc.at(group);
      if (n === 0) lines.push(`Group Chain: ${gd.chain} Parent Inode: ${gd.parentDinode} Generation: ${gd.generation}`, checkLine(new DataView(gd.check.buffer, gd.check.byteOffset)), '## Block# Total Used Free Contig Size');
      lines.push(`${n} ${blkno} ${gd.bits} ${gd.bits - gd.freeBits} ${gd.freeBits} ${longestFree(group.bytes, gd.bits)} ${gd.size}`);
      if (gd.size === DISCONTIG_BITMAP_SIZE && new ExtentList(group, GROUP_LIST).nextFree > 0) lines.push(...(await extents(reader, group, GROUP_LIST)));
      blkno = gd.nextGroup;
    }
  }
  return lines;
}

/** Longest run of zero bits. */
function longestFree(bytes: Uint8Array, end: number): number {
  let longest = 0;
  for (let bit = bits.next(bytes, GROUP_BITMAP, 0, end, false); bit < end; ) {
    const stop = bits.next(bytes, GROUP_BITMAP, bit, end, true);
    longest = Math.max(longest, stop - bit);
    bit = bits.next(bytes, GROUP_BITMAP, stop, end, false);
  }
  return longest;
}
