/**
 * The lock cache: the cluster locks of this node, who holds them here, and how they go when another node asks
 * (cluster-protocols.md 7.3; Linux 6.1 fs/ocfs2/dlmglue.c).
 *
 * Invariants:
 *  - A lock stays cached at its level until another node's BAST or the cache's limit. Holders of one node never conflict
 *    with each other; operations are serial anyway (txn/op.ts).
 *  - Nobody starves. Once a BAST has come, new holders wait until the lock has gone down (theirs would keep it here for
 *    ever). But holders that waited for a grant get it first, even if a BAST came with the grant: so whoever has got all
 *    the locks it asked for runs once before any of them goes. Requests are queued in order at the Dlm.
 *  - Who gives a lock up for good does not wait for somebody here who has it or gets it meanwhile: he may keep it for ever.
 *  - A lock goes down only with no holder in the way: none at all before NL, none at EX before PR; and on its way down it lets
 *    nobody in, whoever waits (the gate may open meanwhile): he would run under a lock that another node has by then. In this
 *    order: `onDowngrade` (mappings and kernel caches recalled, what they held folded into the inode); `settle` if it was EX
 *    (journal committed, images in place, log tail past them, all flushed); LVB filled; cached blocks dropped if it goes to
 *    NL; and only then the convert.
 *  - If that fails, the lock is kept and nobody here uses it any more: to give it up with our changes only in our log would
 *    let a later replay overwrite the next holder's blocks. Its owner is told (`onStuck`) and has to leave the cluster.
 *  - While a member's death is not dealt with (`gated`), what is granted is not used here: blocks in place may be older than the
 *    dead node's log (cluster-protocols.md 7.4; dlmglue.c:ocfs2_wait_for_recovery). What was granted before may be: the dead
 *    node held nothing in the way of it.
 *  - A convert from PR to EX that meets another one is taken back when the BAST comes; the lock then goes to NL and queues
 *    again from there, so two upgraders don't wait for each other.
 */
import { ClusterError, InternalError } from '@lunfs/device';
import type { LockTable } from '../txn/lock-session.js';
import { type AstResult, type Dlm, type DlmLock, LVB_SIZE, compatible } from './dlm.js';
import { EX, type LockLevel, NL, PR, isPrivate, usesLvb } from './levels.js';
import { LocalDlm } from './local-dlm.js';

export interface LockManagerOptions {
  readonly dlm: Dlm;
  /** Drops the cached blocks a lock protects (BlockCache.dropOwner). */
  readonly dropOwner: (name: string) => void;
  /** Makes what was changed under a lock safe to lose sight of (Log.flushOwner). */
  readonly settle: (name: string) => Promise<void>;
  /**
   * Recalls what else lives by this lock before it goes from one level to another. Operations that it runs take their
   * locks from `locks`, where the lock itself is held; others they wait for must rank after it.
   */
  readonly onDowngrade?: (name: string, from: LockLevel, to: LockLevel, locks: LockTable) => Promise<void>;
  /** A lock was granted at a higher level than before; `lvb` is 64 bytes, all zero if there is no valid value. Called before any holder runs. */
  readonly onGranted?: (name: string, level: LockLevel, lvb: Uint8Array, from: LockLevel) => void;
  /** The value for other nodes when EX is given up; undefined: none is valid, they read the disk. */
  readonly lvb?: (name: string) => Uint8Array | undefined;
  /** May the lock, granted now, not be used yet? `gateOpened` tells when that may have changed. */
  readonly gated?: (name: string) => boolean;
  /** A lock cannot be given up or used any more. */
  readonly onStuck?: (name: string, error: Error) => void;
  /** Locks kept at most; idle ones beyond it are given up. Default 65536. */
  readonly capacity?: number;
}

interface Waiter {
  readonly level: LockLevel;
  readonly trylock: boolean;
  resolve(got: boolean): void;
  reject(error: Error): void;
}

/** One cached lock. */
class CachedLock {
  /** Granted level. */
  level: LockLevel = NL;
  handle: DlmLock | undefined;
  holders = { [PR]: 0, [EX]: 0 };
  /** Highest level other nodes wait for; NL: none. */
  wanted: LockLevel = NL;
  /** Under way at the Dlm. */
  request: { readonly level: LockLevel; readonly trylock: boolean; cancelled: boolean } | undefined;
  /** On its way down: hooks and journal are running. */
  goingDown = false;
  /** The Dlm knows it: granted once, and not unlocked since. */
  attached = false;
  /** Give it up altogether once nobody uses it or waits for it. */
  retire = false;
  /** Kept, whoever wants it (LockTable.pin). */
  pinned = false;
  /** Granted while the gate was closed to it: not to be used before it opens. */
  gated = false;
  failed: Error | undefined;
  waiters: Waiter[] = [];
  /** Events that came from within a call of the Dlm, to be handled after it. */
  inCall = false;
  readonly deferred: (() => void)[] = [];
  /** Held since the eviction hand last passed. */
  referenced = true;
  readonly gone: (() => void)[] = [];

