/**
 * Who owns a resource: finding the owner of a name or becoming it (cluster-protocols.md 5.7; Linux 6.1 fs/ocfs2/dlm/dlmmaster.c).
 *
 * A name that is new here gets a resource in progress and a master list entry. Of several nodes that try at once, the one with the lowest
 * number wins, for each asks all others and learns who else tries. Who has been asked remembers it (kind `block`) until somebody asserts;
 * hence whoever answers YES, or hears that the asker had asked others (REASSERT), asserts to all members, which clears what the asker left.
 */
import { InternalError } from '@lunfs/device';
import { NO_NODE, NodeMap } from '../node-map.js';
import { type Core, statusOf } from './core.js';
import type { Task } from './loop.js';
import type { Message } from './messages.js';
import { Mle, RES, Resource } from './resource.js';
import { ASSERT_FLAG, ASSERT_REPLY, MASTER_REPLY, RECOVERY_LOCK, TIME, TYPE } from './status.js';

/**
 * The resource of a name, with its owner known; `inflight` is taken. `isNew`: the caller knows that nobody else can have it, so it is owned
 * here without asking (dlmmaster.c:dlm_get_lock_resource).
 */
export function* getResource(core: Core, name: string, isNew = false): Task<Resource> {
  for (;;) {
    const found = core.resources.get(name);
    if (found !== undefined) {
      if (found.owner === NO_NODE) yield* core.loop.until(found.changed, () => found.owner !== NO_NODE || !found.hashed);
      else if (found.has(RES.DROPPING_REF)) yield* core.loop.until(found.changed, () => !found.hashed);
      else {
        found.inflight++;
        core.calcUsage(found);
        return found;
      }
      continue;
    }
    const known = isNew ? undefined : core.mles.get(name);
    if (known?.kind === 'migration') {
      yield* core.loop.until(known.changed, () => core.mles.get(name) !== known, TIME.retryLock);
      continue;
    }
    if (known?.kind === 'master') throw new InternalError('DLM_MLE', `domain ${core.name}: a mastery without its resource`);
    const res = new Resource(name);
    res.inflight++;
    core.insert(res);
    if (isNew) {
      res.owner = core.local;
      return res;
    }
    core.set(res, RES.IN_PROGRESS);
    const mle = known ?? new Mle('master', name, core.domain, core.local);
    if (known === undefined) {
      mle.maybe.add(core.local);
      core.insertMle(mle);
    }
    mle.inUse = true;
    yield* findMaster(core, res, mle);
    core.putMle(mle);
    core.clear(res, RES.IN_PROGRESS);
    if (res.hashed) return res;
  }
}

/** Asks whom there is to ask until the owner is settled. */
function* findMaster(core: Core, res: Resource, mle: Mle): Task {
  for (;;) {
    // A dead node that is not recovered yet may own it; only what is recovered can answer for it. $RECOVERY is what that takes.
    if (mle.kind === 'master' && core.recovery.lowest !== undefined) {
      if (res.name === RECOVERY_LOCK) yield* beforeRecoveryLock(core);
      else {
        core.recoveryKick.wake();
        yield* core.loop.until(core.membership, () => core.recovery.lowest === undefined && !core.reco.active);
      }
    }
    if (mle.kind === 'master') {
      for (const node of [...mle.votes]) {
        yield* ask(core, mle, node);
        // Nodes above an owner were not asked and remember nothing; those below are cleared by its assert, which takes that it is asked.
        if (mle.master !== NO_NODE && mle.master <= node) break;
      }
    }
    if (yield* settle(core, res, mle)) return;
  }
}

/** Wait until the owner is known or it is this node's turn. False: members have changed, ask again. */
function* settle(core: Core, res: Resource, mle: Mle): Task<boolean> {
  for (let waited = false; ; waited = true) {
    // $RECOVERY, whose owner has died.
    if (!res.hashed) return true;
    if (res.owner === core.local) {
      // By recovery or migration. Who was asked still waits for somebody to assert.
      if (mle.kind === 'master') core.loop.spawn(clearEntries(core, res));
      return true;
    }
    if (res.owner !== NO_NODE) {
      // It asserted and knows whom we had asked, or nobody was. Else it must assert once more to clear what they remember.
      if (mle.kind !== 'master' || (waited && mle.master === res.owner)) return true;
      if (yield* ask(core, mle, res.owner)) return true;
      yield* core.loop.sleep(TIME.requery);
      continue;
    }
    if (!mle.votes.equals(mle.nodes)) {
      restart(core, mle);
      return false;
    }
    if (mle.master !== NO_NODE) {
      res.owner = mle.master;
      return true;
    }
    const asked = [...mle.votes].every((node) => mle.responses.has(node));
    if (mle.kind === 'master' && asked && mle.maybe.lowest === core.local) {
      mle.master = core.local;
      yield* assertMaster(core, res, mle.votes, 0);
      res.owner = core.local;
      return true;
    }
    const decided = yield* core.loop.until(mle.changed, () => res.owner !== NO_NODE || mle.master !== NO_NODE || !mle.votes.equals(mle.nodes), TIME.masteryRecheck);
    if (decided) continue;
    // Whom this node waits for may have learned from the owner that it is not its turn, and the owner may have died before it told this node.
    if (mle.kind === 'block') askInstead(core, mle);
    else if (asked) continue;
    return false;
  }
}

