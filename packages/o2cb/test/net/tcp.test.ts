/** Two cores over real sockets of this host: 127.0.0.0/8 is all loopback, so each has an address of its own. */
import { once } from 'node:events';
import net from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { hostScheduler } from '../../src/clock.js';
import { DEFAULT_SETTINGS, timeoutsOf } from '../../src/config/index.js';
import { listen, type NetNotice, O2net, tcpTransport } from '../../src/net/index.js';
import { NodeMap } from '../../src/node-map.js';
import type { Membership, RequestResult } from '../../src/ports.js';

const endings: (() => void)[] = [];
afterEach(() => {
  for (const end of endings.splice(0).reverse()) end();
});

const nodes = [2, 3].map((number) => ({ number, name: `host${number}`, address: `127.0.77.${number}`, port: 0 }));

/** A port that was free on both addresses a moment ago. */
async function freePort(): Promise<number> {
  const probe = net.createServer().listen(0, '127.0.77.2');
  await once(probe, 'listening');
  const { port } = probe.address() as net.AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

async function start(local: number, port: number): Promise<{ core: O2net; notices: NetNotice[] }> {
  const live = new NodeMap([2, 3]);
  const membership: Membership = { local, live, subscribe: () => () => {} };
  const notices: NetNotice[] = [];
  const configured = nodes.map((node) => ({ ...node, port }));
  const core = new O2net({
    nodes: configured, times: timeoutsOf({ ...DEFAULT_SETTINGS, reconnectDelayMs: 50 }), membership, scheduler: hostScheduler, transport: tcpTransport,
    links: { connUp: () => {}, connError: () => {}, stillUp: () => {} }, notice: (notice) => notices.push(notice), severed: () => {},
  });
  endings.push(await listen(core, configured.find(({ number }) => number === local)!));
  core.start();
  endings.push(() => core.stop());
  return { core, notices };
}

function ask(core: O2net, to: number, payload: Uint8Array): Promise<RequestResult> {
  return new Promise((resolve) => core.request(to, 500, 7, payload, resolve));
}

it('requests of every size go both ways, many at once, and a stop is seen by the other side', async () => {
  const port = await freePort();
  const high = await start(3, port); // nobody listens yet: it tries again
  const low = await start(2, port);
  for (const { core } of [high, low]) core.handle(7, 500, 4072, (_from, payload, reply) => reply(payload.reduce((sum, byte) => sum + byte, 0)));
  const sizes = Array.from({ length: 500 }, (_, i) => (i * 37) % 4073);
  const results = await Promise.all(sizes.flatMap((size) => [ask(high.core, 2, new Uint8Array(size).fill(3)), ask(low.core, 3, new Uint8Array(size).fill(5))]));
  expect(results).toEqual(sizes.flatMap((size) => [{ status: size * 3 }, { status: size * 5 }]));
  expect([high.core.connected, low.core.connected]).toEqual([[2], [3]]);
  high.core.stop();
  await expect.poll(() => low.notices.map(({ code }) => code)).toEqual(['CONNECTED', 'LOST']);
  expect(low.notices[1].message).toContain('the other side closed the connection');
});

it('strangers are closed, and garbage closes its own connection alone', async () => {
  const port = await freePort();
  const { core, notices } = await start(2, port);
  const stranger = net.connect({ host: '127.0.77.2', port, localAddress: '127.0.77.9' });
  await once(stranger, 'close');
  const peer = net.connect({ host: '127.0.77.2', port, localAddress: '127.0.77.3' });
  const [greeting] = (await once(peer, 'data')) as [Buffer];
  peer.write(greeting); // what it says is what any good node says
  await expect.poll(() => core.connected).toEqual([3]);
  peer.write(Buffer.alloc(24, 0x55));
  await once(peer, 'close');
  expect(notices.map(({ code }) => code)).toEqual(['TURNED_AWAY', 'CONNECTED', 'PROTOCOL', 'LOST']);
  expect(notices[2].message).toContain('begins with 0x5555');
});

it('a port in use, or an address of another host, is named', async () => {
  const port = await freePort();
  const { core } = await start(2, port);
  await expect(listen(core, { address: '127.0.77.2', port })).rejects.toMatchObject({ code: 'O2NET_LISTEN', message: expect.stringContaining('EADDRINUSE') as string });
  await expect(listen(core, { address: '192.0.2.1', port })).rejects.toMatchObject({ code: 'O2NET_LISTEN' });
});
