/**
 * The owner's side of locks: the three queues, who is granted what, and the ASTs and BASTs that say so (cluster-protocols.md 5.8 to 5.11;
 * Linux 6.1 fs/ocfs2/dlm/{dlmlock,dlmconvert,dlmunlock,dlmast,dlmthread}.c).
 *
 * What a request changes is looked at when the event is over (`schedule`): queues of dirty resources first, then all ASTs in the order in
 * which they arose, then all BASTs. Unlike the kernel's thread, which sends one at a time for the whole domain, each is sent at once: to
 * one node they arrive in this order anyway, and a node that does not answer delays nobody else. A resource does not migrate before the
 * statuses of all of its own are in (`reserved`).
 */
import type { Core } from './core.js';
import type { Message } from './messages.js';
import { Lock, RES, type Resource } from './resource.js';
import { AST, BAST, EX, FLAG, IV, type Level, NL, STATUS, TYPE, compatible } from './status.js';

/** What requests are answered while the resource cannot be used (dlmcommon.h:__dlm_lockres_state_to_status). */
export function stateToStatus(res: Resource): number {
  if (res.has(RES.RECOVERING | RES.RECOVERY_WAITING)) return STATUS.RECOVERING;
  if (res.has(RES.MIGRATING)) return STATUS.MIGRATING;
  return res.has(RES.IN_PROGRESS) ? STATUS.FORWARD : STATUS.NORMAL;
}

/** Nobody but `self` has or waits for a conversion to what conflicts with `mode`. */
function grantable(res: Resource, mode: number, self: Lock): boolean {
  return res.granted.every((lock) => lock === self || compatible(lock.mode, mode)) &&
    res.converting.every((lock) => compatible(lock.mode, mode) && compatible(lock.convertMode, mode));
}

/** A new lock: granted at once, queued or, with NOQUEUE, refused (dlmlock.c:dlmlock_master). */
export function createOnMaster(core: Core, res: Resource, lock: Lock, flags: number): number {
  if (grantable(res, lock.mode, lock)) {
    res.move(lock, 'granted');
    if (!core.isRecoveryLock(res)) queueAst(core, lock);
  } else if ((flags & FLAG.NOQUEUE) !== 0) {
    core.calcUsage(res);
    return STATUS.NOTQUEUED;
  } else res.move(lock, 'blocked');
  core.calcUsage(res);
  core.markDirty(res);
  return STATUS.NORMAL;
}

/** Convert a granted lock (dlmconvert.c:__dlmconvert_master). Its value block is in the lock already when it is put. */
export function convertOnMaster(core: Core, res: Resource, lock: Lock, flags: number, mode: number): number {
  if (lock.convertMode !== IV || lock.queue !== 'granted') return STATUS.DENIED;
  const value = (flags & FLAG.VALBLK) !== 0;
  if (mode > lock.mode && !grantable(res, mode, lock)) {
    if ((flags & FLAG.NOQUEUE) !== 0) return STATUS.NOTQUEUED;
    if (value) lock.getLvb = true;
    lock.convertMode = mode;
    res.move(lock, 'converting');
  } else {
    if (value && lock.mode === EX) lock.putLvb = true;
    else if (value && mode > NL) lock.getLvb = true;
    if (lock.putLvb) res.lvb = lock.lvb;
    lock.mode = mode;
    res.move(lock, 'granted');
    queueAst(core, lock);
  }
  core.markDirty(res);
  return STATUS.NORMAL;
}

/** Drop a granted lock; `value`: its value block becomes the resource's (dlmunlock.c:dlm_get_unlock_actions). */
export function unlockOnMaster(core: Core, res: Resource, lock: Lock, value: boolean): number {
  if (lock.queue !== 'granted') return STATUS.DENIED;
  if (value && lock.mode === EX) res.lvb = lock.lvb;
  res.move(lock, undefined);
  lock.getLvb = lock.putLvb = false;
  core.calcUsage(res);
  core.markDirty(res);
  return STATUS.NORMAL;
}

