/**
 * Until when this node may submit I/O, in memory that the heartbeat threads write and everybody reads: the face between the heartbeat and the
 * I/O fence (docs/fencing.md). lunfsd hands each new `grant` to its volume processes; their gates compare it with the clock.
 *
 * A deadline stands on regions: one with local heartbeat (a volume's own), all quorum regions of the node with global heartbeat.
 * Each counts until `fenceMs` after the submission of its last good beat, one that succeeded and found its own slot intact. Half of
 * the regions or more must be in time (Linux 6.1 fs/ocfs2/cluster/heartbeat.c:o2hb_write_timeout fences when twice the failed ones
 * reach the number of regions), so the deadline is the one of the region with which that is lost.
 *
 * Invariants
 *  - It is counted from the *submission*: a peer may see the beat, and begin to count our silence, at once.
 *  - Past it is past for ever: a beat that completes late finds the deadline over and gives nothing back, for a peer may already
 *    recover us. What goes on then is another incarnation.
 *  - A region's deadline only moves forward, but for time that the host spent suspended, in which the monotonic clock stands still.
 */
import { MAX_REGIONS } from '../config/cluster-conf.js';

const FENCED = 0; // index of a cell: non-zero once the deadline was passed or given up
const REGIONS = 1; // first of the regions' pairs: deadline in monotonic µs (0: does not count), wall clock minus monotonic, µs
const CELLS = REGIONS + 2 * MAX_REGIONS;

/** I/O may be submitted before this moment, told by both clocks; the milder of the two does not count. Milliseconds. */
export interface FenceGrant {
  readonly monotonic: number;
  readonly wall: number;
}

export type FenceState =
  /** No beat has been good enough yet: nothing may be submitted. */
  | 'unarmed'
  | 'armed'
  /** For ever. */
  | 'fenced';

export class FenceDeadline {
  /** What to give another thread, which makes its own FenceDeadline of it. */
  readonly memory: SharedArrayBuffer;
  readonly #cells: BigInt64Array;

  constructor(memory?: SharedArrayBuffer) {
    this.memory = memory ?? new SharedArrayBuffer(8 * CELLS);
    this.#cells = new BigInt64Array(this.memory);
  }

  get state(): FenceState {
    if (Atomics.load(this.#cells, FENCED) !== 0n) return 'fenced';
    return this.#limit() === undefined ? 'unarmed' : 'armed';
  }

  /** Undefined: nothing may be submitted, see `state`. It may lie in the past. */
  grant(): FenceGrant | undefined {
    if (Atomics.load(this.#cells, FENCED) !== 0n) return undefined;
    const limit = this.#limit();
    return limit && { monotonic: ms(limit.until), wall: ms(limit.until + limit.skew) };
  }

  /**
   * A good beat of region `index` (0 to 31), submitted at `submitted`, holds until `fenceMs` later. `now` and `submitted` in monotonic
   * ms, `skew` the wall clock minus the monotonic one in ms. False: too late, the deadline is over.
   */
  renew(index: number, submitted: number, fenceMs: number, skew: number, now: number): boolean {
    if (this.lapsed(now)) return false;
    Atomics.store(this.#cells, REGIONS + 2 * index + 1, us(skew));
    this.#change(index, (until) => max(until, us(submitted + fenceMs)));
    return true;
  }

  /** All nodes hang: the deadline of a region moves by `ms`. False: too late, or the region does not count. */
  extend(index: number, ms: number, now: number): boolean {
    if (this.lapsed(now) || Atomics.load(this.#cells, REGIONS + 2 * index) === 0n) return false;
    this.#change(index, (until) => (until === 0n ? 0n : until + us(ms)));
    return true;
  }

  /** The host slept for `ms` that the monotonic clock does not know of: they are taken off every deadline. */
  slept(ms: number): void {
    for (let index = 0; index < MAX_REGIONS; index++) this.#change(index, (until) => (until === 0n ? 0n : max(1n, until - us(ms))));
  }

  /** A region has ended as it should, or is no longer one of the quorum: it does not count. */
  release(index: number): void {
    this.#change(index, () => 0n);
  }

  /** Whether the deadline is over at `now`; from then on it is, for ever. */
  lapsed(now: number): boolean {
    if (Atomics.load(this.#cells, FENCED) !== 0n) return true;
    const limit = this.#limit();
    if (limit === undefined || us(now) < limit.until) return false;
    this.fence();
    return true;
  }

  /** Nothing may be submitted any more: the quorum decided so, or the beats have stopped. */
  fence(): void {
    Atomics.store(this.#cells, FENCED, 1n);
  }

  /** The region with whose silence the node has lost: of q regions in time, the ceil(q/2)-th to fall silent. */
  #limit(): { readonly until: bigint; readonly skew: bigint } | undefined {
    const counting: { until: bigint; skew: bigint }[] = [];
    for (let cell = REGIONS; cell < CELLS; cell += 2) {
      const until = Atomics.load(this.#cells, cell);
      if (until !== 0n) counting.push({ until, skew: Atomics.load(this.#cells, cell + 1) });
    }
    counting.sort((a, b) => (a.until < b.until ? -1 : a.until > b.until ? 1 : 0));
    return counting[Math.ceil(counting.length / 2) - 1];
  }

  #change(index: number, next: (until: bigint) => bigint): void {
    const cell = REGIONS + 2 * index;
    for (let old = Atomics.load(this.#cells, cell); ; ) {
      const found = Atomics.compareExchange(this.#cells, cell, old, next(old));
      if (found === old) return;
      old = found;
    }
  }
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
