/**
 * Volumes that go back and forth between Linux's OCFS2 and the engine: Linux fills, we read and change, Linux reads and
 * changes, we read. At every hand-over fsck.ocfs2 and our verifier are clean and both sides' manifests are equal, down to
 * times, blocks and inode numbers. One boot serves all volumes.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { type FileDevice, openDevice } from '@lunfs/device';
import { type MkfsOptions as OwnMkfsOptions, Volume, checkVolume, formatVolume, punchHole, systemRandom } from '@lunfs/ocfs2';
import { afterAll, describe, expect, test } from 'vitest';
import { EngineTree, type Tree, expectSameTree } from '../support/engine-tree.js';
import { KernelNode, singleNodeCluster } from '../support/machines.js';
import { nodeTree } from '../support/node-tree.js';
import { KNOWN_FALSE_POSITIVES, type MkfsOptions, mkfs, mustBeClean } from '../support/ocfs2-tools.js';
import { Cleanup, sparseFile, tempDir } from '../support/temp.js';
import { Waivers } from '../support/waivers.js';
import { changeAcls, fillAttributes, nodeChanges, nodeHonoursAcls, readBack } from './attributes.js';
import { compareWithDebugfs } from './debugfs-stat.js';
import { changeAll, fillOwn, fillWide } from './engine-changes.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());
const directory = tempDir(cleanup, 'kernel');
const script = (name: string) => fs.readFileSync(path.join(import.meta.dirname, name), 'utf8');

interface Case {
  readonly name: string;
  readonly size: number;
  readonly mkfs?: MkfsOptions;
  /** Made by our own mkfs. */
  readonly own?: OwnMkfsOptions;
  /** Entries of the wide directory. */
  readonly entries: number;
}

const GIB = 2 ** 30;
/** Of all of them. */
const BLOCK_SIZE = 4096;
const CASES: Case[] = [
  { name: '4k4k', size: GIB, mkfs: { blockSize: BLOCK_SIZE, clusterSize: 4096 }, entries: 10_000 },
  { name: 'vmstore', size: 6 * GIB, mkfs: { type: 'vmstore' }, entries: 3_000 },
  { name: 'metaecc', size: GIB, mkfs: { blockSize: BLOCK_SIZE, clusterSize: 4096, features: 'metaecc,refcount,xattr' }, entries: 3_000 },
  { name: 'cluster', size: GIB, mkfs: { blockSize: BLOCK_SIZE, clusterSize: 4096, cluster: 'testing', slots: 3 }, entries: 1_000 },
  { name: 'own-4k4k', size: GIB, own: { blockSize: BLOCK_SIZE, clusterSize: 4096, mount: 'local', features: 'metaecc' }, entries: 1_000 },
  { name: 'own-vmstore', size: 6 * GIB, own: { type: 'vmstore', mount: 'local' }, entries: 1_000 },
];
/** Where attributes go back and forth: small and large clusters, with checksums and without. */
const ATTRIBUTED: readonly string[] = ['metaecc', 'vmstore'];
const attributes = new Map<string, Awaited<ReturnType<typeof fillAttributes>>>();
const image = (name: string) => path.join(directory, `${name}.img`);
const device = (name: string) => `/dev/vd${String.fromCharCode(97 + CASES.findIndex((one) => one.name === name))}`;
const mountPoint = (name: string) => `/mnt/${name}`;

async function withDevice<T>(name: string, write: boolean, work: (device: FileDevice) => Promise<T>): Promise<T> {
  const opened = await openDevice(image(name), { write });
  try {
    return await work(opened);
  } finally {
    await opened.close();
  }
}

/** Mounted for the time of `work`; cluster volumes offline. */
function withVolume<T>(name: string, options: { readOnly?: boolean }, work: (tree: EngineTree, volume: Volume) => Promise<T>): Promise<T> {
  return withDevice(name, !options.readOnly, async (opened) => {
    const volume = await Volume.mount(opened, { ...options, offline: true });
    const result = await work(new EngineTree(volume), volume);
    await volume.unmount();
    return result;
  });
}

/** What Linux left in each volume when it last had it. */
const waivers = new Map<string, Waivers>();

/** Nothing to find for our verifier, for debugfs.ocfs2 to disagree on, and for fsck.ocfs2. `last`: Linux had the volume, and nobody else did since. */
async function handOver(name: string, last?: 'Linux'): Promise<void> {
  await withDevice(name, false, async (opened) => {
    const { findings } = await checkVolume(opened);
    if (last === 'Linux') {
      waivers.set(name, new Waivers(image(name), BLOCK_SIZE));
      waivers.get(name)!.learn(findings);
    }
    expect(findings.filter((finding) => !KNOWN_FALSE_POSITIVES.includes(finding.code) && !waivers.get(name)?.waives(finding))).toEqual([]);
    await compareWithDebugfs(cleanup, opened, image(name));
  });
  await mustBeClean(image(name), (finding) => KNOWN_FALSE_POSITIVES.includes(finding.code) || waivers.get(name)?.waivesFsck(finding) === true);
}

