/**
 * What every room of the engine works on: the mounted volume's geometry, its system files, this node's slot and the
 * engine. One per mount; created by volume/mount.ts and by mkfs.
 */
import type { Block } from './format/block.js';
import { type Geometry, growGeometry } from './format/geometry.js';
import { QUOTA_TYPES, type QuotaType } from './format/quota.js';
import { DINODE } from './format/kinds.js';
import { Dinode, type DinodeView } from './format/structs.js';
import { type LockLevel, EX, RANK, lockName } from './locking/levels.js';
import type { Engine, MetaLock, Op } from './txn/index.js';

/** Dinode blocks of the system files, found by name in the system directory (numbers are never computed). */
export interface SystemFiles {
  readonly globalInodeAlloc: number;
  readonly slotMap: number;
  readonly heartbeat: number;
  readonly globalBitmap: number;
  /** By slot. */
  readonly orphanDir: readonly number[];
  readonly extentAlloc: readonly number[];
  readonly inodeAlloc: readonly number[];
  readonly journal: readonly number[];
  readonly localAlloc: readonly number[];
  readonly truncateLog: readonly number[];
  /** Of the kinds of quota the volume keeps. */
  readonly quota: readonly QuotaFiles[];
}

/** The quota files of users or of groups. */
export interface QuotaFiles {
  readonly type: QuotaType;
  readonly global: number;
  /** By slot. */
  readonly local: readonly number[];
}

/** Lock names kept; then all are made anew. */
const LOCK_NAMES = 32768;

export interface Random {
  /** Uniform in [0, 2^32). */
  u32(): number;
}

/** An inode an operation holds: its meta lock and its dinode. */
export interface InodeRef {
  readonly blkno: number;
  readonly lock: MetaLock;
  /** Read-only bytes under a PR lock; this operation's own copy once `editInode` was called. */
  readonly block: Block;
  readonly di: DinodeView;
}

export class FsContext {
  /** i_generation of the next new inode: counts up from a random start (Linux 6.1 fs/ocfs2/namei.c:__ocfs2_mknod_locked). */
  nextGeneration: number;
  /** Meta lock rank of system inodes; all others are RANK.inode. */
  readonly #ranks = new Map<number, number>();
  /** Files that only the node in their slot touches: their locks are no cluster locks. */
  readonly #private = new Set<number>();
  /** Names of inodes' meta locks: one string each, so that its hash is computed once. */
  readonly #metaLockNames = new Map<number, string>();

  constructor(
    readonly geo: Geometry,
    readonly sys: SystemFiles,
    /** This node's slot. */
    readonly slot: number,
    readonly engine: Engine,
    readonly random: Random,
  ) {
    this.nextGeneration = random.u32();
    // Slots' files of one type are waited for in slot order: an operation may hold several (blocks stolen, or freed to where they came from).
    const perSlot = [
      [sys.orphanDir, RANK.orphanDir], [sys.truncateLog, RANK.truncateLog], [sys.localAlloc, RANK.localAlloc],
      [sys.inodeAlloc, RANK.inodeAlloc], [sys.extentAlloc, RANK.extentAlloc],
    ] as const;
    for (const [files, rank] of perSlot) for (const [slot, blkno] of files.entries()) this.#ranks.set(blkno, rank + slot / 256);
    for (const blkno of [...sys.truncateLog, ...sys.localAlloc]) this.#private.add(blkno);
    for (const blkno of [sys.globalInodeAlloc, sys.slotMap, sys.heartbeat, ...sys.journal]) this.#ranks.set(blkno, RANK.inode);
    this.#ranks.set(sys.globalBitmap, RANK.globalBitmap);
    // Who recovers a slot's local file holds it while he waits for the global one (Linux 6.1 fs/ocfs2/quota_global.c, "locking dependencies").
    for (const { type, global, local } of sys.quota) {
      for (const [slot, blkno] of local.entries()) this.#ranks.set(blkno, RANK.localQuota + QUOTA_TYPES.indexOf(type) / 4 + slot / 1024);
      this.#ranks.set(global, RANK.quota + QUOTA_TYPES.indexOf(type) / 2);
    }
  }

  /** Clusters of the volume as far as is known here. */
  get totalClusters(): number {
    return this.geo.totalClusters;
  }

  /** The volume is known to have so many clusters. Believed only if the device has them: else a corrupt count would lead behind its end. */
  learnSize(clusters: number): void {
    if (clusters <= this.geo.totalClusters) return;
    const { device } = this.engine.cache;
    const bytes = clusters * this.geo.clusterSize;
    if (bytes <= device.size || bytes <= (device.refreshSize?.() ?? 0)) growGeometry(this.geo, clusters);
  }

  isSystem(blkno: number): boolean {
    return this.#ranks.has(blkno);
  }

  /** Take the meta lock of an inode. */
  metaLock(op: Op, blkno: number, level: LockLevel): MetaLock {
    return op.lock(this.metaLockName(blkno), level, this.#ranks.get(blkno) ?? RANK.inode);
  }

  /** Its name: it carries the volume generation for system inodes, root and system directory (ondisk-format.md 14.2). */
  metaLockName(blkno: number): string {
    return this.#metaLockNames.get(blkno) ?? this.#nameMetaLock(blkno);
  }

  /** The same if it is to be had at once, else undefined. */
  tryMetaLock(op: Op, blkno: number, level: LockLevel): MetaLock | undefined {
    return op.tryLock(this.metaLockName(blkno), level, this.#ranks.get(blkno) ?? RANK.inode);
  }

  #nameMetaLock(blkno: number): string {
    const { fsGeneration, rootBlkno, systemDirBlkno } = this.geo;
    const generation = this.#ranks.has(blkno) || blkno === rootBlkno || blkno === systemDirBlkno ? fsGeneration : 0;
    const name = lockName(this.#private.has(blkno) ? 'L' : 'M', blkno, generation);
    if (this.#metaLockNames.size >= LOCK_NAMES) this.#metaLockNames.clear();
    this.#metaLockNames.set(blkno, name);
    return name;
  }

  /** Lock and read an inode. Throws a corruption error if the block holds no live inode. */
  inode(op: Op, blkno: number, level: LockLevel): InodeRef {
    const lock = this.metaLock(op, blkno, level);
    const block = op.read(lock, blkno, DINODE);
    const di = Dinode.at(block);
    if (blkno === this.sys.globalBitmap) this.learnSize(di.clusters);
    return { blkno, lock, block, di };
  }

  /** Lock an inode EX and take its dinode for change. */
  editInode(op: Op, blkno: number): InodeRef {
    const lock = this.metaLock(op, blkno, EX);
    const block = op.write(lock, blkno, DINODE);
    return { blkno, lock, block, di: Dinode.at(block) };
  }
}
