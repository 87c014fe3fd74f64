/**
 * Recovery of dead members (cluster-protocols.md 5.14; Linux 6.1 fs/ocfs2/dlm/dlmrecovery.c). One dead node at a time, the whole domain together:
 * who gets EX on $RECOVERY is recovery master, tells all (BEGIN_RECO), collects from each its own locks on what the dead node owned, becomes the
 * owner of all that, and says so (FINALIZE, in two stages).
 *
 * A recovery master that dies between the messages of stage 1 leaves members that believe in two different owners, the dead node and the dead
 * master. Which of the two is recovered next decides, and all hear that by BEGIN_RECO (`reconcile`).
 */
import { NO_NODE } from '../node-map.js';
import { type Core, isHostDown, statusOf } from './core.js';
import type { Task } from './loop.js';
import { createAtOwner, unlockAtOwner } from './locks-client.js';
import { createOnMaster, revertRequest, unlockOnMaster } from './locks-master.js';
import { getResource, requery } from './mastery.js';
import type { Message } from './messages.js';
import { abortTaking, adoptOwnValue, claimReclaimed, sendResource } from './migration.js';
import { Lock, RES, type Resource } from './resource.js';
import { EAGAIN, EINVAL, EMPTY_LVB, ENOMEM, EX, FINALIZE_STAGE2, FLAG, MRES, NL, RECOVERY_LOCK, STATUS, TIME, TYPE } from './status.js';

// A member has died.

/** What has to be done at once (dlmrecovery.c:__dlm_hb_node_down). Returns false when it had been done before, or the node is no member. */
export function nodeDown(core: Core, node: number): boolean {
  const { reco } = core;
  if (reco.master === node && reco.finalizing) {
    reco.finalizing = false;
    resetRecovery(core);
  }
  if (core.joiningNode === node) core.joiningNode = NO_NODE;
  core.live.delete(node);
  core.died.add(node);
  const member = core.domain.has(node);
  if (member) {
    if (!core.recovery.has(node)) cleanUp(core, node);
    core.domain.delete(node);
    core.exiting.delete(node);
    core.recovery.add(node);
    if (reco.nodes.has(node)) reco.nodes.set(node, 'dead');
    core.notifyMles(node, false);
  }
  core.membership.wake();
  core.recoveryKick.wake();
  return member;
}

function resetRecovery(core: Core): void {
  const { reco } = core;
  core.recovery.delete(reco.dead);
  reco.dead = reco.master = reco.sentTo = NO_NODE;
  reco.claims.clear();
  core.membership.wake();
}

function cleanUp(core: Core, dead: number): void {
  cleanMles(core, dead);
  for (const res of [...core.resources.values()]) {
    if (res.taking?.from === dead) abortTaking(core, res);
    if (core.isRecoveryLock(res)) {
      for (const lock of [...res.locks()]) if (lock.node === dead) res.move(lock, undefined);
      res.refmap.delete(dead);
      // It is mastered anew; who waits for it looks it up again.
      if (res.owner === dead) core.unhash(res);
      else core.calcUsage(res);
      continue;
    }
    invalidateValue(core, res, dead);
    if (res.owner === dead) {
      if (res.has(RES.DROPPING_REF)) core.unhash(res);
      else toRecovery(core, res);
    } else if (res.owner === core.local) dropDeadLocks(core, res, dead);
    else res.refmap.delete(dead);
    res.changed.wake();
  }
}