/** Take back what waits (dlmunlock.c:dlm_get_cancel_actions). */
export function cancelOnMaster(core: Core, res: Resource, lock: Lock): number {
  if (lock.queue === 'granted') return STATUS.CANCELGRANT;
  revertRequest(res, lock);
  core.calcUsage(res);
  core.markDirty(res);
  return STATUS.NORMAL;
}

/** A waiting lock is as if it had never been asked for; a converting one is granted as it was. */
export function revertRequest(res: Resource, lock: Lock): void {
  res.move(lock, lock.queue === 'blocked' ? undefined : 'granted');
  lock.convertMode = IV;
  lock.getLvb = lock.putLvb = false;
}

// Requests of other nodes.

export function handleCreate(core: Core, from: number, message: Message<typeof TYPE.CREATE_LOCK>): number {
  // The kernel answers REJECTED here, at which the requester panics.
  if (!core.serving) return STATUS.FORWARD;
  const res = core.lookup(message.name);
  if (res === undefined) return STATUS.IVLOCKID;
  const busy = stateToStatus(res);
  if (busy !== STATUS.NORMAL) return busy;
  if (res.owner !== core.local) return STATUS.FORWARD;
  if (!isMode(message.mode)) return STATUS.BADARGS;
  const lock = new Lock(res, message.cookie, from, message.mode);
  lock.getLvb = (message.flags & FLAG.GET_LVB) !== 0;
  res.refmap.add(from);
  return createOnMaster(core, res, lock, message.flags);
}

export function handleConvert(core: Core, from: number, message: Message<typeof TYPE.CONVERT_LOCK>): number {
  const { flags } = message;
  if (!core.serving) return STATUS.FORWARD;
  if ((flags & FLAG.PUT_LVB) !== 0 && (flags & FLAG.GET_LVB) !== 0) return STATUS.BADARGS;
  const res = core.lookup(message.name);
  if (res === undefined) return STATUS.IVLOCKID;
  const busy = stateToStatus(res);
  if (busy !== STATUS.NORMAL) return busy;
  if (res.owner !== core.local) return STATUS.FORWARD;
  const lock = res.granted.find((entry) => entry.cookie === message.cookie && entry.node === from);
  if (lock === undefined) return STATUS.IVLOCKID;
  if (!isMode(message.mode)) return STATUS.BADARGS;
  if (message.lvb !== undefined) {
    lock.putLvb = true;
    lock.lvb = message.lvb;
  } else if ((flags & FLAG.GET_LVB) !== 0) lock.getLvb = true;
  const status = convertOnMaster(core, res, lock, flags, message.mode);
  if (status !== STATUS.NORMAL) lock.getLvb = lock.putLvb = false;
  return status;
}

export function handleUnlock(core: Core, from: number, message: Message<typeof TYPE.UNLOCK_LOCK>): number {
  const { flags } = message;
  const cancel = (flags & FLAG.CANCEL) !== 0;
  if ((flags & FLAG.GET_LVB) !== 0 || (cancel && (flags & FLAG.PUT_LVB) !== 0)) return STATUS.BADARGS;
  const res = core.serving ? core.lookup(message.name) : undefined;
  if (res === undefined) return STATUS.FORWARD;
  if (res.has(RES.RECOVERING)) return STATUS.RECOVERING;
  if (res.has(RES.MIGRATING)) return STATUS.MIGRATING;
  if (res.owner !== core.local) return STATUS.FORWARD;
  const lock = res.find(message.cookie, from);
  if (lock === undefined) return STATUS.IVLOCKID;
  if (res.has(RES.IN_PROGRESS)) return STATUS.FORWARD;
  if (cancel) return cancelOnMaster(core, res, lock);
  // A value counts only from who holds EX in our own record.
  if (message.lvb !== undefined && lock.mode === EX) lock.lvb = message.lvb;
  return unlockOnMaster(core, res, lock, message.lvb !== undefined);
}

const isMode = (mode: number): mode is Level => mode === NL || mode === 3 || mode === EX;

