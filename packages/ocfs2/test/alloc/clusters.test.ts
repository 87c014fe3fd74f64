import { MemoryDevice } from '@lunfs/device';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { claimClusters, claimContiguous, closeLocalAlloc, flushTruncateLog, freeClustersNow, releaseClusters, statClusters } from '../../src/alloc/index.js';
import { claimBits, readAllocator } from '../../src/alloc/chain.js';
import { defaultWindow } from '../../src/alloc/window-size.js';
import type { FsContext } from '../../src/context.js';
import { backupBlocks, BACKUP_SUPER_OFFSETS, bits, clusterToGroup, GROUP_BITMAP, GROUP_DESC, GroupDesc } from '../../src/format/index.js';
import { EX } from '../../src/locking/levels.js';
import { formatVolume } from '../../src/mkfs/index.js';
import { seed } from '../../../../test/support/temp.js';
import { openTestContext, type TestContextOptions } from '../support/context.js';
import { variants } from '../support/locks.js';
import { expectFsckClean, GEOMETRIES, makeVolume, type NamedVolume } from '../support/volume.js';
import { checkAllocators } from './support.js';

const SEED = seed('clusters');

/** Owned clusters as a plain set: what the allocator must agree with. */
class Model {
  readonly runs: { start: number; len: number }[] = [];
  readonly owned = new Set<number>();
  readonly forbidden = new Set<number>();

  constructor(readonly ctx: FsContext) {
    const { geo } = ctx;
    for (let c = 0; c <= Math.floor(geo.firstClusterGroup / geo.bpc); c++) this.forbidden.add(c);
    for (let c = geo.clustersPerGroup; c < geo.totalClusters; c += geo.clustersPerGroup) this.forbidden.add(c);
    for (const blkno of backupBlocks(geo)) this.forbidden.add(Math.floor(blkno / geo.bpc));
  }

  async claim(want: number, min: number, goal?: number): Promise<number> {
    const { start, len } = await this.ctx.engine.run('claim', (op) => (min === want ? claimContiguous(op, this.ctx, want) : claimClusters(op, this.ctx, want, min, goal)));
    expect(len).toBeGreaterThanOrEqual(min);
    expect(len).toBeLessThanOrEqual(want);
    expect(Math.floor(start / this.ctx.geo.clustersPerGroup)).toBe(Math.floor((start + len - 1) / this.ctx.geo.clustersPerGroup));
    for (let c = start; c < start + len; c++) {
      expect(this.owned.has(c) || this.forbidden.has(c) || c >= this.ctx.geo.totalClusters, `cluster ${c} handed out twice or reserved`).toBe(false);
      this.owned.add(c);
    }
    this.runs.push({ start, len });
    return len;
  }

  async free(index: number): Promise<void> {
    const [{ start, len }] = this.runs.splice(index % this.runs.length, 1);
    await this.ctx.engine.run('free', (op) => releaseClusters(op, this.ctx, start, len));
    for (let c = start; c < start + len; c++) this.owned.delete(c);
  }

  async freeAll(): Promise<void> {
    while (this.runs.length > 0) await this.free(this.runs.length - 1);
    await flushTruncateLog(this.ctx);
    await closeLocalAlloc(this.ctx);
    await this.ctx.engine.log.flush();
  }
}

const stat = (ctx: FsContext) => ctx.engine.read('stat', (op) => statClusters(op, ctx));

const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('claim' as const), want: fc.integer({ min: 1, max: 300 }), min: fc.integer({ min: 1, max: 300 }), near: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('claim' as const), want: fc.integer({ min: 300, max: 40_000 }), min: fc.constant(1), near: fc.boolean() }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('free' as const), index: fc.nat(1000) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('flush' as const, 'commit' as const, 'close' as const) }) },
);

/** Every geometry with the simplest engine, one with each other log and locking. */
const VARIANTS: readonly (NamedVolume & Pick<TestContextOptions, 'journal' | 'hostile'>)[] = [
  ...GEOMETRIES,
  { ...GEOMETRIES[0], name: '4K/4K, journal', journal: true },
  { ...GEOMETRIES[0], name: '4K/4K, hostile locks', hostile: true },
  { ...GEOMETRIES[1], name: '4K/4K metaecc, journal, hostile locks', journal: true, hostile: true },
];

