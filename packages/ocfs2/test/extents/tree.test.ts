import { describe, expect, test } from 'vitest';
import { claimClusters, releaseClusters } from '../../src/alloc/index.js';
import type { FsContext } from '../../src/context.js';
import { type ExtentRec, checkTree, dinodeTree, insert, lookup, removeRange, setFlags, treeEnd, walk } from '../../src/extents/index.js';
import { BitmapId1, EXT, ID2, ExtentList } from '../../src/format/index.js';
import { PR } from '../../src/locking/levels.js';
import { type Op, WriteBackLog } from '../../src/txn/index.js';
import { randomFrom, seed } from '../../../../test/support/temp.js';
import { openTestContext } from '../support/context.js';
import { makeFile } from '../support/files.js';
import { variants } from '../support/locks.js';
import { GEOMETRIES, debugfs, expectFsckClean, makeVolume } from '../support/volume.js';

/** What a tree should hold: physical cluster and flags by position. */
class Model {
  readonly map = new Map<number, { at: number; flags: number }>();

  insert(rec: { cpos: number; clusters: number; start: number; flags: number }): void {
    for (let i = 0; i < rec.clusters; i++) this.map.set(rec.cpos + i, { at: rec.start + i, flags: rec.flags });
  }

  /** The position and length of a hole in [0, limit) at or after `from`. */
  hole(from: number, limit: number, most: number): { cpos: number; clusters: number } | undefined {
    let cpos = from;
    while (cpos < limit && this.map.has(cpos)) cpos++;
    if (cpos === limit) return undefined;
    let clusters = 1;
    while (clusters < most && cpos + clusters < limit && !this.map.has(cpos + clusters)) clusters++;
    return { cpos, clusters };
  }

  /** A mapped run at or after `from`. */
  run(from: number, limit: number, most: number): { cpos: number; clusters: number } | undefined {
    let cpos = from;
    while (cpos < limit && !this.map.has(cpos)) cpos++;
    if (cpos === limit) return undefined;
    let clusters = 1;
    while (clusters < most && this.map.has(cpos + clusters)) clusters++;
    return { cpos, clusters };
  }

  expectSame(records: Iterable<ExtentRec>, bpc: number): void {
    let n = 0;
    for (const rec of records) {
      for (let i = 0; i < rec.clusters; i++, n++) {
        const want = this.map.get(rec.cpos + i);
        if (want === undefined || rec.blkno !== (want.at - i) * bpc || want.flags !== rec.flags) {
          throw new Error(`cluster ${rec.cpos + i}: tree ${rec.blkno / bpc + i}/${rec.flags}, model ${want?.at}/${want?.flags}`);
        }
      }
    }
    expect(n).toBe(this.map.size);
  }
}

function change<T>(ctx: FsContext, ino: number, body: (op: Op, tree: ReturnType<typeof dinodeTree>) => T): Promise<T> {
  return ctx.engine.run('test', (op) => {
    const tree = dinodeTree(ctx.editInode(op, ino), op, ctx);
    const result = body(op, tree);
    const problems = checkTree(op, tree);
    if (problems.length > 0) throw new Error(problems.join('\n'));
    return result;
  });
}

function extentBlocksUsed(ctx: FsContext): Promise<number> {
  return ctx.engine.read('used', (op) => BitmapId1.at(ctx.inode(op, ctx.sys.extentAlloc[ctx.slot], PR).block).used);
}

