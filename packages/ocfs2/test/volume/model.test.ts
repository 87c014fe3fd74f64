/**
 * Thousands of random operations on a mounted volume against a tree in memory: names, data, space, open files without
 * names; with commits, remounts, power failures and full volumes in between; alone and hundreds at once; with locks that
 * stay and with a Dlm that wants every lock back. LUNFS_SEED=… repeats a run, LUNFS_SHRINK=1 then looks for a shorter one,
 * LUNFS_THOROUGH=1 runs more.
 */
import { type FaultyDevice, type MemoryDevice, Random } from '@lunfs/device';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { checkVolume } from '../../src/check/index.js';
import { type Dlm, HostileDlm, LocalDlm } from '../../src/locking/index.js';
import { Volume } from '../../src/volume/index.js';
import { seed } from '../../../../test/support/temp.js';
import { CRASH_VOLUMES, type CrashVolume, MAY_BE_LEFT, type Recorded, expectAllowed, poisonedVolume, quietMount, slowDevice } from '../support/crash.js';
import { fillUp, playground, randomSteps } from '../support/crash-scripts.js';
import { Posix, type Snapshot, type Step, readTree } from '../support/posix.js';
import { expectFsckClean } from '../support/volume.js';

const THOROUGH = process.env.LUNFS_THOROUGH === '1';
const SEED = seed('random operations');
const sums = { operations: 0, remounts: 0, crashes: 0, full: 0 };

afterAll(() => {
  console.log(`random operations: ${sums.operations}, with ${sums.remounts} remounts and ${sums.crashes} power failures; ${sums.full} times the volume was full`);
});

function count(posix: Posix): void {
  sums.operations += posix.done;
  sums.full += posix.full;
}

type Event = Step | { readonly do: 'remount' | 'crash' | 'compare' };

const DLMS = {
  local: () => new LocalDlm(),
  hostile: (random: Random) => new HostileDlm({ random: () => random.float(), defer: (fn) => (random.chance(0.8) ? queueMicrotask(fn) : void setImmediate(fn)) }),
} as const;

/** A volume, its model, and what a power failure could take away. */
class World {
  private states: Snapshot[] = [];
  private script: Step[] = [];
  private number = 0;

  private constructor(private readonly random: Random, private readonly dlm: () => Dlm, private device: FaultyDevice, private posix: Posix) {}

  static async begin(spec: CrashVolume, random: Random, dlm: (random: Random) => Dlm): Promise<World> {
    const locks = () => dlm(random.fork());
    const device = slowDevice(await poisonedVolume(spec), random.fork());
    const world = new World(random, locks, device, await Posix.begin(await World.mount(device, random, locks)));
    world.settled();
    return world;
  }

  private static mount(device: FaultyDevice, random: Random, dlm: () => Dlm): Promise<Volume> {
    return Volume.mount(device, quietMount(random.u32(), { dlm: dlm(), cacheBlocks: random.pick([16, 300, 10_000]) }));
  }

  async run(event: Event): Promise<void> {
    const { posix } = this;
    switch (event.do) {
      case 'compare':
        return posix.compare();
      case 'remount':
        sums.remounts++;
        await posix.closeAll();
        await posix.volume.unmount();
        await this.begin(await World.mount(this.device, this.random, this.dlm));
        return posix.expectSame(this.posix);
      case 'crash': {
        sums.crashes++;
        this.device.crash();
        this.device = slowDevice(this.device.snapshot(), this.random.fork());
        const volume = await World.mount(this.device, this.random, this.dlm);
        const recorded: Pick<Recorded, 'states' | 'script'> = { states: this.states, script: this.script };
        expectAllowed(recorded, await readTree(volume), { marks: ['durable 0', `begin ${this.script.length}`], seed: 0 });
        return this.begin(volume);
      }
      default: {
        const promise = await posix.run(event, ++this.number);
        this.script.push(event);
        this.states.push(posix.snapshot());
        if (promise === 'durable') this.settled();
      }
    }
  }

  /** Unmount; the volume must be clean. Returns it. */
  async end(hostile: boolean): Promise<MemoryDevice> {
    count(this.posix);
    await this.posix.compare();
    await this.posix.closeAll();
    await this.posix.volume.unmount();
    const medium = this.device.snapshot();
    if (hostile) await settle(medium);
    expect((await checkVolume(medium)).findings.filter((f) => !MAY_BE_LEFT.includes(f.code))).toEqual([]);
    return medium;
  }

