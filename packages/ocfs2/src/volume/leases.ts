/**
 * Leases of disks: on one host at a time a disk is writable (docs/leases.md has the whole argument).
 *
 * Two things, always in this order:
 *  1. The disk file's flock at EX, in the cluster's lock manager. Its grant says that no other process of the cluster has the lease: a holder
 *     lets go of it after its last write, and of a dead one it is taken away when the cluster has found it dead. A mount that is no member has
 *     none; there the volume is the process's alone.
 *  2. The record (lease-record.ts), changed under the inode's meta lock at EX, by one operation. After a death that lock is used only when the dead
 *     node's journal has been replayed, so what is read is the last that was committed. The record is durable before the lease is used.
 * The flock says who may; the record says who did, so that who comes back knows whether anybody has been there meanwhile, and it carries the
 * hand-over of a guest that moves. Nothing here looks at a clock but to tell people since when.
 *
 * A hand-over: the holder offers (`offer`), the target accepts and waits for the flock (`accept`), the holder, which writes no more, gives the record to the
 * target with the next epoch and lets go of the flock (`switchOver`), the target, which has the flock now, marks the record as its own and writes. If the
 * target gets the flock and the record is not its own, the holder has gone without switching: the target gives up, and leaves the lease to who comes back.
 */
import { ClusterError, UsageError } from '@lunfs/device';
import type { FsContext, InodeRef } from '../context.js';
import { EX, PR } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import { findXattr, parseXattrName, readValue } from '../xattr/index.js';
import { liveInode } from './attributes.js';
import type { Flocks } from './flocks.js';
import { type DiskLease, type Incarnation, LEASE_XATTR, NO_NODE, decodeLease, encodeLease } from './lease-record.js';
import { setXattr } from './xattrs.js';

/** Owners of flocks beside those of a mount, which are unsigned. */
const LEASE_OWNER = -1n;
const GUARD_OWNER = -2n;
const NAME = parseXattrName(LEASE_XATTR)!;

/** Who takes leases: this process. */
export interface LeaseTaker extends Incarnation {
  readonly host: string;
  /** Name of a node of the cluster. */
  readonly hostOf: (node: number) => string | undefined;
  /** Does a node beat? */
  readonly lives: (node: number) => boolean;
}

/** A disk: its inode, and what messages call it. The caller holds a reference to the inode. */
export interface LeasedDisk {
  readonly ino: number;
  readonly name: string;
}

/** An offer of another host that this one has accepted. */
export interface AcceptedLease {
  /** Resolves to the epoch when the disk may be written. Rejects with HANDOVER_LOST, INTERRUPTED (by the signal), corruption and I/O errors. */
  readonly active: Promise<number>;
}

/** The lease of a disk as it is on the volume; undefined: it has never had one. Throws LEASE_UNKNOWN, STALE. */
export function readLease(ctx: FsContext, ino: number): Promise<DiskLease | undefined> {
  return ctx.engine.read('lease', (op) => leaseOf(op, ctx, liveInode(op, ctx, ino, PR)));
}

export class Leases {
  /** Epochs of the leases of this process, and how many use each. */
  readonly #held = new Map<number, { readonly epoch: number; users: number }>();
  readonly #turns = new Map<number, Promise<unknown>>();
  /** Disks whose flock this process waits for, to have been given their leases. */
  readonly #awaited = new Set<number>();

  constructor(private readonly ctx: FsContext, private readonly flocks: Flocks | undefined, readonly self: LeaseTaker) {}

  /** Epoch of a lease that this process has. */
  epochOf(ino: number): number | undefined {
    return this.#held.get(ino)?.epoch;
  }

