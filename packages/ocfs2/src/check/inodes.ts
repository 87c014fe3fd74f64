/** Pass 1: every inode of every inode allocator: its fields, trees, attributes; claims what they refer to. */
import { AlignedPool } from '@lunfs/device';
import { Block } from '../format/block.js';
import { DX_LINK_MAX, DYN, EXT, FL, MODE, SIG, S_IFMT } from '../format/constants.js';
import { blockToCluster } from '../format/geometry.js';
import { DINODE, DINODE_ANY, DX_ROOT, validateBlock } from '../format/kinds.js';
import { bits } from '../format/lists.js';
import { BitmapId1, Dinode, DX_INLINE, DX_ROOT_LIST, DxRoot, ID2, LOCAL_ALLOC_BITMAP, LocalAlloc, TRUNCATE_RECS, TruncateLog, type DinodeView } from '../format/structs.js';
import type { ExtentRecord } from '../inspect/raw-reader.js';
import { type Group, groupBitSet } from './group.js';
import type { Checker } from './checker.js';
import { InFlight, ahead } from './in-flight.js';
import { type TreeSpec, checkFlatTree, checkTree, isDeep } from './trees.js';
import { INODES } from './turns.js';
import { checkXattrs } from './xattrs.js';

/** Bytes read at a time, and how many such reads are under way ahead of the one being checked. */
const READ_BYTES = 512 << 10;
const READS_AHEAD = 4;
/** For groups of inodes; a few megabytes, kept for the next volume. */
const POOL = new AlignedPool();
/** Inodes whose trees and attributes are being read at a time. */
const INODES_IN_FLIGHT = 32;

/** A run of a group's blocks that is read at once. */
interface Run {
  readonly group: Group;
  readonly slot: number;
  readonly blkno: number;
  readonly bit: number;
  readonly count: number;
}

/** The groups of an inode allocator with its slot, INVALID_SLOT for the global one. */
export interface SlotGroups {
  readonly slot: number;
  readonly groups: readonly Group[];
}

/** Check this thread's part of all inodes, in the order of the disk. */
export async function checkInodes(c: Checker, slots: readonly SlotGroups[], onInodes: (n: number) => void): Promise<void> {
  const { reader, geo } = c;
  const perRead = READ_BYTES / geo.blockSize;
  const runs: Run[] = [];
  for (const { groups, slot } of slots) {
    for (const group of groups) {
      for (const piece of group.pieces) {
        for (let i = 0; i < piece.bits; i += perRead) runs.push({ group, slot, blkno: piece.blkno + i, bit: piece.bit + i, count: Math.min(perRead, piece.bits - i) });
      }
    }
  }
  runs.sort((a, b) => a.blkno - b.blkno);
  const slow = new InFlight(INODES_IN_FLIGHT);
  // A few buffers take turns: whoever waits for more keeps a copy of its inode.
  const load = async (run: Run): Promise<{ raw: Block; buffer: Uint8Array }> => {
    const buffer = POOL.acquire(READ_BYTES);
    try {
      return { raw: await reader.readInto(run.blkno, buffer.subarray(0, run.count * geo.blockSize)), buffer };
    } catch (error) {
      POOL.release(buffer);
      throw error;
    }
  };
  for await (const { item: run, loaded } of ahead(mine(c, runs), READS_AHEAD, load)) {
    const { raw, buffer } = (await c.guard('UNREADABLE', `inode group ${run.group.blkno}`, () => loaded)) ?? {};
    for (let i = 0; raw !== undefined && i < run.count; i++) {
      const bit = run.bit + i;
      if (run.blkno + i === run.group.blkno) continue;
      // Never-used blocks hold anything; the first byte tells most apart from an inode.
      if (raw.bytes[i * geo.blockSize] !== INODE_FIRST_BYTE && !groupBitSet(run.group, bit)) continue;
      const block = new Block(raw.device, run.blkno + i, raw.bytes.subarray(i * geo.blockSize, (i + 1) * geo.blockSize));
      const more = checkSlot(c, block, run.group, bit, run.slot);
      if (more !== undefined) await slow.add(more);
    }
    if (buffer !== undefined) POOL.release(buffer);
    onInodes(run.count);
  }
  await slow.done();
}

