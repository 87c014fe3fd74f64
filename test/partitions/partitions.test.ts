/**
 * Hosts that lose the network, one direction of it, the LUN, or their senses, beside a kernel node and hosts that lose nothing: who is cut off
 * writes nothing more from the moment at which others may begin to recover him, the others recover him and go on, and he comes back by
 * himself when the cut is healed. What the LUN got, and when, is told by a witness beside them all (test/support/witness.ts).
 */
import * as fs from 'node:fs';
import path from 'node:path';
import type { ClusterFacts, ManagedFacts } from '@lunfs/host';
import { monotonicMs } from '@lunfs/device';
import { HEARTBEAT_MS } from '@lunfs/o2cb';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Load, hostLoad, kernelLoad, missing } from '../support/cluster-load.js';
import { ClusterLab } from '../support/cluster-lab.js';
import { LunfsHost } from '../support/lunfs-host.js';
import type { KernelNode } from '../support/machines.js';
import { debugfsStat, mkfs, mustBeClean } from '../support/ocfs2-tools.js';
import { Cleanup, loopDevice, tempDir } from '../support/temp.js';
import { until } from '../support/until.js';
import { type Witness, type Write, witness } from '../support/witness.js';

const THRESHOLD = 7;
/** From the submission of a beat until a peer may take the node for dead: docs/fencing.md. */
const DEAD_MS = (THRESHOLD - 1) * 2000;
const COUNT = 5;
const SLOTS = 6;

interface Finished {
  readonly who: string;
  readonly acknowledged: readonly number[];
}

const cleanup = new Cleanup();
let image: string;
let lun: Witness;
let lab: ClusterLab;
let kernel: KernelNode;
/** Hosts of ours by number; 0 is the kernel's. */
const hosts: LunfsHost[] = [];
/** Byte at which the heartbeat region begins; each slot's journal. */
let region = 0;
const journals: { from: number; to: number }[][] = [];
const loads = new Map<number, Load>();
/** Loads that have begun, the ended ones too. */
let begun = 0;
/** What those that have ended acknowledged. */
const finished: Finished[] = [];

const logs = (): string => hosts.map((host) => host?.logs() ?? '').join('');
const pause = (ms: number): Promise<void> => new Promise((resolve) => { setTimeout(resolve, ms); });
const status = (number: number): Promise<ClusterFacts> => hosts[number].json<ClusterFacts>('cluster', 'status');
const volumeOf = async (number: number): Promise<ManagedFacts> => (await status(number)).volumes[0];
const tasks = (pid: number): number[] => fs.readdirSync(`/proc/${pid}/task`).map(Number);
const beatOf = (write: Write, number: number): boolean => write.length === 512 && write.offset === region + 512 * number;
const generation = (beat: Write): bigint => beat.begins.readBigUInt64LE(16);
const within = (write: Write, slot: number): boolean => journals[slot].some(({ from, to }) => write.offset >= from && write.offset < to);
const slotOf = (write: Write): number => journals.findIndex((_, slot) => within(write, slot));

/** A host that is going to be cut off: its incarnation until then. */
class Loser {
  readonly name: string;
  readonly old = new Set<number>();
  pid = 0;
  slot = -1;
  #generation = 0n;
  #from = 0;

  constructor(readonly number: number) {
    this.name = hosts[number].node.name;
  }

  async watch(): Promise<this> {
    this.pid = (await volumeOf(this.number)).pid!;
    this.look();
    this.#from = lun.log.length;
    this.#generation = generation(lun.log.findLast((write) => beatOf(write, this.number))!);
    // It writes to its journal all the time.
    this.slot = slotOf(lun.log.findLast((write) => this.old.has(write.task) && slotOf(write) >= 0)!);
    expect(this.slot).toBeGreaterThanOrEqual(0);
    return this;
  }

  /** Threads it has started meanwhile. */
  look(): void {
    try {
      for (const task of tasks(this.pid)) this.old.add(task);
    } catch {
      // it has ended
    }
  }

  /** Until the others have begun with its journal, and their domain is whole again: it may have come back by then. */
  async recovered(survivor: number): Promise<void> {
    await until(`${this.name} is recovered`, async () => {
      this.look();
      const { domain } = (await volumeOf(survivor)) as ManagedFacts & { domain?: { recovering: number[] } };
      return domain !== undefined && domain.recovering.length === 0 && this.#recovery() !== undefined;
    }, logs);
  }