  /**
   * Become the one host that may write the disk, or one user more of it here. Resolves to the epoch, when it is durable. Throws DISK_IN_USE,
   * LEASE_NEEDS_XATTR, LEASE_UNKNOWN, STALE, NO_SPACE.
   */
  acquire(disk: LeasedDisk): Promise<number> {
    return this.#begin(disk, (old, now) => {
      // Its target may not have come to ask for the flock yet.
      if (old?.state === 'switched' && old.holder.node !== this.self.node && this.self.lives(old.holder.node)) throw this.#inUse(disk, old);
      return this.#own(old, now);
    });
  }

  /**
   * The same for who had it before this process: it goes on if nobody has had it since, with the epoch that it had. Throws LEASE_LOST besides.
   */
  resume(disk: LeasedDisk, epoch: number): Promise<number> {
    return this.#begin(disk, (old) => {
      if (old === undefined || old.epoch !== epoch || old.holder.node !== this.self.node || (old.state !== 'held' && old.state !== 'incoming')) {
        throw this.#error('LEASE_LOST', 'ESTALE', disk, `was this host's with lease epoch ${epoch}, and ${old === undefined ? 'has no lease any more' : `is ${old.host}'s with epoch ${old.epoch} (${old.state}) since`}: what used it here must not go on; begin it anew`, old);
      }
      return { ...old, state: 'held', holder: this.#me, other: undefined };
    });
  }

  /** One user less; after the last one nobody has the disk. Nothing may be written any more when it is called. Never waits for other hosts' users. */
  async release({ ino }: LeasedDisk): Promise<void> {
    await this.#turn(ino, async () => {
      const held = this.#held.get(ino);
      // None: it was handed over meanwhile.
      if (held === undefined || --held.users > 0) return;
      this.#held.delete(ino);
      try {
        // A volume that takes no more changes keeps `held`: the flock, which goes, is what keeps others away.
        if (this.ctx.engine.refusal === undefined) await this.#change(ino, (old) => (this.#isMine(old, held.epoch) ? { ...old, state: 'released', other: undefined } : undefined));
      } finally {
        // Whatever became of the record: nothing of ours writes any more.
        await this.#drop(ino);
      }
    });
  }

  /** Offer the lease to another node; an earlier offer is withdrawn. Throws LEASE_LOST, HANDOVER_SELF. */
  async offer(disk: LeasedDisk, node: number): Promise<void> {
    if (node === this.self.node) throw this.#error('HANDOVER_SELF', 'EINVAL', disk, 'is on this host: there is nothing to hand over', undefined);
    await this.#changeMine(disk, (mine) => ({ ...mine, state: 'incoming', other: { node, incarnation: 0n } }));
  }

  /** Take the offer back, if there is one. Throws LEASE_LOST. */
  async withdraw(disk: LeasedDisk): Promise<void> {
    await this.#changeMine(disk, (mine) => ({ ...mine, state: 'held', other: undefined }));
  }

  /**
   * Accept an offer. Resolves when the holder may switch; `signal` ends the wait for it. Throws NOT_OFFERED.
   */
  async accept(disk: LeasedDisk, signal: AbortSignal): Promise<AcceptedLease> {
    const { ino } = disk;
    if (this.#awaited.has(ino) || this.#held.has(ino)) throw this.#error('DISK_IN_USE', 'EBUSY', disk, 'is exported on this host already', undefined);
    this.#awaited.add(ino);
    try {
      await this.#change(ino, (old) => {
        if (old?.state !== 'incoming' || old.other?.node !== this.self.node) {
          throw this.#error('NOT_OFFERED', 'EINVAL', disk, `is not offered to this host${old === undefined || old.state === 'released' ? ': no host has it' : `: on ${old.host}, "lunfs disk handover --to ${this.self.host}" does that`}`, old);
        }
        return { ...old, other: this.#me };
      });
    } catch (error) {
      this.#awaited.delete(ino);
      throw error;
    }
    const active = this.#await(disk, signal).finally(() => this.#awaited.delete(ino));
    active.catch(() => undefined); // the caller's, when he gets to it
    return { active };
  }

  /**
   * Give the lease to the host that has accepted it. This process must have ended writing and begin no more. Resolves when it is durable, to the new
   * epoch. Throws NOT_ACCEPTED, LEASE_LOST, HANDOVER_SHARED: then the lease is still here; after any other error nobody can tell.
   */
  switchOver(disk: LeasedDisk): Promise<number> {
    const { ino } = disk;
    return this.#turn(ino, async () => {
      const { epoch, users } = this.#needHeld(disk);
      if (users > 1) throw this.#error('HANDOVER_SHARED', 'EBUSY', disk, `has ${users} exports for writing on this host; end all but the guest's that moves`, undefined);
      const given = await this.#changeDurably(ino, (old, now) => {
        const { state, other } = this.#needMine(disk, old, epoch);
        if (state !== 'incoming' || other === undefined || other.incarnation === 0n || !this.self.lives(other.node)) {
          throw this.#error('NOT_ACCEPTED', 'EINVAL', disk, `cannot be handed over: ${state !== 'incoming' || other === undefined ? 'it is offered to no host' : `${this.#host(other.node)} has not opened it (there: lunfs disk export --incoming)`}`, old);
        }
        return { state: 'switched', epoch: epoch + 1, holder: other, host: this.#host(other.node), other: this.#me, since: now };
      });
      this.#held.delete(ino);
      await this.#drop(ino);
      return given.epoch;
    });
  }

  /** After `switchOver`, when the other host does not come to write: have the lease again, with the next epoch. Throws DISK_IN_USE, HANDOVER_LOST. */
  takeBack(disk: LeasedDisk): Promise<number> {
    return this.#begin(disk, (old, now) => {
      if (old?.state !== 'switched' || old.other?.incarnation !== this.self.incarnation) throw this.#error('HANDOVER_LOST', 'ESTALE', disk, 'was handed over and has been used since: what used it here must not go on', old);
      return this.#own(old, now);
    });
  }

  /** Do something to a disk that no host may have in use meanwhile: remove it, shorten it. Throws DISK_IN_USE. */
  async guard<T>(disk: LeasedDisk, work: () => Promise<T>): Promise<T> {
    const { flocks } = this;
    if (flocks === undefined) return work();
    return this.#turn(disk.ino, () => this.#guarded(flocks, disk, work));
  }

  async #guarded<T>(flocks: Flocks, disk: LeasedDisk, work: () => Promise<T>): Promise<T> {
    try {
      if (!(await flocks.lock(disk.ino, GUARD_OWNER, EX))) throw await this.#refusal(disk);
      const lease = await readLease(this.ctx, disk.ino);
      if (lease?.state === 'switched' && this.self.lives(lease.holder.node)) throw this.#inUse(disk, lease);
      return await work();
    } finally {
      await flocks.close(disk.ino, GUARD_OWNER);
    }
  }

  /** Lock, record, durable: whoever is refused or fails leaves nothing. */
  async #begin(disk: LeasedDisk, next: (old: DiskLease | undefined, now: number) => DiskLease): Promise<number> {
    const { ino } = disk;
    this.#needXattr(disk);
    // Its owner of flocks waits.
    if (this.#awaited.has(ino)) throw await this.#refusal(disk);
    return this.#turn(ino, async () => {
      const held = this.#held.get(ino);
      if (held !== undefined) {
        held.users++;
        return held.epoch;
      }
      try {
        await this.#lock(disk);
        const { epoch } = await this.#changeDurably(ino, next);
        this.#held.set(ino, { epoch, users: 1 });
        return epoch;
      } catch (error) {
        await this.#drop(ino);
        throw error;
      }
    });
  }

  /** The flock, and the record made our own; or nothing of it. */
  async #await(disk: LeasedDisk, signal: AbortSignal): Promise<number> {
    const { ino } = disk;
    const { incarnation } = this.self;
    try {
      await this.flocks?.lock(ino, LEASE_OWNER, EX, { wait: true, signal });
      const lease = await this.#changeDurably(ino, (old) => {
        if (old?.state === 'switched' && old.holder.incarnation === incarnation) return { ...old, state: 'held', other: undefined };
        return this.#refuseOffer(old);
      });
      if (lease?.holder.incarnation !== incarnation) throw this.#error('HANDOVER_LOST', 'ESTALE', disk, `was not handed over: ${lease?.host ?? 'its host'} has gone, or has ended it. This guest must not go on here`, lease);
      this.#held.set(ino, { epoch: lease.epoch, users: 1 });
      return lease.epoch;
    } catch (error) {
      await this.#drop(ino);
      if (signal.aborted) await this.#change(ino, (old) => this.#refuseOffer(old));
      throw error;
    }
  }

  /** An offer to this process is as if it had not been made: whoever made it goes on, or resumes. */
  #refuseOffer(old: DiskLease | undefined): DiskLease | undefined {
    return old?.state === 'incoming' && old.other?.incarnation === this.self.incarnation ? { ...old, state: 'held', other: undefined } : undefined;
  }

  /** A holder that is dead has it until the cluster knows: then it is asked for once more, as the first answer may have waited for that. */
  async #lock(disk: LeasedDisk): Promise<void> {
    if (this.flocks === undefined || (await this.flocks.lock(disk.ino, LEASE_OWNER, EX))) return;
    const refusal = await this.#refusal(disk);
    if (!(await this.flocks.lock(disk.ino, LEASE_OWNER, EX))) throw refusal;
  }

  async #drop(ino: number): Promise<void> {
    await this.flocks?.close(ino, LEASE_OWNER);
  }

  #change(ino: number, next: (old: DiskLease | undefined, now: number) => DiskLease | undefined): Promise<DiskLease | undefined> {
    const { ctx } = this;
    return ctx.engine.run('lease', (op) => {
      const inode = liveInode(op, ctx, ino, EX);
      const lease = next(leaseOf(op, ctx, inode), op.now.sec);
      if (lease !== undefined) setXattr(op, ctx, ino, LEASE_XATTR, encodeLease({ blkno: ino, generation: inode.di.generation }, lease));
      return lease;
    });
  }

  async #changeDurably<T extends DiskLease | undefined>(ino: number, next: (old: DiskLease | undefined, now: number) => T): Promise<T> {
    const lease = await this.#change(ino, next);
    await this.ctx.engine.log.commit();
    return lease as T;
  }

  async #changeMine(disk: LeasedDisk, next: (mine: DiskLease) => DiskLease): Promise<void> {
    await this.#turn(disk.ino, async () => {
      const { epoch } = this.#needHeld(disk);
      await this.#changeDurably(disk.ino, (old) => next(this.#needMine(disk, old, epoch)));
    });
  }

  #needHeld(disk: LeasedDisk): { readonly epoch: number; readonly users: number } {
    const held = this.#held.get(disk.ino);
    if (held === undefined) throw this.#error('LEASE_LOST', 'ESTALE', disk, 'is not exported for writing on this host', undefined);
    return held;
  }

  #needMine(disk: LeasedDisk, old: DiskLease | undefined, epoch: number): DiskLease {
    if (!this.#isMine(old, epoch)) throw this.#error('LEASE_LOST', 'ESTALE', disk, 'has another lease than this process took: somebody has changed its attribute trusted.lunfs.lease', old);
    return old;
  }

  /** What this process's lease is, if it is given one. */
  #own(old: DiskLease | undefined, now: number): DiskLease {
    return { state: 'held', epoch: (old?.epoch ?? 0) + 1, holder: this.#me, host: this.self.host, since: now };
  }

  #host(node: number): string {
    return this.self.hostOf(node) ?? `node ${node}`;
  }

  get #me(): Incarnation {
    const { node, incarnation } = this.self;
    return { node, incarnation };
  }

  #isMine(lease: DiskLease | undefined, epoch: number): lease is DiskLease {
    return lease !== undefined && lease.epoch === epoch && lease.holder.incarnation === this.self.incarnation;
  }

  /** Why the flock cannot be had. */
  async #refusal(disk: LeasedDisk): Promise<ClusterError> {
    return this.#inUse(disk, await readLease(this.ctx, disk.ino));
  }

  #inUse(disk: LeasedDisk, lease: DiskLease | undefined): ClusterError {
    if (lease === undefined || lease.state === 'released' || lease.holder.incarnation === this.self.incarnation) {
      return this.#error('DISK_IN_USE', 'EBUSY', disk, 'is locked by flock(2), by a program in a mount of some host of the cluster: end that program', lease);
    }
    const { host, holder, since, epoch } = lease;
    const dead = holder.node !== NO_NODE && !this.self.lives(holder.node);
    const remedy = dead ? `${host} is dead: try again when it has been recovered` : `end the guest there, then "lunfs disk unexport" on ${host}; should ${host} be dying, try again when it has been recovered`;
    return this.#error('DISK_IN_USE', 'EBUSY', disk, `is in use on host ${host} (node ${holder.node}) since ${new Date(since * 1000).toISOString()}: ${remedy}`, lease, { epoch, node: holder.node, host });
  }

  #needXattr({ name }: LeasedDisk): void {
    if (this.ctx.geo.xattr) return;
    const { device } = this.ctx.geo;
    throw new UsageError('LEASE_NEEDS_XATTR', 'EOPNOTSUPP', `${name} cannot be written by a guest on a host of a cluster: its lease is kept in an extended attribute, and the volume lacks the feature "xattr". Enable it on the unmounted volume: tunefs.ocfs2 --fs-features=xattr ${device}`, { device });
  }

  #error(code: string, errno: 'EBUSY' | 'ESTALE' | 'EINVAL', { ino, name }: LeasedDisk, why: string, lease: DiskLease | undefined, fields: Readonly<Record<string, string | number>> = {}): ClusterError {
    return new ClusterError(code, `${name} ${why}`, { device: this.ctx.geo.device, inode: ino, ...(lease && { epoch: lease.epoch }), ...fields }, undefined, errno);
  }

  async #turn<T>(ino: number, work: () => Promise<T>): Promise<T> {
    const mine = (this.#turns.get(ino) ?? Promise.resolve()).then(work);
    const settled = mine.catch(() => undefined);
    this.#turns.set(ino, settled);
    try {
      return await mine;
    } finally {
      if (this.#turns.get(ino) === settled) this.#turns.delete(ino);
    }
  }
}

function leaseOf(op: Op, ctx: FsContext, inode: InodeRef): DiskLease | undefined {
  const found = ctx.geo.xattr ? findXattr(op, ctx, inode, NAME) : undefined;
  return found && decodeLease(ctx.geo.device, { blkno: inode.blkno, generation: inode.di.generation }, readValue(op, ctx, inode, found));
}