/** Entries that wait for a dead node (dlmmaster.c:dlm_clean_master_list). Tasks that wait follow the members by themselves. */
function cleanMles(core: Core, dead: number): void {
  for (const mle of [...core.mles.values()]) {
    if (mle.kind === 'block' && !mle.inUse) {
      if (mle.maybe.lowest === dead) core.unlinkMle(mle);
      else mle.maybe.delete(dead);
    }
    if (mle.kind === 'migration' && mle.inUse && mle.newMaster === dead) {
      const mine = core.resources.get(mle.name);
      if (mine?.has(RES.MIGRATING)) core.reclaimed.set(mine, dead);
    }
    if (mle.kind !== 'migration' || mle.inUse || (mle.master !== dead && mle.newMaster !== dead)) continue;
    core.unlinkMle(mle);
    const res = core.lookup(mle.name);
    if (res !== undefined) {
      // The old owner is told last: if it lives, it is the owner still. (The kernel calls it unknown.)
      if (mle.newMaster === dead && res.owner === mle.master) core.clear(res, RES.MIGRATING);
      else {
        res.owner = NO_NODE;
        core.clear(res, RES.MIGRATING);
        toRecovery(core, res);
      }
    }
    mle.changed.wake();
  }
}

/** The value block is lost where the dead node may have changed it, or where this node's copy is not a holder's (dlm_revalidate_lvb). */
function invalidateValue(core: Core, res: Resource, dead: number): void {
  const local = res.owner !== core.local;
  for (const lock of [...res.granted, ...res.converting]) {
    if (local ? lock.node === core.local && lock.mode === NL : lock.node === dead && lock.mode === EX) {
      if (!lock.putLvb) lock.lvb = EMPTY_LVB;
      res.lvb = EMPTY_LVB;
    }
  }
}

/** Locks of a dead node on what is owned here. What that frees is granted when recovery is over. */
function dropDeadLocks(core: Core, res: Resource, dead: number): void {
  const gone = [...res.locks()].filter((lock) => lock.node === dead);
  for (const lock of gone) res.move(lock, undefined);
  if (gone.length > 0) core.set(res, RES.RECOVERY_WAITING);
  res.refmap.delete(dead);
  core.markDirty(res);
  core.calcUsage(res);
}

/** What has lost its owner. Requests that were on their way to it are as if never sent, unlocks and cancels as if done. */
function toRecovery(core: Core, res: Resource): void {
  core.set(res, RES.RECOVERING);
  res.claimed = false;
  core.recovering.delete(res);
  core.recovering.add(res);
  for (const lock of [...res.locks()]) {
    const { pending } = lock;
    lock.pending = undefined;
    // The owner may have done what was asked, and held EX itself before it died: what we know, or were about to put, may be outdated.
    if (lock.queue === 'converting' && lock.convertMode < lock.mode) lock.lvb = EMPTY_LVB;
    if (pending === 'unlock') res.move(lock, undefined);
    else if (pending === 'convert' && lock.queue === 'converting') revertRequest(res, lock);
    else if (pending === 'lock' || (pending === 'cancel' && lock.queue !== 'granted')) revertRequest(res, lock);
  }
  core.calcUsage(res);
}

// The recovery task.

export function* recoveryTask(core: Core): Task {
  for (;;) {
    if (core.serving && (yield* recoverOne(core))) continue;
    yield* core.loop.until(core.recoveryKick, hasWork(core), TIME.recoveryPoll);
  }
}

/** Not twice for the same: a member that is served by another has nothing to do. */
function hasWork(core: Core): () => boolean {
  const { reco } = core;
  return () => core.serving && !core.migrateDone && core.recovery.lowest !== undefined && (reco.master === NO_NODE || core.recovery.has(reco.master));
}

/** True: look again. */
function* recoverOne(core: Core): Task<boolean> {
  const { reco } = core;
  if (core.migrateDone) return false;
  if (core.recovery.has(reco.master)) reco.master = NO_NODE;
  if (!core.recovery.has(reco.dead)) reco.dead = core.recovery.lowest ?? NO_NODE;
  if (reco.dead === NO_NODE) return false;
  reco.active = true;
  const mine = reco.master === NO_NODE && (yield* becomeMaster(core));
  if (mine) {
    core.log({ what: 'recovery-begins', dead: reco.dead, master: core.local });
    yield* remaster(core, reco.dead);
    core.log({ what: 'recovery-ends', dead: reco.dead, master: core.local });
    reco.finalizing = false;
    resetRecovery(core);
  }
  reco.active = false;
  core.membership.wake();
  return mine;
}

