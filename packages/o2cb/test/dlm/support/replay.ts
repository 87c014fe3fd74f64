/**
 * A capture of kernel nodes with our core in the place of one of them. What the others said arrives when it was captured and gets our
 * statuses, which must be the captured ones; what our core says must be what that node said, to each other node in the same order, and
 * gets the captured statuses at their times. Calls of the file system are the script's.
 */
import { NodeMap } from '../../../src/node-map.js';
import { type ClientLock, Dlm, type DlmDomain, type Level, type LockOptions } from '../../../src/dlm/index.js';
import type { Core } from '../../../src/dlm/core.js';
import { MESSAGES, type Codec, decode } from '../../../src/dlm/messages.js';
import { Lock, QUEUES, Resource } from '../../../src/dlm/resource.js';
import { BAST, TYPE } from '../../../src/dlm/status.js';
import { Magic } from '../../../src/net/frame.js';
import type { MembershipListener, MessageHandler, RequestResult } from '../../../src/ports.js';
import { readO2net } from '../../support/captures.js';
import { VirtualTime } from './bench.js';

const codecs = MESSAGES as unknown as Readonly<Record<number, Codec<Record<string, unknown>>>>;

export interface Exchange {
  readonly from: number;
  readonly to: number;
  readonly type: number;
  readonly key: number;
  readonly payload: Uint8Array;
  /** Milliseconds from the start of the capture. */
  readonly at: number;
  readonly answeredAt: number;
  /** Undefined when it was never answered. */
  readonly status: number | undefined;
}

/** All requests of a capture, with their statuses. */
export function exchanges(capture: string): Exchange[] {
  const frames = readO2net(capture).items.flatMap((item) => (item.kind === 'frame' && codecs[item.frame.type] !== undefined ? [item] : []));
  const answers = new Set<number>();
  return frames.flatMap((item, i) => {
    if (item.frame.magic !== Magic.MESSAGE) return [];
    const j = frames.findIndex((other, k) => k > i && !answers.has(k) && other.frame.magic === Magic.STATUS && other.connection === item.connection && other.from === item.to && other.frame.number === item.frame.number);
    if (j >= 0) answers.add(j);
    const { from, to, frame: { type, key, payload } } = item;
    return [{ from, to, type, key, payload, at: item.time * 1000, answeredAt: j < 0 ? Infinity : frames[j].time * 1000, status: j < 0 ? undefined : frames[j].frame.status }];
  });
}

export const show = ({ type, payload }: { readonly type: number; readonly payload: Uint8Array }): string => {
  const fields = Object.entries(codecs[type].decode(payload)).map(([key, value]) => `${key}=${value instanceof Uint8Array ? Buffer.from(value).toString('hex').replace(/(00)+$/, '') : value instanceof NodeMap ? [...value].join('/') : JSON.stringify(value, (_, v: unknown) => (typeof v === 'bigint' ? String(v) : v))}`);
  return `${codecs[type].name} ${fields.join(' ')}`;
};

export interface Script {
  readonly capture: string;
  readonly node: number;
  /** Members at the beginning; without them, the domain is not joined. */
  readonly members?: readonly number[];
  readonly live: readonly number[];
  /** Added to the clock. */
  readonly clock?: number;
  /** Milliseconds from the capture of a status to the node's taking note of it. */
  readonly lag?: number;
  /** Requests of these types may come more or less often than captured, once they have come. */
  readonly repeated?: readonly number[];
  readonly calls?: readonly (readonly [seconds: number, call: (replay: Replay) => void])[];
  /** Part of the capture: seconds. */
  readonly since?: number;
  readonly until?: number;
}

export class Replay {
  readonly time = new VirtualTime();
  readonly dlm: Dlm;
  domain: DlmDomain;
  /** What differs from the capture. */
  readonly differences: string[] = [];
  readonly evicted: number[] = [];
  /** What locks were told. */
  readonly told: string[] = [];
  readonly cookies: bigint[] = [];
  readonly locks = new Map<string, ClientLock>();
  readonly #handlers = new Map<string, MessageHandler>();
  readonly #listeners: MembershipListener[] = [];
  readonly #live: NodeMap;
  readonly #expected: (Exchange & { done?: boolean })[];
  readonly #incoming: Exchange[];
  readonly #waiting = new Set<{ to: number; done: (result: RequestResult) => void }>();

