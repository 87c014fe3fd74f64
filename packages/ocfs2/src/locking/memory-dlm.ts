/**
 * A Dlm for several nodes in one process: one master with o2dlm's queues and grant rules (cluster-protocols.md 5.9 to 5.11).
 * For tests and the simulator; what HostileDlm is built on.
 *
 * A node dies (`kill`): its locks are taken out of all queues, and where it held EX the value block goes with it, as o2dlm's
 * recovery does (Linux 6.1 fs/ocfs2/dlm/dlmrecovery.c:dlm_free_dead_locks, dlm_revalidate_lvb). It hears nothing any more.
 *
 * Events are delivered later and one by one, never from within a call, in the order they arose for each lock; in which
 * order across locks is the caller's choice (`pick`), so that a seed can explore it.
 */
import { InternalError } from '@lunfs/device';
import { type Dlm, type DlmEvents, type DlmLock, type DlmRequest, LVB_SIZE, compatible } from './dlm.js';
import { EX, type LockLevel, NL } from './levels.js';

export interface MemoryDlmOptions {
  /** Run later. Default: queueMicrotask. */
  readonly defer?: (fn: () => void) => void;
  /** Which of `n` locks with events gets its next one: 0 .. n-1. Default: the one waiting longest. */
  readonly pick?: (n: number) => number;
}

class Held {
  /** Granted level. */
  level: LockLevel = NL;
  /** Level asked for, while on the converting or blocked queue. */
  target: LockLevel = NL;
  state: 'granted' | 'converting' | 'blocked' | 'gone' = 'gone';
  /** LVB that comes with the request under way. */
  lvb: Uint8Array | undefined;
  readonly inbox: (() => void)[] = [];
  /** Its node is dead. */
  killed = false;
  constructor(readonly resource: Resource, readonly events: DlmEvents, readonly node: number) {}
}

/** One lock resource with its three queues. */
class Resource {
  granted: Held[] = [];
  converting: Held[] = [];
  blocked: Held[] = [];
  lvb: Uint8Array = new Uint8Array(LVB_SIZE);
  constructor(readonly name: string) {}

  get empty(): boolean {
    return this.granted.length + this.converting.length + this.blocked.length === 0;
  }
}

export class MemoryDlm implements Dlm {
  readonly #resources = new Map<string, Resource>();
  readonly #dead = new Set<number>();
  #ready: Held[] = [];
  readonly #defer: (fn: () => void) => void;
  readonly #pick: (n: number) => number;

  constructor(options: MemoryDlmOptions = {}) {
    this.#defer = options.defer ?? queueMicrotask;
    this.#pick = options.pick ?? (() => 0);
  }

