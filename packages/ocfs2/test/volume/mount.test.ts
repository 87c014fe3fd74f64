/** Mounting: recovery of what Linux left, read-only views, volumes of clusters taken offline. */
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { MemoryDevice } from '@lunfs/device';
import { readManifest, unpackFixture } from '../../../../test/support/fixtures.js';
import { Cleanup, tempDir } from '../../../../test/support/temp.js';
import { checkVolume } from '../../src/check/index.js';
import { Dinode, HeartbeatBlock, Block, INCOMPAT, ID2, JOURNAL_DIRTY, JournalId1, MODE, S_IFMT, SuperBlock } from '../../src/format/index.js';
import { RawReader, readSystemFiles } from '../../src/inspect/index.js';
import { SlotMap, Volume, readFile } from '../../src/volume/index.js';
import { TestClock } from '../support/context.js';
import { expectFsckClean, loadSparse, makeVolume } from '../support/volume.js';

async function crashed(): Promise<MemoryDevice> {
  const cleanup = new Cleanup();
  try {
    return await loadSparse(await unpackFixture('crash', tempDir(cleanup)));
  } finally {
    await cleanup.run();
  }
}

const clock = new TestClock();
/** The fixture has a file preallocated beyond its size, legal for Linux. */
const KEEP_SIZE = ['INODE_SPARSE_SIZE'];

/** Every path with what the manifest says of it, through the mounted volume's own name space. */
async function tree(volume: Volume, dir = volume.names.root, path = '.', out = new Map<string, string>()): Promise<Map<string, string>> {
  const attr = await volume.names.attributes(dir);
  const type = attr.mode & S_IFMT;
  let content = '';
  if (type === MODE.REG) {
    const bytes = new Uint8Array(attr.size);
    await readFile(volume.ctx, dir, 0, bytes);
    content = createHash('sha256').update(bytes).digest('hex');
  } else if (type === MODE.LNK) content = Buffer.from(await volume.names.readlink(dir)).toString('utf8');
  out.set(path, [attr.mode & 0o7777, attr.uid, attr.gid, attr.links, attr.size, attr.blkno, content].join('|'));
  if (type !== MODE.DIR) return out;
  for (let position = 0; ; ) {
    const { entries, end } = await volume.names.readdir(dir, position);
    for (const { name, blkno } of entries) {
      const text = Buffer.from(name).toString('utf8');
      if (text !== '.' && text !== '..') await tree(volume, blkno, path === '.' ? text : `${path}/${text}`, out);
    }
    if (end) return out;
    position = entries[entries.length - 1].next;
  }
}

function manifestTree(): Map<string, string> {
  const out = new Map<string, string>();
  for (const [path, e] of readManifest('crash').entries) out.set(path, [e.mode, e.uid, e.gid, e.links, e.size, e.inode, e.sha256 ?? e.target ?? ''].join('|'));
  return out;
}

describe('the crashed fixture', () => {
  test('reads as Linux left it, without a byte written', async () => {
    const device = await crashed();
    const before = device.clone();
    const volume = await Volume.mount(device, { readOnly: true, clock });
    expect(volume.recovery.slots).toEqual([0]);
    expect(await tree(volume)).toEqual(manifestTree());
    await expect(volume.names.unlink(volume.names.root, Buffer.from('a'))).rejects.toMatchObject({ code: 'READ_ONLY', errno: 'EROFS' });
    await volume.unmount();
    const mine = new Uint8Array(1 << 20), theirs = new Uint8Array(1 << 20);
    for (let at = 0; at < device.size; at += mine.length) {
      device.readSync(at, mine);
      before.readSync(at, theirs);
      expect(Buffer.compare(mine, theirs)).toBe(0);
    }
  });

  test('is recovered: journal, orphan, window, flags', async () => {
    const device = await crashed();
    const generation = async () => {
      const reader = await RawReader.open(device);
      return JournalId1.at(await reader.inode((await readSystemFiles(reader)).journal[0])).recoveryGeneration;
    };
    const before = await generation();
    const volume = await Volume.mount(device, { clock });
    expect(volume.recovery).toMatchObject({ slots: [0], orphans: { wiped: 1, left: 0 } });
    expect(volume.recovery.blocks).toBeGreaterThan(10);
    expect(await tree(volume)).toEqual(manifestTree());
    await volume.unmount();
    await expectFsckClean(device, KEEP_SIZE);
    const report = await checkVolume(device);
    expect(report.findings.filter((f) => f.code !== 'INODE_SPARSE_SIZE')).toEqual([]);
    const reader = await RawReader.open(device);
    const sys = await readSystemFiles(reader);
    const id1 = JournalId1.at(await reader.inode(sys.journal[0]));
    expect(id1.flags & JOURNAL_DIRTY).toBe(0);
    expect(await generation()).toBe(before + 1);
    expect((await SlotMap.read(reader, sys.slotMap)).taken()).toEqual([]);
  });

  test('is recovered again when the recovery itself is cut off anywhere between its steps', async () => {
    const device = await crashed();
    // A mount that is never unmounted: its changes are in the log only, its slot is taken, its journal dirty.
    await Volume.mount(device, { clock });
    const again = await Volume.mount(device, { clock });
    expect(again.recovery.slots).toEqual([0]);
    expect(await tree(again)).toEqual(manifestTree());
    await again.unmount();
    await expectFsckClean(device, KEEP_SIZE);
  });
});

