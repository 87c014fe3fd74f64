import { describe, expect, it } from 'vitest';
import { encodeFrame, encodeHandshake, type Frame, Magic, MAX_PAYLOAD, PROTOCOL_VERSION, StreamDecoder, SystemStatus } from '../../src/net/frame.js';
import type { SocketEvents } from '../../src/net/index.js';
import { LUNFS_KEY, LUNFS_TYPE } from '../../src/net/severance.js';
import type { RequestResult } from '../../src/ports.js';
import { VirtualCluster, type VirtualNode } from '../support/virtual-net.js';

const KEY = 0xce613ceb;
const TYPE = 500;

/** Sends and remembers how it ended. */
function ask({ core }: VirtualNode, to: number, payload: number[] = [1], type = TYPE): { result?: RequestResult } {
  const outcome: { result?: RequestResult } = {};
  core.request(to, type, KEY, Uint8Array.from(payload), (result) => {
    expect(outcome.result, 'done is called once').toBeUndefined();
    outcome.result = result;
  });
  expect(outcome.result, 'done is never called within the call').toBeUndefined();
  return outcome;
}

function codes({ notices }: VirtualNode): string[] {
  return notices.map(({ code }) => code);
}

function connected(count: number): VirtualCluster {
  const cluster = new VirtualCluster(count);
  cluster.allUp();
  cluster.clock.run(100);
  for (const { core } of cluster.nodes) expect(core.connected).toHaveLength(count - 1);
  return cluster;
}

describe('connections', () => {
  it('are made by the higher number, and carry messages both ways', () => {
    const { nodes: [low, high], clock } = connected(2);
    expect(low.notices.map(({ message }) => message)).toEqual(['accepted a connection of node host1 (1, 10.0.0.1:7777)']);
    expect(high.notices.map(({ message }) => message)).toEqual(['connected to node host0 (0, 10.0.0.0:7777)']);
    expect(high.quorum.map((line) => line.slice(line.indexOf(' ') + 1))).toEqual(['up 1', 'up 0']);
    low.core.handle(KEY, TYPE, 8, (from, payload, reply) => reply(-from - payload[0]));
    high.core.handle(KEY, TYPE, 8, (_from, payload, reply) => reply(payload.length));
    const [a, b, c, d] = [ask(high, 0, [7]), ask(low, 1, [1, 2, 3]), ask(high, 0, [1], TYPE + 1), ask(low, 1, Array<number>(9).fill(0))];
    clock.run(10);
    expect([a, b, c, d].map(({ result }) => result)).toEqual([{ status: -8 }, { status: 3 }, { error: 'no-handler' }, { error: 'overflow' }]);
    expect(high.core.statistics).toMatchObject([{ node: 0, state: 'connected', outstanding: 0, waiting: 0, connections: 1, sent: 2, received: 2, lost: 0 }]);
  });

  it('closed early by a node that has not yet seen our heartbeat are tried again after the reconnect delay', () => {
    const { nodes: [low, high], clock, network } = new VirtualCluster(2);
    high.beats.up(0);
    clock.run(1_990);
    expect(network.attempts).toBe(1);
    const waiting = ask(high, 0);
    expect([high.core.connected, high.core.statistics[0].state, codes(low), codes(high)]).toEqual([[], 'connecting', [], []]);
    low.beats.up(1);
    low.core.handle(KEY, TYPE, 8, (_from, _payload, reply) => reply(5));
    clock.run(2_050 - 1_990);
    expect([waiting.result, network.attempts]).toEqual([{ status: 5 }, 2]);
    expect(high.quorum).not.toContainEqual(expect.stringContaining('error'));
  });

  it('are made whoever beats first, when both begin at the same moment, and never twice', () => {
    for (const order of [[0, 1], [1, 0]]) {
      const { nodes, clock } = new VirtualCluster(2);
      for (const node of order) nodes[node].beats.up(1 - node);
      clock.run(10_000);
      expect(nodes.map(({ core }) => core.statistics[0].connections)).toEqual([1, 1]);
    }
  });

  it('are turned away from strangers, from lower numbers and for a second time', () => {
    const { nodes: [, node] } = connected(3);
    const socket = { send: () => expect.unreachable(), close: () => expect.unreachable() };
    expect(node.core.accepted(socket, '10.0.0.9')).toBeUndefined();
    expect(node.core.accepted(socket, '10.0.0.0')).toBeUndefined();
    expect(node.core.accepted(socket, '10.0.0.2')).toBeUndefined();
    expect(node.notices.slice(-3)).toMatchObject([
      { code: 'TURNED_AWAY', node: undefined, message: expect.stringContaining('no node of the cluster') as string },
      { code: 'TURNED_AWAY', node: 0, message: expect.stringContaining('the one with the higher number connects') as string }, { code: 'TURNED_AWAY', node: 2, message: expect.stringContaining('already') as string },
    ]);
  });

  it('that are refused are named with the reason', () => {
    const { nodes: [low, high], clock, network } = new VirtualCluster(2);
    network.vanish(low.address);
    high.beats.up(0);
    clock.run(31_000);
    expect(high.notices).toMatchObject([{ code: 'NO_CONNECTION', message: expect.stringContaining('(the last attempt: refused)') as string }]);
  });

  it('that never get anywhere are named after the idle timeout, and go on being tried', () => {
    const { nodes: [low, high], clock, network } = new VirtualCluster(2);
    network.cut(low.address, high.address);
    high.beats.up(0);
    const waiting = ask(high, 0);
    clock.run(29_000);
    expect(codes(high)).toEqual([]);
    clock.run(2_000);
    expect(codes(high)).toEqual(['NO_CONNECTION']);
    expect(waiting.result).toBeUndefined();
    network.heal(low.address, high.address);
    low.beats.up(1);
    clock.run(31_000);
    expect(codes(high)).toContain('CONNECTED');
    expect(waiting.result).toEqual({ error: 'no-handler' });
  });
});

