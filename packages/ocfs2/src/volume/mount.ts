/**
 * Mounting a volume: a local one, or one of a cluster, as one of several live members (`cluster`) or taken offline while
 * nobody has it (offline.ts).
 * The order is Linux's (ondisk-format.md 9.5, 10.3, 9.5 "Clean unmount"): recover every dirty journal, take the slot, mark
 * its journal dirty, then the first change; and at the end window and truncate log given back, journal empty, slot map
 * entry cleared *before* the journal is marked clean (a slot that is free but dirty is recovered by the next mount; one
 * that is taken but clean would look like a live node).
 *
 * As a member of a cluster slot and journal are taken under the super lock; other nodes' slots are recovered one by one
 * when the locks of their journals can be had, or the cluster tells of their death (node-recovery.ts).
 */
import { type BlockDevice, ClusterError, InternalError, LunfsError, UsageError } from '@lunfs/device';
import { closeLocalAlloc, flushTruncateLog, mayHoldClusters } from '../alloc/index.js';
import { FsContext, type Random, type SystemFiles } from '../context.js';
import { INCOMPAT } from '../format/constants.js';
import { type Geometry, unknownRoCompat } from '../format/geometry.js';
import { RawReader } from '../inspect/raw-reader.js';
import { readSystemFiles } from '../inspect/system-files.js';
import { Journal, JournalInode, type Timers, replayJournal } from '../journal/index.js';
import { type Dlm, EX, LocalDlm, LockManager, ORPHAN_SCAN_LOCK, PR, lockName, parseLockName } from '../locking/index.js';
import { BlockCache, type Clock, Engine, type Log, WriteBackLog } from '../txn/index.js';
import { Chore } from './chores.js';
import type { ClusterMember } from './cluster-member.js';
import { pause, systemClock, systemTimers } from './clock.js';
import { flushAllTimes, giveUpFile } from './file-state.js';
import { cutToSize } from './file-truncate.js';
import { Flocks } from './flocks.js';
import { type OrphanRecovery, recoverOrphans } from './inode-life.js';
import { type GrowOptions, type Growth, type GrowthPlan, growVolume, planGrowth } from './grow.js';
import { type HostCaches, setCaches } from './host-caches.js';
import { Namespace } from './namespace-volume.js';
import { NodeRecovery, type TakenOver } from './node-recovery.js';
import { checkOffline, hasOfflineMark, setOfflineMark } from './offline.js';
import { OrphanScan } from './orphan-scan.js';
import { Quota } from '../quota/index.js';
import { systemRandom } from './random.js';
import { recoverJournals, settleSlots } from './recovery.js';
import { replayedView } from './replay-overlay.js';
import { mendSize, relearnSize } from './size.js';
import { type TrimOptions, type Trimmed, trimVolume } from './trim.js';
import { SlotMap } from './slot-map.js';
import { MetaValues, keepValues, metaValue } from './value-blocks.js';

/** Slots take their node number from the cluster; a local mount is node 0 (Linux 6.1 fs/ocfs2/super.c). */
const LOCAL_NODE = 0;
/** What lies in a member's truncate log is free for the others within this many milliseconds (Linux 6.1 fs/ocfs2/alloc.c:OCFS2_TRUNCATE_LOG_FLUSH_INTERVAL). */
const TRUNCATE_LOG_MS = 2000;

export interface MountOptions {
  /** Change nothing, not even to recover: dirty journals are replayed in memory. */
  readonly readOnly?: boolean;
  /** Write to a volume of a cluster while nobody has it mounted. */
  readonly offline?: boolean;
  /** Be one of the live members of the volume's cluster. */
  readonly cluster?: ClusterMember;
  /** The lock manager of a mount that is no member of a cluster; grants at once by default. */
  readonly dlm?: Dlm;
  readonly clock?: Clock;
  readonly timers?: Timers;
  readonly random?: Random;
  /** With `offline`: nodes that beat, where the host can tell; else a global heartbeat leaves nodes with slots in doubt. */
  readonly liveNodes?: () => Promise<readonly number[]>;
  /** How the heartbeat watch waits; for tests. */
  readonly pause?: (ms: number) => Promise<void>;
  /** Milliseconds after which changes are committed (Linux: mount option commit=). */
  readonly commitInterval?: number;
  /** Metadata blocks kept in memory. */
  readonly cacheBlocks?: number;
  /** The volume takes no more changes, and why. Called once. */
  readonly onReadOnly?: (reason: LunfsError) => void;
  /**
   * A member cannot go on: a lock cannot be given up safely, or a dead node not be recovered. The host must take the node
   * out of the cluster without giving locks up, as if it had died; the others recover it. May be called more than once.
   */
  readonly onStuck?: (reason: LunfsError) => void;
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
  /** File locks of the whole cluster; a mount that is no member of one has none. */
  readonly flocks: Flocks | undefined;
  /** Why changes are refused; undefined while the volume is writable. */
  readOnlyReason: LunfsError | undefined;

