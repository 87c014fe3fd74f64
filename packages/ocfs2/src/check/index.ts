/**
 * The read-only verifier: is everything on this volume what it should be? Library code, run by `lunfs check` and after
 * every test that wrote. Findings carry fsck.ocfs2's code names. It trusts nothing of the engine but the codecs.
 */
import type { BlockDevice } from '@lunfs/device';
import { Block } from '../format/block.js';
import { FL, INCOMPAT, INVALID_SLOT, MODE, S_IFMT, SUPER_BLOCK_BLKNO } from '../format/constants.js';
import { backupBlocks, blockToCluster, groupFirstCluster, hasBackups, parseSuperBlock } from '../format/geometry.js';
import { bits } from '../format/lists.js';
import { Dinode, GROUP_BITMAP } from '../format/structs.js';
import { RawReader } from '../inspect/raw-reader.js';
import { readSystemFiles } from '../inspect/system-files.js';
import type { SystemFiles } from '../context.js';
import { type Group, checkAllocator, checkBitmapPlaces, groupClusters } from './allocators.js';
import { Checker } from './checker.js';
import { LinkCounts, checkDirectory } from './directories.js';
import { type Finding, Findings } from './findings.js';
import { checkInodes, checkMetaAllocation } from './inodes.js';
import { checkJournals } from './journals.js';
import { checkLinks } from './links.js';
import { checkRefcountTrees } from './refcounts.js';
import { ClusterUsage } from './usage.js';

export { type Finding, type Severity, OWN_CODES } from './findings.js';

export interface CheckProgress {
  readonly pass: string;
  readonly done: number;
  /** Unknown for some passes. */
  readonly total?: number;
}

export interface CheckReport {
  readonly findings: readonly Finding[];
  /** No finding of severity error or leak. */
  readonly clean: boolean;
  readonly counts: { readonly inodes: number; readonly directories: number; readonly usedClusters: number; readonly totalClusters: number };
}

/**
 * Verify a volume nobody writes to. Findings are returned, not thrown; only a volume whose superblock or system
 * directory cannot be read at all throws.
 */
export async function checkVolume(device: BlockDevice, options: { progress?: (p: CheckProgress) => void } = {}): Promise<CheckReport> {
  const reader = await RawReader.open(device);
  const { geo } = reader;
  const findings = new Findings();
  const usage = new ClusterUsage(geo, findings);
  const c = new Checker(reader, findings, usage);
  const sys = await readSystemFiles(reader);
  const progress = options.progress ?? (() => undefined);

  if (geo.incompat & (INCOMPAT.TUNEFS_INPROG | INCOMPAT.RESIZE_INPROG)) findings.add('recovery', 'FEATURE_INPROG', 'the superblock says that an offline change of the volume was interrupted or is under way');
  progress({ pass: 'allocators', done: 0 });
  const allocators = await checkAllocators(c, sys);
  await claimFixedPlaces(c);

  let inodes = 0;
  const totalInodes = allocators.inode.flat().concat(allocators.globalInode).reduce((n, g) => n + g.bits, 0);
  const tick = () => {
    if (++inodes % 4096 === 0) progress({ pass: 'inodes', done: inodes, total: totalInodes });
  };
  await checkInodes(c, allocators.globalInode, INVALID_SLOT, tick);
  for (const [slot, groups] of allocators.inode.entries()) await checkInodes(c, groups, slot, tick);
  await checkRefcountTrees(c);
  checkMetaAllocation(c, allocators.extent);
  usage.compare();

  const links = new LinkCounts();
  const directories = [...c.inodes.values()].filter((i) => (i.mode & S_IFMT) === MODE.DIR);
  const orphanDirs = new Set(sys.orphanDir);
  for (const [done, dir] of directories.entries()) {
    if (done % 64 === 0) progress({ pass: 'directories', done, total: directories.length });
    if (dir.flags & FL.ORPHANED) continue;
    await c.guard('UNREADABLE', `directory ${dir.blkno}`, () => checkDirectory(c, links, dir.blkno, orphanDirs.has(dir.blkno)));
  }
  checkLinks(c, links, sys);
  await checkJournals(c, sys);
  const errors = findings.list.some((f) => f.severity !== 'recovery');
  return {
    findings: findings.list, clean: !errors && findings.truncated === 0,
    counts: { inodes: c.inodes.size, directories: directories.length, usedClusters: bits.count(usage.allocated, 0, usage.total), totalClusters: usage.total },
  };
}