/** False: somebody else is recovery master, or it is over (dlmrecovery.c:dlm_pick_recovery_master). */
function* becomeMaster(core: Core): Task<boolean> {
  const { reco } = core;
  for (;;) {
    const lock = yield* lockRecovery(core);
    if (lock instanceof Lock) {
      const mine = reco.master === NO_NODE && reco.dead !== NO_NODE;
      if (mine) {
        yield* beginRecovery(core, reco.dead);
        reco.master = core.local;
      }
      yield* unlockRecovery(core, lock);
      return mine;
    }
    if (lock === STATUS.NOTQUEUED) yield* core.loop.until(core.membership, () => reco.master !== NO_NODE || reco.dead === NO_NODE, TIME.recoveryMaster);
    if (reco.master !== NO_NODE || reco.dead === NO_NODE) return false;
  }
}

function* lockRecovery(core: Core): Task<Lock | number> {
  const res = yield* getResource(core, RECOVERY_LOCK);
  const lock = new Lock(res, core.options.nextCookie(), core.local, EX);
  const flags = FLAG.NOQUEUE | FLAG.RECOVERY;
  let status: number;
  for (;;) {
    yield* core.whileBusy(res, RES.IN_PROGRESS | RES.MIGRATING);
    if (!res.hashed) status = STATUS.RECOVERING;
    else if (res.owner === core.local) status = createOnMaster(core, res, lock, flags);
    else status = yield* createAtOwner(core, res, lock, flags, { done: false });
    if (status !== STATUS.FORWARD && status !== STATUS.MIGRATING) break;
    yield* core.loop.sleep(TIME.retryLock);
  }
  if (status === STATUS.NORMAL) res.move(lock, 'granted');
  else if (status !== STATUS.NOTQUEUED) {
    const { owner } = res;
    yield* core.loop.sleep(TIME.retryLock);
    yield* core.loop.until(core.membership, () => !core.domain.has(owner) || owner === core.local, TIME.nodeDeath);
    // Its owner is dead, or does not know it: it is mastered anew.
    if (res.hashed && (status === STATUS.IVLOCKID || !core.domain.has(owner))) core.unhash(res);
  }
  core.dropInflight(res);
  return status === STATUS.NORMAL ? lock : status;
}

function* unlockRecovery(core: Core, lock: Lock): Task {
  const { resource: res } = lock;
  for (;;) {
    yield* core.whileBusy(res, RES.IN_PROGRESS | RES.MIGRATING);
    if (!res.hashed || !core.domain.has(res.owner)) break;
    const status = res.owner === core.local ? unlockOnMaster(core, res, lock, false) : yield* unlockAtOwner(core, res, lock, false);
    if (status !== STATUS.FORWARD && status !== STATUS.MIGRATING && status !== STATUS.RECOVERING) break;
    yield* core.loop.sleep(TIME.resend);
  }
  res.move(lock, undefined);
  core.calcUsage(res);
}

/** All members hear who is dead and who recovers it. One that is not through with the last recovery is asked until it is. */
function* beginRecovery(core: Core, dead: number): Task {
  for (const node of core.others()) {
    while (node !== dead && core.domain.has(node)) {
      const result = yield* core.request(node, TYPE.BEGIN_RECO, { node: core.local, dead });
      const status = statusOf(result);
      // Older kernels answer EAGAIN unnegated.
      if (isHostDown(result) || (status !== undefined && status >= 0 && status !== -EAGAIN)) break;
      yield* core.loop.sleep(TIME.retryLock);
    }
  }
}