describe('the handshake', () => {
  it.each([
    ['idleTimeoutMs', 10_000, /network idle timeout of 30000 ms, we use 10000 ms/],
    ['keepaliveDelayMs', 1_000, /keepalive delay of 2000 ms, we use 1000 ms/],
    ['heartbeatThreshold', 7, /heartbeat timeout of 60000 ms, we use 12000 ms: O2CB_HEARTBEAT_THRESHOLD/],
  ])('refuses another %s on both sides, and asks again only after the idle timeout', (setting, value, message) => {
    const cluster = new VirtualCluster(2, { 1: { [setting]: value } });
    const { nodes: [low, high], clock } = cluster;
    cluster.allUp();
    const waiting = ask(high, 0);
    clock.run(5_000);
    expect(high.notices).toMatchObject([{ code: 'REFUSED', node: 0, message: expect.stringMatching(message) as string }]);
    expect(codes(low)).toEqual(['REFUSED']);
    expect(waiting.result).toEqual({ error: 'not-connected' });
    const later = ask(high, 0);
    clock.run(1);
    expect(later.result).toEqual({ error: 'not-connected' });
    expect([...low.quorum, ...high.quorum]).toEqual(['0 up 0', '0 up 1']);
    clock.run(30_000);
    expect(codes(high)).toContain('NO_CONNECTION');
    expect(codes(high).filter((code) => code === 'REFUSED').length).toBeGreaterThan(1);
  });

  it('does not compare the reconnect delay', () => {
    const cluster = new VirtualCluster(2, { 1: { reconnectDelayMs: 5_000 } });
    cluster.allUp();
    cluster.clock.run(100);
    expect(cluster.nodes[0].core.connected).toEqual([1]);
  });

  it('of another version is refused', () => {
    const { nodes: [node], clock } = new VirtualCluster(2);
    node.beats.up(1);
    let closed = false;
    node.core.handle(KEY, TYPE, 1, () => expect.unreachable());
    const events = node.core.accepted({ send: () => {}, close: () => (closed = true) }, '10.0.0.1')!;
    const theirs = encodeHandshake({ version: PROTOCOL_VERSION - 1n, connectorId: 1n, heartbeatTimeout: 60_000, idleTimeout: 30_000, keepaliveDelay: 2_000, reconnectDelay: 2_000 });
    events.received(Buffer.concat([theirs, encodeFrame({ magic: Magic.MESSAGE, type: TYPE, key: KEY })])); // the message is not looked at
    clock.run(1);
    expect([closed, node.notices[0].message]).toEqual([true, expect.stringContaining('version 10 of o2net, we speak 11')]);
  });
});

