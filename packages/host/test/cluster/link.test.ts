/** Membership and messages as a volume process has them, over a link to lunfsd's real o2net: two nodes on loopback, each with a process. */
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { type Membership, type MembershipListener, NodeMap, type Suspicion, O2net, type RequestResult, hostScheduler, listen, tcpTransport, timeoutsOf } from '@lunfs/o2cb';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Frame, FrameParser, KIND } from '../../src/cluster/frames.js';
import { DLM_MOD_KEY, JoinRouter } from '../../src/cluster/join-router.js';
import { Link } from '../../src/cluster/link.js';
import { MemberServer } from '../../src/cluster/member-server.js';
import { RemoteMember } from '../../src/cluster/remote-member.js';

const KEY = 0xce613ceb;

/** A membership that the test decides. */
class Members implements Membership, Suspicion {
  readonly live = new NodeMap();
  readonly suspects = new NodeMap();
  #doubter = (): void => undefined;
  #listeners: { readonly order: number; readonly listener: MembershipListener }[] = [];

  constructor(readonly local: number) {}

  subscribe(order: number, listener: MembershipListener): () => void {
    const mine = { order, listener };
    this.#listeners = [...this.#listeners, mine].sort((a, b) => a.order - b.order);
    return () => {
      this.#listeners = this.#listeners.filter((one) => one !== mine);
    };
  }

  onSuspicion(listener: () => void): () => void {
    this.#doubter = listener;
    return () => undefined;
  }

  suspect(node: number, doubt: boolean): void {
    if (doubt) this.suspects.add(node);
    else this.suspects.delete(node);
    this.#doubter();
  }

  tell(node: number, up: boolean): void {
    if (up) this.live.add(node);
    else this.live.delete(node);
    for (const { listener } of this.#listeners) {
      if (up) listener.nodeUp(node);
      else listener.nodeDown(node);
    }
  }
}

interface Host {
  readonly members: Members;
  readonly net: O2net;
  readonly server: MemberServer;
  /** What the volume process has. */
  readonly remote: RemoteMember;
  /** The process dies. */
  die(): Promise<void>;
}

const undo: (() => void)[] = [];
let one: Host;
let two: Host;

async function socketPair(): Promise<[net.Socket, net.Socket]> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lunfs-link-'));
  const listener = net.createServer().listen(path.join(directory, 'socket'));
  await once(listener, 'listening');
  const client = net.connect(path.join(directory, 'socket'));
  const [server] = (await once(listener, 'connection')) as [net.Socket];
  listener.close();
  fs.rmSync(directory, { recursive: true });
  return [client, server];
}

async function host(number: number, port: number): Promise<Host> {
  const nodes = [1, 2].map((n) => ({ number: n, name: `n${n}`, address: `127.0.92.${n}`, port }));
  const members = new Members(number);
  const core = new O2net({ nodes, times: timeoutsOf(), membership: members, links: { connUp() {}, connError() {}, stillUp() {} }, scheduler: hostScheduler, transport: tcpTransport, notice: () => undefined, severed: () => undefined });
  const close = await listen(core, nodes[number - 1]);
  core.start();
  const joins = new JoinRouter(core, members);
  const [ours, theirs] = await socketPair();
  const remoteLink: Link = new Link(ours, (frame) => void remote.receive(frame));
  const remote = new RemoteMember({ node: number, live: [...members.live], suspects: [7] }, remoteLink);
  const link: Link = new Link(theirs, (frame) => void server.receive(frame));
  const server = new MemberServer(link, { membership: members, suspicion: members, messenger: core, joins }, 'AB'.repeat(16));
  undo.push(() => {
    ours.destroy();
    server.close();
    joins.close();
    core.stop();
    close();
  });
  return {
    members, net: core, server, remote,
    die: async () => {
      ours.destroy();
      await link.closed;
      server.close();
    },
  };
}

function request(from: Host, to: number, type: number, payload: Uint8Array, key = KEY): Promise<RequestResult> {
  return new Promise((resolve) => from.remote.request(to, type, key, payload, resolve));
}

beforeEach(async () => {
  const probe = net.createServer().listen(0, '127.0.92.1');
  await once(probe, 'listening');
  const { port } = probe.address() as net.AddressInfo;
  probe.close();
  await once(probe, 'close');
  one = await host(1, port);
  two = await host(2, port);
  for (const node of [1, 2]) for (const side of [one, two]) side.members.tell(node, true);
});
afterEach(() => {
  for (const step of undo.splice(0)) step();
});

it('tells who lives, before and in the order of what it means for requests', async () => {
  const told: string[] = [];
  one.remote.subscribe(10, { nodeUp: (node) => told.push(`late up ${node}`), nodeDown: (node) => told.push(`late down ${node}`) });
  one.remote.subscribe(1, { nodeUp: (node) => told.push(`up ${node}`), nodeDown: (node) => told.push(`down ${node}, live ${[...one.remote.live].join(' ')}`) });
  two.remote.handle(KEY, 505, 144, () => undefined); // never answers
  one.remote.request(2, 505, KEY, new Uint8Array(80), (result) => told.push(JSON.stringify(result)));
  await expect.poll(() => two.net.statistics[0].received).toBeGreaterThan(0);
  one.members.tell(2, false);
  await expect.poll(() => told).toContain('late down 2');
  // o2net drops the connection before the lock manager hears of the death: so does its request.
  expect(told.filter((line) => !line.includes('up'))).toEqual(['{"error":"host-down"}', 'down 2, live 1', 'late down 2']);
});