describe.each(variants(VARIANTS))('clusters, $name', ({ journal, hostile, ...spec }) => {
  test('random claims and frees agree with a set, keep every sum and leave nothing behind', async () => {
    const template = await makeVolume(spec);
    await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60 }), fc.boolean(), async (steps, smallCache) => {
      const device = template.clone();
      const ctx = await openTestContext(device, { slot: 1, cacheBlocks: smallCache ? 24 : undefined, journal, hostile });
      const before = await stat(ctx);
      const model = new Model(ctx);
      for (const s of steps) {
        if (s.do === 'claim') {
          const last = model.runs.at(-1);
          try {
            await model.claim(s.want, Math.min(s.min, s.want), s.near && last ? last.start + last.len : undefined);
          } catch (error) {
            expect(error).toMatchObject({ code: 'NO_SPACE', errno: 'ENOSPC' });
          }
        } else if (s.do === 'free') {
          if (model.runs.length > 0) await model.free(s.index);
        } else if (s.do === 'flush') await flushTruncateLog(ctx);
        else if (s.do === 'close') await closeLocalAlloc(ctx);
        else await ctx.engine.log.commit();
        await checkAllocators(ctx);
      }
      await model.freeAll();
      await checkAllocators(ctx);
      expect(await stat(ctx)).toEqual(before);
    }), { seed: SEED, numRuns: 4 });
    // One more run to its end on the volume fsck looks at, at half-way and after.
    const ctx = await openTestContext(template, { slot: 0, journal, hostile });
    const model = new Model(ctx);
    for (let i = 0; i < 50; i++) await model.claim(1 + (i * 37) % Math.min(90, ctx.geo.totalClusters >> 7), 1);
    for (let i = 0; i < 25; i++) await model.free(i * 7);
    await ctx.engine.log.flush();
    await expectFsckClean(template, ['CLUSTER_ALLOC_BIT']);
    await model.freeAll();
    await expectFsckClean(template);
  }, 60_000);

  test('filled to the last cluster and emptied', async () => {
    const device = await makeVolume(spec);
    const ctx = await openTestContext(device, { journal, hostile });
    const before = await stat(ctx);
    const model = new Model(ctx);
    for (const want of [5000, 700, 100, 14, 2, 1]) {
      await expect((async () => {
        for (;;) await model.claim(want, want);
      })()).rejects.toMatchObject({ code: 'NO_SPACE' });
    }
    const { free } = await stat(ctx);
    // The kernel never hands out the clusters a lone group loses to its descriptor's offset.
    expect(free).toBe(ctx.geo.totalClusters > ctx.geo.clustersPerGroup + 3 ? 0 : Math.floor(ctx.geo.firstClusterGroup / ctx.geo.bpc));
    await checkAllocators(ctx);
    // What lies in the truncate log comes back when it is needed.
    await model.free(0);
    await model.claim(1, 1);
    await model.freeAll();
    await checkAllocators(ctx);
    expect(await stat(ctx)).toEqual(before);
    await expectFsckClean(device);
  }, 60_000);
});

