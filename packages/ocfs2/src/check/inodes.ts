/** Pass 1: every inode of every inode allocator: its fields, trees, attributes; claims what they refer to. */
import { Block } from '../format/block.js';
import { DX_LINK_MAX, DYN, EXT, FL, MODE, S_IFMT } from '../format/constants.js';
import { blockToCluster } from '../format/geometry.js';
import { DINODE, DINODE_ANY, DX_LEAF, DX_ROOT, XATTR_BLOCK, validateBlock } from '../format/kinds.js';
import { ExtentList, bits } from '../format/lists.js';
import {
  BitmapId1, Dinode, DX_INLINE, DX_ROOT_LIST, DxRoot, ID2, LOCAL_ALLOC_BITMAP, LocalAlloc, TRUNCATE_RECS, TruncateLog, XATTR_INDEXED, XATTR_TREE_LIST,
  XattrBlock, XattrTreeRoot, XattrValueRoot,
} from '../format/structs.js';
import { xattrHash } from '../format/dirhash.js';
import { storageEntries, xattrStorages } from '../inspect/xattrs.js';
import { type Group, groupBit, groupBitSet, groupBlock } from './allocators.js';
import type { Checker } from './checker.js';
import { checkTree } from './trees.js';

/** Check all inodes of one allocator; `slot` INVALID_SLOT for the global one. */
export async function checkInodes(c: Checker, groups: readonly Group[], slot: number, onInode: () => void): Promise<void> {
  for (const group of groups) {
    for (const piece of group.pieces) {
      const raw = await c.reader.readRaw(piece.blkno, piece.bits);
      for (let i = 0; i < piece.bits; i++) {
        const bit = piece.bit + i;
        if (bit === 0) continue;
        const blkno = piece.blkno + i;
        const { blockSize } = c.geo;
        const bytes = raw.bytes.slice(i * blockSize, (i + 1) * blockSize);
        await checkSlot(c, new Block(raw.device, blkno, bytes), group, bit, slot);
        onInode();
      }
    }
  }
}

async function checkSlot(c: Checker, block: Block, group: Group, bit: number, slot: number): Promise<void> {
  const { findings, geo } = c;
  const { blkno } = block;
  if (!groupBitSet(group, bit)) {
    // Never-used blocks hold anything; only a live inode of this very volume is a contradiction.
    if (block.bytes.some((b) => b !== 0)) {
      const di = Dinode.at(block);
      let live = false;
      try {
        DINODE_ANY.validate(block, geo);
        live = (di.flags & FL.VALID) !== 0 && di.fsGeneration === geo.fsGeneration && di.suballocSlot === slot && di.suballocBit === bit;
      } catch {
        live = false;
      }
      if (live) findings.error('INODE_ALLOC_REPAIR', `inode ${blkno} is live but free in its allocator`, blkno);
    }
    return;
  }
  const ok = await c.guard('INODE_ALLOC_REPAIR', `inode ${blkno} is marked in use`, async () => {
    // Its group was read as a whole: checked where it is, not read again.
    validateBlock(block, DINODE, geo);
    return true;
  });
  if (!ok) return;
  await checkInode(c, block, group, bit, slot);
}