/** From one that waits for somebody's assert to one that asks, which is safe at any time: who has decided already answers YES. */
function askInstead(core: Core, mle: Mle): void {
  mle.kind = 'master';
  mle.votes = mle.nodes.copy();
  mle.responses = new NodeMap();
  mle.maybe = new NodeMap([core.local]);
  if (!core.mles.has(mle.name)) core.insertMle(mle);
}

function* clearEntries(core: Core, res: Resource): Task {
  yield* core.whileBusy(res, RES.RECOVERING | RES.MIGRATING);
  if (res.hashed && res.owner === core.local) dispatchAssert(core, res, ASSERT_FLAG.MLE_CLEANUP);
}

/**
 * Members came or went (dlmmaster.c:dlm_restart_lock_mastery). A death makes all answers void, and who was waited for may have told others that
 * it was the owner, who then wait for recovery and never assert: what this node waits for it now tries to master itself.
 */
function restart(core: Core, mle: Mle): void {
  for (const node of mle.nodes) {
    if (mle.votes.has(node)) continue;
    mle.responses.delete(node);
    mle.votes.add(node);
  }
  const gone = [...mle.votes].filter((node) => !mle.nodes.has(node));
  if (gone.length === 0) return;
  if (gone.includes(mle.master)) mle.master = NO_NODE;
  if (mle.kind === 'master' || gone.some((node) => mle.maybe.has(node))) askInstead(core, mle);
  else mle.votes = mle.nodes.copy();
}

/** Asks one node; false if it cannot be reached (dlmmaster.c:dlm_do_master_request). */
function* ask(core: Core, mle: Mle, node: number): Task<boolean> {
  while (core.domain.has(node)) {
    const status = statusOf(yield* core.request(node, TYPE.MASTER_REQUEST, { node: core.local, name: mle.name, flags: 0 }));
    if (status === undefined || !mle.nodes.has(node)) return false;
    if (status === MASTER_REPLY.YES || status === MASTER_REPLY.NO || status === MASTER_REPLY.MAYBE) {
      mle.responses.add(node);
      if (status === MASTER_REPLY.YES) mle.master = node;
      if (status === MASTER_REPLY.MAYBE) mle.maybe.add(node);
      return true;
    }
    yield* core.loop.sleep(TIME.resend); // its resource is being recovered or migrated
  }
  return false;
}

/** Tells nodes that this one is the owner, in ascending order, and notes who has a reference. Dead ones don't matter. */
export function* assertMaster(core: Core, res: Resource, nodes: Iterable<number>, flags: number): Task {
  const targets = [...nodes];
  res.asserting++;
  for (let again = true; again;) {
    again = false;
    for (const to of targets) {
      const reply = statusOf(yield* core.request(to, TYPE.ASSERT_MASTER, { node: core.local, name: res.name, flags })) ?? 0;
      if (reply < 0) core.log({ what: 'protocol', node: to, message: `refuses this node as owner of ${printable(res.name)}` });
      else {
        if ((reply & ASSERT_REPLY.REASSERT) !== 0) again = true;
        if ((reply & ASSERT_REPLY.MASTERY_REF) !== 0 && core.domain.has(to)) res.refmap.add(to);
      }
    }
  }
  res.asserting--;
  res.changed.wake();
}

/** Assert to all members, when the event at hand is over. */
export function dispatchAssert(core: Core, res: Resource, flags: number): void {
  res.assertWorkers++;
  core.loop.spawn(assertWorker(core, res, flags));
}

function* assertWorker(core: Core, res: Resource, flags: number): Task {
  // While it migrates, the new owner asserts. Until the statuses are in, it does not begin to.
  if (!res.has(RES.MIGRATING) && (res.owner === core.local || res.owner === NO_NODE)) {
    core.reserve(res);
    yield* assertMaster(core, res, core.others(), flags);
    core.release(res);
  }
  res.assertWorkers--;
  res.changed.wake();
}

/** Answers MASTER_REQUEST. Only 0 to 3 may be answered: the asker panics at anything else. */
export function handleMasterRequest(core: Core, from: number, { name }: Message<typeof TYPE.MASTER_REQUEST>): number {
  if (!core.serving) return MASTER_REPLY.NO;
  const res = core.lookup(name);
  const mle = core.mles.get(name);
  if (res !== undefined) {
    if (res.has(RES.RECOVERING | RES.MIGRATING) || core.reclaimed.has(res)) return MASTER_REPLY.ERROR;
    if (res.owner === core.local || (res.owner === NO_NODE && mle?.kind === 'master' && mle.master === core.local)) {
      res.refmap.add(from);
      core.calcUsage(res);
      dispatchAssert(core, res, ASSERT_FLAG.MLE_CLEANUP);
      return MASTER_REPLY.YES;
    }
    if (res.owner !== NO_NODE) return MASTER_REPLY.NO;
    // The entry has gone, what its task decides is not written yet: it is about to be.
    if (mle === undefined) return MASTER_REPLY.ERROR;
    if (mle.kind === 'master' && mle.master !== NO_NODE) return MASTER_REPLY.NO;
  }
  if (mle === undefined) {
    const block = new Mle('block', name, core.domain, core.local);
    block.maybe.add(from);
    core.insertMle(block);
    return MASTER_REPLY.NO;
  }
  mle.maybe.add(from);
  return mle.kind === 'master' ? MASTER_REPLY.MAYBE : MASTER_REPLY.NO;
}

