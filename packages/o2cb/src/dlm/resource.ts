/**
 * Lock resources, locks and master list entries (cluster-protocols.md 5.1, 5.7; Linux 6.1 fs/ocfs2/dlm/dlmcommon.h).
 *
 * A resource has an owner (the master), who holds all locks; every other node that uses it has a copy with its own locks only. `state`
 * says why it may not be used just now. A lock is on one of the three queues of its resource or on none.
 */
import { NO_NODE, NodeMap } from '../node-map.js';
import { WaitQueue } from './loop.js';
import { EMPTY_LVB, IV, type Level } from './status.js';

/** Bits of Resource.state. */
export const RES = {
  /** The owner is dead or not known; recovery settles it. */
  RECOVERING: 1,
  /** Being mastered, or a request of this node to the owner is under way. */
  IN_PROGRESS: 2,
  MIGRATING: 4,
  /** This node is taking its reference back from the owner; the resource goes. */
  DROPPING_REF: 8,
  /** The owner has dropped locks of a dead node; nothing is granted before that node is recovered. */
  RECOVERY_WAITING: 16,
} as const;

/** What requests of this node wait for. */
export const BUSY = RES.IN_PROGRESS | RES.MIGRATING | RES.RECOVERING | RES.RECOVERY_WAITING;

export type QueueName = 'granted' | 'converting' | 'blocked';
/** In the order of their numbers on the wire. */
export const QUEUES: readonly QueueName[] = ['granted', 'converting', 'blocked'];

/** Which request of this node is under way to the owner. */
export type Pending = 'lock' | 'convert' | 'unlock' | 'cancel';

export class Lock {
  convertMode = IV;
  /** The highest mode that somebody waits for because of this lock; IV when no BAST is due. */
  highestBlocked = IV;
  queue: QueueName | undefined;
  /** Last value block read or put; never changed in place. */
  lvb: Readonly<Uint8Array> = EMPTY_LVB;
  getLvb = false;
  putLvb = false;
  pending: Pending | undefined;
  /** Waiting in the list of ASTs or BASTs to be sent. */
  astQueued = false;
  bastQueued = false;
  /** Whom to tell; only locks of this node. */
  client: LockClient | undefined;

  constructor(readonly resource: Resource, readonly cookie: bigint, readonly node: number, public mode: number) {}
}

/** The user of a lock of this node. */
export interface LockClient {
  ast(): void;
  bast(level: Level): void;
}

export class Resource {
  owner = NO_NODE;
  state = 0;
  granted: Lock[] = [];
  converting: Lock[] = [];
  blocked: Lock[] = [];
  lvb: Readonly<Uint8Array> = EMPTY_LVB;
  /** Who holds a copy; kept by the owner. */
  readonly refmap = new NodeMap();
  /** Users between lookup and lock: it must not go. */
  inflight = 0;
  /** Rounds of asserts under way: a reference that is given back has to wait, it may not have been noted yet. */
  asserting = 0;
  /** Asserts that are to be sent or under way, of those rounds that other nodes caused. */
  assertWorkers = 0;
  /** ASTs, BASTs and assert rounds that must be through before the resource may migrate. */
  reserved = 0;
  /** Wants to migrate as soon as nothing is reserved; nothing new is scheduled meanwhile. */
  migrationPending = false;
  /** Being taken over from a leaving node, which all members are not told yet: if it dies now, nothing has happened. */
  taking: { readonly from: number; aborted: boolean } | undefined;
  dirty = false;
  /** Believed lost, but its owner lived: it has not heard what recovery took for done. */
  claimed = false;
  /** In the table of resources. */
  hashed = false;
  lastUsed = 0;
  readonly changed = new WaitQueue();

  constructor(readonly name: string) {}

  has(bits: number): boolean {
    return (this.state & bits) !== 0;
  }

  get hasLocks(): boolean {
    return this.granted.length + this.converting.length + this.blocked.length > 0;
  }

  *locks(): IterableIterator<Lock> {
    for (const queue of QUEUES) yield* this[queue];
  }

  /** Puts a lock at the end (or the head) of a queue, from wherever it is. */
  move(lock: Lock, queue: QueueName | undefined, head = false): void {
    if (lock.queue !== undefined) {
      const list = this[lock.queue];
      list.splice(list.indexOf(lock), 1);
    }
    lock.queue = queue;
    if (queue === undefined) return;
    if (head) this[queue].unshift(lock);
    else this[queue].push(lock);
  }

  find(cookie: bigint, node?: number): Lock | undefined {
    for (const lock of this.locks()) if (lock.cookie === cookie && (node === undefined || lock.node === node)) return lock;
    return undefined;
  }
}

export type MleKind = 'master' | 'block' | 'migration';

/** A mastery in progress. At most one per name is in the table; one that is out of it may still have a task that looks at it. */
export class Mle {
  /** Members without this node; follows joins and deaths. */
  readonly nodes: NodeMap;
  /** Whom to ask. */
  votes: NodeMap;
  responses = new NodeMap();
  /** Who tries to become master, this node included. */
  maybe = new NodeMap();
  master = NO_NODE;
  newMaster = NO_NODE;
  /** A task waits for it. */
  inUse = false;
  readonly changed = new WaitQueue();

  constructor(public kind: MleKind, readonly name: string, members: NodeMap, local: number) {
    this.nodes = members.copy();
    this.nodes.delete(local);
    this.votes = this.nodes.copy();
  }
}
