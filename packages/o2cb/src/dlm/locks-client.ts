/**
 * Locks of this node: create, convert, cancel and unlock, here or at the owner, retried as owners change (cluster-protocols.md 5.8 to 5.11;
 * Linux 6.1 fs/ocfs2/dlm/{dlmlock,dlmconvert,dlmunlock,dlmast}.c).
 *
 * Of each resource one request at a time is on its way to the owner (IN_PROGRESS). The AST may come before the request's status, and then
 * it is what counts: it completes the request, and whatever the status says is about the past. A request whose owner dies before it is
 * granted is as if it had never been sent, and is sent to the next owner; an unlock or a cancel is done.
 */
import { ClusterError, InternalError } from '@lunfs/device';
import { type Core, isHostDown, statusOf } from './core.js';
import type { Task } from './loop.js';
import { getResource, printable } from './mastery.js';
import type { Message } from './messages.js';
import { cancelOnMaster, convertOnMaster, createOnMaster, revertRequest, unlockOnMaster } from './locks-master.js';
import { BUSY, Lock, type LockClient, RES, type Resource } from './resource.js';
import { AST, BAST, EMPTY_LVB, EX, FLAG, IV, type Level, NL, PR, STATUS, TIME, TYPE } from './status.js';

export type LockResult = 'granted' | 'again' | 'cancelled';

/** What the owner of a lock is told; each may come within a call of the domain. */
export interface LockEvents {
  /** The request under way is complete. `lvb` is all zero when there is no valid value block. It is the callee's to keep. */
  ast(result: LockResult, lvb: Uint8Array): void;
  /** Somebody waits for `level`. Advice: it may be late, or come twice. */
  bast(level: Level): void;
  /** The domain is lost; nothing more follows. */
  failed(error: Error): void;
}

export interface LockOptions {
  /** 'again' instead of waiting. */
  readonly trylock?: boolean;
  /** The resource's value block is wanted with grants of this lock, as the kernel's DLM_LKF_VALBLK. For the whole life of the lock. */
  readonly valueBlock?: boolean;
  /** The caller knows that no other node can know this name: it is owned here without asking. */
  readonly isNew?: boolean;
}

export interface ConvertOptions {
  readonly trylock?: boolean;
  /** The new value block; only from EX. */
  readonly lvb?: Uint8Array;
}

interface Request {
  readonly level: Level;
  done: boolean;
  cancelled: boolean;
}

const retried = new Set<number>([STATUS.RECOVERING, STATUS.MIGRATING, STATUS.FORWARD]);

export class ClientLock implements LockClient {
  readonly cookie: bigint;
  #lock: Lock | undefined;
  #request: Request | undefined;
  #ended = false;