async function checkInode(c: Checker, block: Block, group: Group, bit: number, slot: number): Promise<void> {
  const { findings, geo } = c;
  const di = Dinode.at(block);
  const { blkno } = block;
  const type = di.mode & S_IFMT;
  const system = (di.flags & FL.SYSTEM) !== 0;
  const who = `${system ? 'system file' : 'inode'} ${blkno}`;
  if (di.suballocSlot !== slot) findings.error('INODE_SUBALLOC', `${who} says it is from slot ${di.suballocSlot}, it was found in slot ${slot}`, blkno);
  else if (di.suballocBit !== bit) findings.error('INODE_SUBALLOC', `${who} says it is bit ${di.suballocBit}, it is bit ${bit}`, blkno);
  const loc = group.pieces.length > 1 || groupBlock(group, bit) !== group.blkno + bit ? group.blkno : 0;
  if (di.suballocLoc !== loc && di.suballocLoc !== group.blkno) findings.error('INODE_SUBALLOC', `${who} says its group is ${di.suballocLoc}, it is ${loc}`, blkno);
  if (di.dtime !== 0) findings.error('INODE_NZ_DTIME', `${who} is live but has a deletion time`, blkno);
  const links = di.links + (di.dynFeatures & DYN.INDEXED_DIR ? di.linksHi * 65536 : 0);
  if (links > DX_LINK_MAX) findings.error('INODE_COUNT', `${who} has ${links} links`, blkno);
  c.inodes.set(blkno, { blkno, mode: di.mode, links, flags: di.flags, dynFeatures: di.dynFeatures, orphanedSlot: di.orphanedSlot, system });
  if ((di.dynFeatures & DYN.HAS_REFCOUNT) !== 0 !== (di.refcountLoc !== 0)) findings.error('REFCOUNT_LOC_INVALID', `${who}: refcount flag and refcount tree ${di.refcountLoc} disagree`, blkno);
  if (di.dynFeatures & DYN.HAS_REFCOUNT && !geo.refcount) findings.error('REFCOUNT_FLAG_INVALID', `${who} is refcounted, the volume has no such feature`, blkno);

  if (di.flags & FL.LOCAL_ALLOC) return checkLocalAlloc(c, block, who);
  if (di.flags & FL.DEALLOC) return checkTruncateLog(c, block, who);
  if (di.flags & (FL.CHAIN | FL.SUPER_BLOCK)) return; // pass 0
  if (!(di.dynFeatures & DYN.INLINE_DATA)) {
    if (type === MODE.REG || type === MODE.DIR || (type === MODE.LNK && di.clusters > 0)) await checkData(c, block, who, type);
    else if (di.clusters !== 0) findings.error('INODE_CLUSTERS', `${who} is no file but has ${di.clusters} clusters`, blkno);
  }
  if (type === MODE.LNK) checkSymlink(c, block, who);
  if (di.dynFeatures & DYN.INDEXED_DIR) await c.guard('DX_TREE_CORRUPT', who, () => checkIndexTree(c, block, who));
  if (di.dynFeatures & DYN.HAS_XATTR) await c.guard('XATTR_BLOCK_INVALID', who, () => checkXattrs(c, block, who));
  if (di.dynFeatures & DYN.HAS_REFCOUNT) {
    const tree = c.shared.get(di.refcountLoc) ?? { runs: [], inodes: 0 };
    tree.inodes++;
    c.shared.set(di.refcountLoc, tree);
  }
}

async function checkData(c: Checker, block: Block, who: string, type: number): Promise<void> {
  const { geo, findings, usage } = c;
  const di = Dinode.at(block);
  const system = (di.flags & FL.SYSTEM) !== 0;
  const mustFill = type === MODE.DIR || type === MODE.LNK || (system && !(di.flags & FL.QUOTA)) || !geo.sparse;
  const records = await checkTree(c, {
    root: block, base: ID2, who, lastEb: di.lastEbBlk, clusters: di.clusters, clustersCode: geo.sparse ? 'INODE_SPARSE_CLUSTERS' : 'INODE_CLUSTERS',
    noHoles: mustFill, refcounted: (di.dynFeatures & DYN.HAS_REFCOUNT) !== 0,
  });
  for (const r of records) {
    const shared = (r.flags & EXT.REFCOUNTED) !== 0;
    usage.claim(blockToCluster(geo, r.blkno), r.clusters, who, shared);
    if (shared) c.shareRun(di.refcountLoc, { start: blockToCluster(geo, r.blkno), clusters: r.clusters });
  }
  const last = records.at(-1);
  const end = last ? (last.cpos + last.clusters) * geo.clusterSize : 0;
  if (type === MODE.DIR && di.size === 0) findings.error('DIR_ZERO', `${who} is a directory of no bytes`, block.blkno);
  if (mustFill && di.size > end) findings.error('INODE_SIZE', `${who} has ${di.size} bytes but clusters for ${end}`, block.blkno);
  // Legal for Linux (fallocate KEEP_SIZE), named by fsck.ocfs2 all the same: known as a leak of intent, not of space.
  const endBySize = Math.ceil(di.size / geo.clusterSize) * geo.clusterSize;
  if (geo.sparse && type === MODE.REG && !system && end > endBySize) findings.add('recovery', 'INODE_SPARSE_SIZE', `${who} has clusters up to ${end}, its size is ${di.size}`, block.blkno);
}

function checkSymlink(c: Checker, block: Block, who: string): void {
  const di = Dinode.at(block);
  if (di.clusters !== 0) return;
  const target = block.bytes.subarray(ID2, ID2 + di.size + 1);
  if (di.size === 0) c.findings.error('LINK_SIZE', `${who} is a symlink of no length`, block.blkno);
  else if (target[di.size] !== 0) c.findings.error('LINK_NULLTERM', `${who}: the target does not end where i_size says`, block.blkno);
  else if (target.indexOf(0) !== di.size) c.findings.error('LINK_SIZE', `${who}: the target is ${target.indexOf(0)} bytes, i_size says ${di.size}`, block.blkno);
}

