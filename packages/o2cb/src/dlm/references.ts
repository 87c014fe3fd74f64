/**
 * References of nodes to resources, and forgetting unused ones (cluster-protocols.md 5.12; Linux 6.1 fs/ocfs2/dlm/dlmthread.c:dlm_run_purge_list,
 * dlmmaster.c:dlm_deref_lockres_handler).
 *
 * The owner knows by its refmap who has a copy. A node that gives its copy up says so (DEREF) before it forgets it, and meanwhile nobody here
 * finds the resource. An owner in the middle of a round of asserts may still be about to note that very reference: it answers "in progress"
 * and says DONE when the round is over.
 */
import { type Core, statusOf } from './core.js';
import type { Task } from './loop.js';
import type { Message } from './messages.js';
import { RES, type Resource } from './resource.js';
import { DEREF_REPLY, EINVAL, TIME, TYPE } from './status.js';

/** Forgets what has been unused for long enough (while the domain is left: at once). Returns in how many milliseconds to look again. */
export function purgeUnused(core: Core): number | undefined {
  const now = core.options.scheduler.now();
  for (const res of core.purge) {
    const due = core.state === 'joined' ? res.lastUsed + TIME.purge - now : 0;
    if (due > 0) return due;
    core.purge.delete(res);
    // In use after all, or about to change: it comes back to the list by calcUsage.
    if (!core.isUnused(res) || res.has(RES.DROPPING_REF)) continue;
    if (res.has(RES.MIGRATING) || res.assertWorkers > 0 || res.asserting > 0) {
      res.lastUsed = now;
      core.loop.spawn(again(core, res));
    } else if (res.owner === core.local) core.unhash(res);
    else {
      core.set(res, RES.DROPPING_REF);
      core.loop.spawn(dropReference(core, res));
    }
  }
  return undefined;
}

function* again(core: Core, res: Resource): Task {
  yield* core.loop.until(res.changed, () => !res.has(RES.MIGRATING) && res.assertWorkers === 0 && res.asserting === 0);
  core.calcUsage(res);
}

function* dropReference(core: Core, res: Resource): Task {
  const status = statusOf(yield* core.request(res.owner, TYPE.DEREF_LOCKRES, { node: core.local, name: res.name }));
  // A refusal or a dead owner is no reason to keep it.
  if (status !== DEREF_REPLY.IN_PROGRESS) core.unhash(res);
}

export function handleDeref(core: Core, from: number, message: Message<typeof TYPE.DEREF_LOCKRES>): number {
  const res = core.resources.get(message.name);
  if (res === undefined) return EINVAL;
  if (res.asserting > 0) {
    core.loop.spawn(dereferenceLater(core, res, from));
    return DEREF_REPLY.IN_PROGRESS;
  }
  res.refmap.delete(from);
  core.calcUsage(res);
  return DEREF_REPLY.DONE;
}

function* dereferenceLater(core: Core, res: Resource, node: number): Task {
  yield* core.loop.until(res.changed, () => res.asserting === 0);
  res.refmap.delete(node);
  yield* core.request(node, TYPE.DEREF_LOCKRES_DONE, { node: core.local, name: res.name });
  core.calcUsage(res);
}

export function handleDerefDone(core: Core, message: Message<typeof TYPE.DEREF_LOCKRES_DONE>): number {
  const res = core.resources.get(message.name);
  if (res === undefined) return EINVAL;
  if (res.has(RES.DROPPING_REF)) core.unhash(res);
  return 0;
}
