/**
 * Domains of several nodes in one thread: virtual time, a network that delays but keeps the order of each direction, heartbeats, deaths.
 * Everything follows from one seed. `atMessage` is called at each step of each message, so that a test can have a node die there.
 */
import { NodeMap } from '../../../src/node-map.js';
import { type Membership, type MembershipListener, type MessageHandler, type Messenger, ORDER_NET, type RequestResult, type Scheduler } from '../../../src/ports.js';
import { type Codec, Dlm, type DlmDomain, type DlmEvent, MESSAGES } from '../../../src/dlm/index.js';
import { panicOnRequest, panicOnStatus } from './panic.js';

/** mulberry32. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 to below `n`. */
  below(n: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * n);
  }

  chance(p: number): boolean {
    return this.below(1_000_000) < p * 1_000_000;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)];
  }
}

/** Timers in a heap; those of one time in the order in which they were asked for. */
export class VirtualTime implements Scheduler {
  #now = 0;
  #sequence = 0;
  readonly #heap: { at: number; n: number; fn: (() => void) | undefined }[] = [];

  now(): number {
    return this.#now;
  }

  after(ms: number, fn: () => void): () => void {
    const entry: { at: number; n: number; fn: (() => void) | undefined } = { at: this.#now + ms, n: this.#sequence++, fn };
    this.#push(entry);
    return () => {
      entry.fn = undefined;
    };
  }

  /** Runs the next event that is due by `end`; false if there is none. */
  step(end = Infinity): boolean {
    while (this.#heap.length > 0 && this.#heap[0].at <= end) {
      const { at, fn } = this.#pop();
      if (fn === undefined) continue;
      this.#now = at;
      fn();
      return true;
    }
    if (end !== Infinity) this.#now = Math.max(this.#now, end);
    return false;
  }

  run(ms: number): void {
    const end = this.#now + ms;
    while (this.step(end));
  }

  #before(a: number, b: number): boolean {
    const [x, y] = [this.#heap[a], this.#heap[b]];
    return x.at < y.at || (x.at === y.at && x.n < y.n);
  }

  #push(entry: { at: number; n: number; fn: (() => void) | undefined }): void {
    const heap = this.#heap;
    let i = heap.push(entry) - 1;
    for (let up = (i - 1) >> 1; i > 0 && this.#before(i, up); i = up, up = (i - 1) >> 1) [heap[i], heap[up]] = [heap[up], heap[i]];
  }

  #pop(): { at: number; n: number; fn: (() => void) | undefined } {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (heap.length > 0 && last !== undefined) {
      heap[0] = last;
      for (let i = 0; ;) {
        let least = i;
        for (const child of [2 * i + 1, 2 * i + 2]) if (child < heap.length && this.#before(child, least)) least = child;
        if (least === i) break;
        [heap[i], heap[least]] = [heap[least], heap[i]];
        i = least;
      }
    }
    return top;
  }
}

class Beats implements Membership {
  readonly live = new NodeMap();
  #listeners: { order: number; listener: MembershipListener }[] = [];

  constructor(readonly local: number) {}

  subscribe(order: number, listener: MembershipListener): () => void {
    const entry = { order, listener };
    this.#listeners = [...this.#listeners, entry].sort((a, b) => a.order - b.order);
    return () => {
      this.#listeners = this.#listeners.filter((other) => other !== entry);
    };
  }