  private constructor(
    readonly device: BlockDevice,
    readonly ctx: FsContext,
    readonly recovery: Recovery,
    private readonly writer: Writer | undefined,
  ) {
    this.names = new Namespace(ctx);
    this.flocks = writer?.membership && new Flocks(ctx, writer.membership.dlm);
    // If nobody else has the volume, all local quota files may be read and recovered.
    if (ctx.sys.quota.length > 0) this.quota = new Quota(ctx, writer?.membership === undefined ? allSlots(ctx.geo) : [ctx.slot]);
  }

  get geo(): Geometry {
    return this.ctx.geo;
  }

  /** The page cache above this mount, whose pages go before other nodes change them; undefined: there is none. */
  set caches(caches: HostCaches | undefined) {
    setCaches(this.ctx, caches);
  }

  /**
   * Mount the volume on `device`. Throws NOT_OCFS2, FEATURES_UNKNOWN, CLUSTER_VOLUME (needs `cluster` or `offline`), CLUSTER_ALIVE,
   * SLOTS_TAKEN, LOCAL_VOLUME, NO_SLOT, OFFLINE_WRITER, RESIZE_INTERRUPTED, TUNEFS_INTERRUPTED, corruption and I/O errors.
   */
  static async mount(device: BlockDevice, options: MountOptions = {}): Promise<Volume> {
    const reader = await RawReader.open(device);
    checkFeatures(reader.geo, options);
    const sys = await readSystemFiles(reader);
    if (options.cluster !== undefined) return Volume.#mountMember(reader, sys, options, options.cluster);
    if (options.readOnly) return Volume.#mountReadOnly(reader, sys, options);
    if (!reader.geo.local) await checkOffline(reader, sys, options.pause ?? pause, options.liveNodes);
    const marked = await hasOfflineMark(reader);
    const geo = reader.geo.local || marked ? reader.geo : await setOfflineMark(device, reader.geo, true);
    return Volume.#mountWritable(new RawReader(device, geo), sys, options);
  }

