/**
 * Joining and leaving a domain (cluster-protocols.md 5.4 to 5.6; Linux 6.1 fs/ocfs2/dlm/dlmdomain.c).
 *
 * A joiner asks every living node; members let one in at a time and not during recovery. Only who answered OK gets ASSERT_JOINED or
 * CANCEL_JOIN, once for each OK: anything else makes a kernel panic.
 */
import { ClusterError } from '@lunfs/device';
import { NO_NODE, NodeMap } from '../node-map.js';
import { type Core, statusOf } from './core.js';
import type { Task } from './loop.js';
import { type Message, type NodeInfo, joinReply, parseJoinReply } from './messages.js';
import { migrateAll } from './migration.js';
import { DLM_MODULE_KEY, DLM_PROTOCOL, EAGAIN, EINVAL, FS_PROTOCOL, JOIN_REPLY, TIME, TYPE } from './status.js';

/** What members compare when a node joins. */
export interface JoinFacts {
  /** All configured nodes. */
  nodes(): readonly NodeInfo[];
  /** UUIDs of the heartbeat's regions with global heartbeat; empty with local. */
  regions(): readonly string[];
  /** Live nodes of which a member may not have noticed yet that they died and are back; default: none, as with kernel nodes, which take longer. */
  recent?(): NodeMap;
}

/** Joins, waiting while members refuse. Returns why not. */
export function* join(core: Core, facts: JoinFacts, live: NodeMap): Task<ClusterError | undefined> {
  let waited = 0;
  const absent = new NodeMap();
  for (;;) {
    const outcome = yield* tryToJoin(core, facts, live, absent);
    if (outcome === 'anew') continue;
    if (outcome !== 'again') return outcome;
    absent.clear();
    if (waited > TIME.joinTimeout) return new ClusterError('DLM_JOIN_TIMEOUT', `domain ${core.name}: its members have refused this node for ${waited / 1000} s; see their logs for a recovery or another join that does not end`, { waited });
    // Two that race must not do so for ever: the kernel takes the low bits of its clock, so do we.
    const wait = (Math.floor(core.options.scheduler.now() / 4) & 3) * TIME.joinBackoff;
    waited += wait;
    yield* core.loop.sleep(wait);
  }
}

function* tryToJoin(core: Core, facts: JoinFacts, live: NodeMap, absent: NodeMap): Task<ClusterError | 'again' | 'anew' | undefined> {
  core.live = live.copy();
  core.died.clear();
  const asked = core.live.copy();
  const yes = new NodeMap();
  core.joiningNode = core.local;
  const outcome = (yield* query(core, asked, { yes, absent, recent: facts.recent?.() ?? new NodeMap() })) ?? (yield* introduce(core, facts, yes));
  if (outcome === undefined) {
    for (const node of yes) yield* assertJoined(core, node);
    // In this order: a query must never find a node that neither joins nor has joined.
    core.state = 'joined';
  }
  core.joiningNode = NO_NODE;
  if (outcome !== undefined) {
    core.domain.clear();
    core.recovery.clear();
    for (const node of yes) if (!core.died.has(node)) yield* core.request(node, TYPE.CANCEL_JOIN, { node: core.local, domain: core.name }, DLM_MODULE_KEY);
  }
  core.membership.wake();
  return outcome;
}

/** Who is a member and lets this node in, who does not have the domain, and of the latter who must not be named to members. */
interface Answers {
  readonly yes: NodeMap;
  readonly absent: NodeMap;
  readonly recent: NodeMap;
}

/**
 * Ask all living nodes.
 *
 * Members refuse a joiner that does not see one of them live. It must not tell them of an absent node that may have died as a member and be back
 * so soon that another member has not noticed: that one would take the new node for the old, let us in, and we would come to own what it
 * believes the dead node does. 'anew': somebody was told of one who turned out to be absent.
 */
