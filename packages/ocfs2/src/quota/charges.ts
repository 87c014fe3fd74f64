/**
 * What an operation changes of what users and groups use: found by comparing the inodes it changed with their published
 * versions, so that no path of the engine can forget to count (Linux charges at each place, fs/ocfs2: dquot_*).
 *
 * Counted is what Linux counts: for each inode that is no system file (nor the root directory, which mkfs marks as one)
 * one inode, its i_clusters, and the clusters of a directory's index. Clusters of extended attributes are not counted.
 */
import { FL, DYN } from '../format/constants.js';
import { DINODE, DX_ROOT } from '../format/kinds.js';
import { QUOTA_TYPES, type QuotaType } from '../format/quota.js';
import { Dinode, type DinodeView, DxRoot } from '../format/structs.js';
import type { FsContext } from '../context.js';
import { PR } from '../locking/levels.js';
import type { CacheEntry, Op } from '../txn/index.js';

/** Changes of the use of one id; bytes. */
export interface Charge {
  readonly type: QuotaType;
  readonly id: number;
  space: number;
  inodes: number;
}

/** Net changes an operation makes, those that cancel out left out. `types`: the quotas the volume keeps. */
export function chargesOf(op: Op, ctx: FsContext, types: readonly QuotaType[]): Charge[] {
  const charges = new Map<string, Charge>();
  const add = (di: DinodeView, clusters: number, inodes: number): void => {
    for (const type of types) {
      const id = type === 'user' ? di.uid : di.gid;
      const key = `${type} ${id}`;
      let charge = charges.get(key);
      if (charge === undefined) charges.set(key, (charge = { type, id, space: 0, inodes: 0 }));
      charge.space += clusters * ctx.geo.clusterSize;
      charge.inodes += inodes;
    }
  };
  for (const [blkno, entry] of op.overlay) {
    if (entry.kind === DINODE) chargeInode(op, ctx, blkno, entry, add);
    else if (entry.kind === DX_ROOT) chargeIndex(op, ctx, blkno, entry, add);
  }
  return [...charges.values()].filter(({ space, inodes }) => space !== 0 || inodes !== 0).sort((a, b) => QUOTA_TYPES.indexOf(a.type) - QUOTA_TYPES.indexOf(b.type) || a.id - b.id);
}

/** The published version of a block that an operation changed; undefined if it was something else before. */
function before(op: Op, blkno: number, { kind, owner }: CacheEntry): CacheEntry | undefined {
  const old = op.cache.peek(blkno);
  return old !== undefined && old.kind === kind && old.owner === owner ? old : undefined;
}

/** The dinode counts. */
function counted({ flags }: DinodeView): boolean {
  return (flags & FL.VALID) !== 0 && (flags & FL.SYSTEM) === 0;
}

type Add = (di: DinodeView, clusters: number, inodes: number) => void;

/** An inode is born, gone or given to another: its index goes with it. */
function changesHands(was: DinodeView | undefined, is: DinodeView): boolean {
  return was === undefined || counted(was) !== counted(is) || was.uid !== is.uid || was.gid !== is.gid;
}

function chargeInode(op: Op, ctx: FsContext, blkno: number, entry: CacheEntry, add: Add): void {
  const old = before(op, blkno, entry);
  const was = old && Dinode.at(old.block), is = Dinode.at(entry.block);
  if (!changesHands(was, is)) {
    if (counted(is) && was!.clusters !== is.clusters) add(is, is.clusters - was!.clusters, 0);
    return;
  }
  if (was !== undefined && counted(was)) add(was, -was.clusters - indexClusters(op, ctx, was, (root) => before(op, root.block.blkno, root)), -1);
  if (counted(is)) add(is, is.clusters + indexClusters(op, ctx, is, (root) => root), 1);
}

/** Clusters of a directory's index; `version` says of a changed root which version counts. */
function indexClusters(op: Op, ctx: FsContext, di: DinodeView, version: (changed: CacheEntry) => CacheEntry | undefined): number {
  if (!(di.dynFeatures & DYN.INDEXED_DIR)) return 0;
  const changed = op.overlay.get(di.dxRoot);
  const root = changed === undefined ? op.read(ctx.metaLock(op, di.blkno, PR), di.dxRoot, DX_ROOT) : version(changed)?.block;
  return root === undefined ? 0 : DxRoot.at(root).clusters;
}

function chargeIndex(op: Op, ctx: FsContext, blkno: number, entry: CacheEntry, add: Add): void {
  const old = before(op, blkno, entry);
  const is = DxRoot.at(entry.block), was = old && DxRoot.at(old.block);
  const change = is.clusters - (was !== undefined && was.dirBlkno === is.dirBlkno ? was.clusters : 0);
  if (change === 0) return;
  const dir = op.overlay.get(is.dirBlkno);
  if (dir !== undefined) {
    const oldDir = before(op, is.dirBlkno, dir);
    if (changesHands(oldDir && Dinode.at(oldDir.block), Dinode.at(dir.block))) return;
  }
  const { di } = ctx.inode(op, is.dirBlkno, PR);
  if (counted(di)) add(di, change, 0);
}