  static async #mountReadOnly(reader: RawReader, sys: SystemFiles, options: MountOptions): Promise<Volume> {
    const { device, slots } = await replayedView(reader, sys);
    const { geo } = reader;
    const log = new WriteBackLog(device, geo);
    const cache = new BlockCache(device, geo, options.cacheBlocks);
    const locks = buildLocks(cache, options, { log, ctx: undefined });
    const engine = buildEngine(cache, locks, log, options, () => undefined);
    const ctx = new FsContext(geo, sys, 0, engine, options.random ?? systemRandom);
    await readSize(ctx);
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
    const journal = await openJournal(reader, journalInode, options, stop);
    await journalInode.markDirty();
    const cache = new BlockCache(device, geo, options.cacheBlocks);
    const parts: Parts = { log: journal, ctx: undefined };
    const locks = buildLocks(cache, options, parts);
    const engine = buildEngine(cache, locks, journal, options, stop);
    const ctx = (parts.ctx = new FsContext(geo, sys, slot, engine, options.random ?? systemRandom));
    await readSize(ctx);
    const blocks = recovered.reduce((sum, r) => sum + r.blocks, 0);
    volume = new Volume(device, ctx, { slots: recovered.map((r) => r.slot), blocks }, { journal, journalInode, slotMap, locks });
    await settleSlots(ctx);
    await mendSize(ctx);
    await volume.quota?.start(options.timers ?? systemTimers);
    const orphans = await volume.#recoverOrphans(allSlots(geo));
    return Object.assign(volume, { recovery: { ...volume.recovery, orphans } });
  }

  /** The order is the kernel's (cluster-protocols.md 6; Linux 6.1 fs/ocfs2/super.c:ocfs2_mount_volume). */
  static async #mountMember(reader: RawReader, sys: SystemFiles, options: MountOptions, member: ClusterMember): Promise<Volume> {
    const { device, geo } = reader;
    if (geo.local) throw new ClusterError('LOCAL_VOLUME', `${geo.device} is made for one node; "tunefs.ocfs2 -M cluster" makes it a cluster's`, { device: geo.device }, undefined, 'EINVAL');
    if (await hasOfflineMark(reader)) {
      throw new ClusterError('OFFLINE_WRITER', `${geo.device} is being written by lunfs --offline, or was when that died; end it, or run "lunfs check" with --offline to recover`, { device: geo.device });
    }
    const cache = new BlockCache(device, geo, options.cacheBlocks);
    const parts: Parts = { log: undefined, ctx: undefined };
    let volume: Volume | undefined;
    const stop = (reason: LunfsError): void => {
      if (volume?.stopChanges(reason)) options.onReadOnly?.(reason);
    };
    const stuck = (error: unknown): void => {
      const reason = error instanceof LunfsError ? error : new InternalError('MEMBER', String(error), { device: geo.device }, error);
      stop(reason);
      options.onStuck?.(reason);
    };
    const scan = new OrphanScan(), values = new MetaValues();
    const locks = buildLocks(cache, { ...options, dlm: member.dlm }, parts, { gated: (name) => recovery.gated(name), onStuck: stuck, scan, values });
    const recovery: NodeRecovery = new NodeRecovery({ reader, sys, member, locks, finish: async (slot) => volume?.finishRecovery(slot), onFailure: stuck });
    const ends = [member.onDeath((node) => recovery.died(node)), member.onSuspicion(() => locks.gateOpened())];
    const unsubscribe = (): void => {
      for (const end of ends) end();
    };
    try {
      const { slot, journalInode, journal, slotMap, replayed } = await recovery.underSuper(async () => {
        const slotMap = await SlotMap.read(reader, sys.slotMap);
        const slot = slotMap.slotFor(member.node);
        if (slot === undefined) throw new ClusterError('NO_SLOT', `${geo.device} has ${geo.maxSlots} slots and all are taken; unmount it somewhere, or add slots (tunefs.ocfs2 -N)`, { device: geo.device, slots: geo.maxSlots }, undefined, 'EBUSY');
        await slotMap.set(device, slot, member.node);
        // Held for the whole mount: who can have it knows that this node is dead.
        await locks.hold(lockOfJournal(geo, sys, slot), EX);
        const journalInode = await JournalInode.read(reader, sys.journal[slot]);
        const replayed = journalInode.dirty ? (await replayJournal(device, geo, journalInode.map)).replayed : undefined;
        const journal = await openJournal(reader, journalInode, options, stop);
        await journalInode.markDirty(replayed !== undefined);
        await recovery.markDead(slotMap);
        return { slot, journalInode, journal, slotMap, replayed };
      });
      parts.log = journal;
      const engine = buildEngine(cache, locks, journal, options, stop);
      const ctx = (parts.ctx = new FsContext(geo, sys, slot, engine, options.random ?? systemRandom));
      keepValues(ctx, values);
      engine.relearn = () => relearnSize(ctx);
      volume = new Volume(device, ctx, { slots: [], blocks: 0 }, { journal, journalInode, slotMap, locks, membership: { dlm: member.dlm, recovery, reader, unsubscribe, chores: [] } });
      recovery.begin(ctx);
      await recovery.settled();
      await mendSize(ctx);
      await volume.quota?.start(options.timers ?? systemTimers);
      const taken = new Set(slotMap.taken().map((entry) => entry.slot));
      const orphans = await volume.#recoverOrphans(allSlots(geo).filter((other) => other === slot || !taken.has(other)));
      volume.#startChores(options, scan);
      const slots = [...(replayed === undefined ? [] : [{ slot, blocks: replayed }]), ...recovery.recovered];
      return Object.assign(volume, { recovery: { slots: slots.map((r) => r.slot), blocks: slots.reduce((sum, r) => sum + r.blocks, 0), orphans } });
    } catch (error) {
      unsubscribe();
      // What was done is in place before locks go. Slot and journal stay as they are: the next mount recovers.
      await (parts.log?.flush() ?? Promise.resolve()).then(() => locks.close(true)).catch(() => undefined); // the first error is the one to tell
      throw error;
    }
  }

  /** What a member does now and then for the others' sake. */
  #startChores({ timers = systemTimers }: MountOptions, scan: OrphanScan): void {
    const { ctx } = this;
    const flush = async (): Promise<void> => {
      if (mayHoldClusters(ctx) && this.readOnlyReason === undefined) await flushTruncateLog(ctx);
    };
    const look = async (): Promise<void> => {
      if (this.readOnlyReason === undefined && (await scan.turn(ctx.engine.locks))) await recoverOrphans(ctx, allSlots(ctx.geo), undefined, this.names.inodes);
    };
    this.writer?.membership?.chores.push(new Chore(timers, () => TRUNCATE_LOG_MS, flush), new Chore(timers, () => OrphanScan.interval(ctx.random.u32()), look));
  }

  #recoverOrphans(slots: readonly number[]): Promise<OrphanRecovery> {
    return recoverOrphans(this.ctx, slots, (blkno) => cutToSize(this.ctx, blkno), this.names.inodes);
  }

  /** A dead node's slot is free again: what it left is dealt with as its owner would have. */
  private async finishRecovery({ slot }: TakenOver): Promise<void> {
    await mendSize(this.ctx);
    // What is wiped now would not be counted: the next to mount, or to scan, finds all of it.
    if (this.quota?.open === false) return;
    await this.quota?.recover(slot);
    await this.#recoverOrphans([slot]);
  }

  /**
   * Make the volume as large as its device, or `size` bytes, while it is in use here and on other nodes. Can be run again after a crash.
   * Throws SHRINK, DEVICE_TOO_SMALL, JOURNAL_ADDRESS, GROUPS_TOO_SMALL, GROWING.
   */
  grow(options: GrowOptions = {}): Promise<Growth> {
    return growVolume(this.ctx, options);
  }

  /** What `grow` would do, and every block that it would change. Nothing is changed. */
  planGrowth(options: GrowOptions = {}): Promise<GrowthPlan> {
    return planGrowth(this.ctx, options);
  }

  /** Discard free clusters on the device, while the volume is in use. Throws NO_DISCARD, TRIMMING, BAD_RANGE. */
  trim(options: TrimOptions = {}): Promise<Trimmed> {
    return trimVolume(this.ctx, options);
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
   * Of a member in trouble it rejects when locks cannot be given up; then its host must leave as by death (`onStuck`).
   */
  async unmount(): Promise<void> {
    const { writer, ctx } = this;
    if (writer === undefined) return;
    for (const chore of writer.membership?.chores ?? []) await chore.stop();
    if (this.readOnlyReason !== undefined) {
      this.quota?.stop();
      await this.flocks?.closeAll();
      if (writer.membership !== undefined) return this.#leaveInTrouble(writer, writer.membership);
      if (writer.journal.aborted === undefined) await writer.journal.commit({ barrier: true });
      return;
    }
    await flushAllTimes(ctx);
    await this.flocks?.closeAll();
    await this.names.inodes.forgetAll();
    // A dead node's orphans are counted as they are wiped.
    await writer.membership?.recovery.finished();
    await this.quota?.close();
    if (writer.membership !== undefined) return this.#leave(writer, writer.membership);
    await this.#giveBack(writer);
    await writer.locks.close();
    await this.#closeSlot(writer, ctx.geo.local ? writer.slotMap : undefined);
    if (!ctx.geo.local) await setOfflineMark(this.device, ctx.geo, false);
  }

  /** Window and truncate log given back, everything in place. */
  async #giveBack({ journal }: Writer): Promise<void> {
    await closeLocalAlloc(this.ctx);
    await flushTruncateLog(this.ctx);
    await journal.flush();
  }

  async #closeSlot({ journal, journalInode }: Writer, slotMap: SlotMap | undefined): Promise<void> {
    await slotMap?.set(this.device, this.ctx.slot, undefined);
    await journal.close();
    await journalInode.markClean();
  }

  async #leave(writer: Writer, { recovery, reader, unsubscribe }: Membership): Promise<void> {
    const { geo, sys, slot } = this.ctx;
    await recovery.stop(() => this.#giveBack(writer));
    await recovery.underSuper(async () => {
      await (await SlotMap.read(reader, sys.slotMap)).set(this.device, slot, undefined);
    });
    await this.#closeSlot(writer, undefined);
    writer.locks.drop(lockOfJournal(geo, sys, slot), EX);
    await writer.locks.close();
    unsubscribe();
  }

  /** Everything done is in place before the locks go; slot and journal stay as they are, so that the next node to mount recovers what we owe. */
  async #leaveInTrouble({ journal, locks }: Writer, { unsubscribe }: Membership): Promise<void> {
    await journal.flush();
    await locks.close(true);
    unsubscribe();
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
  readonly membership?: Membership;
}

