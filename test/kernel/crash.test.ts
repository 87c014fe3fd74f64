/**
 * One side dies in the middle of its work, the other side recovers; and a kernel node refuses a volume that we write to
 * offline. One boot serves all of it; its end is the power cut that we recover from.
 */
import fs from 'node:fs';
import path from 'node:path';
import { type FileDevice, openDevice } from '@lunfs/device';
import { Volume, checkVolume } from '@lunfs/ocfs2';
import { afterAll, describe, expect, test } from 'vitest';
import { EngineTree, type Tree, expectSameTree } from '../support/engine-tree.js';
import { KernelNode, singleNodeCluster } from '../support/machines.js';
import { nodeTree } from '../support/node-tree.js';
import { KNOWN_FALSE_POSITIVES, type MkfsOptions, fsck, mkfs, mustBeClean } from '../support/ocfs2-tools.js';
import { Cleanup, must, tempDir } from '../support/temp.js';
import { fillOwn, fillWide } from './engine-changes.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());
const directory = tempDir(cleanup, 'crash');
const script = (name: string) => fs.readFileSync(path.join(import.meta.dirname, name), 'utf8');

const OPTIONS: MkfsOptions = { size: 2 ** 29, blockSize: 4096, clusterSize: 4096, slots: 2, journalSize: 16 << 20 };
const VOLUMES: Record<string, MkfsOptions> = {
  ours: { ...OPTIONS, features: 'metaecc' }, offline: { ...OPTIONS, cluster: 'testing' }, theirs: { ...OPTIONS, features: 'metaecc' }, 'theirs-cluster': { ...OPTIONS, cluster: 'testing' },
};
const NAMES = Object.keys(VOLUMES);
const image = (name: string) => path.join(directory, `${name}.img`);
const disk = (name: string) => `/dev/vd${String.fromCharCode(97 + NAMES.indexOf(name))}`;

async function mounted(name: string): Promise<{ volume: Volume; tree: EngineTree; device: FileDevice }> {
  const device = await openDevice(image(name), { write: true });
  cleanup.add(() => device.close());
  const volume = await Volume.mount(device, { offline: true });
  return { volume, tree: new EngineTree(volume), device };
}

async function clean(name: string): Promise<void> {
  await mustBeClean(image(name), KNOWN_FALSE_POSITIVES);
  const device = await openDevice(image(name));
  const { findings } = await checkVolume(device);
  await device.close();
  expect(findings.filter(({ code }) => !KNOWN_FALSE_POSITIVES.includes(code))).toEqual([]);
}

describe('one side dies, the other recovers', () => {
  let node: KernelNode;
  const synced = new Map<string, Tree>();

  test('the engine dies with changes in its journal only; Linux recovers them', { timeout: 240_000 }, async () => {
    for (const name of NAMES) await mkfs(image(name), VOLUMES[name]);
    const { volume, tree, device } = await mounted('ours');
    await tree.mkdir('synced');
    await fillOwn(tree, 'synced');
    await fillWide(tree, 'synced/wide', 2000);
    await volume.sync();
    synced.set('ours', await tree.manifest('synced'));
    await tree.mkdir('late');
    await fillWide(tree, 'late/wide', 300);
    // What lies on the device now is what a killed process leaves.
    await must('cp', ['--sparse=always', image('ours'), image('left')]);
    await volume.unmount();
    await device.close();
    fs.renameSync(image('left'), image('ours'));
    expect((await fsck(image('ours'))).output).toMatch(/Skipping journal replay/);

    node = await KernelNode.start(cleanup, { disks: NAMES.map(image), cluster: singleNodeCluster('testing') });
    await node.mount(disk('ours'), '/mnt/ours');
    expectSameTree(below('synced', await nodeTree(node, '/mnt/ours/synced')), synced.get('ours')!, 'what was synced');
    await node.must('cd /mnt/ours && echo more > synced/after && rm -rf late');
    await node.umount('/mnt/ours');
    await clean('ours');
  });

  test('a kernel node refuses a volume that the engine writes to offline, until it is closed', { timeout: 120_000 }, async () => {
    const { volume, tree, device } = await mounted('offline');
    await tree.create('file', 'written offline');
    const refused = await node.run(`mkdir -p /mnt/offline && mount -t ocfs2 ${disk('offline')} /mnt/offline; status=$?; dmesg | tail -3; exit $status`);
    expect(refused.status).not.toBe(0);
    expect(refused.stdout).toMatch(/unsupported optional features|incompat/i);
    await volume.unmount();
    await device.close();
    await node.must(`blockdev --flushbufs ${disk('offline')}`);
    await node.mount(disk('offline'), '/mnt/offline');
    expect(await node.must('cat /mnt/offline/file')).toBe('written offline');
    await node.umount('/mnt/offline');
    await clean('offline');
  });

  test('Linux dies in the middle of its work; the engine recovers', { timeout: 240_000 }, async () => {
    for (const name of ['theirs', 'theirs-cluster']) {
      await node.mount(disk(name), `/mnt/${name}`, 'commit=300');
      await node.must(`mkdir /mnt/${name}/synced && bash -s -- /mnt/${name}/synced 2000 && sync`, { input: script('fill.sh') });
      synced.set(name, below('synced', await nodeTree(node, `/mnt/${name}/synced`)));
      await node.must(`cd /mnt/${name} && mkdir late && cd late && for ((i = 0; i < 300; i++)); do echo $i > file-$i; done; exec 3<> open; rm open; seq 10000 >&3; rm file-1*; seq 100000 > data; truncate -s 5 data`);
    }
    const words = (await node.complaints()).filter((line) => !/unsupported optional features|ocfs2_fill_super/.test(line));
    expect(words).toEqual([]);
    await node.kill();
    for (const name of ['theirs', 'theirs-cluster']) {
      const { volume, tree, device } = await mounted(name);
      expect(volume.recovery.slots).toHaveLength(1);
      expect(volume.recovery.blocks).toBeGreaterThan(0);
      const found = await tree.manifest('synced');
      expectSameTree(lasting(found), lasting(synced.get(name)!), name);
      await tree.create('after', 'recovered');
      await volume.unmount();
      await device.close();
      await clean(name);
    }
  });
});

/**
 * Without what is in the node's memory alone: times of the last direct writes, and in blocks of directories the clusters of their
 * indexes (Linux 6.1 fs/ocfs2/dir.c accounts for these with dquot_alloc_space_nodirty, which adds to i_blocks).
 */
function lasting(tree: Tree): Tree {
  return new Map([...tree].filter(([file]) => file !== 'synced/data/shuffled').map(([file, line]) => [file, line.startsWith('d ') ? line.replace(/ blocks \d+/, '') : line]));
}

/** The tree of a directory with its paths as the volume has them. */
function below(top: string, tree: Tree): Tree {
  return new Map([...tree].map(([file, line]) => [file === '.' ? top : `${top}/${file}`, line]));
}
