/**
 * What the rooms of this package ask of each other and of the world. Cores are built on these ports alone: they do no I/O, read no
 * clock and roll no dice, so the simulator runs whole clusters of them in one thread (docs/design.md, rule 5). Everything is by
 * callback, in one thread, in a defined order: a promise would put its continuation behind other events.
 */
import type { NodeMap } from './node-map.js';

/** Time, in whole or fractional milliseconds that never go back. */
export interface Scheduler {
  now(): number;
  /** Calls `fn` once, `ms` from now, never within this call. Returns what takes it back; harmless when it is too late. */
  after(ms: number, fn: () => void): () => void;
}

/**
 * Who lives, as the disk heartbeat has decided (cluster-protocols.md 2.4, 2.5). One event is told to all listeners before the next
 * one is looked at, those with the smaller `order` first: at a death the network goes before the lock manager learns of it.
 */
export interface Membership {
  /** This node's number. */
  readonly local: number;
  /** Nodes alive now, this one included while it beats. Live view: it changes before the listeners of the change are called. */
  readonly live: NodeMap;
  /** Returns what ends the subscription. */
  subscribe(order: number, listener: MembershipListener): () => void;
}

/** Places in the order of listeners. The quorum hears of a beat before o2net connects, and of a death before it disconnects. */
export const ORDER_QUORUM = 0;
export const ORDER_NET = 1;
export const ORDER_DLM = 10;

export interface MembershipListener {
  /** Configured nodes only. The local node is told of too. */
  nodeUp(node: number): void;
  nodeDown(node: number): void;
}

/**
 * Doubt about who lives. Nodes count beats each for itself; of two, one may take a third for dead up to an interval before the other does, and
 * grant what the dead one held. Linux has this window; who heeds the doubt does not (docs/fencing.md).
 */
export interface Suspicion {
  /** Nodes alive here that another node may have taken for dead already. Live view: it changes before the listeners are called. */
  readonly suspects: NodeMap;
  /** Calls `listener` after each change. Returns what ends that. */
  onSuspicion(listener: () => void): () => void;
}

/**
 * What o2net tells the quorum of connections (cluster-protocols.md 3). Each is called in the event that causes it.
 * Linux 6.1 fs/ocfs2/cluster/quorum.c: o2quo_conn_up, o2quo_conn_err, o2quo_hb_still_up.
 */
export interface LinkListener {
  /** Messages can be exchanged with the node, or it is heard again after it was idle. For the local node: o2net is running. */
  connUp(node: number): void;
  /** The connection was lost or is idle. May come again without `connUp` between. For the local node: o2net has ended. */
  connError(node: number): void;
  /** The node beats on although its connection has been in error for (dead threshold + 2) beats. */
  stillUp(node: number): void;
}

/** How a request to another node ended. */
export type RequestResult =
  /** Its handler ran: the value it returned, signed 32 bits. What it means depends on the message. */
  | { readonly status: number }
  /** `no-handler`, `overflow`: the peer said so. `host-down`: the node died, or this one left, while it waited. `not-connected`: never sent. */
  | { readonly error: 'no-handler' | 'overflow' | 'host-down' | 'not-connected' };

/**
 * A handler of a message. `payload` is the callee's to keep. `reply` must be called exactly once, in the call or later, with a signed
 * 32-bit value, or `no-handler` if it turns out that nobody is there to handle it; what is done after it happens after the status is on
 * its way, before the next message of the same peer is handled only if it is done in the call. A payload that can't be what it should be
 * is answered by throwing CorruptionError in the call instead: the connection it came by is closed with that message.
 */
export type MessageHandler = (from: number, payload: Uint8Array, reply: (status: number | 'no-handler') => void) => void;

/** What the lock manager and the heartbeat's negotiation ask of o2net. */
export interface Messenger {
  /**
   * Send a request. Requests to one node arrive in the order of the calls; a request waits while no connection stands and the node is
   * alive. `done` is called exactly once, never within this call; when the connection is lost and the node lives on, not before it is down.
   * `payload` (at most 4072 bytes) is copied or sent before it returns.
   */
  request(node: number, type: number, key: number, payload: Uint8Array, done: (result: RequestResult) => void): void;
  /**
   * Handle a message type under a key (unsigned 32 bits). Longer payloads than `maxLength` are answered `overflow`. Returns what ends it;
   * then the peer gets `no-handler`. One handler per key and type: a second one is an internal error.
   * `repeated`: who sends messages under this key says them again when they are lost, so a connection lost with one of them has lost nothing.
   */
  handle(key: number, type: number, maxLength: number, handler: MessageHandler, repeated?: boolean): () => void;
}
