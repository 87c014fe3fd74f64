import { describe, expect, test } from 'vitest';
import { claimClusters } from '../../src/alloc/index.js';
import { dirAdd } from '../../src/dir/index.js';
import { dinodeTree, insert } from '../../src/extents/index.js';
import { CorruptionError } from '@lunfs/device';
import { DYN, Dinode, FL, FT } from '../../src/format/index.js';
import { RawReader } from '../../src/inspect/index.js';
import { InodeTable, recoverOrphans, wipeInode } from '../../src/volume/inode-life.js';
import { EX } from '../../src/locking/levels.js';
import { cutToSize } from '../../src/volume/file-truncate.js';
import { unlinkName } from '../../src/volume/namespace.js';
import { HOSTILE, variants } from '../support/locks.js';
import { GEOMETRIES, expectFsckClean, makeVolume } from '../support/volume.js';
import { DIR, FILE, Names, PLAIN, bytes, settle } from './support.js';

const noDio = async (): Promise<void> => {
  throw new Error('there is no dio- entry');
};

/** Give a file `pieces` extents of one cluster each, with holes between. */
async function fragment(fs: Names, blkno: number, pieces: number): Promise<void> {
  const { ctx } = fs;
  for (let from = 0; from < pieces; from += 100) {
    await ctx.engine.run('fragment', (op) => {
      const inode = ctx.editInode(op, blkno);
      if (inode.di.dynFeatures & DYN.INLINE_DATA) throw new Error('inline');
      for (let i = from; i < Math.min(pieces, from + 100); i++) {
        const { start } = claimClusters(op, ctx, 1, 1);
        insert(op, ctx, dinodeTree(inode, op, ctx), { cpos: 2 * i, clusters: 1, blkno: start * ctx.geo.bpc, flags: 0 });
      }
      inode.di.size = 2 * pieces * ctx.geo.clusterSize;
    });
  }
}

