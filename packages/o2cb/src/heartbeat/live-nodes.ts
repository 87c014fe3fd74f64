/**
 * Who lives, from what the regions say: a node is up while it is live in one of them at least (Linux 6.1 fs/ocfs2/cluster/heartbeat.c:
 * o2hb_live_slots, o2hb_run_event_list).
 */
import { MAX_NODES, NodeMap } from '../node-map.js';
import type { Membership, MembershipListener } from '../ports.js';
import type { LiveCounts } from './region.js';

/** In how many regions each node is live; in memory that the regions' threads share. */
export class SharedLiveCounts implements LiveCounts {
  readonly memory: SharedArrayBuffer;
  readonly #counts: Int32Array;

  /** Without `memory` all zero. */
  constructor(memory?: SharedArrayBuffer) {
    this.memory = memory ?? new SharedArrayBuffer(4 * MAX_NODES);
    this.#counts = new Int32Array(this.memory);
  }

  enter(node: number): boolean {
    return Atomics.add(this.#counts, node, 1) === 0;
  }

  leave(node: number): boolean {
    return Atomics.sub(this.#counts, node, 1) === 1;
  }

  has(node: number): boolean {
    return Atomics.load(this.#counts, node) > 0;
  }
}

/** The membership as it is told to listeners: one event after the other, each to all of them in their order. */
export class LiveNodes implements Membership {
  readonly live = new NodeMap();
  readonly #regions = new Array<number>(MAX_NODES).fill(0);
  #listeners: { readonly order: number; readonly listener: MembershipListener }[] = [];
  readonly #events: { readonly node: number; readonly up: boolean }[] = [];
  #telling = false;

  constructor(readonly local: number) {}

  subscribe(order: number, listener: MembershipListener): () => void {
    const entry = { order, listener };
    // Behind those of its order, as the kernel's list has them.
    const at = this.#listeners.findIndex((one) => one.order > order);
    this.#listeners = this.#listeners.toSpliced(at < 0 ? this.#listeners.length : at, 0, entry);
    return () => {
      this.#listeners = this.#listeners.filter((one) => one !== entry);
    };
  }

  /** A node is live in one more region. */
  up(node: number): void {
    if (++this.#regions[node] === 1) this.#tell(node, true);
  }

  /** In one less. */
  down(node: number): void {
    if (--this.#regions[node] === 0) this.#tell(node, false);
  }

  #tell(node: number, up: boolean): void {
    this.#events.push({ node, up });
    if (this.#telling) return;
    this.#telling = true;
    try {
      for (let event = this.#events.shift(); event !== undefined; event = this.#events.shift()) {
        if (event.up) this.live.add(event.node);
        else this.live.delete(event.node);
        // Those who subscribe meanwhile hear of the next event first.
        for (const { listener } of this.#listeners) {
          if (event.up) listener.nodeUp(event.node);
          else listener.nodeDown(event.node);
        }
      }
    } finally {
      this.#telling = false;
    }
  }
}
