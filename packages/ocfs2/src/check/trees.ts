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

/** Extent blocks read ahead of the one being checked. */
const CHILDREN_AHEAD = 16;

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
  /** What is not a file's data is always written. */
  readonly written?: boolean;
}

/** Check a tree and return its leaf records in order: those that can be used, whatever else is wrong with it. */
export async function checkTree(c: Checker, spec: TreeSpec): Promise<ExtentRecord[]> {
  const tree = new TreeCheck(c, spec);
  await tree.walk(spec.root, spec.base, MAX_TREE_DEPTH, true);
  return tree.finish();
}

/** checkTree for a root without extent blocks, that is, most: nothing is waited for. */
export function checkFlatTree(c: Checker, spec: TreeSpec): ExtentRecord[] {
  const tree = new TreeCheck(c, spec);
  tree.leaf(spec.root, spec.base, true);
  return tree.finish();
}

/** The tree has extent blocks below its root. */
export function isDeep(root: Block, base: number): boolean {
  return new ExtentList(root, base).depth > 0;
}

class TreeCheck {
  readonly #records: ExtentRecord[] = [];
  readonly #leaves: { blkno: number; next: number; full: boolean }[] = [];
  #sum = 0;

  constructor(private readonly c: Checker, private readonly spec: TreeSpec) {}

  async walk(block: Block, base: number, parentDepth: number, isRoot: boolean): Promise<void> {
    const { c, spec } = this;
    const list = new ExtentList(block, base);
    if (list.depth >= MAX_TREE_DEPTH || (!isRoot && list.depth !== parentDepth - 1)) {
      this.#bad('EXTENT_LIST_DEPTH', `list in block ${block.blkno} has depth ${list.depth}`, block.blkno);
      return;
    }
    if (list.depth === 0) return this.leaf(block, base, isRoot);
    const children: Promise<Block | undefined>[] = [];
    const child = (i: number): Promise<Block | undefined> => (children[i] ??= this.#child(block, list, i));
    const n = Math.min(list.nextFree, list.count);
    for (let i = 0; i < n; i++) {
      if (i > 0 && list.cpos(i) !== list.end(i - 1)) this.#bad('EXTENT_RANGES', `interior records ${i - 1} and ${i} of block ${block.blkno} do not meet (${list.end(i - 1)}, ${list.cpos(i)})`, block.blkno);
      for (let next = i; next < Math.min(n, i + CHILDREN_AHEAD); next++) void child(next);
      const eb = await child(i);
      delete children[i];
      if (eb === undefined) continue;
      const view = ExtentBlock.at(eb);
      const fresh = c.guardSync('EXTENT_EB_INVALID', spec.who, () =>
        c.refer({ blkno: eb.blkno, slot: view.suballocSlot, bit: view.suballocBit, loc: view.suballocLoc, who: `extent block of ${spec.who}` }));
      // Seen before: a loop, or two trees that grew together. What is below is known; following it again could take for ever.
      if (!fresh) continue;
      const before = this.#records.length;
      await this.walk(eb, EB_LIST, list.depth, false);
      const first = this.#records.at(before), last = this.#records.at(-1);
      if (first === undefined || last === undefined) continue;
      // Only the leftmost path may begin before its first record (5.2, exception to 3).
      if (before > 0 && first.cpos !== list.cpos(i)) this.#bad('EXTENT_RANGES', `record ${i} of block ${block.blkno} begins at ${list.cpos(i)}, its child at ${first.cpos}`, block.blkno);
      if (last.cpos + last.clusters > list.end(i)) this.#bad('EXTENT_RANGES', `record ${i} of block ${block.blkno} ends at ${list.end(i)}, its child at ${last.cpos + last.clusters}`, block.blkno);
    }
    if (n === 0) this.#bad('EXTENT_LIST_FREE', `list in block ${block.blkno} has depth ${list.depth} and no records`, block.blkno);
  }

  /** A child's block; undefined if there is none to be had, which is reported. Never rejects but for a bug of ours. */
  async #child(block: Block, list: ExtentList, i: number): Promise<Block | undefined> {
    const { c, spec } = this;
    return c.guard('EXTENT_EB_INVALID', spec.who, async () => {
      const child = list.blkno(i);
      if (child > 2 && child < c.geo.totalBlocks) return c.reader.read(child, EXTENT_BLOCK);
      this.#bad('EXTENT_EB_INVALID', `record ${i} of block ${block.blkno} points to block ${child}, outside the volume`, block.blkno);
      return undefined;
    });
  }

