/**
 * The read-only verifier: is everything on this volume what it should be? Library code, run by `lunfs check` and after
 * every test that wrote. Findings carry fsck.ocfs2's code names. It trusts nothing of the engine but the codecs.
 */
import type { BlockDevice } from '@lunfs/device';
import { Block, badField } from '../format/block.js';
import { INCOMPAT, INVALID_SLOT, SUPER_BLOCK_BLKNO } from '../format/constants.js';
import { uuidHash } from '../format/dirhash.js';
import { type Geometry, backupBlocks, blockToCluster, groupFirstCluster, hasBackups, parseSuperBlock, unknownRoCompat } from '../format/geometry.js';
import { bits } from '../format/lists.js';
import { Dinode } from '../format/structs.js';
import { RawReader } from '../inspect/raw-reader.js';
import { readSystemFiles } from '../inspect/system-files.js';
import type { SystemFiles } from '../context.js';
import { checkAllocator, checkBitmapPlaces, groupClusters } from './allocators.js';
import { Checker } from './checker.js';
import { Crew } from './crew.js';
import { checkDirectories } from './directories.js';
import { type Finding, Findings } from './findings.js';
import type { Group } from './group.js';
import { guard } from './guard.js';
import { InodeTable } from './inode-table.js';
import { type SlotGroups, checkInodes } from './inodes.js';
import { checkJournals } from './journals.js';
import { checkLinks } from './links.js';
import { MetaTable } from './meta-table.js';
import { checkQuota } from './quota.js';
import { checkRefcountTrees } from './refcounts.js';
import { checkSlots } from './slots.js';
import { DIRECTORIES, INODES, type Pass, Turns } from './turns.js';
import { ClusterUsage } from './usage.js';

export { type Finding, type Severity, OWN_CODES } from './findings.js';
export { withJournals } from './replayed.js';

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

/** Items between two tellings of progress. */
const TELL_EVERY = 512;

export interface CheckOptions {
  readonly progress?: (p: CheckProgress) => void;
  /** Threads beside this one. Default: as many as pay for the volume and the machine. Only a file or block device itself can have any. */
  readonly helpers?: number;
}

/**
 * Verify a volume nobody writes to. Memory: the bitmaps of the volume, and some bytes per bit of the inode and extent
 * allocators; reading goes on ahead of checking. Findings are returned, not thrown; only a volume whose superblock or system
 * directory cannot be read at all throws. What is found, and in which order, does not depend on the number of threads.
 */
export async function checkVolume(device: BlockDevice, options: CheckOptions = {}): Promise<CheckReport> {
  return (await verify(device, options)) ?? (await verify(device, { ...options, helpers: 0 }))!;
}

/** Undefined when threads came upon what only one alone can tell (turns.ts). */
async function verify(device: BlockDevice, options: CheckOptions): Promise<CheckReport | undefined> {
  const reader = await RawReader.open(device);
  const { geo } = reader;
  // What is kept is measured by the volume's size: one that cannot be is not believed.
  if (geo.totalBlocks * geo.blockSize > device.size) {
    throw badField(await reader.readRaw(SUPER_BLOCK_BLKNO), 'super_block', 'i_clusters', geo.totalClusters, `is more than the ${device.size} bytes of the device hold`);
  }
  const findings = new Findings();
  const turns = new Turns();
  const usage = new ClusterUsage(geo, findings, turns);
  const sys = await readSystemFiles(reader);
  const tell = teller(options.progress ?? (() => undefined));

  if (geo.incompat & (INCOMPAT.TUNEFS_INPROG | INCOMPAT.RESIZE_INPROG)) findings.add('recovery', 'FEATURE_INPROG', 'the superblock says that an offline change of the volume was interrupted or is under way');
  if (unknownRoCompat(geo) !== 0) findings.error('FEATURES_UNKNOWN', `the superblock has read-only compatible features 0x${unknownRoCompat(geo).toString(16)} that are not known`, SUPER_BLOCK_BLKNO);
  if (geo.xattr && geo.uuidHash !== uuidHash(geo.uuid)) findings.error('SUPERBLOCK_UUID_HASH', `the superblock says the UUID hashes to ${geo.uuidHash}, it does to ${uuidHash(geo.uuid)}`, SUPER_BLOCK_BLKNO);
  const allocators = await checkAllocators(reader, findings, usage, sys, tell('allocators', Math.ceil(geo.totalClusters / geo.clustersPerGroup)));
  const inodeSlots = [{ slot: INVALID_SLOT, groups: allocators.globalInode }, ...allocators.inode.map((groups, slot) => ({ slot, groups }))];
  const inodes = new InodeTable(inodeSlots.flatMap((s) => s.groups));
  const c = new Checker(reader, findings, usage, inodes, new MetaTable(findings, turns, allocators.extent), turns);
  await claimFixedPlaces(c);

  const crew = Crew.form(c, { geo, inodeSlots, extentSlots: allocators.extent, orphanDirs: sys.orphanDir }, options.helpers);
  try {
    return await passes(c, crew, sys, inodeSlots, tell);
  } finally {
    await crew?.close();
  }
}

