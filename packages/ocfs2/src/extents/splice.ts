/**
 * The one primitive that changes a tree: replace adjacent records of a leaf by others.
 *
 * The kernel demands that every leaf but the rightmost is full, except for one empty record at index 0 (Linux 6.1
 * fs/ocfs2/alloc.c:ocfs2_rotate_subtree_right gives the volume up otherwise). So what does not fit moves to the front of the
 * next leaf, and so on to the right until a leaf has an empty record; what becomes free is refilled from the right until a
 * leaf has none. Alone that would cost a walk over all leaves to the right for every record put into a tree without gaps.
 * Therefore a walk that would be long leaves a gap behind in every leaf it comes through (or, refilling, none), so that the
 * walks after it are short: with records put in at random, about one leaf is rewritten for each of them, however large the
 * tree is. (Sorted arrays with gaps: the price of one walk is shared by as many records as it made gaps.)
 *
 * A walk that one transaction cannot hold is made before, from the right to the left, in several operations
 * (`op.after`): each takes the gaps of the window right of its own.
 */
import { badField } from '../format/block.js';
import type { FsContext } from '../context.js';
import type { ExtentList } from '../format/lists.js';
import { capacity } from '../format/geometry.js';
import type { Op } from '../txn/index.js';
import { appendLeaf, moveRootIntoLeaf, unlinkLastLeaf } from './grow.js';
import { type Path, addEmptyRecord, dropEmptyRecord, editList, findPath, firstLive, fixEnd, fixStart, hasEmptyRecord, isRightmost, leafBlock, nextPath, readList, setRecords } from './path.js';
import type { ExtentRec, ReopenTree, TreeRoot } from './root.js';

/**
 * Leaves a walk may pass before it counts as long, and more in large trees: the square root of twice the leaves to the right
 * is what costs least when all records go to one place (each short walk is one gap longer than the one before it).
 */
const NEAR = 16;
/** Leaves one operation rewrites at most, however large the journal is. */
const MOST_LEAVES = 2048;

/** What a walk leaves behind in the leaves it comes through, beside what it must. */
interface Walk {
  /** Leaves that still get a gap. */
  readonly spread: number;
  /** Leaves that are still filled to the last record. */
  readonly fill: number;
  /** Nothing is decided yet: if the walk gets long, make it useful. */
  readonly open: boolean;
}

/** Replace `gone` records from index `at` of the path's leaf by `recs`, and keep every invariant of the tree. */
export function splice(op: Op, ctx: FsContext, tree: TreeRoot, path: Path, at: number, gone: number, recs: readonly ExtentRec[]): void {
  walkRight(op, ctx, tree, path, at, gone, recs, { spread: 0, fill: 0, open: true });
}

function walkRight(op: Op, ctx: FsContext, tree: TreeRoot, path: Path, at: number, gone: number, recs: readonly ExtentRec[], walk: Walk): void {
  let { spread } = walk;
  for (let first = true; ; first = false) {
    const list = editList(op, tree, leafBlock(path));
    if (dropEmptyRecord(list)) at--;
    let carry = put(list, at, gone, recs);
    if (first && walk.open && carry.length > 0 && tree.rules.emptyRecords) spread = planSpread(op, ctx, tree, path, carry.length);
    const leavesGap = spread-- > 0 && !isRightmost(op, tree, path);
    if (leavesGap) {
      if (list.nextFree === list.count) carry = [...rawRecords(list, --list.nextFree, list.count), ...carry];
      addEmptyRecord(list);
    }
    if (carry.length === 0 && !leavesGap) return settle(op, ctx, tree, path, list, walk);
    // What did not fit goes to the front of the next leaf, or into new ones.
    fixStart(op, tree, path);
    const next = nextPath(op, tree, path);
    if (next === undefined && path.index.length > 0) return appendLeaves(op, ctx, tree, carry);
    path = next ?? moveRootIntoLeaf(op, ctx, tree);
    at = next === undefined ? list.count : firstLive(readList(op, tree, leafBlock(path)));
    gone = 0;
    recs = carry;
  }
}

function appendLeaves(op: Op, ctx: FsContext, tree: TreeRoot, recs: readonly ExtentRec[]): void {
  const most = capacity.extentBlock(tree.geo.blockSize);
  for (let i = 0; i < recs.length; i += most) appendLeaf(op, ctx, tree, recs.slice(i, i + most));
}

