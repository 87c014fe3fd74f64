/**
 * A volume that grows under its members: those that did not take part meet what lies behind the end they knew, by reading, by writing and
 * by recovering a dead node; a grower that dies is recovered, and another one goes on. LUNFS_SEED=… repeats a run.
 */
import { Random } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { seed } from '../../../../test/support/temp.js';
import { Dinode } from '../../src/format/index.js';
import { RawReader, readSystemFiles } from '../../src/inspect/index.js';
import { fallocate, fileExtents, readFile, writeFile } from '../../src/volume/index.js';
import { CLUSTER_ARGS, type ClusterNode, TestCluster } from '../support/cluster.js';
import { MAY_BE_LEFT } from '../support/crash.js';
import { pattern } from '../support/posix.js';
import { expectFsckClean } from '../support/volume.js';

const SEED = seed('members of a volume that grows');
const MIB = 2 ** 20;
/** A group and a bit. */
const SPEC = { size: 130 * MIB, mkfsArgs: CLUSTER_ARGS };
const FILE = { mode: 0o100644, uid: 0, gid: 0 };
const name = (text: string) => Buffer.from(text);

async function put({ volume: { names, ctx } }: ClusterNode, path: string, content: Uint8Array): Promise<number> {
  const { blkno } = await names.create(names.root, name(path), FILE);
  await writeFile(ctx, blkno, 0, content);
  await names.forget(blkno);
  return blkno;
}

async function get({ volume: { names, ctx } }: ClusterNode, path: string): Promise<Uint8Array> {
  const { blkno, size } = await names.lookup(names.root, name(path));
  const content = new Uint8Array(size);
  await readFile(ctx, blkno, 0, content);
  await names.forget(blkno);
  return content;
}

/** Take all that is free, in a file. */
async function fill(node: ClusterNode, path: string): Promise<void> {
  const { names, ctx } = node.volume;
  const { blkno } = await names.create(names.root, name(path), FILE);
  let at = 0;
  for (const piece of [8 * MIB, 65536, 4096]) {
    try {
      for (; ; at += piece) await fallocate(ctx, blkno, 'reserve', at, piece, true);
    } catch (error) {
      expect(error).toMatchObject({ code: 'NO_SPACE' });
    }
  }
  await names.forget(blkno);
}

/** Begin to grow the volume; resolves after so many requests of its host, or when it has grown. */
async function growFor(cluster: TestCluster, node: ClusterNode, requests: number): Promise<void> {
  const growth = node.volume.grow();
  growth.catch(() => undefined); // of a dead node nothing is heard
  await Promise.race([growth, cluster.requests(node.number, node.device.requests + requests)]);
}

const clusters = ({ volume }: ClusterNode): number => volume.geo.totalClusters;

/** What superblock and bitmap say, when nobody has the volume. */
async function sizes({ lun }: TestCluster): Promise<number[]> {
  const reader = await RawReader.open(lun);
  return [reader.geo.totalClusters, Dinode.at(await reader.inode((await readSystemFiles(reader)).globalBitmap)).clusters];
}