async function checkAllocators(c: Checker, sys: SystemFiles): Promise<{ globalInode: Group[]; inode: Group[][]; extent: Group[][] }> {
  const { geo, reader, findings, usage } = c;
  const seen = new Map<number, string>();
  const one = async (blkno: number, name: string, cluster = false): Promise<Group[]> =>
    (await c.guard('CHAIN_COUNT', name, async () => checkAllocator(reader, findings, await reader.inode(blkno), name, cluster, seen))) ?? [];
  const bitmap = await one(sys.globalBitmap, 'global_bitmap', true);
  checkBitmapPlaces(reader, findings, bitmap);
  for (const group of bitmap) {
    const first = groupFirstCluster(geo, group.blkno);
    for (let bit = 0; bit < group.bits && first + bit < geo.totalClusters; bit++) {
      if (bits.test(group.block.bytes, GROUP_BITMAP, bit)) bits.set(usage.allocated, 0, first + bit);
    }
    usage.claim(blockToCluster(geo, group.blkno), 1, `group descriptor ${group.blkno}`);
  }
  const bitmapInode = Dinode.at(await reader.inode(sys.globalBitmap));
  if (bitmapInode.clusters !== geo.totalClusters) findings.error('SUPERBLOCK_CLUSTERS', `the superblock says ${geo.totalClusters} clusters, the global bitmap ${bitmapInode.clusters}`);
  const globalInode = await one(sys.globalInodeAlloc, 'global_inode_alloc');
  const inode: Group[][] = [], extent: Group[][] = [];
  for (let slot = 0; slot < geo.maxSlots; slot++) {
    inode.push(await one(sys.inodeAlloc[slot], `inode_alloc slot ${slot}`));
    extent.push(await one(sys.extentAlloc[slot], `extent_alloc slot ${slot}`));
  }
  for (const group of [globalInode, ...inode, ...extent].flat()) {
    for (const { start, count } of groupClusters(reader, group)) usage.claim(start, count, `suballocator group ${group.blkno}`);
  }
  return { globalInode, inode, extent };
}

/** Clusters that belong to no file: the front of the volume and the backup superblocks. */
async function claimFixedPlaces(c: Checker): Promise<void> {
  const { geo, usage, findings } = c;
  usage.claim(0, blockToCluster(geo, geo.firstClusterGroup), 'the front of the volume');
  if (!hasBackups(geo)) return;
  const superBlock = await c.reader.readRaw(SUPER_BLOCK_BLKNO);
  for (const blkno of backupBlocks(geo)) {
    const cluster = blockToCluster(geo, blkno);
    // tunefs.ocfs2 1.8.7 may have left the bit clear (ondisk-format.md 11.2): legal to find, never to hand out.
    if (bits.test(usage.allocated, 0, cluster)) usage.claim(cluster, 1, `backup superblock ${blkno}`);
    else findings.add('recovery', 'BACKUP_SUPER_FREE', `the cluster of the backup superblock in block ${blkno} is free in the bitmap`, blkno);
    await c.guard('RECOVER_BACKUP_SUPERBLOCK', `backup superblock ${blkno}`, async () => {
      const copy = await c.reader.readRaw(blkno);
      parseSuperBlock(copy, true);
      const same = new Block(copy.device, copy.blkno, copy.bytes.slice());
      Dinode.at(same).blkno = SUPER_BLOCK_BLKNO;
      same.bytes.set(superBlock.bytes.subarray(0x80, 0x88), 0x80);
      if (!Buffer.from(same.bytes).equals(Buffer.from(superBlock.bytes))) findings.add('recovery', 'BACKUP_SUPER_STALE', `the backup superblock in block ${blkno} differs from the superblock`, blkno);
    });
  }
}
