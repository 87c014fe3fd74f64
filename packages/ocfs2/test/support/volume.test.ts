import { describe, expect, test } from 'vitest';
import { PR } from '../../src/locking/levels.js';
import { openTestContext } from './context.js';
import { GEOMETRIES, debugfs, expectFsckClean, fsck, makeVolume } from './volume.js';

describe.each(GEOMETRIES)('a volume of mkfs.ocfs2, $name', (spec) => {
  test('opens as a context and is clean', async () => {
    const device = await makeVolume(spec);
    const ctx = await openTestContext(device, { slot: 1 });
    const total = await ctx.engine.read('total', (op) => ctx.inode(op, ctx.sys.globalBitmap, PR).di.clusters);
    expect(total).toBe(ctx.geo.totalClusters);
    await expectFsckClean(device);
  });
});

test('a broken volume is not clean, and debugfs reads it', async () => {
  const device = await makeVolume(GEOMETRIES[0]);
  const ctx = await openTestContext(device);
  expect(await debugfs(device, 'stat <2>')).toBeDefined();
  await ctx.engine.run('break', (op) => {
    ctx.editInode(op, ctx.sys.inodeAlloc[0]).di.size += 4096;
  });
  await ctx.engine.log.flush();
  expect((await fsck(device)).codes).toContain('CHAIN_I_SIZE');
  await expect(expectFsckClean(device)).rejects.toThrow('CHAIN_I_SIZE');
});