describe('members of a volume that grows', { timeout: 300_000 }, () => {
  test('one that did not look meets a file behind the end it knows', async () => {
    const cluster = await TestCluster.make(SEED, SPEC);
    const a = await cluster.mount(1), b = await cluster.mount(2);
    const old = clusters(a);
    await fill(a, 'full');
    await get(b, 'full').catch(() => undefined);
    cluster.lun.enlarge(700 * MIB);
    await a.volume.grow();
    const content = pattern(0, 50_000, 1);
    const blkno = await put(a, 'new', content);
    // Its inode, too, if the allocator had to grow; its data for certain.
    expect((await fileExtents(a.volume.ctx, blkno, 0, 100)).some(({ device }) => device >= old * 4096)).toBe(true);
    expect(clusters(b)).toBe(old);
    expect(await get(b, 'new')).toEqual(content);
    expect(clusters(b)).toBe((700 * MIB) / 4096);
    expect(b.volume.readOnlyReason).toBeUndefined();
    expect((await b.volume.names.statistics()).blocks).toBe((700 * MIB) / 4096);
    await put(b, 'also', content);
    expect(await get(a, 'also')).toEqual(content);
    for (const node of [a, b]) await cluster.unmount(node);
    await expectFsckClean(cluster.lun, MAY_BE_LEFT);
  });

  test('one that recovers a dead node finds blocks in its log that are behind the end it knows', async () => {
    const cluster = await TestCluster.make(SEED + 1, SPEC);
    const a = await cluster.mount(1), b = await cluster.mount(2);
    const old = clusters(b);
    await fill(a, 'full');
    cluster.lun.enlarge(700 * MIB);
    await a.volume.grow();
    const { names, ctx } = a.volume;
    // Directory blocks, so that the log has images of blocks there.
    const { blkno: dir } = await names.create(names.root, name('d'), { mode: 0o40755, uid: 0, gid: 0 });
    for (let i = 0; i < 60; i++) await names.forget((await names.create(dir, name(`${i}${'n'.repeat(200)}`), FILE)).blkno);
    await a.volume.sync();
    expect(clusters(b)).toBe(old);
    cluster.kill(1);
    const listed = await b.volume.names.readdir((await b.volume.names.lookup(b.volume.names.root, name('d'))).blkno, 0, 100);
    expect(listed.entries.length).toBe(62);
    expect(clusters(b)).toBe((700 * MIB) / 4096);
    expect(ctx.geo.totalClusters).toBe(clusters(b));
    await cluster.unmount(b);
    expect(await sizes(cluster)).toEqual([(700 * MIB) / 4096, (700 * MIB) / 4096]);
    await expectFsckClean(cluster.lun, MAY_BE_LEFT);
  });

  test('three write while one of them grows the volume step by step', async () => {
    const cluster = await TestCluster.make(SEED + 2, SPEC);
    const nodes = [await cluster.mount(1), await cluster.mount(2), await cluster.mount(3)];
    const written = new Map<string, Uint8Array>();
    const load = async (node: ClusterNode): Promise<void> => {
      for (let i = 0; i < 15; i++) {
        const path = `n${node.number}-${i}`, content = pattern(0, 1 + ((i * 7919) % 100_000), i);
        await put(node, path, content);
        written.set(path, content);
        if (i % 5 === 4) await node.volume.sync();
        if (i % 3 === 2) {
          const { names } = node.volume;
          await names.unlink(names.root, name(`n${node.number}-${i - 1}`));
          written.delete(`n${node.number}-${i - 1}`);
        }
      }
    };
    const grow = async (): Promise<void> => {
      for (const size of [131, 160, 253, 600, 1025, 1500]) {
        cluster.lun.enlarge(size * MIB);
        await nodes[1].volume.grow();
      }
    };
    await Promise.all([...nodes.map(load), grow()]);
    for (const node of nodes) expect((await node.volume.names.statistics()).blocks).toBe((1500 * MIB) / 4096);
    for (const [path, content] of written) expect(await get(nodes[path.length % 3], path), path).toEqual(content);
    for (const node of nodes) await cluster.unmount(node);
    expect(await sizes(cluster)).toEqual([(1500 * MIB) / 4096, (1500 * MIB) / 4096]);
    await expectFsckClean(cluster.lun, MAY_BE_LEFT);
  });

  test('the grower dies at any moment of it; who is left recovers it, makes superblock and bitmap agree, and grows on', async () => {
    const random = new Random(SEED);
    const seen = new Set<number>();
    for (let round = 0; round < 12; round++) {
      const cluster = await TestCluster.make(SEED + 10 + round, SPEC);
      const a = await cluster.mount(1), b = await cluster.mount(2);
      cluster.lun.enlarge(1100 * MIB);
      const content = pattern(0, 20_000, round);
      await put(a, 'kept', content);
      await a.volume.sync();
      await growFor(cluster, a, random.int(60));
      cluster.kill(1);
      expect(await get(b, 'kept')).toEqual(content);
      const { from, to } = await b.volume.grow();
      seen.add(from);
      expect(to).toBe((1100 * MIB) / 4096);
      await put(b, 'after', content);
      await cluster.unmount(b);
      expect(await sizes(cluster)).toEqual([to, to]);
      if (round % 4 === 0) await expectFsckClean(cluster.lun, MAY_BE_LEFT);
    }
    expect(seen.size).toBeGreaterThan(1);
  });

  test('the grower dies and nobody grows on: superblock and bitmap agree all the same', async () => {
    const random = new Random(SEED + 1);
    for (let round = 0; round < 12; round++) {
      const cluster = await TestCluster.make(SEED + 30 + round, SPEC);
      const a = await cluster.mount(1), b = await cluster.mount(2);
      cluster.lun.enlarge(400 * MIB);
      await growFor(cluster, a, random.int(40));
      cluster.kill(1);
      await put(b, 'after', pattern(0, 100, 1));
      await cluster.unmount(b);
      const [superblock, bitmap] = await sizes(cluster);
      expect(superblock).toBe(bitmap);
    }
  });

  test('only one node grows a volume at a time, tunefs.ocfs2 among them; its lock is given back', async () => {
    const cluster = await TestCluster.make(SEED + 3, SPEC);
    const a = await cluster.mount(1), b = await cluster.mount(2);
    cluster.lun.enlarge(300 * MIB);
    const release = await cluster.take('tunefs-online-resize-lock');
    await expect(a.volume.grow()).rejects.toMatchObject({ code: 'GROWING' });
    release();
    expect(await a.volume.grow({ size: 200 * MIB })).toMatchObject({ to: (200 * MIB) / 4096 });
    expect(await b.volume.grow({ size: 220 * MIB })).toMatchObject({ from: (200 * MIB) / 4096, to: (220 * MIB) / 4096 });
    const outcomes = await Promise.allSettled([a, b].map(({ volume }) => volume.grow()));
    expect(outcomes.filter(({ status }) => status === 'fulfilled').length).toBeGreaterThan(0);
    for (const one of outcomes) if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'GROWING' });
    (await cluster.take('tunefs-online-resize-lock'))();
    for (const node of [a, b]) await cluster.unmount(node);
    await expectFsckClean(cluster.lun, MAY_BE_LEFT);
  });

  test('a host that does not see its device\'s new end says so, goes on, and follows when it sees it', async () => {
    const cluster = await TestCluster.make(SEED + 4, SPEC);
    const a = await cluster.mount(1), b = await cluster.mount(2);
    await fill(a, 'full');
    const content = pattern(0, 50_000, 2);
    b.device.sees = cluster.lun.size;
    cluster.lun.enlarge(500 * MIB);
    await a.volume.grow();
    await put(a, 'new', content);
    await expect(get(b, 'new')).rejects.toMatchObject({ code: 'DEVICE_BEHIND' });
    expect(b.volume.readOnlyReason).toBeUndefined();
    await expect(b.volume.grow()).rejects.toThrow();
    b.device.sees = undefined;
    expect(await get(b, 'new')).toEqual(content);
    for (const node of [a, b]) await cluster.unmount(node);
    await expectFsckClean(cluster.lun, MAY_BE_LEFT);
  });
});