/** As recovery master: collect, then finalize (dlmrecovery.c:dlm_remaster_locks). */
function* remaster(core: Core, dead: number): Task {
  const { reco } = core;
  reco.nodes.clear();
  for (const node of core.others()) reco.nodes.set(node, 'requesting');
  yield* claimReclaimed(core, dead);
  for (const node of [...reco.nodes.keys()]) {
    while (reco.nodes.get(node) !== 'dead') {
      const result = yield* core.request(node, TYPE.LOCK_REQUEST, { node: core.local, dead });
      const status = statusOf(result);
      if (status !== undefined && status >= 0) break;
      if (isHostDown(result)) {
        yield* core.loop.until(core.membership, () => !core.domain.has(node), TIME.recoveryMaster);
        reco.nodes.set(node, 'dead');
      } else yield* core.loop.sleep(TIME.retryLock);
    }
    if (reco.nodes.get(node) === 'requesting') reco.nodes.set(node, 'requested');
  }
  yield* core.loop.until(core.membership, () => [...reco.nodes.values()].every((state) => state === 'done' || state === 'dead'));
  yield* takeUnknown(core);
  reco.finalizing = true;
  yield* finalize(core, dead);
  finishRecovery(core, dead, core.local);
  reco.nodes.clear();
}

/** What this node itself has without knowing the owner: nobody else does either, or it is taken by who owns it. */
function* takeUnknown(core: Core): Task {
  for (const res of [...core.recovering]) {
    if (res.owner !== NO_NODE) continue;
    let owner = NO_NODE;
    for (const node of core.others()) {
      owner = yield* requery(core, res.name, node);
      if (core.domain.has(owner)) break;
    }
    if (res.owner !== NO_NODE || !res.has(RES.RECOVERING)) continue;
    if (core.domain.has(owner) && owner !== core.local) settleOwner(core, res, owner);
    else {
      adoptOwnValue(core, res);
      res.owner = core.local;
    }
  }
}

function settleOwner(core: Core, res: Resource, owner: number): void {
  core.recovering.delete(res);
  res.owner = owner;
  core.clear(res, RES.RECOVERING);
  core.markDirty(res);
  core.calcUsage(res);
}

/** Stage 1 to all, then stage 2 to those that have taken stage 1: anything else makes a kernel panic. */
function* finalize(core: Core, dead: number): Task {
  let members = core.others();
  for (const flags of [0, FINALIZE_STAGE2]) {
    const taken: number[] = [];
    for (const node of members) {
      if (!core.domain.has(node)) continue;
      if (statusOf(yield* core.request(node, TYPE.FINALIZE_RECO, { node: core.local, dead, flags })) === 0) taken.push(node);
    }
    members = taken;
  }
}

/** What the dead node owned is the recovery master's (dlmrecovery.c:dlm_finish_local_lockres_recovery). */
function finishRecovery(core: Core, dead: number, master: number): void {
  const resources = new Set<Resource>();
  for (const res of [...core.resources.values()]) {
    if (res.has(RES.RECOVERY_WAITING)) core.clear(res, RES.RECOVERY_WAITING);
    if (res.has(RES.RECOVERING) && (res.owner === dead || res.owner === core.local)) {
      resources.add(res);
      if (master === core.local && res.owner === dead) adoptOwnValue(core, res);
      if (master !== core.local) for (const node of [...res.refmap]) res.refmap.delete(node);
      settleOwner(core, res, master);
    } else if (res.has(RES.RECOVERING) && res.owner === NO_NODE) core.loop.spawn(findOwner(core, res));
    core.calcUsage(res);
  }
  core.reco.finished = { dead, master, resources };
}

/** Recovery is over, and nobody has told who owns it: ask until somebody knows. */
function* findOwner(core: Core, res: Resource): Task {
  while (res.hashed && res.has(RES.RECOVERING) && res.owner === NO_NODE) {
    for (const node of core.others()) {
      const owner = yield* requery(core, res.name, node);
      if (!res.has(RES.RECOVERING) || res.owner !== NO_NODE) return;
      if (core.domain.has(owner) && owner !== core.local) return settleOwner(core, res, owner);
    }
    if (!res.hasLocks) return core.unhash(res);
    yield* core.loop.sleep(TIME.requery);
  }
}

// A member's part.

