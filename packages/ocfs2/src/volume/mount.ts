/**
 * Mounting a volume without being a member of a cluster: a local volume, or one of a cluster taken offline (offline.ts).
 * The order is Linux's (ondisk-format.md 9.5, 10.3, 9.5 "Clean unmount"): recover every dirty journal, take the slot, mark
 * its journal dirty, then the first change; and at the end window and truncate log given back, journal empty, slot map
 * entry cleared *before* the journal is marked clean (a slot that is free but dirty is recovered by the next mount; one
 * that is taken but clean would look like a live node).
 */
import { type BlockDevice, ClusterError, LunfsError, UsageError } from '@lunfs/device';
import { closeLocalAlloc, flushTruncateLog } from '../alloc/index.js';
import { FsContext, type Random, type SystemFiles } from '../context.js';
import { INCOMPAT } from '../format/constants.js';
import { type Geometry, unknownRoCompat } from '../format/geometry.js';
import { RawReader } from '../inspect/raw-reader.js';
import { readSystemFiles } from '../inspect/system-files.js';
import { Journal, JournalInode, type Timers } from '../journal/index.js';
import { type Dlm, LocalDlm, LockManager, PR, parseLockName } from '../locking/index.js';
import { BlockCache, type Clock, Engine, type Log, WriteBackLog } from '../txn/index.js';
import { pause, systemClock, systemTimers } from './clock.js';
import { flushAllTimes, giveUpFile } from './file-state.js';
import { cutToSize } from './file-truncate.js';
import { type OrphanRecovery, recoverOrphans } from './inode-life.js';
import { Namespace } from './namespace-volume.js';
import { checkOffline, hasOfflineMark, setOfflineMark } from './offline.js';
import { Quota } from '../quota/index.js';
import { systemRandom } from './random.js';
import { recoverJournals, settleSlots } from './recovery.js';
import { replayedView } from './replay-overlay.js';
import { SlotMap } from './slot-map.js';

/** Slots take their node number from the cluster; a local mount is node 0 (Linux 6.1 fs/ocfs2/super.c). */
const LOCAL_NODE = 0;

export interface MountOptions {
  /** Change nothing, not even to recover: dirty journals are replayed in memory. */
  readonly readOnly?: boolean;
  /** Write to a volume of a cluster while nobody has it mounted. */
  readonly offline?: boolean;
  /** The lock manager; grants at once by default. */
  readonly dlm?: Dlm;
  readonly clock?: Clock;
  readonly timers?: Timers;
  readonly random?: Random;
  /** How the heartbeat watch waits; for tests. */
  readonly pause?: (ms: number) => Promise<void>;
  /** Milliseconds after which changes are committed (Linux: mount option commit=). */
  readonly commitInterval?: number;
  /** Metadata blocks kept in memory. */
  readonly cacheBlocks?: number;
  /** The volume takes no more changes, and why. Called once. */
  readonly onReadOnly?: (reason: LunfsError) => void;
}

/** What mounting had to mend. */
export interface Recovery {
  /** Slots whose journals were replayed. */
  readonly slots: readonly number[];
  /** Blocks put in place. */
  readonly blocks: number;
  readonly orphans?: OrphanRecovery;
}

export class Volume {
  readonly names: Namespace;
  /** Quota of users and groups, if the volume keeps any. */
  readonly quota: Quota | undefined;
  /** Why changes are refused; undefined while the volume is writable. */
  readOnlyReason: LunfsError | undefined;

  private constructor(
    readonly device: BlockDevice,
    readonly ctx: FsContext,
    readonly recovery: Recovery,
    private readonly writer: Writer | undefined,
  ) {
    this.names = new Namespace(ctx);
    // Nobody else has the volume, so all local quota files may be read and recovered.
    if (ctx.sys.quota.length > 0) this.quota = new Quota(ctx, Array.from({ length: ctx.geo.maxSlots }, (_, slot) => slot));
  }

  get geo(): Geometry {
    return this.ctx.geo;
  }

