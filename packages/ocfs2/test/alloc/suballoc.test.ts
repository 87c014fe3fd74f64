import { describe, expect, test } from 'vitest';
import { claimClusters, claimMeta, closeLocalAlloc, flushTruncateLog, freeMeta, groupOf, type MetaClaim, type MetaType, releaseClusters } from '../../src/alloc/index.js';
import { editAllocator } from '../../src/alloc/chain.js';
import type { FsContext } from '../../src/context.js';
import { BitmapId1, bits, capacity, DISCONTIG_BITMAP_SIZE, ExtentList, GROUP_BITMAP, GROUP_DESC, GROUP_LIST, GroupDesc, SIG } from '../../src/format/index.js';
import { randomFrom, seed } from '../../../../test/support/temp.js';
import { openTestContext, type TestContextOptions } from '../support/context.js';
import { expectFsckClean, GEOMETRIES, makeVolume, type NamedVolume } from '../support/volume.js';
import { checkAllocators } from './support.js';

const SEED = seed('suballoc');

const claim = (ctx: FsContext, type: MetaType, near?: { slot: number; group: number }) => ctx.engine.run(`claim ${type}`, (op) => claimMeta(op, ctx, type, near));
const free = (ctx: FsContext, type: MetaType, at: MetaClaim) => ctx.engine.run(`free ${type}`, (op) => freeMeta(op, ctx, type, at));

/** Take every free cluster, so that no group can be added. */
async function fillClusters(ctx: FsContext): Promise<{ start: number; len: number }[]> {
  const runs: { start: number; len: number }[] = [];
  for (;;) {
    const run = await ctx.engine.run('fill', (op) => claimClusters(op, ctx, 30_000, 1)).catch((error: { code?: string }) => {
      expect(error.code).toBe('NO_SPACE');
    });
    if (run === undefined) return runs;
    runs.push(run);
  }
}

/** Leave only free runs of `len` clusters, each between used ones. Returns what is in use. */
async function fragment(ctx: FsContext, len: number): Promise<{ start: number; len: number }[]> {
  const pieces = (await fillClusters(ctx)).flatMap((run) => Array.from({ length: Math.ceil(run.len / len) }, (_, i) => ({ start: run.start + i * len, len: Math.min(len, run.len - i * len) })));
  const freed = pieces.filter((piece, i) => i % 2 === 0 && piece.len === len);
  for (const { start } of freed) await ctx.engine.run('release', (op) => releaseClusters(op, ctx, start, len));
  await flushTruncateLog(ctx);
  await ctx.engine.log.flush();
  return pieces.filter((piece) => !freed.includes(piece));
}

async function giveBack(ctx: FsContext, runs: readonly { start: number; len: number }[]): Promise<void> {
  for (const { start, len } of runs) await ctx.engine.run('release', (op) => releaseClusters(op, ctx, start, len));
  await flushTruncateLog(ctx);
  await closeLocalAlloc(ctx);
  await ctx.engine.log.flush();
}