describe.each(variants(GEOMETRIES))('a tree of real clusters, $name', (spec) => {
  test('random inserts, flag changes and removals agree with a model and with fsck', async () => {
    const random = randomFrom(seed(`extents ${spec.name}`));
    const below = (n: number) => Math.floor(random() * n);
    const device = await makeVolume(spec);
    const ctx = await openTestContext(device, { cacheBlocks: 200 });
    const { bpc } = ctx.geo;
    const ino = await makeFile(ctx, 'file');
    const model = new Model();
    const limit = spec.name.startsWith('4K/1M') ? 300 : 3000;
    for (let step = 0; step < 500; step++) {
      const kind = random();
      const hole = model.hole(below(limit), limit, 1 + below(4)), run = model.run(below(limit), limit, 1 + below(kind > 0.97 ? 400 : 6));
      if (kind < 0.6 && hole !== undefined) {
        const flags = random() < 0.5 ? EXT.UNWRITTEN : 0;
        const got = await change(ctx, ino, (op, tree) => {
          const claimed = claimClusters(op, ctx, hole.clusters, 1);
          insert(op, ctx, tree, { cpos: hole.cpos, clusters: claimed.len, blkno: claimed.start * bpc, flags });
          return claimed;
        });
        model.insert({ cpos: hole.cpos, clusters: got.len, start: got.start, flags });
      } else if (kind < 0.8 && run !== undefined) {
        const set = random() < 0.3 ? EXT.UNWRITTEN : 0;
        await change(ctx, ino, (op, tree) => setFlags(op, ctx, tree, run.cpos, run.clusters, set, EXT.UNWRITTEN & ~set));
        for (let i = 0; i < run.clusters; i++) model.map.get(run.cpos + i)!.flags = set;
      } else if (run !== undefined) {
        const freed = await change(ctx, ino, (op, tree) => {
          let sum = 0;
          removeRange(op, ctx, tree, run.cpos, run.clusters, (start, clusters) => {
            releaseClusters(op, ctx, start, clusters);
            sum += clusters;
          });
          return sum;
        });
        expect(freed).toBe(run.clusters);
        for (let i = 0; i < run.clusters; i++) model.map.delete(run.cpos + i);
      }
      if (step % 25 === 0) await ctx.engine.read('compare', (op) => model.expectSame(walk(op, dinodeTree(ctx.inode(op, ino, PR), op, ctx)), bpc));
      const cpos = below(limit);
      const got = await ctx.engine.read('lookup', (op) => lookup(op, dinodeTree(ctx.inode(op, ino, PR), op, ctx), cpos));
      const want = model.map.get(cpos);
      if (want !== undefined) expect([got.hole, 'blkno' in got && got.blkno / bpc + cpos - got.cpos]).toEqual([undefined, want.at]);
      else expect(got.hole && model.run(cpos, limit, 1)?.cpos).toBe(got.cpos + got.clusters < limit ? got.cpos + got.clusters : undefined);
    }
    const end = await ctx.engine.run('size', (op) => {
      const ref = ctx.editInode(op, ino);
      const last = treeEnd(op, dinodeTree(ref, op, ctx));
      ref.di.size = last * ctx.geo.clusterSize;
      return last;
    });
    expect(end).toBe(Math.max(0, ...[...model.map.keys()].map((k) => k + 1)));
    await ctx.engine.log.flush();
    await expectFsckClean(device);
    const text = await debugfs(device, `stat <${ino}>`);
    const depth = await ctx.engine.read('depth', (op) => new ExtentList(ctx.inode(op, ino, PR).block, ID2).depth);
    expect(text).toMatch(new RegExp(`Tree Depth: ${depth} `));
    expect(text).toMatch(new RegExp(`Clusters: ${model.map.size}\\b`));
  });
});

describe('a deep tree', () => {
  test('append to depth 3, random change, remove in random order: every extent block comes back', async () => {
    const random = randomFrom(seed('extents deep'));
    const below = (n: number) => Math.floor(random() * n);
    const device = await makeVolume(GEOMETRIES.find((g) => g.name === '512/4K')!);
    const ctx = await openTestContext(device);
    const { bpc } = ctx.geo;
    const ino = await makeFile(ctx, 'deep');
    const before = await extentBlocksUsed(ctx);
    const model = new Model();
    // Positions 4 apart and clusters that never continue each other: one record each.
    const place = () => 2000 + 2 * below(4000);
    const run = (body: (op: Op, tree: ReturnType<typeof dinodeTree>) => void) => ctx.engine.run('deep', (op) => body(op, dinodeTree(ctx.editInode(op, ino), op, ctx)));
    const verify = () => ctx.engine.read('verify', (op) => {
      const tree = dinodeTree(ctx.inode(op, ino, PR), op, ctx);
      expect(checkTree(op, tree)).toEqual([]);
      model.expectSame(walk(op, tree), bpc);
      return tree.list().depth;
    });
    const put = async (cpos: number) => {
      const start = place(), flags = EXT.UNWRITTEN;
      await run((op, tree) => insert(op, ctx, tree, { cpos, clusters: 1, blkno: start * bpc, flags }));
      model.insert({ cpos, clusters: 1, start, flags });
    };
    for (let i = 0; i < 15_200; i++) await put(4 * i);
    expect(await verify()).toBe(3);
    for (let i = 0; i < 1500; i++) {
      const cpos = 4 * below(15_200);
      const kind = random();
      if (kind < 0.5) {
        if (model.map.has(cpos + 2)) continue;
        await put(cpos + 2);
      } else if (kind < 0.7 && model.map.has(cpos)) {
        await run((op, tree) => setFlags(op, ctx, tree, cpos, 1, 0, EXT.UNWRITTEN));
        model.map.get(cpos)!.flags = 0;
      } else {
        const clusters = 1 + below(random() < 0.02 ? 3000 : 40);
        await run((op, tree) => removeRange(op, ctx, tree, cpos, clusters, () => undefined));
        for (let k = 0; k < clusters; k++) model.map.delete(cpos + k);
      }
      if (i % 50 === 0) await verify();
    }
    await verify();
    while (model.map.size > 0) {
      const from = below(61_000), clusters = 4000;
      await run((op, tree) => removeRange(op, ctx, tree, from, clusters, () => undefined));
      for (let k = 0; k < clusters; k++) model.map.delete(from + k);
      if (random() < 0.1) await verify();
      if (model.map.size < 500) {
        await run((op, tree) => removeRange(op, ctx, tree, 0, 2 ** 32, () => undefined));
        model.map.clear();
      }
    }
    expect(await verify()).toBe(0);
    expect(await extentBlocksUsed(ctx)).toBe(before);
    await ctx.engine.log.flush();
    await expectFsckClean(device);
  }, 240_000);
});