  constructor(readonly name: string) {}

  get held(): boolean {
    return this.holders[PR] + this.holders[EX] > 0;
  }
}

function tellGone(lock: CachedLock): void {
  for (const fn of lock.gone.splice(0)) fn();
}

const NO_LVB = new Uint8Array(LVB_SIZE);
const PRIVATE = new LocalDlm();

export class LockManager implements LockTable {
  readonly #locks = new Map<string, CachedLock>();
  readonly #capacity: number;

  constructor(private readonly options: LockManagerOptions) {
    this.#capacity = options.capacity ?? 65536;
  }

  /** Locks known, at any level. */
  get size(): number {
    return this.#locks.size;
  }

  /** Granted level of a lock; NL if it is unknown. */
  levelOf(name: string): LockLevel {
    return this.#locks.get(name)?.level ?? NL;
  }

  tryHold(name: string, level: LockLevel): boolean {
    const lock = this.#locks.get(name);
    if (lock === undefined || level > lock.level) return this.#dlm(name).immediate === true && this.#takeAtOnce(lock ?? new CachedLock(name), level);
    if (lock.goingDown || lock.gated || lock.failed !== undefined) return false;
    if (lock.request !== undefined && lock.request.level < level) return false; // given up already, the Dlm has still to say so
    // A reader may still join while the lock is only to go down to PR.
    if (lock.wanted !== NL && !(level === PR && lock.wanted === PR)) return false;
    this.#addHolder(lock, level);
    return true;
  }

  async hold(name: string, level: LockLevel): Promise<void> {
    if (!this.tryHold(name, level)) await this.#wait(name, level, false);
  }

  /** Hold the lock if no other node is in the way (the kernel's NOQUEUE); false if one is. */
  async tryLock(name: string, level: LockLevel): Promise<boolean> {
    return this.tryHold(name, level) || this.#wait(name, level, true);
  }

  share(name: string, level: LockLevel): void {
    const lock = this.#locks.get(name);
    if (lock === undefined || lock.holders[EX] + (level === PR ? lock.holders[PR] : 0) === 0) throw new InternalError('LOCK_NOT_HELD', `lock ${name} is shared at level ${level} but not held at it`);
    this.#addHolder(lock, level);
  }

