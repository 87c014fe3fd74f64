/**
 * Extent trees of every kind (ondisk-format.md 5.2): order, tiling, depth, capacities, last leaf and leaf chain, ranges
 * inside the volume, cluster sums. Yields the leaf records to whoever owns the tree.
 */
import type { Block } from '../format/block.js';
import { EXT, MAX_TREE_DEPTH } from '../format/constants.js';
import { EXTENT_BLOCK } from '../format/kinds.js';
import { ExtentList } from '../format/lists.js';
import { EB_LIST, ExtentBlock } from '../format/structs.js';
import type { ExtentRecord } from '../inspect/raw-reader.js';
import type { Checker } from './checker.js';

export interface TreeSpec {
  readonly root: Block;
  readonly base: number;
  readonly who: string;
  /** What the root says of itself. */
  readonly lastEb: number;
  readonly clusters: number;
  /** Code for a wrong cluster sum. */
  readonly clustersCode: string;
  /** Refcount trees: records point to single blocks and count one cluster each. */
  readonly pointsToBlocks?: boolean;
  /** Records must follow each other without holes. */
  readonly noHoles?: boolean;
  readonly refcounted?: boolean;
}

/** Check a tree and return its leaf records in order. */
export async function checkTree(c: Checker, spec: TreeSpec): Promise<ExtentRecord[]> {
  const { geo, findings } = c;
  const records: ExtentRecord[] = [];
  const leaves: { blkno: number; next: number; full: boolean }[] = [];
  const bad = (code: string, text: string, block: number) => findings.error(code, `${spec.who}: ${text}`, block);

  async function walk(block: Block, base: number, parentDepth: number, isRoot: boolean): Promise<void> {
    const list = new ExtentList(block, base);
    if (list.depth >= MAX_TREE_DEPTH || (!isRoot && list.depth !== parentDepth - 1)) {
      bad('EXTENT_LIST_DEPTH', `list in block ${block.blkno} has depth ${list.depth}`, block.blkno);
      return;
    }
    const n = Math.min(list.nextFree, list.count);
    if (list.nextFree > list.count) bad('EXTENT_LIST_FREE', `list in block ${block.blkno} uses ${list.nextFree} of ${list.count} records`, block.blkno);
    if (list.depth > 0) {
      for (let i = 0; i < n; i++) {
        const child = list.blkno(i);
        if (i > 0 && list.cpos(i) !== list.end(i - 1)) bad('EXTENT_RANGES', `interior records ${i - 1} and ${i} of block ${block.blkno} do not meet (${list.end(i - 1)}, ${list.cpos(i)})`, block.blkno);
        if (child <= 2 || child >= geo.totalBlocks) {
          bad('EXTENT_EB_INVALID', `record ${i} of block ${block.blkno} points to block ${child}, outside the volume`, block.blkno);
          continue;
        }
        const eb = await c.guard('EXTENT_EB_INVALID', spec.who, () => c.reader.read(child, EXTENT_BLOCK));
        if (!eb) continue;
        const view = ExtentBlock.at(eb);
        c.refer({ blkno: child, slot: view.suballocSlot, bit: view.suballocBit, loc: view.suballocLoc, who: `extent block of ${spec.who}` });
        const before = records.length;
        await walk(eb, EB_LIST, list.depth, false);
        const first = records[before], last = records.at(-1);
        if (first !== undefined && last !== undefined && records.length > before) {
          // Only the leftmost path may begin before its first record (5.2, exception to 3).
          if (before > 0 && first.cpos !== list.cpos(i)) bad('EXTENT_RANGES', `record ${i} of block ${block.blkno} begins at ${list.cpos(i)}, its child at ${first.cpos}`, block.blkno);
          if (last.cpos + last.clusters > list.end(i)) bad('EXTENT_RANGES', `record ${i} of block ${block.blkno} ends at ${list.end(i)}, its child at ${last.cpos + last.clusters}`, block.blkno);
        }
      }
      return;
    }
    if (!isRoot) leaves.push({ blkno: block.blkno, next: ExtentBlock.at(block).nextLeafBlk, full: list.nextFree === list.count });
    for (let i = 0; i < n; i++) {
      const clusters = list.clusters(i);
      if (clusters === 0) {
        if (i > 0) bad('EXTENT_LIST_FREE', `empty record ${i} in block ${block.blkno}`, block.blkno);
        continue;
      }
      const rec = { cpos: list.cpos(i), clusters, blkno: list.blkno(i), flags: list.flags(i) };
      const prev = records.at(-1);
      if (prev && rec.cpos < prev.cpos + prev.clusters) bad('EXTENT_OVERLAP', `record at ${rec.cpos} begins before the one at ${prev.cpos} ends`, block.blkno);
      if (spec.noHoles && rec.cpos !== (prev ? prev.cpos + prev.clusters : 0)) bad('NO_HOLES', `hole before cluster ${rec.cpos}`, block.blkno);
      if (!spec.pointsToBlocks) {
        if (rec.blkno % geo.bpc !== 0) bad('EXTENT_BLKNO_UNALIGNED', `record at ${rec.cpos} begins at block ${rec.blkno}, inside a cluster`, block.blkno);
        if (rec.blkno <= 2 || rec.blkno >= geo.totalBlocks) {
          bad('EXTENT_BLKNO_RANGE', `record at ${rec.cpos} begins at block ${rec.blkno}, outside the volume`, block.blkno);
          continue;
        }
        if (rec.blkno / geo.bpc + clusters > geo.totalClusters) bad('EXTENT_CLUSTERS_OVERRUN', `record at ${rec.cpos} runs past the volume's end`, block.blkno);
      }
      if (rec.flags & EXT.UNWRITTEN && !geo.unwritten) bad('EXTENT_MARKED_UNWRITTEN', `record at ${rec.cpos} is unwritten, the volume has no such feature`, block.blkno);
      if (rec.flags & EXT.REFCOUNTED && !spec.refcounted) bad('EXTENT_MARKED_REFCOUNTED', `record at ${rec.cpos} is shared, the inode is not`, block.blkno);
      records.push(rec);
    }
  }

  await walk(spec.root, spec.base, MAX_TREE_DEPTH, true);
  leaves.forEach((leaf, i) => {
    const next = i + 1 < leaves.length ? leaves[i + 1].blkno : 0;
    if (leaf.next !== next) bad('EXTENT_LAST_EB', `leaf ${leaf.blkno} points to leaf ${leaf.next}, should be ${next}`, leaf.blkno);
    if (i + 1 < leaves.length && !leaf.full) bad('EXTENT_LEAF_FULL', `leaf ${leaf.blkno} has room but is not the last`, leaf.blkno);
  });
  const lastEb = leaves.at(-1)?.blkno ?? 0;
  if (spec.lastEb !== lastEb) bad('EXTENT_LAST_EB', `last leaf is ${lastEb}, recorded as ${spec.lastEb}`, spec.root.blkno);
  const sum = records.reduce((s, r) => s + r.clusters, 0);
  if (sum !== spec.clusters) bad(spec.clustersCode, `has ${sum} clusters, recorded are ${spec.clusters}`, spec.root.blkno);
  return records;
}
