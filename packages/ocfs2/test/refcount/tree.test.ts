/** Refcount trees by themselves against counts in memory: records that split and join, leaves that split and go, deep trees, and back to nothing. */
import { Random } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { statClusters } from '../../src/alloc/index.js';
import type { FsContext } from '../../src/context.js';
import { checkTree, refcountTree, walk } from '../../src/extents/index.js';
import { REFCOUNT_BLOCK, REFCOUNT_TREE, RefcountBlock, RefcountRecList } from '../../src/format/index.js';
import { EX } from '../../src/locking/levels.js';
import { type RefTree, addRefs, countOf, dropRefs, ensureRefTree, leaveRefTree, openRefTree } from '../../src/refcount/index.js';
import { seed } from '../../../../test/support/temp.js';
import { openTestContext } from '../support/context.js';
import { makeFile } from '../support/files.js';
import { GEOMETRIES, makeVolume } from '../support/volume.js';

const SEED = seed('refcount tree');

function change(ctx: FsContext, ino: number, work: (tree: RefTree) => void): Promise<void> {
  return ctx.engine.run('refcounts', (op) => work(ensureRefTree(op, ctx, ctx.editInode(op, ino))));
}

/** Every record in order, after checking all there is to check about the tree's shape. */
function records(ctx: FsContext, ino: number): Promise<{ recs: { start: number; clusters: number; count: number }[]; leaves: number; depth: number }> {
  return ctx.engine.read('records', (op) => {
    const tree = openRefTree(op, ctx, ctx.inode(op, ino, EX), EX);
    const root = op.read(tree.lock, tree.root, REFCOUNT_BLOCK);
    const recs: { start: number; clusters: number; count: number }[] = [];
    const gather = (list: RefcountRecList): void => {
      for (let i = 0; i < list.used; i++) recs.push({ start: list.cpos(i), clusters: list.clusters(i), count: list.refcount(i) });
    };
    if (!(RefcountBlock.at(root).flags & REFCOUNT_TREE)) {
      gather(new RefcountRecList(root));
      return { recs, leaves: 0, depth: 0 };
    }
    const keys = refcountTree(tree.lock, tree.root, op, ctx);
    expect(checkTree(op, keys)).toEqual([]);
    let leaves = 0;
    for (const key of walk(op, keys)) {
      const leaf = op.read(tree.lock, key.blkno, REFCOUNT_BLOCK), list = new RefcountRecList(leaf);
      expect(RefcountBlock.at(leaf)).toMatchObject({ cpos: key.cpos, parent: tree.root, generation: RefcountBlock.at(root).generation });
      expect(list.used).toBeGreaterThan(0);
      expect(list.cpos(0)).toBeGreaterThanOrEqual(key.cpos);
      gather(list);
      leaves++;
    }
    return { recs, leaves, depth: keys.list().depth };
  });
}

/** A volume's counts, cluster by cluster, as the records that must stand for them. */
function expected(counts: Uint16Array): { start: number; clusters: number; count: number }[] {
  const out: { start: number; clusters: number; count: number }[] = [];
  for (let at = 0; at < counts.length; at++) {
    const last = out.at(-1);
    if (counts[at] === 0) continue;
    if (last !== undefined && last.count === counts[at] && last.start + last.clusters === at) last.clusters++;
    else out.push({ start: at, clusters: 1, count: counts[at] });
  }
  return out;
}

/** Joined across leaves: the kernel joins records of one leaf only, and so do we. */
function joined(recs: readonly { start: number; clusters: number; count: number }[]): { start: number; clusters: number; count: number }[] {
  const out: { start: number; clusters: number; count: number }[] = [];
  for (const rec of recs) {
    const last = out.at(-1);
    if (last !== undefined && last.count === rec.count && last.start + last.clusters === rec.start) last.clusters += rec.clusters;
    else out.push({ ...rec });
  }
  return out;
}

/** Comparing thousands of objects by `toEqual` takes minutes. */
function same(recs: Parameters<typeof joined>[0], counts: Uint16Array): void {
  const text = (all: Parameters<typeof joined>[0]) => all.map(({ start, clusters, count }) => `${start}+${clusters}:${count}`).join(' ');
  expect(text(joined(recs)) === text(expected(counts))).toBe(true);
}

describe.each(GEOMETRIES.filter(({ name }) => name !== '4K/1M').map((spec) => [spec.name, spec] as const))('%s', (name, spec) => {
  test('random counts agree with a model, and leave nothing behind', { timeout: 300_000 }, async () => {
    const ctx = await openTestContext(await makeVolume(spec));
    const ino = await makeFile(ctx, 'file');
    const random = new Random(SEED);
    const counts = new Uint16Array(ctx.totalClusters);
    // The first tree makes a group for the allocator.
    await change(ctx, ino, () => undefined);
    const before = await ctx.engine.read('free', (op) => statClusters(op, ctx).free);
    const most = name === '512/4K' ? 11_000 : 1_500;
    const runs: [number, number][] = [];
    // Scattered single clusters first, from the back as often as not; then ranges over what is there, up and down.
    for (let i = 0; i < most; i += 50) {
      const batch = Array.from({ length: 50 }, () => 1 + random.int(counts.length - 2));
      await change(ctx, ino, (tree) => {
        for (const at of batch) addRefs(tree, at, 1);
      });
      for (const at of batch) counts[at]++;
      runs.push(...batch.map((at): [number, number] => [at, 1]));
    }
    const grown = await records(ctx, ino);
    same(grown.recs, counts);
    if (name === '512/4K') expect(grown.depth).toBeGreaterThanOrEqual(1);
    for (let i = 0; i < 60; i++) {
      const length = 1 + random.int(300), start = 1 + random.int(counts.length - length - 1), times = 1 + random.int(2);
      await change(ctx, ino, (tree) => addRefs(tree, start, length, times));
      for (let at = start; at < start + length; at++) counts[at] += times;
      for (let k = 0; k < times; k++) runs.push([start, length]);
    }
    const full = await records(ctx, ino);
    same(full.recs, counts);
    await ctx.engine.read('look', (op) => {
      const tree = openRefTree(op, ctx, ctx.inode(op, ino, EX), EX);
      for (const rec of random.shuffle([...full.recs]).slice(0, 300)) expect(countOf(tree, rec.start + random.int(rec.clusters))).toEqual(rec);
      const nobody = counts.findIndex((n, at) => at > 0 && n === 0);
      expect(() => countOf(tree, nobody)).toThrow(/refcount tree/);
    });
    random.shuffle(runs);
    for (let i = 0; i < runs.length; i += 60) {
      const batch = runs.slice(i, i + 60);
      await change(ctx, ino, (tree) => {
        for (const [start, length] of batch) dropRefs(tree, start, length, 'keep');
      });
      for (const [start, length] of batch) for (let at = start; at < start + length; at++) counts[at]--;
      if (i % 3000 === 0) same((await records(ctx, ino)).recs, counts);
    }
    expect(await records(ctx, ino)).toEqual({ recs: [], leaves: 0, depth: 0 });
    await ctx.engine.run('leave', (op) => leaveRefTree(op, ctx, ctx.editInode(op, ino)));
    // What the allocator took for leaves it keeps as groups.
    expect(before - (await ctx.engine.read('free', (op) => statClusters(op, ctx).free))).toBeLessThan((8 << 20) / ctx.geo.clusterSize);
  });
});