/** Also while this node joins: some take it for a member already, and count on it. */
export function handleBeginReco(core: Core, from: number, { dead }: Message<typeof TYPE.BEGIN_RECO>): number {
  const { reco } = core;
  if (dead === core.local) return 0;
  if (reco.finalizing) return EAGAIN;
  core.options.evicted(dead);
  reconcile(core, dead);
  reco.master = from;
  reco.dead = dead;
  reco.sentTo = NO_NODE;
  core.log({ what: 'recovery-begins', dead, master: from });
  if (!core.recovery.has(dead)) {
    core.domain.add(dead);
    core.live.add(dead);
    nodeDown(core, dead);
    reco.master = from;
    reco.dead = dead;
  }
  core.membership.wake();
  core.recoveryKick.wake();
  return 0;
}

/**
 * The last recovery master R of a dead node d has died too, in the middle of telling its stage 1.
 *  - d is recovered again: who had heard stage 1 takes d for the owner again of what it gave to R.
 *  - R is recovered, by who has not d to recover any more: stage 1 was reached. Who had not heard it takes R for the owner of what was d's.
 *    (If R had not reached it, the new master, like everybody from whom R had all locks, would still have d to recover.)
 */
function reconcile(core: Core, dead: number): void {
  const { reco } = core;
  const { finished } = reco;
  if (finished?.dead === dead && core.recovery.has(finished.master) && !core.recovery.has(dead)) {
    for (const res of finished.resources) if (res.hashed && res.owner === finished.master && res.has(RES.RECOVERING)) res.owner = dead;
    reco.finished = undefined;
  } else if (reco.dead !== NO_NODE && reco.dead !== dead && reco.sentTo === dead && core.recovery.has(reco.dead)) {
    for (const res of core.recovering) if (res.owner === reco.dead) res.owner = dead;
    core.recovery.delete(reco.dead);
  }
}

/** Answers LOCK_REQUEST; the locks follow. -ENOMEM means "not yet", and is asked again. */
export function handleLockRequest(core: Core, from: number, { dead }: Message<typeof TYPE.LOCK_REQUEST>): number {
  if (core.reco.dead !== dead || core.reco.master !== from) return ENOMEM;
  core.loop.spawn(sendLocks(core, dead, from));
  return 0;
}

/** This node's own locks on what the dead node owned, or nobody knows who owns. */
function* sendLocks(core: Core, dead: number, master: number): Task {
  const { reco } = core;
  const valid = () => reco.dead === dead && reco.master === master && core.domain.has(master);
  yield* claimReclaimed(core, dead);
  for (const res of [...core.recovering]) {
    if (!valid()) return;
    if (!res.has(RES.RECOVERING) || (res.owner !== dead && res.owner !== NO_NODE)) continue;
    yield* sendResource(core, res, master, MRES.RECOVERY);
  }
  if (!valid()) return;
  const status = statusOf(yield* core.request(master, TYPE.RECO_DATA_DONE, { node: core.local, dead }));
  if (status !== undefined && reco.dead === dead) reco.sentTo = master;
}

export function handleDataDone(core: Core, from: number, { dead }: Message<typeof TYPE.RECO_DATA_DONE>): number {
  const { reco } = core;
  const state = reco.nodes.get(from);
  if (dead !== reco.dead || reco.master !== core.local || state === undefined) return EINVAL;
  // Who has left meanwhile does not count any more.
  if (state !== 'dead') reco.nodes.set(from, 'done');
  core.membership.wake();
  return 0;
}

export function handleFinalize(core: Core, from: number, { dead, flags }: Message<typeof TYPE.FINALIZE_RECO>): number {
  const { reco } = core;
  const last = (flags & FINALIZE_STAGE2) !== 0;
  if (reco.master !== from || reco.dead !== dead || reco.finalizing !== last) {
    core.log({ what: 'protocol', node: from, message: `finalizes the recovery of node ${dead} out of turn` });
    return EINVAL;
  }
  reco.finalizing = !last;
  if (last) {
    resetRecovery(core);
    core.log({ what: 'recovery-ends', dead, master: from });
    core.recoveryKick.wake();
  } else finishRecovery(core, dead, from);
  return 0;
}
