/**
 * A power failure at every request of a disk's leases: the record that is found is one between the last that was promised and the last begun, whole,
 * and whoever takes the disk then has an epoch that nobody has ever had. LUNFS_SEED=… repeats a run.
 */
import { Random, RecordingDevice, prefixImages, reorderedImages } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { seed } from '../../../../test/support/temp.js';
import { checkVolume } from '../../src/check/index.js';
import { Leases, type LeasedDisk, Volume, readLease } from '../../src/volume/index.js';
import { CRASH_VOLUMES, MAY_BE_LEFT, poisonedVolume, quietMount, slowDevice } from '../support/crash.js';
import { expectFsckClean } from '../support/volume.js';
import { FILE, bytes } from '../volume/support.js';

const SEED = seed('crashes of leases');
const POINTS = process.env.LUNFS_THOROUGH === '1' ? 2000 : 40;

/** What a record says. */
interface Said {
  readonly state: string;
  readonly epoch: number;
  readonly node: number;
}

interface Run {
  readonly recording: RecordingDevice;
  /** What is allowed to be found, by step; undefined: no record. */
  readonly said: readonly (Said | undefined)[];
}

const takerOn = (volume: Volume, node: number): Leases => new Leases(volume.ctx, undefined, { node, incarnation: BigInt(node + 1), host: `host${node}`, hostOf: (one) => `host${one}`, lives: () => true });

async function record(spec: (typeof CRASH_VOLUMES)[number]): Promise<Run> {
  const base = await poisonedVolume(spec);
  const recording = new RecordingDevice(base);
  Object.assign(recording, { inner: slowDevice(base, new Random(SEED)) });
  const volume = await Volume.mount(recording, quietMount(SEED));
  const { names } = volume;
  const { blkno } = await names.create(names.root, bytes('vm.raw'), FILE);
  await volume.sync();
  const disk: LeasedDisk = { ino: blkno, name: 'vm.raw' };
  const [a, b] = [1, 2].map((node) => takerOn(volume, node));
  const said: (Said | undefined)[] = [undefined];
  const step = async (then: Said, durable: boolean, work: () => Promise<unknown>): Promise<void> => {
    said.push(then);
    recording.mark(`begin ${said.length - 1}`);
    await work();
    if (durable) recording.mark(`durable ${said.length - 1}`);
  };
  recording.mark('durable 0');
  for (let epoch = 1; epoch < 7; epoch += 2) {
    await step({ state: 'held', epoch, node: 1 }, true, () => a.acquire(disk));
    await step({ state: 'released', epoch, node: 1 }, false, () => a.release(disk));
    await step({ state: 'held', epoch: epoch + 1, node: 2 }, true, () => b.acquire(disk));
    // Between two leases the disk is written, and other files come and go.
    const { blkno: other } = await names.create(names.root, bytes(`other${epoch}`), FILE);
    await names.forget(other);
    if (epoch === 3) await step({ state: 'held', epoch: 4, node: 2 }, true, () => takerOn(volume, 2).resume(disk, 4));
    await step({ state: 'released', epoch: epoch + 1, node: 2 }, false, () => b.release(disk));
  }
  await names.forget(blkno);
  await volume.unmount();
  recording.mark(`durable ${said.length - 1}`);
  return { recording, said };
}

describe.each(CRASH_VOLUMES.filter(({ name }) => ['4K/4K metaecc', '512/4K'].includes(name)))('leases on $name', (spec) => {
  test('a crash at any request', { timeout: 600_000 }, async () => {
    const { recording, said } = await record(spec);
    const random = new Random(SEED);
    let images = 0;
    const check = async ({ device, marks }: { readonly device: Parameters<typeof Volume.mount>[0]; readonly marks: readonly string[] }): Promise<void> => {
      const last = (what: string): number | undefined => {
        const found = marks.findLast((mark) => mark.startsWith(what));
        return found === undefined ? undefined : Number(found.split(' ')[1]);
      };
      const durable = last('durable');
      if (durable === undefined) return; // before the disk was made
      const begun = Math.max(durable, last('begin') ?? 0);
      const volume = await Volume.mount(device, quietMount(1));
      const { names } = volume;
      const { blkno } = await names.lookup(names.root, bytes('vm.raw'));
      const found = await readLease(volume.ctx, blkno);
      expect(said.slice(durable, begun + 1)).toContainEqual(found && { state: found.state, epoch: found.epoch, node: found.holder.node });
      const promised = Math.max(0, ...said.slice(0, durable + 1).map((one) => one?.epoch ?? 0));
      expect(await takerOn(volume, 3).acquire({ ino: blkno, name: 'vm.raw' })).toBeGreaterThan(promised);
      await names.forget(blkno);
      await volume.unmount();
      expect((await checkVolume(device)).findings.filter(({ code }) => !MAY_BE_LEFT.includes(code))).toEqual([]);
      images++;
    };
    const points = recording.log.length;
    const first = recording.log.findIndex((entry) => entry.kind === 'mark' && entry.label === 'durable 0') + 1;
    const some = new Set(Array.from({ length: POINTS }, () => first + random.int(points + 1 - first)));
    for (const image of prefixImages(recording, (point) => some.has(point))) await check(image);
    for (const image of reorderedImages(recording, random, { select: (point) => some.has(point) })) await check(image);
    expect(images).toBeGreaterThanOrEqual(some.size);
    const [whole] = [...prefixImages(recording, (point) => point === points)];
    await expectFsckClean(whole.device, MAY_BE_LEFT);
  });
});
