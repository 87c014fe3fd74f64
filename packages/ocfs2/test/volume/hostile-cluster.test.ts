/** Many operations at once on a volume of a cluster whose other node wants every lock back: all of them end. */
import { expect, test } from 'vitest';
import { Random } from '@lunfs/device';
import { HostileDlm } from '../../src/locking/index.js';
import { Volume } from '../../src/volume/index.js';
import { TestClock } from '../support/context.js';
import { expectFsckClean, makeVolume } from '../support/volume.js';

const CLUSTER = { size: 100 << 20, mkfsArgs: ['-b', '4096', '-C', '4096', '-N', '2', '-J', 'size=4M', '--cluster-stack=o2cb', '--cluster-name=test'] };

// Operations that waited for inodes which only an earlier attempt had claimed waited in circles with these seeds.
test.each([1, 2, 3])('creators and removers in one directory, LUNFS_SEED=%i', async (seed) => {
  const random = new Random(seed);
  const device = await makeVolume(CLUSTER);
  const dlm = new HostileDlm({ random: () => random.float(), defer: (fn) => (random.chance(0.8) ? queueMicrotask(fn) : void setImmediate(fn)) });
  const options = { clock: new TestClock(), offline: true, pause: async () => undefined };
  const volume = await Volume.mount(device, { ...options, dlm });
  const { names } = volume;
  await Promise.all(Array.from({ length: 10 }, async (_, user) => {
    for (let i = 0; i < 40; i++) await names.forget((await names.create(names.root, Buffer.from(`f${user}-${i}`), { mode: 0o100644, uid: 0, gid: 0 })).blkno);
    for (let i = 0; i < 40; i++) await names.unlink(names.root, Buffer.from(`f${user}-${i}`));
  }));
  expect((await names.readdir(names.root)).entries.map((e) => Buffer.from(e.name).toString())).toEqual(['.', '..', 'lost+found']);
  await volume.unmount();
  // What the other node would not let go of was left to it: a mount alone removes it.
  await (await Volume.mount(device, options)).unmount();
  await expectFsckClean(device);
});
