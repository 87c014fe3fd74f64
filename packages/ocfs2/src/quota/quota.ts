/**
 * Quota of a mounted volume: use is charged in the transaction that changes it, limits are kept, what this node changed is
 * told to the global files (Linux 6.1 fs/ocfs2/quota_global.c, quota_local.c).
 *
 * An id is *held* from its first use on: it has an entry in this slot's local file and one use count in its global record.
 * A charge changes the entry alone, under locks nobody else wants, so no operation waits for quota. Sync moves what the
 * entries have gathered into the global records, at an interval and when asked; an id that was not used between two syncs is
 * let go. At unmount all are, and the local files are marked clean.
 *
 * Invariants: what an id uses is its global record and all local entries together, after each transaction; a file that is
 * not marked clean belongs to a living node or to recovery. Limits are checked against the global record as this node last
 * saw it and its own entry, as Linux does: nodes of a cluster may together pass a limit by what they use between syncs.
 */
import { LunfsError, UsageError } from '@lunfs/device';
import { badField } from '../format/block.js';
import type { GlobalDquotView, QuotaType } from '../format/quota.js';
import type { FsContext, QuotaFiles } from '../context.js';
import { EX, PR } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import type { Timers } from '../journal/index.js';
import { type Charge, chargesOf } from './charges.js';
import { GlobalQuota } from './global.js';
import { type Exceeded, NO_LIMITS, type QuotaGrace, type QuotaLimits, type QuotaTimes, type QuotaUse, applyLimits, mergeTimes, timesAfterSetting } from './limits.js';
import { type LocalPlace, LocalQuota } from './local.js';
import { mayPassLimits } from './requester.js';

/** What is known of one id. */
export interface QuotaRecord extends QuotaLimits, QuotaTimes, QuotaUse {
  readonly id: number;
}

/** Settings of one kind of quota: grace periods in seconds, time between syncs in milliseconds. */
export interface QuotaSettings {
  readonly spaceGrace: number;
  readonly inodeGrace: number;
  readonly syncMs: number;
}

/** An id with an entry in our local file. */
interface Held {
  readonly place: LocalPlace;
  /** The global record as last seen. */
  readonly global: QuotaUse;
  readonly limits: QuotaLimits;
  readonly times: QuotaTimes;
  /** Charged since the last sync. */
  readonly used: boolean;
}

/** One kind of quota. */
interface Kind {
  readonly files: QuotaFiles;
  readonly held: Map<number, Held>;
  grace: QuotaGrace;
  syncMs: number;
}

/** Ids one operation deals with at most, so that it fits a transaction of any journal. */
const IDS_PER_OP = 16;
/** Ids one operation lists. */
const IDS_PER_LIST = 256;
/** Shortest and longest time between two syncs, whatever the volume says. */
const LEAST_SYNC_MS = 1000;
const MOST_SYNC_MS = 3_600_000;

export class Quota {
  readonly #kinds = new Map<QuotaType, Kind>();
  #cancelTimer: (() => void) | undefined;
  #syncing: Promise<void> = Promise.resolve();
  #open = false;

  /** `slots`: whose local files count besides the global ones: our own, or all when nobody else is there. */
  constructor(private readonly ctx: FsContext, private readonly slots: readonly number[]) {
    for (const files of ctx.sys.quota) this.#kinds.set(files.type, { files, held: new Map(), grace: { space: 0, inodes: 0 }, syncMs: 0 });
  }

