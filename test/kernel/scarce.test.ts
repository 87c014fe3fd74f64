/** A volume without room for another group of blocks (scarce.ts) goes from us to Linux and back: nothing is wrong with it at any hand-over, and both show the same. */
import path from 'node:path';
import { type BlockDevice, openDevice } from '@lunfs/device';
import { checkVolume } from '@lunfs/ocfs2';
import { afterAll, expect, test } from 'vitest';
import { expectSameTree } from '../support/engine-tree.js';
import { KernelNode } from '../support/machines.js';
import { nodeTree } from '../support/node-tree.js';
import { mkfs, mustBeClean } from '../support/ocfs2-tools.js';
import { Cleanup, tempDir } from '../support/temp.js';
import { compareWithDebugfs } from './debugfs-stat.js';
import { SCARCE, changeScarce, fillScarce, readAndEmptyScarce } from './scarce.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());
/** fsck.ocfs2 1.8.7 has words for them, but they are right: reserved beyond the size; inline directories have no index. */
const LEGAL = ['INODE_SPARSE_SIZE', 'DX_TREE_MISSING'];

test('blocks from another slot and from groups in pieces', { timeout: 900_000 }, async () => {
  const image = path.join(tempDir(cleanup, 'scarce'), 'image');
  const withDevice = async <T>(write: boolean, work: (device: BlockDevice) => Promise<T>): Promise<T> => {
    const device = await openDevice(image, { write });
    try {
      return await work(device);
    } finally {
      await device.close();
    }
  };
  const handOver = async (): Promise<void> => {
    await mustBeClean(image, LEGAL);
    await withDevice(false, async (device) => {
      const { findings } = await checkVolume(device);
      expect(findings.filter(({ code }) => !LEGAL.includes(code))).toEqual([]);
      await compareWithDebugfs(cleanup, device, image);
    });
  };
  await mkfs(image, SCARCE);
  const ours = await withDevice(true, fillScarce);
  await handOver();
  const node = await KernelNode.start(cleanup, { disks: [image] });
  await node.mount('/dev/vda', '/mnt/scarce');
  expectSameTree(await nodeTree(node, '/mnt/scarce'), ours, 'as Linux reads it');
  const theirs = await changeScarce(node, '/dev/vda', '/mnt/scarce');
  await node.shutdown();
  await handOver();
  await withDevice(true, (device) => readAndEmptyScarce(device, theirs));
  await handOver();
});