// Scheduling.

/** The lock's owner is to be told that it is granted. A BAST that this makes pointless is dropped (dlmast.c:dlm_should_cancel_bast). */
function queueAst(core: Core, lock: Lock): void {
  if (lock.bastQueued && (lock.mode === NL || (lock.mode !== EX && lock.highestBlocked !== EX))) {
    core.basts.splice(core.basts.indexOf(lock), 1);
    lock.bastQueued = false;
    lock.highestBlocked = IV;
    core.release(lock.resource);
  }
  core.reserve(lock.resource);
  lock.astQueued = true;
  core.asts.push(lock);
}

/** Who holds what conflicts with `mode` gets a BAST. True: nobody does. */
function tellThoseInTheWay(core: Core, res: Resource, mode: number, self: Lock): boolean {
  let free = true;
  for (const lock of [...res.granted, ...res.converting]) {
    if (lock === self || compatible(lock.mode, mode)) continue;
    free = false;
    if (!lock.bastQueued) {
      lock.bastQueued = true;
      core.reserve(res);
      core.basts.push(lock);
    }
    lock.highestBlocked = Math.max(lock.highestBlocked, mode);
  }
  return free;
}

/** Grant from the heads of the queues what can be granted (dlmthread.c:dlm_shuffle_lists). New locks wait for all conversions. */
function shuffle(core: Core, res: Resource): void {
  for (;;) {
    const convert = res.converting.at(0);
    let free = true;
    if (convert !== undefined) {
      free = tellThoseInTheWay(core, res, convert.convertMode, convert);
      if (free) {
        convert.mode = convert.convertMode;
        convert.convertMode = IV;
        res.move(convert, 'granted');
        queueAst(core, convert);
        continue;
      }
    }
    const fresh = res.blocked.at(0);
    if (fresh === undefined || !tellThoseInTheWay(core, res, fresh.mode, fresh) || !free) return;
    res.move(fresh, 'granted');
    queueAst(core, fresh);
  }
}

/** What is left to do after an event. */
export function schedule(core: Core): void {
  for (const res of core.dirty) {
    core.dirty.delete(res);
    // It comes back when the state is cleared.
    if (res.has(RES.IN_PROGRESS | RES.RECOVERING | RES.RECOVERY_WAITING | RES.MIGRATING)) continue;
    res.dirty = false;
    if (res.owner !== core.local) continue;
    shuffle(core, res);
    core.calcUsage(res);
    res.changed.wake();
  }
  for (let lock = core.asts.shift(); lock !== undefined; lock = core.asts.shift()) sendAst(core, lock);
  for (let lock = core.basts.shift(); lock !== undefined; lock = core.basts.shift()) sendBast(core, lock);
}

function sendAst(core: Core, lock: Lock): void {
  const { resource: res } = lock;
  lock.astQueued = false;
  const withLvb = lock.getLvb;
  if (withLvb) lock.lvb = res.lvb;
  lock.getLvb = lock.putLvb = false;
  if (lock.queue === undefined) core.release(res); // died meanwhile
  else if (lock.node === core.local) {
    core.release(res);
    lock.client?.ast();
  } else {
    const message = { cookie: lock.cookie, flags: withLvb ? FLAG.GET_LVB : 0, node: core.local, type: AST, blocked: 0, name: res.name, ...(withLvb && { lvb: lock.lvb as Uint8Array }) };
    core.send(lock.node, TYPE.PROXY_AST, message, () => core.release(res));
  }
}

function sendBast(core: Core, lock: Lock): void {
  const { resource: res, highestBlocked } = lock;
  lock.bastQueued = false;
  lock.highestBlocked = IV;
  if (lock.queue === undefined) core.release(res);
  else if (lock.node === core.local) {
    core.release(res);
    lock.client?.bast(highestBlocked as Level);
  } else core.send(lock.node, TYPE.PROXY_AST, { cookie: lock.cookie, flags: 0, node: core.local, type: BAST, blocked: highestBlocked, name: res.name }, () => core.release(res));
}
