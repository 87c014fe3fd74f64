/**
 * All invariants of an extent tree (ondisk-format.md 5.2) over an operation's present bytes. For tests, after every step,
 * and wherever a tree is about to be trusted wholesale. The verifier of whole volumes (check/) reads from the device.
 */
import { EXT } from '../format/constants.js';
import { EXTENT_BLOCK } from '../format/kinds.js';
import type { ExtentList } from '../format/lists.js';
import { ExtentBlock } from '../format/structs.js';
import type { Op } from '../txn/index.js';
import { firstLive, hasEmptyRecord, readList } from './path.js';
import type { TreeRoot } from './root.js';

interface Walk {
  readonly op: Op;
  readonly tree: TreeRoot;
  readonly problems: string[];
  /** Blocks of the leaves that are extent blocks, left to right. */
  readonly leaves: number[];
  clusters: number;
  /** End of the last leaf record seen. */
  end: number;
}

/** What is wrong with the tree, empty when nothing is. Throws only a `Need` or for blocks that are no extent blocks at all. */
export function checkTree(op: Op, tree: TreeRoot): string[] {
  const walk: Walk = { op, tree, problems: [], leaves: [], clusters: 0, end: 0 };
  const root = tree.list();
  checkList(walk, root, true, true);
  const { problems, leaves } = walk;
  if (walk.clusters !== tree.clusters) problems.push(`root counts ${tree.clusters} clusters, the leaves hold ${walk.clusters}`);
  const last = leaves.at(-1) ?? 0;
  if (tree.lastEb !== last) problems.push(`root's last leaf is ${tree.lastEb}, the rightmost is ${last}`);
  leaves.forEach((blkno, i) => {
    const next = ExtentBlock.at(op.read(tree.owner, blkno, EXTENT_BLOCK)).nextLeafBlk;
    if (next !== (leaves[i + 1] ?? 0)) problems.push(`leaf ${blkno} links to ${next}, the next leaf is ${leaves[i + 1] ?? 0}`);
  });
  return problems;
}

/** Checks a list and everything below; returns the cpos of its first live leaf record (undefined: none). */
function checkList(walk: Walk, list: ExtentList, leftmost: boolean, rightmost: boolean): number | undefined {
  const { problems, tree } = walk;
  const where = `block ${list.block.blkno}`;
  if (list.nextFree > list.count) problems.push(`${where}: ${list.nextFree} records of ${list.count}`);
  for (let i = list.nextFree; i < list.count; i++) if (list.blkno(i) !== 0 || list.cpos(i) !== 0) problems.push(`${where}: unused record ${i} is not zero`);
  if (list.depth === 0) return checkLeaf(walk, list, rightmost);
  if (list.nextFree === 0) problems.push(`${where}: interior list without records`);
  let first: number | undefined;
  for (let i = 0; i < list.nextFree; i++) {
    const below = readList(walk.op, tree, list.blkno(i));
    if (below.depth !== list.depth - 1) {
      problems.push(`${where}: child ${below.block.blkno} has depth ${below.depth} below ${list.depth}`);
      return first;
    }
    const isLast = i === list.nextFree - 1;
    const start = checkList(walk, below, leftmost && i === 0, rightmost && isLast);
    if (i === 0) first = start;
    if (leftmost && i === 0 ? list.cpos(0) > (start ?? 0) : list.cpos(i) !== start) problems.push(`${where}: record ${i} starts at ${list.cpos(i)}, its child at ${start}`);
    if (!isLast && list.end(i) !== list.cpos(i + 1)) problems.push(`${where}: record ${i} ends at ${list.end(i)}, the next starts at ${list.cpos(i + 1)}`);
    if (isLast && rightmost && list.end(i) !== walk.end) problems.push(`${where}: rightmost record ends at ${list.end(i)}, the tree at ${walk.end}`);
    // Below a left neighbour the last records reach to that neighbour's end as well.
    if (below.depth > 0 && below.nextFree > 0 && below.end(below.nextFree - 1) !== list.end(i)) problems.push(`${where}: record ${i} ends at ${list.end(i)}, its child's last at ${below.end(below.nextFree - 1)}`);
  }
  return first;
}

function checkLeaf(walk: Walk, list: ExtentList, rightmost: boolean): number | undefined {
  const { problems, tree } = walk;
  const where = `leaf ${list.block.blkno}`;
  if (list.block.blkno !== tree.blkno) {
    walk.leaves.push(list.block.blkno);
    if (!rightmost && list.nextFree !== list.count) problems.push(`${where}: not the rightmost, but ${list.nextFree} records of ${list.count}`);
    if (list.nextFree === firstLive(list)) problems.push(`${where}: no live record`);
    if (rightmost && hasEmptyRecord(list)) problems.push(`${where}: rightmost leaf with an empty record`);
  }
  for (let i = firstLive(list); i < list.nextFree; i++) {
    if (list.clusters(i) === 0 || list.clusters(i) > tree.rules.maxRecord) problems.push(`${where}: record ${i} of ${list.clusters(i)} clusters`);
    if (list.cpos(i) < walk.end) problems.push(`${where}: record ${i} at ${list.cpos(i)} overlaps the one before, which ends at ${walk.end}`);
    if (tree.rules.inClusters && list.blkno(i) % tree.geo.bpc !== 0) problems.push(`${where}: record ${i} at block ${list.blkno(i)} is not cluster aligned`);
    if (list.flags(i) & ~(EXT.UNWRITTEN | EXT.REFCOUNTED)) problems.push(`${where}: record ${i} has flags ${list.flags(i)}`);
    walk.end = list.end(i);
    walk.clusters += list.clusters(i);
  }
  return firstLive(list) < list.nextFree ? list.cpos(firstLive(list)) : undefined;
}
