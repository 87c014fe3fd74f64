/**
 * Quota files: the tree of each global file, the entries of each local one, and what both say of every id against what the
 * inodes add up to. Codes are those of fsck.ocfs2's pass 5, which looks at the tree alone (it recomputes all use when it may
 * write).
 */
import { ID2, Dinode } from '../format/structs.js';
import { bits } from '../format/lists.js';
import { validateBlock } from '../format/kinds.js';
import {
  GlobalDquot, GlobalQuotaInfo, LOCAL_QUOTA_BITMAP, LOCAL_QUOTA_CLEAN, LocalDquot, LocalQuotaChunk, LocalQuotaInfo, QUOTA_BLOCK, QUOTA_ROOT, QuotaLeaf, type QuotaType, checkLocalInfo,
  checkQuotaHeader, chunkBlock, chunkLength, isFreeRecord, quotaLayout,
} from '../format/quota.js';
import { type Block, badField } from '../format/block.js';
import type { QuotaFiles, SystemFiles } from '../context.js';
import type { ExtentRecord, RawReader } from '../inspect/raw-reader.js';
import type { Checker } from './checker.js';

/** Check the quota files. `recovering`: a journal is dirty, so files and inodes need not agree yet. */
export async function checkQuota(c: Checker, sys: SystemFiles, recovering: boolean): Promise<void> {
  for (const files of sys.quota) {
    const told = new Map<number, { space: number; inodes: number }>();
    const add = (id: number, space: number, inodes: number): void => {
      const sum = told.get(id) ?? { space: 0, inodes: 0 };
      told.set(id, { space: sum.space + space, inodes: sum.inodes + inodes });
    };
    const read = await c.guard('QMAGIC_INVALID', `global ${files.type} quota file`, () => checkGlobal(c, files, add));
    for (const slot of files.local.keys()) await c.guard('QUOTA_LOCAL', `local ${files.type} quota file of slot ${slot}`, () => checkLocal(c, files, slot, add));
    if (read) compare(c, files.type, told, recovering);
  }
}

function compare(c: Checker, type: QuotaType, told: ReadonlyMap<number, { space: number; inodes: number }>, recovering: boolean): void {
  const { clusterSize } = c.geo;
  const owners = c.owners.all(type);
  for (const id of [...new Set([...told.keys(), ...owners.keys()])].sort((a, b) => a - b)) {
    const { space, inodes } = told.get(id) ?? { space: 0, inodes: 0 };
    const use = owners.get(id) ?? { clusters: 0, inodes: 0, maybeClusters: 0, maybeInodes: 0 };
    const least = use.clusters * clusterSize, most = least + use.maybeClusters * clusterSize;
    if (space >= least && space <= most && space % clusterSize === 0 && inodes >= use.inodes && inodes <= use.inodes + use.maybeInodes) continue;
    c.findings.add(recovering ? 'recovery' : 'error', 'QUOTA_USAGE', `${type} ${id} uses ${use.inodes} inodes and ${least} bytes, the quota files say ${inodes} and ${space}; "fsck.ocfs2 -fy" counts anew`);
  }
}

/** A quota file's blocks by their number in the file. */
class RawQuotaFile {
  private constructor(private readonly reader: RawReader, private readonly runs: readonly ExtentRecord[], readonly inode: Block) {}

  static async open(reader: RawReader, blkno: number): Promise<RawQuotaFile> {
    const inode = await reader.inode(blkno);
    const runs: ExtentRecord[] = [];
    for await (const run of reader.extents(inode, ID2)) runs.push(run);
    const { size } = Dinode.at(inode);
    const last = runs.at(-1);
    if (size > (last === undefined ? 0 : (last.cpos + last.clusters) * reader.geo.clusterSize)) throw badField(inode, 'dinode', 'size', size, 'is more than the clusters of the quota file hold');
    if (size % reader.geo.blockSize !== 0) throw badField(inode, 'dinode', 'size', size, 'is no whole number of blocks');
    return new RawQuotaFile(reader, runs, inode);
  }

  get blocks(): number {
    return Math.floor(Dinode.at(this.inode).size / this.reader.geo.blockSize);
  }

