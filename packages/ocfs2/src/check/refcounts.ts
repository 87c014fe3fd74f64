/** Refcount trees against the extents that refer to them: every shared cluster counted exactly (ondisk-format.md 7.4). */
import type { Block } from '../format/block.js';
import { REFCOUNT_BLOCK } from '../format/kinds.js';
import { RefcountRecList } from '../format/lists.js';
import { REFCOUNT_LEAF, REFCOUNT_LIST, REFCOUNT_TREE, RefcountBlock } from '../format/structs.js';
import type { Checker } from './checker.js';
import type { RunList } from './run-list.js';
import { checkTree } from './trees.js';

interface Record {
  start: number;
  end: number;
  count: number;
}

export async function checkRefcountTrees(c: Checker): Promise<void> {
  for (const [blkno, { runs, inodes }] of [...c.shared].sort((a, b) => a[0] - b[0])) {
    await c.guard('REFCOUNT_ROOT_BLOCK_INVALID', `refcount tree ${blkno}`, async () => {
      const root = await c.reader.read(blkno, REFCOUNT_BLOCK);
      const rb = RefcountBlock.at(root);
      c.refer({ blkno, slot: rb.suballocSlot, bit: rb.suballocBit, loc: rb.suballocLoc, who: `refcount tree ${blkno}` });
      if (rb.flags & ~REFCOUNT_TREE) c.findings.error('REFCOUNT_BLOCK_INVALID', `refcount tree ${blkno} has flags 0x${rb.flags.toString(16)}, a root has none or ${REFCOUNT_TREE}`, blkno);
      if (rb.parent !== 0) c.findings.error('RB_PARENT', `refcount tree ${blkno} says it hangs below ${rb.parent}`, blkno);
      if (rb.count !== inodes) c.findings.error('REFCOUNT_COUNT', `refcount tree ${blkno} counts ${rb.count} inodes, ${inodes} use it`, blkno);
      const records: Record[] = [];
      if (rb.flags & REFCOUNT_TREE) {
        const leaves = await checkTree(c, {
          root, base: REFCOUNT_LIST, who: `refcount tree ${blkno}`, lastEb: rb.lastEbBlk, clusters: rb.clusters, clustersCode: 'REFCOUNT_CLUSTERS', pointsToBlocks: true, written: true,
        });
        for (const leaf of leaves) {
          const block = await c.reader.read(leaf.blkno, REFCOUNT_BLOCK);
          const view = RefcountBlock.at(block);
          c.refer({ blkno: leaf.blkno, slot: view.suballocSlot, bit: view.suballocBit, loc: view.suballocLoc, who: `refcount leaf of ${blkno}` });
          if (view.parent !== blkno) c.findings.error('RB_PARENT', `refcount leaf ${leaf.blkno} says its root is ${view.parent}, it is ${blkno}`, leaf.blkno);
          if (view.flags !== REFCOUNT_LEAF || view.cpos !== leaf.cpos) c.findings.error('REFCOUNT_BLOCK_INVALID', `refcount leaf ${leaf.blkno} has flags ${view.flags} and key ${view.cpos}, its record says ${leaf.cpos}`, leaf.blkno);
          if (view.generation !== rb.generation) c.findings.error('REFCOUNT_BLOCK_INVALID', `refcount leaf ${leaf.blkno} is of generation ${view.generation}, its tree of ${rb.generation}`, leaf.blkno);
          const list = new RefcountRecList(block);
          if (list.used === 0) c.findings.error('REFCOUNT_LIST_EMPTY', `refcount leaf ${leaf.blkno} has no records`, leaf.blkno);
          else if (list.cpos(0) < view.cpos) c.findings.error('REFCOUNT_BLOCK_INVALID', `refcount leaf ${leaf.blkno} begins at cluster ${list.cpos(0)}, below its key ${view.cpos}`, leaf.blkno);
          gather(c, block, records);
        }
      } else gather(c, root, records);
      compare(c, blkno, records, runs);
    });
  }
}

function gather(c: Checker, block: Block, out: Record[]): void {
  const list = new RefcountRecList(block);
  for (let i = 0; i < list.used; i++) {
    const start = list.cpos(i), end = start + list.clusters(i);
    if (list.clusters(i) === 0 || end > c.geo.totalClusters) c.findings.error('REFCOUNT_CLUSTER_RANGE', `refcount record ${i} of block ${block.blkno} covers ${start}..${end}`, block.blkno);
    if (out.length > 0 && start < out[out.length - 1].end) c.findings.error('REFCOUNT_CLUSTER_COLLISION', `refcount record ${i} of block ${block.blkno} overlaps the one before`, block.blkno);
    if (list.refcount(i) === 0) c.findings.error('REFCOUNT_COUNT_INVALID', `refcount record ${i} of block ${block.blkno} counts nobody`, block.blkno);
    out.push({ start, end, count: list.refcount(i) });
  }
}

/** Sweep over both lists' edges; they must agree cluster by cluster. */
function compare(c: Checker, root: number, records: readonly Record[], runs: RunList): void {
  const edges = new Map<number, { actual: number; recorded: number }>();
  const edge = (at: number) => {
    let e = edges.get(at);
    if (!e) edges.set(at, (e = { actual: 0, recorded: 0 }));
    return e;
  };
  for (let i = 0; i < runs.length; i++) {
    edge(runs.start(i)).actual++;
    edge(runs.start(i) + runs.clusters(i)).actual--;
  }
  for (const r of records) {
    edge(r.start).recorded += r.count;
    edge(r.end).recorded -= r.count;
  }
  let actual = 0, recorded = 0;
  for (const at of [...edges.keys()].sort((a, b) => a - b)) {
    const e = edges.get(at)!;
    actual += e.actual;
    recorded += e.recorded;
    if (actual !== recorded) c.findings.error(actual === 0 ? 'REFCOUNT_REC_REDUNDANT' : 'REFCOUNT_COUNT_INVALID', `refcount tree ${root}: from cluster ${at}, ${actual} extents refer, the tree counts ${recorded}`, root);
  }
}

