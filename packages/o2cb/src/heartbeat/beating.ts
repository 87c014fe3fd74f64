/**
 * What one region's loop does over and over: an iteration of the region, the deadline renewed by it, and a report of both. A core: whoever
 * drives it (a thread with blocking calls, `thread.ts`; a simulation) performs the reads and writes it asks for, waits until two seconds
 * after an iteration began, and begins the next. `drive` shows how.
 */
import type { ClusterNode } from '../config/cluster-conf.js';
import { CLOCK_JUMP_MS, HEARTBEAT_MS, type Timeouts } from '../config/timeouts.js';
import type { NodeMap } from '../node-map.js';
import type { HeartbeatBlock } from './block.js';
import type { FenceDeadline } from './fence-deadline.js';
import { type LiveCounts, REGION_BLOCKS, Region, type RegionRequest, type RegionState, type RegionWarning } from './region.js';

/** Milliseconds each. */
export interface HeartbeatClock {
  monotonic(): number;
  /** Since 1970. */
  wall(): number;
  /** Like `monotonic`, but goes on while the host is suspended. May be coarse. */
  boot(): number;
}

export interface BeatingOptions {
  readonly node: ClusterNode['number'];
  readonly blockBytes: number;
  readonly timeouts: Timeouts;
  readonly generation: bigint;
  readonly firstGlobal: boolean;
  /** Local heartbeat: the fence stands on this region as soon as it is steady. (With global heartbeat somebody else says when.) */
  readonly counts: boolean;
  /** Its place in the fence. */
  readonly index: number;
  readonly fence: FenceDeadline;
  readonly live: LiveCounts;
  readonly configured: () => NodeMap;
  readonly clock: HeartbeatClock;
  readonly report: (report: RegionReport) => void;
}

export type RegionReport =
  | { readonly kind: 'up' | 'down'; readonly node: number }
  | { readonly kind: 'warning'; readonly warning: RegionWarning; readonly node: number; readonly block: HeartbeatBlock }
  /** An iteration of `ms` is over. `good`: the fence was renewed if the region counts. `silent`: samples since each live node's last change; `unsure`: who may only hang; `suspects`, `looked`: Region's. */
  | { readonly kind: 'beat'; readonly state: RegionState; readonly good: boolean; readonly ms: number; readonly silent: readonly (readonly [node: number, samples: number])[]; readonly unsure: readonly number[]; readonly suspects: readonly number[]; readonly looked: number; readonly failed?: string }
  /** The host was suspended for so long. */
  | { readonly kind: 'slept'; readonly ms: number }
  /** The loop has ended: after a goodbye; because it was told to without one; the incarnation being lost; for what the state says; an error. */
  | { readonly kind: 'ended'; readonly why: 'left' | 'stopped' | 'lost' | 'taken' | 'unstable' | 'failed'; readonly failed?: string };

export class Beating {
  readonly #options: BeatingOptions;
  readonly #region: Region;
  #asleep: number;

  constructor(options: BeatingOptions) {
    this.#options = options;
    const { report, clock, timeouts } = options;
    this.#asleep = clock.boot() - clock.monotonic();
    this.#region = new Region({ ...options, threshold: timeouts.threshold }, {
      up: (node) => report({ kind: 'up', node }),
      down: (node) => report({ kind: 'down', node }),
      warning: (warning, node, block) => report({ kind: 'warning', warning, node, block }),
    });
  }

  /** Before the first iteration: the whole region is read. */
  *begin(): Generator<RegionRequest, void, Uint8Array | undefined> {
    this.#region.populate((yield { op: 'read', first: 0, count: REGION_BLOCKS })!);
  }

  /** One iteration. True: another one is to follow; false: `ended` was reported. */
  *iterate(): Generator<RegionRequest, boolean, Uint8Array | undefined> {
    const { clock, fence, index, report, timeouts, counts } = this.#options;
    const begun = clock.monotonic();
    const beat = this.#region.beat(BigInt(Math.floor(clock.wall() / 1000)), begun);
    let sampled = begun;
    let submitted = begun;
    let skew = 0;
    let step = beat.next();
    while (step.done !== true) {
      if (step.value.op === 'read') sampled = clock.monotonic();
      else {
        submitted = clock.monotonic();
        skew = clock.wall() - submitted;
      }
      try {
        const bytes = yield step.value;
        step = beat.next(bytes);
      } catch (error) {
        step = beat.throw(error);
      }
    }
    this.#slept();
    const { good, stranger, error } = step.value;
    const { state } = this.#region;
    if (state === 'taken' || state === 'unstable') {
      this.#downAll();
      return this.#ended(state);
    }
    const now = clock.monotonic();
    // All nodes that lived hung with us, and nobody counted our silence; but one who came meanwhile may not know that we live.
    const parked = fence.parked(now);
    if (parked && stranger) fence.lose();
    // Nobody comes in less than two intervals. A beat that took longer does not end a parking: the next looks who is there.
    if (good && !(parked && now - sampled >= 2 * HEARTBEAT_MS)) {
      if (counts && state === 'steady') fence.count(index);
      fence.renew(index, submitted, timeouts, skew, now);
    }
    // Too late is too late: a peer may already have begun to recover what we held.
    if (fence.lapsed(now)) return this.#ended('lost');
    report({ kind: 'beat', state, good, ms: now - begun, silent: this.#region.silent(), unsure: this.#region.unsure(), suspects: this.#region.suspects(now), looked: this.#region.looked, ...(error === undefined ? {} : { failed: messageOf(error) }) });
    return true;
  }

  /** Leave in good order. */
  *leave(): Generator<RegionRequest, void, Uint8Array | undefined> {
    const { clock, node } = this.#options;
    const block = this.#region.leave(BigInt(Math.floor(clock.wall() / 1000)));
    if (block) yield { op: 'write', node, block };
    this.#ended('left');
  }

  #downAll(): void {
    this.#region.leave(0n);
  }

  #ended(why: 'left' | 'lost' | 'taken' | 'unstable'): boolean {
    this.#options.report({ kind: 'ended', why });
    return false;
  }

  /** The monotonic clock, by which the deadline is kept, stands still in suspend. */
  #slept(): void {
    const { clock, fence, report } = this.#options;
    const asleep = clock.boot() - clock.monotonic();
    const ms = asleep - this.#asleep;
    this.#asleep = asleep;
    if (ms <= CLOCK_JUMP_MS) return;
    fence.slept(ms);
    report({ kind: 'slept', ms });
  }
}

/** Runs what asks for reads and writes by calls that block. The deadline's cells say while one is under way. */
export function drive<T>(
  asks: Generator<RegionRequest, T, Uint8Array | undefined>,
  perform: (request: RegionRequest) => Uint8Array | undefined,
): T {
  let step = asks.next();
  while (step.done !== true) {
    let bytes: Uint8Array | undefined;
    try {
      bytes = perform(step.value);
    } catch (error) {
      step = asks.throw(error);
      continue;
    }
    step = asks.next(bytes);
  }
  return step.value;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