function checkLocalAlloc(c: Checker, block: Block, who: string): void {
  const { findings, geo, usage } = c;
  const id1 = BitmapId1.at(block), la = LocalAlloc.at(block);
  const window = id1.total;
  if (la.size > geo.blockSize - LOCAL_ALLOC_BITMAP) return findings.error('LALLOC_SIZE', `${who} has a bitmap of ${la.size} bytes`, block.blkno);
  if (window === 0) {
    if (id1.used !== 0) findings.error('LALLOC_NZ_USED', `${who} has no window but counts ${id1.used} used`, block.blkno);
    if (la.bmOff !== 0) findings.error('LALLOC_NZ_BM', `${who} has no window but starts at ${la.bmOff}`, block.blkno);
    return;
  }
  if (window > la.size * 8) return findings.error('LALLOC_BM_SIZE', `${who} has a window of ${window} clusters in ${la.size} bytes`, block.blkno);
  if (la.bmOff + window > geo.totalClusters) return findings.error('LALLOC_BM_OVERRUN', `${who} has a window past the volume's end`, block.blkno);
  const used = bits.count(block.bytes, LOCAL_ALLOC_BITMAP, window);
  if (id1.used > window) findings.error('LALLOC_USED_OVERRUN', `${who} counts ${id1.used} of ${window} used`, block.blkno);
  if (used !== id1.used) findings.error('LALLOC_USED', `${who} counts ${id1.used} used, its bitmap has ${used}`, block.blkno);
  for (let i = 0; i < window; i++) if (!bits.test(block.bytes, LOCAL_ALLOC_BITMAP, i)) usage.claim(la.bmOff + i, 1, `the window of ${who}`);
}

function checkTruncateLog(c: Checker, block: Block, who: string): void {
  const { findings, geo, usage } = c;
  const tl = TruncateLog.at(block);
  for (let i = 0; i < tl.used; i++) {
    const start = block.dv.getUint32(TRUNCATE_RECS + 8 * i, true), clusters = block.dv.getUint32(TRUNCATE_RECS + 8 * i + 4, true);
    if (start === 0) continue;
    if (start >= geo.totalClusters) findings.error('TRUNCATE_REC_START_RANGE', `${who}: record ${i} begins at cluster ${start}`, block.blkno);
    else if (start + clusters > geo.totalClusters) findings.error('TRUNCATE_REC_RANGE', `${who}: record ${i} ends at cluster ${start + clusters}`, block.blkno);
    else usage.claim(start, clusters, who);
  }
}

async function checkIndexTree(c: Checker, inode: Block, who: string): Promise<void> {
  const { geo } = c;
  const blkno = Dinode.at(inode).dxRoot;
  const root = await c.reader.read(blkno, DX_ROOT);
  const dr = DxRoot.at(root);
  c.refer({ blkno, slot: dr.suballocSlot, bit: dr.suballocBit, loc: dr.suballocLoc, who: `dx_root of ${who}` });
  if (dr.dirBlkno !== inode.blkno) c.findings.error('DX_TREE_CORRUPT', `${who}: its dx_root ${blkno} belongs to directory ${dr.dirBlkno}`, blkno);
  if (dr.flags & DX_INLINE) return;
  const records = await checkTree(c, { root, base: DX_ROOT_LIST, who: `index of ${who}`, lastEb: dr.lastEbBlk, clusters: dr.clusters, clustersCode: 'DX_TREE_CORRUPT' });
  if (records.length > 0 && records[0].cpos !== 0) c.findings.error('DX_TREE_CORRUPT', `${who}: its index does not begin at hash 0`, blkno);
  for (const r of records) {
    c.usage.claim(blockToCluster(geo, r.blkno), r.clusters, `index of ${who}`);
    for (let b = 0; b < r.clusters * geo.bpc; b++) await c.guard('DX_TREE_CORRUPT', `index of ${who}`, () => c.reader.read(r.blkno + b, DX_LEAF));
  }
}