describe.each<NamedVolume & Pick<TestContextOptions, 'journal' | 'hostile'>>([
  ...GEOMETRIES,
  { ...GEOMETRIES[1], name: '4K/4K metaecc, journal, hostile locks', journal: true, hostile: true },
])('suballocators, $name', ({ journal, hostile, ...spec }) => {
  test('blocks are claimed through several groups, freed in any order, and claimed again', async () => {
    const device = await makeVolume(spec);
    const ctx = await openTestContext(device, { slot: 1, journal, hostile });
    const random = randomFrom(SEED);
    const held: { type: MetaType; at: MetaClaim }[] = [];
    const blocks = new Set<number>();
    for (let i = 0; i < 3000; i++) {
      const type = random() < 0.5 ? 'inode' : 'extent';
      if (random() < 0.8 || held.length === 0) {
        const at = await claim(ctx, type);
        expect(at.slot).toBe(1);
        expect(at.loc).toBe(0);
        expect(blocks.has(at.blkno), `block ${at.blkno} handed out twice`).toBe(false);
        blocks.add(at.blkno);
        held.push({ type, at });
      } else {
        const [one] = held.splice(Math.floor(random() * held.length), 1);
        await free(ctx, one.type, one.at);
        blocks.delete(one.at.blkno);
      }
      if (i % 500 === 0) await checkAllocators(ctx);
    }
    await checkAllocators(ctx);
    await expect(free(ctx, held[0].type, { ...held[0].at, blkno: held[0].at.blkno + 1 })).rejects.toMatchObject({ kind: 'corruption' });
    for (const { type, at } of held) await free(ctx, type, at);
    await expect(free(ctx, held[0].type, held[0].at)).rejects.toMatchObject({ kind: 'corruption' });
    await expect(free(ctx, 'inode', { ...held[0].at, slot: 7 })).rejects.toMatchObject({ kind: 'corruption' });
    await checkAllocators(ctx);
    await ctx.engine.log.flush();
    await expectFsckClean(device);
  }, 60_000);
});