  /** Kinds the volume keeps. */
  get types(): QuotaType[] {
    return [...this.#kinds.keys()];
  }

  /** Merge what dead nodes left, take our local files, and count from now on. The volume's locks must be ours to wait for. */
  async start(timers: Timers): Promise<void> {
    const { ctx } = this;
    // A member of a cluster holds its own files for as long as it counts: who finds them free recovers them (quota_local.c:ocfs2_local_read_info).
    if (!ctx.geo.local) {
      for (const name of this.#ownFiles()) {
        await ctx.engine.locks.hold(name, EX);
        ctx.engine.locks.pin(name);
      }
    }
    for (const { files } of this.#kinds.values()) for (const slot of this.slots) await recoverSlot(ctx, files, slot);
    for (const kind of this.#kinds.values()) await this.#takeFile(kind);
    const { engine } = ctx;
    engine.charge = (op) => this.#charge(op);
    this.#open = true;
    this.#schedule(timers);
  }

  /** Changes are counted. */
  get open(): boolean {
    return this.#open;
  }

  /** Stop syncing by time; nothing else. */
  stop(): void {
    this.#open = false;
    this.#cancelTimer?.();
  }

  /** Tell the global files everything and leave the local ones clean. Nothing may be charged any more. */
  async close(): Promise<void> {
    this.stop();
    await this.#syncing;
    for (const kind of this.#kinds.values()) {
      while (kind.held.size > 0) await this.#syncSome(kind, [...kind.held.keys()].slice(0, IDS_PER_OP), () => true);
      await this.ctx.engine.run('quota off', (op) => {
        new LocalQuota(op, this.ctx, kind.files, this.ctx.slot, EX).clean = true;
      });
    }
    this.ctx.engine.charge = undefined;
    if (this.ctx.geo.local) return;
    for (const name of this.#ownFiles()) {
      this.ctx.engine.locks.drop(name, EX);
      this.ctx.engine.locks.giveUp(name);
    }
  }

  /**
   * Merge what a dead node left in the local files of a slot, unless somebody has them: who mounts the slot recovers it
   * itself (Linux 6.1 fs/ocfs2/quota_local.c:ocfs2_finish_quota_recovery).
   */
  async recover(slot: number): Promise<void> {
    const { ctx } = this;
    const { locks } = ctx.engine;
    for (const { files } of this.#kinds.values()) {
      const name = ctx.metaLockName(files.local[slot]);
      if (!(await locks.tryLock(name, EX))) continue;
      try {
        await recoverSlot(ctx, files, slot);
      } finally {
        locks.drop(name, EX);
      }
    }
  }

  #ownFiles(): string[] {
    return [...this.#kinds.values()].map(({ files }) => this.ctx.metaLockName(files.local[this.ctx.slot]));
  }

  /** Tell the global files what this node changed; ids not used since the last time are let go. */
  sync(): Promise<void> {
    const run = async (): Promise<void> => {
      for (const kind of this.#kinds.values()) {
        const ids = [...kind.held.keys()];
        for (let i = 0; i < ids.length; i += IDS_PER_OP) await this.#syncSome(kind, ids.slice(i, i + IDS_PER_OP), ({ used }) => !used);
      }
    };
    const result = this.#syncing.then(run);
    this.#syncing = result.catch(() => undefined);
    return result;
  }

  /** Use and limits of all ids known, in order. */
  async report(type: QuotaType): Promise<QuotaRecord[]> {
    const { files } = this.#kind(type);
    const records = new Map<number, QuotaRecord>();
    for (let from: number | undefined = 0; from !== undefined; ) {
      const at: number = from;
      const part = await this.ctx.engine.read('quota report', (op) => {
        const { records: views, next } = new GlobalQuota(op, this.ctx, files, PR).list(at, IDS_PER_LIST);
        return { found: views.map(recordOf), next };
      });
      for (const record of part.found) records.set(record.id, record);
      from = part.next;
    }
    for (const slot of this.slots) {
      for (const { id, space, inodes } of await this.ctx.engine.read('quota report', (op) => localUse(op, this.ctx, files, slot))) {
        const record = records.get(id) ?? { id, space: 0, inodes: 0, ...NO_LIMITS, spaceTime: 0, inodeTime: 0 };
        const { spaceTime, inodeTime } = this.#kind(type).held.get(id)?.times ?? record;
        records.set(id, { ...record, space: record.space + space, inodes: record.inodes + inodes, spaceTime, inodeTime });
      }
    }
    return [...records.values()].sort((a, b) => a.id - b.id);
  }

  settings(type: QuotaType): Promise<QuotaSettings> {
    return this.ctx.engine.read('quota settings', (op) => settingsOf(new GlobalQuota(op, this.ctx, this.#kind(type).files, PR)));
  }

  /** Set limits of an id; those not named stay. Grace periods of limits that are exceeded begin anew. Durable when it resolves. Throws QUOTA_LIMIT, NO_SPACE. */
  async setLimits(type: QuotaType, id: number, change: Partial<QuotaLimits>): Promise<QuotaRecord> {
    if (!Number.isInteger(id) || id < 0 || id >= 0xffffffff) throw new UsageError('QUOTA_LIMIT', 'EINVAL', `${id} is no ${type} id`, { id });
    for (const [name, value] of Object.entries(change)) {
      if (!Number.isSafeInteger(value) || value < 0) throw new UsageError('QUOTA_LIMIT', 'ERANGE', `${String(value)} is no limit of ${name}`, { name, value });
    }
    const kind = this.#kind(type);
    await this.#reserve(kind, [id], 0);
    return this.#durably('quota limits', (op) => {
      const global = new GlobalQuota(op, this.ctx, kind.files, EX);
      const record = global.edit(id) ?? global.create(id);
      const held = kind.held.get(id);
      if (held !== undefined) this.#merge(op, kind, record, held);
      const limits = { ...limitsOf(record), ...change };
      const times = timesAfterSetting(limits, record, graceOf(global), op.now.sec);
      Object.assign(record, limits, times);
      const result = recordOf(record);
      if (droppable(record)) global.remove(record);
      op.onApply(() => {
        if (held !== undefined) kind.held.set(id, { ...held, global: { space: result.space, inodes: result.inodes }, limits, times });
      });
      return result;
    });
  }

  /** Change grace periods or the sync interval. Durable when it resolves. */
  async setSettings(type: QuotaType, change: Partial<QuotaSettings>): Promise<QuotaSettings> {
    for (const [name, value] of Object.entries(change)) {
      if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) throw new UsageError('QUOTA_LIMIT', 'ERANGE', `${String(value)} is no ${name} that fits 32 bits`, { name, value });
    }
    const kind = this.#kind(type);
    return this.#durably('quota settings', (op) => {
      const global = new GlobalQuota(op, this.ctx, kind.files, EX);
      Object.assign(global.editInfo(), change);
      return this.#seen(op, kind, global);
    });
  }

  /** What an operator has been told is set stays set: there is no fsync that he could ask for it. */
  async #durably<T>(name: string, body: (op: Op) => T): Promise<T> {
    const result = await this.ctx.engine.run(name, body);
    await this.ctx.engine.log.commit();
    return result;
  }

