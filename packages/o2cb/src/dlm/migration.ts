/**
 * Resources change hands: migration when their owner leaves, and the packed locks that recovery sends too (cluster-protocols.md 5.13, 5.14 C-D;
 * Linux 6.1 fs/ocfs2/dlm/{dlmmaster,dlmrecovery}.c).
 *
 * The old owner stops all work on the resource and sends its locks to the target. From the last of these messages on the target is the
 * owner: it tells all members that a migration is under way, then that it is through, the old owner last. What the death of either means:
 *  - The target dies: the old owner keeps the resource, for it is told last. Members that were told of the end believe the target was the
 *    owner: before recovery collects their locks, the old owner claims the resource (`claimReclaimed`).
 *  - The old owner dies before all members have been told of the beginning: the target forgets what it got and the resource is recovered
 *    like any other of the dead node (`abortTaking`). After that the target goes on.
 */
import { InternalError } from '@lunfs/device';
import { NO_NODE } from '../node-map.js';
import { type Core, isHostDown, statusOf } from './core.js';
import type { Task } from './loop.js';
import { assertMaster, requery } from './mastery.js';
import type { Message, MigratedResource, PackedLock } from './messages.js';
import { Lock, Mle, QUEUES, RES, Resource } from './resource.js';
import {
  ASSERT_FLAG, EINVAL, EMPTY_LVB, EX, IV, MAX_MIGRATABLE_LOCKS, MIGRATE_REPLY_MASTERY_REF, MRES, NL, PACKED, TIME, TYPE, lvbIsEmpty,
} from './status.js';

// The old owner.

/** One pass over all resources of a node that leaves. Returns how many are left. */
export function* migrateAll(core: Core): Task<number> {
  for (const res of [...core.resources.values()]) {
    if (!res.hashed || !isMigratable(core, res)) continue;
    const target = pickTarget(core, res);
    if (target !== undefined) yield* migrate(core, res, target);
  }
  return core.resources.size;
}

/** Owned here, not used here, used elsewhere. */
function isMigratable(core: Core, res: Resource): boolean {
  if (res.owner !== core.local || res.inflight > 0 || core.reclaimed.has(res) || res.has(RES.MIGRATING | RES.RECOVERING | RES.RECOVERY_WAITING | RES.IN_PROGRESS)) return false;
  for (const lock of res.locks()) if (lock.node === core.local) return false;
  return res.hasLocks || [...res.refmap].some((node) => node !== core.local);
}

/** Who has a lock, else a reference, and does not leave too (dlmmaster.c:dlm_pick_migration_target). */
function pickTarget(core: Core, res: Resource): number | undefined {
  const stays = (node: number) => node !== core.local && core.domain.has(node) && !core.exiting.has(node);
  for (const lock of res.locks()) if (stays(lock.node)) return lock.node;
  return [...res.refmap].find(stays);
}

function* migrate(core: Core, res: Resource, target: number): Task {
  const old = core.mles.get(res.name);
  if (old?.kind === 'migration') return;
  if (old !== undefined) {
    old.master = core.local;
    core.unlinkMle(old);
    old.changed.wake();
  }
  const mle = new Mle('migration', res.name, core.domain, core.local);
  mle.master = core.local;
  mle.newMaster = target;
  mle.maybe.add(target);
  mle.inUse = true;
  core.insertMle(mle);

  // Nothing new is scheduled; what is on its way arrives.
  res.migrationPending = true;
  yield* core.loop.until(res.changed, () => (!res.dirty && res.reserved === 0) || !core.domain.has(target));
  res.migrationPending = false;
  if (!core.domain.has(target)) return giveUp(core, res, mle);
  core.set(res, RES.MIGRATING);
  yield* core.loop.until(res.changed, () => res.assertWorkers === 0);

  const sent = yield* sendResource(core, res, target, MRES.MIGRATION);
  if (sent !== 'sent') {
    // It may have got it, and told others. Once its death is noticed, that is taken care of (recovery.ts: cleanMles).
    if (sent === 'lost' && core.domain.has(target)) core.reclaimed.set(res, target);
    giveUp(core, res, mle);
    yield* core.loop.until(core.membership, () => !core.domain.has(target), TIME.nodeDeath);
    return;
  }
  yield* core.loop.until(res.changed, () => res.owner === target || !core.domain.has(target));
  if (res.owner !== target) return giveUp(core, res, mle);
  keepOwnOnly(core, res);
  core.putMle(mle);
  core.clear(res, RES.MIGRATING);
  core.calcUsage(res);
}

