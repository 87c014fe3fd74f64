/**
 * A power failure at every request of whole volumes' lives (docs/design.md, rule 7): what is allowed to be found after it
 * is in support/crash.ts. Prefix images (all requests kept in order) at every change of the small scripts on the first
 * volume, else at chosen points; images with lost, reordered and torn requests; crashes in the middle of recovery.
 * LUNFS_THOROUGH=1: every point of every script on every volume.
 *
 * A failure names the command that repeats it:
 *   LUNFS_SEED=SEED LUNFS_CRASH=POINT[.DICE][/POINT[.DICE]] npx vitest run --root . packages/ocfs2/test/volume/crash.test.ts -t 'NAME'
 * POINT counts requests, DICE is the seed of what survived, and behind the slash is a crash in that crash's recovery.
 */
import { type CrashImage, prefixImages, Random, reorderedImages } from '@lunfs/device';
import { afterAll, describe, expect, test } from 'vitest';
import { HostileDlm } from '../../src/locking/index.js';
import { seed } from '../../../../test/support/temp.js';
import { CRASH_VOLUMES, type CrashVolume, MAY_BE_LEFT, type Recorded, checkImage, imageAt, imagesOfRecovery, pointText, record } from '../support/crash.js';
import { SCRIPTS, playground, randomSteps } from '../support/crash-scripts.js';
import type { Step } from '../support/posix.js';
import { expectFsckClean } from '../support/volume.js';

const THOROUGH = process.env.LUNFS_THOROUGH === '1';
const SEED = seed('crash at every write');
const sums = { points: 0, images: 0, recoveries: 0, fsck: 0 };

afterAll(() => {
  console.log(`crash at every write: ${sums.points} points, ${sums.images} images checked, ${sums.recoveries} of crashed recoveries, ${sums.fsck} by fsck.ocfs2`);
});

/** Images per script: `all`, or so many points of each kind. */
interface Effort {
  readonly points: number | 'all';
  readonly dlm?: () => HostileDlm;
}

async function survive(name: string, spec: CrashVolume, script: readonly Step[], { points, dlm }: Effort): Promise<void> {
  const recorded = await record(spec, script, SEED, { dlm: dlm?.() });
  const { recording } = recorded;
  const replay = process.env.LUNFS_CRASH;
  if (replay !== undefined) return void (await checkImage(recorded, await imageAt(recording, replay)));
  const random = new Random(SEED);
  const select = chosen(recorded, random, THOROUGH ? 'all' : points);
  const look = async (image: CrashImage, inner = ''): Promise<void> => {
    try {
      await checkImage(recorded, image);
      sums.images++;
    } catch (error) {
      const command = `LUNFS_SEED=${SEED} LUNFS_CRASH=${pointText(image)}${inner} npx vitest run --root . packages/ocfs2/test/volume/crash.test.ts -t '${name}'`;
      throw new Error(`${command}\n${(error as Error).message}`, { cause: error });
    }
  };
  const deep = new Set(Array.from({ length: THOROUGH ? 20 : 1 }, () => random.int(recording.log.length)));
  const checkers = new Set(Array.from({ length: THOROUGH ? 10 : 1 }, () => random.int(recording.log.length)));
  const both = async (image: CrashImage): Promise<void> => {
    if (deep.delete(image.point)) {
      for await (const again of imagesOfRecovery(image, random, THOROUGH ? 40 : 5)) {
        await look(again, `/${again.inner}`);
        sums.recoveries++;
      }
    }
    await look(image);
    if (checkers.delete(image.point)) {
      await expectFsckClean(image.device, MAY_BE_LEFT);
      sums.fsck++;
    }
  };
  for (const image of prefixImages(recording, (p) => select.has(p) || deep.has(p))) {
    sums.points++;
    await both(image);
  }
  for (const image of reorderedImages(recording, random, { perPoint: THOROUGH ? 3 : 1, select: (p) => select.has(p) || deep.has(p) || checkers.has(p) })) await both(image);
}

function chosen({ recording: { log } }: Recorded, random: Random, points: number | 'all'): Set<number> {
  const all = Array.from({ length: log.length + 1 }, (_, i) => i);
  return new Set(points === 'all' ? all : random.shuffle(all).slice(0, points));
}

describe.each(CRASH_VOLUMES.map((spec) => [spec.name, spec] as const))('%s', { timeout: 3_600_000 }, (_, spec) => {
  const first = spec === CRASH_VOLUMES[0];
  const geometry = { blockSize: spec.mkfs.blockSize!, clusterSize: spec.mkfs.clusterSize! };

  test.each(SCRIPTS.map(({ name, steps }) => [name, steps] as const))('crash in %s', async (name, steps) => {
    const small = ['files', 'names', 'space'].includes(name);
    await survive(`${spec.name} crash in ${name}`, spec, steps(geometry), { points: first && small ? 'all' : first ? 60 : 24 });
  });

  test.each(THOROUGH ? [1, 2, 3, 4, 5, 6, 7, 8] : [1, 2])('crash in random steps %i', async (n) => {
    const steps = [...playground(), ...randomSteps(new Random(SEED + n), 130, { reach: 6 * geometry.clusterSize, clusterSize: geometry.clusterSize })];
    await survive(`${spec.name} crash in random steps ${n}`, spec, steps, { points: 40 });
  });
});

test('crash of a node that gives every lock away at once', { timeout: 3_600_000 }, async () => {
  const [, , , , , spec] = CRASH_VOLUMES;
  const steps = [...playground(), ...randomSteps(new Random(SEED), 60, { reach: 30_000, clusterSize: 4096 })];
  const dlm = () => {
    const random = new Random(SEED);
    return new HostileDlm({ random: () => random.float(), defer: (fn) => (random.chance(0.8) ? queueMicrotask(fn) : void setImmediate(fn)) });
  };
  await survive('crash of a node that gives every lock away at once', spec, steps, { points: 40, dlm });
});

test('images of a script are many, and the same seed gives the same ones', async () => {
  const steps = SCRIPTS[0].steps({ blockSize: 4096, clusterSize: 4096 });
  const [a, b] = [await record(CRASH_VOLUMES[0], steps, 7), await record(CRASH_VOLUMES[0], steps, 7)];
  expect(a.recording.changes).toBeGreaterThan(50);
  expect(a.recording.log).toEqual(b.recording.log);
});