  #kind(type: QuotaType): Kind {
    const kind = this.#kinds.get(type);
    if (kind === undefined) throw new UsageError('NO_QUOTA', 'EOPNOTSUPP', `${this.ctx.geo.device} keeps no ${type} quota; volumes get it when they are made (lunfs mkfs --fs-features=usrquota,grpquota) or by tunefs.ocfs2`, { device: this.ctx.geo.device, type });
    return kind;
  }

  /** Mark our local file as in use. It is empty: recovery has seen to that. */
  async #takeFile(kind: Kind): Promise<void> {
    const { ctx } = this;
    await ctx.engine.run('quota on', (op) => {
      const local = new LocalQuota(op, ctx, kind.files, ctx.slot, EX);
      local.reset();
      local.clean = false;
      this.#seen(op, kind, new GlobalQuota(op, ctx, kind.files, PR));
    });
    // So that who deletes files on a full volume needs no space for it. If there is none now, deleting may have to fail.
    await this.#reserve(kind, [], 1).catch(ifFull);
  }

  /**
   * Have room for the records of ids, and free entries in our local file. What grew is in place before it is used: a Linux
   * node that mounts this slot after our death has read size and clusters of the quota files before it replays the journal,
   * and takes what lies beyond for corruption, or stops at a BUG_ON (Linux 6.1 fs/ocfs2/super.c:ocfs2_mount_volume reads
   * system inodes, then checks the volume; its own volumes of one node have that trouble, too).
   */
  async #reserve(kind: Kind, ids: readonly number[], entries = ids.length): Promise<void> {
    const { engine, slot } = this.ctx;
    const grew = await engine.run('quota room', (op) => {
      const global = new GlobalQuota(op, this.ctx, kind.files, EX);
      const records = global.reserve(ids.filter((id) => global.find(id) === undefined).length);
      return new LocalQuota(op, this.ctx, kind.files, slot, EX).reserve(entries) || records;
    });
    if (grew) await engine.log.flush();
  }

  /** Remember the settings of a global file. */
  #seen(op: Op, kind: Kind, global: GlobalQuota): QuotaSettings {
    const settings = settingsOf(global);
    op.onApply(() => {
      kind.grace = { space: settings.spaceGrace, inodes: settings.inodeGrace };
      kind.syncMs = settings.syncMs;
    });
    return settings;
  }

  #schedule(timers: Timers): void {
    const intervals = [...this.#kinds.values()].map(({ syncMs }) => Math.min(MOST_SYNC_MS, Math.max(LEAST_SYNC_MS, syncMs)));
    this.#cancelTimer = timers.after(Math.min(...intervals), () => {
      // A failure is not lost: the engine has told, and the entries keep what was not synced.
      void this.sync().catch(() => undefined).then(() => {
        if (this.#open) this.#schedule(timers);
      });
    });
  }

  /** The engine's hook: charge what an operation is about to change, in the same transaction. */
  #charge(op: Op): void {
    const charges = chargesOf(op, this.ctx, this.types);
    if (charges.length === 0) return;
    for (const [type, kind] of this.#kinds) {
      const ids = charges.filter((charge) => charge.type === type && !kind.held.has(charge.id)).map(({ id }) => id);
      if (ids.length > 0) op.after('quota entries', () => this.#hold(kind, ids));
    }
    for (const [type, kind] of this.#kinds) {
      const own = charges.filter((charge) => charge.type === type);
      if (own.length === 0) continue;
      const local = new LocalQuota(op, this.ctx, kind.files, this.ctx.slot, EX);
      for (const charge of own) this.#chargeOne(op, kind, local, charge);
    }
  }

  #chargeOne(op: Op, kind: Kind, local: LocalQuota, charge: Charge): void {
    const { id } = charge;
    const held = kind.held.get(id)!;
    const entry = local.edit(held.place, id);
    entry.space += charge.space;
    entry.inodes += charge.inodes;
    const use = { space: held.global.space + entry.space, inodes: held.global.inodes + entry.inodes };
    const times = applyLimits(held.limits, held.times, kind.grace, use, charge, op.now.sec, mayPassLimits());
    if ('why' in times) throw this.#exceeded(charge, times);
    op.onApply(() => kind.held.set(id, { ...held, times, used: true }));
  }

  #exceeded({ type, id }: Charge, { what, limit, why }: Exceeded): UsageError {
    const { device } = this.ctx.geo;
    const amount = what === 'space' ? `${limit} bytes` : `${limit} inodes`;
    const reason = why === 'hard' ? `may use ${amount} at most` : `uses more than ${amount}, and the grace period for that is over`;
    return new UsageError('QUOTA_EXCEEDED', 'EDQUOT', `${device}: ${type} ${id} ${reason}; delete files, or raise the limit with "lunfs quota set"`, { device, type, id, limit });
  }

  /** Give ids entries. */
  async #hold(kind: Kind, ids: readonly number[]): Promise<void> {
    const acquire = () => this.ctx.engine.run('quota acquire', (op): boolean => {
      const global = new GlobalQuota(op, this.ctx, kind.files, EX);
      const local = new LocalQuota(op, this.ctx, kind.files, this.ctx.slot, EX);
      for (const id of ids) {
        if (kind.held.has(id)) continue;
        const place = local.claim(id);
        if (place === undefined) return false;
        const record = global.edit(id) ?? global.create(id);
        record.useCount++;
        const held = { place, global: { space: record.space, inodes: record.inodes }, limits: limitsOf(record), times: timesOf(record), used: true };
        op.onApply(() => kind.held.set(id, held));
      }
      return true;
    });
    const run = async (): Promise<void> => {
      // Others may take the entries before we do.
      do await this.#reserve(kind, ids);
      while (!(await acquire()));
    };
    await run().catch(async (error: unknown) => {
      ifFull(error);
      // The entries of ids that need none now are as good as new ones.
      const others = [...kind.held.keys()].filter((id) => !ids.includes(id));
      for (let i = 0; i < others.length; i += IDS_PER_OP) await this.#syncSome(kind, others.slice(i, i + IDS_PER_OP), () => true);
      await run();
    });
  }

  /** Merge the entries of some ids; give those up that `letGo` picks. */
  async #syncSome(kind: Kind, ids: readonly number[], letGo: (held: Held) => boolean): Promise<void> {
    const { ctx } = this;
    await ctx.engine.run('quota sync', (op) => {
      const global = new GlobalQuota(op, ctx, kind.files, EX);
      this.#seen(op, kind, global);
      for (const id of ids) {
        const held = kind.held.get(id);
        if (held === undefined) continue;
        const record = global.find(id);
        if (record === undefined) throw badField(global.info.block, 'global_quota_info', 'tree', id, 'has no record, though this node uses the id');
        if (letGo(held)) {
          const mine = global.edit(id)!;
          this.#merge(op, kind, mine, held);
          new LocalQuota(op, ctx, kind.files, ctx.slot, EX).release(held.place);
          dropUse(global, mine);
          op.onApply(() => kind.held.delete(id));
        } else {
          const entry = new LocalQuota(op, ctx, kind.files, ctx.slot, EX).read(held.place, id);
          const times = mergeTimes(limitsOf(record), { space: record.space + entry.space, inodes: record.inodes + entry.inodes }, held.times, timesOf(record));
          const told = entry.space === 0 && entry.inodes === 0 && times.spaceTime === record.spaceTime && times.inodeTime === record.inodeTime;
          const now = told ? recordOf(record) : this.#merge(op, kind, global.edit(id)!, held);
          op.onApply(() => kind.held.set(id, { ...held, global: { space: now.space, inodes: now.inodes }, limits: limitsOf(now), times: timesOf(now), used: false }));
        }
      }
    });
  }

  /** Move what an entry has gathered into the global record. */
  #merge(op: Op, kind: Kind, record: GlobalDquotView, held: Held): QuotaRecord {
    const entry = new LocalQuota(op, this.ctx, kind.files, this.ctx.slot, EX).edit(held.place, record.id);
    addUse(record, entry);
    Object.assign(record, mergeTimes(limitsOf(record), record, held.times, timesOf(record)));
    entry.space = 0;
    entry.inodes = 0;
    return recordOf(record);
  }
}

