/**
 * Until when this node may submit I/O, in memory that the heartbeat threads write and everybody reads: the face between the heartbeat and the
 * I/O fence (docs/fencing.md). lunfsd hands each new `grant` to its volume processes; their gates compare it with the clock.
 *
 * Two moments follow the submission of a good beat, one that succeeded and found its own slot intact. Until `fenceMs` after it I/O may be
 * submitted; then it is parked. Until `lossMs` after it nobody can have taken this node for dead, so another good beat lets it go on; then the
 * incarnation is lost. Negotiations (`negotiation.ts`) move the second moment alone.
 *
 * They stand on regions: one with local heartbeat (a volume's own), all quorum regions of the node with global heartbeat. Half of those
 * or more must be in time (Linux 6.1 fs/ocfs2/cluster/heartbeat.c:o2hb_write_timeout fences when twice the failed ones reach
 * the number of regions), so each moment is that of the region with which this is no longer so.
 *
 * Invariants
 *  - Counted from the *submission*: a peer may see the beat, and begin to count our silence, at once.
 *  - Lost is lost: a beat that completes too late gives nothing back, for a peer may already recover us. What goes on then is another
 *    incarnation.
 *  - A region's moments only move forward, but for time that the host spent suspended, in which the monotonic clock stands still.
 */
import { MAX_REGIONS } from '../config/cluster-conf.js';
import type { Timeouts } from '../config/timeouts.js';

const LOST = 0; // index of a cell: non-zero once the incarnation is over
const REGIONS = 1; // first of the regions' cells, six each; times in µs of the monotonic clock, 0: none
const UNTIL = 0; // I/O is parked
const SKEW = 1; // wall clock minus monotonic one
const GOOD = 2; // submission of the last good beat
const BUSY = 3; // submission of the request that is under way
const COUNTS = 4; // 1: the moments stand on it
const LOSS = 5; // it is too late for another beat
const REGION_CELLS = 6;
const CELLS = REGIONS + REGION_CELLS * MAX_REGIONS;

/** I/O may be submitted before this moment, told by both clocks: both must agree. Milliseconds. */
export interface FenceGrant {
  readonly monotonic: number;
  readonly wall: number;
}

export type FenceState =
  /** No beat has been good enough yet: nothing may be submitted. */
  | 'unarmed'
  | 'armed'
  /** For ever. */
  | 'lost';

export class FenceDeadline {
  /** What to give another thread, which makes its own FenceDeadline of it. */
  readonly memory: SharedArrayBuffer;
  readonly #cells: BigInt64Array;

  constructor(memory?: SharedArrayBuffer) {
    this.memory = memory ?? new SharedArrayBuffer(8 * CELLS);
    this.#cells = new BigInt64Array(this.memory);
  }