  up(node: number): void {
    if (this.live.has(node)) return;
    this.live.add(node);
    for (const { listener } of this.#listeners) listener.nodeUp(node);
  }

  down(node: number): void {
    if (!this.live.has(node)) return;
    this.live.delete(node);
    for (const { listener } of this.#listeners) listener.nodeDown(node);
  }
}

/** A machine's life from boot to death. */
export class BenchNode {
  alive = true;
  readonly beats: Beats;
  readonly dlm: Dlm;
  readonly handlers = new Map<string, MessageHandler>();
  readonly outstanding = new Set<{ to: number; done: (result: RequestResult) => void }>();
  domain!: DlmDomain;
  readonly events: DlmEvent[] = [];
  readonly evicted: number[] = [];

  constructor(readonly bench: Bench, readonly number: number, readonly life: number) {
    this.beats = new Beats(number);
    this.beats.subscribe(ORDER_NET, { nodeUp: () => {}, nodeDown: (node) => this.#lose(node) });
    const { time } = bench;
    const scheduler: Scheduler = { now: () => time.now(), after: (ms, fn) => time.after(ms, () => this.alive && fn()) };
    this.dlm = new Dlm({
      scheduler, membership: this.beats, messenger: this.#messenger(), nodes: () => bench.configured, regions: () => [],
      log: (_, event) => this.events.push(event),
    });
    this.open();
  }

  /** A domain that has not been joined. */
  open(): void {
    this.domain = this.dlm.domain('BENCH', { evicted: (node) => this.evicted.push(node) });
  }

  get name(): string {
    return `node ${this.number}.${this.life}`;
  }

  /** The connection goes before anybody else hears of the death. */
  #lose(node: number): void {
    for (const request of [...this.outstanding]) {
      if (request.to !== node) continue;
      this.outstanding.delete(request);
      request.done({ error: 'host-down' });
    }
  }

  #messenger(): Messenger {
    return {
      handle: (key, type, _, handler) => {
        this.handlers.set(`${key} ${type}`, handler);
        return () => this.handlers.delete(`${key} ${type}`);
      },
      request: (to, type, key, payload, done) => {
        const request = { to, done };
        if (!this.beats.live.has(to)) {
          this.bench.time.after(0, () => this.alive && done({ error: 'not-connected' }));
          return;
        }
        this.outstanding.add(request);
        const copy = payload.slice();
        this.bench.deliver(this, to, () => {
          const peer = this.bench.running(to);
          if (peer === undefined) return;
          const finish = (result: RequestResult) => {
            this.bench.trace?.(`${this.number}->${to} ${describe(type, copy)} => ${'status' in result ? result.status : result.error}`);
            if ('status' in result) this.bench.panics(panicOnStatus(type, result.status), this, peer, type, copy);
            this.bench.deliver(peer, this.number, () => {
              if (!this.alive || !this.outstanding.delete(request)) return;
              done(result);
            });
          };
          this.bench.atMessage?.(type, this, peer, 'arrives');
          if (!peer.alive) return;
          const handler = peer.handlers.get(`${key} ${type}`);
          if (handler === undefined) return finish({ error: 'no-handler' });
          this.bench.panics(panicOnRequest(type, copy, this.number, peer), this, peer, type, copy);
          handler(this.number, copy, (status) => finish(status === 'no-handler' ? { error: status } : { status }));
          this.bench.atMessage?.(type, this, peer, 'handled');
        });
      },
    };
  }
}

export interface BenchOptions {
  readonly seed: number;
  readonly nodes: number;
  /** Longest delay of a message, milliseconds. */
  readonly delay?: number;
  /** From death to its detection: least and most. */
  readonly dead?: readonly [number, number];
}

export class Bench {
  readonly time = new VirtualTime();
  readonly dice: Dice;
  readonly nodes: (BenchNode | undefined)[] = [];
  readonly configured: { node: number; port: number; address: number }[];
  /** What is sent now from one node to another never arrives. */
  lost: ((from: BenchNode, to: number) => boolean) | undefined;
  atMessage: ((type: number, from: BenchNode, to: BenchNode, step: 'arrives' | 'handled') => void) | undefined;
  /** Told what happens, for whoever looks for a fault. */
  trace: ((text: string) => void) | undefined;
  /** Told at once when a node dies. */
  died: (node: BenchNode) => void = () => {};
  messages = 0;
  readonly #free = new Map<string, number>();
  #lives = 0;

  constructor(readonly options: BenchOptions) {
    this.dice = new Dice(options.seed);
    this.configured = Array.from({ length: options.nodes }, (_, node) => ({ node, port: 7777, address: 0x0a000000 + node }));
  }

  /** Why a kernel in the place of one of these nodes would have panicked. */
  readonly panicked: string[] = [];

  panics(why: string | undefined, from: BenchNode, to: BenchNode, type: number, payload: Uint8Array): void {
    if (why !== undefined) this.panicked.push(`${this.time.now().toFixed(3)} ${from.name} to ${to.name}: ${describe(type, payload)}: ${why}`);
  }

  running(node: number): BenchNode | undefined {
    const it = this.nodes[node];
    return it?.alive ? it : undefined;
  }

  all(): BenchNode[] {
    return this.nodes.filter((node): node is BenchNode => node?.alive === true);
  }

  members(): BenchNode[] {
    return this.all().filter((node) => node.domain.core.state === 'joined');
  }

  /** In order, per direction. What was sent by who is dead when it arrives, is lost if that was later than its last breath. */
  deliver(from: BenchNode, to: number, fn: () => void): void {
    if (this.lost?.(from, to) === true) return;
    const key = `${from.number}.${from.life} ${to}`;
    const at = Math.max(this.#free.get(key) ?? 0, this.time.now() + 0.05 + this.dice.below((this.options.delay ?? 5) * 1000) / 1000);
    this.#free.set(key, at + 0.001);
    this.messages++;
    const target = this.nodes[to];
    this.time.after(at - this.time.now(), () => {
      const peer = this.nodes[to];
      if (peer === undefined || peer !== target || !peer.alive || !peer.beats.live.has(from.number) || (this.nodes[from.number] !== from)) return;
      if (!from.alive && this.time.now() > (this.#breath.get(from) ?? 0)) return;
      fn();
    });
  }

  readonly #breath = new Map<BenchNode, number>();

  /** A machine boots; everybody sees it beat, and it them. */
  boot(number: number): BenchNode {
    const node = new BenchNode(this, number, this.#lives++);
    this.nodes[number] = node;
    for (const other of this.all()) {
      other.beats.up(number);
      node.beats.up(other.number);
    }
    return node;
  }

  /** A machine loses power. The others notice one after the other. */
  kill(node: BenchNode): void {
    if (!node.alive) return;
    node.alive = false;
    this.#breath.set(node, this.time.now() + this.dice.below(6));
    this.died(node);
    const [least, most] = this.options.dead ?? [1000, 2500];
    for (const other of this.all()) {
      this.time.after(least + this.dice.below(most - least), () => {
        if (!other.alive || this.nodes[node.number] !== node) return;
        this.trace?.(`${other.name} notices ${node.name}`);
        other.beats.down(node.number);
      });
    }
  }

  /** All survivors have noticed that it is dead. */
  noticed(node: BenchNode): boolean {
    return this.all().every((other) => !other.beats.live.has(node.number));
  }

  join(node: BenchNode, done: (error?: Error) => void = rethrow): void {
    node.domain.join(done);
  }

  /** Runs until `condition` holds; throws after `limit` milliseconds of virtual time. */
  until(what: string, condition: () => boolean, limit = 120_000): void {
    const end = this.time.now() + limit;
    while (!condition()) if (!this.time.step(end)) throw new Error(`${what}: not within ${limit} ms (seed ${this.options.seed})`);
  }

  /** Boots and joins nodes, one after the other. */
  start(numbers: readonly number[]): BenchNode[] {
    return numbers.map((number) => {
      const node = this.boot(number);
      this.join(node);
      this.until(`${node.name} joins`, () => node.domain.core.state === 'joined');
      return node;
    });
  }
}

function describe(type: number, payload: Uint8Array): string {
  const codec = (MESSAGES as unknown as Readonly<Record<number, Codec<Record<string, unknown>>>>)[type];
  const fields = Object.entries(codec.decode(payload)).filter(([key]) => key !== 'lvb' && key !== 'node');
  const show = (value: unknown): string => (typeof value === 'bigint' ? `${value >> 56n}:${value & 0xff_ffffn}` : Array.isArray(value) ? `[${value.map(show).join(' ')}]` : typeof value === 'object' ? Object.values(value ?? {}).map(show).join('/') : String(value));
  return `${codec.name} ${fields.map(([key, value]) => `${key}=${show(value)}`).join(' ')}`;
}

function rethrow(error?: Error): void {
  if (error !== undefined) throw error;
}