async function checkXattrs(c: Checker, inode: Block, who: string): Promise<void> {
  const { geo, findings } = c;
  const di = Dinode.at(inode);
  if (di.dynFeatures & DYN.INLINE_XATTR && di.xattrInlineSize === 0) findings.error('XATTR_LOCATION_INVALID', `${who} has inline attributes in no room`, inode.blkno);
  if (di.xattrLoc !== 0) {
    const xb = await c.reader.read(di.xattrLoc, XATTR_BLOCK);
    const view = XattrBlock.at(xb);
    c.refer({ blkno: di.xattrLoc, slot: view.suballocSlot, bit: view.suballocBit, loc: view.suballocLoc, who: `xattr block of ${who}` });
    if (view.flags & XATTR_INDEXED) {
      const tree = XattrTreeRoot.at(xb);
      const records = await checkTree(c, { root: xb, base: XATTR_TREE_LIST, who: `xattr tree of ${who}`, lastEb: tree.lastEbBlk, clusters: tree.clusters, clustersCode: 'XATTR_BLOCK_INVALID' });
      for (const r of records) c.usage.claim(blockToCluster(geo, r.blkno), r.clusters, `xattr tree of ${who}`);
    }
  }
  for await (const storage of xattrStorages(c.reader, inode)) {
    let previous = -1;
    for (const e of storageEntries(storage)) {
      if (e.hash !== xattrHash(e.nameBytes, geo.uuidHash)) findings.error('XATTR_HASH_INVALID', `${who}: attribute ${e.name} has hash ${e.hash.toString(16)}`, storage.block.blkno);
      if (storage.kind === 'bucket' && e.hash < previous) findings.error('XATTR_ENTRY_INVALID', `${who}: bucket ${storage.block.blkno} is not sorted`, storage.block.blkno);
      previous = e.hash;
      if (!e.outside) continue;
      const vr = XattrValueRoot.at(e.outside.block, e.outside.base);
      const list = new ExtentList(e.outside.block, e.outside.base + 0x10);
      if (list.count !== 1) findings.error('XATTR_VALUE_INVALID', `${who}: attribute ${e.name} has no valid value root`, storage.block.blkno);
      else {
        const records = await checkTree(c, {
          root: e.outside.block, base: e.outside.base + 0x10, who: `attribute ${e.name} of ${who}`, lastEb: vr.lastEbBlk, clusters: vr.clusters,
          clustersCode: 'XATTR_VALUE_INVALID', noHoles: true, refcounted: (di.dynFeatures & DYN.HAS_REFCOUNT) !== 0,
        });
        for (const r of records) {
          const shared = (r.flags & EXT.REFCOUNTED) !== 0;
          c.usage.claim(blockToCluster(geo, r.blkno), r.clusters, `attribute ${e.name} of ${who}`, shared);
          if (shared) c.shareRun(di.refcountLoc, { start: blockToCluster(geo, r.blkno), clusters: r.clusters });
        }
        if (e.size > records.reduce((s, r) => s + r.clusters, 0) * geo.clusterSize) findings.error('XATTR_VALUE_LEN_INVALID', `${who}: attribute ${e.name} has ${e.size} bytes but too few clusters`, storage.block.blkno);
      }
    }
  }
}

/** After all inodes: blocks of the extent allocators against the references to them. */
export function checkMetaAllocation(c: Checker, groupsBySlot: readonly (readonly Group[])[]): void {
  const { findings } = c;
  for (const ref of c.meta.values()) {
    const groups = groupsBySlot[ref.slot];
    const group = groups?.find((g) => groupBit(g, ref.blkno) >= 0);
    if (!group) {
      findings.error('EXTENT_ALLOC_FREE', `${ref.who}: block ${ref.blkno} is in no group of extent_alloc slot ${ref.slot}`, ref.blkno);
      continue;
    }
    const bit = groupBit(group, ref.blkno);
    if (bit !== ref.bit) findings.error('EXTENT_ALLOC_FREE', `${ref.who}: block ${ref.blkno} says it is bit ${ref.bit}, it is bit ${bit}`, ref.blkno);
    if (!groupBitSet(group, bit)) findings.error('EXTENT_ALLOC_FREE', `${ref.who}: block ${ref.blkno} is free in its allocator`, ref.blkno);
  }
  groupsBySlot.forEach((groups, slot) => {
    for (const group of groups) {
      for (const piece of group.pieces) {
        for (let i = 0; i < piece.bits; i++) {
          const blkno = piece.blkno + i;
          if (blkno !== group.blkno && groupBitSet(group, piece.bit + i) && !c.meta.has(blkno)) {
            findings.add('leak', 'EXTENT_ALLOC_LEAK', `block ${blkno} of extent_alloc slot ${slot} is in use but nothing refers to it`, blkno);
          }
        }
      }
    }
  });
}

