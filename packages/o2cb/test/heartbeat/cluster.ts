/** Clusters of heartbeats in one thread, on a virtual clock and a virtual disk, with everything that can go wrong given by one seed. */
import { Random } from '@lunfs/device';
import { type O2cbSettings, DEFAULT_SETTINGS } from '../../src/config/settings.js';
import { HEARTBEAT_MS, type Timeouts, timeoutsOf } from '../../src/config/timeouts.js';
import { Beating } from '../../src/heartbeat/beating.js';
import { decodeBlock } from '../../src/heartbeat/block.js';
import { FenceDeadline } from '../../src/heartbeat/fence-deadline.js';
import { Heartbeat, type Loss, type StartLoop } from '../../src/heartbeat/heartbeat.js';
import { SharedLiveCounts } from '../../src/heartbeat/live-nodes.js';
import { REGION_BLOCKS, type RegionRequest } from '../../src/heartbeat/region.js';
import { NodeMap } from '../../src/node-map.js';
import type { MessageHandler, Messenger, RequestResult, Scheduler } from '../../src/ports.js';

export class VirtualTime implements Scheduler {
  #now = 0;
  #order = 0;
  #due: { at: number; order: number; fn: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  after(ms: number, fn: () => void): () => void {
    const entry = { at: this.#now + Math.max(0, ms), order: this.#order++, fn };
    let i = this.#due.length;
    while (i > 0 && this.#due[i - 1].at > entry.at) i--;
    this.#due.splice(i, 0, entry);
    return () => {
      this.#due = this.#due.filter((one) => one !== entry);
    };
  }

  runUntil(end: number): void {
    while (this.#due.length > 0 && this.#due[0].at <= end) {
      const { at, fn } = this.#due.shift()!;
      this.#now = at;
      fn();
    }
    this.#now = end;
  }
}

export interface ClusterOptions {
  readonly seed: number;
  readonly nodes: number;
  readonly settings?: Partial<O2cbSettings>;
  readonly mode?: 'local' | 'global';
}

const BLOCK = 512;

/** What a node's path to one disk does to it. */
export class Path {
  /** Requests complete when this is over. */
  hungUntil = 0;
  /** Only writes hang. */
  reads = false;
  /** Largest time a request takes. */
  latency = 20;
  fails = false;
}

export class Cluster {
  readonly time = new VirtualTime();
  readonly random: Random;
  readonly timeouts: Timeouts;
  readonly disks = new Map<string, Uint8Array>();
  readonly nodes: SimNode[];
  readonly mode: 'local' | 'global';
  /** Pairs that cannot talk: "a b". */
  readonly cut = new Set<string>();

  constructor(options: ClusterOptions) {
    this.random = new Random(options.seed);
    this.mode = options.mode ?? 'local';
    this.timeouts = timeoutsOf({ ...DEFAULT_SETTINGS, ...options.settings });
    this.nodes = Array.from({ length: options.nodes }, (_, n) => new SimNode(this, n));
  }

  disk(name: string): Uint8Array {
    const disk = this.disks.get(name) ?? new Uint8Array(REGION_BLOCKS * BLOCK);
    this.disks.set(name, disk);
    return disk;
  }

  run(ms: number): void {
    this.time.runUntil(this.time.now() + ms);
  }

  deliver(from: number, to: number, type: number, key: number, payload: Uint8Array, done: (result: RequestResult) => void): void {
    this.time.after(this.random.int(50), () => {
      const target = this.nodes[to];
      const handler = target.running ? target.handlers.get(`${type} ${key}`) : undefined;
      if (!target.running || this.cut.has(`${from} ${to}`)) return done({ error: 'host-down' });
      if (!handler) return done({ error: 'no-handler' });
      handler(from, payload, (status) => this.time.after(this.random.int(50), () => done(status === 'no-handler' ? { error: status } : { status })));
    });
  }
}

export class SimNode {
  running = false;
  heartbeat!: Heartbeat;
  readonly handlers = new Map<string, MessageHandler>();
  readonly paths = new Map<string, Path>();
  /** "up 1", "down 2", in order, with their times. */
  told: string[] = [];
  losses: Loss[] = [];
  warnings: string[] = [];
  /** Called for each node that goes down in the eyes of this one. */
  onDown: (node: number) => void = () => undefined;
  onRenewed: () => void = () => undefined;
  /** How long its host has been suspended in all: its monotonic clock does not know. */
  asleep = 0;
  incarnation = 0;
  /** The incarnation that others took for dead. */
  declared = -1;
  /** Generations of the present incarnation; and the one of each node that this one has seen come up last. */
  readonly generations = new Set<bigint>();
  readonly seen = new Map<number, bigint>();

  constructor(readonly cluster: Cluster, readonly number: number) {}

  path(name: string): Path {
    const path = this.paths.get(name) ?? new Path();
    this.paths.set(name, path);
    return path;
  }

