/** What members do for each other besides files: file locks, the orphan scan, truncate logs that are emptied in time. */
import { expect, test } from 'vitest';
import { EX, ORPHAN_SCAN_LOCK, PR } from '../../src/locking/index.js';
import { statClusters } from '../../src/alloc/index.js';
import { truncateFile, writeFile } from '../../src/volume/index.js';
import { type ClusterNode, TestCluster } from '../support/cluster.js';
import { expectFsckClean } from '../support/volume.js';
import { FILE, bytes } from '../volume/support.js';

async function turns(n = 200): Promise<void> {
  for (let i = 0; i < n; i++) await new Promise((resolve) => setImmediate(resolve));
}

async function twoNodes(seed: number): Promise<{ cluster: TestCluster; a: ClusterNode; b: ClusterNode }> {
  const cluster = await TestCluster.make(seed);
  return { cluster, a: await cluster.mount(1), b: await cluster.mount(2) };
}

test('file locks are the cluster\'s, and the hosts\' own owners meet too', async () => {
  const { cluster, a, b } = await twoNodes(1);
  const { blkno } = await a.volume.names.create(a.volume.names.root, bytes('f'), FILE);
  const one = a.volume.flocks!, two = b.volume.flocks!;
  expect(await one.lock(blkno, 1n, EX)).toBe(true);
  expect(await one.lock(blkno, 1n, EX)).toBe(true);
  expect(await one.lock(blkno, 2n, EX)).toBe(false);
  expect(await two.lock(blkno, 1n, PR)).toBe(false);
  let got = false;
  const waiting = two.lock(blkno, 1n, EX, { wait: true }).then((result) => (got = result));
  const stop = new AbortController();
  const interrupted = two.lock(blkno, 2n, PR, { wait: true, signal: stop.signal });
  await turns();
  expect(got).toBe(false);
  stop.abort();
  await expect(interrupted).rejects.toMatchObject({ code: 'INTERRUPTED', errno: 'EINTR' });
  await one.unlock(blkno, 1n);
  await waiting;
  expect(got).toBe(true);
  // From exclusive to shared: others may come in.
  expect(await two.lock(blkno, 1n, PR)).toBe(true);
  expect(await one.lock(blkno, 2n, PR)).toBe(true);
  expect(await one.lock(blkno, 1n, EX)).toBe(false);
  await two.close(blkno, 1n);
  await one.close(blkno, 2n);
  expect(await one.lock(blkno, 1n, EX)).toBe(true);
  cluster.kill(1);
  expect(await two.lock(blkno, 5n, EX, { wait: true })).toBe(true);
  await cluster.unmount(b);
  await expectFsckClean(cluster.lun);
});

test('an orphan that nobody wiped is found by one scan for all', async () => {
  const { cluster, a, b } = await twoNodes(2);
  const { names } = a.volume;
  const { blkno } = await names.create(names.root, bytes('f'), FILE);
  await writeFile(a.volume.ctx, blkno, 0, new Uint8Array(100_000).fill(1));
  await names.forget(blkno);
  await b.volume.names.lookup(b.volume.names.root, bytes('f'));
  await names.unlink(names.root, bytes('f')); // b has it in use
  await a.volume.sync();
  cluster.kill(2);
  await turns();
  const c = await cluster.mount(3);
  // It is in the orphan directory of a, which is alive: neither the recovery of b nor the mount of c look there.
  expect((await names.attributes(blkno)).links).toBe(0);
  let scans = 0;
  while (scans < 5 && (await names.attributes(blkno).then(() => true, () => false))) {
    scans++;
    for (const node of [a, c]) {
      node.timers.fire();
      await turns(100);
    }
  }
  await expect(names.attributes(blkno)).rejects.toMatchObject({ code: 'STALE' });
  expect(scans).toBeLessThanOrEqual(4);
  // The number in the value block went from hand to hand.
  const release = await cluster.take(ORPHAN_SCAN_LOCK);
  release();
  await cluster.unmount(a);
  await cluster.unmount(c);
  await expectFsckClean(cluster.lun);
});

test('what a file gave back is free for other members soon', async () => {
  const { cluster, a, b } = await twoNodes(3);
  const { names, ctx } = a.volume;
  const { blkno } = await names.create(names.root, bytes('f'), FILE);
  await writeFile(ctx, blkno, 0, new Uint8Array(4 << 20).fill(1));
  const free = () => b.volume.ctx.engine.read('free', (op) => statClusters(op, b.volume.ctx).free);
  const before = await free();
  await truncateFile(ctx, blkno, 0);
  expect(await free()).toBe(before);
  a.timers.fire();
  await turns(300);
  expect(await free()).toBe(before + 1024);
  await names.forget(blkno);
  await cluster.unmount(a);
  await cluster.unmount(b);
  await expectFsckClean(cluster.lun);
});
