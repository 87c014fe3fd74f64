/** Discarding free clusters: all that are free, none that is not, whatever else goes on, on one node and on several. LUNFS_SEED=… repeats a run. */
import { type BlockDevice, Random } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { flushTruncateLog, statClusters } from '../../src/alloc/index.js';
import { MODE, bits, clusterToGroup, GROUP_BITMAP } from '../../src/format/index.js';
import { Volume, fallocate, readFile, truncateFile, writeFile } from '../../src/volume/index.js';
import { seed } from '../../../../test/support/temp.js';
import { CLUSTER_VOLUME, TestCluster } from '../support/cluster.js';
import { quietMount, slowDevice } from '../support/crash.js';
import { HOSTILE, variants } from '../support/locks.js';
import { GEOMETRIES, expectFsckClean, makeVolume } from '../support/volume.js';

const SEED = seed('trim');
const MAY_BE_LEFT = ['INODE_SPARSE_SIZE', 'ORPHAN_DIR_NOT_EMPTY'];
const name = (text: string) => Buffer.from(text);

/** Files of one node and what is in them. */
class Load {
  readonly files = new Map<string, { ino: number; content: Buffer }>();

  constructor(readonly volume: Volume, readonly random: Random, readonly prefix: string) {}

  async run(steps: number): Promise<void> {
    const { volume: { names, ctx }, random, files, prefix } = this;
    for (let i = 0; i < steps; i++) {
      const known = [...files.keys()], dice = random.int(10);
      if (known.length === 0 || (dice < 3 && known.length < 12)) {
        const made = `${prefix}${i}`;
        const { blkno } = await names.create(names.root, name(made), { mode: MODE.REG | 0o644, uid: 0, gid: 0 });
        await names.forget(blkno);
        files.set(made, { ino: blkno, content: Buffer.alloc(0) });
      } else {
        const one = random.pick(known), file = files.get(one)!;
        if (dice < 6) {
          const data = Buffer.alloc(1 + random.int(150_000), i + 1), at = random.int(50_000);
          await writeFile(ctx, file.ino, at, data);
          const content = Buffer.alloc(Math.max(file.content.length, at + data.length));
          file.content.copy(content);
          data.copy(content, at);
          file.content = content;
        } else if (dice < 7) {
          const size = random.int(file.content.length + 1);
          await truncateFile(ctx, file.ino, size);
          file.content = file.content.subarray(0, size);
        } else if (dice < 8) {
          await names.unlink(names.root, name(one));
          files.delete(one);
        } else if (dice < 9) await this.volume.sync();
        else await flushTruncateLog(ctx);
      }
    }
  }

  async expectRight(volume = this.volume): Promise<void> {
    for (const [one, { ino, content }] of this.files) {
      const got = Buffer.alloc(content.length);
      await readFile(volume.ctx, ino, 0, got);
      if (!got.equals(content)) throw new Error(`${one}: byte ${got.findIndex((byte, i) => byte !== content[i])} is wrong`);
    }
  }
}

/** See at the begin and at the end of each discard that the bitmap of `volume` calls every cluster free. Returns the bytes discarded so far. */
function watchDiscards(device: BlockDevice, volume: () => Volume): { bytes: number; wrong: string[] } {
  const seen = { bytes: 0, wrong: [] as string[] };
  const discard = device.discard.bind(device);
  const look = (when: string, offset: number, length: number): void => {
    const { geo, engine } = volume().ctx;
    for (let cluster = offset / geo.clusterSize; cluster < (offset + length) / geo.clusterSize; cluster++) {
      const { group, bit } = clusterToGroup(geo, cluster);
      const entry = engine.cache.peek(group);
      if (entry === undefined) seen.wrong.push(`${when} ${cluster}: its group is not known`);
      else if (bits.test(entry.block.bytes, GROUP_BITMAP, bit)) seen.wrong.push(`${when} ${cluster}: in use`);
    }
  };
  device.discard = async (offset, length) => {
    look('before', offset, length);
    await discard(offset, length);
    look('after', offset, length);
    seen.bytes += length;
  };
  return seen;
}

