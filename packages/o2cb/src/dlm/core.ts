/**
 * State of a domain on this node and the few things that all rooms of o2dlm do with it: send, look up, mark dirty, schedule.
 *
 * Node maps: `live` as the heartbeat says, `domain` the members (this node included), `exiting` those that have announced that they leave,
 * `recovery` dead members that are not recovered yet.
 */
import { InternalError } from '@lunfs/device';
import { NO_NODE, NodeMap } from '../node-map.js';
import type { Messenger, RequestResult, Scheduler } from '../ports.js';
import { Loop, type Task, WaitQueue } from './loop.js';
import { type Message, type MessageType, encode } from './messages.js';
import { type Lock, type Mle, RES, type Resource } from './resource.js';
import { DLM_PROTOCOL, FS_PROTOCOL, RECOVERY_LOCK } from './status.js';

/** Leaving: `shutdown` while resources migrate, others are still served; `leaving` when they are gone; `left` at the end. */
export type DomainState = 'new' | 'joined' | 'shutdown' | 'leaving' | 'left';

/** What a recovery master knows of a member. */
export type RecoveryNodeState = 'requesting' | 'requested' | 'done' | 'dead';

export interface RecoveryState {
  /** Dead node under recovery, or NO_NODE. */
  dead: number;
  /** Who recovers it, or NO_NODE. */
  master: number;
  /** New locks wait. */
  active: boolean;
  /** Stage 1 of finalizing is through, stage 2 is not. */
  finalizing: boolean;
  /** This node has sent its locks to this recovery master for the dead node at hand. */
  sentTo: number;
  /** What stage 1 of the last recovery gave to its master. */
  finished: { readonly dead: number; readonly master: number; readonly resources: ReadonlySet<Resource> } | undefined;
  readonly nodes: Map<number, RecoveryNodeState>;
  /** Recovery master: resources that a living node says are its own. */
  readonly claims: Map<string, number>;
}

/** What happens, for logs and `lunfs cluster status`. */
export type DlmEvent =
  | { readonly what: 'joins' | 'leaving' | 'leaves' | 'joined' | 'left'; readonly node: number }
  | { readonly what: 'recovery-begins' | 'recovery-ends'; readonly dead: number; readonly master: number }
  | { readonly what: 'protocol'; readonly node: number; readonly message: string };

export interface CoreOptions {
  readonly local: number;
  readonly name: string;
  readonly key: number;
  readonly scheduler: Scheduler;
  readonly messenger: Messenger;
  /** A member died: what it held is free once this and recovery are through. May be called twice for one death. */
  readonly evicted: (node: number) => void;
  readonly log?: ((event: DlmEvent) => void) | undefined;
  readonly nextCookie: () => bigint;
}

export class Core {
  readonly local: number;
  readonly name: string;
  state: DomainState = 'new';
  joiningNode = NO_NODE;
  live = new NodeMap();
  readonly domain = new NodeMap();
  readonly exiting = new NodeMap();
  readonly recovery = new NodeMap();
  /** Nodes that have died since this node last began to join: what beats under their numbers now knows nothing of us. */
  readonly died = new NodeMap();
  readonly resources = new Map<string, Resource>();
  readonly mles = new Map<string, Mle>();
  /** Entries that follow joins and deaths; those in the table and those that a task still looks at. */
  readonly attached = new Set<Mle>();
  /** Resources whose queues are to be looked at, in order. */
  readonly dirty = new Set<Resource>();
  readonly asts: Lock[] = [];
  readonly basts: Lock[] = [];
  /** Unused resources, the longest unused first. */
  readonly purge = new Set<Resource>();
  /** Resources that wait for recovery. */
  readonly recovering = new Set<Resource>();
  /** Locks of this node that have not ended. */
  readonly clients = new Set<{ fail(error: Error): void }>();
  /**
   * Taken back from a migration whose target is lost; it may have told some that it was the owner. Nothing is asserted before all know of
   * its death (a kernel that does not would panic); then the resource is claimed.
   */
  readonly reclaimed = new Map<Resource, number>();
  readonly reco: RecoveryState = { dead: NO_NODE, master: NO_NODE, active: false, finalizing: false, sentTo: NO_NODE, finished: undefined, nodes: new Map(), claims: new Map() };
  /** Everything has been migrated: recovery is no business of this node any more. */
  migrateDone = false;
  dlmMinor: number = DLM_PROTOCOL.minor;
  fsMinor: number = FS_PROTOCOL.minor;
  migrationCookie = 1n;

  /** Node maps, joining node or recovery state have changed. */
  readonly membership = new WaitQueue();
  /** The recovery task should look. */
  readonly recoveryKick = new WaitQueue();
  readonly loop: Loop;

  constructor(readonly options: CoreOptions, idle: () => void, failed: (error: unknown) => void) {
    this.local = options.local;
    this.name = options.name;
    this.loop = new Loop(options.scheduler, idle, failed);
  }