  async read(index: number): Promise<Block> {
    const { bpc } = this.reader.geo;
    const run = this.runs.find(({ cpos, clusters }) => index >= cpos * bpc && index < (cpos + clusters) * bpc);
    if (run === undefined || index >= this.blocks) throw badField(this.inode, 'dinode', 'i_size', Dinode.at(this.inode).size, `or its clusters end the quota file before its block ${index}`);
    const block = await this.reader.readRaw(run.blkno + index - run.cpos * bpc);
    validateBlock(block, QUOTA_BLOCK, this.reader.geo);
    return block;
  }
}

type Add = (id: number, space: number, inodes: number) => void;

async function checkGlobal(c: Checker, files: QuotaFiles, add: Add): Promise<boolean> {
  const { findings, geo } = c;
  const layout = quotaLayout(geo.blockSize);
  const file = await RawQuotaFile.open(c.reader, files.global);
  const head = await file.read(0);
  checkQuotaHeader(head, 'global', files.type);
  const info = GlobalQuotaInfo.at(head);
  if (info.blocks !== file.blocks) findings.error('QMAGIC_INVALID', `the global ${files.type} quota file counts ${info.blocks} blocks, it has ${file.blocks}`, head.blkno);
  const isBlock = (index: number) => index > QUOTA_ROOT && index < info.blocks;
  const seen = new Set<number>();
  const leaves = new Map<number, Block>();
  const referred = new Map<number, number>();
  const tree = async (index: number, level: number, base: number): Promise<void> => {
    seen.add(index);
    const block = await file.read(index);
    for (let i = 0; i < layout.refs; i++) {
      const child = block.dv.getUint32(4 * i, true);
      const id = base + i * layout.refs ** (layout.depth - 1 - level);
      if (child === 0) continue;
      if (!isBlock(child) || id > 0xffffffff || seen.has(child) || (level < layout.depth - 1 && leaves.has(child))) {
        findings.error('QTREE_BLK_INVALID', `block ${index} of the global ${files.type} quota file refers to ${child}, which is no block or used already`, block.blkno);
        continue;
      }
      await c.guard('QTREE_BLK_INVALID', `global ${files.type} quota file`, async () => {
        if (level < layout.depth - 1) return tree(child, level + 1, id);
        const leaf = leaves.get(child) ?? (await file.read(child));
        leaves.set(child, leaf);
        checkRecord(c, files.type, leaf, id, layout.records, add);
        referred.set(child, (referred.get(child) ?? 0) + 1);
      });
    }
  };
  await tree(QUOTA_ROOT, 0, 0);
  const withRoom = new Set<number>();
  for (const [index, leaf] of leaves) {
    if (checkLeaf(c, files.type, leaf, referred.get(index) ?? 0, layout.records) < layout.records) withRoom.add(index);
    else if (QuotaLeaf.at(leaf).nextFree !== 0 || QuotaLeaf.at(leaf).prevFree !== 0) findings.error('QUOTA_FREE_LIST', `a full leaf of the global ${files.type} quota file says that it is in the list of those with room`, leaf.blkno);
  }
  // What is free is what the tree has not: to be told only where it is known how many blocks there are.
  if (info.blocks !== file.blocks) return true;
  const free = new Set<number>();
  for (let index = QUOTA_ROOT + 1; index < info.blocks; index++) if (!seen.has(index) && !leaves.has(index)) free.add(index);
  await checkList(c, file, head, `free blocks of the global ${files.type} quota file`, info.freeBlk, free, false);
  await checkList(c, file, head, `leaves with room of the global ${files.type} quota file`, info.freeEntry, withRoom, true);
  return true;
}

/** A list of blocks that are linked by their heads (Linux 6.1 fs/quota/quota_tree.c:put_free_dqblk, insert_free_dqentry): `members`, each once, in any order. */
async function checkList(c: Checker, file: RawQuotaFile, head: Block, name: string, first: number, members: ReadonlySet<number>, doubly: boolean): Promise<void> {
  const bad = (text: string, block: number) => c.findings.error('QUOTA_FREE_LIST', `the list of ${name} ${text}`, block);
  const met = new Set<number>();
  let before = 0, at = head.blkno;
  for (let index = first; index !== 0; ) {
    if (!members.has(index) || met.has(index)) return bad(`leads to block ${index}, which ${met.has(index) ? 'it has met before' : 'does not belong there'}`, at);
    met.add(index);
    const block = await file.read(index);
    const { nextFree, prevFree } = QuotaLeaf.at(block);
    if (doubly && prevFree !== before) bad(`says in block ${index} that it comes from ${prevFree}, it does from ${before}`, block.blkno);
    before = index;
    at = block.blkno;
    index = nextFree;
  }
  if (met.size < members.size) bad(`has ${met.size} blocks, ${members.size} belong there`, at);
}