  /**
   * Mount the volume on `device`. Throws NOT_OCFS2, FEATURES_UNKNOWN, CLUSTER_VOLUME (needs `offline`), CLUSTER_ALIVE,
   * SLOTS_TAKEN, RESIZE_INTERRUPTED, TUNEFS_INTERRUPTED, corruption and I/O errors.
   */
  static async mount(device: BlockDevice, options: MountOptions = {}): Promise<Volume> {
    const reader = await RawReader.open(device);
    checkFeatures(reader.geo, options);
    const sys = await readSystemFiles(reader);
    if (options.readOnly) return Volume.#mountReadOnly(reader, sys, options);
    if (!reader.geo.local) await checkOffline(reader, sys, options.pause ?? pause);
    const marked = await hasOfflineMark(reader);
    const geo = reader.geo.local || marked ? reader.geo : await setOfflineMark(device, reader.geo, true);
    return Volume.#mountWritable(new RawReader(device, geo), sys, options);
  }

  static async #mountReadOnly(reader: RawReader, sys: SystemFiles, options: MountOptions): Promise<Volume> {
    const { device, slots } = await replayedView(reader, sys);
    const { geo } = reader;
    const log = new WriteBackLog(device, geo);
    const { engine } = buildEngine(device, geo, log, options, () => undefined, () => undefined);
    const ctx = new FsContext(geo, sys, 0, engine, options.random ?? systemRandom);
    await readTotalClusters(ctx);
    const volume = new Volume(device, ctx, { slots, blocks: 0 }, undefined);
    volume.stopChanges(new UsageError('READ_ONLY', 'EROFS', `${geo.device} is mounted read-only`, { device: geo.device }));
    return volume;
  }

  static async #mountWritable(reader: RawReader, sys: SystemFiles, options: MountOptions): Promise<Volume> {
    const { device, geo } = reader;
    const slotMap = await SlotMap.read(reader, sys.slotMap);
    const slot = slotMap.taken().find((t) => t.node === LOCAL_NODE)?.slot ?? 0;
    const recovered = await recoverJournals(reader, sys, slot);
    for (const taken of slotMap.taken()) await slotMap.set(device, taken.slot, undefined);
    if (geo.local) await slotMap.set(device, slot, LOCAL_NODE);
    const journalInode = await JournalInode.read(reader, sys.journal[slot]);
    let volume: Volume | undefined;
    const stop = (reason: LunfsError): void => {
      if (volume?.stopChanges(reason)) options.onReadOnly?.(reason);
    };
    const journal = await Journal.open(device, geo, journalInode.map, {
      clock: options.clock ?? systemClock, timers: options.timers ?? systemTimers, commitInterval: options.commitInterval, onAbort: stop,
    });
    await journalInode.markDirty();
    const { engine, locks } = buildEngine(device, geo, journal, options, stop, () => volume?.ctx);
    const ctx = new FsContext(geo, sys, slot, engine, options.random ?? systemRandom);
    await readTotalClusters(ctx);
    const blocks = recovered.reduce((sum, r) => sum + r.blocks, 0);
    volume = new Volume(device, ctx, { slots: recovered.map((r) => r.slot), blocks }, { journal, journalInode, slotMap, locks });
    await settleSlots(ctx);
    await volume.quota?.start(options.timers ?? systemTimers);
    const slots = Array.from({ length: geo.maxSlots }, (_, i) => i);
    const orphans = await recoverOrphans(ctx, slots, (blkno) => cutToSize(ctx, blkno), volume.names.inodes);
    return Object.assign(volume, { recovery: { ...volume.recovery, orphans } });
  }

  /**
   * Make everything so far durable: file data written, metadata committed. Also after the volume went read-only: what
   * was done before is committed if the journal still can, else this throws, as it must not say that all is well.
   */
  async sync(): Promise<void> {
    if (this.writer === undefined) return;
    if (this.readOnlyReason === undefined) {
      await flushAllTimes(this.ctx);
      await this.quota?.sync();
    }
    await this.ctx.engine.log.commit({ barrier: true });
  }

  /**
   * Close the volume; nothing may use it any more. After trouble (`readOnlyReason`) the journal stays dirty, so that the
   * next mount recovers, and holds all that was done before unless it is what failed. The device is not closed.
   */
  async unmount(): Promise<void> {
    const { writer, ctx, device } = this;
    if (writer === undefined) return;
    if (this.readOnlyReason !== undefined) {
      this.quota?.stop();
      if (writer.journal.aborted === undefined) await writer.journal.commit({ barrier: true });
      return;
    }
    await flushAllTimes(ctx);
    await this.names.inodes.forgetAll();
    await this.quota?.close();
    await closeLocalAlloc(ctx);
    await flushTruncateLog(ctx);
    await writer.journal.flush();
    await writer.locks.close();
    if (ctx.geo.local) await writer.slotMap.set(device, ctx.slot, undefined);
    await writer.journal.close();
    await writer.journalInode.markClean();
    if (!ctx.geo.local) await setOfflineMark(device, ctx.geo, false);
  }

  /** First reason wins. True if it was this one. */
  private stopChanges(reason: LunfsError): boolean {
    if (this.readOnlyReason !== undefined) return false;
    this.readOnlyReason = reason;
    this.ctx.engine.refuseChanges(reason);
    return true;
  }
}