  private async begin(volume: Volume): Promise<void> {
    count(this.posix);
    this.posix = await Posix.begin(volume);
    this.settled();
  }

  /** Nothing up to now can be lost any more. */
  private settled(): void {
    this.states = [this.posix.snapshot()];
    this.script = [];
  }
}

/** An orphan whose open lock a hostile Dlm denied is another node's to wipe: the next mount that has the volume to itself. */
async function settle(medium: MemoryDevice): Promise<void> {
  await (await Volume.mount(medium, quietMount(1))).unmount();
}

const VARIANTS = CRASH_VOLUMES.flatMap((spec) => (['local', 'hostile'] as const).map((locks) => [spec.name, locks, spec] as const));

describe.each(VARIANTS)('%s, %s locks', { timeout: THOROUGH ? 3_600_000 : 240_000 }, (_, locks, spec) => {
  const clusterSize = spec.mkfs.clusterSize!;
  const mix = { clusterSize, reach: clusterSize > 65536 ? 2 * clusterSize : 30 * clusterSize };
  // A number per step keeps generating cheap and lets fast-check drop steps.
  const events: fc.Arbitrary<Event> = fc.noBias(fc.tuple(fc.nat(99), fc.nat())).map(([dice, n]) =>
    dice === 0 ? { do: 'remount' } : dice === 1 ? { do: 'crash' } : dice < 5 ? { do: 'compare' } : randomSteps(new Random(n), 1, mix)[0]);

  test.each(locks === 'local' ? ['with room', 'on a full volume'] : ['with room'])('random operations do what a tree in memory does, %s', async (room) => {
    const length = (locks === 'local' ? 3000 : 1500) * (THOROUGH ? 5 : 1) / (clusterSize > 65536 ? 5 : 1);
    await fc.assert(fc.asyncProperty(fc.nat(), fc.array(events, { minLength: length, maxLength: length }), async (n, list) => {
      const world = await World.begin(spec, new Random(n), DLMS[locks]);
      for (const step of playground()) await world.run(step);
      if (room !== 'with room') for (const step of fillUp(spec, 12)) await world.run(step);
      for (const [i, event] of list.entries()) {
        try {
          await world.run(event);
        } catch (error) {
          throw new Error(`at ${i}, ${JSON.stringify(event)}: ${(error as Error).message}`, { cause: error });
        }
      }
      await expectFsckClean(await world.end(locks === 'hostile'), MAY_BE_LEFT);
    }), {
      seed: SEED, numRuns: THOROUGH ? 5 : 1, endOnFailure: process.env.LUNFS_SHRINK !== '1',
      reporter: (result) => {
        if (result.failed) throw new Error(`LUNFS_SEED=${result.seed}${result.numShrinks > 0 ? `: ${JSON.stringify(result.counterexample)}` : ''}: ${String(result.errorInstance)}`, { cause: result.errorInstance });
      },
    });
  });

  test('hundreds of operations at once leave what some order of them would', async () => {
    const random = new Random(SEED);
    const users = locks === 'local' ? 200 : 30;
    const device = slowDevice(await poisonedVolume(spec), random.fork());
    const volume = await Volume.mount(device, quietMount(SEED, { dlm: DLMS[locks](random.fork()) }));
    const posix = await Posix.begin(volume);
    await posix.run({ do: 'mkdir', path: 'shared' }, 0);
    const small = { clusterSize: mix.clusterSize, reach: Math.min(mix.reach, 60_000), promises: 0.05 };
    await Promise.all(Array.from({ length: users }, async (_user, user) => {
      await posix.run({ do: 'mkdir', path: `u${user}` }, 0);
      const own = [...playground(`u${user}/`).slice(0, 6), ...randomSteps(random.fork(), 12, { ...small, under: `u${user}/` })];
      const shared = randomSteps(random.fork(), own.length, { ...small, under: `shared/${user}-` });
      for (const [i, step] of own.flatMap((s, k) => [s, shared[k]]).entries()) {
        await posix.run(step.do === 'rename' && i % 4 === 1 ? { ...step, to: `u${user}/from-shared` } : step, i);
      }
    }));
    count(posix);
    await posix.compare();
    await posix.closeAll();
    await volume.unmount();
    const medium = device.snapshot();
    if (locks === 'hostile') await settle(medium);
    await expectFsckClean(medium, MAY_BE_LEFT);
  });
});
