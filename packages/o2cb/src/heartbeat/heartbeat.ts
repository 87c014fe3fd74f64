/**
 * The heartbeat of one node, in one incarnation: its regions, who lives, until when I/O may be submitted, and when that is over. A core:
 * the regions' loops run elsewhere (`region-thread.ts`, a simulation) and report here.
 *
 * What is lost with a region. With global heartbeat: the node, when half of the quorum regions are. With local heartbeat a region is a
 * volume's own, and its silence should cost that volume alone; but the others take this node for dead only when it is silent in *every*
 * region they share with it, and recover no volume of a node that lives. So where another node is seen both in the lost region and in one
 * that goes on, the whole node is given up, as Linux does always (o2hb_write_timeout).
 *
 * After the node is lost this object only reports; what follows is another one, with new generations.
 */
import { ClusterError, InternalError, type LunfsError } from '@lunfs/device';
import { type HeartbeatMode, MAX_REGIONS } from '../config/cluster-conf.js';
import type { Timeouts } from '../config/timeouts.js';
import { regionKey } from '../crc32.js';
import { NODE_MAP_BYTES, NodeMap } from '../node-map.js';
import type { Membership, Messenger, Scheduler, Suspicion } from '../ports.js';
import type { BeatingOptions, RegionReport } from './beating.js';
import { FenceDeadline, type FenceGrant } from './fence-deadline.js';
import { LiveNodes, SharedLiveCounts } from './live-nodes.js';
import { Negotiation } from './negotiation.js';
import { BLIND_MS, type RegionState, type RegionWarning } from './region.js';
import { Suspects } from './suspects.js';

/** What a region's loop is given. Memories are shared: a thread makes its own views of them. */
export interface LoopStart extends Pick<BeatingOptions, 'node' | 'timeouts' | 'generation' | 'firstGlobal' | 'counts' | 'index'> {
  readonly fence: SharedArrayBuffer;
  readonly live: SharedArrayBuffer;
  /** A node map of 32 bytes. */
  readonly configured: SharedArrayBuffer;
}

/** Starts a region's loop, which then reports what happens; never within the call. */
export type StartLoop = (start: LoopStart, report: (report: RegionReport) => void) => RegionLoop;

/** A region's loop, as it is told to end. It reports `ended` once, whatever happens. */
export interface RegionLoop {
  /** `clean`: with a goodbye, by which the others know at once. */
  end(clean: boolean): void;
  /** Of one that runs in a thread of its own: reports at once, within the call, what it has to report so far. */
  catchUp?(): void;
}

export interface Loss {
  /** Regions whose incarnation is over. Nothing of them is written any more. */
  readonly regions: readonly string[];
  /** The whole node: every region, o2net, all domains. */
  readonly node: boolean;
  /** For operators. */
  readonly reason: string;
}

export interface HeartbeatOptions {
  readonly node: number;
  readonly mode: HeartbeatMode;
  readonly timeouts: Timeouts;
  readonly configured: NodeMap;
  /** Monotonic milliseconds: the clock of the deadlines. */
  readonly scheduler: Scheduler;
  /** 64 random bits. */
  readonly random: () => bigint;
  /** A deadline has changed: ask `grant`. */
  readonly renewed: (region: string) => void;
  readonly lost: (loss: Loss) => void;
  readonly warning: (region: string, text: string) => void;
}

/** What is to be told of a region. */
export interface RegionFacts {
  readonly name: string;
  readonly state: RegionState;
  readonly quorum: boolean;
  /** Nodes live in it, and for how many samples each has been silent. */
  readonly live: readonly { readonly node: number; readonly silent: number }[];
  /** Nodes not live that may only hang: what they hold must not be recovered yet (their journals replayed at a mount). */
  readonly unsure: readonly number[];
  /** Since the last good beat was submitted, ms; undefined: there was none. */
  readonly sinceGood?: number;
  /** Until I/O is parked, ms; negative: since when it is. */
  readonly left?: number;
}

interface RegionEntry {
  readonly name: string;
  readonly index: number;
  readonly fence: FenceDeadline;
  readonly negotiation: Negotiation;
  readonly live: NodeMap;
  loop?: RegionLoop;
  state: RegionState;
  silent: readonly (readonly [node: number, samples: number])[];
  unsure: readonly number[];
  suspects: readonly number[];
  /** Monotonic milliseconds; see `Region.looked`. */
  looked: number;
  /** Global: it is one of the quorum; local: its deadline is armed. */
  counts: boolean;
  settled?: (error?: LunfsError) => void;
  ended?: () => void;
  cancelWatch?: () => void;
}

