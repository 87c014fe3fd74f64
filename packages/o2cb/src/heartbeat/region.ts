/**
 * One heartbeat region: who beats in it, what we write, when its start has settled (Linux 6.1 fs/ocfs2/cluster/heartbeat.c:
 * o2hb_check_slot, o2hb_check_own_slot, o2hb_do_disk_heartbeat; cluster-protocols.md 2.3 to 2.6). A core: `beat` is one iteration, which asks
 * whoever drives it for each read and write and is told the time.
 *
 * Where we do otherwise than Linux, on purpose:
 *  - Before the first write into a slot whose last user did not say goodbye, that slot is watched for two intervals. Linux writes at once;
 *    a second host with the same number would make the others take both for dead while both write.
 *  - Then the slot is marked: that run is over. A new generation is a death that each node learns of when it looks next, up to two seconds after
 *    another one has, and in between it could be given locks by the other and read what is yet to be replayed. Who sees the mark uses no such
 *    lock (`suspects`); so the first beat of the new generation comes when all have had the time to see it.
 *  - seq only grows within a run, whatever the wall clock does, so no beat looks like an older one.
 */
import type { NodeMap } from '../node-map.js';
import { HEARTBEAT_MS, LIVE_THRESHOLD } from '../config/timeouts.js';
import { type HeartbeatBlock, checksumGood, decodeBlock, encodeBlock } from './block.js';

/** Blocks of a region: one per node number. */
export const REGION_BLOCKS = 255;

/** Quiet samples of our slot before we write into it, when its last user did not leave: the first one at once, the third two intervals later. */
const WATCH_SAMPLES = 3;
/** Samples after that, for the others to see that the last run is over: three intervals. */
const OVER_SAMPLES = 3;
/**
 * Samples before T at which a silent node is suspected. Another node, which began to count up to one interval earlier, may be two samples ahead
 * when its reads were quick and ours slow; one more is for what it grants then to be on its way here before us.
 */
const SUSPECT_SAMPLES = 3;
/**
 * Without a look at the region for this long anybody may be dead, for all we know: who begins anew, marks its slot and waits three intervals before
 * its first beat, may have done all that since.
 */
export const BLIND_MS = 2 * HEARTBEAT_MS;

/** In how many regions nodes are live: a node comes up with its first and goes down with its last. */
export interface LiveCounts {
  /** A node is live in one more region. True: it is its first. */
  enter(node: number): boolean;
  /** In one less. True: it was its last. */
  leave(node: number): boolean;
  /** In any region. */
  has(node: number): boolean;
}

export interface RegionOptions {
  readonly node: number;
  /** Logical block of the device, 512 to 4096. */
  readonly blockBytes: number;
  /** T. */
  readonly threshold: number;
  /** Random, not 0. */
  readonly generation: bigint;
  /** Global heartbeat, and the first region of this node: it takes longer to settle. */
  readonly firstGlobal?: boolean;
  readonly live: LiveCounts;
  /** Asked at each iteration: operators may add nodes. */
  readonly configured: () => NodeMap;
}

/** What operators should know; `node` is the one it is about. */
export type RegionWarning =
  /** Somebody else wrote into our slot: our number is given to another host, or another device has this UUID. */
  | 'foreign-beat'
  /** Our slot holds an older beat of ours: the device, or whoever writes the sectors beside it, loses writes. */
  | 'lost-beat'
  /** A live node wrote a block with a bad checksum. */
  | 'bad-checksum'
  /** A node came up whose threshold differs from ours. */
  | 'other-threshold';

export interface RegionEvents {
  /** The node is live in this region, or no longer. */
  up(node: number): void;
  down(node: number): void;
  warning(warning: RegionWarning, node: number, block: HeartbeatBlock): void;
}

/** What `beat` asks for: `count` blocks from number `first` on, or our own block written. Answer with bytes (a read's), or throw what failed. */
export type RegionRequest = { readonly op: 'read'; readonly first: number; readonly count: number } | { readonly op: 'write'; readonly node: number; readonly block: Uint8Array };

export type RegionState =
  /** Our slot is watched, nothing was written yet. */
  | 'watching'
  | 'settling'
  | 'steady'
  /** Another host beats in our slot; nothing was written. */
  | 'taken'
  /** It did not settle in time. */
  | 'unstable';

/** How an iteration went. */
export interface Beat {
  /** Our block was written, and our slot was intact before: the deadline counts from this write's submission. */
  readonly good: boolean;
  /** A node that was not live has written: it may not have known of us. */
  readonly stranger: boolean;
  /** What a read or write failed with. */
  readonly error?: unknown;
}

interface Slot {
  seq: bigint;
  generation: bigint;
  equal: number;
  changed: number;
  live: boolean;
  /** Samples since it changed last, live or not. */
  quiet: number;
  /** When we had looked last before we saw it change last, so when it wrote that at the earliest. Milliseconds. */
  wrote: number;
  /** Its user is gone, and will be back. */
  over: boolean;
}

