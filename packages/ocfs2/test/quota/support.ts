/** Volumes with quota, and what their inodes add up to by a way of counting that shares nothing with the engine. */
import type { BlockDevice, MemoryDevice } from '@lunfs/device';
import { DYN, Dinode, DxRoot, FL, QUOTA_TYPES, type QuotaType } from '../../src/format/index.js';
import { RawReader } from '../../src/inspect/index.js';
import { type MountOptions, Volume } from '../../src/volume/index.js';
import type { NamedVolume } from '../support/volume.js';
import { quietMount } from '../support/crash.js';

const FEATURES = '--fs-features=usrquota,grpquota';

/** Made by mkfs.ocfs2; the first is the quick one. */
export const QUOTA_VOLUMES: readonly NamedVolume[] = [
  { name: '4K/4K', size: 60 << 20, mkfsArgs: ['-b', '4096', '-C', '4096', '-N', '2', '-J', 'size=4M', FEATURES] },
  { name: '512/4K', size: 40 << 20, mkfsArgs: ['-b', '512', '-C', '4096', '-N', '2', '-J', 'size=4M', FEATURES] },
  { name: '1K/4K metaecc', size: 60 << 20, mkfsArgs: ['-b', '1024', '-C', '4096', '-N', '2', '-J', 'size=4M', `${FEATURES},metaecc`] },
  { name: '4K/1M', size: 160 << 20, mkfsArgs: ['-b', '4096', '-C', '1M', '-N', '2', '-J', 'size=9M', FEATURES] },
];

/** The first letters of INODE01. */
const INOD = 0x494e4f44;

export type Use = Map<number, { space: number; inodes: number }>;

/**
 * What users and groups use, found by looking at every block of the volume for what calls itself an inode in use.
 * mkfs.ocfs2 counts the root directory, but not lost+found, which it makes later; Linux counts the latter alone. Both are 1.
 */
export async function countUse(device: MemoryDevice): Promise<Record<QuotaType, Use>> {
  const reader = await RawReader.open(device);
  const { geo } = reader;
  const use: Record<QuotaType, Use> = { user: new Map(), group: new Map() };
  const add = (type: QuotaType, id: number, clusters: number): void => {
    const old = use[type].get(id) ?? { space: 0, inodes: 0 };
    use[type].set(id, { space: old.space + clusters * geo.clusterSize, inodes: old.inodes + 1 });
  };
  for (let at = 0; at < geo.totalBlocks; at += 256) {
    const many = await reader.readRaw(at, Math.min(256, geo.totalBlocks - at));
    for (let i = 0; i * geo.blockSize < many.bytes.length; i++) {
      if (many.dv.getUint32(i * geo.blockSize) !== INOD) continue;
      const di = Dinode.at(await reader.readRaw(at + i));
      // The journal holds copies.
      if (di.blkno !== at + i || !(di.flags & FL.VALID) || di.fsGeneration !== geo.fsGeneration || di.flags & FL.SYSTEM) continue;
      const index = di.dynFeatures & DYN.INDEXED_DIR ? DxRoot.at(await reader.readRaw(di.dxRoot)).clusters : 0;
      for (const type of QUOTA_TYPES) add(type, type === 'user' ? di.uid : di.gid, di.clusters + index);
    }
  }
  return use;
}

/** What a mounted volume says of use. Ids without any are left out. */
export async function reported(volume: Volume): Promise<Record<QuotaType, Use>> {
  const use: Record<QuotaType, Use> = { user: new Map(), group: new Map() };
  for (const type of volume.quota!.types) {
    for (const { id, space, inodes } of await volume.quota!.report(type)) if (space !== 0 || inodes !== 0) use[type].set(id, { space, inodes });
  }
  return use;
}

export function mountQuiet(device: BlockDevice, options: MountOptions = {}): Promise<Volume> {
  return Volume.mount(device, quietMount(1, options));
}