  async back(): Promise<void> {
    await until(`${this.name} has mounted again`, async () => {
      const now = await volumeOf(this.number);
      return now?.state === 'mounted' && now.pid !== this.pid;
    }, logs);
  }

  /** The first write of somebody else into its journal: recovery has begun. */
  #recovery(): Write | undefined {
    return lun.log.slice(this.#from).find((write) => write.host !== this.name && within(write, this.slot));
  }

  /**
   * Nothing of the old incarnation was submitted after the others could know of its death, nor after they did; nor by anything else of its host
   * before a new one beats.
   */
  silent(): void {
    const beats = lun.log.filter((write) => beatOf(write, this.number) && !write.held);
    const last = beats.findLast((write) => generation(write) === this.#generation)!;
    const next = beats[beats.indexOf(last) + 1];
    const dead = last.at + DEAD_MS;
    const writes = lun.log.filter((write) => this.old.has(write.task) && write.host === this.name);
    expect(writes.length).toBeGreaterThan(10);
    expect(writes.filter(({ at }) => at >= dead)).toEqual([]);
    expect(writes.at(-1)!.at).toBeLessThan(this.#recovery()!.at);
    expect(lun.log.filter((write) => write.host === this.name && write.at >= dead && write.at < next.at && !beatOf(write, this.number))).toEqual([]);
  }
}

async function begin(number: number): Promise<void> {
  const who = `n${number}-${begun++}`;
  loads.set(number, number === 0 ? kernelLoad(kernel, who) : hostLoad(cleanup, hosts[number], who));
  await until(`load ${who} runs`, () => loads.get(number)!.acknowledged().length > 2, logs);
}

async function end(number: number): Promise<void> {
  const load = loads.get(number)!;
  loads.delete(number);
  finished.push({ who: load.who, acknowledged: await load.stop() });
}

/** Whoever was not cut off goes on. */
async function goesOn(...numbers: number[]): Promise<void> {
  const had = numbers.map((number) => loads.get(number)!.acknowledged().length);
  await until(`${numbers.join()} go on`, () => numbers.every((number, i) => loads.get(number)!.acknowledged().length > had[i] + 2), logs);
}

/** What these loads acknowledged is there for a node. */
async function nothingLost(number: number, ended: readonly Finished[]): Promise<void> {
  for (const { who, acknowledged } of ended) {
    const command = missing(number === 0 ? '/mnt' : '$M', who, acknowledged);
    expect([who, await (number === 0 ? kernel.must(command, { timeoutMs: 300_000 }) : hosts[number].do(command, 300))]).toEqual([who, '']);
  }
}

/**
 * The losers are cut off, recovered, healed, and come back; the others go on, and nothing that was acknowledged is lost. `mute`: those of them who lose the network, and do not
 * beat before they have it back.
 */
async function lose(numbers: readonly number[], cut: () => void | Promise<void>, heal: () => void | Promise<void>, mute: readonly number[] = []): Promise<void> {
  const survivors = [...loads.keys()].filter((number) => !numbers.includes(number));
  const losers = await Promise.all(numbers.map((number) => new Loser(number).watch()));
  await cut();
  const ours = survivors.find((number) => number !== 0)!;
  for (const loser of losers) await loser.recovered(ours);
  await goesOn(...survivors);
  // Each has lost its incarnation more than a dead time ago, and would beat again.
  const lately = monotonicMs() - 3 * HEARTBEAT_MS;
  for (const number of mute) expect(lun.log.filter((write) => write.at > lately && beatOf(write, number))).toEqual([]);
  await heal();
  for (const loser of losers) await loser.back();
  for (const loser of losers) loser.silent();
  const before = finished.length;
  await Promise.all(numbers.map(end));
  // Whatever is new; all of it is read in the end.
  await nothingLost(ours, finished.slice(before).map(({ who, acknowledged }) => ({ who, acknowledged: acknowledged.slice(-20) })));
  await Promise.all(numbers.map(begin));
}

beforeAll(async () => {
  image = path.join(tempDir(cleanup, 'partitions'), 'lun');
  await mkfs(image, { size: 1 << 30, blockSize: 4096, clusterSize: 4096, slots: SLOTS, cluster: 'ocfs2' });
  const placed = async (file: string): Promise<{ from: number; to: number }[]> => (await debugfsStat(image, file)).extents.map(({ block, clusters }) => ({ from: block * 4096, to: (block + clusters) * 4096 }));
  region = (await placed('//heartbeat'))[0].from;
  for (let slot = 0; slot < SLOTS; slot++) journals.push(await placed(`//journal:000${slot}`));
  lun = await witness(cleanup, image, Array.from({ length: COUNT }, (_, number) => `client0${number + 1}`));
  // A machine is started by this very process, which must not look at a file that it serves itself.
  const device = (name: string): string | Promise<string> => (name === 'client01' ? loopDevice(cleanup, lun.device(name)) : lun.device(name));
  lab = await ClusterLab.start(cleanup, { lun: image, device, count: COUNT, settings: { threshold: THRESHOLD, idleMs: 5000 } });
  for (const { number } of lab.config.nodes.slice(1)) hosts[number] = LunfsHost.inLab(cleanup, lab, await lab.host(number));
  kernel = await lab.kernelNode(0);
  await Promise.all([kernel.mount('/dev/vda', '/mnt'), ...hosts.slice(1).map(async (host) => {
    await host.up();
    await host.mountVolume();
  })]);
  await Promise.all(lab.config.nodes.map(({ number }) => begin(number)));
}, 600_000);
afterAll(() => cleanup.run(), 180_000);

test('the network of one, and all that another sends', { timeout: 900_000 }, async () => {
  await lose([3, 4], async () => {
    await lab.cut(4);
    for (const peer of [0, 1, 2]) await lab.silence(3, peer);
  }, async () => {
    await lab.heal(4);
    for (const peer of [0, 1, 2]) await lab.unsilence(3, peer);
  }, [3, 4]);
  expect(hosts[3].logs()).toContain('this node is fenced: of ');
});

test('what one writes to the LUN; what another reads from it; and the lunfsd of a third is stopped', { timeout: 900_000 }, async () => {
  const { pid: daemon } = await status(3);
  await lose([1, 2, 3], () => {
    lun.cut(hosts[1].node.name, 'writes');
    lun.cut(hosts[2].node.name, 'reads');
    process.kill(daemon, 'SIGSTOP');
  }, () => {
    for (const number of [1, 2]) lun.heal(hosts[number].node.name);
    process.kill(daemon, 'SIGCONT');
  });
});

test('all that is sent to one; one is stopped with its lunfsd; and the volume process of a third is stopped', { timeout: 900_000 }, async () => {
  const { pid: daemon, volumes } = await status(3);
  const both = [volumes[0].pid!, daemon];
  const { pid: alone } = await volumeOf(1);
  await lose([1, 3, 4], async () => {
    for (const peer of [0, 1, 2]) await lab.silence(peer, 4);
    for (const pid of [...both, alone!]) process.kill(pid, 'SIGSTOP');
  }, async () => {
    for (const peer of [0, 1, 2]) await lab.unsilence(peer, 4);
    // Nobody was there to kill the volume process. Its own fence does, before lunfsd goes on.
    process.kill(both[0], 'SIGCONT');
    await pause(1000);
    process.kill(daemon, 'SIGCONT');
  }, [4]);
  expect(hosts[1].logs()).toContain('no sign of life');
});

test('one direction between two hosts, and between a host and the kernel node: nobody is told to go', { timeout: 600_000 }, async () => {
  const pids = async (): Promise<(number | undefined)[]> => Promise.all([1, 2, 3, 4].map(async (number) => (await volumeOf(number)).pid));
  const stays = (number: number): number => hosts[number].logs().split('not fencing this node: 4 of 5 nodes that beat are connected').length;
  const linuxStays = async (): Promise<number> => (await kernel.must('dmesg')).split('not fencing this node, heartbeating: 5, connected: 4').length;
  const before = await pids();
  const had = [1, 3, 4].map(stays), hadLinux = await linuxStays();
  await lab.silence(3, 1);
  await lab.silence(4, 0);
  await until('all four have decided', async () => [1, 3, 4].every((number, i) => stays(number) > had[i]) && (await linuxStays()) > hadLinux, logs);
  await lab.unsilence(3, 1);
  await lab.unsilence(4, 0);
  await goesOn(0, 1, 2, 3, 4);
  expect(await pids()).toEqual(before);
});

test('everybody ends well', { timeout: 600_000 }, async () => {
  await Promise.all([...loads.keys()].map(end));
  await Promise.all(hosts.slice(1).map((host) => host.must('down')));
  await nothingLost(0, finished);
  await kernel.umount('/mnt');
  await kernel.machine.shutdown();
  await mustBeClean(image);
  await hosts[1].must('check', image);
});