function* query(core: Core, asked: NodeMap, { yes, absent, recent }: Answers): Task<ClusterError | 'again' | 'anew' | undefined> {
  core.dlmMinor = DLM_PROTOCOL.minor;
  core.fsMinor = FS_PROTOCOL.minor;
  const told = core.live.copy();
  for (const node of absent) told.delete(node);
  let wrong = false;
  for (const node of asked) {
    if (node === core.local) continue;
    const message = {
      node: core.local, domain: core.name, dlmMajor: DLM_PROTOCOL.major, dlmMinor: core.dlmMinor, fsMajor: FS_PROTOCOL.major, fsMinor: core.fsMinor, live: told,
    };
    const result = yield* core.request(node, TYPE.QUERY_JOIN, message, DLM_MODULE_KEY);
    if ('error' in result && result.error !== 'no-handler') {
      // Its death says more than the lost connection.
      if (!core.live.equals(asked)) return 'again';
      return new ClusterError('DLM_JOIN_UNREACHABLE', `domain ${core.name}: node ${node} beats but cannot be asked (${result.error}); check the network between the nodes`, { node });
    }
    // A node without o2dlm has no such domain.
    const { code, dlmMinor, fsMinor } = 'error' in result ? { code: JOIN_REPLY.OK_NO_MAP, dlmMinor: 0, fsMinor: 0 } : parseJoinReply(result.status);
    if (code === JOIN_REPLY.PROTOCOL_MISMATCH) {
      return new ClusterError('DLM_JOIN_PROTOCOL', `domain ${core.name}: node ${node} speaks another version of the lock manager's or the file system's protocol than ${DLM_PROTOCOL.major}.${core.dlmMinor} and ${FS_PROTOCOL.major}.${core.fsMinor}`, { node });
    }
    if (code === JOIN_REPLY.OK) {
      core.dlmMinor = dlmMinor;
      core.fsMinor = fsMinor;
      yes.add(node);
    } else if (code === JOIN_REPLY.OK_NO_MAP && recent.has(node)) {
      wrong ||= yes.lowest !== undefined && told.has(node);
      absent.add(node);
      told.delete(node);
    }
    if ((code !== JOIN_REPLY.OK && code !== JOIN_REPLY.OK_NO_MAP) || !core.live.equals(asked) || core.died.lowest !== undefined) return 'again';
  }
  if (wrong) return 'anew';
  for (const node of yes) core.domain.add(node);
  core.domain.add(core.local);
  return undefined;
}

/** Members compare the configuration: all nodes' addresses first, then the regions. */
function* introduce(core: Core, facts: JoinFacts, yes: NodeMap): Task<ClusterError | 'again' | undefined> {
  if (core.dlmMinor === 0) return undefined; // came with 1.1
  const head = { node: core.local, domain: core.name };
  for (const type of [TYPE.QUERY_NODEINFO, TYPE.QUERY_REGION] as const) {
    for (const node of yes) {
      const result = type === TYPE.QUERY_NODEINFO
        ? yield* core.request(node, type, { ...head, nodes: facts.nodes() }, DLM_MODULE_KEY)
        : yield* core.request(node, type, { ...head, regions: facts.regions() }, DLM_MODULE_KEY);
      const status = statusOf(result);
      if (status === 0) continue;
      if (core.died.has(node)) return 'again';
      return type === TYPE.QUERY_NODEINFO
        ? new ClusterError('DLM_JOIN_NODES', `domain ${core.name}: node ${node} has other nodes in its cluster.conf than this one; make the files equal on all nodes`, { node })
        : new ClusterError('DLM_JOIN_REGIONS', `domain ${core.name}: node ${node} has other heartbeat regions, or the other heartbeat mode; make O2CB's configuration equal on all nodes`, { node });
    }
  }
  return undefined;
}

/** Tells a member that this node is one too, until it takes it or dies. */
function* assertJoined(core: Core, node: number): Task {
  while (!core.died.has(node)) {
    const status = statusOf(yield* core.request(node, TYPE.ASSERT_JOINED, { node: core.local, domain: core.name }, DLM_MODULE_KEY));
    if (status === 0 || core.died.has(node)) return;
    yield* core.loop.sleep(TIME.joinBackoff);
  }
}

