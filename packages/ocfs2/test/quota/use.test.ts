/** What users and groups use stays true through everything that changes it, in the local and in the global files. */
import { type MemoryDevice, Random, UsageError } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { MODE } from '../../src/format/index.js';
import { type Volume, fallocate, truncateFile, writeFile } from '../../src/volume/index.js';
import { randomFrom, seed } from '../../../../test/support/temp.js';
import { expectFsckClean, makeVolume } from '../support/volume.js';
import { hostileDlm } from '../support/locks.js';
import { QUOTA_VOLUMES, countUse, mountQuiet, reported } from './support.js';

const SEED = seed('quota use');
const name = (text: string) => Buffer.from(text);

/** Random owners, sizes, directories, names that go and files that change hands. */
async function live(volume: Volume, random: Random, steps: number, round: number): Promise<void> {
  const { names, ctx, geo } = volume;
  const directories = [names.root];
  const files: { dir: number; name: string; ino: number }[] = [];
  const owner = () => random.pick([0, 1, 1000, 1001, 70_000, 4_000_000_000]);
  let serial = 1000 * round;
  const step = async (): Promise<void> => {
    const file = files.length > 0 ? random.pick(files) : undefined;
    const dice = random.int(20);
    if (dice < 6 || file === undefined) {
      const dir = random.pick(directories), text = `f${serial++}${'x'.repeat(random.int(100))}`;
      const { blkno } = await names.create(dir, name(text), { mode: MODE.REG | 0o644, uid: owner(), gid: owner() });
      files.push({ dir, name: text, ino: blkno });
      await names.forget(blkno);
    } else if (dice < 7) {
      const { blkno } = await names.create(random.pick(directories), name(`d${serial++}`), { mode: MODE.DIR | 0o755, uid: owner(), gid: owner() });
      directories.push(blkno);
      await names.forget(blkno);
    } else if (dice < 11) await writeFile(ctx, file.ino, random.int(4 * geo.clusterSize), new Uint8Array(random.int(2 * geo.clusterSize)).fill(7));
    else if (dice < 13) await truncateFile(ctx, file.ino, random.int(3 * geo.clusterSize));
    else if (dice < 14) await fallocate(ctx, file.ino, random.pick(['reserve', 'punch', 'zero'] as const), random.int(geo.clusterSize), 1 + random.int(5 * geo.clusterSize), random.chance(0.5));
    else if (dice < 15) await names.change(random.chance(0.3) ? random.pick(directories.slice(1).concat(file.ino)) : file.ino, { uid: owner(), gid: random.chance(0.5) ? owner() : undefined });
    else if (dice < 16) await names.forget((await names.create(random.pick(directories), name(`s${serial++}`), { mode: MODE.LNK | 0o777, uid: owner(), gid: owner(), target: name('t/'.repeat(random.int(1000) + 1)) })).blkno);
    else if (dice < 17) await volume.quota!.sync();
    else if (dice < 18) {
      // Shared clusters count for everyone who has them; writing to them changes nothing.
      const dir = random.pick(directories), text = `r${serial++}`;
      const { blkno } = await names.reflink(file.ino, dir, name(text), { uid: owner(), gid: owner() });
      files.push({ dir, name: text, ino: blkno });
      await writeFile(ctx, blkno, 0, new Uint8Array(random.int(geo.clusterSize)).fill(9));
    }
    else {
      await names.unlink(file.dir, name(file.name));
      files.splice(files.indexOf(file), 1);
    }
  };
  for (let i = 0; i < steps; i++) {
    await step().catch((error: unknown) => {
      // What did not fit is not counted either.
      if (!(error instanceof UsageError) || error.errno !== 'ENOSPC') throw error;
    });
  }
}

/** The quota files, mounted and closed, say what the inodes add up to; so do the checkers. */
async function expectTrue(device: MemoryDevice, volume: Volume): Promise<void> {
  await volume.ctx.engine.log.flush();
  expect(await reported(volume)).toEqual(await countUse(device));
}

describe.each(QUOTA_VOLUMES)('$name', (spec) => {
  test.each(spec.name === '4K/1M' ? ['local'] : ['local', 'hostile'])('use is what the inodes add up to, %s locks', { timeout: 120_000 }, async (locks) => {
    const device = await makeVolume(spec);
    const options = locks === 'hostile' ? { dlm: hostileDlm(randomFrom(SEED)) } : {};
    let volume = await mountQuiet(device, options);
    const random = new Random(SEED);
    for (let round = 0; round < 2; round++) {
      await live(volume, random, spec.name === '4K/1M' ? 40 : 80, round);
      await expectTrue(device, volume);
      await volume.unmount();
      volume = await mountQuiet(device, options);
      await expectTrue(device, volume);
    }
    await volume.unmount();
    await expectFsckClean(device, ['INODE_SPARSE_SIZE']);
  });
});