function giveUp(core: Core, res: Resource, mle: Mle): void {
  core.putMle(mle);
  core.clear(res, RES.MIGRATING);
  core.markDirty(res);
}

/** A node that does not own a resource knows its own locks only. */
function keepOwnOnly(core: Core, res: Resource): void {
  for (const lock of [...res.locks()]) if (lock.node !== core.local) res.move(lock, undefined);
  for (const node of [...res.refmap]) res.refmap.delete(node);
}

/**
 * Before this node's locks are sent to the recovery master of `dead`: what was to migrate to it and did not is said to be owned here, so that
 * nobody has it recovered. All members know of the death by now, so none takes this for a contradiction (a kernel would panic).
 */
export function* claimReclaimed(core: Core, dead: number): Task {
  for (const [res, target] of [...core.reclaimed]) {
    if (target !== dead) continue;
    core.reclaimed.delete(res);
    if (res.hashed && res.owner === core.local) yield* assertMaster(core, res, core.others(), ASSERT_FLAG.REQUERY);
  }
}

/**
 * Sends a resource's locks, at most 240 in a message (dlmrecovery.c:dlm_send_one_lockres). In recovery only the locks of this node. A node
 * without locks sends a dummy, which stands for its reference. `lost`: the other node is gone, nobody knows what it got.
 */
export function* sendResource(core: Core, res: Resource, to: number, flags: number): Task<'sent' | 'refused' | 'lost'> {
  const all = [...res.locks()].filter((lock) => (flags & MRES.MIGRATION) !== 0 || lock.node === core.local);
  const cookie = all.length > MAX_MIGRATABLE_LOCKS ? core.migrationCookie++ : 0n;
  for (let from = 0; from === 0 || from < all.length; from += MAX_MIGRATABLE_LOCKS) {
    const part = all.slice(from, from + MAX_MIGRATABLE_LOCKS);
    const last = from + part.length === all.length;
    const message: MigratedResource = {
      master: res.owner, name: res.name, flags: flags | (last ? MRES.ALL_DONE : 0), total: all.length, cookie,
      lvb: packedLvb(core, res, part), locks: part.length === 0 ? [dummy(core.local)] : part.map(pack),
    };
    const result = yield* core.request(to, TYPE.MIG_LOCKRES, message);
    const status = statusOf(result);
    if (status === 0) continue;
    if (!isHostDown(result)) core.log({ what: 'protocol', node: to, message: `refuses a resource with ${status ?? 'overflow'}` });
    return status === undefined ? 'lost' : 'refused';
  }
  return 'sent';
}

/** The value block counts where somebody holds PR or EX (dlm_prepare_lvb_for_migration): the owner's, else the copy that came with such a lock. */
function packedLvb(core: Core, res: Resource, locks: readonly Lock[]): Uint8Array {
  const holders = locks.filter((lock) => lock.queue !== 'blocked' && lock.mode > NL);
  if (holders.length === 0) return EMPTY_LVB as Uint8Array;
  const copy = res.owner === core.local ? res.lvb : (holders.find((lock) => !lvbIsEmpty(lock.lvb))?.lvb ?? EMPTY_LVB);
  return copy as Uint8Array;
}

function pack(lock: Lock): PackedLock {
  const flags = (lock.putLvb ? PACKED.PUT_LVB : 0) | (lock.getLvb ? PACKED.GET_LVB : 0);
  const list = QUEUES.indexOf(lock.queue ?? 'granted');
  // BASTs that are due are never handed over: the kernel would panic, and the new owner finds out itself.
  return { cookie: lock.cookie, list, flags, mode: lock.mode, convertMode: lock.convertMode, highestBlocked: IV, node: lock.node };
}

function dummy(node: number): PackedLock {
  return { cookie: 0n, list: 2, flags: 0, mode: IV, convertMode: IV, highestBlocked: IV, node };
}

function isDummy(lock: PackedLock): boolean {
  return lock.cookie === 0n && lock.list === 2 && lock.mode === IV && lock.convertMode === IV;
}

// The new owner.