/** Passes 1 to 5, those over inodes and directories by all threads. */
async function passes(c: Checker, crew: Crew | undefined, sys: SystemFiles, inodeSlots: readonly SlotGroups[], tell: Teller): Promise<CheckReport | undefined> {
  const { findings, inodes, usage, turns } = c;
  const shared = async (pass: Pass, told: (n: number) => void, own: (onDone: (n?: number) => void) => Promise<void>): Promise<void> => {
    const from = findings.mark();
    crew?.begin(pass);
    let known = 0;
    await own((n = 1) => {
      const all = turns.done(pass, n);
      told(all - known);
      known = all;
    });
    await crew?.end();
    // Parts run beside each other; sorted, what a pass found comes in the same order every time.
    findings.sortFrom(from);
  };
  await shared(INODES, tell('inodes', inodes.rows), (onInodes) => checkInodes(c, inodeSlots, onInodes));
  await checkRefcountTrees(c);
  c.meta.reportLeaks();
  usage.compare();

  const orphanSlots = new Map(sys.orphanDir.map((blkno, slot) => [blkno, slot]));
  await shared(DIRECTORIES, tell('directories', inodes.directories), (onDirectory) => checkDirectories(c, (blkno) => orphanSlots.get(blkno), onDirectory));
  if (!turns.alone && (turns.contested || findings.truncated > 0)) return undefined;
  tell('links')();
  checkLinks(c, sys);
  await checkJournals(c, sys);
  await checkSlots(c, sys);
  await checkQuota(c, sys, findings.list.some(({ code }) => code === 'JOURNAL_DIRTY'));
  const errors = findings.list.some((f) => f.severity !== 'recovery');
  return {
    findings: findings.list, clean: !errors && findings.truncated === 0,
    counts: { inodes: inodes.live, directories: inodes.directories, usedClusters: usage.used, totalClusters: usage.total },
  };
}

type Teller = (pass: string, total?: number) => (n?: number) => void;

/** Counts what a pass has done and tells now and then. */
function teller(progress: (p: CheckProgress) => void): Teller {
  return (pass, total) => {
    let done = 0, told = 0;
    progress({ pass, done, total });
    return (n = 1) => {
      done += n;
      if (done - told < TELL_EVERY) return;
      told = done;
      progress({ pass, done, total });
    };
  };
}

async function checkAllocators(
  reader: RawReader, findings: Findings, usage: ClusterUsage, sys: SystemFiles, onGroup: () => void,
): Promise<{ globalInode: Group[]; inode: Group[][]; extent: Group[][] }> {
  const { geo } = reader;
  const seen = new Map<number, string>();
  const one = async (blkno: number, name: string, cluster: boolean, keep: (group: Group) => void): Promise<void> => {
    await guard(findings, 'CHAIN_COUNT', name, async () => checkAllocator(reader, findings, { inode: await reader.inode(blkno), name, cluster, seen, onGroup: keep }));
  };
  const bitmap: { blkno: number; bits: number }[] = [];
  await one(sys.globalBitmap, 'global_bitmap', true, ({ blkno, bits: count, bitmap: used }) => {
    bitmap.push({ blkno, bits: count });
    // A group that is where none belongs would overwrite another's bits.
    if (isBitmapGroup(geo, blkno)) usage.allocate(groupFirstCluster(geo, blkno), used, 0, count);
    onGroup();
  });
  checkBitmapPlaces(reader, findings, bitmap);
  for (const { blkno } of bitmap) usage.claim(blockToCluster(geo, blkno), 1, `group descriptor ${blkno}`);
  const bitmapInode = await guard(findings, 'CHAIN_COUNT', 'global_bitmap', async () => Dinode.at(await reader.inode(sys.globalBitmap)).clusters);
  if (bitmapInode !== undefined && bitmapInode !== geo.totalClusters) findings.error('SUPERBLOCK_CLUSTERS', `the superblock says ${geo.totalClusters} clusters, the global bitmap ${bitmapInode}`);
  const suballocator = async (blkno: number, name: string): Promise<Group[]> => {
    const groups: Group[] = [];
    await one(blkno, name, false, (group) => groups.push(group));
    return groups.sort((a, b) => a.blkno - b.blkno);
  };
  const globalInode = await suballocator(sys.globalInodeAlloc, 'global_inode_alloc');
  const inode: Group[][] = [], extent: Group[][] = [];
  for (let slot = 0; slot < geo.maxSlots; slot++) {
    inode.push(await suballocator(sys.inodeAlloc[slot], `inode_alloc slot ${slot}`));
    extent.push(await suballocator(sys.extentAlloc[slot], `extent_alloc slot ${slot}`));
  }
  for (const group of [globalInode, ...inode, ...extent].flat()) {
    for (const { start, count } of groupClusters(reader, group)) usage.claim(start, count, `suballocator group ${group.blkno}`);
  }
  return { globalInode, inode, extent };
}

/** Is this where the geometry puts a group of the global bitmap? */
function isBitmapGroup(geo: Geometry, blkno: number): boolean {
  return blkno === geo.firstClusterGroup || (blkno > 0 && blkno % (geo.clustersPerGroup * geo.bpc) === 0);
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
