/** Structures of the format as plain objects: the fixed part by its table, then the lists and unions that follow it. */
import {
  BitmapId1, type Block, ChainList, DIR_TRAILER_SIZE, DX_INLINE, DX_LEAF_LIST, DX_ROOT_LIST, DYN, Dinode, DirTrailer, DxEntryList, DxLeaf, DxRoot, EB_LIST, EXT, ExtentBlock,
  ExtentList, FL, GROUP_BITMAP, type Geometry, GroupDesc, ID2, INLINE_DATA_START, JBD2_BLOCK, JBD2_MAGIC, Jbd2Header, Jbd2Super, JournalId1, LOCAL_ALLOC_BITMAP, LocalAlloc, MODE,
  REFCOUNT_LIST, REFCOUNT_TREE, RefcountBlock, RefcountRecList, SIG, S_IFMT, SuperBlock, TRUNCATE_RECS, TruncateLog, XATTR_INDEXED, XATTR_TREE_LIST, XattrBlock, XattrTreeRoot, bits,
} from '@lunfs/ocfs2';
import { names } from '../inode-facts.js';

export type Dumped = Record<string, unknown>;

interface Struct {
  readonly fields: Readonly<Record<string, { readonly off: number }>>;
  at(block: Block, base?: number): object;
}

/** The fields of a structure by the names of its table, in the order of their offsets. */
export function structure(def: Struct, block: Block, base = 0): Dumped {
  const view = def.at(block, base) as Readonly<Record<string, unknown>>;
  return Object.fromEntries(Object.keys(def.fields).sort((a, b) => def.fields[a].off - def.fields[b].off).map((name) => [name, shown(name, view[name])]));
}

/** Labels are text; all other bytes are shown in hex. */
function shown(name: string, value: unknown): unknown {
  if (!(value instanceof Uint8Array)) return value;
  const buffer = Buffer.from(value);
  if (name !== 'label') return buffer.toString('hex');
  const end = buffer.indexOf(0);
  return buffer.toString('utf8', 0, end < 0 ? buffer.length : end);
}

export function extentList(block: Block, base: number): Dumped {
  const list = new ExtentList(block, base);
  const leaf = list.depth === 0;
  const used = Math.min(list.nextFree, Math.floor((block.bytes.length - base - 16) / 16));
  return {
    depth: list.depth, count: list.count, nextFree: list.nextFree,
    records: Array.from({ length: used }, (_, i) => ({ cpos: list.cpos(i), clusters: list.clusters(i), blkno: list.blkno(i), ...(leaf ? { flags: names(list.flags(i), EXT).join(' ') } : {}) })),
  };
}

function chainList(block: Block): Dumped {
  const list = new ChainList(block);
  const used = Math.min(list.nextFree, Math.floor((block.bytes.length - ID2 - 16) / 16));
  return {
    clustersPerGroup: list.cpg, bitsPerCluster: list.bpc, count: list.count, nextFree: list.nextFree,
    chains: Array.from({ length: used }, (_, i) => ({ free: list.free(i), total: list.total(i), blkno: list.blkno(i) })),
  };
}

function indexEntries(block: Block, base: number): Dumped {
  const list = new DxEntryList(block, base);
  const used = Math.min(list.used, Math.floor((block.bytes.length - base - 8) / 16));
  const hex = (n: number) => `0x${n.toString(16).padStart(8, '0')}`;
  return { count: list.count, used: list.used, entries: Array.from({ length: used }, (_, i) => ({ major: hex(list.major(i)), minor: hex(list.minor(i)), direntBlock: list.direntBlk(i) })) };
}

/** Runs of zero bits in a bitmap of `total` bits. */
function freeRuns(bytes: Uint8Array, base: number, total: number): string {
  const runs: string[] = [];
  for (let at = bits.next(bytes, base, 0, total, false); at < total; ) {
    const end = bits.next(bytes, base, at, total, true);
    runs.push(end - at === 1 ? String(at) : `${at}-${end - 1}`);
    at = bits.next(bytes, base, end, total, false);
  }
  return runs.join(' ');
}

export function dinode(block: Block): Dumped {
  const di = Dinode.at(block);
  const { flags, dynFeatures, mode } = di;
  const room = block.bytes.length;
  const head = { ...structure(Dinode, block), mode: `0${mode.toString(8)}`, flagNames: names(flags, FL).join(' '), dynFeatureNames: names(dynFeatures, DYN).join(' ') };
  if (flags & FL.SUPER_BLOCK) return { ...head, superBlock: structure(SuperBlock, block) };
  if (flags & FL.LOCAL_ALLOC) {
    const total = Math.min(BitmapId1.at(block).total, (room - LOCAL_ALLOC_BITMAP) * 8);
    return { ...head, ...structure(BitmapId1, block), localAlloc: structure(LocalAlloc, block), freeBits: freeRuns(block.bytes, LOCAL_ALLOC_BITMAP, total) };
  }
  if (flags & FL.CHAIN) return { ...head, ...structure(BitmapId1, block), chainList: chainList(block) };
  if (flags & FL.DEALLOC) return { ...head, truncateLog: structure(TruncateLog, block), records: truncateRecords(block) };
  if (dynFeatures & DYN.INLINE_DATA) {
    const directory = (mode & S_IFMT) === MODE.DIR;
    return { ...head, inlineCapacity: block.dv.getUint16(ID2, true), inlineData: directory ? undefined : block.bytes.subarray(INLINE_DATA_START, Math.min(room, INLINE_DATA_START + di.size)) };
  }
  if ((mode & S_IFMT) === MODE.LNK && di.clusters === 0) return { ...head, target: Buffer.from(block.bytes.subarray(ID2, Math.min(room, ID2 + di.size))).toString() };
  return { ...head, ...(flags & FL.JOURNAL ? { journal: structure(JournalId1, block) } : {}), extentList: extentList(block, ID2) };
}

