/** Clusters of cores under chance: every run is all in its seed, which a failure prints. */
import { expect, it } from 'vitest';
import { encodeFrame, encodeHandshake, Magic, MAX_PAYLOAD, PROTOCOL_VERSION } from '../../src/net/frame.js';
import type { SocketEvents } from '../../src/net/index.js';
import type { RequestResult } from '../../src/ports.js';
import { VirtualCluster } from '../support/virtual-net.js';

const KEY = 1;
const TYPE = 500;

/** Small and reproducible (mulberry32). */
function dice(seed: number): (sides: number) => number {
  let state = seed;
  return (sides) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % sides;
  };
}

const SEEDS = [1, 2, 3, ...Array.from({ length: 12 }, () => Math.floor(Math.random() * 2 ** 31))];

it.each(SEEDS)('seed %i: each request ends once, those handled are in order, and all is whole again when the trouble is over', (seed) => {
  const roll = dice(seed);
  const count = 2 + roll(3);
  const cluster = new VirtualCluster(count);
  const { clock, network, nodes } = cluster;
  network.delay = () => 1 + roll(40);
  network.piece = () => 1 + roll(100);
  /** By sender and receiver: the values handled. */
  const handled = new Map<string, number[]>();
  const asked: { from: number; to: number; value: number; results: RequestResult[] }[] = [];
  for (const [to, { core }] of nodes.entries()) {
    core.handle(KEY, TYPE, MAX_PAYLOAD, (from, payload, reply) => {
      const value = Buffer.from(payload).readUInt32BE(0);
      const key = `${from} ${to}`;
      handled.set(key, [...(handled.get(key) ?? []), value]);
      if (roll(4) === 0) clock.after(roll(300), () => reply(value));
      else reply(value);
    });
  }
  cluster.allUp();
  const pair = (): [number, number] => {
    const a = roll(count);
    return [a, (a + 1 + roll(count - 1)) % count];
  };
  const ask = (from: number, to: number): void => {
    const payload = Buffer.alloc(4 + roll(60));
    const value = asked.length;
    payload.writeUInt32BE(value);
    const results: RequestResult[] = [];
    asked.push({ from, to, value, results });
    nodes[from].core.request(to, TYPE, KEY, payload, (result) => results.push(result));
  };
  for (let step = 0; step < 300; step++) {
    const [a, b] = pair();
    const what = roll(40);
    if (what < 28) ask(a, b);
    else if (what < 30) network.cut(nodes[a].address, nodes[b].address);
    else if (what < 33) network.heal(nodes[a].address, nodes[b].address);
    else if (what < 34) network.reset(nodes[a].address, nodes[b].address);
    else if (what < 36) nodes[a].beats.down(b);
    else if (what < 39) nodes[a].beats.up(b);
    clock.run(roll(20) === 0 ? roll(80_000) : roll(200));
  }
  for (let a = 0; a < count; a++) for (let b = 0; b < a; b++) network.heal(nodes[a].address, nodes[b].address);
  // A node that one side has seen die was seen to die by all when it comes back: so everybody is born anew.
  for (const { beats } of nodes) for (let node = 0; node < count; node++) beats.down(node);
  cluster.allUp();
  clock.run(70_000);
  for (const { core } of nodes) expect(core.connected).toHaveLength(count - 1);
  for (let a = 0; a < count; a++) for (let b = 0; b < count; b++) if (a !== b) ask(a, b);
  clock.run(5_000);
  for (const { from, to, value, results } of asked) {
    expect(results, `request ${value} of ${from} to ${to}`).toHaveLength(1);
    if ('status' in results[0]) {
      expect(results[0].status).toBe(value);
      expect(handled.get(`${from} ${to}`)).toContain(value);
    } else expect(results[0].error).toMatch(/^(host-down|not-connected)$/);
  }
  for (const one of asked.slice(-count * (count - 1))) expect(one.results[0]).toEqual({ status: one.value });
  for (const values of handled.values()) expect(values).toEqual([...values].sort((a, b) => a - b));
  for (const { notices } of nodes) expect(notices.filter(({ code }) => code === 'PROTOCOL')).toEqual([]);
});

const HANDSHAKE = encodeHandshake({ version: PROTOCOL_VERSION, connectorId: 1n, heartbeatTimeout: 60_000, idleTimeout: 30_000, keepaliveDelay: 2_000, reconnectDelay: 2_000 });

it.each(SEEDS)('seed %i: whatever a peer sends closes at most its own connection, with a message', (seed) => {
  const roll = dice(seed);
  const cluster = new VirtualCluster(3);
  const { clock, nodes: [node, other] } = cluster;
  cluster.allUp();
  clock.run(100);
  node.core.handle(KEY, TYPE, 100, (_from, _payload, reply) => reply(1));
  let closures = 0;
  for (let round = 0; round < 150; round++) {
    node.beats.down(2);
    node.beats.up(2);
    let closed = false;
    const events: SocketEvents | undefined = node.core.accepted({ send: () => {}, close: () => (closed = true) }, '10.0.0.2');
    if (!events) throw new Error('the connection was turned away');
    const frames = Array.from({ length: 1 + roll(6) }, () => encodeFrame({
      magic: [Magic.MESSAGE, Magic.STATUS, Magic.KEEPALIVE_REQUEST, Magic.KEEPALIVE_RESPONSE][roll(4)], type: TYPE, key: KEY, number: roll(3), payload: new Uint8Array(roll(4) === 0 ? roll(4_000) : roll(150)),
    }));
    const stream = Buffer.concat([HANDSHAKE, ...frames]);
    const sent = { done: false };
    for (let change = roll(5); change > 0; change--) stream[HANDSHAKE.length + roll(Math.min(40, stream.length - HANDSHAKE.length))] = roll(256);
    if (roll(10) === 0) stream[roll(HANDSHAKE.length)] ^= 1 << roll(8);
    const before = node.notices.length;
    for (let at = 0; at < stream.length && !closed; ) {
      const end = at + 1 + roll(400);
      events.received(stream.subarray(at, end));
      if (at <= HANDSHAKE.length && end > HANDSHAKE.length && !closed) node.core.request(2, TYPE, KEY, new Uint8Array(4), () => (sent.done = true));
      at = end;
    }
    if (closed) {
      closures++;
      expect(node.notices.slice(before).map(({ code }) => code)).toContainEqual(expect.stringMatching(/^(PROTOCOL|REFUSED)$/));
    } else events.closed('reset');
    clock.run(1);
  }
  expect(closures).toBeGreaterThan(20);
  let answer: RequestResult | undefined;
  other.core.request(0, TYPE, KEY, new Uint8Array(4), (result) => (answer = result));
  clock.run(10);
  expect(answer).toEqual({ status: 1 });
  expect(other.notices.map(({ code }) => code)).toEqual(['CONNECTED', 'CONNECTED']);
});