  /** A new incarnation, beating nowhere. */
  boot(): void {
    const { cluster, number } = this;
    this.running = true;
    this.incarnation++;
    this.handlers.clear();
    this.generations.clear();
    const { incarnation } = this;
    /** What a crashed incarnation's timers do concerns nobody. */
    const mine = (): boolean => this.incarnation === incarnation;
    this.heartbeat = new Heartbeat({
      node: number, mode: cluster.mode, timeouts: cluster.timeouts, configured: new NodeMap(cluster.nodes?.map((node) => node.number) ?? [0, 1, 2, 3]),
      scheduler: cluster.time, random: () => (BigInt(cluster.random.u32()) << 32n) | BigInt(cluster.random.u32()),
      renewed: () => mine() && this.onRenewed(),
      lost: (loss) => void (mine() && this.losses.push(loss)),
      warning: (region, text) => void (mine() && this.warnings.push(`${region}: ${text}`)),
    });
    this.heartbeat.membership.subscribe(1, {
      nodeUp: (node) => void this.told.push(`up ${node}`),
      nodeDown: (node) => {
        if (!mine()) return;
        this.told.push(`down ${node}`);
        this.onDown(node);
      },
    });
    const messenger: Messenger = {
      request: (node, type, key, payload, done) => cluster.deliver(number, node, type, key, payload.slice(), done),
      handle: (key, type, _max, handler) => {
        this.handlers.set(`${type} ${key}`, handler);
        return () => void this.handlers.delete(`${type} ${key}`);
      },
    };
    this.heartbeat.attach(messenger);
  }

  /** The power fails. */
  crash(): void {
    this.running = false;
    this.incarnation++;
  }

  start(name: string): { done: boolean; error?: string } {
    const result: { done: boolean; error?: string } = { done: false };
    this.heartbeat.start(name, this.#loop(name), (error) => {
      result.done = true;
      if (error) result.error = error.code;
    });
    return result;
  }

  #loop(name: string): StartLoop {
    const { cluster } = this;
    const { time, random } = cluster;
    const incarnation = this.incarnation;
    return (start, report) => {
      const fence = new FenceDeadline(start.fence);
      let told: boolean | undefined;
      let read: { first: number; bytes: Uint8Array } = { first: 0, bytes: new Uint8Array(0) };
      this.generations.add(start.generation);
      let wake: (() => void) | undefined;
      const beating = new Beating({
        ...start, blockBytes: BLOCK, fence, live: new SharedLiveCounts(start.live), configured: () => NodeMap.fromBytes(new Uint8Array(start.configured)),
        clock: { monotonic: () => time.now(), wall: () => time.now() + this.asleep + 1e12, boot: () => time.now() + this.asleep },
        report: (what) => {
          if (what.kind === 'up' && what.node !== this.number) this.seen.set(what.node, decodeBlock(read.bytes.subarray((what.node - read.first) * BLOCK)).generation);
          time.after(0, () => this.incarnation === incarnation && report(what));
        },
      });
      /** Runs what asks for I/O, each request taking its time and seeing the disk at some moment of it. */
      const run = <T>(asks: Generator<RegionRequest, T, Uint8Array | undefined>, then: (value: T) => void, answer?: Uint8Array): void => {
        if (this.incarnation !== incarnation) return;
        const step = asks.next(answer);
        if (step.done === true) return then(step.value);
        const request = step.value;
        this.#perform(name, request, fence, start.index, (error, bytes) => {
          if (this.incarnation !== incarnation) return;
          if (request.op === 'read' && bytes) read = { first: request.first, bytes };
          if (!error) return run(asks, then, bytes);
          try {
            const next = asks.throw(error);
            if (next.done === true) then(next.value);
          } catch {
            report({ kind: 'ended', why: 'failed', failed: error.message });
          }
        });
      };
      const iterate = (): void => {
        const begun = time.now();
        run(beating.iterate(), (more) => {
          if (!more) return;
          const next = (): void => {
            wake = undefined;
            if (told === false) report({ kind: 'ended', why: 'stopped' });
            else if (told === true) run(beating.leave(), () => undefined);
            else iterate();
          };
          // Threads are late: by a little, as a rule.
          const cancel = time.after(Math.max(0, HEARTBEAT_MS - (time.now() - begun)) + random.int(10), next);
          wake = () => {
            cancel();
            next();
          };
        });
      };
      time.after(0, () => run(beating.begin(), iterate));
      return {
        end: (clean) => {
          told = clean;
          wake?.();
        },
      };
    };
  }

  #perform(name: string, request: RegionRequest, fence: FenceDeadline, index: number, done: (error?: Error, bytes?: Uint8Array) => void): void {
    const { time, random } = this.cluster;
    const path = this.path(name);
    const disk = this.cluster.disk(name);
    const { incarnation } = this;
    fence.busy(index, time.now());
    const attempt = (): void => {
      // What was not on the disk when the host lost its power never comes there.
      if (this.incarnation !== incarnation) return;
      if (path.hungUntil > time.now() && !(path.reads && request.op === 'read')) return void time.after(path.hungUntil - time.now(), attempt);
      const takes = 1 + random.int(path.latency);
      let bytes: Uint8Array | undefined;
      const failed = path.fails ? new Error('I/O error') : undefined;
      time.after(random.int(takes), () => {
        if (failed || this.incarnation !== incarnation) return;
        if (request.op === 'read') bytes = disk.slice(request.first * BLOCK, (request.first + request.count) * BLOCK);
        else disk.set(request.block, request.node * BLOCK);
      });
      time.after(takes, () => {
        fence.busy(index, undefined);
        done(failed, bytes);
      });
    };
    attempt();
  }
}