function truncateRecords(block: Block): Dumped[] {
  const used = Math.min(TruncateLog.at(block).used, Math.floor((block.bytes.length - TRUNCATE_RECS) / 8));
  return Array.from({ length: used }, (_, i) => ({ start: block.dv.getUint32(TRUNCATE_RECS + i * 8, true), clusters: block.dv.getUint32(TRUNCATE_RECS + i * 8 + 4, true) }));
}

function group(block: Block): Dumped {
  const total = Math.min(GroupDesc.at(block).bits, (block.bytes.length - GROUP_BITMAP) * 8);
  return { ...structure(GroupDesc, block), free: freeRuns(block.bytes, GROUP_BITMAP, total) };
}

function dxRoot(block: Block): Dumped {
  const inline = (DxRoot.at(block).flags & DX_INLINE) !== 0;
  return { ...structure(DxRoot, block), ...(inline ? { entryList: indexEntries(block, DX_ROOT_LIST) } : { extentList: extentList(block, DX_ROOT_LIST) }) };
}

function xattrBlock(block: Block): Dumped {
  const indexed = (XattrBlock.at(block).flags & XATTR_INDEXED) !== 0;
  return { ...structure(XattrBlock, block), ...(indexed ? { ...structure(XattrTreeRoot, block), extentList: extentList(block, XATTR_TREE_LIST) } : {}) };
}

function refcountBlock(block: Block): Dumped {
  const head = structure(RefcountBlock, block);
  if (RefcountBlock.at(block).flags & REFCOUNT_TREE) return { ...head, extentList: extentList(block, REFCOUNT_LIST) };
  const list = new RefcountRecList(block);
  const used = Math.min(list.used, Math.floor((block.bytes.length - REFCOUNT_LIST - 16) / 16));
  return { ...head, records: Array.from({ length: used }, (_, i) => ({ cpos: list.cpos(i), clusters: list.clusters(i), refcount: list.refcount(i) })) };
}

const BY_SIGNATURE: readonly (readonly [signature: string, kind: string, dump: (block: Block) => Dumped])[] = [
  [SIG.superBlock, 'superblock', dinode], [SIG.dinode, 'inode', dinode],
  [SIG.extentBlock, 'extent block', (block) => ({ ...structure(ExtentBlock, block), extentList: extentList(block, EB_LIST) })],
  [SIG.group, 'group descriptor', group], [SIG.dxRoot, 'directory index root', dxRoot],
  [SIG.dxLeaf, 'directory index leaf', (block) => ({ ...structure(DxLeaf, block), entryList: indexEntries(block, DX_LEAF_LIST) })],
  [SIG.xattr, 'xattr block', xattrBlock], [SIG.refcount, 'refcount block', refcountBlock],
];

/** A block by its signature: what it is and what is in it. Nothing else of it is believed. */
export function anyBlock(geo: Geometry, block: Block): { kind: string; content: Dumped } {
  const text = Buffer.from(block.bytes.subarray(0, 8)).toString('latin1');
  const known = BY_SIGNATURE.find(([signature]) => text === signature.padEnd(8, '\0'));
  if (known !== undefined) return { kind: known[1], content: known[2](block) };
  const trailerAt = geo.blockSize - DIR_TRAILER_SIZE;
  if (DirTrailer.at(block, trailerAt).signature === SIG.dirTrailer) return { kind: 'directory block', content: { trailer: structure(DirTrailer, block, trailerAt), bytes: block.bytes } };
  if (Jbd2Header.at(block).magic === JBD2_MAGIC) return { kind: 'journal block', content: journalBlock(block) };
  return { kind: block.bytes.every((byte) => byte === 0) ? 'zeros' : 'data', content: { bytes: block.bytes } };
}

export function journalBlock(block: Block): Dumped {
  const type = Object.entries(JBD2_BLOCK).find(([, value]) => value === Jbd2Header.at(block).blocktype)?.[0];
  const superBlock = (type === 'superV1' || type === 'superV2') && block.bytes.length >= Jbd2Super.size;
  return { ...structure(Jbd2Header, block), type: type ?? 'unknown', ...(superBlock ? structure(Jbd2Super, block) : {}) };
}