  get serving(): boolean {
    return this.state === 'joined' || this.state === 'shutdown';
  }

  log(event: DlmEvent): void {
    this.options.log?.(event);
  }

  /** Sends a message and waits for its status. */
  *request<T extends MessageType>(node: number, type: T, message: Message<T>, key = this.options.key): Task<RequestResult> {
    let result!: RequestResult;
    yield (resume) => this.send(node, type, message, (outcome) => {
      result = outcome;
      resume();
    }, key);
    return result;
  }

  send<T extends MessageType>(node: number, type: T, message: Message<T>, done: (result: RequestResult) => void, key = this.options.key): void {
    if (node === this.local) throw new InternalError('DLM_SELF', `domain ${this.name}: message ${type} to this node itself`);
    this.options.messenger.request(node, type, key, encode(type, message), (result) => this.loop.enter(() => done(result)));
  }

  /** Members other than this node, ascending, as they are now. */
  others(): number[] {
    return [...this.domain].filter((node) => node !== this.local);
  }

  /** A resource that is there and not on its way out. */
  lookup(name: string): Resource | undefined {
    const res = this.resources.get(name);
    return res?.has(RES.DROPPING_REF) ? undefined : res;
  }

  insert(res: Resource): void {
    this.resources.set(res.name, res);
    res.hashed = true;
  }

  /** Sets bits, or clears them and wakes who waits for it. */
  set(res: Resource, bits: number): void {
    res.state |= bits;
  }

  clear(res: Resource, bits: number): void {
    res.state &= ~bits;
    if (res.dirty && res.hashed) this.dirty.add(res);
    res.changed.wake();
  }

  *whileBusy(res: Resource, bits: number): Task {
    yield* this.loop.until(res.changed, () => !res.has(bits));
  }

  /** Have the queues looked at. Only the owner does, and not while it is to migrate: the next owner will. */
  markDirty(res: Resource): void {
    if (res.owner !== this.local || res.has(RES.MIGRATING) || res.migrationPending) return;
    res.dirty = true;
    this.dirty.add(res);
  }

  reserve(res: Resource): void {
    res.reserved++;
  }

  release(res: Resource): void {
    res.reserved--;
    if (res.reserved === 0) res.changed.wake();
  }

  /** Nothing refers to it any more. */
  isUnused(res: Resource): boolean {
    return !res.hasLocks && res.inflight === 0 && !res.dirty && !res.has(RES.RECOVERING | RES.RECOVERY_WAITING) && res.refmap.lowest === undefined;
  }

  /** Puts a resource on the list of unused ones or takes it off (dlmthread.c:__dlm_lockres_calc_usage). */
  calcUsage(res: Resource): void {
    if (!res.hashed || !this.isUnused(res)) this.purge.delete(res);
    else if (!this.purge.has(res)) {
      res.lastUsed = this.options.scheduler.now();
      this.purge.add(res);
    }
  }

  /** Takes a resource out of the table. */
  unhash(res: Resource): void {
    this.purge.delete(res);
    this.dirty.delete(res);
    res.dirty = false;
    this.recovering.delete(res);
    if (res.hashed) this.resources.delete(res.name);
    res.hashed = false;
    this.clear(res, RES.DROPPING_REF);
    if (this.resources.size === 0) this.membership.wake();
  }

  dropInflight(res: Resource): void {
    res.inflight--;
    res.changed.wake();
    this.calcUsage(res);
  }

  isRecoveryLock(res: Resource): boolean {
    return res.name === RECOVERY_LOCK;
  }

  *untilRecovered(): Task {
    yield* this.loop.until(this.membership, () => !this.reco.active);
  }

  /** A member has come or gone: entries that follow the map are told. */
  notifyMles(node: number, up: boolean): void {
    for (const mle of this.attached) {
      if (up) mle.nodes.add(node);
      else mle.nodes.delete(node);
      mle.changed.wake();
      if (mle.kind === 'migration') this.resources.get(mle.name)?.changed.wake();
    }
  }

  insertMle(mle: Mle): void {
    this.mles.set(mle.name, mle);
    this.attached.add(mle);
  }

  /** Takes an entry out of the table; while a task uses it, it still follows the members. */
  unlinkMle(mle: Mle): void {
    if (this.mles.get(mle.name) === mle) this.mles.delete(mle.name);
    if (!mle.inUse) this.attached.delete(mle);
  }

  /** The task that used an entry is done with it. */
  putMle(mle: Mle): void {
    mle.inUse = false;
    this.unlinkMle(mle);
  }
}

/** Is this the result of a node that is gone (or has no such domain, which comes to the same)? A status of -EINVAL counts too. */
export function isHostDown(result: RequestResult): boolean {
  return 'error' in result ? result.error !== 'overflow' : result.status === -22;
}

/** Status of a request, or undefined when the peer could not be reached. */
export function statusOf(result: RequestResult): number | undefined {
  return 'status' in result ? result.status : undefined;
}
