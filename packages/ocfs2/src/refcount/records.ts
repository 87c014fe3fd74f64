/**
 * The record list of one refcount block: physical clusters and how many extents refer to them. Records are sorted, do not
 * overlap, hold a count of one or more, and adjacent ones of one count are one (Linux 6.1
 * fs/ocfs2/refcounttree.c:ocfs2_split_refcount_rec, ocfs2_refcount_rec_merge).
 */
import { type Block, badField } from '../format/block.js';
import { RefcountRecList } from '../format/lists.js';

/** Clusters [start, start + clusters) of the volume, referred to `count` times. */
export interface Counted {
  readonly start: number;
  readonly clusters: number;
  readonly count: number;
}

/** r_clusters and r_refcount are 32 bits wide. */
const MOST = 0xffff_ffff;

/** Index of the first record that ends after `cluster`. */
export function firstAfter(list: RefcountRecList, cluster: number): number {
  let lo = 0, hi = list.used;
  while (lo < hi) {
    const mid = (lo + hi) >>> 1;
    if (list.cpos(mid) + list.clusters(mid) <= cluster) lo = mid + 1;
    else hi = mid;
  }
  return lo;
}

/** Record `i`, checked. `total`: clusters of the volume. */
export function recordAt(total: number, list: RefcountRecList, i: number): Counted {
  const start = list.cpos(i), clusters = list.clusters(i), count = list.refcount(i);
  const bad = (field: string, value: number, why: string) => badField(list.block, 'refcount_block.rf_records', `rec[${i}].${field}`, value, why);
  if (clusters === 0) throw bad('r_clusters', 0, 'covers nothing');
  if (start < 1 || start + clusters > total) throw bad('r_cpos', start, 'is outside the volume');
  if (count === 0) throw bad('r_refcount', 0, 'counts nobody');
  if (i > 0 && list.cpos(i - 1) + list.clusters(i - 1) > start) throw bad('r_cpos', start, 'lies before the end of the record before it');
  return { start, clusters, count };
}

/**
 * The records that stand in place of [from, to) of the list when clusters [start, start + len), which one record or none
 * covers whole, get another count. Undefined: the block has no room for them.
 */
function replacement(total: number, list: RefcountRecList, start: number, len: number, count: number): { from: number; to: number; recs: Counted[] } | undefined {
  const i = firstAfter(list, start);
  const old = i < list.used && list.cpos(i) <= start ? recordAt(total, list, i) : undefined;
  let from = i, to = old === undefined ? i : i + 1;
  const recs: Counted[] = [];
  if (old !== undefined && old.start < start) recs.push({ ...old, clusters: start - old.start });
  if (count > 0) recs.push({ start, clusters: len, count });
  if (old !== undefined && start + len < old.start + old.clusters) recs.push({ start: start + len, clusters: old.start + old.clusters - start - len, count: old.count });
  const joins = (a: Counted, b: Counted) => a.count === b.count && a.start + a.clusters === b.start && a.clusters + b.clusters <= MOST;
  if (recs.length > 0 && from > 0) {
    const left = recordAt(total, list, from - 1);
    if (joins(left, recs[0])) {
      recs[0] = { ...left, clusters: left.clusters + recs[0].clusters };
      from--;
    }
  }
  const last = recs.at(-1);
  if (last !== undefined && to < list.used) {
    const right = recordAt(total, list, to);
    if (joins(last, right)) {
      recs[recs.length - 1] = { ...last, clusters: last.clusters + right.clusters };
      to++;
    }
  }
  return list.used - (to - from) + recs.length > list.count ? undefined : { from, to, recs };
}

/** Would the change fit the block? */
export function fits(total: number, block: Block, start: number, len: number, count: number): boolean {
  return replacement(total, new RefcountRecList(block), start, len, count) !== undefined;
}

/** Give clusters [start, start + len), which one record or none covers whole, another count; 0 takes them out. `fits` must hold. */
export function setCount(total: number, block: Block, start: number, len: number, count: number): void {
  const list = new RefcountRecList(block);
  const change = replacement(total, list, start, len, count);
  if (change === undefined || count > MOST) throw badField(block, 'refcount_block.rf_records', 'rl_used', list.used, 'leaves no room for another record');
  const { from, to, recs } = change;
  const used = list.used;
  list.move(to, from + recs.length, used - to);
  for (const [k, rec] of recs.entries()) list.set(from + k, rec.start, rec.clusters, rec.count);
  list.used = used - (to - from) + recs.length;
  list.clear(list.used, Math.max(0, used - list.used));
}

/** Move the upper half of a full block's records to an empty one; returns the first cluster that moved. */
export function splitRecords(from: Block, to: Block): number {
  const list = new RefcountRecList(from), upper = new RefcountRecList(to);
  const middle = list.used >>> 1, moved = list.used - middle;
  to.bytes.set(from.bytes.subarray(list.at(middle), list.at(list.used)), upper.at(0));
  upper.used = moved;
  list.clear(middle, moved);
  list.used = middle;
  return upper.cpos(0);
}