describe('quiet', () => {
  it('is broken by keepalives, so that idle connections never count as idle', () => {
    const { nodes, clock } = connected(2);
    clock.run(600_000);
    expect(nodes.map(codes)).toEqual([['CONNECTED'], ['CONNECTED']]);
    for (const { core } of nodes) expect(core.statistics[0].lastReceived).toBeLessThanOrEqual(2_010);
  });

  it('of a cut link: the connection stays, the quorum is asked after its delay, and what was sent arrives when it heals', () => {
    const { nodes: [low, high], clock, network } = connected(2);
    low.core.handle(KEY, TYPE, 8, (_from, _payload, reply) => reply(9));
    network.cut(low.address, high.address);
    const sent = ask(high, 0);
    clock.run(31_000);
    expect(codes(high)).toEqual(['CONNECTED', 'IDLE']);
    expect(high.core.statistics[0]).toMatchObject({ state: 'idle', outstanding: 1 });
    expect(high.quorum.at(-1)).toMatch(/ error 0$/);
    clock.run(60_000);
    expect(high.quorum.filter((line) => line.includes('still'))).toEqual([]);
    clock.run(6_000);
    const idleAt = Number(high.quorum.find((line) => line.endsWith('error 0'))!.split(' ')[0]);
    expect(high.quorum.filter((line) => line.includes('still'))).toEqual([`${idleAt + 66_000} still 0`]);
    network.heal(low.address, high.address);
    clock.run(10);
    expect(sent.result).toEqual({ status: 9 });
    expect([codes(high).at(-1), high.quorum.at(-1)?.endsWith('up 0'), codes(high).includes('LOST')]).toEqual(['HEARD_AGAIN', true, false]);
  });

  it('is told again as long as it lasts; when it ends before the delay is over no quorum is asked', () => {
    const { nodes: [low, high], clock, network } = connected(2);
    network.cut(low.address, high.address);
    clock.run(70_000);
    expect(codes(high)).toEqual(['CONNECTED', 'IDLE', 'IDLE']);
    network.heal(low.address, high.address);
    clock.run(200_000);
    for (const { quorum } of [low, high]) expect(quorum.filter((line) => line.includes('still'))).toEqual([]);
  });
});