export class Heartbeat {
  readonly #options: HeartbeatOptions;
  readonly #members: LiveNodes;
  readonly #suspects = new Suspects();
  readonly #counts = new SharedLiveCounts();
  readonly #configured = new SharedArrayBuffer(NODE_MAP_BYTES);
  readonly #regions = new Map<string, RegionEntry>();
  /** Global heartbeat: the deadline of all. */
  readonly #nodeFence = new FenceDeadline();
  #messenger?: Messenger;
  #lost = false;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
    this.#members = new LiveNodes(options.node);
    this.configure(options.configured);
  }

  get membership(): Membership {
    return this.#members;
  }

  get suspicion(): Suspicion {
    return this.#suspects;
  }

  /** True: this incarnation of the node is over. */
  get lost(): boolean {
    return this.#lost;
  }

  /**
   * Take in what the regions' threads have reported by now. Between threads a report is an event like any other; a thread that stood still meets those that wait in no
   * sure order. So this is called before anything that another node said is heeded: he may know of a death, and grant what the dead node held, and was
   * himself late to know (`Region.suspects`). Where a thread has not looked for long, because its reads hang or this process stood still, anybody may be dead.
   */
  catchUp(): void {
    for (const { loop } of [...this.#regions.values()]) loop?.catchUp?.();
    for (const entry of this.#regions.values()) if (this.#blind(entry)) return this.#suspects.suspect(this.#suspected());
  }

  /** Nodes were added to the configuration, or taken out of it. */
  configure(nodes: NodeMap): void {
    new Uint8Array(this.#configured).set(nodes.toBytes());
  }

  /** o2net runs: negotiations can be held. */
  attach(messenger: Messenger): void {
    this.#messenger = messenger;
    for (const { negotiation } of this.#regions.values()) negotiation.attach(messenger);
  }

  /**
   * Begin to beat in a region (`name`: `regionName`). `settled` is called once: without an error when it is steady and, with local
   * heartbeat, the deadline is armed; else with what is wrong, and the region is gone. `loop` starts what beats.
   */
  start(name: string, loop: StartLoop, settled: (error?: LunfsError) => void): void {
    if (this.#lost) return settled(new ClusterError('HEARTBEAT_FENCED', 'this node was fenced: it must join the cluster anew', { region: name }));
    if (this.#regions.has(name)) return settled(new ClusterError('HEARTBEAT_TWICE', `this host beats in region ${name} already. If two devices have this UUID, one is a copy: give the copy a new UUID (tunefs.ocfs2 -U)`, { region: name }));
    const global = this.#options.mode === 'global';
    const index = global ? this.#freeIndex() : 0;
    if (index === undefined) return settled(new ClusterError('HEARTBEAT_REGIONS', `this host beats in ${MAX_REGIONS} regions already, there can be no more`, { region: name }));
    const { node, timeouts, scheduler, random } = this.#options;
    const fence = global ? this.#nodeFence : new FenceDeadline();
    const entry: RegionEntry = {
      name, index, fence, live: new NodeMap(), state: 'settling', silent: [], unsure: [], suspects: [], looked: Number.NEGATIVE_INFINITY, counts: false, settled,
      negotiation: new Negotiation({
        membership: this.#members, scheduler, timeouts, fence, index, key: regionKey(name, index), approved: () => this.#renewed(entry),
      }),
    };
    const firstGlobal = global && this.#regions.size === 0;
    this.#regions.set(name, entry);
    if (this.#messenger) entry.negotiation.attach(this.#messenger);
    let generation = 0n;
    while (generation === 0n) generation = BigInt.asUintN(64, random());
    entry.loop = loop(
      { node, timeouts, generation, firstGlobal, counts: !global, index, fence: fence.memory, live: this.#counts.memory, configured: this.#configured },
      (report) => this.#report(entry, report),
    );
  }

  /** Stop beating in a region, with a goodbye: nothing may be written to it any more. `done` is called when that is on the disk, or cannot be. */
  stop(name: string, done: () => void): void {
    const entry = this.#regions.get(name);
    if (!entry) return done();
    entry.ended = done;
    entry.cancelWatch?.();
    entry.negotiation.stop();
    entry.fence.release(entry.index);
    entry.loop?.end(true);
  }

  /** Until when I/O to a region's volume may be submitted (with global heartbeat: to any). Undefined: not at all. */
  grant(name: string): FenceGrant | undefined {
    return this.#options.mode === 'global' ? this.#nodeFence.grant() : this.#regions.get(name)?.fence.grant();
  }

  /** The quorum decided against this node, or its operator: every deadline is over, the beats stop without a goodbye. */
  giveUp(reason: string): void {
    if (this.#lost) return;
    this.#lost = true;
    const regions = [...this.#regions.values()];
    this.#nodeFence.lose();
    for (const entry of regions) this.#abandon(entry);
    this.#options.lost({ regions: regions.map(({ name }) => name), node: true, reason });
    for (const entry of regions) this.#forget(entry);
  }

  regions(): RegionFacts[] {
    const now = this.#options.scheduler.now();
    return [...this.#regions.values()].map(({ name, state, counts, live, silent, unsure, fence, index }) => {
      const { sinceGood } = fence.silence(index, now);
      const grant = fence.grant();
      return { name, state, quorum: counts, live: [...live].map((node) => ({ node, silent: silent.find(([one]) => one === node)?.[1] ?? 0 })), unsure, ...(Number.isFinite(sinceGood) ? { sinceGood } : {}), ...(grant ? { left: grant.monotonic - now } : {}) };
    });
  }

  #freeIndex(): number | undefined {
    const taken = new Set([...this.#regions.values()].map(({ index }) => index));
    for (let index = 0; index < MAX_REGIONS; index++) if (!taken.has(index)) return index;
    return undefined;
  }

  #report(entry: RegionEntry, report: RegionReport): void {
    if (this.#regions.get(entry.name) !== entry) return this.#late(report);
    switch (report.kind) {
      case 'up':
        entry.live.add(report.node);
        return this.#members.up(report.node);
      case 'down':
        entry.live.delete(report.node);
        return this.#members.down(report.node);
      case 'warning':
        return this.#options.warning(entry.name, warningText(report.warning, report.node));
      case 'slept':
        return this.#options.warning(entry.name, `the host slept for ${(report.ms / 1000).toFixed(1)} s; the time is taken off the deadline`);
      case 'beat':
        return this.#beat(entry, report);
      case 'ended':
        return this.#ended(entry, report.why, report.failed);
      default:
        throw new InternalError('HEARTBEAT_REPORT', 'a heartbeat loop reported what nobody knows', { report: JSON.stringify(report) });
    }
  }

  /** What the loop of a region said before it knew that it was given up: its nodes are forgotten, and its counts no longer ours. */
  #late(report: RegionReport): void {
    if (report.kind === 'up') this.#counts.leave(report.node);
    if (report.kind === 'down') this.#counts.enter(report.node);
  }

  #beat(entry: RegionEntry, { state, good, silent, unsure, suspects, looked, failed }: RegionReport & { kind: 'beat' }): void {
    entry.state = state;
    entry.silent = silent;
    entry.unsure = unsure;
    entry.suspects = suspects;
    entry.looked = looked;
    this.#suspects.suspect(this.#suspected());
    if (failed !== undefined) this.#options.warning(entry.name, `a beat failed: ${failed}`);
    if (!good || state !== 'steady') return;
    if (this.#options.mode === 'local') entry.counts = true;
    else if (!entry.counts && entry.live.equals(this.#members.live)) {
      // Everybody who lives beats here, too. The next good beat arms the deadline.
      entry.counts = true;
      entry.fence.count(entry.index);
    }
    entry.negotiation.restart();
    this.#renewed(entry);
    const { settled } = entry;
    entry.settled = undefined;
    settled?.();
  }

  /** A node is dead when it is in every region: who is suspected in each in which it is live. Where nobody has looked for long, that is everybody. */
  #suspected(): NodeMap {
    const found = new NodeMap();
    for (const node of this.#members.live) {
      const regions = [...this.#regions.values()].filter(({ live }) => live.has(node));
      if (node !== this.#options.node && regions.length > 0 && regions.every((entry) => this.#blind(entry) || entry.suspects.includes(node))) found.add(node);
    }
    return found;
  }

  #blind({ looked }: RegionEntry): boolean {
    return this.#options.scheduler.now() - looked >= BLIND_MS;
  }

  #renewed(entry: RegionEntry): void {
    if (entry.fence.state === 'armed') this.#watch(entry);
    this.#options.renewed(entry.name);
  }

  /** Wake up when it is too late: a write that hangs reports nothing. */
  #watch(entry: RegionEntry): void {
    const { scheduler } = this.#options;
    const { fence } = entry;
    entry.cancelWatch?.();
    const end = fence.end();
    if (end === undefined) return;
    entry.cancelWatch = scheduler.after(Math.max(1, end - scheduler.now()), () => {
      if (fence.lapsed(scheduler.now())) this.#silent(entry);
      else this.#watch(entry);
    });
  }

  #silent(entry: RegionEntry): void {
    const reason = `no good beat in region ${entry.name} in time`;
    if (this.#options.mode === 'global' || this.#deathUnseen(entry)) return this.giveUp(reason);
    this.#abandon(entry);
    this.#options.lost({ regions: [entry.name], node: false, reason });
    this.#forget(entry);
  }

  /** Whether somebody beats in this region and sees us beat in another one: to him we would live on. */
  #deathUnseen(entry: RegionEntry): boolean {
    const { node } = this.#options;
    for (const other of this.#regions.values()) {
      if (other !== entry) for (const peer of other.live) if (peer !== node && entry.live.has(peer)) return true;
    }
    return false;
  }

  /** A region's incarnation is over: no goodbye. (That its nodes are no longer seen here is told after the loss: nobody is to recover them.) */
  #abandon(entry: RegionEntry): void {
    entry.fence.lose();
    entry.cancelWatch?.();
    entry.negotiation.stop();
    this.#regions.delete(entry.name);
    entry.loop?.end(false);
    const { settled } = entry;
    entry.settled = undefined;
    settled?.(new ClusterError('HEARTBEAT_FENCED', `heartbeat in region ${entry.name} was given up`, { region: entry.name }));
  }

  /** Nodes live in a region that is gone. */
  #forget(entry: RegionEntry): void {
    for (const node of entry.live.copy()) {
      this.#counts.leave(node);
      this.#members.down(node);
    }
    entry.live.clear();
  }

  #ended(entry: RegionEntry, why: (RegionReport & { kind: 'ended' })['why'], failed?: string): void {
    const { settled, ended, name } = entry;
    if (settled === undefined && ended === undefined) {
      // Nobody asked for it. The node is lost when its time is over.
      if (why !== 'lost') this.#options.warning(name, failed === undefined ? `the heartbeat has ended (${why})` : `the heartbeat has ended: ${failed}`);
      if (entry.fence.lapsed(this.#options.scheduler.now()) || entry.fence.state !== 'armed') this.#silent(entry);
      return;
    }
    entry.cancelWatch?.();
    entry.negotiation.stop();
    entry.fence.release(entry.index);
    this.#regions.delete(name);
    this.#forget(entry);
    entry.settled = undefined;
    settled?.(startError(name, why, failed));
    ended?.();
  }
}

function startError(region: string, why: string, failed?: string): ClusterError {
  switch (why) {
    case 'taken':
      return new ClusterError(
        'HEARTBEAT_SLOT_TAKEN',
        `another host beats in region ${region} under this host's node number. Is another lunfsd or kernel node of this host running, has another host the same number in ` +
          `cluster.conf, or is this a copy of a volume in use? Nothing was written`,
        { region },
      );
    case 'unstable':
      return new ClusterError('HEARTBEAT_UNSTABLE', `the heartbeat in region ${region} does not become steady: nodes come and go, or the device fails. Look at the warnings before this, and try again`, { region });
    default:
      return new ClusterError('HEARTBEAT_FAILED', `no heartbeat in region ${region}: ${failed ?? 'it was stopped'}`, { region });
  }
}

function warningText(warning: RegionWarning, node: number): string {
  switch (warning) {
    case 'foreign-beat':
      return `somebody else beats in the slot of this node (${node}): another host has its number in cluster.conf, or another LUN has this UUID`;
    case 'lost-beat':
      return 'a beat of this node is not on the disk any more: the device, or whoever writes the sectors beside it, loses writes';
    case 'bad-checksum':
      return `node ${node} wrote a heartbeat block with a bad checksum`;
    case 'other-threshold':
      return `node ${node} uses another O2CB_HEARTBEAT_THRESHOLD than this node: it must be the same on all nodes`;
  }
}