describe.each(variants([...GEOMETRIES, PLAIN]))('the end of inodes on $name', (spec) => {
  test('an open file lives without a name and goes with the last reference', async () => {
    const device = await makeVolume(spec);
    const fs = await Names.open(device);
    const file = await fs.ns.create(fs.ns.root, bytes('file'), FILE);
    await fs.ns.lookup(fs.ns.root, bytes('file'));
    await fs.ns.unlink(fs.ns.root, bytes('file'));
    expect((await fs.ns.attributes(file.blkno)).links).toBe(0);
    await expect(fs.ns.link(file.blkno, fs.ns.root, bytes('again'))).rejects.toMatchObject({ errno: 'ENOENT' });
    await fs.ctx.engine.log.flush();
    const di = Dinode.at(await (await RawReader.open(device)).inode(file.blkno));
    expect(di.flags & (FL.VALID | FL.ORPHANED)).toBe(FL.VALID | FL.ORPHANED);
    await fs.ns.forget(file.blkno);
    expect((await fs.ns.attributes(file.blkno)).links).toBe(0);
    await fs.ns.forget(file.blkno);
    expect(fs.ns.inodes.size).toBe(0);
    await fs.ctx.engine.log.flush();
    await settle(device);
    const after = HOSTILE ? await Names.open(device) : fs;
    await expect(after.ns.attributes(file.blkno)).rejects.toMatchObject({ errno: 'ESTALE' });
    await expectFsckClean(device);
  });

  test('a removed directory takes no names', async () => {
    const device = await makeVolume(spec);
    const fs = await Names.open(device);
    const dir = await fs.ns.create(fs.ns.root, bytes('dir'), DIR);
    await fs.ns.rmdir(fs.ns.root, bytes('dir'));
    await expect(fs.create(dir.blkno, 'x')).rejects.toMatchObject({ errno: 'ENOENT' });
    const file = await fs.create(fs.ns.root, 'file');
    await expect(fs.ns.link(file.blkno, dir.blkno, bytes('x'))).rejects.toMatchObject({ errno: 'ENOENT' });
    await expect(fs.ns.rename({ oldDir: fs.ns.root, oldName: bytes('file'), newDir: dir.blkno, newName: bytes('x') })).rejects.toMatchObject({ errno: 'ENOENT' });
    await fs.ns.forget(dir.blkno);
    await fs.ctx.engine.log.flush();
    await settle(device);
    await expectFsckClean(device);
  });

  test('wiping a large orphan goes on where a crash stopped it', { timeout: 90_000 }, async () => {
    const device = await makeVolume(spec);
    const fs = await Names.open(device, { slot: 1 });
    const { ctx, ns } = fs;
    const file = await fs.create(ns.root, 'big');
    await fragment(fs, file.blkno, 150);
    const dir = await fs.create(ns.root, 'dir', DIR);
    for (let i = 0; i < 700; i++) await fs.create(dir.blkno, `some-name-${i}`);
    for (let i = 0; i < 700; i++) await ns.unlink(dir.blkno, bytes(`some-name-${i}`));
    await ctx.engine.run('unlink', (op) => unlinkName(op, ctx, ns.root, bytes('big'), false));
    await ctx.engine.run('rmdir', (op) => unlinkName(op, ctx, ns.root, bytes('dir'), true));
    await ctx.engine.log.flush();
    // A crash after each operation of wiping: the device as it was then.
    const states = [device.clone()];
    for (const blkno of [file.blkno, dir.blkno]) {
      const run = ctx.engine.run.bind(ctx.engine);
      ctx.engine.run = async (...args) => {
        const result = await run(...args);
        await ctx.engine.log.flush();
        states.push(device.clone());
        return result;
      };
      // Another node may have it in core for a moment.
      while (!(await wipeInode(ctx, blkno))) expect(HOSTILE).toBe(true);
      ctx.engine.run = run;
    }
    expect(states.length).toBeGreaterThan(6);
    for (const [i, state] of states.entries()) {
      const after = await Names.open(state, { slot: 0, hostile: false });
      const result = await recoverOrphans(after.ctx, [0, 1], noDio, after.ns.inodes);
      expect(result).toMatchObject({ left: 0, cut: 0, errors: [] });
      await after.ctx.engine.log.flush();
      if (i % Math.ceil(states.length / 3) === 1) await expectFsckClean(state);
      for (const blkno of [file.blkno, dir.blkno]) await expect((await RawReader.open(state)).inode(blkno)).rejects.toThrow(CorruptionError);
    }
    await expectFsckClean(device);
  });

  test('a direct write that was cut off: the file loses what lies beyond its size, and its entry', async () => {
    const device = await makeVolume(spec);
    const fs = await Names.open(device);
    const { ctx, ns } = fs;
    const stays = await fs.create(ns.root, 'stays'), goes = await fs.create(ns.root, 'goes');
    for (const { blkno } of [stays, goes]) {
      await fragment(fs, blkno, 3);
      await ctx.engine.run('dio', (op) => {
        const inode = ctx.editInode(op, blkno);
        inode.di.size = ctx.geo.clusterSize;
        inode.di.flags |= FL.DIO_ORPHANED;
        inode.di.dioOrphanedSlot = 1;
        dirAdd(op, ctx, ctx.inode(op, ctx.sys.orphanDir[1], EX), bytes(`dio-${blkno.toString(16).padStart(16, '0')}`), { blkno, type: FT.REG });
      });
    }
    // While a direct write may be under way an inode without names is not wiped.
    await ctx.engine.run('unlink', (op) => unlinkName(op, ctx, ns.root, bytes('goes'), false));
    expect(await wipeInode(ctx, goes.blkno)).toBe(false);
    const result = await recoverOrphans(ctx, [1, 0], (blkno) => cutToSize(ctx, blkno), ns.inodes);
    expect(result).toMatchObject({ cut: 2, errors: [] });
    expect(result.wiped + result.left).toBe(1);
    if (!HOSTILE) expect(result.left).toBe(0);
    while (result.wiped === 0 && (await recoverOrphans(ctx, [1, 0], noDio, ns.inodes)).wiped === 0) expect(HOSTILE).toBe(true);
    expect(await ns.attributes(stays.blkno)).toMatchObject({ size: ctx.geo.clusterSize, blocks: ctx.geo.clusterSize / 512, links: 1 });
    await ctx.engine.log.flush();
    await expectFsckClean(device);
  });

  test('recovery leaves what is in core', async () => {
    const device = await makeVolume(spec);
    const fs = await Names.open(device);
    const file = await fs.ns.create(fs.ns.root, bytes('file'), FILE);
    await fs.ns.unlink(fs.ns.root, bytes('file'));
    expect(await recoverOrphans(fs.ctx, [0, 1], noDio, fs.ns.inodes)).toMatchObject({ wiped: 0, left: 1 });
    await fs.ns.forget(file.blkno);
    await fs.ctx.engine.log.flush();
    await settle(device);
    const after = await Names.open(device, { hostile: false });
    expect(await recoverOrphans(after.ctx, [0, 1], noDio, new InodeTable(after.ctx))).toMatchObject({ wiped: 0, left: 0 });
  });
});