/** What a writable mount has beside its context. */
interface Writer {
  readonly journal: Journal;
  readonly journalInode: JournalInode;
  readonly slotMap: SlotMap;
  readonly locks: LockManager;
}

function checkFeatures(geo: Geometry, { readOnly, offline }: MountOptions): void {
  const { device } = geo;
  if (geo.incompat & INCOMPAT.RESIZE_INPROG) throw new UsageError('RESIZE_INTERRUPTED', 'EINVAL', `${device}: an offline resize was interrupted; run fsck.ocfs2 first`, { device });
  if (readOnly) return;
  const unknown = unknownRoCompat(geo);
  if (unknown !== 0) throw new UsageError('FEATURES_UNKNOWN', 'EROFS', `${device} has features this version cannot write (0x${unknown.toString(16)}); mount it read-only, or use a newer lunfs`, { device, roCompat: unknown });
  if (!geo.local && !offline) {
    const stack = geo.stack ? `cluster "${geo.stack.cluster}" (${geo.stack.name})` : 'an o2cb cluster';
    throw new ClusterError('CLUSTER_VOLUME', `${device} belongs to ${stack}; this host is no member of it. If it is mounted nowhere, use --offline; to only look, use --read-only`, { device }, undefined, 'EPERM');
  }
}

/** `context`: the context that is built on this engine, for what must be given up with a lock; none exists before the first file is in use. */
function buildEngine(
  device: BlockDevice, geo: Geometry, log: Log, options: MountOptions, stop: (reason: LunfsError) => void, context: () => FsContext | undefined,
): { engine: Engine; locks: LockManager } {
  const cache = new BlockCache(device, geo, options.cacheBlocks);
  const locks = new LockManager({
    dlm: options.dlm ?? new LocalDlm(), dropOwner: (name) => cache.dropOwner(name), settle: (name) => log.flushOwner(name),
    onDowngrade: async (name, from, _to, table) => {
      const lock = parseLockName(name), ctx = context();
      if (ctx !== undefined && (lock?.type === 'M' || lock?.type === 'W')) await giveUpFile(ctx, lock.blkno, from, table);
    },
  });
  // A corrupt block makes the operation fail and the volume read-only (docs/design.md, rule 3); so does a bug of ours.
  const failed = (error: unknown): void => {
    if (error instanceof LunfsError && (error.kind === 'corruption' || error.kind === 'internal')) stop(error);
  };
  return { engine: new Engine(geo, cache, locks, log, options.clock ?? systemClock, failed), locks };
}

/** The global bitmap's dinode knows the size after an online grow; the superblock may be older (ondisk-format.md 11.1). */
async function readTotalClusters(ctx: FsContext): Promise<void> {
  ctx.totalClusters = await ctx.engine.read('volume size', (op) => ctx.inode(op, ctx.sys.globalBitmap, PR).di.clusters);
}
