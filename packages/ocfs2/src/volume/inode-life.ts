/**
 * The life of an inode after its last name (ondisk-format.md 9.7): it stays while anyone in the cluster has it in core,
 * then it is wiped, in as many operations as its size needs; each leaves it in the orphan directory until the last one
 * takes it out, so that a crash between them is mended by wiping it again.
 *
 * In core means: referenced in the `InodeTable`. The first reference takes the open lock PR, the last one gives it back;
 * who wipes takes it EX (Linux 6.1 fs/ocfs2/inode.c:ocfs2_query_inode_wipe).
 */
import { type ErrorKind, LunfsError } from '@lunfs/device';
import { badField } from '../format/block.js';
import { DYN, FL } from '../format/constants.js';
import type { FsContext, InodeRef } from '../context.js';
import { claimOf, freeMeta } from '../alloc/index.js';
import { dirShrinkIndex } from '../dir/index.js';
import { dinodeTree, lookup, treeEnd } from '../extents/index.js';
import { EX, type LockLevel, NFS_SYNC_LOCK, PR, RANK, lockName } from '../locking/levels.js';
import { hasRefTree, leaveRefTree } from '../refcount/index.js';
import type { Op, RankedLock } from '../txn/index.js';
import { fileType, isFastSymlink, knownInode, linkCount, rdevOf } from './attributes.js';
import { unmapPiece } from './file-cow.js';
import { foldLateTimes } from './file-state.js';
import { xattrWipe } from '../xattr/index.js';
import type { InodeIdentity } from './value-blocks.js';
import { dioOrphanRemove, isListedOrphan, listOrphans, orphanRemove } from './orphans.js';

/** Extents freed in one operation: few enough for the truncate log of any block size (39 records at 512 bytes). */
const PIECES_PER_OP = 32;

/** An inode in core. */
interface InCore {
  refs: number;
  /** Its open lock is held. */
  readonly lock: boolean;
  readonly identity: InodeIdentity;
}

export class InodeTable {
  readonly #refs = new Map<number, InCore>();

  constructor(private readonly ctx: FsContext) {}

  /** Inodes in core. */
  get size(): number {
    return this.#refs.size;
  }

  has(blkno: number): boolean {
    return this.#refs.has(blkno);
  }

  /** What is sure of an inode in core. */
  identity(blkno: number): InodeIdentity | undefined {
    return this.#refs.get(blkno)?.identity;
  }

