/**
 * What this node has with one other: whether it may connect, the connection, and the requests under way
 * (cluster-protocols.md 4.1, 4.4, 4.6; Linux 6.1 fs/ocfs2/cluster/tcp.c:o2net_set_nn_state, o2net_start_connect, o2net_hb_node_up).
 *
 * The state is the kernel's, and changes in `#set` alone:
 * - `link`: there is a connection, or one is being made. At most one; a second is turned away.
 * - `valid`: its handshake was good; then it carries messages. Requests wait while it is not.
 * - `error`: nobody waits, requests fail at once. So at the start, after NODE_DOWN, after a handshake that differs and after the loss of
 *   a valid connection. It ends with NODE_UP, with a new connection, or `idleMs` after it began: then the node is tried anew.
 * - `idle`: the connection was in error because nothing came. If it is lost then, it is tried anew at once.
 *
 * The node with the higher number connects. A connection that ends before it was valid is no error: the other side has not yet seen our
 * heartbeat, and is tried again `reconnectMs` after the last attempt began. The loss of a valid one is: the quorum hears of it, and
 * decides (2 + threshold) beats later who must go if the node beats on. What the node was asked stays open until it is down (severance.ts).
 */
import { CorruptionError, InternalError } from '@lunfs/device';
import type { ClusterNode, Timeouts } from '../config/index.js';
import type { LinkListener, RequestResult, Scheduler } from '../ports.js';
import { disagreement } from './agreement.js';
import { type Frame, type Handshake, Magic, SystemStatus } from './frame.js';
import { Link, type LinkOwner } from './link.js';
import { Outstanding } from './outstanding.js';
import { LOST_NOTHING, LOST_TOO, LUNFS_KEY, LUNFS_TYPE, Severance } from './severance.js';
import type { Socket, Transport } from './transport.js';

/** What happened, for operators. */
export interface NetNotice {
  /** Stable. */
  readonly code: 'CONNECTED' | 'LOST' | 'IDLE' | 'HEARD_AGAIN' | 'REFUSED' | 'PROTOCOL' | 'NO_CONNECTION' | 'TURNED_AWAY' | 'SEVERED';
  /** The other node's number, where it is known. */
  readonly node: number | undefined;
  readonly message: string;
}

/** What a peer needs of the messenger it belongs to. */
export interface PeerWorld {
  readonly local: ClusterNode;
  readonly times: Timeouts;
  readonly scheduler: Scheduler;
  readonly transport: Transport;
  readonly links: LinkListener;
  notice(notice: NetNotice): void;
  /** Bytes of a peer have come in; before they are looked at. */
  arriving(): void;
  /** Whether who sends messages under this key says them again when they are lost. */
  repeats(key: number): boolean;
  /** Messages between the node and this one were lost while both live: this node must begin anew. */
  severed(node: number, reason: string): void;
  /** A message came. `reply` sends its status, once. False: nobody here takes such messages. */
  message(from: number, frame: Frame, reply: (systemStatus: number, status: number) => void): boolean;
}

/** For `lunfs cluster status`. */
export interface PeerStatistics {
  readonly node: number;
  /** `down`: it does not beat, or was given up for now. `connecting`: no connection yet. `idle`: connected, but nothing comes. */
  readonly state: 'down' | 'connecting' | 'connected' | 'idle';
  /** Milliseconds since the connection became valid, since a frame came and since one was sent. */
  readonly connectedFor?: number;
  readonly lastReceived?: number;
  readonly lastSent?: number;
  /** Requests that wait for a connection, and for their status. */
  readonly waiting: number;
  readonly outstanding: number;
  /** Since the start of this node: valid connections, messages we sent and got, requests that ended by loss. */
  readonly connections: number;
  readonly sent: number;
  readonly received: number;
  readonly lost: number;
}

interface Request {
  readonly type: number;
  readonly key: number;
  readonly payload: Uint8Array;
  readonly done: (result: RequestResult) => void;
}

const RESULTS: Record<number, (status: number) => RequestResult> = {
  [SystemStatus.NONE]: (status) => ({ status }),
  [SystemStatus.NO_HANDLER]: () => ({ error: 'no-handler' }),
  [SystemStatus.OVERFLOW]: () => ({ error: 'overflow' }),
};

export class Peer implements LinkOwner {
  readonly #node: ClusterNode;
  readonly #world: PeerWorld;
  #link: Link | undefined;
  #valid = false;
  #error = true;
  #idle = false;
  #lastAttempt = Number.NEGATIVE_INFINITY;
  #cancelConnect: (() => void) | undefined;
  #cancelExpired: (() => void) | undefined;
  #cancelStillUp: (() => void) | undefined;
  #waiting: Request[] = [];
  readonly #outstanding = new Outstanding<Request>();
  readonly #severance: Severance;
  /** The connection has carried messages that nobody says again. */
  #conversed = false;
  #connectedAt = 0;
  /** Why the last attempt to connect failed. */
  #failure: string | undefined;
  readonly #counts = { connections: 0, sent: 0, received: 0, lost: 0 };