/** Passes NO_SPACE, throws every other error. */
function ifFull(error: unknown): void {
  if (!(error instanceof LunfsError) || error.errno !== 'ENOSPC') throw error;
}

function recordOf(record: GlobalDquotView): QuotaRecord {
  return { id: record.id, space: record.space, inodes: record.inodes, ...limitsOf(record), ...timesOf(record) };
}

function limitsOf({ spaceSoft, spaceHard, inodeSoft, inodeHard }: QuotaLimits): QuotaLimits {
  return { spaceSoft, spaceHard, inodeSoft, inodeHard };
}

function timesOf({ spaceTime, inodeTime }: QuotaTimes): QuotaTimes {
  return { spaceTime, inodeTime };
}

function settingsOf({ info: { spaceGrace, inodeGrace, syncMs } }: GlobalQuota): QuotaSettings {
  return { spaceGrace, inodeGrace, syncMs };
}

function graceOf({ info }: GlobalQuota): QuotaGrace {
  return { space: info.spaceGrace, inodes: info.inodeGrace };
}

function addUse(record: GlobalDquotView, { space, inodes }: QuotaUse): void {
  record.space += space;
  record.inodes += inodes;
}

/** A record that says nothing: no use, no limits, no node that has it (Linux 6.1 fs/quota/quota_tree.c:qtree_release_dquot). */
function droppable(record: GlobalDquotView): boolean {
  const { spaceSoft, spaceHard, inodeSoft, inodeHard, space, inodes, useCount } = record;
  return useCount === 0 && space === 0 && inodes === 0 && spaceSoft === 0 && spaceHard === 0 && inodeSoft === 0 && inodeHard === 0;
}