  /** Give whoever runs this operation a reference, when it applies; from then on the inode is not wiped. */
  refer(op: Op, { blkno, di }: Pick<InodeRef, 'blkno' | 'di'>): void {
    const lock = openLock(this.ctx, blkno);
    if (lock !== undefined && !this.#refs.has(blkno)) op.lock(lock, PR, RANK.open);
    const identity = { generation: di.generation, type: fileType(di), rdev: rdevOf(di) };
    op.onApply(() => {
      const known = this.#refs.get(blkno);
      if (known !== undefined) known.refs++;
      else {
        // The operation holds the lock now, so another holder is granted at once.
        if (lock !== undefined) this.ctx.engine.locks.share(lock, PR);
        this.#refs.set(blkno, { refs: 1, lock: lock !== undefined, identity });
      }
    });
  }

  /** Give back `count` references. After the last one an inode without names is wiped; resolves when that is done. */
  async forget(blkno: number, count = 1): Promise<void> {
    const known = this.#refs.get(blkno);
    if (known === undefined) return;
    known.refs -= count;
    if (known.refs > 0) return;
    this.#refs.delete(blkno);
    if (known.lock) await dropOpen(this.ctx, blkno, PR);
    await this.wipeUnused(blkno);
  }

  /** Give all references back: the volume is being closed, and who had files open did not close them (FUSE sends no FORGET at umount). */
  async forgetAll(): Promise<void> {
    for (const [blkno, { refs }] of [...this.#refs]) await this.forget(blkno, refs);
  }

  /** Wipe an inode that has no names, if it is not in core. A failure is left to the next mount's recovery. */
  async wipeUnused(blkno: number): Promise<void> {
    if (this.has(blkno)) return;
    try {
      const look = (op: Op) => isOrphaned(knownInode(op, this.ctx, blkno, PR));
      if (this.ctx.engine.readNow('forget', look) ?? (await this.ctx.engine.read('forget', look))) await wipeInode(this.ctx, blkno, this);
    } catch (error) {
      // The engine has dealt with the error; the name is gone whatever becomes of the space.
      if (!(error instanceof LunfsError) || error.kind === 'internal') throw error;
    }
  }
}

/** The lock that says an inode is in core; volumes of one node have none (Linux 6.1 fs/ocfs2/dlmglue.c:ocfs2_open_lock). */
function openLock(ctx: FsContext, blkno: number): string | undefined {
  return ctx.geo.local ? undefined : lockName('O', blkno, 0);
}

/**
 * Others take it without waiting to see whether anybody has the inode: a lock that stayed cached would say so for ever. Who
 * wants to wipe the inode lets go of his own first: of two nodes that forget it at once, the later one finds it free.
 */
function dropOpen(ctx: FsContext, blkno: number, level: LockLevel): Promise<void> {
  const { locks } = ctx.engine, name = lockName('O', blkno, 0);
  locks.drop(name, level);
  return locks.surrender(name);
}

function isOrphaned(inode: InodeRef | undefined): inode is InodeRef {
  return inode !== undefined && (inode.di.flags & FL.ORPHANED) !== 0 && linkCount(inode.di) === 0;
}

/**
 * Wipe an orphaned inode: free its attributes, its data, its index, at last itself. Does nothing to an inode that has links, is in core
 * or waits for the recovery of a direct write. Returns whether it is gone.
 */
export async function wipeInode(ctx: FsContext, blkno: number, table?: InodeTable): Promise<boolean> {
  // Asked before the open lock is: EX beside our own PR would be granted, and giving it up would wait for the last reference.
  if (table?.has(blkno)) return false;
  const open = openLock(ctx, blkno);
  if (open === undefined) return wipeAll(ctx, blkno, table, []);
  const { locks } = ctx.engine;
  // Before the open lock: a node that exports the volume by NFS holds it while it waits for one (Linux 6.1 fs/ocfs2/export.c:ocfs2_get_dentry).
  await locks.hold(NFS_SYNC_LOCK, PR);
  try {
    // Another node has it in core: that one will wipe it.
    if (!(await locks.tryLock(open, EX))) return false;
    try {
      return await wipeAll(ctx, blkno, table, [{ name: NFS_SYNC_LOCK, rank: RANK.nfsSync }, { name: open, rank: RANK.open }]);
    } finally {
      await dropOpen(ctx, blkno, EX);
    }
  } finally {
    locks.drop(NFS_SYNC_LOCK, PR);
  }
}

async function wipeAll(ctx: FsContext, blkno: number, table: InodeTable | undefined, around: readonly RankedLock[]): Promise<boolean> {
  const { engine } = ctx;
  // A kernel node lets go of the lock of an inode that it has wiped before that is in place: for it the block is the allocator's by then (Linux 6.1
  // fs/ocfs2/inode.c:ocfs2_clear_inode). We would read the orphan that it was, and free once more what it had. It has left the orphan directory in the
  // same transaction, and that one's lock goes only with its blocks in place: without its entry there an orphan is read again.
  let mayBeOld = !ctx.geo.local;
  while (true) {
    const state = await engine.run('wipe', (op) => (table?.has(blkno) ? 'kept' : wipeStep(op, ctx, blkno, mayBeOld)), engine.locks, around);
    mayBeOld = false; // from here on it is ours alone: nobody else wipes what we have the open lock of
    if (state === 'old') engine.cache.dropRange(blkno, blkno + 1);
    else if (state !== 'more') return state === 'gone';
  }
}

function wipeStep(op: Op, ctx: FsContext, blkno: number, mayBeOld: boolean): 'kept' | 'more' | 'gone' | 'old' {
  const look = knownInode(op, ctx, blkno, EX);
  if (look === undefined) return 'gone';
  if (!isOrphaned(look) || look.di.flags & (FL.SYSTEM | FL.DIO_ORPHANED)) return 'kept';
  if (mayBeOld && !isListedOrphan(op, ctx, look)) return 'old';
  if (look.di.dtime !== 0) throw badField(look.block, 'dinode', 'i_dtime', look.di.dtime, 'is set on an inode in use');
  const inode = ctx.editInode(op, blkno);
  const { di } = inode;
  const left = xattrWipe(op, ctx, inode, PIECES_PER_OP);
  if (left === undefined) return 'more';
  let pieces = left;
  if (!(di.dynFeatures & DYN.INLINE_DATA) && di.clusters > 0 && !isFastSymlink(di)) {
    di.size = 0;
    const tree = dinodeTree(inode, op, ctx);
    for (let end = treeEnd(op, tree); end > 0; end = treeEnd(op, tree), pieces--) {
      if (pieces === 0) return 'more';
      const rec = lookup(op, tree, end - 1);
      if (rec.hole) throw badField(inode.block, 'dinode.id2.extent_list', 'rec', end, 'ends the tree but maps nothing');
      unmapPiece(op, ctx, inode, rec, rec.cpos, end);
    }
  }
  dirShrinkIndex(op, ctx, inode, pieces);
  if (di.dynFeatures & DYN.INDEXED_DIR) return 'more';
  if (hasRefTree(inode)) leaveRefTree(op, ctx, inode);
  orphanRemove(op, ctx, inode);
  foldLateTimes(op, ctx, inode);
  di.dtime = op.now.sec;
  di.flags &= ~FL.VALID;
  freeMeta(op, ctx, 'inode', claimOf(di));
  return 'gone';
}

/** What recovery did with the entries of orphan directories. */
export interface OrphanRecovery {
  wiped: number;
  /** Files cut back to their size after an unfinished direct write. */
  cut: number;
  /** Left where they are: in use here or on another node, or damaged. */
  left: number;
  readonly errors: LunfsError[];
}

/**
 * Process the orphan directories of these slots, as every node does after a mount and after another node's recovery
 * (Linux 6.1 fs/ocfs2/journal.c:ocfs2_recover_orphans). `cutToSize` frees what a file has beyond its size (file truncate);
 * without it, as for slots of living nodes, whose direct writes may be under way, such files are left alone.
 */
export async function recoverOrphans(
  ctx: FsContext, slots: readonly number[], cutToSize: ((blkno: number) => Promise<void>) | undefined, table?: InodeTable,
): Promise<OrphanRecovery> {
  const result: OrphanRecovery = { wiped: 0, cut: 0, left: 0, errors: [] };
  for (const slot of slots) {
    for (let position: number | undefined = 0; position !== undefined; ) {
      const from: number = position;
      const { orphans, next } = await ctx.engine.read('list orphans', (op) => listOrphans(op, ctx, slot, from, 256));
      for (const { blkno, dio } of orphans) {
        try {
          if (dio) {
            if (cutToSize === undefined) continue;
            await cutToSize(blkno);
            await ctx.engine.run('end of dio', (op) => dioOrphanRemove(op, ctx, ctx.editInode(op, blkno)));
            result.cut++;
          } else if (await wipeInode(ctx, blkno, table)) result.wiped++;
          else result.left++;
        } catch (error) {
          if (!(error instanceof LunfsError) || STOPS.includes(error.kind)) throw error;
          result.left++;
          result.errors.push(error);
        }
      }
      position = next;
    }
  }
  return result;
}

/** Errors after which going on with the next orphan makes no sense. */
const STOPS: readonly ErrorKind[] = ['internal', 'io', 'cluster'];