export class Region {
  readonly #slots: Slot[] = [];
  readonly #options: RegionOptions;
  readonly #events: RegionEvents;
  #state: RegionState = 'settling';
  /** Iterations that must still go well; and those within which they must. */
  #steady: number;
  #unsteady: number;
  #watched = 0;
  /** What our slot may hold: what we wrote last; several blocks when writes have failed, which may have come to the disk all the same. */
  #expected: { readonly seq: bigint; readonly generation: bigint; readonly node: number }[] = [];
  #written = 0n;
  #looked = Number.NEGATIVE_INFINITY;

  constructor(options: RegionOptions, events: RegionEvents) {
    this.#options = options;
    this.#events = events;
    this.#steady = (options.firstGlobal ? 2 * LIVE_THRESHOLD : LIVE_THRESHOLD) + 1;
    this.#unsteady = 3 * this.#steady;
  }

  get state(): RegionState {
    return this.#state;
  }

  /** Monotonic milliseconds: what was read last is from then or later. */
  get looked(): number {
    return this.#looked;
  }

  /** Take in the whole region as it is before the first iteration: `REGION_BLOCKS` blocks. */
  populate(bytes: Uint8Array): void {
    const { node, blockBytes } = this.#options;
    for (let n = 0; n < REGION_BLOCKS; n++) {
      const { seq, generation } = decodeBlock(bytes.subarray(n * blockBytes, (n + 1) * blockBytes));
      this.#slots.push({ seq, generation, equal: 0, changed: 0, live: false, quiet: 0, wrote: Number.NEGATIVE_INFINITY, over: false });
    }
    this.#expected = [this.#slots[node]].map(({ seq, generation }) => ({ seq, generation, node }));
    if (this.#slots[node].generation !== 0n) this.#state = 'watching';
  }

  /** One iteration, begun `now` (monotonic milliseconds). `seconds`: the wall clock's. Its return value is not to be had before the write is complete. */
  *beat(seconds: bigint, now: number): Generator<RegionRequest, Beat, Uint8Array | undefined> {
    let changed = false;
    let good = false;
    let stranger = false;
    try {
      const nodes = this.#nodes();
      const first = nodes[0];
      const bytes = (yield { op: 'read', first, count: nodes[nodes.length - 1] + 1 - first })!;
      const sector = (n: number) => bytes.subarray((n - first) * this.#options.blockBytes, (n + 1 - first) * this.#options.blockBytes);
      const own = this.#options.node;
      if (this.#state === 'watching' && !this.#watch(sector(own))) {
        for (const n of nodes) if (n !== own) this.#check(n, sector(n));
        this.#looked = now;
        const block = this.#watched === WATCH_SAMPLES ? overBlock(own, sector(own)) : undefined;
        if (block) yield { op: 'write', node: own, block };
        return { good: false, stranger };
      }
      const intact = this.#ownIntact(sector(own));
      const block = this.#block(this.#options.generation, seconds, sector(own));
      for (const n of nodes) {
        if (n !== own && !this.#slots[n].live && decodeBlock(sector(n)).seq !== this.#slots[n].seq) stranger = true;
        if (this.#check(n, n === own ? block : sector(n))) changed = true;
      }
      this.#looked = now;
      // We must be seen before we are settled, so that those we see then have seen us.
      const written = decodeBlock(block);
      this.#expected.push(written);
      yield { op: 'write', node: own, block };
      this.#expected = [written];
      good = intact;
    } catch (error) {
      this.#settle(false);
      return { good: false, stranger, error };
    }
    this.#settle(good && !changed);
    return { good, stranger };
  }

  /**
   * Leave in good order: every live node goes down in our view, then the returned block is to be written, by which the others see that
   * we have left. Undefined: we never wrote, so there is nothing to say.
   */
  leave(seconds: bigint): Uint8Array | undefined {
    for (const [n, slot] of this.#slots.entries()) if (slot.live) this.#down(n, slot);
    return this.#written === 0n ? undefined : this.#block(0n, seconds);
  }

  /** Nodes live in this region, each with the number of samples for which it has been silent. */
  silent(): [node: number, samples: number][] {
    return [...this.#slots.entries()].flatMap(([n, { live, equal }]) => (live ? [[n, equal] as [number, number]] : []));
  }

  /**
   * Live nodes that another node may have taken for dead already, while we have not: it has counted a little further (much further, when our looks
   * came late), or sees the next generation of one whose run is over. `now`: monotonic milliseconds.
   */
  suspects(now: number): number[] {
    const enough = Math.max(1, this.#options.threshold - SUSPECT_SAMPLES);
    const since = now - (enough + 1) * HEARTBEAT_MS;
    return [...this.#slots.entries()].flatMap(([n, { live, equal, wrote, over }]) => (live && n !== this.#options.node && (equal >= enough || wrote <= since || over) ? [n] : []));
  }

  /**
   * Nodes that are not live and never said goodbye, and whose slots have not yet been quiet for T samples under our eyes: each may
   * only hang, and then still take itself for alive.
   */
  unsure(): number[] {
    const { threshold, node } = this.#options;
    return [...this.#slots.entries()].flatMap(([n, { live, generation, quiet }]) => (!live && n !== node && generation !== 0n && quiet < threshold ? [n] : []));
  }

  /** Nodes to look at, ascending: those configured, and those live that no longer are. */
  #nodes(): number[] {
    const nodes = this.#options.configured().copy();
    nodes.add(this.#options.node);
    for (const [n, slot] of this.#slots.entries()) if (slot.live || this.#options.live.has(n)) nodes.add(n);
    return [...nodes];
  }

  /** Look at our slot, which somebody left without goodbye. True: it has been quiet for long enough, and marked. */
  #watch(sector: Uint8Array): boolean {
    const slot = this.#slots[this.#options.node];
    const found = decodeBlock(sector);
    if (found.seq !== slot.seq || found.generation !== slot.generation) {
      this.#state = 'taken';
      this.#events.warning('foreign-beat', this.#options.node, found);
      return false;
    }
    if (++this.#watched < WATCH_SAMPLES + OVER_SAMPLES) return false;
    this.#state = 'settling';
    return true;
  }

  /** Whether our slot holds what we wrote last, or what was there when we began. False, too, where nothing was. */
  #ownIntact(sector: Uint8Array): boolean {
    const { node, generation } = this.#options;
    const found = decodeBlock(sector);
    if (this.#expected.length === 1 && this.#expected[0].seq === 0n) return false;
    if (this.#expected.some((one) => one.seq === found.seq && one.generation === found.generation && one.node === found.node)) return true;
    const ours = found.node === node && found.generation === generation;
    this.#events.warning(ours ? 'lost-beat' : 'foreign-beat', node, found);
    return false;
  }

  /** Our block. `before`: what our slot holds now, which it must differ from. */
  #block(generation: bigint, seconds: bigint, before?: Uint8Array): Uint8Array {
    const { node, threshold, blockBytes } = this.#options;
    let seq = BigInt.asUintN(64, seconds > this.#written ? seconds : this.#written + 1n);
    if (seq === 0n || (before && decodeBlock(before).seq === seq)) seq = BigInt.asUintN(64, seq + 1n);
    this.#written = seq;
    return encodeBlock({ seq, node, generation, deadMs: threshold * HEARTBEAT_MS }, blockBytes);
  }

  /** o2hb_check_slot. True: a node came up in its first region, or went down in its last. */
  #check(n: number, sector: Uint8Array): boolean {
    const { threshold, live, configured } = this.#options;
    const slot = this.#slots[n];
    const block = decodeBlock(sector);
    let newGeneration = false;
    if (!slot.live && !live.has(n) && !configured().has(n) && n !== this.#options.node) return false;
    if (!checksumGood(sector)) {
      // A live node is taken to have missed a beat; nothing of the block is believed.
      if (!slot.live) return false;
      this.#events.warning('bad-checksum', n, block);
      slot.equal++;
    } else {
      if (block.seq !== slot.seq) {
        slot.changed++;
        slot.wrote = this.#looked;
      } else slot.equal++;
      slot.quiet = block.seq === slot.seq && block.generation === slot.generation ? slot.quiet + 1 : 0;
      slot.seq = block.seq;
      slot.over = block.over === true;
      newGeneration = block.generation !== slot.generation;
      if (newGeneration) slot.equal = 0;
      slot.generation = block.generation;
    }
    if (!slot.live) {
      if (slot.changed < LIVE_THRESHOLD || !(configured().has(n) || n === this.#options.node)) return false;
      slot.live = true;
      slot.equal = 0;
      if (block.deadMs !== 0 && block.deadMs !== threshold * HEARTBEAT_MS) this.#events.warning('other-threshold', n, block);
      const first = live.enter(n);
      this.#events.up(n);
      return first;
    }
    if (slot.equal >= threshold || newGeneration) {
      // The score of one who began anew is kept: it is writing, and may come up with the next sample.
      if (!newGeneration) slot.changed = 0;
      return this.#down(n, slot);
    }
    if (slot.changed > 0) {
      slot.changed = 0;
      slot.equal = 0;
    }
    return false;
  }

  #down(n: number, slot: Slot): boolean {
    slot.live = false;
    const last = this.#options.live.leave(n);
    this.#events.down(n);
    return last;
  }

  #settle(well: boolean): void {
    if (this.#state !== 'settling') return;
    if (well && --this.#steady === 0) this.#state = 'steady';
    else if (--this.#unsteady === 0) this.#state = 'unstable';
  }
}

/** What our slot holds, with the mark that the run is over. Undefined: it does not hold a beat of this number, or the mark stands there. */
function overBlock(node: number, sector: Uint8Array): Uint8Array | undefined {
  const found = decodeBlock(sector);
  if (!checksumGood(sector) || found.node !== node || found.over === true) return undefined;
  return encodeBlock({ ...found, over: true }, sector.length);
}