/** One node less has the id. */
function dropUse(global: GlobalQuota, record: GlobalDquotView): void {
  if (record.useCount > 0) record.useCount--;
  if (droppable(record)) global.remove(record);
}

function localUse(op: Op, ctx: FsContext, files: QuotaFiles, slot: number): (QuotaUse & { id: number })[] {
  const local = new LocalQuota(op, ctx, files, slot, PR);
  return local.clean ? [] : [...local.used()].map(({ entry: { id, space, inodes } }) => ({ id, space, inodes }));
}

/**
 * Merge what a dead node left in its local file and mark the file clean: each operation moves some entries, so that a crash
 * in between leaves the rest to the next recovery (Linux 6.1 fs/ocfs2/quota_local.c:ocfs2_finish_quota_recovery).
 */
async function recoverSlot(ctx: FsContext, files: QuotaFiles, slot: number): Promise<void> {
  for (let more = !(await ctx.engine.read('quota recovery', (op) => new LocalQuota(op, ctx, files, slot, PR).clean)); more; ) {
    more = await ctx.engine.run('quota recovery', (op) => {
      const local = new LocalQuota(op, ctx, files, slot, EX);
      let left = IDS_PER_OP;
      const global = new GlobalQuota(op, ctx, files, EX);
      for (const { chunk, bit, entry } of local.used()) {
        if (left-- === 0) return true;
        const record = global.edit(entry.id) ?? global.create(entry.id);
        addUse(record, entry);
        Object.assign(record, mergeTimes(limitsOf(record), record, timesOf(record), timesOf(record)));
        local.release({ chunk, bit });
        dropUse(global, record);
      }
      local.clean = true;
      return false;
    });
  }
}