describe('clusters', () => {
  const spec = GEOMETRIES[0];

  test('the window: default size, small requests from it, large ones beside it, returned at close', async () => {
    const ctx = await openTestContext(await makeVolume({ ...spec, size: 400 << 20 }));
    expect(defaultWindow(ctx.geo)).toBe(27136); // a kernel node's window on such a volume (ondisk-format.md 4.6)
    const before = await stat(ctx);
    const a = await ctx.engine.run('a', (op) => claimClusters(op, ctx, 10, 1));
    expect((await stat(ctx)).free).toBe(before.free - 27136);
    const b = await ctx.engine.run('b', (op) => claimClusters(op, ctx, 10, 1, a.start + a.len));
    expect(b).toEqual({ start: a.start + a.len, len: 10 });
    expect((await stat(ctx)).free).toBe(before.free - 27136);
    const big = await ctx.engine.run('big', (op) => claimClusters(op, ctx, 14_000, 1));
    expect((await stat(ctx)).free).toBe(before.free - 27136 - big.len);
    await closeLocalAlloc(ctx);
    expect((await stat(ctx)).free).toBe(before.free - 20 - big.len);
  });

  test('a cluster whose freeing is not committed is not handed out', async () => {
    const ctx = await openTestContext(await makeVolume({ ...spec, size: 60 << 20 }));
    const model = new Model(ctx);
    await expect((async () => {
      for (;;) await model.claim(100, 1);
    })()).rejects.toMatchObject({ code: 'NO_SPACE' });
    await ctx.engine.log.commit();
    const { start } = model.runs[3];
    await ctx.engine.run('free now', (op) => freeClustersNow(op, ctx, start, 2));
    // Committing is what the allocator does by itself before it gives up; here the commit must have been before the claim.
    let committed = false;
    await ctx.engine.run('watch', (op) => op.onCommit(() => (committed = true)));
    const again = await ctx.engine.run('claim', (op) => claimClusters(op, ctx, 2, 1));
    expect(again).toEqual({ start, len: 2 });
    expect(committed).toBe(true);
  });

  test('in one operation a freed cluster is not taken again', async () => {
    const ctx = await openTestContext(await makeVolume(spec));
    const a = await ctx.engine.run('a', (op) => claimClusters(op, ctx, 20_000, 20_000));
    const b = await ctx.engine.run('free and claim', (op) => {
      freeClustersNow(op, ctx, a.start, a.len);
      return claimClusters(op, ctx, 20_000, 1, a.start);
    });
    expect(b.start >= a.start + a.len || b.start + b.len <= a.start).toBe(true);
  });

  test('the truncate log fills, is flushed by itself and joins neighbours', async () => {
    const ctx = await openTestContext(await makeVolume({ ...spec, mkfsArgs: ['-b', '512', '-C', '4096', '-N', '1', '-J', 'size=4M'] }), { cacheBlocks: 64 });
    const model = new Model(ctx);
    for (let i = 0; i < 200; i++) await model.claim(3, 3);
    for (let i = 0; i < 100; i++) await model.free(i); // every other one: 100 records into 39 places
    await checkAllocators(ctx);
    await model.freeAll();
    await checkAllocators(ctx);
  });

  test('nothing is put into the truncate log while it is being flushed', async () => {
    const ctx = await openTestContext(await makeVolume({ ...spec, size: 60 << 20 }), { journal: true });
    const { engine } = ctx;
    const runs: { start: number }[] = [];
    for (let i = 0; i < 3; i++) runs.push(await engine.run('claim', (op) => claimContiguous(op, ctx, 2)));
    await engine.run('free', (op) => releaseClusters(op, ctx, runs[0].start, 2));
    let flushed = false;
    const flush = flushTruncateLog(ctx).then(() => (flushed = true));
    await engine.run('free', (op) => releaseClusters(op, ctx, runs[2].start, 2));
    expect(flushed).toBe(true);
    await flush;
  });

  test('a backup superblock\'s cluster is kept even if its bit is clear', async () => {
    const device = await makeVolume({ size: 1100 << 20, mkfsArgs: ['-b', '4096', '-C', '4096', '-N', '1', '-J', 'size=4M'] });
    const ctx = await openTestContext(device);
    const cluster = BACKUP_SUPER_OFFSETS[0] / ctx.geo.clusterSize;
    const { group, bit } = clusterToGroup(ctx.geo, cluster);
    // As an offline grow by ocfs2-tools 1.8.7 leaves it.
    await ctx.engine.run('clear bit', (op) => {
      const ref = ctx.inode(op, ctx.sys.globalBitmap, EX);
      const block = op.write(ref.lock, group, GROUP_DESC);
      bits.clear(block.bytes, GROUP_BITMAP, bit);
      GroupDesc.at(block).freeBits += 1;
    });
    const run = await ctx.engine.run('claim', (op) => claimClusters(op, ctx, 20_000, 1, cluster));
    expect(cluster >= run.start && cluster < run.start + run.len).toBe(false);
    await expect(ctx.engine.run('free', (op) => freeClustersNow(op, ctx, cluster, 1))).rejects.toMatchObject({ kind: 'corruption' });
  });

  test('what must not be freed is refused and changes nothing', async () => {
    const ctx = await openTestContext(await makeVolume(spec));
    const before = await stat(ctx);
    const { clustersPerGroup, totalClusters } = ctx.geo;
    for (const cluster of [0, 3, clustersPerGroup, totalClusters, totalClusters - 2]) {
      await expect(ctx.engine.run('free', (op) => freeClustersNow(op, ctx, cluster, 1)), `cluster ${cluster}`).rejects.toMatchObject({ kind: 'corruption' });
    }
    expect(await stat(ctx)).toEqual(before);
    await checkAllocators(ctx);
  });

  test.each([1, 2, 9, 100, 32255])('a tail group of %i clusters is filled to its end and no further', async (tail) => {
    const size = (32256 + tail) * 4096;
    const device = await makeVolume({ size, mkfsArgs: ['-b', '4096', '-C', '4096', '-N', '1', '-J', 'size=4M'] });
    const ctx = await openTestContext(device);
    expect(ctx.geo.totalClusters).toBe(32256 + tail);
    const before = await stat(ctx);
    const model = new Model(ctx);
    for (const want of [30_000, 1000, 30, 1]) {
      await expect((async () => {
        for (;;) await model.claim(want, want);
      })()).rejects.toMatchObject({ code: 'NO_SPACE' });
    }
    // Group 0 loses what the kernel takes from it while the tail is shorter than its descriptor's offset.
    expect((await stat(ctx)).free).toBe(Math.max(0, 3 - tail));
    await model.freeAll();
    await checkAllocators(ctx);
    expect(await stat(ctx)).toEqual(before);
    await expectFsckClean(device);
  });

  test('a search through a large bitmap asks for many groups at once', async () => {
    const device = new MemoryDevice({ size: 2 ** 40, name: 'large' });
    await formatVolume(device, { blockSize: 512, clusterSize: 65536, mount: 'local', slots: 1, journalSize: 4 << 20, discard: false }, { random: { u32: () => 1 }, time: 1 });
    const ctx = await openTestContext(device);
    const groups = Math.ceil(ctx.geo.totalClusters / ctx.geo.clustersPerGroup);
    expect(groups).toBeGreaterThan(4000);
    // Every group but the last looks full, so that the search must see them all.
    let attempts = 0;
    const found = await ctx.engine.run('search', (op) => {
      attempts++;
      const bitmap = readAllocator(op, ctx, ctx.sys.globalBitmap);
      return claimBits(op, ctx, bitmap, (group) => (group.gd.bits < ctx.geo.clustersPerGroup ? { bit: 5, len: 1 } : undefined), 0);
    });
    expect(found?.len).toBe(1);
    expect(attempts).toBeLessThan(groups / 16);
  }, 240_000);

  test('operations at the same time get different clusters', async () => {
    const ctx = await openTestContext(await makeVolume(spec), { cacheBlocks: 16 });
    const runs = await Promise.all(Array.from({ length: 60 }, (_, i) => ctx.engine.run(`claim ${i}`, (op) => claimClusters(op, ctx, i % 3 === 0 ? 9000 : 40, 1))).map((p) => p.catch((e: unknown) => {
      expect(e).toMatchObject({ code: 'NO_SPACE' });
      return undefined;
    })));
    const taken = runs.filter((r) => r !== undefined).sort((a, b) => a.start - b.start);
    for (let i = 1; i < taken.length; i++) expect(taken[i].start).toBeGreaterThanOrEqual(taken[i - 1].start + taken[i - 1].len);
    await checkAllocators(ctx);
    await Promise.all(taken.map(({ start, len }) => ctx.engine.run('free', (op) => releaseClusters(op, ctx, start, len))));
    await Promise.all([flushTruncateLog(ctx), flushTruncateLog(ctx), ctx.engine.run('claim', (op) => claimClusters(op, ctx, 5, 5))]);
    await checkAllocators(ctx);
  });
});