  /** The lock manager as one node has it. */
  node(node: number): Dlm {
    this.#dead.delete(node);
    return { lock: (name, level, events, request) => this.#lock(name, level, events, request ?? {}, node) };
  }

  /** A node is gone, as if its host had lost power. Call `node` again for its next life. */
  kill(node: number): void {
    this.#dead.add(node);
    for (const resource of [...this.#resources.values()]) {
      const all = [...resource.granted, ...resource.converting, ...resource.blocked].filter((lock) => lock.node === node);
      if (all.length === 0) continue;
      if (all.some((lock) => lock.level === EX)) resource.lvb = new Uint8Array(LVB_SIZE);
      for (const lock of all) {
        lock.state = 'gone';
        lock.killed = true;
        lock.inbox.length = 0;
        for (const queue of [resource.granted, resource.converting, resource.blocked]) remove(queue, lock);
      }
      this.#pump(resource);
      this.#forget(resource);
    }
  }

  /** Locks that a node has, at any level. */
  locksOf(node: number): number {
    let count = 0;
    for (const { granted, converting, blocked } of this.#resources.values()) count += [...granted, ...converting, ...blocked].filter((lock) => lock.node === node).length;
    return count;
  }

  /** As a node that never dies. */
  lock(name: string, level: LockLevel, events: DlmEvents, request: DlmRequest = {}): DlmLock {
    return this.#lock(name, level, events, request, -1);
  }

  #lock(name: string, level: LockLevel, events: DlmEvents, request: DlmRequest, node: number): DlmLock {
    if (this.#dead.has(node)) return DEAD;
    let resource = this.#resources.get(name);
    if (resource === undefined) this.#resources.set(name, (resource = new Resource(name)));
    const lock = new Held(resource, events, node);
    lock.target = level;
    if (request.trylock && !this.#grantable(lock, level, true)) {
      this.#tell(lock, () => events.ast('again', new Uint8Array(LVB_SIZE)));
      this.#forget(resource);
    } else if (level === NL) this.#grant(lock); // in nobody's way, so there is no queue for it
    else {
      lock.state = 'blocked';
      resource.blocked.push(lock);
      this.#pump(resource);
    }
    return {
      convert: (to, options) => this.#convert(lock, to, options ?? {}),
      cancel: () => this.#cancel(lock),
      unlock: (lvb) => this.#unlock(lock, lvb),
    };
  }

  #convert(lock: Held, to: LockLevel, { trylock, lvb }: DlmRequest): void {
    const { resource } = lock;
    if (this.#gone(lock)) return;
    this.#want(lock, 'granted', 'convert');
    if (lvb !== undefined && lock.level !== EX) throw new InternalError('DLM_LVB', `lock ${resource.name}: a value block is put from level ${lock.level}`);
    lock.target = to;
    lock.lvb = lvb;
    if (to > lock.level && trylock && !this.#grantable(lock, to, true)) {
      this.#tell(lock, () => lock.events.ast('again', new Uint8Array(LVB_SIZE)));
      return;
    }
    remove(resource.granted, lock);
    if (to <= lock.level) this.#grant(lock);
    else {
      lock.state = 'converting';
      resource.converting.push(lock);
    }
    this.#pump(resource);
  }

  #cancel(lock: Held): void {
    const { resource } = lock;
    if (this.#gone(lock)) return;
    if (lock.state === 'converting') {
      remove(resource.converting, lock);
      lock.state = 'granted';
      resource.granted.push(lock);
    } else if (lock.state === 'blocked') {
      remove(resource.blocked, lock);
      lock.state = 'gone';
    } else return; // too late: the grant is on its way
    this.#tell(lock, () => lock.events.ast('cancelled', new Uint8Array(LVB_SIZE)));
    this.#pump(resource);
    this.#forget(resource);
  }

  #unlock(lock: Held, lvb: Uint8Array | undefined): void {
    const { resource } = lock;
    if (this.#gone(lock)) return;
    this.#want(lock, 'granted', 'unlock');
    if (lvb !== undefined && lock.level === EX) resource.lvb = lvb.slice();
    remove(resource.granted, lock);
    lock.state = 'gone';
    lock.inbox.length = 0;
    this.#pump(resource);
    this.#forget(resource);
  }

  /** A dead node goes on for a moment without knowing; nobody listens. Its next life has locks of its own. */
  #gone(lock: Held): boolean {
    return lock.state === 'gone' && lock.killed;
  }

  #want(lock: Held, state: Held['state'], call: string): void {
    if (lock.state !== state) throw new InternalError('DLM_STATE', `lock ${lock.resource.name}: ${call} while it is ${lock.state}`);
  }

  /** Nobody else is in the way. `strict`: not even one that waits for a convert (grants in place, without queueing). */
  #grantable(lock: Held, level: LockLevel, strict: boolean): boolean {
    const { granted, converting, blocked } = lock.resource;
    if (strict && lock.state === 'gone' && blocked.length + converting.length > 0) return false;
    return [...granted, ...converting].every((other) => other === lock || (compatible(other.level, level) && (!strict || other.state !== 'converting' || compatible(other.target, level))));
  }

  /** The master's round: grant what can be granted from the heads of the queues, tell those in the way of the rest. */
  #pump(resource: Resource): void {
    const { converting, blocked } = resource;
    for (;;) {
      const convert = converting.at(0);
      if (convert !== undefined && this.#grantable(convert, convert.target, false)) {
        converting.shift();
        this.#grant(convert);
        continue;
      }
      const fresh = blocked.at(0);
      if (fresh !== undefined && convert === undefined && this.#grantable(fresh, fresh.target, false)) {
        blocked.shift();
        this.#grant(fresh);
        continue;
      }
      for (const waiting of [convert, fresh]) if (waiting !== undefined) this.#tellThoseInTheWay(waiting);
      return;
    }
  }

  #tellThoseInTheWay(waiting: Held): void {
    const { granted, converting } = waiting.resource;
    for (const other of [...granted, ...converting]) {
      if (other !== waiting && !compatible(other.level, waiting.target)) this.#tell(other, () => other.events.bast(waiting.target));
    }
  }

  #grant(lock: Held): void {
    const { resource } = lock;
    if (lock.lvb !== undefined) resource.lvb = lock.lvb.slice();
    lock.lvb = undefined;
    lock.level = lock.target;
    lock.state = 'granted';
    resource.granted.push(lock);
    const lvb = resource.lvb.slice();
    this.#tell(lock, () => lock.events.ast('granted', lvb));
  }

  #forget(resource: Resource): void {
    if (resource.empty && this.#resources.get(resource.name) === resource) this.#resources.delete(resource.name);
  }

  /** Deliver an event, later and after those the lock has still to get. */
  #tell(lock: Held, event: () => void): void {
    lock.inbox.push(event);
    this.#ready.push(lock);
    this.#defer(() => {
      const at = this.#pick(this.#ready.length);
      const [next] = this.#ready.splice(at, 1);
      next.inbox.shift()?.();
    });
  }
}

const DEAD: DlmLock = { convert: () => undefined, cancel: () => undefined, unlock: () => undefined };

function remove(queue: Held[], lock: Held): void {
  const at = queue.indexOf(lock);
  if (at >= 0) queue.splice(at, 1);
}