describe('suballocators', () => {
  const spec = GEOMETRIES[0];

  test('a new inode lies in its parent\'s group', async () => {
    const ctx = await openTestContext(await makeVolume(spec));
    const first = await claim(ctx, 'inode');
    while (groupOf(await claim(ctx, 'inode')) === groupOf(first));
    const second = await claim(ctx, 'inode');
    expect(groupOf(second)).not.toBe(groupOf(first));
    await free(ctx, 'inode', first);
    // The group of the newest is the fuller chain's choice; the parent's group wins over it, if it is in the own slot.
    expect((await claim(ctx, 'inode', { slot: 0, group: groupOf(first) })).blkno).toBe(first.blkno);
    expect(groupOf(await claim(ctx, 'inode', { slot: 1, group: 12345 }))).toBe(groupOf(second));
  });

  test('without space for a group blocks are taken from other slots, and given back to them', async () => {
    const device = await makeVolume({ ...spec, size: 100 << 20 });
    const ctx = await openTestContext(device);
    const neighbour = await openTestContext(device, { slot: 1 });
    const lent = await claim(neighbour, 'inode'); // slot 1 has a group now
    await neighbour.engine.log.flush();
    const runs = await fillClusters(ctx);
    const stolen: MetaClaim[] = [];
    await expect((async () => {
      for (;;) stolen.push(await claim(ctx, 'inode'));
    })()).rejects.toMatchObject({ code: 'NO_SPACE' });
    // Own group of lost+found first, then the neighbour's, all but the descriptors and what is in use.
    expect(stolen.filter((at) => at.slot === 0).length).toBe(1022);
    expect(stolen.filter((at) => at.slot === 1).length).toBe(1022);
    await checkAllocators(ctx);
    await free(ctx, 'inode', stolen[0]);
    expect((await claim(ctx, 'inode')).slot).toBe(0); // nothing left to steal, something free at home
    for (const at of stolen) await free(ctx, 'inode', at);
    await free(ctx, 'inode', lent);
    await giveBack(ctx, runs);
    expect((await claim(ctx, 'inode')).slot).toBe(0);
    await free(ctx, 'inode', stolen[0]).catch(() => undefined);
    await checkAllocators(ctx);
  });

  test.each([
    { name: '4K/4K metaecc', features: 'metaecc', block: '4096', run: 6, pieces: 171, type: 'inode' as const },
    { name: '4K/4K', features: 'nometaecc', block: '4096', run: 500, pieces: 3, type: 'extent' as const },
    { name: '1K/4K', features: 'metaecc', block: '1024', run: 17, pieces: 31, type: 'extent' as const },
    { name: '512/4K', features: 'nometaecc', block: '512', run: 30, pieces: 9, type: 'inode' as const },
  ])('only fragments of $run clusters left, $name: a group in pieces, used up and emptied', async ({ features, block, run, pieces, type }) => {
    const device = await makeVolume({ size: 60 << 20, mkfsArgs: ['-b', block, '-C', '4096', '-N', '1', '-J', 'size=4M', `--fs-features=${features}`] });
    const ctx = await openTestContext(device);
    const kept = await fragment(ctx, run);
    const before = await checkAllocators(ctx);
    const claims: MetaClaim[] = [];
    while (claims.at(-1)?.loc !== claims.at(-2)?.loc || claims.at(-1)?.loc === 0 || claims.length < 2) claims.push(await claim(ctx, type));
    const { loc } = claims[claims.length - 1];
    const bits = await ctx.engine.read('look at the group', (op) => {
      const { lock } = ctx.inode(op, (type === 'inode' ? ctx.sys.inodeAlloc : ctx.sys.extentAlloc)[0], 3);
      const group = op.read(lock, loc, GROUP_DESC);
      const list = new ExtentList(group, GROUP_LIST);
      // The kernel halves its demand until a run is long enough and takes the first that is: so do we, none is shorter than it must be.
      expect(list.nextFree).toBeGreaterThanOrEqual(Math.min(2, pieces));
      expect(list.nextFree).toBeLessThanOrEqual(pieces);
      expect(list.end(list.nextFree - 1) * ctx.geo.bpc).toBe(GroupDesc.at(group).bits);
      return GroupDesc.at(group).bits;
    });
    while (claims.filter((at) => at.loc === loc).length < bits - 1) claims.push(await claim(ctx, type));
    expect(new Set(claims.map((at) => at.blkno)).size).toBe(claims.length);
    for (const at of claims.filter((_, i) => i % 3 !== 0)) await free(ctx, type, at);
    await checkAllocators(ctx);
    for (const at of claims.filter((_, i) => i % 3 === 0)) await free(ctx, type, at);
    const after = await checkAllocators(ctx);
    await giveBack(ctx, kept);
    await expectFsckClean(device);
    for (const [allocator, used] of before) if (allocator !== ctx.sys.globalBitmap) expect(after.get(allocator)! - used, `bits of allocator ${allocator}`).toBeLessThanOrEqual(2);
  });

  test.each(['discontig-bg', 'nodiscontig-bg'])('fragments too small for a group (%s): NO_SPACE, nothing changed', async (feature) => {
    const device = await makeVolume({ size: 60 << 20, mkfsArgs: ['-b', '4096', '-C', '4096', '-N', '1', '-J', 'size=4M', `--fs-features=${feature}`] });
    const ctx = await openTestContext(device);
    // A descriptor lists 235 pieces: 3 clusters each are too few for a group of 1024.
    const kept = await fragment(ctx, feature === 'discontig-bg' ? 3 : 500);
    await expect((async () => {
      for (;;) await claim(ctx, 'extent');
    })()).rejects.toMatchObject({ code: 'NO_SPACE', errno: 'ENOSPC' });
    const before = await checkAllocators(ctx);
    await expect(claim(ctx, 'extent')).rejects.toMatchObject({ code: 'NO_SPACE' });
    expect(await checkAllocators(ctx)).toEqual(before);
    await giveBack(ctx, kept);
    expect((await claim(ctx, 'extent')).loc).toBe(0);
    await checkAllocators(ctx);
  });

  test('an existing discontiguous group: blocks are found through its records and go back to it', async () => {
    const device = await makeVolume(spec);
    const ctx = await openTestContext(device);
    const blkno = await addDiscontiguousGroup(ctx, [300, 500, 224]);
    await ctx.engine.log.flush();
    await expectFsckClean(device);
    const claims: MetaClaim[] = [];
    for (let i = 0; i < 3000 && claims.filter((at) => at.loc !== 0).length < 1023; i++) claims.push(await claim(ctx, 'inode', { slot: 0, group: blkno }));
    const ours = claims.filter((at) => at.loc === blkno);
    expect(ours.length).toBe(1023);
    expect(new Set(claims.map((at) => at.blkno)).size).toBe(claims.length);
    await ctx.engine.read('check places', (op) => {
      const lock = ctx.inode(op, ctx.sys.inodeAlloc[0], 3).lock;
      const list = new ExtentList(op.read(lock, blkno, GROUP_DESC), GROUP_LIST);
      for (const at of ours) {
        const rec = [0, 1, 2].find((i) => at.bit >= list.cpos(i) && at.bit < list.end(i))!;
        expect(at.blkno).toBe(list.blkno(rec) + at.bit - list.cpos(rec));
      }
    });
    await checkAllocators(ctx);
    for (const at of claims) await free(ctx, 'inode', at);
    await checkAllocators(ctx);
    await ctx.engine.log.flush();
    await expectFsckClean(device);
  });

  test('an operation that frees and claims at ENOSPC is refused, not tried for ever', async () => {
    const ctx = await openTestContext(await makeVolume({ ...spec, size: 60 << 20 }));
    const [first] = await fillClusters(ctx);
    await expect(ctx.engine.run('free and claim', (op) => {
      releaseClusters(op, ctx, first.start, 10);
      claimClusters(op, ctx, 5, 1);
    })).rejects.toMatchObject({ code: 'NO_SPACE' });
    await checkAllocators(ctx);
  });

  test('operations at the same time get different blocks', async () => {
    const device = await makeVolume(spec);
    const ctx = await openTestContext(device, { slot: 1, cacheBlocks: 48 });
    const claims = await Promise.all(Array.from({ length: 1200 }, (_, i) => claim(ctx, i % 2 === 0 ? 'inode' : 'extent')));
    expect(new Set(claims.map((at) => at.blkno)).size).toBe(1200);
    await checkAllocators(ctx);
    await Promise.all(claims.map((at, i) => free(ctx, i % 2 === 0 ? 'inode' : 'extent', at)));
    await checkAllocators(ctx);
    await ctx.engine.log.flush();
    await expectFsckClean(device);
  });
});