  /** A list of depth 0: its records are the tree's. */
  leaf(block: Block, base: number, isRoot: boolean): void {
    const { c, spec } = this;
    const list = new ExtentList(block, base);
    if (!isRoot) {
      const next = c.guardSync('EXTENT_LAST_EB', spec.who, () => ExtentBlock.at(block).nextLeafBlk);
      this.#leaves.push({ blkno: block.blkno, next: next ?? -1, full: list.nextFree === list.count });
    }
    const n = Math.min(list.nextFree, list.count);
    if (n < list.nextFree) this.#bad('EXTENT_LIST_FREE', `list in block ${block.blkno} has ${list.nextFree} of ${list.count} records`, block.blkno);
    for (let i = 0; i < n; i++) {
      const clusters = list.clusters(i);
      this.#sum += clusters;
      if (clusters === 0) {
        if (i > 0) this.#bad('EXTENT_LIST_FREE', `empty record ${i} in block ${block.blkno}`, block.blkno);
        continue;
      }
      const rec = c.guardSync('EXTENT_BLKNO_RANGE', spec.who, () => ({ cpos: list.cpos(i), clusters, blkno: list.blkno(i), flags: list.flags(i) }));
      if (rec !== undefined && this.#checkRecord(rec, block.blkno)) this.#records.push(rec);
    }
  }

  /** True if the record can be used. */
  #checkRecord(rec: ExtentRecord, at: number): boolean {
    const { spec } = this;
    const { geo } = this.c;
    const prev = this.#records.at(-1);
    if (prev !== undefined && rec.cpos < prev.cpos + prev.clusters) this.#bad('EXTENT_OVERLAP', `record at ${rec.cpos} begins before the one at ${prev.cpos} ends`, at);
    if (spec.noHoles && rec.cpos !== (prev ? prev.cpos + prev.clusters : 0)) this.#bad('NO_HOLES', `hole before cluster ${rec.cpos}`, at);
    if (rec.flags & EXT.UNWRITTEN && !geo.unwritten) this.#bad('EXTENT_MARKED_UNWRITTEN', `record at ${rec.cpos} is unwritten, the volume has no such feature`, at);
    if (rec.flags & EXT.UNWRITTEN && spec.written) this.#bad('EXTENT_MARKED_UNWRITTEN', `record at ${rec.cpos} is unwritten, though it is no data`, at);
    if (rec.flags & EXT.REFCOUNTED && !spec.refcounted) this.#bad('EXTENT_MARKED_REFCOUNTED', `record at ${rec.cpos} is shared, the inode is not`, at);
    if (rec.flags & ~(EXT.UNWRITTEN | EXT.REFCOUNTED)) this.#bad('EXTENT_FLAGS', `record at ${rec.cpos} has flags 0x${rec.flags.toString(16)} that do not exist`, at);
    if (rec.blkno <= 2 || rec.blkno >= geo.totalBlocks) {
      this.#bad('EXTENT_BLKNO_RANGE', `record at ${rec.cpos} begins at block ${rec.blkno}, outside the volume`, at);
      return false;
    }
    if (spec.pointsToBlocks) return true;
    if (rec.blkno % geo.bpc !== 0) this.#bad('EXTENT_BLKNO_UNALIGNED', `record at ${rec.cpos} begins at block ${rec.blkno}, inside a cluster`, at);
    if (Math.floor(rec.blkno / geo.bpc) + rec.clusters <= geo.totalClusters) return true;
    this.#bad('EXTENT_CLUSTERS_OVERRUN', `record at ${rec.cpos} runs past the volume's end`, at);
    return false;
  }

  /** What only the whole tells: the chain of leaves, the last one, the sum. */
  finish(): ExtentRecord[] {
    const { spec } = this;
    const leaves = this.#leaves;
    leaves.forEach((leaf, i) => {
      const next = i + 1 < leaves.length ? leaves[i + 1].blkno : 0;
      if (leaf.next !== next) this.#bad('EXTENT_LAST_EB', `leaf ${leaf.blkno} points to leaf ${leaf.next}, should be ${next}`, leaf.blkno);
      if (i + 1 < leaves.length && !leaf.full) this.#bad('EXTENT_LEAF_FULL', `leaf ${leaf.blkno} has room but is not the last`, leaf.blkno);
    });
    const lastEb = leaves.at(-1)?.blkno ?? 0;
    if (spec.lastEb !== lastEb) this.#bad('EXTENT_LAST_EB', `last leaf is ${lastEb}, recorded as ${spec.lastEb}`, spec.root.blkno);
    if (this.#sum !== spec.clusters) this.#bad(spec.clustersCode, `has ${this.#sum} clusters, recorded are ${spec.clusters}`, spec.root.blkno);
    return this.#records;
  }

  #bad(code: string, text: string, block: number): void {
    this.c.findings.error(code, `${this.spec.who}: ${text}`, block);
  }
}