it('carries requests, statuses and payloads, in order', async () => {
  const seen: number[] = [];
  two.remote.handle(KEY, 503, 4072, (from, payload, reply) => {
    seen.push(payload[0]);
    expect([from, payload.length]).toEqual([1, 4072]);
    reply(-payload[0]);
  });
  const results = await Promise.all(Array.from({ length: 200 }, (_, i) => request(one, 2, 503, new Uint8Array(4072).fill(i))));
  expect(seen).toEqual(Array.from({ length: 200 }, (_, i) => i));
  expect(results).toEqual(Array.from({ length: 200 }, (_, i) => ({ status: i === 0 ? 0 : -i })));
});

it('answers for handlers that are not there, no longer there, or too small', async () => {
  expect(await request(one, 2, 503, new Uint8Array(4))).toEqual({ error: 'no-handler' });
  const end = two.remote.handle(KEY, 503, 80, () => undefined);
  await expect.poll(() => request(one, 2, 503, new Uint8Array(81))).toEqual({ error: 'overflow' });
  const pending = request(one, 2, 503, new Uint8Array(80));
  await expect.poll(() => two.net.statistics[0].received).toBeGreaterThan(2);
  end();
  expect(await pending).toEqual({ error: 'no-handler' });
  expect(await request(one, 2, 503, new Uint8Array(4))).toEqual({ error: 'no-handler' });
});

it('gives a message about joining to the process that has the domain, and answers as the kernel for others', async () => {
  const query = (domain: string): Uint8Array => {
    const message = Buffer.alloc(104);
    message[0] = 1;
    message[3] = domain.length;
    message.write(domain, 8, 'latin1');
    return message;
  };
  expect(await request(one, 2, 510, query('AB'.repeat(16)), DLM_MOD_KEY)).toEqual({ status: 2 << 24 });
  const end = two.remote.handle(DLM_MOD_KEY, 510, 104, (_from, _payload, reply) => reply(0x01030000));
  await expect.poll(() => request(one, 2, 510, query('AB'.repeat(16)), DLM_MOD_KEY)).toEqual({ status: 0x01030000 });
  expect(await request(one, 2, 510, query('CD'.repeat(16)), DLM_MOD_KEY)).toEqual({ status: 2 << 24 });
  expect(await request(one, 2, 511, query('CD'.repeat(16)).subarray(0, 68), DLM_MOD_KEY)).toEqual({ status: 0 });
  expect(await request(one, 2, 519, new Uint8Array(1092), DLM_MOD_KEY)).toEqual({ status: -22 });
  end();
  await expect.poll(() => request(one, 2, 510, query('AB'.repeat(16)), DLM_MOD_KEY)).toEqual({ status: 2 << 24 });
});

it('leaves what a dead process was asked unanswered until its node is down', async () => {
  two.remote.handle(KEY, 503, 80, () => undefined);
  await expect.poll(() => two.net.connected).toEqual([1]);
  let answered: RequestResult | undefined;
  const pending = request(one, 2, 503, new Uint8Array(8)).then((result) => {
    answered = result;
  });
  await expect.poll(() => two.net.statistics[0].received).toBeGreaterThan(0);
  await two.die();
  await new Promise((resolve) => { setTimeout(resolve, 300); });
  expect(answered).toBeUndefined();
  one.members.tell(2, false);
  await pending;
  expect(answered).toEqual({ error: 'host-down' });
});

it('frames survive any cut, and one that is too long is refused', async () => {
  const [left, right] = await socketPair();
  const link = new Link(left, () => undefined);
  const whole: Buffer[] = [];
  right.on('data', (chunk: Buffer) => whole.push(chunk));
  for (let i = 0; i < 50; i++) link.send(KIND.request, { id: 0xffffffff - i, node: i, type: 500 + i, key: i * 7, value: -i, payload: new Uint8Array(i * 13).fill(i) });
  await link.drained();
  link.close();
  await once(right, 'close');
  const bytes = Buffer.concat(whole);
  for (const size of [1, 7, 19, 20, 21, 4096]) {
    const got: Frame[] = [];
    const parser = new FrameParser((frame) => got.push(frame));
    for (let at = 0; at < bytes.length; at += size) parser.push(Buffer.from(bytes.subarray(at, at + size)));
    expect(got.length).toBe(50);
    expect(got[49]).toEqual({ kind: KIND.request, id: 0xffffffff - 49, node: 49, type: 549, key: 343, value: -49, payload: new Uint8Array(49 * 13).fill(49) });
  }
  expect(() => new FrameParser(() => undefined).push(Buffer.alloc(20, 0xff))).toThrow(/frame of 4294967295 bytes/);
});

it('a doubt about who lives comes in order with the deaths', async () => {
  expect([...one.remote.suspicion.suspects]).toEqual([7]);
  const seen: string[] = [];
  const ended = new Promise<void>((resolve) => {
    one.remote.suspicion.onSuspicion(() => {
      seen.push([...one.remote.suspicion.suspects].join());
      if (seen.at(-1) === '') resolve();
    });
  });
  one.remote.subscribe(0, { nodeUp: () => undefined, nodeDown: (node) => seen.push(`down ${node}`) });
  one.members.suspect(2, true);
  one.members.tell(2, false);
  one.members.suspect(2, false);
  await ended;
  expect(seen).toEqual(['2', 'down 2', '']);
});