/** Answers MIG_LOCKRES (dlmrecovery.c:dlm_mig_lockres_handler). Where the kernel has the sender panic (-EFAULT), -EINVAL makes it look for another. */
export function handleMigLockres(core: Core, from: number, message: MigratedResource): number {
  const recovery = (message.flags & MRES.RECOVERY) !== 0;
  const migration = !recovery && (message.flags & MRES.MIGRATION) !== 0;
  // Who leaves takes nothing over, unless it recovers a dead node: then nobody else has it. (The kernel refuses here, and it is lost.)
  if (!(recovery ? core.serving : migration && core.state === 'joined')) return EINVAL;
  if (migration && message.master !== from) return EINVAL;
  // While it is recovered by another, or by nobody, nothing is taken.
  if (recovery && (core.reco.master !== core.local || !core.reco.nodes.has(from))) return EINVAL;
  let res = core.resources.get(message.name);
  if (res?.has(RES.DROPPING_REF)) return EINVAL;
  if (recovery) {
    const claimed = core.reco.claims.get(message.name);
    if (claimed !== undefined && core.domain.has(claimed)) return 0;
    // Its owner lives; the sender will hear of it.
    if (res !== undefined && res.owner !== core.local && core.domain.has(res.owner)) return 0;
  } else if (res !== undefined && (res.has(RES.RECOVERING) || (res.owner === core.local && res.taking?.from !== from))) return EINVAL;
  if (res === undefined) {
    res = new Resource(message.name);
    core.insert(res);
  }
  res.inflight++;
  core.calcUsage(res);
  if (recovery) core.set(res, RES.RECOVERING);
  else {
    core.set(res, RES.MIGRATING);
    res.taking ??= { from, aborted: false };
  }
  if (message.master !== NO_NODE) {
    if (res.owner !== core.local) adoptOwnValue(core, res);
    res.owner = core.local;
    res.changed.wake();
    // Who asked for it before hears of the owner by the migration or the recovery; nobody asserts to the owner itself.
    const mle = core.mles.get(res.name);
    if (mle?.kind === 'block' && !mle.inUse) core.unlinkMle(mle);
  }
  core.loop.spawn(takeResource(core, res, message));
  return 0;
}

/** What this node's own lock knows of the value block, when it becomes the owner by recovery or migration. */
export function adoptOwnValue(core: Core, res: Resource): void {
  for (const lock of [...res.granted, ...res.converting]) if (lock.node === core.local && lock.mode > NL && !lvbIsEmpty(lock.lvb)) res.lvb = lock.lvb;
}

function* takeResource(core: Core, res: Resource, message: MigratedResource): Task {
  if (message.master === NO_NODE && res.owner !== core.local && (yield* isOwnedElsewhere(core, res))) {
    core.dropInflight(res);
    // Made for this message, or its locks are in recovery: its owner asserts.
    if (res.owner === NO_NODE && !res.hasLocks && res.inflight === 0) core.unhash(res);
    return;
  }
  // What a claim or an abort has taken out of our hands meanwhile is not ours to change.
  if (res.owner === core.local && res.taking?.aborted !== true) takeLocks(core, res, message);
  core.dropInflight(res);
  if ((message.flags & MRES.MIGRATION) !== 0 && (message.flags & MRES.ALL_DONE) !== 0 && res.taking !== undefined) yield* finishMigration(core, res, message.master);
}

/** A migration whose nodes died in the middle: does anybody alive know its owner? If not, it is taken here. */
function* isOwnedElsewhere(core: Core, res: Resource): Task<boolean> {
  for (const node of core.others()) {
    const owner = yield* requery(core, res.name, node);
    if (res.owner === core.local) return false;
    if ((owner !== core.local && core.domain.has(owner)) || !res.has(RES.RECOVERING)) return true;
  }
  adoptOwnValue(core, res);
  res.owner = core.local;
  res.changed.wake();
  return false;
}

