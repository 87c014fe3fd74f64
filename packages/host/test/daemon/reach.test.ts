/** Who was cut off does not beat before it reaches those that beat: on a virtual clock, over a network whose cables the test holds. */
import { type ClusterNode, type HeartbeatBlock, type Scheduler, type Transport, encodeBlock } from '@lunfs/o2cb';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { type Slots, readSlots, withinReach } from '../../src/daemon/reach.js';

const NODES: ClusterNode[] = [0, 1, 2, 3].map((number) => ({ number, name: `n${number}`, address: `10.0.0.${number}`, port: 7777, cluster: 'c' }));
const LOCAL = NODES[2];

/** A cluster whose time passes when nothing else happens. */
class Cluster {
  now = 0;
  /** Nodes whose slot changes. */
  readonly beating = new Set<number>();
  /** Nodes that answer a connection. */
  readonly answering = new Set<number>();
  readonly attempts: string[] = [];
  readonly logged: string[] = [];
  wanted = true;
  /** What reading the disk fails with. */
  broken = false;
  /** Regions of this host, and the nodes that beat in the second one alone. */
  second?: Set<number>;
  ended?: number;
  #timers: { at: number; fn: () => void }[] = [];

  readonly scheduler: Scheduler = {
    now: () => this.now,
    after: (ms, fn) => {
      const timer = { at: this.now + ms, fn };
      this.#timers.push(timer);
      return () => void (this.#timers = this.#timers.filter((one) => one !== timer));
    },
  };

  readonly transport: Transport = {
    connect: (from, { address }, events) => {
      const node = NODES.findIndex((one) => one.address === address);
      this.attempts.push(`${from} ${node} ${this.now}`);
      let open = true;
      this.scheduler.after(1, () => {
        if (open && this.answering.has(node)) events.connected();
      });
      return { send: () => undefined, close: () => (open = false) };
    },
  };

  start(): this {
    void withinReach({
      local: LOCAL, nodes: NODES, scheduler: this.scheduler, transport: this.transport, wanted: () => this.wanted, log: (line) => this.logged.push(line),
      look: () => (this.broken ? Promise.reject(new Error('EIO')) : Promise.resolve([this.#slots(this.beating), ...(this.second ? [this.#slots(this.second)] : [])])),
    }).then(() => (this.ended = this.now));
    return this;
  }

  async pass(ms: number): Promise<void> {
    for (const end = this.now + ms; ; ) {
      for (let i = 0; i < 20; i++) await Promise.resolve();
      const next = this.#timers.toSorted((a, b) => a.at - b.at)[0];
      if (next === undefined || next.at > end) {
        this.now = end;
        return;
      }
      this.#timers = this.#timers.filter((one) => one !== next);
      this.now = next.at;
      next.fn();
    }
  }

  #slots(beating: ReadonlySet<number>): Slots {
    return new Map(NODES.map(({ number: node }): [number, HeartbeatBlock] => [node, { node, seq: beating.has(node) ? BigInt(this.now + 1) : 7n, generation: 5n, deadMs: 14_000 }]));
  }
}

it('waits for those that beat, and for nobody else', async () => {
  const cluster = new Cluster();
  cluster.beating.add(0).add(2).add(3);
  cluster.start();
  await cluster.pass(50_000);
  expect(cluster.ended).toBeUndefined();
  expect(cluster.logged).toEqual(['this node does not beat before it can reach n0, n3, beating on the disk; check network and firewall between the nodes']);
  // Node 1 is dead, this node itself is no question; all attempts come from its own address.
  expect(new Set(cluster.attempts.map((one) => one.replace(/ \d+$/, '')))).toEqual(new Set(['10.0.0.2 0', '10.0.0.2 3']));
  cluster.answering.add(0);
  await cluster.pass(10_000);
  expect(cluster.ended).toBeUndefined();
  // Who was reached is left alone.
  const known = cluster.attempts.filter((one) => one.includes(' 0 ')).length;
  expect(cluster.logged.at(-1)).toContain('reach n3,');
  cluster.answering.add(3);
  await cluster.pass(5000);
  expect(cluster.ended).toBeDefined();
  expect(cluster.attempts.filter((one) => one.includes(' 0 ')).length).toBe(known);
});

it('waits for a minute for those that are to connect to it, and for as long as it takes for those it is to connect to', async () => {
  const cluster = new Cluster();
  cluster.beating.add(3);
  cluster.start();
  await cluster.pass(60_000);
  expect(cluster.ended).toBeUndefined();
  await cluster.pass(10_000);
  expect(cluster.ended).toBeDefined();
  const lower = new Cluster();
  lower.beating.add(1);
  lower.start();
  await lower.pass(600_000);
  expect(lower.ended).toBeUndefined();
});

it('who falls silent needs not be reached; who begins to beat does', async () => {
  const cluster = new Cluster();
  cluster.beating.add(0);
  cluster.start();
  await cluster.pass(30_000);
  cluster.beating.delete(0);
  cluster.beating.add(1);
  await cluster.pass(30_000);
  expect(cluster.ended).toBeUndefined();
  cluster.beating.delete(1);
  await cluster.pass(12_000);
  expect(cluster.ended).toBeDefined();
});

it('does not wait where nobody beats, nor when nobody wants it; what beats in any region counts', async () => {
  const alone = new Cluster().start();
  await alone.pass(5000);
  expect([alone.ended, alone.attempts]).toEqual([undefined, []]);
  await alone.pass(2000);
  expect([alone.ended, alone.attempts]).toEqual([6000, []]);
  const unwanted = new Cluster();
  unwanted.second = new Set([1]);
  unwanted.start();
  await unwanted.pass(20_000);
  expect(unwanted.ended).toBeUndefined();
  unwanted.wanted = false;
  await unwanted.pass(5000);
  expect(unwanted.ended).toBeDefined();
});

it('knows nothing while the disk cannot be read', async () => {
  const cluster = new Cluster();
  cluster.broken = true;
  cluster.start();
  await cluster.pass(60_000);
  expect(cluster.ended).toBeUndefined();
  cluster.broken = false;
  await cluster.pass(7000);
  expect(cluster.ended).toBeUndefined();
  await cluster.pass(2000);
  expect(cluster.ended).toBeDefined();
});

const files: string[] = [];
afterEach(() => {
  for (const file of files.splice(0)) fs.rmSync(file);
});

it('reads the slots of the nodes as they lie on the disk', async () => {
  const image = path.join(os.tmpdir(), `reach-${randomBytes(6).toString('hex')}`);
  files.push(image);
  const offset = 1 << 20;
  const bytes = Buffer.alloc(offset + 255 * 512);
  const block = { node: 3, seq: 0x1122334455n, generation: 9n, deadMs: 14_000 };
  bytes.set(encodeBlock(block, 512), offset + 3 * 512);
  fs.writeFileSync(image, bytes);
  const slots = await readSlots({ device: image, uuid: '', label: '', region: { offset, blockBytes: 512, blocks: 255 } }, NODES);
  expect([...slots.keys()]).toEqual([0, 1, 2, 3]);
  expect(slots.get(3)).toMatchObject(block);
  expect(slots.get(1)).toMatchObject({ seq: 0n, generation: 0n });
});