describe('loss of a valid connection', () => {
  it('tells the quorum, and nobody connects before the idle timeout', () => {
    const { nodes: [low, high], clock, network } = connected(2);
    clock.run(5);
    network.reset(low.address, high.address);
    expect([codes(low).at(-1), codes(high).at(-1), low.quorum.at(-1), high.quorum.at(-1)]).toEqual(['LOST', 'LOST', '105 error 1', '105 error 0']);
    clock.run(20_000);
    expect(high.core.connected).toEqual([]);
    clock.run(12_500);
    expect(codes(high).slice(-2)).toEqual(['NO_CONNECTION', 'CONNECTED']);
    clock.run(100_000);
    for (const { quorum } of [low, high]) expect(quorum.filter((line) => line.includes('still'))).toEqual([]);
  });

  it('leaves open what was asked, and sends nothing more, until the node is down; the higher number begins anew', () => {
    const { nodes: [low, high], clock, network } = connected(2);
    let handled = 0;
    for (const { core } of [low, high]) core.handle(KEY, TYPE, 8, () => void handled++); // the answer never comes
    const sent = [ask(high, 0), ask(low, 1)];
    clock.run(5);
    network.reset(low.address, high.address);
    const later = [ask(high, 0), ask(low, 1)];
    clock.run(36_000);
    expect([...sent, ...later].map(({ result }) => result)).toEqual([undefined, undefined, undefined, undefined]);
    expect([low.core.connected, handled, codes(low).at(-1), codes(high).at(-1)]).toEqual([[1], 2, 'SEVERED', 'SEVERED']);
    expect([low.severed, high.severed]).toEqual([[], [expect.stringMatching(/^3\d{4} 0$/)]]);
    low.beats.down(1);
    expect([sent[1].result, later[1].result]).toEqual([{ error: 'host-down' }, { error: 'not-connected' }]);
    high.core.stop();
    expect([sent[0].result, later[0].result]).toEqual([{ error: 'host-down' }, { error: 'not-connected' }]);
    // A new incarnation of it: as if nothing had been.
    low.beats.up(1);
    high.core.start();
    clock.run(100);
    const anew = ask(low, 1);
    clock.run(10_000);
    expect([anew.result, handled, low.severed]).toEqual([undefined, 3, []]);
  });

  it('to a node that was dead before the two beats are over decides nothing', () => {
    const { nodes: [low, high], clock, network } = connected(2);
    network.reset(low.address, high.address);
    clock.run(33_000);
    expect([low.core.connected, codes(high)]).toEqual([[1], expect.not.arrayContaining(['SEVERED'])]);
    low.beats.down(1);
    high.beats.down(0);
    low.beats.up(1);
    high.beats.up(0);
    clock.run(10_000);
    expect([low.core.connected, low.severed, high.severed]).toEqual([[1], [], []]);
  });

  it('to a node of another kind is ours to settle, whoever has the higher number', () => {
    const { nodes: [low], clock } = new VirtualCluster(2);
    low.beats.up(1);
    let decoder = new StreamDecoder();
    const connect = (): SocketEvents => {
      decoder = new StreamDecoder();
      const events = low.core.accepted({ close: () => {}, send: (bytes) => decoder.push(bytes) }, '10.0.0.1');
      if (!events) throw new Error('the connection was turned away');
      events.received(encodeHandshake({ version: PROTOCOL_VERSION, connectorId: 1n, heartbeatTimeout: 60_000, idleTimeout: 30_000, keepaliveDelay: 2_000, reconnectDelay: 2_000 }));
      return events;
    };
    const first = connect();
    ask(low, 1);
    first.closed('reset');
    clock.run(100);
    const events = connect();
    const frames: Frame[] = [];
    for (let next = decoder.next(); next !== undefined; next = decoder.next()) if ('magic' in next) frames.push(next);
    const asked = frames.find(({ key, type }) => key === LUNFS_KEY && type === LUNFS_TYPE);
    expect(asked?.payload).toHaveLength(0);
    events.received(encodeFrame({ ...asked, magic: Magic.STATUS, systemStatus: SystemStatus.NO_HANDLER, status: 0 }));
    clock.run(5_000);
    expect(low.severed).toEqual(['4100 1']);
  });

  it('which carried nothing, or only what is said again when it is lost, has lost nothing', () => {
    const { nodes: [low, high], clock, network } = connected(2);
    for (const { core } of [low, high]) core.handle(KEY, TYPE, 8, () => {}, true);
    const sent = ask(high, 0);
    clock.run(5);
    network.reset(low.address, high.address);
    expect(sent.result).toEqual({ error: 'host-down' });
    const later = ask(low, 1);
    clock.run(90_000);
    expect([later.result, low.core.connected, low.severed, high.severed]).toEqual([{ error: 'not-connected' }, [1], [], []]);
  });

  it('which brought only what nobody here takes has lost nothing here', () => {
    const { nodes: [low, high], clock, network } = connected(2);
    const refused = ask(low, 1);
    clock.run(5);
    network.reset(low.address, high.address);
    clock.run(100_000);
    expect([refused.result, high.core.connected, high.severed, low.severed]).toEqual([{ error: 'no-handler' }, [0], [], [expect.stringMatching(/ 1$/)]]);
  });

  it('that only one of two lunfs nodes knows of makes that one begin anew, when the other has had time to be found dead', () => {
    const { nodes: [low, high], clock, network } = connected(2);
    ask(low, 1);
    network.reset(low.address, high.address); // before it has arrived
    clock.run(90_000);
    expect([low.core.connected, low.severed, high.severed]).toEqual([[1], [], []]);
    clock.run(10_000);
    expect([low.severed, high.severed]).toEqual([['98002 1'], []]);
  });

  it('that was idle before is repaired at once', () => {
    const { nodes: [low, high], clock, network } = connected(2);
    network.cut(low.address, high.address);
    clock.run(32_000);
    network.heal(low.address, high.address);
    network.reset(low.address, high.address);
    clock.run(10);
    expect([high.core.connected, low.core.connected]).toEqual([[0], [1]]);
  });

  it('leads to the quorum when the node beats on and can not be reached', () => {
    const { nodes: [low, high], clock, network } = connected(2);
    network.cut(low.address, high.address);
    network.reset(low.address, high.address);
    clock.run(66_000);
    expect([low.quorum.at(-1), high.quorum.at(-1)]).toEqual(['66100 still 1', '66100 still 0']);
  });
});