describe.each(variants(GEOMETRIES))('on $name', (spec) => {
  test('nothing in use is discarded while others allocate and free', { timeout: 300_000 }, async () => {
    const random = new Random(SEED);
    const slow = slowDevice(await makeVolume(spec), random);
    const volume: Volume = await Volume.mount(slow, quietMount(1));
    const seen = watchDiscards(slow, () => volume);
    const load = new Load(volume, random, 'f');
    let busy = true;
    const trims = (async () => {
      for (let n = 0; busy || n === 0; n++) await volume.trim({ minimum: volume.geo.clusterSize * (1 + random.int(4)) });
    })();
    await load.run(HOSTILE ? 60 : 150);
    busy = false;
    await trims;
    expect(seen.wrong).toEqual([]);
    expect(seen.bytes).toBeGreaterThan(0);
    await load.expectRight();
    await volume.unmount();
    const medium = slow.snapshot();
    await expectFsckClean(medium, MAY_BE_LEFT);
    const again = await Volume.mount(medium, quietMount(2));
    await load.expectRight(again);
    // With nothing else going on, all that is free is discarded, and only once asked for by a range.
    const { geo, ctx } = again;
    const after = watchDiscards(medium, () => again);
    await again.trim({ minimum: geo.clusterSize });
    const { free } = await ctx.engine.read('stat', (op) => statClusters(op, ctx));
    expect(after).toEqual({ bytes: free * geo.clusterSize, wrong: [] });
    const middle = Math.floor(geo.totalClusters / 2) * geo.clusterSize;
    const parts = [await again.trim({ minimum: 1, length: middle }), await again.trim({ minimum: 0, offset: middle })];
    expect(parts[0].bytes + parts[1].bytes).toBe(free * geo.clusterSize);
    expect(await again.trim({ minimum: medium.size })).toEqual({ bytes: 0, runs: 0 });
    await load.expectRight(again);
    await again.unmount();
    await expectFsckClean(medium, MAY_BE_LEFT);
  });
});

test('who finds no other space waits for the discard', { timeout: 120_000 }, async () => {
  // One group.
  const device = await makeVolume({ ...GEOMETRIES[0], size: 100 << 20 });
  const volume = await Volume.mount(device, quietMount(1));
  const { names, ctx } = volume;
  const { blkno } = await names.create(names.root, name('file'), { mode: MODE.REG | 0o644, uid: 0, gid: 0 });
  const discard = device.discard.bind(device);
  let go: () => void = () => undefined, asked = 0;
  const held = new Promise<void>((resolve) => (go = resolve));
  device.discard = async (offset, length) => {
    asked++;
    await held;
    await discard(offset, length);
  };
  const trim = volume.trim();
  while (asked === 0) await new Promise((resolve) => setImmediate(resolve));
  await expect(volume.trim()).rejects.toMatchObject({ code: 'TRIMMING', errno: 'EBUSY' });
  let done = false;
  const reserve = fallocate(ctx, blkno, 'reserve', 0, 60 << 20, false).then(() => {
    done = true;
  });
  for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
  expect(done).toBe(false);
  go();
  await Promise.all([reserve, trim]);
  await volume.unmount();
  await expectFsckClean(device);
});

test('refused where the device takes no discards, on a volume mounted read-only, and for what is no range', { timeout: 120_000 }, async () => {
  const device = await makeVolume(GEOMETRIES[0]);
  let volume = await Volume.mount(device, quietMount(1));
  await expect(volume.trim({ offset: -1 })).rejects.toMatchObject({ code: 'BAD_RANGE', errno: 'EINVAL' });
  Object.assign(device, { canDiscard: false });
  await expect(volume.trim()).rejects.toMatchObject({ code: 'NO_DISCARD', errno: 'EOPNOTSUPP' });
  await volume.unmount();
  volume = await Volume.mount(device, quietMount(1, { readOnly: true }));
  await expect(volume.trim()).rejects.toMatchObject({ code: 'READ_ONLY' });
  await volume.unmount();
});

test('members of a cluster: several trim while all write', { timeout: 300_000 }, async () => {
  const cluster = await TestCluster.make(SEED, CLUSTER_VOLUME);
  const nodes = [await cluster.mount(1), await cluster.mount(2), await cluster.mount(3)];
  const random = new Random(SEED + 1);
  const seen = nodes.slice(1).map((node) => {
    node.device.canDiscard = true;
    return watchDiscards(node.device, () => node.volume);
  });
  const loads = nodes.map((node) => new Load(node.volume, random, `n${node.number}-`));
  await Promise.all([
    ...loads.map((load) => load.run(40)),
    ...nodes.slice(1).map(async ({ volume }) => {
      for (let i = 0; i < 6; i++) await volume.trim({ minimum: 4096 });
    }),
  ]);
  for (const { bytes, wrong } of seen) {
    expect(wrong).toEqual([]);
    expect(bytes).toBeGreaterThan(0);
  }
  for (const load of loads) for (const { volume } of nodes) await load.expectRight(volume);
  for (const node of nodes) await cluster.unmount(node);
  await expectFsckClean(cluster.lun, MAY_BE_LEFT);
});
