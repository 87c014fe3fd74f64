/**
 * Every operation of the engine from several nodes in turn, against one tree in memory: each node has its own cache, so each
 * step shows whether it sees what the others did last. Nodes leave, come and die in between; in the end the volume is sound.
 * LUNFS_SEED=… repeats a run.
 */
import { Random } from '@lunfs/device';
import { afterAll, describe, expect, test } from 'vitest';
import { seed } from '../../../../test/support/temp.js';
import { checkVolume } from '../../src/check/index.js';
import { type ClusterNode, TestCluster } from '../support/cluster.js';
import { MAY_BE_LEFT } from '../support/crash.js';
import { playground, randomSteps } from '../support/crash-scripts.js';
import { Posix, type Step } from '../support/posix.js';
import { type NamedVolume, expectFsckClean } from '../support/volume.js';

const THOROUGH = process.env.LUNFS_THOROUGH === '1';
const SEED = seed('several nodes in turn');
const FEATURES = ['-N', '4', '-J', 'size=4M', '--cluster-stack=o2cb', '--cluster-name=test'];
const VOLUMES: readonly (NamedVolume & { readonly clusterSize: number })[] = [
  { name: '4K/4K quota', clusterSize: 4096, size: 160 << 20, mkfsArgs: ['-b', '4096', '-C', '4096', '--fs-features=refcount,xattr,indexed-dirs,usrquota,grpquota', ...FEATURES] },
  { name: '1K/4K metaecc', clusterSize: 4096, size: 100 << 20, mkfsArgs: ['-b', '1024', '-C', '4096', '--fs-features=refcount,xattr,indexed-dirs,metaecc', ...FEATURES] },
];
const sums = { steps: 0, done: 0, deaths: 0, mounts: 0 };

afterAll(() => {
  console.log(`several nodes in turn: ${sums.steps} steps (${sums.done} with effect), ${sums.mounts} mounts, ${sums.deaths} deaths`);
});

/** The open files a step names, `#NAME`. */
function handles(step: Step): string[] {
  const out = step.do === 'open' || step.do === 'close' ? [step.as] : [];
  for (const value of Object.values(step)) if (typeof value === 'string' && value.startsWith('#')) out.push(value.slice(1));
  return out;
}

class World {
  private nodes: ClusterNode[] = [];
  private number = 0;
  private nextNode = 1;

  private constructor(readonly cluster: TestCluster, readonly random: Random, private posix: Posix) {}

  static async begin(spec: NamedVolume, random: Random, size: number): Promise<World> {
    const cluster = await TestCluster.make(random.u32(), spec);
    const first = await cluster.mount(99);
    const world = new World(cluster, random, await Posix.begin(first.volume));
    world.nodes.push(first);
    while (world.nodes.length < size) await world.join();
    return world;
  }

  async join(): Promise<void> {
    sums.mounts++;
    this.nodes.push(await this.cluster.mount(this.nextNode++, { cacheBlocks: this.random.pick([40, 300, 5000]) }));
  }

  /** A step on some node; what is about an open file on the node that has it open. */
  async step(step: Step): Promise<void> {
    const used = handles(step);
    const wanted = new Set(used.map((name) => Number(name) % this.nodes.length));
    if (wanted.size > 1) return;
    this.posix.volume = this.nodes[[...wanted].at(0) ?? this.random.int(this.nodes.length)].volume;
    await this.posix.run(step, ++this.number);
    sums.steps++;
  }

  /** What every node sees is what the model says. */
  async compare(): Promise<void> {
    this.posix.volume = this.random.pick(this.nodes).volume;
    await this.posix.compare();
  }

  /** Nobody has anything open: places in the list of nodes may change. */
  private async closeAll(): Promise<void> {
    for (let i = 0; i < 4; i++) await this.step({ do: 'close', as: `${i}` });
  }

  async leave(): Promise<void> {
    await this.closeAll();
    const [node] = this.nodes.splice(this.random.int(this.nodes.length), 1);
    await this.cluster.unmount(node);
    await this.join();
  }

  /** A node dies; `synced`: with nothing to lose. Then the others show the same, else the model begins anew with what is there. */
  async die(synced: boolean): Promise<void> {
    sums.deaths++;
    if (synced) await this.closeAll();
    const [node] = this.nodes.splice(this.random.int(this.nodes.length), 1);
    if (synced) await node.volume.sync();
    this.cluster.kill(node.number);
    if (synced) await this.compare();
    else {
      for (const other of this.nodes) await other.volume.names.inodes.forgetAll();
      sums.done += this.posix.done;
      this.posix = await Posix.begin(this.random.pick(this.nodes).volume);
    }
    await this.join();
  }

  async end(): Promise<void> {
    await this.compare();
    await this.closeAll();
    for (const node of this.nodes) await this.cluster.unmount(node);
    const { lun } = this.cluster;
    sums.done += this.posix.done;
    expect((await checkVolume(lun)).findings.filter((f) => !MAY_BE_LEFT.includes(f.code))).toEqual([]);
    await expectFsckClean(lun, MAY_BE_LEFT);
  }
}

describe.each(VOLUMES)('$name', { timeout: 600_000 }, (spec) => {
  test.each(THOROUGH ? [2, 3, 4] : [3])('%i nodes do what a tree in memory does', async (size) => {
    const random = new Random(SEED + size);
    const world = await World.begin(spec, random.fork(), size);
    for (const step of playground()) await world.step(step);
    // Limits are kept against what a node knows; others may have used more since (quota/quota.ts).
    const steps = randomSteps(random, THOROUGH ? 20_000 : 2500, { clusterSize: spec.clusterSize, reach: 30 * spec.clusterSize }).filter((step) => step.do !== 'limits' && step.do !== 'grace');
    for (const [i, step] of steps.entries()) {
      try {
        await world.step(step);
        if (random.chance(0.03)) await world.compare();
        if (random.chance(0.005)) await world.leave();
        if (random.chance(0.012)) await world.die(random.chance(0.6));
      } catch (error) {
        throw new Error(`at ${i}, ${JSON.stringify(step)}: ${(error as Error).message}`, { cause: error });
      }
    }
    await world.end();
  });
});
