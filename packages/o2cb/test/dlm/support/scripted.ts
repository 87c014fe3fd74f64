/** One core whose peers are the test: it sees every request and answers it, or doesn't. */
import { type ClientLock, Dlm, type DlmDomain, type DlmOptions, type Level, type LockOptions } from '../../../src/dlm/index.js';
import type { Core } from '../../../src/dlm/core.js';
import { type Message, type MessageType, decode, encode } from '../../../src/dlm/messages.js';
import { DLM_MODULE_KEY } from '../../../src/dlm/status.js';
import { NodeMap } from '../../../src/node-map.js';
import type { MembershipListener, MessageHandler, RequestResult } from '../../../src/ports.js';
import { VirtualTime } from './bench.js';

export interface Sent {
  readonly to: number;
  readonly type: MessageType;
  readonly payload: Uint8Array;
  answer(status: number): void;
  lose(): void;
}

export class Scripted {
  readonly time = new VirtualTime();
  readonly live: NodeMap;
  readonly dlm: Dlm;
  readonly domain: DlmDomain;
  /** Requests that are not answered yet, and all there were. */
  readonly open: Sent[] = [];
  readonly said: Sent[] = [];
  readonly told: string[] = [];
  readonly evicted: number[] = [];
  readonly #handlers = new Map<string, MessageHandler>();
  readonly #listeners: MembershipListener[] = [];

  /** `members`: with whom this node has been in the domain for long; without, it has not joined. */
  constructor(readonly local: number, live: readonly number[], members?: readonly number[], facts: Partial<DlmOptions> = {}) {
    this.live = new NodeMap(members ? [local] : live);
    this.dlm = new Dlm({
      scheduler: this.time, nodes: () => [{ node: local, port: 7777, address: 1 }], regions: () => [], ...facts,
      membership: { local, live: this.live, subscribe: (_, listener) => {
        this.#listeners.push(listener);
        return () => {};
      } },
      messenger: {
        handle: (key, type, _, handler) => {
          this.#handlers.set(`${key} ${type}`, handler);
          return () => this.#handlers.delete(`${key} ${type}`);
        },
        request: (to, type, _, payload, done) => this.#request(to, type as MessageType, payload.slice(), done),
      },
    });
    this.domain = this.dlm.domain('D', { evicted: (node) => this.evicted.push(node) });
    if (members === undefined) return;
    this.domain.join(() => {});
    for (const node of live) this.live.add(node);
    this.core.live = this.live.copy();
    for (const node of members) this.core.domain.add(node);
  }

  get core(): Core {
    return this.domain.core;
  }

  /** A message of another node; its status, or undefined without a handler. */
  receive<T extends MessageType>(from: number, type: T, message: Message<T>): number | undefined {
    return this.receiveRaw(from, type, encode(type, message));
  }

  receiveRaw(from: number, type: number, payload: Uint8Array): number | undefined {
    const key = type >= 510 && type !== 513 && type !== 514 && type !== 515 && type !== 516 && type !== 517 && type !== 518 && type !== 521 && type !== 522 ? DLM_MODULE_KEY : this.core.options.key;
    let status: number | undefined;
    this.#handlers.get(`${key} ${type}`)?.(from, payload, (answer) => {
      status = answer === 'no-handler' ? undefined : answer;
    });
    return status;
  }

  /** The oldest request of a type that is open. */
  next<T extends MessageType>(type: T, to?: number): Sent & { readonly message: Message<T> } {
    const found = this.open.find((sent) => sent.type === type && (to === undefined || sent.to === to));
    if (found === undefined) throw new Error(`no ${type} is open, but ${this.open.map((sent) => `${sent.type} to ${sent.to}`).join(', ') || 'nothing'}`);
    return Object.assign(found, { message: decode(type, found.payload) });
  }

  /** Answers all requests of these types, those that follow too, until none is open. */
  answerAll(statuses: Readonly<Record<number, number>>): void {
    for (let found = this.open.find((sent) => sent.type in statuses); found !== undefined; found = this.open.find((sent) => sent.type in statuses)) found.answer(statuses[found.type]);
  }

  lock(label: string, name: string, level: Level, options?: LockOptions): ClientLock {
    return this.domain.lock(name, level, {
      ast: (result, lvb) => this.told.push(`${label} ${result}${lvb[0] ? ` ${lvb[0]}` : ''}`),
      bast: (blocked) => this.told.push(`${label} bast ${blocked}`),
      failed: (error) => this.told.push(`${label} failed ${error.message}`),
    }, options);
  }

  down(node: number): void {
    this.live.delete(node);
    for (const sent of [...this.open]) if (sent.to === node) sent.lose();
    for (const listener of this.#listeners) listener.nodeDown(node);
  }

  up(node: number): void {
    this.live.add(node);
    for (const listener of this.#listeners) listener.nodeUp(node);
  }

  #request(to: number, type: MessageType, payload: Uint8Array, done: (result: RequestResult) => void): void {
    const end = (result: RequestResult) => {
      this.open.splice(this.open.indexOf(sent), 1);
      done(result);
    };
    const sent: Sent = { to, type, payload, answer: (status) => end({ status }), lose: () => end({ error: 'host-down' }) };
    this.open.push(sent);
    this.said.push(sent);
  }
}