/** What a member of a cluster has besides. */
interface Membership {
  readonly dlm: Dlm;
  readonly recovery: NodeRecovery;
  readonly reader: RawReader;
  readonly unsubscribe: () => void;
  readonly chores: Chore[];
}

/** What a lock cache needs of a mount and exists only after the first locks are taken. */
interface Parts {
  log: Log | undefined;
  ctx: FsContext | undefined;
}

function allSlots(geo: Geometry): number[] {
  return Array.from({ length: geo.maxSlots }, (_, slot) => slot);
}

function lockOfJournal(geo: Geometry, sys: SystemFiles, slot: number): string {
  return lockName('M', sys.journal[slot], geo.fsGeneration);
}

function openJournal({ device, geo }: RawReader, inode: JournalInode, options: MountOptions, onAbort: (reason: LunfsError) => void): Promise<Journal> {
  return Journal.open(device, geo, inode.map, { clock: options.clock ?? systemClock, timers: options.timers ?? systemTimers, commitInterval: options.commitInterval, onAbort });
}

function checkFeatures(geo: Geometry, { readOnly, offline, cluster }: MountOptions): void {
  const { device } = geo;
  if (geo.incompat & INCOMPAT.RESIZE_INPROG) throw new UsageError('RESIZE_INTERRUPTED', 'EINVAL', `${device}: an offline resize was interrupted; run fsck.ocfs2 first`, { device });
  if (readOnly) return;
  const unknown = unknownRoCompat(geo);
  if (unknown !== 0) throw new UsageError('FEATURES_UNKNOWN', 'EROFS', `${device} has features this version cannot write (0x${unknown.toString(16)}); mount it read-only, or use a newer lunfs`, { device, roCompat: unknown });
  if (!geo.local && !offline && cluster === undefined) {
    const stack = geo.stack ? `cluster "${geo.stack.cluster}" (${geo.stack.name})` : 'an o2cb cluster';
    throw new ClusterError('CLUSTER_VOLUME', `${device} belongs to ${stack}; this mount is no member of it. If it is mounted nowhere, use --offline; to only look, use --read-only`, { device }, undefined, 'EPERM');
  }
}

