/** Members of a live cluster: slots taken and given back, locks held, dead nodes found and recovered at mount and while mounted. */
import { describe, expect, test } from 'vitest';
import { JOURNAL_DIRTY, JournalId1 } from '../../src/format/index.js';
import { checkVolume } from '../../src/check/index.js';
import { RawReader, readSystemFiles } from '../../src/inspect/index.js';
import { SlotMap, readFile, writeFile } from '../../src/volume/index.js';
import { type ClusterNode, TestCluster } from '../support/cluster.js';
import { expectFsckClean } from '../support/volume.js';
import type { MemoryDevice } from '@lunfs/device';

const FILE = { mode: 0o100644, uid: 0, gid: 0 };
const name = (text: string) => Buffer.from(text);

async function slots(lun: MemoryDevice): Promise<Record<number, number>> {
  const reader = await RawReader.open(lun);
  const taken = (await SlotMap.read(reader, (await readSystemFiles(reader)).slotMap)).taken();
  return Object.fromEntries(taken.map(({ slot, node }) => [slot, node]));
}

async function dirtyJournals(lun: MemoryDevice): Promise<number[]> {
  const reader = await RawReader.open(lun);
  const out: number[] = [];
  for (const [slot, blkno] of (await readSystemFiles(reader)).journal.entries()) if (JournalId1.at(await reader.inode(blkno)).flags & JOURNAL_DIRTY) out.push(slot);
  return out;
}

async function put({ volume: { names, ctx } }: ClusterNode, path: string, content: string): Promise<number> {
  const { blkno } = await names.create(names.root, name(path), FILE);
  await writeFile(ctx, blkno, 0, name(content));
  await names.forget(blkno);
  return blkno;
}

async function get({ volume: { names, ctx } }: ClusterNode, path: string): Promise<string> {
  const { blkno, size } = await names.lookup(names.root, name(path));
  const bytes = new Uint8Array(size);
  await readFile(ctx, blkno, 0, bytes);
  await names.forget(blkno);
  return Buffer.from(bytes).toString();
}

