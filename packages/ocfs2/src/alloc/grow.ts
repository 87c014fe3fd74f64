/**
 * Growing the global bitmap: first its last group up to the full number of clusters, then group after group, as the kernel does
 * on behalf of tunefs.ocfs2 (ondisk-format.md 11.1; Linux 6.1 fs/ocfs2/resize.c:ocfs2_group_extend, ocfs2_group_add). All here is
 * arithmetic over one operation; what comes before it and around it is volume/grow.ts.
 *
 * Two things the kernel leaves otherwise, and what is right: of a backup superblock's cluster that is the very first behind the old
 * end it does not set the bit (ocfs2_calc_new_backup_super compares with <=), so that it may be handed out, and be overwritten by
 * the next growth; and of a group that is added in part tunefs.ocfs2 marks and counts a backup cluster behind the group's end.
 */
import { UsageError } from '@lunfs/device';
import type { FsContext } from '../context.js';
import { BACKUP_SUPER_OFFSETS, badField, BitmapId1, bits, clusterToGroup, type Geometry, GROUP_BITMAP, GROUP_DESC, GroupDesc, groupFirstCluster, hasBackups, SIG } from '../format/index.js';
import type { LockLevel } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import { editAllocator, readAllocator } from './chain.js';
import { type ChainAllocator, editGroup, readGroup } from './group.js';
import { allocState } from './window-size.js';

/** One group made longer, or added. */
export interface GrowthStep {
  readonly kind: 'extend' | 'add';
  /** Block of the group's descriptor. */
  readonly group: number;
  readonly chain: number;
  /** Clusters of the volume before and after. */
  readonly from: number;
  readonly to: number;
  /** Blocks of backup superblocks that come inside the volume; their clusters are in use from the beginning. */
  readonly backups: readonly number[];
}

/** What the next steps depend on. */
export interface BitmapShape {
  readonly clusters: number;
  /** Chains there are, and those that have a group. */
  readonly chains: number;
  readonly used: number;
  /** Chain of the last group. */
  readonly lastChain: number;
}

/** The bitmap as it is. Throws GROUPS_TOO_SMALL for one whose groups are not of the full size. */
export function bitmapShape(op: Op, ctx: FsContext, level: LockLevel): BitmapShape {
  const { geo } = ctx;
  const bitmap = readAllocator(op, ctx, ctx.sys.globalBitmap, level);
  const { clusters } = bitmap.ref.di;
  if (bitmap.list.cpg !== geo.clustersPerGroup || bitmap.list.bpc !== 1) {
    throw new UsageError('GROUPS_TOO_SMALL', 'EOPNOTSUPP', `${geo.device}: its groups hold ${bitmap.list.cpg} clusters, not ${geo.clustersPerGroup}, as volumes made long ago; unmount it everywhere and let "tunefs.ocfs2 -S" grow it once`, { device: geo.device, clusters: bitmap.list.cpg });
  }
  return { clusters, chains: bitmap.list.count, used: bitmap.list.nextFree, lastChain: lastGroup(op, ctx, bitmap, clusters).gd.chain };
}

function lastGroup(op: Op, { geo }: FsContext, bitmap: ChainAllocator, clusters: number) {
  const group = readGroup(op, bitmap, clusterToGroup(geo, clusters - 1).group);
  const covered = clusters - groupFirstCluster(geo, group.blkno);
  if (group.gd.bits !== covered) throw badField(group.block, 'group_desc', 'bg_bits', group.gd.bits, `should be ${covered}: it is the last group of a bitmap of ${clusters} clusters`);
  return group;
}

/** The steps from the bitmap's present shape to `target` clusters, in order. */
export function* growthSteps(geo: Geometry, shape: BitmapShape, target: number): Generator<GrowthStep> {
  const { clustersPerGroup } = geo;
  let { used, lastChain: chain } = shape;
  for (let from = shape.clusters; from < target; ) {
    const { group, bit } = clusterToGroup(geo, from);
    const to = Math.min(target, from - bit + clustersPerGroup);
    const kind = bit === 0 ? 'add' : 'extend';
    if (kind === 'add') {
      // A chain that has no group yet comes next; once all have, they take turns (tunefs.ocfs2/op_resize_volume.c:init_new_gd).
      chain = used < shape.chains ? used++ : (chain + 1) % shape.chains;
    }
    yield { kind, group, chain, from, to, backups: backupsIn(geo, from, to) };
    from = to;
  }
}

