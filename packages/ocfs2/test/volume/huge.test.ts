/** Volumes of 16 TiB on sparse memory: numbers beyond 32 bits in every place that counts blocks, clusters and bytes. */
import { MemoryDevice } from '@lunfs/device';
import { expect, test } from 'vitest';
import { claimFromBitmap } from '../../src/alloc/bitmap.js';
import { checkVolume } from '../../src/check/index.js';
import { dinodeTree, insert } from '../../src/extents/index.js';
import { MODE } from '../../src/format/index.js';
import { formatVolume } from '../../src/mkfs/index.js';
import { Volume, fileExtents, punchHole, readFile, truncateFile, writeFile } from '../../src/volume/index.js';

const TIB = 2 ** 40;

test.each([
  { blockSize: 4096, clusterSize: 262144, features: 'metaecc' },
  { blockSize: 512, clusterSize: 1 << 20, features: 'nometaecc' },
])('16 TiB, blocks of $blockSize, clusters of $clusterSize: opened, written to at its end, checked', async ({ blockSize, clusterSize, features }) => {
  const device = new MemoryDevice({ size: 16 * TIB - 2 ** 20, name: 'huge' });
  await formatVolume(device, { blockSize, clusterSize, mount: 'local', slots: 2, journalSize: 17 << 20, journal64: true, discard: false, features }, { random: { u32: () => 7 }, time: 1 });
  let volume = await Volume.mount(device);
  const { ctx, geo } = volume;
  expect(geo.totalBlocks).toBeGreaterThan(2 ** 32 - 2 ** 10);
  const before = await volume.names.statistics();
  const { blkno: ino } = await volume.names.create(volume.names.root, Buffer.from('at the end'), { mode: MODE.REG | 0o644, uid: 0, gid: 0 });
  // The last clusters of the volume, far out in the file.
  const cpos = 0xf000_0000 / (clusterSize / 4096);
  const run = await ctx.engine.run('claim the end', (op) => {
    const claimed = claimFromBitmap(op, ctx, { want: 3, min: 3, goal: geo.totalClusters - 3 })!;
    const ref = ctx.editInode(op, ino);
    insert(op, ctx, dinodeTree(ref, op, ctx), { cpos, clusters: 3, blkno: claimed.start * geo.bpc, flags: 0 });
    ref.di.size = (cpos + 3) * clusterSize;
    return claimed;
  });
  expect(run).toMatchObject({ start: geo.totalClusters - 3, len: 3 });
  const data = Buffer.from(Array.from({ length: 2 * clusterSize }, (_, i) => i * 7));
  await writeFile(ctx, ino, cpos * clusterSize + 1000, data);
  await writeFile(ctx, ino, (cpos + 7) * clusterSize, Buffer.from('further'));
  await punchHole(ctx, ino, (cpos + 2) * clusterSize, clusterSize);
  await volume.unmount();

  volume = await Volume.mount(device);
  const { blkno } = await volume.names.lookup(volume.names.root, Buffer.from('at the end'));
  const [first] = await fileExtents(volume.ctx, blkno, 0, 10);
  expect(first).toMatchObject({ offset: cpos * clusterSize, length: 2 * clusterSize, device: run.start * clusterSize });
  expect(first.device).toBeGreaterThan(15.9 * TIB);
  const back = Buffer.alloc(data.length);
  await readFile(volume.ctx, blkno, cpos * clusterSize + 1000, back);
  expect(back.subarray(0, 2 * clusterSize - 1000).equals(data.subarray(0, 2 * clusterSize - 1000))).toBe(true);
  expect(back.subarray(2 * clusterSize - 1000).every((byte) => byte === 0)).toBe(true);
  const tail = Buffer.alloc(7);
  await readFile(volume.ctx, blkno, (cpos + 7) * clusterSize, tail);
  expect(tail.toString()).toBe('further');
  expect((await checkVolume(device)).findings.filter((f) => f.severity !== 'recovery')).toEqual([]);
  await truncateFile(volume.ctx, blkno, 1);
  await truncateFile(volume.ctx, blkno, 0);
  expect((await volume.names.statistics()).freeBlocks).toBe(before.freeBlocks);
  await volume.unmount();
  expect((await checkVolume(device)).clean).toBe(true);
}, 240_000);