interface MemberHooks {
  readonly gated?: (name: string) => boolean;
  readonly onStuck?: (error: Error) => void;
  readonly scan?: OrphanScan;
  readonly values?: MetaValues;
}

function buildLocks(cache: BlockCache, options: MountOptions, parts: Parts, hooks: MemberHooks = {}): LockManager {
  return new LockManager({
    dlm: options.dlm ?? new LocalDlm(), dropOwner: (name) => {
      cache.dropOwner(name);
      hooks.values?.gone(name);
    },
    settle: (name) => parts.log?.flushOwner(name) ?? Promise.resolve(),
    onDowngrade: async (name, from, to, table) => {
      const lock = parseLockName(name);
      if (parts.ctx !== undefined && (lock?.type === 'M' || lock?.type === 'W')) await giveUpFile(parts.ctx, lock.blkno, { type: lock.type, from, to }, table);
    },
    lvb: (name) => (name === ORPHAN_SCAN_LOCK ? hooks.scan?.value() : metaValue(cache, name)),
    onGranted: (name, level, lvb, from) => {
      if (name === ORPHAN_SCAN_LOCK) hooks.scan?.granted(lvb);
      else hooks.values?.granted(name, level, lvb, from);
    },
    gated: hooks.gated,
    onStuck: (_name, error) => hooks.onStuck?.(error),
  });
}

/** Corrupt blocks make an operation fail and the volume read-only (docs/design.md, rule 3); so does a bug of ours. */
function buildEngine(cache: BlockCache, locks: LockManager, log: Log, options: MountOptions, stop: (reason: LunfsError) => void): Engine {
  const failed = (error: unknown): void => {
    if (error instanceof LunfsError && (error.kind === 'corruption' || error.kind === 'internal')) stop(error);
  };
  return new Engine(cache.geo, cache, locks, log, options.clock ?? systemClock, failed);
}

/** The superblock of a volume that has grown may be older than its bitmap (size.ts). */
async function readSize(ctx: FsContext): Promise<void> {
  await ctx.engine.read('volume size', (op) => void ctx.inode(op, ctx.sys.globalBitmap, PR));
}