  constructor(node: ClusterNode, world: PeerWorld) {
    this.#node = node;
    this.#world = world;
    this.#severance = new Severance(world.scheduler, world.times, node.number > world.local.number);
  }

  get connected(): boolean {
    return this.#valid;
  }

  /** The node beats: it is tried at once, whatever was before. */
  nodeUp(): void {
    this.#lastAttempt = Number.NEGATIVE_INFINITY;
    if (this.#error) this.#set(undefined, false, false);
  }

  /** The node is dead, or we end: the connection goes, requests fail, until the next `nodeUp`. */
  nodeDown(why: string): void {
    this.#idle = false;
    this.#set(undefined, false, true, why);
    for (const cancel of [this.#cancelConnect, this.#cancelExpired, this.#cancelStillUp]) cancel?.();
    this.#cancelConnect = this.#cancelExpired = this.#cancelStillUp = undefined;
    this.#severance.end();
  }

  /** A connection of the node came in. Undefined when there is one already: the caller closes it. */
  accept(socket: Socket): Link | undefined {
    if (this.#link) return undefined;
    const link = new Link(this, this.#world.times, this.#world.scheduler);
    this.#idle = false;
    this.#set(link, false, false);
    link.attach(socket, true);
    return link;
  }

  arriving(): void {
    this.#world.arriving();
  }

  /** See Messenger.request. */
  request(request: Request): void {
    if (this.#heldBack(request.key)) this.#severance.hold(request.done, 'not-connected');
    else if (this.#valid) this.#send(request);
    else if (this.#error) this.#world.scheduler.after(0, () => request.done({ error: 'not-connected' }));
    else this.#waiting.push({ ...request, payload: request.payload.slice() });
  }

  get statistics(): PeerStatistics {
    const now = this.#world.scheduler.now();
    const link = this.#valid ? this.#link : undefined;
    const times = link && { connectedFor: now - this.#connectedAt, lastReceived: now - link.lastReceived, lastSent: now - link.lastSent };
    const state = link ? (this.#idle ? 'idle' : 'connected') : this.#error ? 'down' : 'connecting';
    return { node: this.#node.number, state, ...times, waiting: this.#waiting.length, outstanding: this.#outstanding.size, ...this.#counts };
  }

  handshake(link: Link, handshake: Handshake): void {
    const why = disagreement(handshake, this.#world.times);
    if (why !== undefined) {
      this.#notice('REFUSED', `node ${this.#name} is refused: ${why}`);
      this.#set(undefined, false, true);
      return;
    }
    this.#idle = false;
    link.watch();
    this.#set(link, true, false);
  }

  frame(link: Link, frame: Frame): void {
    if (frame.magic === Magic.STATUS) return this.#status(frame);
    this.#counts.received++;
    let replied = false;
    const taken = this.#world.message(this.#node.number, frame, (systemStatus, status) => {
      if (replied) throw new InternalError('O2NET_REPLY', `message ${frame.type} of node ${this.#node.number} was answered twice`);
      replied = true;
      const { type, pad, key, number } = frame;
      link.send({ magic: Magic.STATUS, type, pad, key, number, systemStatus, status });
    });
    // What nobody takes changes nothing here, and is refused or lost: to the sender that is one. So it is with what was meant for the last incarnation.
    if (taken && !this.#world.repeats(frame.key)) this.#conversed = true;
  }

  active(): void {
    if (!this.#idle) return;
    this.#idle = false;
    this.#cancelStillUp?.();
    this.#cancelStillUp = undefined;
    this.#notice('HEARD_AGAIN', `node ${this.#name} is heard again`);
    this.#world.links.connUp(this.#node.number);
  }

  idle(_link: Link, idle: number): void {
    this.#idle = true;
    this.#notice('IDLE', `node ${this.#name} has not been heard for ${(idle / 1000).toFixed(1)} s; the connection is kept`);
    this.#connError();
  }

  ended(_link: Link, reason: string, violation: boolean): void {
    if (violation) this.#notice('PROTOCOL', `the connection to node ${this.#name} is closed: ${reason}`);
    if (!this.#valid) this.#failure = reason;
    this.#set(undefined, false, false, reason);
  }

  get #name(): string {
    const { number, name, address, port } = this.#node;
    return `${name} (${number}, ${address}:${port})`;
  }

  #notice(code: NetNotice['code'], message: string): void {
    this.#world.notice({ code, node: this.#node.number, message });
  }

  /** The one place where the state changes, and where others learn of it. `error` may be false: the loss of a valid connection always is one. */
  #set(link: Link | undefined, valid: boolean, error: boolean, reason = ''): void {
    const old = { link: this.#link, valid: this.#valid, error: this.#error };
    const lost = old.valid && !valid;
    this.#link = link;
    this.#valid = valid;
    this.#error = error || lost;
    if (old.link !== link) old.link?.close();
    if (lost) {
      this.#notice('LOST', `no longer connected to node ${this.#name}: ${reason}`);
      this.#connError();
      const requests = this.#outstanding.drain();
      this.#counts.lost += requests.length;
      this.#severance.lost(this.#conversed);
      for (const { key, done } of requests) {
        if (this.#heldBack(key)) this.#severance.hold(done, 'host-down');
        else done({ error: 'host-down' });
      }
    }
    if (valid && !old.valid) this.#becameValid();
    else if (!valid) this.#tryLater();
    // Those told above may have changed the state again.
    if (this.#error) for (const { done } of this.#waiting.splice(0)) done({ error: 'not-connected' });
  }

  #becameValid(): void {
    this.#connectedAt = this.#world.scheduler.now();
    this.#counts.connections++;
    this.#failure = undefined;
    this.#conversed = false;
    for (const cancel of [this.#cancelExpired, this.#cancelStillUp]) cancel?.();
    this.#cancelExpired = this.#cancelStillUp = undefined;
    this.#notice('CONNECTED', `${this.#connects ? 'connected to' : 'accepted a connection of'} node ${this.#name}`);
    this.#world.links.connUp(this.#node.number);
    if (this.#severance.severed) this.#settle();
    for (const request of this.#waiting.splice(0)) this.request(request);
  }

  /** Messages were lost before this connection: who begins anew? */
  #settle(): void {
    this.#severance.restored((answer) => {
      this.#send({ type: LUNFS_TYPE, key: LUNFS_KEY, payload: new Uint8Array(0), done: answer });
    }, (verdict) => {
      const what = `messages between node ${this.#name} and this one were lost with their connection, and both live`;
      this.#notice('SEVERED', `${what}: ${verdict === 'we' ? 'this' : 'that'} node begins anew`);
      if (verdict === 'we') this.#world.severed(this.#node.number, what);
    });
  }

  /** Whether requests under a key end with the node only: messages were lost, and who sends these does not say them again. */
  #heldBack(key: number): boolean {
    return this.#severance.severed && !this.#world.repeats(key);
  }

  /** What a lunfs node that asks is answered. */
  get lostWithIt(): number {
    return this.#severance.severed ? LOST_TOO : LOST_NOTHING;
  }

  #connError(): void {
    const { links, scheduler, times } = this.#world;
    links.connError(this.#node.number);
    this.#cancelStillUp ??= scheduler.after(times.quorumMs, () => {
      this.#cancelStillUp = undefined;
      links.stillUp(this.#node.number);
    });
  }

  /** Whether it is we who connect. */
  get #connects(): boolean {
    return this.#world.local.number > this.#node.number;
  }

  #tryLater(): void {
    const { scheduler, times } = this.#world;
    const wait = this.#lastAttempt + times.reconnectMs - scheduler.now();
    this.#cancelConnect ??= scheduler.after(Math.max(wait, 0), () => {
      this.#cancelConnect = undefined;
      this.#connect();
    });
    this.#cancelExpired ??= scheduler.after(Math.max(wait, 0) + times.idleMs, () => {
      this.#cancelExpired = undefined;
      const why = this.#failure === undefined ? '' : ` (the last attempt: ${this.#failure})`;
      this.#notice('NO_CONNECTION', `no connection with node ${this.#name} for ${times.idleMs / 1000} s${why}; check network, firewall and cluster configuration`);
      this.#set(undefined, false, false);
    });
  }

  #connect(): void {
    if (!this.#connects || this.#link || (this.#error && !this.#idle)) return;
    const { local, scheduler, times, transport } = this.#world;
    this.#lastAttempt = scheduler.now();
    const link = new Link(this, times, scheduler);
    this.#set(link, false, false);
    link.attach(transport.connect(local.address, this.#node, link), false);
  }

  #send(request: Request): void {
    const { type, key, payload } = request;
    this.#counts.sent++;
    if (!this.#world.repeats(key)) this.#conversed = true;
    this.#link?.send({ magic: Magic.MESSAGE, type, key, number: this.#outstanding.add(request), payload });
  }

  #status(frame: Frame): void {
    const request = this.#outstanding.get(frame.number);
    // The kernel ignores a status that nobody waits for, too.
    if (!request) return;
    if (frame.type !== request.type || frame.key !== request.key) {
      throw new CorruptionError('O2NET_STATUS', `a status says it is of message ${frame.type} under key ${frame.key}, but its number is that of message ${request.type} under key ${request.key}`, { number: frame.number });
    }
    const result = RESULTS[frame.systemStatus];
    if (!result) throw new CorruptionError('O2NET_STATUS', `the status of message ${frame.type} has the system status ${frame.systemStatus}, which does not exist`, { number: frame.number });
    this.#outstanding.delete(frame.number);
    request.done(result(frame.status));
  }
}