describe('records put in and taken out at random', () => {
  const spec = GEOMETRIES.find((g) => g.name === '512/4K')!;

  /** A tree of `extents` records, 4 clusters apart, none continuing another. */
  async function fragmented(extents: number, maxBlocks: number) {
    const device = await makeVolume(spec);
    const ctx = await openTestContext(device, { log: (dev, geo) => Object.assign(new WriteBackLog(dev, geo), { maxBlocks }) });
    const ino = await makeFile(ctx, 'fragmented');
    const random = randomFrom(seed('extents cost'));
    const below = (n: number) => Math.floor(random() * n);
    const { bpc } = ctx.geo;
    const model = new Model();
    const sizes: number[] = [];
    const run = (body: (op: Op, tree: ReturnType<typeof dinodeTree>) => void) => ctx.engine.run('random', (op) => {
      body(op, dinodeTree(ctx.editInode(op, ino), op, ctx));
      op.onApply(() => sizes.push(op.overlay.size));
    });
    const put = async (cpos: number) => {
      const start = 2000 + 2 * below(4000);
      await run((op, tree) => insert(op, ctx, tree, { cpos, clusters: 1, blkno: start * bpc, flags: EXT.UNWRITTEN }));
      model.insert({ cpos, clusters: 1, start, flags: EXT.UNWRITTEN });
    };
    const take = async (cpos: number) => {
      await run((op, tree) => removeRange(op, ctx, tree, cpos, 1, () => undefined));
      model.map.delete(cpos);
    };
    const verify = () => ctx.engine.read('verify', (op) => {
      const tree = dinodeTree(ctx.inode(op, ino, PR), op, ctx);
      expect(checkTree(op, tree)).toEqual([]);
      model.expectSame(walk(op, tree), bpc);
    });
    for (let i = 0; i < extents; i++) await put(4 * i);
    sizes.length = 0;
    const mean = () => {
      const value = sizes.reduce((a, b) => a + b, 0) / sizes.length;
      sizes.length = 0;
      return value;
    };
    return { below, put, take, verify, mean, model, largest: () => Math.max(...sizes) };
  }

  /** Blocks an operation changes on average: records put in at random, then taken out at random. */
  async function cost(extents: number): Promise<{ put: number; take: number }> {
    const file = await fragmented(extents, 100_000);
    const added: number[] = [];
    for (let i = 0; i < extents / 4; i++) {
      const cpos = 4 * file.below(extents) + 2;
      if (file.model.map.has(cpos)) continue;
      added.push(cpos);
      await file.put(cpos);
    }
    const put = file.mean();
    await file.verify();
    for (const cpos of added) await file.take(cpos);
    const take = file.mean();
    await file.verify();
    return { put, take };
  }

  test('change as many blocks in a large tree as in a small one', async () => {
    const small = await cost(300), large = await cost(12_000);
    console.log(`blocks changed: put ${small.put.toFixed(1)} and ${large.put.toFixed(1)}, take ${small.take.toFixed(1)} and ${large.take.toFixed(1)}`);
    expect(large.put).toBeLessThan(3 * small.put);
    expect(large.take).toBeLessThan(3 * small.take);
  }, 240_000);

  test('what one transaction cannot hold is done in several', async () => {
    const file = await fragmented(3000, 90);
    const added: number[] = [];
    for (let i = 0; i < 600; i++) {
      const cpos = 4 * file.below(i % 2 ? 3000 : 300) + 2;
      if (file.model.map.has(cpos)) continue;
      added.push(cpos);
      await file.put(cpos);
      if (i % 100 === 0) await file.verify();
    }
    for (const [i, cpos] of added.entries()) {
      await file.take(cpos);
      if (i % 100 === 0) await file.verify();
    }
    expect(file.largest()).toBeLessThanOrEqual(90);
    await file.verify();
  }, 240_000);
});