/** What the two sides said of each volume at the last hand-over. */
const told = new Map<string, Tree>();
/** Of the clones, as Linux left them. */
let sums = '';
let node: KernelNode;

/** For all volumes at once: mounting one of a cluster is mostly waiting. */
async function forAll(work: (one: Case) => Promise<unknown>): Promise<void> {
  await Promise.all(CASES.map(work));
}

async function boot(): Promise<void> {
  node = await KernelNode.start(cleanup, { disks: CASES.map(({ name }) => image(name)), cluster: singleNodeCluster('testing'), memoryMiB: 768, cpus: 2 });
  await forAll(({ name }) => node.mount(device(name), mountPoint(name)));
}

/** What Linux says after a mount afresh: times of direct writes, for one, are in its memory only (no dirty_inode in Linux 6.1 fs/ocfs2/super.c). */
async function shutDown(): Promise<void> {
  await forAll(async ({ name }) => {
    await node.umount(mountPoint(name));
    await node.mount(device(name), mountPoint(name), 'ro');
    told.set(name, await nodeTree(node, mountPoint(name)));
    await node.umount(mountPoint(name));
  });
  await node.shutdown();
}

describe('volumes between Linux and lunfs', () => {
  test('are made by both', async () => {
    for (const { name, size, mkfs: theirs, own } of CASES) {
      if (theirs) await mkfs(image(name), { ...theirs, size });
      else {
        sparseFile(image(name), size);
        await withDevice(name, true, (opened) => formatVolume(opened, own!, { random: systemRandom, time: Math.floor(Date.now() / 1000) }));
      }
      await handOver(name);
    }
  });

  test.each(CASES.filter(({ own }) => own))('$name is filled by us', { timeout: 120_000 }, async ({ name, entries }) => {
    told.set(name, await withVolume(name, {}, async (tree) => {
      await tree.mkdir('ours');
      await fillOwn(tree, 'ours');
      await fillWide(tree, 'ours/wide', entries);
      return tree.manifest();
    }));
    await handOver(name);
  });

  test('are filled by a Linux node', { timeout: 400_000 }, async () => {
    await boot();
    await forAll(async ({ name, entries, own }) => {
      if (own) expectSameTree(await nodeTree(node, mountPoint(name)), told.get(name)!, `${name} as Linux reads it`);
      await node.must(`mkdir ${mountPoint(name)}/theirs && bash -s -- ${mountPoint(name)}/theirs ${entries}`, { input: script('fill.sh'), timeoutMs: 300_000 });
    });
    // What this version only reads.
    await node.must(`cd ${mountPoint('metaecc')} && seq 100000 > shared && cp --reflink=always shared clone && echo a > attributed && setfattr -n user.kept -v value attributed && setfacl -m u:alice:r attributed && mkdir inherits && setfacl -d -m u:alice:rx inherits`);
    await shutDown();
  });

  test.each(CASES)('$name reads as Linux wrote it, and is changed', { timeout: 120_000 }, async ({ name }) => {
    await handOver(name, 'Linux');
    await withVolume(name, { readOnly: true }, async (tree) => expectSameTree(await tree.manifest(), told.get(name)!, `${name}, read-only`));
    told.set(name, await withVolume(name, {}, async (tree, volume) => {
      expect(volume.recovery.slots).toEqual([]);
      await changeAll(tree, 'theirs');
      await tree.mkdir('changed');
      await fillOwn(tree, 'changed');
      if (name === 'metaecc') {
        await changeAcls(tree);
        await shareAndChange(tree);
      }
      if (ATTRIBUTED.includes(name)) attributes.set(name, await fillAttributes(tree, 'attributes'));
      return tree.manifest();
    }));
    await handOver(name);
    // Nothing of it was in memory only.
    await withVolume(name, { readOnly: true }, async (tree) => expectSameTree(await tree.manifest(), told.get(name)!, `${name}, mounted again`));
  });

  test('are read and changed by a Linux node again', { timeout: 400_000 }, async () => {
    await boot();
    await forAll(async ({ name }) => {
      expectSameTree(await nodeTree(node, mountPoint(name)), told.get(name)!, `${name} as Linux reads it`);
      await node.must(`bash -s -- ${mountPoint(name)}/theirs`, { input: script('modify.sh'), timeoutMs: 300_000 });
      if (ATTRIBUTED.includes(name)) await nodeChanges(node, `${mountPoint(name)}/attributes`, attributes.get(name)!);
    });
    await nodeHonoursAcls(node, mountPoint('metaecc'));
    sums = await node.must('bash -s', { input: `cd ${mountPoint('metaecc')}\n${CLONES}`, timeoutMs: 120_000 });
    expect(await node.must(`cd ${mountPoint('metaecc')} && getfattr --only-values -n user.kept attributed && getfacl -cp attributed inherits | grep alice`)).toBe('valueuser:alice:r--\ndefault:user:alice:r-x\n');
    await shutDown();
  });

  test.each(CASES)('$name reads as Linux left it', { timeout: 60_000 }, async ({ name }) => {
    await handOver(name, 'Linux');
    await withVolume(name, {}, async (tree) => {
      expectSameTree(await tree.manifest(), told.get(name)!, name);
      if (ATTRIBUTED.includes(name)) await readBack(tree, 'attributes', attributes.get(name)!);
    });
    await handOver(name);
    if (name !== 'metaecc') return;
    await withVolume(name, {}, endSharing);
    await handOver(name);
  });
});