/** Leaves: resources migrate or are forgotten, then all members are told. No lock of this node may be left. */
export function* leave(core: Core): Task {
  core.state = 'shutdown';
  if (core.dlmMinor >= 2) for (const node of core.others()) yield* core.request(node, TYPE.BEGIN_EXIT_DOMAIN, { node: core.local });
  // A recovery that has begun is gone through: its master counts on what this node sends.
  const idle = () => !core.reco.active && core.recovery.lowest === undefined;
  for (;;) {
    if ((yield* migrateAll(core)) === 0 && idle()) break;
    yield* core.loop.until(core.membership, () => core.resources.size === 0 && idle(), TIME.leavePoll);
  }
  core.migrateDone = true;
  yield* core.loop.until(core.membership, () => core.joiningNode === NO_NODE);
  core.state = 'leaving';
  core.domain.delete(core.local);
  for (let node = core.domain.lowest; node !== undefined; node = core.domain.lowest) {
    const result = yield* core.request(node, TYPE.EXIT_DOMAIN, { node: core.local });
    if ('error' in result && result.error === 'host-down') yield* core.loop.sleep(TIME.joinBackoff);
    else core.domain.delete(node);
  }
  core.state = 'left';
}

// A member's part. `core` is undefined where the domain is not known.

export function answerQueryJoin(core: Core | undefined, alive: boolean, from: number, message: Message<typeof TYPE.QUERY_JOIN>): number {
  if (!alive) return joinReply(JOIN_REPLY.DISALLOW);
  if (core === undefined) return joinReply(JOIN_REPLY.OK_NO_MAP);
  for (const node of core.domain) if (!message.live.has(node)) return joinReply(JOIN_REPLY.DISALLOW);
  if (core.state === 'leaving' || core.state === 'left' || (core.state === 'new' && core.joiningNode === NO_NODE)) return joinReply(JOIN_REPLY.OK_NO_MAP);
  if (core.joiningNode !== NO_NODE || core.reco.active || core.recovery.has(from) || core.domain.has(from)) return joinReply(JOIN_REPLY.DISALLOW);
  const fits = message.dlmMajor === DLM_PROTOCOL.major && message.dlmMinor >= core.dlmMinor && message.fsMajor === FS_PROTOCOL.major && message.fsMinor >= core.fsMinor;
  if (!fits) return joinReply(JOIN_REPLY.PROTOCOL_MISMATCH);
  core.joiningNode = from;
  return joinReply(JOIN_REPLY.OK, core.dlmMinor, core.fsMinor);
}

export function answerAssertJoined(core: Core | undefined, from: number): number {
  if (core === undefined) return 0;
  if (core.joiningNode !== from) return EINVAL;
  if (core.reco.active) return EAGAIN;
  core.domain.add(from);
  core.exiting.delete(from);
  core.joiningNode = NO_NODE;
  core.log({ what: 'joins', node: from });
  core.notifyMles(from, true);
  core.membership.wake();
  return 0;
}

export function answerCancelJoin(core: Core | undefined, from: number): number {
  if (core !== undefined && core.joiningNode === from) {
    core.joiningNode = NO_NODE;
    core.membership.wake();
  }
  return 0;
}

export function answerNodeInfo(core: Core | undefined, from: number, theirs: readonly NodeInfo[], ours: readonly NodeInfo[]): number {
  if (core === undefined || core.joiningNode !== from || core.dlmMinor === 0) return EINVAL;
  const same = theirs.length === ours.length && ours.every((a) => theirs.some((b) => a.node === b.node && a.port === b.port && a.address === b.address));
  return same ? 0 : EINVAL;
}

export function answerRegions(core: Core | undefined, from: number, theirs: readonly string[], ours: readonly string[]): number {
  if (core === undefined || core.joiningNode !== from || core.dlmMinor === 0) return EINVAL;
  const same = ours.every((region) => theirs.includes(region)) && theirs.every((region) => ours.includes(region));
  return same ? 0 : EINVAL;
}

export function handleBeginExit(core: Core, from: number): number {
  core.exiting.add(from);
  core.log({ what: 'leaving', node: from });
  return 0;
}

/** A member is gone in good order: nothing is to be recovered. */
export function handleExit(core: Core, from: number): number {
  core.domain.delete(from);
  core.exiting.delete(from);
  for (const mle of [...core.mles.values()]) if (mle.kind === 'block' && !mle.inUse && mle.maybe.lowest === from) core.unlinkMle(mle);
  for (const [res, target] of [...core.reclaimed]) if (target === from) core.reclaimed.delete(res);
  if (core.reco.nodes.has(from)) core.reco.nodes.set(from, 'dead');
  core.log({ what: 'leaves', node: from });
  core.notifyMles(from, false);
  core.membership.wake();
  return 0;
}