  get state(): FenceState {
    if (Atomics.load(this.#cells, LOST) !== 0n) return 'lost';
    return this.#limit(UNTIL) === undefined ? 'unarmed' : 'armed';
  }

  /** Undefined: nothing may be submitted, see `state`. It may lie in the past: then I/O is parked. */
  grant(): FenceGrant | undefined {
    if (Atomics.load(this.#cells, LOST) !== 0n) return undefined;
    const limit = this.#limit(UNTIL);
    return limit && { monotonic: ms(limit.at), wall: ms(limit.at + limit.skew) };
  }

  /** When the incarnation is lost, monotonic ms, if no beat succeeds before. Undefined when unarmed, or when it is lost. */
  end(): number | undefined {
    if (Atomics.load(this.#cells, LOST) !== 0n) return undefined;
    const limit = this.#limit(LOSS);
    return limit && ms(limit.at);
  }

  /** Whether I/O is parked at `now`. */
  parked(now: number): boolean {
    const limit = this.#limit(UNTIL);
    return limit !== undefined && us(now) >= limit.at;
  }

  /** From its next good beat on the moments stand on this region (`index` 0 to 31). */
  count(index: number): void {
    Atomics.store(this.#cells, cell(index, COUNTS), 1n);
  }

  /** A region has ended as it should: it does not count any more. */
  release(index: number): void {
    Atomics.store(this.#cells, cell(index, COUNTS), 0n);
    for (const field of [UNTIL, LOSS]) this.#change(index, field, () => 0n);
  }

  /**
   * A good beat of a region, submitted at `submitted`. `now` and `submitted` in monotonic ms, `skew` the wall clock minus the monotonic
   * one in ms. False: too late, the incarnation is lost.
   */
  renew(index: number, submitted: number, { fenceMs, lossMs }: Pick<Timeouts, 'fenceMs' | 'lossMs'>, skew: number, now: number): boolean {
    if (this.lapsed(now)) return false;
    Atomics.store(this.#cells, cell(index, GOOD), us(submitted));
    if (Atomics.load(this.#cells, cell(index, COUNTS)) === 0n) return true;
    Atomics.store(this.#cells, cell(index, SKEW), us(skew));
    this.#change(index, LOSS, (at) => max(at, us(submitted + lossMs)));
    this.#change(index, UNTIL, (at) => max(at, us(submitted + fenceMs)));
    return true;
  }

  /** A request to the region's device begins (monotonic ms) or is complete. */
  busy(index: number, since: number | undefined): void {
    Atomics.store(this.#cells, cell(index, BUSY), since === undefined ? 0n : us(since));
  }

  /** Milliseconds for which a request to the region's device has been under way, and since the last good beat was submitted. */
  silence(index: number, now: number): { readonly hanging: number; readonly sinceGood: number } {
    const since = (field: number, otherwise: number) => {
      const at = Atomics.load(this.#cells, cell(index, field));
      return at === 0n ? otherwise : now - ms(at);
    };
    return { hanging: since(BUSY, 0), sinceGood: since(GOOD, Number.POSITIVE_INFINITY) };
  }

  /** All nodes hang: the loss of a region moves by `ms`. False: too late, or the region does not count. */
  extend(index: number, ms: number, now: number): boolean {
    if (this.lapsed(now) || Atomics.load(this.#cells, cell(index, LOSS)) === 0n) return false;
    this.#change(index, LOSS, (at) => (at === 0n ? 0n : at + us(ms)));
    return true;
  }

  /** The host slept for `ms` that the monotonic clock does not know of: they are taken off. */
  slept(ms: number): void {
    for (let index = 0; index < MAX_REGIONS; index++) {
      for (const field of [UNTIL, LOSS]) this.#change(index, field, (at) => (at === 0n ? 0n : max(1n, at - us(ms))));
    }
  }

  /** Whether it is too late at `now` for another beat; from then on the incarnation is lost, for ever. */
  lapsed(now: number): boolean {
    if (Atomics.load(this.#cells, LOST) !== 0n) return true;
    const limit = this.#limit(LOSS);
    if (limit === undefined || us(now) < limit.at) return false;
    this.lose();
    return true;
  }

  /** Nothing may be submitted any more: the quorum decided so, or somebody may have taken us for dead. */
  lose(): void {
    Atomics.store(this.#cells, LOST, 1n);
  }

  /** The region with whose silence too many are silent: of q, the ceil(q/2)-th. */
  #limit(field: typeof UNTIL | typeof LOSS): { readonly at: bigint; readonly skew: bigint } | undefined {
    const counting: { at: bigint; skew: bigint }[] = [];
    for (let index = 0; index < MAX_REGIONS; index++) {
      const at = Atomics.load(this.#cells, cell(index, field));
      if (at !== 0n) counting.push({ at, skew: Atomics.load(this.#cells, cell(index, SKEW)) });
    }
    counting.sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
    return counting[Math.ceil(counting.length / 2) - 1];
  }

  #change(index: number, field: number, next: (at: bigint) => bigint): void {
    const i = cell(index, field);
    for (let old = Atomics.load(this.#cells, i); ; ) {
      const found = Atomics.compareExchange(this.#cells, i, old, next(old));
      if (found === old) return;
      old = found;
    }
  }
}

function cell(index: number, field: number): number {
  return REGIONS + REGION_CELLS * index + field;
}

function us(ms: number): bigint {
  return BigInt(Math.floor(ms * 1000));
}

function ms(us: bigint): number {
  return Number(us) / 1000;
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