/** After a splice: refill the leaf or unlink it, and make the interior records agree with it. */
function settle(op: Op, ctx: FsContext, tree: TreeRoot, path: Path, list: ExtentList, walk: Walk): void {
  if (path.index.length === 0) return;
  let { fill } = walk;
  if (walk.open && tree.rules.emptyRecords && list.nextFree < list.count - 1) fill = planFill(op, ctx, tree, path, list.count - 1 - list.nextFree);
  // One free place may stay, as the empty record; more are filled from the right. What comes may join the last record.
  const wanted = fill > 0 || !tree.rules.emptyRecords ? list.count : list.count - 1;
  const after: Walk = { spread: 0, fill: Math.max(fill - 1, 0), open: walk.open && fill === 0 };
  const complete = list.nextFree >= wanted;
  while (list.nextFree < wanted) {
    const next = nextPath(op, tree, path);
    if (next === undefined) break;
    const from = readList(op, tree, leafBlock(next));
    const first = firstLive(from);
    const k = Math.min(wanted - list.nextFree, from.nextFree - first);
    if (k === 0) throw badField(from.block, 'extent_block.h_list', 'l_next_free_rec', from.nextFree, 'leaves a leaf without records');
    const recs: ExtentRec[] = [];
    for (let i = 0; i < k; i++) recs.push(record(tree, from, first + i));
    const joins = list.nextFree > 0 ? 1 : 0;
    if (joins > 0) recs.unshift(record(tree, list, list.nextFree - 1));
    put(list, list.nextFree - joins, joins, joined(tree, recs));
    walkRight(op, ctx, tree, next, first, k, [], after);
  }
  if (isRightmost(op, tree, path)) {
    if (list.nextFree === 0) return unlinkLastLeaf(op, ctx, tree, path);
    fixEnd(op, tree, path);
  } else if (list.nextFree < list.count) {
    addEmptyRecord(list);
  }
  fixStart(op, tree, path);
  const next = complete && after.fill > 0 ? nextPath(op, tree, path) : undefined;
  if (next !== undefined) walkRight(op, ctx, tree, next, firstLive(readList(op, tree, leafBlock(next))), 0, [], after);
}

/** How many leaves, from the path's on, get a gap while `carry` records move to the right: none if a gap is near. */
function planSpread(op: Op, ctx: FsContext, tree: TreeRoot, path: Path, carry: number): number {
  return plan(op, ctx, tree, path, carry, 'spread');
}

/** How many leaves, from the path's on, are filled while `need` records come from the right: none if a full leaf is near. */
function planFill(op: Op, ctx: FsContext, tree: TreeRoot, path: Path, need: number): number {
  return plan(op, ctx, tree, path, need, 'fill');
}

function plan(op: Op, ctx: FsContext, tree: TreeRoot, path: Path, records: number, what: 'spread' | 'fill'): number {
  const right = leavesRight(op, tree, path);
  if (endsWithin(op, tree, path, records, what, Math.max(NEAR, Math.ceil(Math.sqrt(2 * right))))) return 0;
  const limit = Math.min(MOST_LEAVES, Math.floor(ctx.engine.log.maxBlocks / 2));
  if (right <= limit) return Number.POSITIVE_INFINITY;
  const { reopen } = tree;
  if (reopen === undefined || endsWithin(op, tree, path, records, what, limit)) return 0;
  const cpos = startOf(op, tree, path);
  op.after('long walk in an extent tree', () => walkInWindows(ctx, reopen, cpos, Math.floor(limit / 3), what));
}

/** Does a walk of that many records end within `leaves` leaves: at gaps (or, filling, at full leaves) or at the right edge? */
function endsWithin(op: Op, tree: TreeRoot, path: Path, records: number, what: 'spread' | 'fill', leaves: number): boolean {
  let found = 0;
  let at: Path | undefined = path;
  for (let i = 0; i < leaves && found < records; i++) {
    at = nextPath(op, tree, at);
    if (at === undefined) return true;
    if (hasEmptyRecord(readList(op, tree, leafBlock(at))) === (what === 'spread')) found++;
  }
  return found >= records || isRightmost(op, tree, at);
}

/** Leaves right of the path's, at most. */
function leavesRight(op: Op, tree: TreeRoot, path: Path): number {
  const fanOut = capacity.extentBlock(tree.geo.blockSize);
  return path.index.reduce((sum, i, level) => sum + (readList(op, tree, path.blocks[level]).nextFree - 1 - i) * fanOut ** (path.index.length - 1 - level), 0);
}