  constructor(readonly script: Script) {
    const [start, end] = [(script.since ?? 0) * 1000, (script.until ?? Infinity) * 1000];
    const all = exchanges(script.capture).filter(({ at }) => at >= start && at <= end);
    this.#expected = all.filter(({ from }) => from === script.node);
    this.#incoming = all.filter(({ to }) => to === script.node);
    this.#live = new NodeMap(script.live);
    const scheduler = { now: () => this.time.now() + (script.clock ?? 0), after: (ms: number, fn: () => void) => this.time.after(ms, fn) };
    this.dlm = new Dlm({
      scheduler, regions: () => [],
      nodes: () => [0, 1, 2, 3].map((node) => ({ node, port: 7777, address: 0xc0a8070a + node })),
      membership: { local: script.node, live: this.#live, subscribe: (_, listener) => {
        this.#listeners.push(listener);
        return () => {};
      } },
      messenger: {
        handle: (key, type, _, handler) => {
          this.#handlers.set(`${key} ${type}`, handler);
          return () => this.#handlers.delete(`${key} ${type}`);
        },
        request: (to, type, key, payload, done) => this.#request(to, type, key, payload.slice(), done),
      },
    });
    this.domain = this.dlm.domain('0123456789ABCDEF0123456789ABCDEF', { evicted: (node) => this.evicted.push(node) });
    const counted = this.core.options.nextCookie;
    Object.assign(this.core.options, { nextCookie: () => this.cookies.shift() ?? counted() + (1n << 40n) });
    if (script.members) {
      this.#start();
      for (const node of script.members) this.core.domain.add(node);
    }
  }

  get core(): Core {
    return this.domain.core;
  }

  /** As if it had been a member for long. */
  #start(): void {
    const live = [...this.#live];
    for (const node of live) if (node !== this.script.node) this.#live.delete(node);
    this.domain.join(() => {});
    for (const node of live) this.#live.add(node);
    this.core.live = this.#live.copy();
    if (this.core.state !== 'joined') throw new Error(`not joined: ${this.core.state}`);
  }

  /** A resource as it was before the capture: locks of whom, with cookies as node:number. */
  seed(name: string, owner: number, locks: readonly { cookie: bigint; node: number; mode: number; list?: number; convertMode?: number }[] = [], lvb?: Uint8Array): Resource {
    const res = this.core.resources.get(name) ?? new Resource(name);
    res.owner = owner;
    if (!res.hashed) this.core.insert(res);
    if (lvb) res.lvb = lvb;
    for (const { cookie, node, mode, list = 0, convertMode = -1 } of locks) {
      const lock = new Lock(res, cookie, node, mode);
      lock.convertMode = convertMode;
      res.move(lock, QUEUES[list]);
      if (owner === this.script.node && node !== owner) res.refmap.add(node);
    }
    return res;
  }

  /** A lock of this node that was there before: its user is made for it. */
  hold(label: string, name: string, owner: number, cookie: bigint, level: Level, lvb: Uint8Array, options: LockOptions = { valueBlock: true }): void {
    this.seed(name, this.script.node);
    this.cookies.push(cookie);
    const first = options.valueBlock ? 0 : level;
    this.lock(label, name, first as Level, options);
    const res = this.core.resources.get(name);
    const lock = res?.find(cookie);
    if (res === undefined || lock === undefined) throw new Error(`${label} is not held`);
    res.owner = owner;
    lock.mode = level;
    lock.lvb = lvb;
    this.told.length = 0;
  }

  lock(label: string, name: string, level: Level, options?: LockOptions): void {
    this.locks.set(label, this.domain.lock(name, level, {
      ast: (result) => this.told.push(`${label} ${result}`),
      bast: (blocked) => this.told.push(`${label} bast ${blocked}`),
      failed: (error) => this.differences.push(`${label} failed: ${error.message}`),
    }, options));
  }

  get(label: string): ClientLock {
    const lock = this.locks.get(label);
    if (lock === undefined) throw new Error(label);
    return lock;
  }

  down(node: number): void {
    this.#live.delete(node);
    for (const request of [...this.#waiting]) {
      if (request.to !== node) continue;
      this.#waiting.delete(request);
      request.done({ error: 'host-down' });
    }
    for (const listener of this.#listeners) listener.nodeDown(node);
  }

  /** Runs the capture to its end. */
  run(): this {
    for (const exchange of this.#incoming) this.time.after(exchange.at, () => this.#deliver(exchange));
    for (const [seconds, call] of this.script.calls ?? []) this.time.after(seconds * 1000, () => call(this));
    const end = Math.max(...[...this.#expected, ...this.#incoming].map(({ at, answeredAt }) => (answeredAt === Infinity ? at : answeredAt)));
    this.time.run(end + 300);
    for (const exchange of this.#expected) {
      if (!exchange.done && !this.script.repeated?.includes(exchange.type)) this.differences.push(`${exchange.at.toFixed(0)} never said to ${exchange.to}: ${show(exchange)}`);
    }
    return this;
  }

  #deliver(exchange: Exchange): void {
    const handler = this.#handlers.get(`${exchange.key} ${exchange.type}`);
    const compare = (status: number | string) => {
      // Whether the round of asserts is over is a matter of microseconds.
      const same = exchange.type === TYPE.DEREF_LOCKRES ? status === 0 || status === 1 : status === exchange.status;
      if (exchange.status !== undefined && !same) this.differences.push(`${exchange.at.toFixed(0)} from ${exchange.from}: ${show(exchange)}: answered ${status} instead of ${exchange.status}`);
    };
    if (handler === undefined) compare('no-handler');
    else handler(exchange.from, exchange.payload.slice(), compare);
  }

  #request(to: number, type: number, key: number, payload: Uint8Array, done: (result: RequestResult) => void): void {
    const same = (exchange: Exchange) => exchange.to === to && exchange.type === type && exchange.key === key && Buffer.compare(exchange.payload, payload) === 0;
    const found = this.#expected.find((exchange) => !exchange.done && same(exchange));
    if (found !== undefined) found.done = true;
    // How often a BAST comes depends on how fast the one before was answered.
    const again = this.script.repeated?.includes(type) === true || (type === TYPE.PROXY_AST && decode(type, payload).type === BAST && this.#expected.some((exchange) => exchange.done && same(exchange)));
    const answer = found ?? (again ? this.#expected.findLast(same) : undefined);
    if (answer === undefined) {
      this.differences.push(`${this.time.now().toFixed(0)} said to ${to} what nobody said: ${show({ type, payload })}`);
      return;
    }
    const { status } = answer;
    const request = { to, done };
    this.#waiting.add(request);
    if (status === undefined) return;
    this.time.after(Math.max(answer.answeredAt + (this.script.lag ?? 0) - this.time.now(), 1), () => {
      if (this.#waiting.delete(request)) done({ status });
    });
  }
}