describe('death', () => {
  it('ends what was sent and what waits, and the next birth begins anew', () => {
    const { nodes: [low, high], clock, network } = connected(2);
    const sent = ask(low, 1);
    network.vanish(high.address);
    clock.run(5_000);
    expect(sent.result).toBeUndefined();
    low.beats.down(1);
    const late = ask(low, 1);
    clock.run(0);
    expect([sent.result, late.result, low.core.statistics[0].state]).toEqual([{ error: 'host-down' }, { error: 'not-connected' }, 'down']);
    clock.run(500_000);
    expect(low.quorum.filter((line) => line.includes('still'))).toEqual([]);
    expect(codes(low)).toEqual(['CONNECTED', 'LOST']);
    low.beats.up(1);
    const waits = ask(low, 1);
    clock.run(100);
    expect(waits.result).toBeUndefined();
    low.beats.down(1);
    expect(waits.result).toEqual({ error: 'not-connected' });
  });

  it('of one node leaves the others alone; a node that stops tells its quorum', () => {
    const { nodes, clock, network } = connected(3);
    nodes[2].core.stop();
    expect(nodes[2].quorum.at(-1)).toBe('100 error 2');
    network.vanish(nodes[2].address);
    for (const node of [0, 1]) nodes[node].beats.down(2);
    clock.run(100_000);
    expect(nodes[0].core.connected).toEqual([1]);
    expect(nodes[0].core.statistics).toMatchObject([{ state: 'connected', connections: 1 }, { state: 'down' }]);
  });
});

describe('order', () => {
  it('requests arrive in the order of the calls, also those that waited; numbers are the lowest unused', () => {
    const { nodes: [low, high], clock, network } = new VirtualCluster(2);
    const seen: number[] = [];
    low.core.handle(KEY, TYPE, 1, (_from, [value], reply) => {
      seen.push(value);
      reply(value);
    });
    high.beats.up(0);
    network.piece = () => 7;
    const before = [1, 2, 3].map((value) => ask(high, 0, [value]));
    low.beats.up(1);
    clock.run(2_100);
    const after = [4, 5, 6].map((value) => ask(high, 0, [value]));
    clock.run(10);
    expect(seen).toEqual([1, 2, 3, 4, 5, 6]);
    expect([...before, ...after].map(({ result }) => result)).toEqual(seen.map((status) => ({ status })));
  });

  it('a request that a message causes may arrive before its status; a status may come after later ones', () => {
    const { nodes: [low, high], clock } = connected(2);
    const log: string[] = [];
    low.core.handle(KEY, TYPE, 1, (from, [value], reply) => {
      low.core.request(from, TYPE + 1, KEY, Uint8Array.of(value), () => log.push(`low is answered ${value}`));
      if (value === 1) clock.after(50, () => reply(1));
      else reply(value);
    });
    high.core.handle(KEY, TYPE + 1, 1, (_from, [value], reply) => {
      log.push(`high is asked ${value}`);
      reply(0);
    });
    for (const value of [1, 2]) high.core.request(0, TYPE, KEY, Uint8Array.of(value), () => log.push(`high is answered ${value}`));
    clock.run(100);
    expect(log).toEqual(['high is asked 1', 'high is asked 2', 'high is answered 2', 'low is answered 1', 'low is answered 2', 'high is answered 1']);
  });

  it('a payload may be changed as soon as the call has returned', () => {
    const { nodes: [low, high], clock } = new VirtualCluster(2);
    const seen: number[] = [];
    low.core.handle(KEY, TYPE, 1, (_from, [value], reply) => {
      seen.push(value);
      reply(0);
    });
    high.beats.up(0);
    const payload = Uint8Array.of(1);
    high.core.request(0, TYPE, KEY, payload, () => {}); // waits for the connection
    payload[0] = 2;
    low.beats.up(1);
    clock.run(2_100);
    high.core.request(0, TYPE, KEY, payload, () => {});
    payload[0] = 3;
    clock.run(10);
    expect(seen).toEqual([1, 2]);
  });
});

