/** The verifier finds what is broken, under the right name, and nothing else of that kind. */
import { beforeAll, describe, expect, test } from 'vitest';
import type { MemoryDevice } from '@lunfs/device';
import { unpackFixture } from '../../../../test/support/fixtures.js';
import { Cleanup, tempDir } from '../../../../test/support/temp.js';
import { checkVolume } from '../../src/check/index.js';
import {
  type Block, ChainList, Dinode, DirTrailer, DX_LEAF_LIST, DX_ROOT_LIST, DxEntryList, DxRoot, EB_LIST, ExtendedSlot, ExtentBlock, ExtentList, FL, GROUP_BITMAP, GroupDesc, ID2, JOURNAL_DIRTY, JournalId1, MODE,
  REFCOUNT_TREE, RefcountBlock, RefcountRecList, S_IFMT, SuperBlock, bits, stampCheck,
} from '../../src/format/index.js';
import { RawReader, readSystemFiles } from '../../src/inspect/index.js';
import type { SystemFiles } from '../../src/context.js';
import { loadSparse } from '../support/volume.js';

let clean: MemoryDevice;
let reader: RawReader;
let sys: SystemFiles;
/** Inodes of the fixture by what the cases need. */
const find: Record<'deepFile' | 'indexedDir' | 'inlineDir' | 'symlink' | 'shared' | 'linked', number> = { deepFile: 0, indexedDir: 0, inlineDir: 0, symlink: 0, shared: 0, linked: 0 };

beforeAll(async () => {
  const cleanup = new Cleanup();
  try {
    clean = await loadSparse(await unpackFixture('4k4k', tempDir(cleanup)));
  } finally {
    await cleanup.run();
  }
  reader = await RawReader.open(clean);
  sys = await readSystemFiles(reader);
  await walk(reader.geo.rootBlkno);
  for (const [what, blkno] of Object.entries(find)) if (blkno === 0) throw new Error(`the fixture has no ${what}`);
});

async function walk(at: number): Promise<void> {
  const inode = await reader.inode(at);
  const di = Dinode.at(inode);
  const type = di.mode & S_IFMT;
  if (type === MODE.REG && di.clusters > 0 && new ExtentList(inode, ID2).depth > 0) find.deepFile = at;
  if (type === MODE.REG && di.links > 1) find.linked = at;
  if (type === MODE.LNK && di.clusters === 0) find.symlink = at;
  if (di.refcountLoc !== 0) find.shared = at;
  if (type !== MODE.DIR) return;
  if (di.dynFeatures & 8) find.indexedDir = at;
  if (di.dynFeatures & 1 && at !== reader.geo.rootBlkno) find.inlineDir = at;
  for (const { name, inode: child } of await reader.entries(inode)) if (Buffer.from(name).toString() !== '.' && Buffer.from(name).toString() !== '..') await walk(child);
}

/** Change one block of a copy, with a valid checksum, and verify the copy. */
async function codesAfter(blkno: number, checkAt: number, change: (block: Block) => void): Promise<string[]> {
  const device = clean.clone();
  const block = await new RawReader(device, reader.geo).readRaw(blkno);
  change(block);
  if (checkAt >= 0) stampCheck(block.bytes, checkAt);
  device.writeSync(blkno * reader.geo.blockSize, block.bytes);
  return [...new Set((await checkVolume(device)).findings.map((f) => f.code))];
}
const inode = (blkno: number, change: (block: Block) => void) => codesAfter(blkno, 0x80, change);
const di = (blkno: number, change: (d: ReturnType<typeof Dinode.at>) => void) => inode(blkno, (b) => change(Dinode.at(b)));
const firstGroup = async (allocator: number) => new ChainList(await reader.inode(allocator)).blkno(0);
const slotBlock = async () => new ExtentList(await reader.inode(sys.slotMap), ID2).blkno(0);
const firstLeaf = async () => new ExtentList(await reader.inode(find.deepFile), ID2).blkno(0);
const firstData = async () => {
  for await (const e of reader.extents(await reader.inode(find.deepFile), ID2)) return e.blkno;
  throw new Error('no extent');
};
const dirBlock = async () => {
  for await (const e of reader.extents(await reader.inode(find.indexedDir), ID2)) return e.blkno;
  throw new Error('no directory block');
};