  constructor(private readonly core: Core, readonly name: string, level: Level, private readonly events: LockEvents, private readonly options: LockOptions = {}) {
    this.cookie = core.options.nextCookie();
    this.#request = { level, done: false, cancelled: false };
    core.clients.add(this);
    core.loop.spawn(this.#create(this.#request));
  }

  // What the user asks.

  convert(level: Level, { trylock, lvb }: ConvertOptions = {}): void {
    const lock = this.#idle('convert');
    if (lvb !== undefined && lock.mode !== EX) throw new InternalError('DLM_LVB', `lock ${printable(this.name)}: a value block is put from level ${lock.mode}`);
    if (lvb !== undefined) lock.lvb = lvb.slice();
    const value = lock.mode === EX ? lvb !== undefined : this.options.valueBlock === true && level > NL;
    const request = (this.#request = { level, done: false, cancelled: false });
    this.core.loop.spawn(this.#convert(lock, request, (trylock ? FLAG.NOQUEUE : 0) | (value ? FLAG.VALBLK : 0)));
  }

  cancel(): void {
    const request = this.#request;
    if (request === undefined || request.cancelled || this.#ended) return;
    request.cancelled = true;
    this.core.loop.spawn(this.#cancel(request));
  }

  unlock(lvb?: Uint8Array): void {
    const lock = this.#idle('unlock');
    if (lvb !== undefined && lock.mode === EX) lock.lvb = lvb.slice();
    this.#end();
    this.core.loop.spawn(this.#unlock(lock, lvb !== undefined && lock.mode === EX));
  }

  /** The domain is lost. */
  fail(error: Error): void {
    if (this.#ended) return;
    this.#end();
    this.events.failed(error);
  }

  #end(): void {
    this.#ended = true;
    this.core.clients.delete(this);
  }

  #idle(call: string): Lock {
    if (this.#lock === undefined || this.#request !== undefined || this.#ended) {
      throw new InternalError('DLM_STATE', `lock ${printable(this.name)}: ${call} while ${this.#ended ? 'it is gone' : 'a request is under way'}`);
    }
    return this.#lock;
  }

  // What the resource says.

  ast(): void {
    const lvb = this.#lock?.lvb.slice();
    if (lvb !== undefined) this.#finish(this.#request, 'granted', lvb);
  }

  bast(level: Level): void {
    if (!this.#ended) this.events.bast(level);
  }

  /** Completes a request, once. */
  #finish(request: Request | undefined, result: LockResult, lvb?: Uint8Array): void {
    if (request === undefined || request.done || request !== this.#request || this.#ended) return;
    request.done = true;
    this.#request = undefined;
    if (result !== 'granted' && this.#lock?.queue === undefined) this.#end();
    this.events.ast(result, lvb ?? new Uint8Array(64));
  }

  #fault(status: number, what: string): void {
    this.fail(new ClusterError('DLM_STATUS', `domain ${this.core.name}: ${what} of lock ${printable(this.name)} was answered ${status}`, { status }));
  }

  // The tasks.

  *#create(request: Request): Task {
    const { core, options } = this;
    yield* core.untilRecovered();
    let res = yield* getResource(core, this.name, options.isNew);
    let lock = this.#newLock(res, request.level);
    const value = options.valueBlock === true && request.level >= PR;
    const flags = (options.trylock ? FLAG.NOQUEUE : 0) | (value ? FLAG.VALBLK | FLAG.GET_LVB : 0);
    for (;;) {
      yield* core.whileBusy(res, BUSY);
      if (request.cancelled) {
        this.#finish(request, 'cancelled');
        break;
      }
      lock.getLvb = value;
      const status = res.owner === core.local ? createOnMaster(core, res, lock, flags) : yield* createAtOwner(core, res, lock, flags, request);
      if (status === STATUS.NORMAL || request.done) break;
      if (status === STATUS.NOTQUEUED) {
        this.#finish(request, 'again');
        break;
      }
      if (status === STATUS.IVLOCKID && res.inflight === 1 && !res.hasLocks) {
        // Whom we took for the owner knows nothing of it: find out anew who is.
        core.unhash(res);
        core.dropInflight(res);
        res = yield* getResource(core, this.name);
        lock = this.#newLock(res, request.level);
        continue;
      }
      if (!retried.has(status)) {
        this.#fault(status, 'creation');
        break;
      }
      yield* core.loop.sleep(TIME.retryLock);
      yield* core.untilRecovered();
    }
    core.dropInflight(res);
    core.markDirty(res);
  }

  #newLock(res: Resource, level: Level): Lock {
    const lock = (this.#lock = new Lock(res, this.cookie, this.core.local, level));
    lock.client = this;
    return lock;
  }

  *#convert(lock: Lock, request: Request, flags: number): Task {
    const { core } = this;
    const { resource: res } = lock;
    for (;;) {
      yield* core.untilRecovered();
      yield* core.whileBusy(res, BUSY);
      if (request.cancelled) this.#finish(request, 'cancelled');
      if (request.done || this.#ended) return;
      const status = res.owner === core.local ? convertOnMaster(core, res, lock, flags, request.level) : yield* convertAtOwner(core, res, lock, flags, request);
      if (status === STATUS.NORMAL || request.done) return;
      if (status === STATUS.NOTQUEUED) return this.#finish(request, 'again');
      if (!retried.has(status)) return this.#fault(status, 'conversion');
      yield* core.loop.sleep(TIME.retryLock);
    }
  }

  *#cancel(request: Request): Task {
    const { core } = this;
    for (;;) {
      const lock = this.#lock;
      if (lock === undefined) return; // not asked for anywhere yet: its task sees that it is cancelled
      const { resource: res } = lock;
      yield* core.whileBusy(res, BUSY);
      // Granted, or between two attempts of its task, which sees it.
      if (request.done || lock.queue === undefined || lock.queue === 'granted') return;
      const status = res.owner === core.local ? cancelOnMaster(core, res, lock) : yield* cancelAtOwner(core, res, lock, request);
      if (status === STATUS.NORMAL) {
        this.#finish(request, 'cancelled');
        return core.calcUsage(res);
      }
      if (!retried.has(status)) return; // too late: the AST is on its way
      yield* core.loop.sleep(TIME.resend);
    }
  }

  *#unlock(lock: Lock, value: boolean): Task {
    const { core } = this;
    const { resource: res } = lock;
    for (;;) {
      yield* core.whileBusy(res, BUSY & ~RES.RECOVERY_WAITING);
      const status = res.owner === core.local ? unlockOnMaster(core, res, lock, value) : yield* unlockAtOwner(core, res, lock, value);
      if (!retried.has(status)) break;
      yield* core.loop.sleep(TIME.resend);
    }
    res.move(lock, undefined);
    core.calcUsage(res);
    core.markDirty(res);
  }
}

// Requests to the owner. Each returns the status, RECOVERING when the owner went away.

export function* createAtOwner(core: Core, res: Resource, lock: Lock, flags: number, request: { readonly done: boolean }): Task<number> {
  core.set(res, RES.IN_PROGRESS);
  res.move(lock, 'blocked');
  lock.pending = 'lock';
  const result = yield* core.request(res.owner, TYPE.CREATE_LOCK, { cookie: lock.cookie, flags, node: core.local, mode: lock.mode, name: res.name });
  const status = statusOf(result) ?? STATUS.RECOVERING;
  const granted = request.done;
  if (!granted && (status !== STATUS.NORMAL || lock.pending === undefined)) {
    res.move(lock, undefined);
    lock.getLvb = false;
  }
  const lost = !granted && status === STATUS.NORMAL && lock.pending === undefined;
  lock.pending = undefined;
  core.clear(res, RES.IN_PROGRESS);
  return lost ? STATUS.RECOVERING : status;
}

function* convertAtOwner(core: Core, res: Resource, lock: Lock, flags: number, request: Request): Task<number> {
  const value = (flags & FLAG.VALBLK) !== 0;
  core.set(res, RES.IN_PROGRESS);
  lock.putLvb = value && lock.mode === EX;
  lock.getLvb = value && lock.mode !== EX;
  const wire = flags | FLAG.CONVERT | (lock.putLvb ? FLAG.PUT_LVB : 0) | (lock.getLvb ? FLAG.GET_LVB : 0);
  res.move(lock, 'converting');
  lock.pending = 'convert';
  lock.convertMode = request.level;
  const { owner } = res;
  const message = { cookie: lock.cookie, flags: wire >>> 0, node: core.local, mode: request.level, name: res.name, ...(lock.putLvb && { lvb: lock.lvb as Uint8Array }) };
  const result = yield* core.request(owner, TYPE.CONVERT_LOCK, message);
  let status = statusOf(result) ?? STATUS.RECOVERING;
  // While the death is not noticed here, the lock stays where recovery finds it.
  if (isHostDown(result)) yield* core.loop.until(core.membership, () => !core.domain.has(owner), TIME.nodeDeath);
  if (!request.done) {
    // Nobody knows whether it gave way, nor who has held EX since.
    if (isHostDown(result) && request.level < lock.mode) lock.lvb = EMPTY_LVB;
    if (status === STATUS.NORMAL && lock.pending === undefined) status = STATUS.RECOVERING;
    else if (status !== STATUS.NORMAL && lock.queue === 'converting') revertRequest(res, lock);
  }
  if (lock.pending === 'convert') lock.pending = undefined;
  core.clear(res, RES.IN_PROGRESS);
  return status;
}

function* cancelAtOwner(core: Core, res: Resource, lock: Lock, request: Request): Task<number> {
  const status = yield* sendUnlock(core, res, lock, FLAG.CANCEL, 'cancel');
  if (status === STATUS.NORMAL && !request.done && lock.queue !== undefined && lock.queue !== 'granted') revertRequest(res, lock);
  return request.done ? STATUS.CANCELGRANT : status;
}

export function* unlockAtOwner(core: Core, res: Resource, lock: Lock, value: boolean): Task<number> {
  return yield* sendUnlock(core, res, lock, value ? FLAG.VALBLK | FLAG.PUT_LVB : 0, 'unlock');
}

function* sendUnlock(core: Core, res: Resource, lock: Lock, flags: number, pending: 'cancel' | 'unlock'): Task<number> {
  core.set(res, RES.IN_PROGRESS);
  lock.pending = pending;
  const { owner } = res;
  const message = { cookie: lock.cookie, flags, node: core.local, name: res.name, ...((flags & FLAG.PUT_LVB) !== 0 && { lvb: lock.lvb as Uint8Array }) };
  const result = yield* core.request(owner, TYPE.UNLOCK_LOCK, message);
  // Recovery has done it when it found the owner dead.
  const done = lock.pending === undefined;
  lock.pending = undefined;
  core.clear(res, RES.IN_PROGRESS);
  if ('status' in result) return result.status;
  if (!done) return STATUS.RECOVERING;
  // So it is when the next owner has what we told it; one that was believed lost and claims the resource has to be told.
  yield* core.whileBusy(res, RES.RECOVERING);
  while (res.claimed && res.owner !== core.local && core.domain.has(res.owner)) {
    const status = statusOf(yield* core.request(res.owner, TYPE.UNLOCK_LOCK, message));
    if (status !== undefined && !retried.has(status)) break;
    yield* core.loop.sleep(TIME.resend);
  }
  return STATUS.NORMAL;
}

/**
 * Answers PROXY_AST. Never RECOVERING or MIGRATING, at which the owner panics: a lock that is not found, or whose owner is believed dead
 * here, gives NORMAL and has no effect (dlmast.c:dlm_proxy_ast_handler).
 */
export function handleProxyAst(core: Core, message: Message<typeof TYPE.PROXY_AST>): number {
  const res = core.lookup(message.name);
  if (res === undefined || res.owner === core.local || (message.type !== AST && message.type !== BAST)) return STATUS.IVLOCKID;
  if (res.has(RES.RECOVERING)) return STATUS.NORMAL;
  const among = (queue: readonly Lock[]) => queue.find((lock) => lock.cookie === message.cookie);
  const lock = among(res.converting) ?? among(message.type === AST ? res.blocked : res.granted);
  if (lock === undefined || lock.pending === 'unlock') return STATUS.NORMAL;
  if (message.type === BAST) {
    const { blocked } = message;
    if (blocked === PR || blocked === EX) core.loop.defer(() => lock.client?.bast(blocked));
    return STATUS.NORMAL;
  }
  res.move(lock, 'granted');
  if (lock.convertMode !== IV) lock.mode = lock.convertMode;
  lock.convertMode = IV;
  if (message.lvb !== undefined) lock.lvb = message.lvb;
  lock.getLvb = lock.putLvb = false;
  if (lock.pending !== 'cancel') lock.pending = undefined;
  core.loop.defer(() => lock.client?.ast());
  return STATUS.NORMAL;
}