/** What the kernel does when no contiguous run is left: a group in pieces (4K/4K, so a cluster is a block). Its descriptor's block. */
function addDiscontiguousGroup(ctx: FsContext, pieces: readonly number[]): Promise<number> {
  return ctx.engine.run('add group in pieces', (op) => {
    const runs = pieces.map((n) => {
      const run = claimClusters(op, ctx, 9_000, 9_000); // far apart: the rest of each run goes back
      releaseClusters(op, ctx, run.start + n, run.len - n);
      return run.start;
    });
    const { ref, list } = editAllocator(op, ctx, ctx.sys.inodeAlloc[0]);
    expect(pieces.reduce((a, b) => a + b)).toBe(list.cpg);
    const chain = list.nextFree;
    const block = op.create(ref.lock, runs[0], GROUP_DESC);
    const gd = GroupDesc.at(block);
    Object.assign(gd, { signature: SIG.group, size: DISCONTIG_BITMAP_SIZE, bits: list.cpg, freeBits: list.cpg - 1, chain, generation: ctx.geo.fsGeneration, parentDinode: ref.blkno, blkno: runs[0] });
    bits.set(block.bytes, GROUP_BITMAP, 0);
    const records = new ExtentList(block, GROUP_LIST);
    records.count = capacity.groupList(ctx.geo.blockSize);
    records.nextFree = pieces.length;
    let cpos = 0;
    for (const [i, n] of pieces.entries()) {
      records.setLeaf(i, cpos, n, runs[i], 0);
      cpos += n;
    }
    list.setBlkno(chain, runs[0]);
    list.setTotal(chain, gd.bits);
    list.setFree(chain, gd.freeBits);
    list.nextFree = chain + 1;
    const id1 = BitmapId1.at(ref.block);
    id1.used += 1;
    id1.total += gd.bits;
    ref.di.clusters += list.cpg;
    ref.di.size = ref.di.clusters * ctx.geo.clusterSize;
    return runs[0];
  });
}