function* mine(c: Checker, runs: readonly Run[]): Generator<Run> {
  for (const part of c.turns.parts(INODES, runs.length)) yield runs[part];
}

/** Check one bit of an inode allocator and its block. What needs more blocks than this one is left to the function it returns. */
function checkSlot(c: Checker, block: Block, group: Group, bit: number, slot: number): (() => Promise<void>) | undefined {
  const { geo } = c;
  const { blkno } = block;
  if (!groupBitSet(group, bit)) {
    // Only a live inode of this very volume is a contradiction.
    if (isLive(c, block, slot, bit)) c.findings.error('INODE_ALLOC_REPAIR', `inode ${blkno} is live but free in its allocator`, blkno);
    return undefined;
  }
  return c.guardSync('INODE_ALLOC_REPAIR', `inode ${blkno} is marked in use`, () => {
    // Its group was read as a whole: checked where it is, not read again.
    validateBlock(block, DINODE, geo);
    return checkInode(c, block, group, bit, slot);
  });
}

const INODE_FIRST_BYTE = SIG.dinode.charCodeAt(0);

function isLive({ geo }: Checker, block: Block, slot: number, bit: number): boolean {
  const di = Dinode.at(block);
  try {
    DINODE_ANY.validate(block, geo);
    return (di.flags & FL.VALID) !== 0 && di.fsGeneration === geo.fsGeneration && di.suballocSlot === slot && di.suballocBit === bit;
  } catch {
    return false;
  }
}

function checkInode(c: Checker, block: Block, group: Group, bit: number, slot: number): (() => Promise<void>) | undefined {
  const { findings, geo } = c;
  const di = Dinode.at(block);
  const { blkno } = block;
  const type = di.mode & S_IFMT;
  const system = (di.flags & FL.SYSTEM) !== 0;
  const who = `${system ? 'system file' : 'inode'} ${blkno}`;
  if (di.suballocSlot !== slot) findings.error('INODE_SUBALLOC', `${who} says it is from slot ${di.suballocSlot}, it was found in slot ${slot}`, blkno);
  else if (di.suballocBit !== bit) findings.error('INODE_SUBALLOC', `${who} says it is bit ${di.suballocBit}, it is bit ${bit}`, blkno);
  // 0: of old, the group is where the bit leads to.
  const loc = di.suballocLoc;
  if (loc !== group.blkno && (loc !== 0 || blkno - bit !== group.blkno)) findings.error('INODE_SUBALLOC', `${who} says its group is ${loc}, it is ${group.blkno}`, blkno);
  if (di.dtime !== 0) findings.error('INODE_NZ_DTIME', `${who} is live but has a deletion time`, blkno);
  const links = di.links + (di.dynFeatures & DYN.INDEXED_DIR ? di.linksHi * 65536 : 0);
  if (links > DX_LINK_MAX) findings.error('INODE_COUNT', `${who} has ${links} links`, blkno);
  if (!c.inodes.add(blkno, { mode: di.mode, links, flags: di.flags, dynFeatures: di.dynFeatures, orphanedSlot: di.orphanedSlot })) {
    findings.error('GROUP_DUPLICATE', `${who} lies in two groups`, blkno);
    return undefined;
  }
  if ((di.dynFeatures & DYN.HAS_REFCOUNT) !== 0 !== (di.refcountLoc !== 0)) findings.error('REFCOUNT_LOC_INVALID', `${who}: refcount flag and refcount tree ${di.refcountLoc} disagree`, blkno);
  if (di.dynFeatures & DYN.HAS_REFCOUNT && !geo.refcount) findings.error('REFCOUNT_FLAG_INVALID', `${who} is refcounted, the volume has no such feature`, blkno);

  if (geo.quota && !(di.dynFeatures & DYN.INDEXED_DIR)) c.owners.count(di, geo.rootBlkno, 0);
  if (di.flags & FL.LOCAL_ALLOC) return checkLocalAlloc(c, block, who);
  if (di.flags & FL.DEALLOC) return checkTruncateLog(c, block, who);
  if (di.flags & (FL.CHAIN | FL.SUPER_BLOCK)) return undefined; // pass 0
  if (di.dynFeatures & DYN.HAS_REFCOUNT) c.useTree(di.refcountLoc);
  let deep = false;
  if (di.dynFeatures & DYN.INLINE_DATA) {
    if (!geo.inlineData) findings.error('INLINE_DATA_FLAG_INVALID', `${who} has inline data, the volume has no such feature`, blkno);
  } else if (type === MODE.REG || type === MODE.DIR || (type === MODE.LNK && di.clusters > 0)) {
    deep = isDeep(block, ID2);
    if (!deep) checkRecords(c, block, who, type, checkFlatTree(c, dataTree(c, block, who, type)));
  } else if (di.clusters !== 0) findings.error('INODE_CLUSTERS', `${who} is no file but has ${di.clusters} clusters`, blkno);
  if (type === MODE.LNK) checkSymlink(c, block, who);
  if (!deep && !(di.dynFeatures & (DYN.INDEXED_DIR | DYN.HAS_XATTR))) return undefined;
  // What is read ahead is not kept: the inode alone stays until its turn.
  const own = new Block(block.device, blkno, block.bytes.slice());
  return async () => {
    if (deep) {
      const records = await c.guard('EXTENT_EB_INVALID', who, () => checkTree(c, dataTree(c, own, who, type)));
      if (records !== undefined) checkRecords(c, own, who, type, records);
    }
    const { dynFeatures } = Dinode.at(own);
    if (dynFeatures & DYN.INDEXED_DIR) await c.guard('DX_TREE_CORRUPT', who, () => checkIndexTree(c, own, who));
    if (dynFeatures & DYN.HAS_XATTR) await c.guard('XATTR_BLOCK_INVALID', who, () => checkXattrs(c, own, who));
  };
}

