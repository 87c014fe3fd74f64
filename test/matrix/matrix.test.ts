/**
 * The differential matrix: volumes of every geometry and set of features go back and forth between the engine and Linux's
 * OCFS2. We fill; Linux reads every byte and changes; we read what Linux left, change it; Linux reads again. At each
 * hand-over fsck.ocfs2 and our verifier find nothing and debugfs.ocfs2 agrees on every inode.
 */
import fs from 'node:fs';
import path from 'node:path';
import { type FileDevice, openDevice } from '@lunfs/device';
import { Volume, checkVolume } from '@lunfs/ocfs2';
import { afterAll, describe, expect, test } from 'vitest';
import { compareWithDebugfs } from '../kernel/debugfs-stat.js';
import { EngineTree, type Tree, expectSameTree } from '../support/engine-tree.js';
import { KernelNode } from '../support/machines.js';
import { nodeTree } from '../support/node-tree.js';
import { mkfs, mustBeClean } from '../support/ocfs2-tools.js';
import { Cleanup, seed, tempDir } from '../support/temp.js';
import { type Cell, FEATURES, selectedCells } from './cells.js';
import { BIG, Population, SMALL } from './populations.js';

/** Disks of one node. */
const MOST_DISKS = 12;
/** fsck.ocfs2 1.8.7 has words for them, but they are right: reserved beyond the size; inline directories have no index. */
const LEGAL = ['INODE_SPARSE_SIZE', 'DX_TREE_MISSING'];
/** The empty record that Linux leaves at the front of a leaf is zeros, which fsck.ocfs2 1.8.7 takes for a block number. */
const LINUX_LEGAL = [...LEGAL, 'EXTENT_BLKNO_RANGE'];

const cleanup = new Cleanup();
afterAll(() => cleanup.run());
const directory = tempDir(cleanup, 'matrix');
const { cells, big } = selectedCells(process.env);
const scale = big ? BIG : SMALL;
const SEED = seed('matrix');
const PATIENCE = (big ? 60 : 5) * 60_000;

const image = ({ name }: Cell) => path.join(directory, `${name}.img`);

async function withDevice<T>(cell: Cell, write: boolean, work: (device: FileDevice) => Promise<T>): Promise<T> {
  const opened = await openDevice(image(cell), { write });
  try {
    return await work(opened);
  } finally {
    await opened.close();
  }
}

function withVolume<T>(cell: Cell, readOnly: boolean, work: (tree: EngineTree) => Promise<T>): Promise<T> {
  return withDevice(cell, !readOnly, async (opened) => {
    const volume = await Volume.mount(opened, { readOnly });
    const result = await work(new EngineTree(volume));
    await volume.unmount();
    return result;
  });
}

async function handOver(cell: Cell, legal: readonly string[]): Promise<void> {
  await mustBeClean(image(cell), legal);
  await withDevice(cell, false, async (opened) => {
    const { findings } = await checkVolume(opened);
    expect(findings.filter(({ code }) => !LEGAL.includes(code))).toEqual([]);
    if (!big) await compareWithDebugfs(cleanup, opened, image(cell));
  });
}

const batches = Array.from({ length: Math.ceil(cells.length / MOST_DISKS) }, (_, i) => cells.slice(i * MOST_DISKS, (i + 1) * MOST_DISKS));

describe.each(batches.map((batch) => ({ batch, names: batch.map(({ name }) => name).join(', ') })))('$names', ({ batch }) => {
  const told = new Map<string, Tree>();
  let node: KernelNode;
  const device = (cell: Cell) => `/dev/vd${String.fromCharCode(97 + batch.indexOf(cell))}`;
  const mountPoint = ({ name }: Cell) => `/mnt/${name}`;

  test.each(batch)('$name is filled by us', { timeout: PATIENCE }, async (cell) => {
    await mkfs(image(cell), { size: cell.size, blockSize: cell.blockSize, clusterSize: cell.clusterSize, slots: 2, journalSize: cell.clusterSize >= 512 << 10 ? 17 << 20 : 4 << 20, ...FEATURES[cell.features] });
    told.set(cell.name, await withVolume(cell, false, async (tree) => {
      await new Population(tree, scale, SEED).fill();
      return tree.manifest();
    }));
    await handOver(cell, LEGAL);
  });

  test('are read and changed by a Linux node', { timeout: batch.length * PATIENCE }, async () => {
    node = await KernelNode.start(cleanup, { disks: batch.map(image), memoryMiB: 768, cpus: 2 });
    const script = fs.readFileSync(path.join(import.meta.dirname, 'changes.sh'), 'utf8');
    for (const cell of batch) {
      await node.mount(device(cell), mountPoint(cell));
      expectSameTree(await nodeTree(node, mountPoint(cell)), told.get(cell.name)!, `${cell.name} as Linux reads it`);
      const { sparse, unwritten } = await withDevice(cell, false, async (opened) => (await Volume.mount(opened, { readOnly: true })).geo);
      await node.must(`bash -s -- ${mountPoint(cell)} ${cell.clusterSize} ${sparse} ${unwritten}`, { input: script, timeoutMs: PATIENCE });
      // Times of direct writes, for one, are in the node's memory only: what counts is what a new mount shows.
      await node.umount(mountPoint(cell));
      await node.mount(device(cell), mountPoint(cell), 'ro');
      told.set(cell.name, await nodeTree(node, mountPoint(cell)));
      await node.umount(mountPoint(cell));
    }
  });

  test.each(batch)('$name reads as Linux left it, and is changed by us', { timeout: PATIENCE }, async (cell) => {
    await handOver(cell, LINUX_LEGAL);
    await withVolume(cell, true, async (tree) => expectSameTree(await tree.manifest(), told.get(cell.name)!, cell.name));
    told.set(cell.name, await withVolume(cell, false, async (tree) => {
      await new Population(tree, scale, SEED + 1).change();
      return tree.manifest();
    }));
    await handOver(cell, LINUX_LEGAL);
  });

  test('are read by the Linux node again', { timeout: batch.length * PATIENCE }, async () => {
    for (const cell of batch) {
      await node.must(`blockdev --flushbufs ${device(cell)}`);
      await node.mount(device(cell), mountPoint(cell), 'ro');
      expectSameTree(await nodeTree(node, mountPoint(cell)), told.get(cell.name)!, `${cell.name} as Linux reads it`);
      await node.umount(mountPoint(cell));
    }
    await node.shutdown();
  });
});
