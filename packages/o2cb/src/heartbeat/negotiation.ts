/**
 * A write that hangs is negotiated about: when those of *all* nodes hang, the storage is down for everybody, nobody can take anybody
 * for dead, and nobody need be lost (Linux 6.1 fs/ocfs2/cluster/heartbeat.c:o2hb_nego_timeout; cluster-protocols.md 2.7).
 *
 * After half of the write timeout without a good beat each node tells the lowest living one; when that one hangs itself and has heard of
 * all, it approves, and kernel nodes begin their timeout anew. That is more than an approval proves. It says that the iteration of each
 * node alive then has hung for half of the timeout, in which it looked at our slot once; not that it goes on hanging: a node that is served
 * a moment later goes on counting where it was. And it says nothing of nodes that came meanwhile. So with us
 *  - I/O is parked all the same when its time is over; an approval only moves the moment at which we are lost, by the half minus the two
 *    intervals at its ends (`approvalMs`). With default times some four minutes of a LUN that serves nobody are lived through;
 *  - a node alone in the cluster has nobody who counts, and waits for as long as it takes;
 *  - the first beat after that parking lets I/O go on only when nobody has beaten meanwhile who was not alive before (`Beat.stranger`).
 */
import { HEARTBEAT_MS, NEGOTIATE_RECHECK_MS, type Timeouts } from '../config/timeouts.js';
import { MAX_NODES, NodeMap } from '../node-map.js';
import type { Membership, MessageHandler, Messenger, Scheduler } from '../ports.js';
import type { FenceDeadline } from './fence-deadline.js';

const NEGO_TIMEOUT = 1;
const NEGO_APPROVE = 2;

export interface NegotiationOptions {
  readonly membership: Membership;
  readonly scheduler: Scheduler;
  readonly timeouts: Timeouts;
  /** The region's deadline, and its place in it. */
  readonly fence: FenceDeadline;
  readonly index: number;
  /** `regionKey` of the region. */
  readonly key: number;
  /** An approval has moved the loss. */
  readonly approved: () => void;
}

/** The negotiation of one region. */
export class Negotiation {
  readonly #options: NegotiationOptions;
  /** Nodes whose writes hang, as they told us: we are asked when we are the lowest. */
  readonly #hanging = new NodeMap();
  #messenger?: Messenger;
  #unhandle: (() => void)[] = [];
  #cancel?: () => void;

  constructor(options: NegotiationOptions) {
    this.#options = options;
  }

  /** Messages can be sent and are answered from now on. */
  attach(messenger: Messenger): void {
    this.#messenger = messenger;
    const { key } = this.#options;
    this.#unhandle = [messenger.handle(key, NEGO_TIMEOUT, 1, this.#onTimeout, true), messenger.handle(key, NEGO_APPROVE, 1, this.#onApprove, true)];
  }

  /** A good beat, or an approval: everything begins anew. */
  restart(): void {
    this.#hanging.clear();
    this.#after(this.#options.timeouts.negotiateMs);
  }

  stop(): void {
    this.#cancel?.();
    for (const end of this.#unhandle) end();
    this.#unhandle = [];
    this.#messenger = undefined;
  }

  #after(ms: number): void {
    this.#cancel?.();
    this.#cancel = this.#options.scheduler.after(ms, () => this.#due());
  }

  /**
   * True: a request to the device has hung for so long that we have looked at nobody's slot meanwhile. Beats that fail, or find
   * another's in our slot, are no reason to negotiate.
   */
  #hangs(): boolean {
    const { fence, index, timeouts, scheduler } = this.#options;
    return fence.silence(index, scheduler.now()).hanging >= timeouts.negotiateMs - 2 * HEARTBEAT_MS;
  }

  #due(): void {
    const { membership, timeouts, scheduler, fence, index } = this.#options;
    const { sinceGood } = fence.silence(index, scheduler.now());
    // The news of a good beat may be behind this timer in the queue of a thread that was held up.
    if (sinceGood < timeouts.negotiateMs) return this.#after(timeouts.negotiateMs - sinceGood);
    this.#after(NEGOTIATE_RECHECK_MS);
    if (!this.#hangs()) return;
    const { local } = membership;
    const live = membership.live.copy();
    const master = live.lowest;
    if (master === undefined) return;
    if (master !== local) {
      this.#send(NEGO_TIMEOUT, master);
      // The kernel tells once per timeout; the master's answer, or the next good beat, comes first.
      return this.#after(timeouts.negotiateMs);
    }
    this.#hanging.add(local);
    if (!this.#hanging.equals(live)) return;
    this.#extend(live.size === 1);
    for (const node of live) if (node !== local) this.#send(NEGO_APPROVE, node);
  }

  #extend(alone: boolean): void {
    const { fence, index, timeouts, scheduler, approved } = this.#options;
    if (fence.extend(index, alone ? timeouts.negotiateMs + HEARTBEAT_MS : timeouts.approvalMs, scheduler.now())) approved();
    this.restart();
  }

  #send(type: number, node: number): void {
    this.#messenger?.request(node, type, this.#options.key, new Uint8Array([this.#options.membership.local]), () => undefined);
  }

  readonly #onTimeout: MessageHandler = (from, payload, reply) => {
    if (payload[0] === from && from < MAX_NODES) this.#hanging.add(from);
    reply(0);
  };

  readonly #onApprove: MessageHandler = (from, _payload, reply) => {
    reply(0);
    // Proof only for one who hangs, and only from the one who counted.
    if (this.#hangs() && from === this.#options.membership.live.lowest) this.#extend(false);
  };
}
