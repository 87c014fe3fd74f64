/**
 * An inode that another node has just wiped, as it may be read beside a kernel node: that gives up the inode's lock before the wiped inode is in
 * place (Linux 6.1 fs/ocfs2/inode.c:ocfs2_clear_inode makes no checkpoint of what it deleted), but the orphan directory's only after. So until this
 * node has looked into the orphan directory, its reads find the dinode as the orphan that it was.
 */
import { expect, test } from 'vitest';
import { Dinode, FL } from '../../src/format/index.js';
import { RawReader } from '../../src/inspect/index.js';
import { wipeInode } from '../../src/volume/inode-life.js';
import { lockName } from '../../src/locking/index.js';
import { writeFile } from '../../src/volume/index.js';
import { type ClusterNode, TestCluster } from '../support/cluster.js';
import { expectFsckClean } from '../support/volume.js';
import { FILE, bytes } from '../volume/support.js';

/** An orphan of node 1 that only node 1 has in use. */
async function orphan({ volume: { ctx, names } }: ClusterNode): Promise<number> {
  const { blkno } = await names.create(names.root, bytes('f'), FILE);
  await writeFile(ctx, blkno, 0, new Uint8Array(300_000).fill(7));
  await names.unlink(names.root, bytes('f'));
  return blkno;
}

test('what a peer has wiped is not wiped again by who still reads it as an orphan', async () => {
  const cluster = await TestCluster.make(11);
  const a = await cluster.mount(1), b = await cluster.mount(2);
  const { ctx, names } = a.volume;
  const blkno = await orphan(a);
  // Who asks for its lock finds the orphan in place.
  (await cluster.take(lockName('M', blkno, 0)))();
  const { blockSize } = ctx.geo;
  const old = await (await RawReader.open(cluster.lun)).inode(blkno);
  expect(Dinode.at(old).flags & FL.ORPHANED).not.toBe(0);
  await names.forget(blkno); // the last reference: wiped
  expect(names.inodes.has(blkno)).toBe(false);

  // The locks of `a` are kept till they are wanted: the orphan directory is read anew once it has been asked for.
  const orphanDir = ctx.sys.orphanDir[ctx.slot]!;
  let oldReads = 0, newReads = 0;
  let inPlace = false;
  const reads = (block: number, offset: number, length: number): boolean => block * blockSize >= offset && block * blockSize < offset + length;
  b.device.onRead = (offset, got) => {
    if (reads(orphanDir, offset, got.length)) inPlace = true;
    if (!reads(blkno, offset, got.length)) return;
    if (inPlace) newReads++;
    else {
      oldReads++;
      got.set(old.bytes, blkno * blockSize - offset);
    }
  };
  expect(await wipeInode(b.volume.ctx, blkno)).toBe(true);
  expect([oldReads, inPlace, newReads]).toEqual([1, true, 1]);
  b.device.onRead = undefined;
  await b.volume.sync();
  await cluster.unmount(a);
  await cluster.unmount(b);
  await expectFsckClean(cluster.lun);
});