/**
 * Answers ASSERT_MASTER. Never negative: the asserting kernel would panic. Asserts that contradict what is known here are noted and
 * have no effect.
 */
export function handleAssert(core: Core, from: number, { name, flags }: Message<typeof TYPE.ASSERT_MASTER>): number {
  const mle = core.mles.get(name);
  const res = core.lookup(name);
  if ((flags & ASSERT_FLAG.REQUERY) !== 0 && core.reco.master === core.local) core.reco.claims.set(name, from);
  if (mle?.kind === 'migration' && (flags & (ASSERT_FLAG.MLE_CLEANUP | ASSERT_FLAG.FINISH_MIGRATION | ASSERT_FLAG.REQUERY)) === 0) return 0;
  if (res?.has(RES.RECOVERING)) return claimRecovering(core, res, mle, from, flags);
  if (mle === undefined) {
    if (res !== undefined && res.owner !== from && res.owner !== NO_NODE) contradiction(core, from, res);
    return 0;
  }
  if (res !== undefined) {
    const strange = mle.kind === 'migration' ? from !== mle.newMaster : res.owner === NO_NODE ? !res.has(RES.IN_PROGRESS) : res.owner !== from;
    if (strange) {
      contradiction(core, from, res);
      return 0;
    }
  }
  let reply = 0;
  // Others that this node has asked remember it; the new owner must assert to them again.
  if (mle.kind === 'master' && [...mle.responses].some((node) => node !== core.local && node !== from)) reply |= ASSERT_REPLY.REASSERT;
  mle.master = from;
  core.unlinkMle(mle);
  if (res !== undefined) {
    res.owner = from;
    reply |= ASSERT_REPLY.MASTERY_REF;
    core.clear(res, mle.kind === 'migration' ? RES.MIGRATING : 0);
  }
  mle.changed.wake();
  return reply;
}

/**
 * A living node says that it owns what this node believes lost: a migration whose source or target died was further on, or less far,
 * than could be seen here. (The kernel refuses, and the resource stays in recovery.)
 */
function claimRecovering(core: Core, res: Resource, mle: Mle | undefined, from: number, flags: number): number {
  if (res.owner !== NO_NODE && (flags & ASSERT_FLAG.REQUERY) === 0) return 0;
  if (res.owner === core.local) for (const lock of [...res.locks()]) if (lock.node !== core.local) res.move(lock, undefined);
  for (const node of [...res.refmap]) res.refmap.delete(node);
  if (mle !== undefined) {
    mle.master = from;
    core.unlinkMle(mle);
    mle.changed.wake();
  }
  core.recovering.delete(res);
  res.owner = from;
  res.claimed = true;
  core.clear(res, RES.RECOVERING);
  core.calcUsage(res);
  return ASSERT_REPLY.MASTERY_REF;
}

function contradiction(core: Core, from: number, res: Resource): void {
  core.log({ what: 'protocol', node: from, message: `asserts that it owns ${printable(res.name)}, which node ${res.owner} owns` });
}

/** Answers MASTER_REQUERY. An owner that is dead is no owner. */
export function handleRequery(core: Core, { name }: Message<typeof TYPE.MASTER_REQUERY>): number {
  const res = core.lookup(name);
  if (res === undefined || !core.domain.has(res.owner)) return NO_NODE;
  if (res.owner === core.local && !core.reclaimed.has(res)) dispatchAssert(core, res, ASSERT_FLAG.REQUERY);
  return res.owner;
}

/** Whom another node takes for the owner of a name; NO_NODE if it knows none or is gone. */
export function* requery(core: Core, name: string, node: number): Task<number> {
  const status = statusOf(yield* core.request(node, TYPE.MASTER_REQUERY, { node: core.local, name }));
  return status !== undefined && status >= 0 && status < NO_NODE ? status : NO_NODE;
}

/** Whether a member that has not noticed a death yet takes a dead node for the owner of $RECOVERY: wait until none does (dlmmaster.c:dlm_pre_master_reco_lockres). */
function* beforeRecoveryLock(core: Core): Task {
  for (;;) {
    let owner = NO_NODE;
    for (const node of core.others()) {
      owner = yield* requery(core, RECOVERY_LOCK, node);
      if (owner !== NO_NODE) break;
    }
    if (!core.recovery.has(owner)) return;
    yield* core.loop.sleep(TIME.requery);
  }
}

/** A name for messages: what is not printable is shown as hex. */
export function printable(name: string): string {
  return name.replace(/[^\x20-\x7e]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
}