/** Where the path's leaf begins, as the list above it says. */
function startOf(op: Op, tree: TreeRoot, path: Path): number {
  const parent = path.index.length - 1;
  return readList(op, tree, path.blocks[parent]).cpos(path.index[parent]);
}

/** Give each leaf from `cpos` to the right edge a gap (or fill it), `window` leaves at a time, from the right: each window uses the one after it. */
async function walkInWindows(ctx: FsContext, reopen: ReopenTree, cpos: number, window: number, what: 'spread' | 'fill'): Promise<void> {
  const starts = await ctx.engine.read('windows of an extent tree', (op) => {
    const tree = reopen(op);
    const found: number[] = [];
    let path = tree && findPath(op, tree, cpos);
    for (let i = 0; tree !== undefined && path !== undefined && path.index.length > 0; i++, path = nextPath(op, tree, path)) {
      if (i % window === 0) found.push(startOf(op, tree, path));
    }
    return found;
  });
  for (const start of starts.reverse()) {
    await ctx.engine.run('move records of an extent tree', (op) => {
      const tree = reopen(op);
      if (tree === undefined) return;
      const path = findPath(op, tree, start);
      walkRight(op, ctx, tree, path, firstLive(readList(op, tree, leafBlock(path))), 0, [], { spread: 0, fill: 0, open: false, [what]: window });
    });
  }
}

/** Splice the leaf's records as far as they fit; returns what does not. The list has no empty record. */
function put(list: ExtentList, at: number, gone: number, recs: readonly ExtentRec[]): ExtentRec[] {
  const old = list.nextFree, used = old - gone + recs.length;
  if (used <= list.count) {
    list.move(at + gone, at + recs.length, old - at - gone);
    setRecords(list, at, recs);
    list.clear(used, old - used);
    list.nextFree = used;
    return [];
  }
  const over = used - list.count, kept = old - at - gone - over;
  list.nextFree = list.count;
  if (kept >= 0) {
    const carry = rawRecords(list, old - over, old);
    list.move(at + gone, at + recs.length, kept);
    setRecords(list, at, recs);
    return carry;
  }
  const tail = [...recs, ...rawRecords(list, at + gone, old)];
  setRecords(list, at, tail.slice(0, list.count - at));
  return tail.slice(list.count - at);
}

/** Records [from, to) as they are. */
function rawRecords(list: ExtentList, from: number, to: number): ExtentRec[] {
  const out: ExtentRec[] = [];
  for (let i = from; i < to; i++) out.push({ cpos: list.cpos(i), clusters: list.clusters(i), blkno: list.blkno(i), flags: list.flags(i) });
  return out;
}

/** Record `i` of a leaf, checked. */
export function record(tree: TreeRoot, list: ExtentList, i: number): ExtentRec {
  const cpos = list.cpos(i), clusters = list.clusters(i), blkno = list.blkno(i), flags = list.flags(i);
  if (clusters === 0) throw badField(list.block, tree.rules.structure, `rec[${i}].e_leaf_clusters`, 0, 'marks an empty record, which is allowed at index 0 only');
  const blocks = tree.rules.inClusters ? clusters * tree.geo.bpc : clusters;
  if (blkno === 0 || blkno + blocks > tree.volumeBlocks || (tree.rules.inClusters && blkno % tree.geo.bpc !== 0)) {
    throw badField(list.block, tree.rules.structure, `rec[${i}].e_blkno`, blkno, `is no place for ${clusters} clusters on a volume of ${tree.volumeBlocks} blocks`);
  }
  return { cpos, clusters, blkno, flags };
}

/** May `b` be appended to `a`? Flags equal, adjacent in the file and on the volume, not too long together. */
export function continues(tree: TreeRoot, a: ExtentRec, b: ExtentRec): boolean {
  return tree.rules.merges && a.flags === b.flags && a.cpos + a.clusters === b.cpos && a.blkno + a.clusters * tree.geo.bpc === b.blkno && a.clusters + b.clusters <= tree.rules.maxRecord;
}

/** Join what can be joined in a run of records. */
export function joined(tree: TreeRoot, recs: readonly ExtentRec[]): ExtentRec[] {
  const out: ExtentRec[] = [];
  for (const rec of recs) {
    const last = out.at(-1);
    if (last !== undefined && continues(tree, last, rec)) out[out.length - 1] = { ...last, clusters: last.clusters + rec.clusters };
    else out.push(rec);
  }
  return out;
}