const dxLeaf = async () => {
  const root = await reader.readRaw(Dinode.at(await reader.inode(find.indexedDir)).dxRoot);
  for await (const e of reader.extents(root, DX_ROOT_LIST)) {
    for (let b = 0; b < e.clusters * reader.geo.bpc; b++) if (new DxEntryList(await reader.readRaw(e.blkno + b), DX_LEAF_LIST).used > 1) return e.blkno + b;
  }
  throw new Error('no index leaf with two entries');
};

const CASES: Record<string, readonly [string, () => Promise<string[]>]> = {
  'allocator: chain sum': ['CHAIN_BITS', async () => inode(sys.inodeAlloc[0], (b) => new ChainList(b).setFree(0, 1))],
  'allocator: totals': ['CHAIN_GROUP_BITS', async () => inode(sys.globalBitmap, (b) => b.dv.setUint32(0xb8, 7, true))],
  'allocator: size': ['CHAIN_I_SIZE', async () => di(sys.inodeAlloc[0], (d) => { d.size += 4096; })],
  'allocator: clusters': ['CHAIN_I_CLUSTERS', async () => di(sys.extentAlloc[0], (d) => { d.clusters += 1; })],
  'allocator: head outside': ['CHAIN_HEAD_LINK_RANGE', async () => inode(sys.extentAlloc[0], (b) => new ChainList(b).setBlkno(0, 2 ** 40))],
  'allocator: head is no group': ['CHAIN_LINK_MAGIC', async () => inode(sys.extentAlloc[0], (b) => new ChainList(b).setBlkno(0, reader.geo.rootBlkno))],
  'allocator: empty chain': ['CHAIN_EMPTY', async () => inode(sys.extentAlloc[0], (b) => new ChainList(b).setBlkno(0, 0))],
  'group: loop': ['GROUP_CHAIN_LOOP', async () => { const g = await firstGroup(sys.inodeAlloc[0]); return codesAfter(g, 0x30, (b) => { GroupDesc.at(b).nextGroup = g; }); }],
  'group: parent': ['GROUP_PARENT', async () => codesAfter(await firstGroup(sys.inodeAlloc[0]), 0x30, (b) => { GroupDesc.at(b).parentDinode = 99; })],
  'group: chain': ['GROUP_CHAIN', async () => codesAfter(await firstGroup(sys.inodeAlloc[0]), 0x30, (b) => { GroupDesc.at(b).chain = 5; })],
  'group: free count': ['GROUP_FREE_BITS', async () => codesAfter(await firstGroup(sys.inodeAlloc[0]), 0x30, (b) => { GroupDesc.at(b).freeBits -= 1; })],
  'group: checksum': ['CHAIN_LINK_MAGIC', async () => codesAfter(await firstGroup(sys.inodeAlloc[0]), -1, (b) => { b.bytes[0x20] ^= 3; b.bytes[0x400] ^= 8; })],
  'bitmap: used cluster marked free': ['CLUSTER_ALLOC_BIT', async () => {
    const at = await firstData();
    return codesAfter(await firstGroup(sys.globalBitmap), 0x30, (b) => bits.clear(b.bytes, GROUP_BITMAP, at % reader.geo.clustersPerGroup));
  }],
  'inode: live but free in its allocator': ['INODE_ALLOC_REPAIR', async () => {
    const b = await reader.inode(find.linked);
    return codesAfter(find.linked - Dinode.at(b).suballocBit, 0x30, (g) => bits.clear(g.bytes, GROUP_BITMAP, Dinode.at(b).suballocBit));
  }],
  'inode: freed but in use in its allocator': ['INODE_ALLOC_REPAIR', async () => di(find.linked, (d) => { d.flags &= ~FL.VALID; })],
  'inode: suballoc slot': ['INODE_SUBALLOC', async () => di(find.linked, (d) => { d.suballocSlot = 1; })],
  'inode: dtime': ['INODE_NZ_DTIME', async () => di(find.linked, (d) => { d.dtime = 5; })],
  'inode: link count': ['INODE_COUNT', async () => di(find.linked, (d) => { d.links += 1; })],
  'inode: clusters': ['INODE_SPARSE_CLUSTERS', async () => di(find.deepFile, (d) => { d.clusters -= 1; })],
  'inode: directory link count': ['INODE_COUNT', async () => di(find.inlineDir, (d) => { d.links += 1; })],
  'symlink: length': ['LINK_NULLTERM', async () => di(find.symlink, (d) => { d.size -= 1; })],
  'extents: overlap': ['EXTENT_OVERLAP', async () => codesAfter(await firstLeaf(), 8, (b) => { const l = new ExtentList(b, EB_LIST); l.setCpos(2, l.cpos(1)); })],
  'extents: outside': ['EXTENT_BLKNO_RANGE', async () => codesAfter(await firstLeaf(), 8, (b) => new ExtentList(b, EB_LIST).setBlkno(2, 2 ** 41))],
  'extents: shared without a tree': ['EXTENT_MARKED_REFCOUNTED', async () => codesAfter(await firstLeaf(), 8, (b) => new ExtentList(b, EB_LIST).setFlags(2, 2))],
  'extents: leaf chain': ['EXTENT_LAST_EB', async () => codesAfter(await firstLeaf(), 8, (b) => { ExtentBlock.at(b).nextLeafBlk = 77; })],
  'extents: last leaf': ['EXTENT_LAST_EB', async () => di(find.deepFile, (d) => { d.lastEbBlk = 9; })],
  'extents: cluster used twice': ['DUP_CLUSTERS_CLONE', async () => codesAfter(await firstLeaf(), 8, (b) => { const l = new ExtentList(b, EB_LIST); l.setBlkno(2, l.blkno(1)); })],
  'extents: interior ranges': ['EXTENT_RANGES', async () => inode(find.deepFile, (b) => { const l = new ExtentList(b, ID2); l.setClusters(0, 1); })],
  'extents: wrong extent block': ['EXTENT_EB_INVALID', async () => inode(find.deepFile, (b) => { const l = new ExtentList(b, ID2); l.setBlkno(0, reader.geo.rootBlkno); })],
  'extents: block free in its allocator': ['EXTENT_ALLOC_FREE', async () => {
    const eb = await firstLeaf(), view = ExtentBlock.at(await reader.readRaw(eb));
    return codesAfter(view.suballocLoc || eb - view.suballocBit, 0x30, (b) => bits.clear(b.bytes, GROUP_BITMAP, view.suballocBit));
  }],
  'directory: rec_len': ['DIRENT_LENGTH', async () => inode(find.inlineDir, (b) => b.dv.setUint16(0xc8 + 16 + 8, 3, true))],
  'directory: dot': ['DIRENT_DOT_INODE', async () => inode(find.inlineDir, (b) => b.dv.setUint32(0xc8, 99, true))],
  'directory: dotdot': ['DIR_DOTDOT', async () => inode(find.inlineDir, (b) => b.dv.setUint32(0xc8 + 16, sys.orphanDir[0], true))],
  'directory: entry of a free inode': ['DIRENT_INODE_FREE', async () => codesAfter(await dirBlock(), 4096 - 64 + 0x38, (b) => b.dv.setUint32(16 + b.dv.getUint16(16 + 8, true), 60000, true))],
  'directory: trailer': ['DIR_TRAILER_PARENT_INODE', async () => codesAfter(await dirBlock(), 4096 - 64 + 0x38, (b) => { DirTrailer.at(b, 4096 - 64).parentDinode = 1; })],
  'directory: free list': ['DX_FREE_LIST', async () => codesAfter(Dinode.at(await reader.inode(find.indexedDir)).dxRoot, 8, (b) => { DxRoot.at(b).freeBlk = 0; })],
  'index: entry missing': ['DX_LOOKUP_FAILED', async () => codesAfter(await dxLeaf(), 8, (b) => new DxEntryList(b, DX_LEAF_LIST).remove(1))],
  'index: count': ['DX_ENTRY_COUNT', async () => codesAfter(Dinode.at(await reader.inode(find.indexedDir)).dxRoot, 8, (b) => { DxRoot.at(b).numEntries += 1; })],
  'refcount: count': ['REFCOUNT_COUNT_INVALID', async () => {
    const root = Dinode.at(await reader.inode(find.shared)).refcountLoc;
    const at = RefcountBlock.at(await reader.readRaw(root)).flags & REFCOUNT_TREE ? new ExtentList(await reader.readRaw(root), 0x80).blkno(0) : root;
    return codesAfter(at, 0x20, (b) => b.dv.setUint32(new RefcountRecList(b).at(0) + 12, 9, true));
  }],
  'refcount: inodes': ['REFCOUNT_COUNT', async () => codesAfter(Dinode.at(await reader.inode(find.shared)).refcountLoc, 0x20, (b) => { RefcountBlock.at(b).count += 1; })],
  'refcount: a root below something': ['RB_PARENT', async () => codesAfter(Dinode.at(await reader.inode(find.shared)).refcountLoc, 0x20, (b) => { RefcountBlock.at(b).parent = 77; })],
  'refcount: flags': ['REFCOUNT_BLOCK_INVALID', async () => codesAfter(Dinode.at(await reader.inode(find.shared)).refcountLoc, 0x20, (b) => { RefcountBlock.at(b).flags |= 0x100; })],
  'slot map: taken': ['SLOT_IN_USE', async () => codesAfter(await slotBlock(), -1, (b) => Object.assign(ExtendedSlot.at(b), { valid: 1, nodeNum: 3 }))],
  'slot map: no node': ['SLOT_MAP_INVALID', async () => codesAfter(await slotBlock(), -1, (b) => Object.assign(ExtendedSlot.at(b, 8), { valid: 1, nodeNum: 255 }))],
  'local alloc: says it is a directory': ['DIRENT_TYPE', async () => di(sys.localAlloc[0], (d) => { d.mode = MODE.DIR | 0o755; })],
  'journal: dirty': ['JOURNAL_DIRTY', async () => inode(sys.journal[1], (b) => { JournalId1.at(b).flags |= JOURNAL_DIRTY; })],
  'local alloc: window without use': ['LALLOC_NZ_USED', async () => inode(sys.localAlloc[0], (b) => b.dv.setUint32(0xb8, 4, true))],
  'truncate log: range': ['TRUNCATE_REC_START_RANGE', async () => inode(sys.truncateLog[0], (b) => { b.dv.setUint16(0xc2, 1, true); b.dv.setUint32(0xc8, 2 ** 31, true); b.dv.setUint32(0xcc, 1, true); })],
  'superblock: clusters': ['SUPERBLOCK_CLUSTERS', async () => codesAfter(2, 0x80, (b) => { Dinode.at(b).clusters -= 1; })],
  'superblock: tunefs interrupted': ['FEATURE_INPROG', async () => codesAfter(2, 0x80, (b) => { SuperBlock.at(b).featureIncompat |= 0x20; })],
};

describe('the verifier names', () => {
  test.each(Object.entries(CASES))('%s', async (_what, [code, run]) => {
    expect(await run()).toContain(code);
  });
});
