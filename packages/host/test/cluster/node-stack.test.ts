/** A node whose main thread stood still: what the heartbeat's threads said meanwhile counts before what other nodes said. Two nodes on loopback; the test beats for them. */
import { once } from 'node:events';
import net from 'node:net';
import { type RegionReport, hostScheduler, listen, tcpTransport, timeoutsOf } from '@lunfs/o2cb';
import { afterEach, expect, it } from 'vitest';
import type { OpenedVolume } from '../../src/cluster/joining.js';
import { NodeStack } from '../../src/daemon/node-stack.js';

const KEY = 0x1234_5678;
const VOLUME: OpenedVolume = { device: '/dev/none', uuid: 'AB'.repeat(16), label: '', region: { offset: 0, blockBytes: 512, blocks: 255 } };

const undo: (() => void)[] = [];
afterEach(() => {
  for (const step of undo.splice(0)) step();
});

/** A node, steady in the region; what is pushed to `waiting` has been reported by the thread and not yet come to the main thread's events. */
async function node(number: number, port: number): Promise<{ readonly stack: NodeStack; readonly waiting: RegionReport[] }> {
  const nodes = [1, 2, 3].map((n) => ({ number: n, name: `n${n}`, address: `127.0.98.${n}`, port, cluster: 'ocfs2' }));
  const config = { name: 'ocfs2', heartbeatMode: 'local' as const, nodes, regions: [] };
  const waiting: RegionReport[] = [];
  const stack = await NodeStack.start({
    config, local: nodes[number - 1], timeouts: timeoutsOf(), log: () => undefined, lost: () => undefined,
    world: {
      scheduler: hostScheduler, transport: tcpTransport, listen, generation: () => 5n,
      beats: () => (_, report) => {
        const catchUp = (): void => {
          for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) report(next);
        };
        setImmediate(catchUp);
        return { end: () => report({ kind: 'ended', why: 'left' }), catchUp };
      },
    },
  });
  undo.push(() => stack.close());
  waiting.push({ kind: 'up', node: 1 }, { kind: 'up', node: 2 }, { kind: 'up', node: 3 }, beat([]));
  await stack.beat(VOLUME);
  return { stack, waiting };
}

/** `looked`: the time that a loaded machine takes has no part in it. */
function beat(suspects: readonly number[]): RegionReport {
  return { kind: 'beat', state: 'steady', good: true, ms: 1, silent: [], unsure: [], suspects, looked: Number.POSITIVE_INFINITY };
}

it('knows of a doubt, and of a death, before what it is told by another node', async () => {
  const probe = net.createServer().listen(0, '127.0.98.1');
  await once(probe, 'listening');
  const { port } = probe.address() as net.AddressInfo;
  probe.close();
  await once(probe, 'close');
  const one = await node(1, port);
  const two = await node(2, port);
  const seen: string[] = [];
  two.stack.net.handle(KEY, 500, 8, (_from, _payload, reply) => {
    const { membership, suspicion } = two.stack.member;
    seen.push(`live ${[...membership.live].join(' ')}, suspects ${[...suspicion.suspects].join(' ')}`.trim());
    reply(0);
  });
  const tell = (): Promise<unknown> => new Promise((resolve) => one.stack.net.request(2, 500, KEY, new Uint8Array(8), resolve));
  await tell();
  two.waiting.push(beat([3]));
  await tell();
  two.waiting.push({ kind: 'down', node: 3 }, beat([]));
  await tell();
  expect(seen).toEqual(['live 1 2 3, suspects', 'live 1 2 3, suspects 3', 'live 1 2, suspects']);
});