  drop(name: string, level: LockLevel): void {
    const lock = this.#locks.get(name);
    if (lock === undefined || level === NL || lock.holders[level] === 0) throw new InternalError('LOCK_NOT_HELD', `lock ${name} is dropped at level ${level} but not held at it`);
    lock.holders[level]--;
    if (lock.wanted !== NL || lock.retire) this.#advance(lock);
    else if (this.#locks.size > this.#capacity) this.#evict();
  }

  pin(name: string): void {
    const lock = this.#locks.get(name);
    if (lock === undefined || !lock.held) throw new InternalError('LOCK_NOT_HELD', `lock ${name} is pinned but not held`);
    lock.pinned = true;
    lock.wanted = NL;
  }

  giveUp(name: string): void {
    void this.surrender(name);
  }

  surrender(name: string): Promise<void> {
    const lock = this.#locks.get(name);
    if (lock === undefined || lock.failed !== undefined) return Promise.resolve();
    lock.retire = true;
    lock.pinned = false;
    // Somebody here has it, and may keep it for as long as he likes: who gave it up does not wait for him.
    if (lock.held) return Promise.resolve();
    return new Promise((resolve) => {
      lock.gone.push(resolve);
      this.#advance(lock);
    });
  }

  /** The gate may let more locks through than before. */
  gateOpened(): void {
    for (const lock of [...this.#locks.values()]) {
      if (!lock.gated || this.options.gated?.(lock.name) === true) continue;
      lock.gated = false;
      this.#serve(lock);
      this.#advance(lock);
    }
  }

  /** Give every lock up. Operations must have ended. `held`: also what is held beyond operations. */
  async close(held = false): Promise<void> {
    const all = [...this.#locks.values()];
    if (held) for (const lock of all) lock.holders = { [PR]: 0, [EX]: 0 };
    const used = all.find((lock) => lock.held || lock.waiters.length > 0);
    if (used !== undefined) throw new InternalError('LOCK_HELD', `lock ${used.name} is in use while the volume is closed`);
    await Promise.all(all.map((lock) => this.surrender(lock.name)));
  }

  #dlm(name: string): Dlm {
    return isPrivate(name) ? PRIVATE : this.options.dlm;
  }

  /** Get a lock from a Dlm that never waits: operations on inodes met for the first time need no second attempt for it. */
  #takeAtOnce(lock: CachedLock, level: LockLevel): boolean {
    if (lock.failed !== undefined || lock.goingDown || lock.retire || lock.request !== undefined) return false;
    this.#locks.set(lock.name, lock);
    this.#request(lock, level, {});
    if (lock.level < level) return false;
    this.#addHolder(lock, level);
    if (this.#locks.size > this.#capacity) this.#evict();
    return true;
  }

  #wait(name: string, level: LockLevel, trylock: boolean): Promise<boolean> {
    const lock = this.#locks.get(name) ?? new CachedLock(name);
    if (lock.failed !== undefined) return Promise.reject(lock.failed);
    return new Promise((resolve, reject) => {
      lock.waiters.push({ level, trylock, resolve, reject });
      this.#locks.set(name, lock);
      this.#advance(lock);
      if (this.#locks.size > this.#capacity) this.#evict();
    });
  }

  #addHolder(lock: CachedLock, level: LockLevel): void {
    if (level === NL) throw new InternalError('LOCK_LEVEL', `lock ${lock.name} is held at NL`);
    lock.holders[level]++;
    lock.referenced = true;
    if (lock.gone.length > 0) tellGone(lock);
  }

  /** The one place that decides what happens next to a lock. Called after every event; each step ends with another event. */
  #advance(lock: CachedLock): void {
    if (lock.failed !== undefined || lock.goingDown || lock.inCall) return;
    const blocks = !compatible(lock.level, lock.wanted);
    if (lock.request !== undefined) {
      if (blocks && lock.request.level > lock.level && !lock.request.cancelled) {
        lock.request.cancelled = true;
        this.#call(lock, () => lock.handle!.cancel());
      }
      return;
    }
    if (blocks || (lock.retire && lock.waiters.length === 0)) {
      if (!lock.held && (lock.retire || lock.wanted === EX)) void this.#goDown(lock, NL);
      else if (blocks && lock.wanted === PR && lock.holders[EX] === 0) void this.#goDown(lock, PR);
      return;
    }
    lock.wanted = NL;
    this.#serve(lock);
    if (lock.waiters.length > 0 && !lock.gated) this.#ask(lock);
  }

