/**
 * A power failure at every request of whole volumes' lives (docs/design.md, rule 7); what is allowed to be found after it
 * is in crash.ts. The tests are in ../crash, a file for a few scripts, so that they run side by side. Prefix images (all
 * requests kept in order), images with lost, reordered and torn requests, crashes in the middle of recovery; our recovery
 * and verifier at every image, fsck.ocfs2 at a seeded sample. LUNFS_THOROUGH=1: every point of every script on every volume.
 *
 * A failure names the command that repeats it: LUNFS_CRASH=POINT[.DICE][/POINT[.DICE]], where POINT counts requests, DICE
 * is the seed of what survived, and behind the slash is a crash in that crash's recovery.
 */
import { type CrashImage, Random, prefixImages, reorderedImages } from '@lunfs/device';
import { afterAll, describe, test } from 'vitest';
import { seed } from '../../../../test/support/temp.js';
import { CRASH_VOLUMES, type CrashVolume, MAY_BE_LEFT, type Recorded, checkImage, imageAt, imagesOfRecovery, pointText, record } from './crash.js';
import { SCRIPTS } from './crash-scripts.js';
import { expectFsckClean } from './volume.js';

export const THOROUGH = process.env.LUNFS_THOROUGH === '1';
export const SEED = seed('crash at every write');
const sums = { points: 0, images: 0, recoveries: 0, fsck: 0 };

afterAll(() => {
  console.log(`crash at every write: ${sums.points} points, ${sums.images} images checked, ${sums.recoveries} of crashed recoveries, ${sums.fsck} by fsck.ocfs2`);
});

/** Images of one run: `all`, or so many points, with all kept and with some lost. `recorded`: what ran at once on one device. */
export async function survive(name: string, recorded: readonly Recorded[], points: number | 'all'): Promise<void> {
  const [{ recording }] = recorded;
  const replay = process.env.LUNFS_CRASH;
  if (replay !== undefined) return void (await checkImage(recorded, await imageAt(recording, replay)));
  const random = new Random(SEED);
  const look = async (image: CrashImage, inner = ''): Promise<void> => {
    try {
      await checkImage(recorded, image);
      sums.images++;
    } catch (error) {
      const command = `LUNFS_SEED=${SEED} LUNFS_CRASH=${pointText(image)}${inner} npx vitest run --root . packages/ocfs2/test/crash -t '${name}'`;
      throw new Error(`${command}\n${(error as Error).message}`, { cause: error });
    }
  };
  const select = chosen(recording.log.length, random, THOROUGH ? 'all' : points);
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

function chosen(length: number, random: Random, points: number | 'all'): Set<number> {
  const all = Array.from({ length: length + 1 }, (_, i) => i);
  return new Set(points === 'all' ? all : random.shuffle(all).slice(0, points));
}

/** What a script needs to know of the volume it runs on. */
export const geometryOf = ({ size, mkfs }: CrashVolume) => ({ size, blockSize: mkfs.blockSize!, clusterSize: mkfs.clusterSize! });

/** Tests of these scripts on every volume: every point on the first volume if `small`, else a sample of points. */
export function crashScripts(names: readonly string[], { small = false } = {}): void {
  describe.each(CRASH_VOLUMES.map((spec) => [spec.name, spec] as const))('%s', { timeout: 3_600_000 }, (_, spec) => {
    const first = spec === CRASH_VOLUMES[0];
    test.each(names)('crash in %s', async (name) => {
      const script = SCRIPTS.find((one) => one.name === name)!.steps(geometryOf(spec));
      await survive(`${spec.name} crash in ${name}`, [await record(spec, script, SEED)], first && small ? 'all' : first ? 60 : 24);
    });
  });
}