/** The locks of a message become those of the resource (dlmrecovery.c:dlm_process_recovery_data). */
function takeLocks(core: Core, res: Resource, message: MigratedResource): void {
  for (const entry of message.locks) {
    if (!core.domain.has(entry.node)) continue; // died since it was packed
    if (isDummy(entry)) {
      if (entry.node !== core.local) res.refmap.add(entry.node);
      continue;
    }
    const queue = QUEUES[entry.list] ?? 'blocked';
    const known = res.find(entry.cookie);
    if (entry.node === core.local) {
      // Our own copy is right, whatever the owner knew: only the order is taken over.
      if (known?.queue === queue) res.move(known, queue);
      continue;
    }
    res.refmap.add(entry.node);
    if (known !== undefined) continue;
    const lock = new Lock(res, entry.cookie, entry.node, entry.mode);
    lock.convertMode = queue === 'converting' ? entry.convertMode : IV;
    lock.putLvb = (entry.flags & PACKED.PUT_LVB) !== 0;
    lock.getLvb = (entry.flags & PACKED.GET_LVB) !== 0;
    if (entry.mode > NL && queue !== 'blocked' && !lvbIsEmpty(message.lvb)) {
      lock.lvb = message.lvb;
      // A holder of EX knows best, of several of PR all must know the same; a value that is put has just been written.
      if (lock.putLvb || entry.mode === EX || lvbIsEmpty(res.lvb)) res.lvb = message.lvb;
      else if (Buffer.compare(res.lvb, message.lvb) !== 0) res.lvb = EMPTY_LVB;
    }
    const down = (message.flags & MRES.RECOVERY) !== 0 && queue === 'converting' && entry.mode > entry.convertMode;
    res.move(lock, queue, down);
  }
}

/** All locks are here: tell everybody (dlmmaster.c:dlm_finish_migration). */
function* finishMigration(core: Core, res: Resource, old: number): Task {
  const { taking } = res;
  if (taking === undefined) throw new InternalError('DLM_TAKING', `domain ${core.name}: a migration that nobody began`);
  if (core.domain.has(old)) res.refmap.add(old);
  const told: number[] = [];
  let refused = false;
  for (const node of core.others()) {
    if (node === old || !core.domain.has(node)) continue;
    const status = statusOf(yield* core.request(node, TYPE.MIGRATE_REQUEST, { master: old, newMaster: core.local, name: res.name }));
    if (taking.aborted) return;
    if (status !== undefined && status < 0) refused = true;
    else if (status !== undefined) told.push(node);
    if (status === MIGRATE_REPLY_MASTERY_REF && core.domain.has(node)) res.refmap.add(node);
  }
  // Who refuses has seen the old owner die. So shall we.
  if (refused) yield* core.loop.until(res.changed, () => taking.aborted);
  if (taking.aborted) return;
  res.taking = undefined;
  yield* assertMaster(core, res, told, ASSERT_FLAG.FINISH_MIGRATION);
  if (core.domain.has(old)) yield* assertMaster(core, res, [old], ASSERT_FLAG.FINISH_MIGRATION);
  core.clear(res, RES.MIGRATING);
  core.markDirty(res);
  core.calcUsage(res);
}

/** The node from which a resource was being taken over has died: it is as if it had died before. */
export function abortTaking(core: Core, res: Resource): void {
  if (res.taking === undefined) return;
  const { from } = res.taking;
  res.taking.aborted = true;
  res.taking = undefined;
  keepOwnOnly(core, res);
  res.owner = from;
  res.lvb = EMPTY_LVB;
  core.clear(res, RES.MIGRATING);
}

// The others.

/** Answers MIGRATE_REQUEST (dlmmaster.c:dlm_migrate_request_handler): the resource is not to be used until the new owner asserts. */
export function handleMigrateRequest(core: Core, from: number, message: Message<typeof TYPE.MIGRATE_REQUEST>): number {
  if (!core.serving) return 0;
  if (message.newMaster !== from || message.master === core.local || message.newMaster === core.local) return EINVAL;
  const res = core.lookup(message.name);
  if (res?.has(RES.RECOVERING) || !core.domain.has(message.master)) return EINVAL;
  if (res !== undefined) core.set(res, RES.MIGRATING);
  const old = core.mles.get(message.name);
  let reply = 0;
  if (old !== undefined) {
    // Whoever waits learns the owner; that it is about to change, the state says.
    if (old.kind !== 'migration') old.master = message.master;
    if (old.kind === 'master') reply = MIGRATE_REPLY_MASTERY_REF;
    core.unlinkMle(old);
    old.changed.wake();
  }
  const mle = new Mle('migration', message.name, core.domain, core.local);
  mle.master = message.master;
  mle.newMaster = message.newMaster;
  mle.maybe.add(message.newMaster);
  core.insertMle(mle);
  return reply;
}