  /** Let in who waits for no more than we have and keep. */
  #serve(lock: CachedLock): void {
    if (lock.gated || lock.goingDown || (lock.request !== undefined && lock.request.level < lock.level)) return;
    const served = lock.waiters.filter((w) => w.level <= lock.level);
    if (served.length === 0) return;
    lock.waiters = lock.waiters.filter((w) => w.level > lock.level);
    for (const waiter of served) {
      this.#addHolder(lock, waiter.level);
      waiter.resolve(true);
    }
  }

  /** Ask the Dlm for the highest level anybody waits for. */
  #ask(lock: CachedLock): void {
    const patient = lock.waiters.filter((w) => !w.trylock);
    if (patient.length > 0) {
      // Who would not wait is in the way of somebody here that does.
      for (const waiter of lock.waiters) if (waiter.trylock) waiter.resolve(false);
      lock.waiters = patient;
    }
    const level = Math.max(...lock.waiters.map((w) => w.level)) as LockLevel;
    this.#request(lock, level, { trylock: patient.length === 0 });
  }

  #request(lock: CachedLock, level: LockLevel, request: { trylock?: boolean; lvb?: Uint8Array }): void {
    lock.request = { level, trylock: request.trylock ?? false, cancelled: false };
    this.#call(lock, () => {
      if (lock.handle !== undefined) lock.handle.convert(level, request);
      else {
        lock.handle = this.#dlm(lock.name).lock(lock.name, level, {
          ast: (result, lvb) => this.#event(lock, () => this.#ast(lock, result, lvb)),
          bast: (wanted) => this.#event(lock, () => this.#bast(lock, wanted)),
          failed: (error) => this.#event(lock, () => this.#fail(lock, error)),
        }, request);
      }
    });
  }

  /** Call the Dlm; what it tells us meanwhile is handled after it has returned. */
  #call(lock: CachedLock, call: () => void): void {
    lock.inCall = true;
    try {
      call();
    } finally {
      lock.inCall = false;
    }
    for (const event of lock.deferred.splice(0)) event();
  }

  #event(lock: CachedLock, handle: () => void): void {
    if (lock.inCall) lock.deferred.push(handle);
    else handle();
  }

  #ast(lock: CachedLock, result: AstResult, lvb: Uint8Array): void {
    const { request, level: from } = lock;
    if (request === undefined) throw new InternalError('DLM_AST', `lock ${lock.name}: an AST nobody asked for`);
    lock.request = undefined;
    if (result === 'granted') {
      lock.attached = true;
      lock.level = request.level;
      if (request.level > from) lock.gated = this.options.gated?.(lock.name) === true;
      if (request.level > from) this.options.onGranted?.(lock.name, request.level, lvb, from);
      if (request.level > from) this.#serve(lock);
    } else {
      if (!lock.attached) lock.handle = undefined;
      if (request.trylock) this.#denyTrylocks(lock, request.level);
    }
    this.#advance(lock);
  }

  #denyTrylocks(lock: CachedLock, level: LockLevel): void {
    const denied = lock.waiters.filter((w) => w.trylock && w.level <= level);
    lock.waiters = lock.waiters.filter((w) => !denied.includes(w));
    for (const waiter of denied) waiter.resolve(false);
  }

  #bast(lock: CachedLock, wanted: LockLevel): void {
    if (lock.pinned) return;
    if (compatible(lock.level, wanted)) return; // late: we have gone down already
    if (wanted > lock.wanted) lock.wanted = wanted;
    this.#advance(lock);
  }

  /** Take a lock down. Never rejects. */
  async #goDown(lock: CachedLock, to: LockLevel): Promise<void> {
    const { name, level: from } = lock;
    const { onDowngrade, settle, lvb, dropOwner } = this.options;
    lock.goingDown = true;
    let value: Uint8Array | undefined;
    try {
      if (from !== NL) await onDowngrade?.(name, from, to, this.#inside(lock));
      if (from === EX) {
        await settle(name);
        if (usesLvb(name)) value = lvb?.(name) ?? NO_LVB;
      }
      if (lock.failed !== undefined) return;
      if (to === NL) dropOwner(name);
    } catch (error) {
      this.#fail(lock, error);
      return;
    }
    lock.goingDown = false;
    if (lock.retire && to === NL && lock.waiters.length === 0) {
      lock.handle?.unlock(value);
      this.#locks.delete(name);
      tellGone(lock);
    } else this.#request(lock, to, { lvb: value });
  }

  /** The locks as an operation of `onDowngrade` sees them: this one is held. */
  #inside(lock: CachedLock): LockTable {
    const { name, level: from } = lock;
    return {
      tryHold: (n, level) => (n === name ? level <= from : this.tryHold(n, level)),
      hold: async (n, level) => {
        if (n !== name) await this.hold(n, level);
        else if (level > from) throw new InternalError('LOCK_LEVEL', `lock ${name} goes down from level ${from}, level ${level} is asked for`);
      },
      tryLock: (n, level) => (n === name ? Promise.resolve(level <= from) : this.tryLock(n, level)),
      share: (n, level) => {
        // A reference that outlives the downgrade would have to be held by somebody else.
        if (n === name) throw new InternalError('LOCK_LEVEL', `lock ${name} is shared while it goes down`);
        this.share(n, level);
      },
      drop: (n, level) => {
        if (n !== name) this.drop(n, level);
      },
      giveUp: (n) => this.giveUp(n),
      surrender: (n) => this.surrender(n),
      pin: (n) => this.pin(n),
    };
  }

  #fail(lock: CachedLock, cause: unknown): void {
    if (lock.failed !== undefined) return;
    const why = cause instanceof Error ? cause.message : String(cause);
    const error = new ClusterError('LOCK_STUCK', `cluster lock ${lock.name} cannot be used any more (${why}); unmount the volume on this node`, { lock: lock.name }, cause, 'EIO');
    lock.failed = error;
    for (const waiter of lock.waiters.splice(0)) waiter.reject(error);
    tellGone(lock);
    this.options.onStuck?.(lock.name, error);
  }

  /** Give idle locks up, those not used for longest first; the hand passes few locks per call. */
  #evict(): void {
    let budget = Math.min(32, this.#locks.size);
    for (const lock of this.#locks.values()) {
      if (budget-- === 0 || this.#locks.size <= this.#capacity) return;
      const busy = lock.held || lock.waiters.length > 0 || lock.goingDown || lock.request !== undefined || lock.failed !== undefined;
      if (busy || lock.referenced) {
        lock.referenced = false;
        this.#locks.delete(lock.name);
        this.#locks.set(lock.name, lock);
      } else if (!lock.retire) this.giveUp(lock.name);
    }
  }
}