it('what the caller does wrong is said at once', () => {
  const { nodes: [low], clock } = connected(2);
  const end = low.core.handle(KEY, TYPE, 1, () => {});
  expect(() => low.core.handle(KEY, TYPE, 1, () => {})).toThrow(/has a handler already/);
  end();
  const second = low.core.handle(KEY, TYPE, 1, () => {});
  end();
  expect(() => low.core.handle(KEY, TYPE, 1, () => {})).toThrow(/has a handler already/);
  second();
  expect(() => low.core.request(0, TYPE, KEY, new Uint8Array(), () => {})).toThrow(/this node itself/);
  expect(() => low.core.request(1, TYPE, KEY, new Uint8Array(MAX_PAYLOAD + 1), () => {})).toThrow(/4073 bytes/);
  expect(ask(low, 77).result).toBeUndefined();
  let result: RequestResult | undefined;
  low.core.request(77, TYPE, KEY, new Uint8Array(), (given) => (result = given));
  clock.run(0);
  expect(result).toEqual({ error: 'not-connected' });
});

/** A node and what it writes to a peer that the test plays. */
function played(): { node: VirtualNode; clock: VirtualCluster['clock']; out: Uint8Array[]; receive: (...frames: Uint8Array[]) => void } {
  const { nodes: [node], clock } = new VirtualCluster(2);
  node.beats.up(1);
  const out: Uint8Array[] = [];
  const events = node.core.accepted({ send: (bytes) => out.push(bytes), close: () => {} }, '10.0.0.1')!;
  events.received(out.splice(0)[0]); // our own handshake, back
  return { node, clock, out, receive: (...frames) => events.received(Buffer.concat(frames)) };
}

it('keepalives are answered, and asked for only when nothing else comes', () => {
  const { clock, out, receive } = played();
  const [request, response] = [encodeFrame({ magic: Magic.KEEPALIVE_REQUEST }), encodeFrame({ magic: Magic.KEEPALIVE_RESPONSE })];
  receive(request);
  expect(out.splice(0)).toEqual([response]);
  for (let i = 0; i < 10; i++) {
    clock.run(1_500);
    receive(response);
  }
  expect(out).toEqual([]);
  clock.run(2_000);
  expect(out).toEqual([request]);
});

it('numbers are the lowest that no request waits under', () => {
  const { node, out, receive } = played();
  const numbers = (): number[] => out.splice(0).map((bytes) => new DataView(bytes.buffer).getUint32(20));
  for (let i = 0; i < 3; i++) ask(node, 1);
  expect(numbers()).toEqual([0, 1, 2]);
  receive(...[2, 0].map((number) => encodeFrame({ magic: Magic.STATUS, type: TYPE, key: KEY, number })));
  for (let i = 0; i < 3; i++) ask(node, 1);
  expect(numbers()).toEqual([0, 2, 3]);
});

it('a status that answers another message, or names a system status that does not exist, closes the connection', () => {
  for (const wrong of [{ type: TYPE + 1 }, { key: KEY + 1 }, { systemStatus: 3 }]) {
    const { node, clock, receive } = played();
    node.core.handle(KEY, TYPE, 1, () => expect.unreachable());
    const sent = ask(node, 1);
    receive(encodeFrame({ magic: Magic.STATUS, type: TYPE, key: KEY, number: 5, status: 1 })); // nobody waits for it
    clock.run(1);
    expect([node.core.connected, sent.result]).toEqual([[1], undefined]);
    // What follows in the same piece is not looked at any more.
    receive(encodeFrame({ magic: Magic.STATUS, type: TYPE, key: KEY, number: 0, ...wrong }), encodeFrame({ magic: Magic.MESSAGE, type: TYPE, key: KEY }));
    expect(node.core.connected).toEqual([]);
    expect(codes(node)).toEqual(['CONNECTED', 'PROTOCOL', 'LOST']);
    node.beats.down(1);
    expect(sent.result).toEqual({ error: 'host-down' });
  }
});