describe('members', () => {
  test('take slots, see each other\'s changes, and leave nothing behind', async () => {
    const cluster = await TestCluster.make(1);
    const a = await cluster.mount(7), b = await cluster.mount(3);
    expect(await slots(cluster.lun)).toEqual({ 0: 7, 1: 3 });
    expect(await dirtyJournals(cluster.lun)).toEqual([0, 1]);
    await put(a, 'one', 'from a');
    expect(await get(b, 'one')).toBe('from a');
    await put(b, 'two', 'from b');
    expect(await get(a, 'two')).toBe('from b');
    // Each has a window of its own by now, which is free to nobody else.
    const [said, alike] = await Promise.all([a, b].map(({ volume }) => volume.names.statistics()));
    expect(said).toEqual(alike);
    await cluster.unmount(a);
    expect(await slots(cluster.lun)).toEqual({ 1: 3 });
    const c = await cluster.mount(9);
    expect(await slots(cluster.lun)).toEqual({ 0: 9, 1: 3 });
    expect(await get(c, 'two')).toBe('from b');
    await cluster.unmount(b);
    await cluster.unmount(c);
    expect(await slots(cluster.lun)).toEqual({});
    expect(await dirtyJournals(cluster.lun)).toEqual([]);
    await expectFsckClean(cluster.lun);
  });

  test('one that dies is recovered by the others', async () => {
    const cluster = await TestCluster.make(2);
    const a = await cluster.mount(1), b = await cluster.mount(2);
    await put(a, 'kept', 'committed');
    await a.volume.sync();
    cluster.kill(1);
    expect(await get(b, 'kept')).toBe('committed');
    expect(await slots(cluster.lun)).toEqual({ 1: 2 });
    expect(await dirtyJournals(cluster.lun)).toEqual([1]);
    await cluster.unmount(b);
    await expectFsckClean(cluster.lun);
  });

  test('attributes of an inode in use come with its lock, and from the disk when the lock says nothing', async () => {
    const cluster = await TestCluster.make(6);
    const a = await cluster.mount(1), b = await cluster.mount(2);
    const ino = await put(a, 'file', 'x');
    const { names } = b.volume;
    await names.lookup(names.root, name('file'));
    await writeFile(a.volume.ctx, ino, 0, new Uint8Array(70_000));
    const told = await names.change(ino, { mode: 0o640 }).then(() => a.volume.names.change(ino, { uid: 5 }));
    const { requests } = b.device;
    expect(await names.attributes(ino)).toEqual(told);
    // One request for the settling of locks at most is a's; b read nothing.
    expect(b.device.requests).toBe(requests);
    await writeFile(a.volume.ctx, ino, 70_000, new Uint8Array(10));
    await a.volume.sync();
    cluster.kill(1);
    expect((await names.attributes(ino)).size).toBe(70_010);
    expect(b.device.requests).toBeGreaterThan(requests);
    await cluster.unmount(b);
    await expectFsckClean(cluster.lun);
  });

  test('an open file without a name lives until the last node that has it open lets go', async () => {
    const cluster = await TestCluster.make(4);
    const a = await cluster.mount(1), b = await cluster.mount(2);
    const ino = await put(a, 'file', 'still here');
    const { names } = a.volume;
    await names.lookup(names.root, name('file'));
    await b.volume.names.lookup(names.root, name('file'));
    await b.volume.names.unlink(names.root, name('file'));
    await b.volume.names.forget(ino);
    const content = new Uint8Array(10);
    expect(await readFile(a.volume.ctx, ino, 0, content)).toBe(10);
    expect(Buffer.from(content).toString()).toBe('still here');
    await names.forget(ino);
    await expect(b.volume.names.attributes(ino)).rejects.toMatchObject({ code: 'STALE' });
    await cluster.unmount(a);
    await cluster.unmount(b);
    expect((await checkVolume(cluster.lun)).findings).toEqual([]);
    await expectFsckClean(cluster.lun);
  });

  test('one that dies at any moment of its mount or unmount leaves nothing that the others do not mend', async () => {
    const cluster = await TestCluster.make(5);
    const a = await cluster.mount(1);
    let mounted = false, unmounted = false;
    for (let after = 1; !unmounted; after += 3) {
      const mounting = cluster.mount(2);
      mounted = await Promise.race([mounting.then(() => true), cluster.requests(2, after).then(() => false)]);
      if (mounted) {
        const b = await mounting;
        await put(b, `f${after}`, 'x');
        const { requests } = b.device;
        unmounted = await Promise.race([cluster.unmount(b).then(() => true), cluster.requests(2, requests + after % 60).then(() => false)]);
      }
      if (!unmounted) cluster.kill(2);
      await put(a, `a${after}`, 'goes on');
    }
    expect(await slots(cluster.lun)).toEqual({ 0: 1 });
    await cluster.unmount(a);
    await expectFsckClean(cluster.lun);
  });

  test('after the death of all the next one recovers them, and takes the slot it died in', async () => {
    const cluster = await TestCluster.make(3);
    const nodes = [await cluster.mount(1), await cluster.mount(2)];
    for (const [i, node] of nodes.entries()) {
      await put(node, `f${i}`, `by ${i}`);
      await node.volume.sync();
    }
    cluster.kill(1);
    cluster.kill(2);
    const again = await cluster.mount(2);
    expect([...again.volume.recovery.slots].sort()).toEqual([0, 1]);
    expect(await slots(cluster.lun)).toEqual({ 1: 2 });
    expect(await get(again, 'f0')).toBe('by 0');
    expect(await get(again, 'f1')).toBe('by 1');
    await cluster.unmount(again);
    await expectFsckClean(cluster.lun);
  });
});