describe('a volume of a cluster', () => {
  const CLUSTER = { size: 100 << 20, mkfsArgs: ['-b', '4096', '-C', '4096', '-N', '4', '-J', 'size=4M', '--cluster-stack=o2cb', '--cluster-name=test'] };
  const quick = async () => undefined;
  const sb = async (device: MemoryDevice) => SuperBlock.at(await (await RawReader.open(device)).readRaw(2));

  test('is refused unless asked for, but can be looked at', async () => {
    const device = await makeVolume(CLUSTER);
    await expect(Volume.mount(device, { clock })).rejects.toMatchObject({ code: 'CLUSTER_VOLUME' });
    const volume = await Volume.mount(device, { clock, readOnly: true });
    expect((await volume.names.lookup(volume.names.root, Buffer.from('lost+found'))).mode & S_IFMT).toBe(MODE.DIR);
  });

  test('carries the mark while it is written, and none after', async () => {
    const device = await makeVolume(CLUSTER);
    const volume = await Volume.mount(device, { clock, offline: true, pause: quick });
    expect((await sb(device)).featureIncompat & INCOMPAT.TUNEFS_INPROG).not.toBe(0);
    await volume.names.create(volume.names.root, Buffer.from('x'), { mode: 0o100644, uid: 0, gid: 0 });
    await volume.unmount();
    expect((await sb(device)).featureIncompat & INCOMPAT.TUNEFS_INPROG).toBe(0);
    await expectFsckClean(device);
  });

  test('keeps the mark after a crash until it is recovered', async () => {
    const device = await makeVolume(CLUSTER);
    const volume = await Volume.mount(device, { clock, offline: true, pause: quick });
    await volume.names.create(volume.names.root, Buffer.from('x'), { mode: 0o100644, uid: 0, gid: 0 });
    await volume.sync();
    const image = device.clone();
    expect((await sb(image)).featureIncompat & INCOMPAT.TUNEFS_INPROG).not.toBe(0);
    const again = await Volume.mount(image, { clock, offline: true, pause: quick });
    expect((await again.names.lookup(again.names.root, Buffer.from('x'))).size).toBe(0);
    await again.unmount();
    expect((await sb(image)).featureIncompat & INCOMPAT.TUNEFS_INPROG).toBe(0);
    await expectFsckClean(image);
  });

  test('is refused while a node beats, by its number', async () => {
    const device = await makeVolume(CLUSTER);
    const reader = await RawReader.open(device);
    const sys = await readSystemFiles(reader);
    let at = 0;
    for await (const e of reader.extents(await reader.inode(sys.heartbeat), ID2)) at ||= e.blkno * 4096 + 5 * 512;
    let seq = 100n;
    const beat = async () => {
      const bytes = new Uint8Array(512);
      const hb = HeartbeatBlock.at(new Block('beat', 0, bytes));
      hb.seq = seq++;
      hb.node = 5;
      device.writeSync(at, bytes);
    };
    await expect(Volume.mount(device, { clock, offline: true, pause: beat })).rejects.toMatchObject({ code: 'CLUSTER_ALIVE', fields: { nodes: '5' } });
    // A block that stands still is a node that died long ago.
    const volume = await Volume.mount(device, { clock, offline: true, pause: quick });
    await volume.unmount();
  });

  test('with global heartbeat is refused while its slot map says mounted', async () => {
    const device = await makeVolume({ ...CLUSTER, mkfsArgs: [...CLUSTER.mkfsArgs, '--global-heartbeat'] });
    const reader = await RawReader.open(device);
    const map = await SlotMap.read(reader, (await readSystemFiles(reader)).slotMap);
    await map.set(device, 2, 7);
    await expect(Volume.mount(device, { clock, offline: true, pause: quick })).rejects.toMatchObject({ code: 'SLOTS_TAKEN', fields: { slots: 'slot 2 by node 7' } });
    // Who can tell which nodes live leaves no doubt.
    await expect(Volume.mount(device, { clock, offline: true, pause: quick, liveNodes: async () => [3, 7] })).rejects.toMatchObject({ code: 'CLUSTER_ALIVE', fields: { nodes: '7' } });
    await (await Volume.mount(device, { clock, offline: true, pause: quick, liveNodes: async () => [3] })).unmount();
    await expectFsckClean(device);
  });

  test('with an interrupted tunefs is refused', async () => {
    const device = await makeVolume(CLUSTER);
    const reader = await RawReader.open(device);
    const block = await reader.readRaw(2);
    SuperBlock.at(block).featureIncompat |= INCOMPAT.TUNEFS_INPROG;
    SuperBlock.at(block).tunefsFlag = 1;
    device.writeSync(2 * 4096, block.bytes);
    await expect(Volume.mount(device, { clock, offline: true, pause: quick })).rejects.toMatchObject({ code: 'TUNEFS_INTERRUPTED' });
  });
});

test('a corrupt block makes the operation fail and the volume read-only', async () => {
  const device = await makeVolume({ size: 60 << 20, mkfsArgs: ['-M', 'local', '-b', '4096', '-C', '4096', '-J', 'size=4M'] });
  const volume = await Volume.mount(device, { clock });
  const found = await volume.names.lookup(volume.names.root, Buffer.from('lost+found'));
  await volume.unmount();
  const block = await (await RawReader.open(device)).readRaw(found.blkno);
  Dinode.at(block).size = 3;
  block.bytes[0xc8 + 8] = 1;
  device.writeSync(found.blkno * 4096, block.bytes);
  const reasons: string[] = [];
  const broken = await Volume.mount(device, { clock, onReadOnly: (reason) => reasons.push(reason.code) });
  await expect(broken.names.readdir(found.blkno)).rejects.toMatchObject({ kind: 'corruption', errno: 'EIO' });
  expect(reasons).toHaveLength(1);
  await expect(broken.names.create(broken.names.root, Buffer.from('x'), { mode: 0o100644, uid: 0, gid: 0 })).rejects.toMatchObject({ kind: 'corruption' });
  expect(Dinode.at(await (await RawReader.open(device)).inode(broken.names.root)).links).toBe(3);
});