/** Shared extents are copied when written to; clones of ours, of files of both sides, are for Linux to read and to write. */
async function shareAndChange(tree: EngineTree): Promise<void> {
  const shared = await tree.read('shared');
  expect((await tree.read('clone')).equals(shared)).toBe(true);
  for (const name of ['ours', 'ours2', 'doomed']) await tree.reflink('shared', name);
  await tree.reflink('clone', 'theirs2');
  await tree.write('clone', 5, 'cloned');
  await tree.truncate('ours', 300_000);
  await tree.write('ours2', shared.length - 3, 'and more');
  await tree.unlink('doomed');
  expect((await tree.read('shared')).equals(shared)).toBe(true);
  expect((await tree.read('theirs2')).equals(shared)).toBe(true);
  // Every other cluster shared by two, the others by three: a refcount tree with leaves.
  await tree.create('mosaic', MOSAIC);
  for (const name of ['mosaic2', 'mosaic3']) await tree.reflink('mosaic', name);
  const pierced = await tree.resolve('mosaic3');
  for (let at = 0; at < MOSAIC.length; at += 8192) await punchHole(tree.volume.ctx, pierced, at, 4096);
}

const MOSAIC = Buffer.concat(Array.from({ length: 1200 }, (_, i) => Buffer.alloc(4096, `${i} `)));

/** What Linux finds of that, what it does to it, and what we find of that. */
const CLONES = `set -e
head -c 5 shared > made; printf cloned >> made; tail -c +12 shared >> made; cmp made clone
head -c 300000 shared | cmp - ours
head -c -3 shared > made; printf 'and more' >> made; cmp made ours2
cmp shared theirs2
cmp mosaic mosaic2; cp --reflink=always mosaic3 mosaic4; cmp mosaic3 mosaic4
printf linux | dd of=mosaic3 bs=1 seek=2000000 conv=notrunc status=none
printf linux | dd of=mosaic2 bs=1 seek=3000000 conv=notrunc status=none
truncate -s 4000000 mosaic; rm mosaic4
cp --reflink=always ours2 linux; cp --reflink=always linux linux2
printf linux | dd of=ours2 bs=1 seek=70000 conv=notrunc status=none
printf linux | dd of=linux bs=1 seek=200000 conv=notrunc status=none
truncate -s 100000 theirs2; rm ours
sync; sha256sum shared clone ours2 theirs2 linux linux2 mosaic mosaic2 mosaic3
`;

/** The clones that Linux made and changed are as it says, and are written to, shared and removed by us to the last. */
async function endSharing(tree: EngineTree): Promise<void> {
  const content = new Map<string, Buffer>();
  for (const [, sum, name] of sums.matchAll(/^([0-9a-f]{64}) {2}(\S+)$/gm)) {
    content.set(name, await tree.read(name));
    expect(createHash('sha256').update(content.get(name)!).digest('hex'), name).toBe(sum);
  }
  expect(content.size).toBe(9);
  await tree.reflink('linux', 'last');
  await tree.write('linux2', 250_000, 'lunfs');
  for (const [name, bytes] of content) if (name !== 'linux2') expect((await tree.read(name)).equals(bytes), name).toBe(true);
  for (const name of ['linux', 'mosaic', 'mosaic3', 'shared', 'clone']) await tree.unlink(name);
  expect((await tree.read('last')).equals(content.get('linux')!)).toBe(true);
  expect((await tree.read('mosaic2')).equals(content.get('mosaic2')!)).toBe(true);
}