function checkRecord(c: Checker, type: QuotaType, leaf: Block, id: number, records: number, add: Add): void {
  const found = recordPlaces(records).filter((at) => !isFreeRecord(leaf, at) && GlobalDquot.at(leaf, at).id === id);
  if (found.length === 0) c.findings.error('DQBLK_INVALID', `the global ${type} quota file refers to a record of ${type} ${id} that is not there`, leaf.blkno);
  else if (found.length > 1) c.findings.error('DUP_DQBLK_VALID', `the global ${type} quota file has ${found.length} records of ${type} ${id}`, leaf.blkno);
  if (found.length > 0) add(id, GlobalDquot.at(leaf, found[0]).space, GlobalDquot.at(leaf, found[0]).inodes);
}

/** Gives the records in use. */
function checkLeaf(c: Checker, type: QuotaType, leaf: Block, referred: number, records: number): number {
  const { entries } = QuotaLeaf.at(leaf);
  const used = recordPlaces(records).filter((at) => !isFreeRecord(leaf, at)).length;
  if (entries !== used || used !== referred) c.findings.error('DQBLK_INVALID', `a leaf of the global ${type} quota file counts ${entries} records, has ${used}, and ${referred} are referred to`, leaf.blkno);
  return used;
}

function recordPlaces(records: number): number[] {
  return Array.from({ length: records }, (_, i) => QuotaLeaf.size + i * GlobalDquot.size);
}

async function checkLocal(c: Checker, files: QuotaFiles, slot: number, add: Add): Promise<void> {
  const layout = quotaLayout(c.geo.blockSize);
  const file = await RawQuotaFile.open(c.reader, files.local[slot]);
  const head = await file.read(0);
  checkQuotaHeader(head, 'local', files.type);
  checkLocalInfo(head, layout, file.blocks);
  const { flags, chunks, blocks } = LocalQuotaInfo.at(head);
  const needed = Math.ceil((blocks - 1) / (layout.chunkBlocks + 1));
  if (chunks !== needed) c.findings.error('QUOTA_LOCAL', `the local ${files.type} quota file of slot ${slot} has ${chunks} chunks, its ${blocks} blocks are ${needed}`, head.blkno);
  if (flags & LOCAL_QUOTA_CLEAN) {
    // Nothing in them counts, but their checks must be right: whoever mounts reads them.
    for (let index = 1; c.geo.metaecc && index < blocks; index++) await c.guard('QUOTA_LOCAL', `local ${files.type} quota file of slot ${slot}`, () => file.read(index));
    return;
  }
  c.findings.add('recovery', 'QUOTA_LOCAL_IN_USE', `the local ${files.type} quota file of slot ${slot} was not closed; the next mount merges it`, head.blkno);
  for (let chunk = 0; chunk < chunks; chunk++) {
    const bitmap = await file.read(chunkBlock(layout, chunk));
    const length = chunkLength(layout, chunk, blocks);
    const used = bits.count(bitmap.bytes, LOCAL_QUOTA_BITMAP, length);
    if (LocalQuotaChunk.at(bitmap).free !== length - used) c.findings.error('QUOTA_LOCAL', `chunk ${chunk} of the local ${files.type} quota file of slot ${slot} counts ${LocalQuotaChunk.at(bitmap).free} free entries, its bitmap has ${length - used}`, bitmap.blkno);
    for (let bit = bits.next(bitmap.bytes, LOCAL_QUOTA_BITMAP, 0, length, true); bit < length; bit = bits.next(bitmap.bytes, LOCAL_QUOTA_BITMAP, bit + 1, length, true)) {
      const entry = LocalDquot.at(await file.read(chunkBlock(layout, chunk) + 1 + Math.floor(bit / layout.entries)), (bit % layout.entries) * LocalDquot.size);
      add(entry.id, entry.space, entry.inodes);
    }
  }
}
