/**
 * A volume without room for another group of blocks: inodes and extent blocks come from another slot's allocators, then, when free clusters lie in
 * pieces, from discontiguous groups. We fill it so; Linux reads it, takes from and gives back to the same places; we empty it.
 */
import { type BlockDevice, LunfsError } from '@lunfs/device';
import { DISCONTIG_BITMAP_SIZE, Dinode, EXTENT_BLOCK, ExtentBlock, ExtentList, GROUP_DESC, GroupDesc, ID2, RawReader, SlotMap, Volume, flushTruncateLog, readSystemFiles } from '@lunfs/ocfs2';
import { EngineTree, type Tree, expectSameTree } from '../support/engine-tree.js';
import type { KernelNode } from '../support/machines.js';
import { nodeTree } from '../support/node-tree.js';
import type { MkfsOptions } from '../support/ocfs2-tools.js';

/** Two slots; groups are of 1024 blocks. */
export const SCARCE: MkfsOptions = { size: 60 << 20, blockSize: 4096, clusterSize: 4096, slots: 2, journalSize: 4 << 20 };

const CLUSTER = 4096;
/** Extents of a file without an extent block, and more. */
const SCATTERED = 300;
/** Inodes of other places than the own groups, each. */
const MOST = 40;

const noSpace = (error: unknown): boolean => error instanceof LunfsError && error.code === 'NO_SPACE';

/** Where the blocks of an inode come from. */
interface Origin {
  /** Its own block. */
  readonly slot: number;
  readonly discontiguous: boolean;
  /** Slots of its first level of extent blocks. */
  readonly extents: readonly number[];
}

async function originOf(device: BlockDevice, blkno: number): Promise<Origin> {
  const reader = await RawReader.open(device);
  const block = await reader.inode(blkno);
  const { suballocSlot, suballocLoc } = Dinode.at(block);
  const extents: number[] = [];
  const list = new ExtentList(block, ID2);
  for (let i = 0; list.depth > 0 && i < list.nextFree; i++) extents.push(ExtentBlock.at(await reader.read(list.blkno(i), EXTENT_BLOCK)).suballocSlot);
  const discontiguous = suballocLoc !== 0 && GroupDesc.at(await reader.read(suballocLoc, GROUP_DESC)).size === DISCONTIG_BITMAP_SIZE;
  return { slot: suballocSlot, discontiguous, extents };
}

/** A mount in this slot. */
async function mounted<T>(device: BlockDevice, slot: number, work: (tree: EngineTree) => Promise<T>): Promise<T> {
  const reader = await RawReader.open(device);
  const map = await SlotMap.read(reader, (await readSystemFiles(reader)).slotMap);
  for (const other of [0, 1]) await map.set(device, other, other === slot ? 0 : undefined);
  const volume = await Volume.mount(device);
  if (volume.ctx.slot !== slot) throw new Error(`mounted in slot ${volume.ctx.slot}`);
  const result = await work(new EngineTree(volume));
  await volume.unmount();
  return result;
}

/** Everything is in place. */
async function settle(tree: EngineTree): Promise<void> {
  await tree.volume.sync();
  await tree.volume.ctx.engine.log.flush();
}

/** Reserves for a file whatever is free, in ever smaller pieces; resolves to the clusters it has. */
async function takeAll(tree: EngineTree, path: string): Promise<number> {
  await tree.create(path);
  let at = 0;
  for (let clusters = 8192; clusters >= 1; clusters >>= 1) {
    for (;;) {
      const full = await tree.fallocate(path, 'reserve', at * CLUSTER, clusters * CLUSTER).then(() => false, (error: unknown) => {
        if (!noSpace(error)) throw error;
        return true;
      });
      if (full) break;
      at += clusters;
    }
  }
  return at;
}

/** Creates files until `enough` says so of some, which have this name. */
async function createUntil(tree: EngineTree, device: BlockDevice, name: string, enough: (origin: Origin) => boolean, limit: number): Promise<void> {
  for (let found = 0, i = 0; found < MOST; i++) {
    if (i > limit) throw new Error(`no inode of ${name} after ${limit} files`);
    const ino = await tree.create(`ours/${found > 0 ? name : `before ${name}`} ${i}`);
    if (i % 16 === 15 || found > 0) {
      await settle(tree);
      if (enough(await originOf(device, ino))) found++;
    }
  }
}

/** Fills it; resolves to what it shows then. */
export async function fillScarce(device: BlockDevice): Promise<Tree> {
  await mounted(device, 1, async (tree) => {
    await tree.mkdir('neighbour');
    for (let i = 0; i < 20; i++) await tree.create(`neighbour/${i}`, `file ${i} of the other slot`);
    await tree.create('neighbour/scattered');
    for (let i = 0; i < SCATTERED; i++) await tree.fallocate('neighbour/scattered', 'reserve', 2 * i * CLUSTER, CLUSTER);
  });
  return mounted(device, 0, async (tree) => {
    await tree.mkdir('ours');
    // Room for names, not for a group.
    const clusters = (await takeAll(tree, 'ours/all')) - 200;
    await tree.truncate('ours/all', clusters * CLUSTER);
    await flushTruncateLog(tree.volume.ctx);
    await createUntil(tree, device, 'stolen', ({ slot }) => slot === 1, 1200);
    // Its extent blocks are stolen, too.
    for (let i = 0; i < SCATTERED; i++) await tree.fallocate('ours/all', 'punch', (clusters - 2 - 2 * i) * CLUSTER, CLUSTER, true);
    await settle(tree);
    const { extents } = await originOf(device, await tree.resolve('ours/all'));
    if (!extents.includes(1)) throw new Error(`no extent block was stolen: they are of slots ${extents.join()}`);
    for (let at = 0; at + 8 < clusters - 2 * SCATTERED - 8; at += 16) await tree.fallocate('ours/all', 'punch', at * CLUSTER, 8 * CLUSTER, true);
    await flushTruncateLog(tree.volume.ctx);
    await createUntil(tree, device, 'in pieces', ({ discontiguous }) => discontiguous, 1200);
    return tree.manifest();
  });
}

/** Linux, which has it mounted, gives back of both, and takes again; resolves to what it shows then. It is unmounted. */
export async function changeScarce(node: KernelNode, device: string, mountPoint: string): Promise<Tree> {
  await node.must(`cd ${mountPoint}/ours && rm 'stolen '*[05] 'in pieces '*[0246] && for i in $(seq 200); do echo "file $i of Linux" > "linux $i" || exit 1; done && set -- 'in pieces '* && echo more >> "$1" && truncate -s 8388608 all`, { timeoutMs: 300_000 });
  await node.umount(mountPoint);
  await node.mount(device, mountPoint, 'ro');
  const tree = await nodeTree(node, mountPoint);
  await node.umount(mountPoint);
  return tree;
}

/** What Linux left is what it showed, and some of it in a group in pieces; then all is removed. */
export async function readAndEmptyScarce(device: BlockDevice, told: Tree): Promise<void> {
  await mounted(device, 0, async (tree) => {
    expectSameTree(await tree.manifest(), told, 'the volume without room as Linux left it');
    const origins: Origin[] = [];
    for (let i = 1; i <= 200; i++) origins.push(await originOf(device, await tree.resolve(`ours/linux ${i}`)));
    if (!origins.some(({ discontiguous }) => discontiguous)) throw new Error('Linux made no inode in a group in pieces');
    for (const top of ['ours', 'neighbour']) await tree.removeTree(top);
  });
}