/** System files, directories and symlinks have no holes; nor has anything on a volume without sparse files. */
function mustFill({ geo }: Checker, di: DinodeView, type: number): boolean {
  return type === MODE.DIR || type === MODE.LNK || ((di.flags & FL.SYSTEM) !== 0 && !(di.flags & FL.QUOTA)) || !geo.sparse;
}

function dataTree(c: Checker, block: Block, who: string, type: number): TreeSpec {
  const di = Dinode.at(block);
  return {
    root: block, base: ID2, who, lastEb: di.lastEbBlk, clusters: di.clusters, clustersCode: c.geo.sparse ? 'INODE_SPARSE_CLUSTERS' : 'INODE_CLUSTERS',
    noHoles: mustFill(c, di, type), refcounted: (di.dynFeatures & DYN.HAS_REFCOUNT) !== 0,
  };
}

/** Claim what the data tree refers to; size against it. */
function checkRecords(c: Checker, block: Block, who: string, type: number, records: readonly ExtentRecord[]): void {
  const { geo, findings, usage } = c;
  const di = Dinode.at(block);
  const system = (di.flags & FL.SYSTEM) !== 0;
  for (const r of records) {
    const shared = (r.flags & EXT.REFCOUNTED) !== 0;
    usage.claim(blockToCluster(geo, r.blkno), r.clusters, who, shared);
    if (shared) c.shareRun(di.refcountLoc, { start: blockToCluster(geo, r.blkno), clusters: r.clusters });
  }
  const last = records.at(-1);
  const end = last ? (last.cpos + last.clusters) * geo.clusterSize : 0;
  if (type === MODE.DIR && di.size === 0) findings.error('DIR_ZERO', `${who} is a directory of no bytes`, block.blkno);
  if (mustFill(c, di, type) && di.size > end) findings.error('INODE_SIZE', `${who} has ${di.size} bytes but clusters for ${end}`, block.blkno);
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

/** What is all in its dinode has neither size nor clusters. */
function checkNoData({ findings }: Checker, block: Block, who: string): void {
  const { size, clusters } = Dinode.at(block);
  if (size !== 0) findings.error('INODE_SIZE', `${who} has no data but ${size} bytes`, block.blkno);
  if (clusters !== 0) findings.error('INODE_CLUSTERS', `${who} has no data but ${clusters} clusters`, block.blkno);
}

function checkLocalAlloc(c: Checker, block: Block, who: string): undefined {
  const { findings, geo, usage } = c;
  const id1 = BitmapId1.at(block), la = LocalAlloc.at(block);
  const window = id1.total;
  checkNoData(c, block, who);
  if (la.size === 0 || la.size > geo.blockSize - LOCAL_ALLOC_BITMAP) return void findings.error('LALLOC_SIZE', `${who} has a bitmap of ${la.size} bytes`, block.blkno);
  if (window === 0) {
    if (id1.used !== 0) findings.error('LALLOC_NZ_USED', `${who} has no window but counts ${id1.used} used`, block.blkno);
    if (la.bmOff !== 0) findings.error('LALLOC_NZ_BM', `${who} has no window but starts at ${la.bmOff}`, block.blkno);
    return undefined;
  }
  if (window > la.size * 8) return void findings.error('LALLOC_BM_SIZE', `${who} has a window of ${window} clusters in ${la.size} bytes`, block.blkno);
  if (la.bmOff + window > geo.totalClusters) return void findings.error('LALLOC_BM_OVERRUN', `${who} has a window past the volume's end`, block.blkno);
  const used = bits.count(block.bytes, LOCAL_ALLOC_BITMAP, window);
  if (id1.used > window) findings.error('LALLOC_USED_OVERRUN', `${who} counts ${id1.used} of ${window} used`, block.blkno);
  if (used !== id1.used) findings.error('LALLOC_USED', `${who} counts ${id1.used} used, its bitmap has ${used}`, block.blkno);
  for (let i = 0; i < window; i++) if (!bits.test(block.bytes, LOCAL_ALLOC_BITMAP, i)) usage.claim(la.bmOff + i, 1, `the window of ${who}`);
  return undefined;
}

function checkTruncateLog(c: Checker, block: Block, who: string): undefined {
  const { findings, geo, usage } = c;
  checkNoData(c, block, who);
  const tl = TruncateLog.at(block);
  const used = Math.min(tl.used, tl.count);
  for (let i = 0; i < used; i++) {
    const start = block.dv.getUint32(TRUNCATE_RECS + 8 * i, true), clusters = block.dv.getUint32(TRUNCATE_RECS + 8 * i + 4, true);
    if (start === 0) continue;
    if (start >= geo.totalClusters) findings.error('TRUNCATE_REC_START_RANGE', `${who}: record ${i} begins at cluster ${start}`, block.blkno);
    else if (start + clusters > geo.totalClusters) findings.error('TRUNCATE_REC_RANGE', `${who}: record ${i} ends at cluster ${start + clusters}`, block.blkno);
    else usage.claim(start, clusters, who);
  }
  return undefined;
}

async function checkIndexTree(c: Checker, inode: Block, who: string): Promise<void> {
  const { geo } = c;
  const blkno = Dinode.at(inode).dxRoot;
  const root = await c.reader.read(blkno, DX_ROOT);
  const dr = DxRoot.at(root);
  if (geo.quota) c.owners.count(Dinode.at(inode), geo.rootBlkno, dr.flags & DX_INLINE ? 0 : dr.clusters);
  c.refer({ blkno, slot: dr.suballocSlot, bit: dr.suballocBit, loc: dr.suballocLoc, who: `dx_root of ${who}` });
  if (dr.dirBlkno !== inode.blkno) c.findings.error('DX_TREE_CORRUPT', `${who}: its dx_root ${blkno} belongs to directory ${dr.dirBlkno}`, blkno);
  if (dr.flags & DX_INLINE) return;
  const records = await checkTree(c, { root, base: DX_ROOT_LIST, who: `index of ${who}`, lastEb: dr.lastEbBlk, clusters: dr.clusters, clustersCode: 'DX_TREE_CORRUPT', written: true });
  if (records.length > 0 && records[0].cpos !== 0) c.findings.error('DX_TREE_CORRUPT', `${who}: its index does not begin at hash 0`, blkno);
  // The leaves themselves are checked with the directory's entries.
  for (const r of records) c.usage.claim(blockToCluster(geo, r.blkno), r.clusters, `index of ${who}`);
}