function backupsIn(geo: Geometry, from: number, to: number): number[] {
  if (!hasBackups(geo)) return [];
  return BACKUP_SUPER_OFFSETS.map((at) => at / geo.blockSize).filter((blkno) => blkno >= from * geo.bpc && blkno < to * geo.bpc);
}

/** Take a step. The bitmap must be as the step was made for. */
export function addClusters(op: Op, ctx: FsContext, step: GrowthStep): void {
  const bitmap = editAllocator(op, ctx, ctx.sys.globalBitmap);
  const { ref, list } = bitmap;
  if (ref.di.clusters !== step.from) throw badField(ref.block, 'dinode', 'i_clusters', ref.di.clusters, `of the global bitmap should be ${step.from} while it grows to ${step.to}`);
  const added = step.to - step.from;
  const taken = step.kind === 'extend' ? extendGroup(op, ctx, bitmap, step) : addGroup(op, ctx, bitmap, step);
  const id1 = BitmapId1.at(ref.block);
  list.setTotal(step.chain, list.total(step.chain) + added);
  list.setFree(step.chain, list.free(step.chain) + added - taken);
  id1.total += added;
  id1.used += taken;
  ref.di.clusters = step.to;
  ref.di.size += added * ctx.geo.clusterSize;
  op.onApply(() => {
    ctx.learnSize(step.to);
    // A window that could not be had may be had now.
    allocState(ctx).window.retryAt = 0;
  });
}

/** Returns how many of the new clusters are in use at once. */
function extendGroup(op: Op, ctx: FsContext, bitmap: ChainAllocator, { group: blkno, from, to, chain, backups }: GrowthStep): number {
  lastGroup(op, ctx, bitmap, from);
  const { block, gd } = editGroup(op, bitmap, blkno);
  if (gd.chain !== chain) throw badField(block, 'group_desc', 'bg_chain', gd.chain, `should be ${chain}`);
  const first = groupFirstCluster(ctx.geo, blkno);
  // Behind a group's end there may be bits that nobody counts (head).
  for (let bit = from - first; bit < to - first; bit++) bits.clear(block.bytes, GROUP_BITMAP, bit);
  takeBackups(ctx.geo, block.bytes, first, backups);
  gd.bits += to - from;
  gd.freeBits += to - from - backups.length;
  return backups.length;
}

function addGroup(op: Op, ctx: FsContext, { ref, list }: ChainAllocator, { group: blkno, from, to, chain, backups }: GrowthStep): number {
  const { geo } = ctx;
  const block = op.create(ref.lock, blkno, GROUP_DESC);
  const gd = GroupDesc.at(block);
  const taken = 1 + backups.length;
  gd.signature = SIG.group;
  gd.generation = geo.fsGeneration;
  gd.size = geo.blockSize - GROUP_BITMAP;
  gd.bits = to - from;
  gd.freeBits = to - from - taken;
  gd.chain = chain;
  gd.parentDinode = ref.blkno;
  gd.blkno = blkno;
  bits.set(block.bytes, GROUP_BITMAP, 0);
  takeBackups(geo, block.bytes, from, backups);
  if (chain === list.nextFree) {
    list.nextFree += 1;
    list.setTotal(chain, 0);
    list.setFree(chain, 0);
    list.setBlkno(chain, 0);
  }
  gd.nextGroup = list.blkno(chain);
  list.setBlkno(chain, blkno);
  return taken;
}

function takeBackups(geo: Geometry, descriptor: Uint8Array, first: number, backups: readonly number[]): void {
  for (const blkno of backups) bits.set(descriptor, GROUP_BITMAP, Math.floor(blkno / geo.bpc) - first);
}
