// What one more write costs in a fragmented file: append and random write into a file of 10, 100, 1,000, 10,000 and 100,000
// extents, in memory and through the journal; ratios to the cost at 10 extents (flat is 1). Blocks: changed per operation.
// usage: node bench/fragmented.mjs [--writes N] [--json]
import { parseArgs } from 'node:util';
import { MemoryDevice } from '@lunfs/device';
import { Volume, extentTrees, fallocate, formatVolume, systemRandom, writeFile } from '@lunfs/ocfs2';

const { values } = parseArgs({ options: { writes: { type: 'string', default: '400' }, json: { type: 'boolean', default: false } } });
const WRITES = Number(values.writes);
const CLUSTER = 4096;
const MODE = 0o100644;

/** A mounted volume with a file of so many records, one in every fourth cluster, none continuing another. */
async function fragmented(extents) {
  const device = new MemoryDevice({ size: 8 * 2 ** 30, name: 'bench' });
  await formatVolume(device, { blockSize: 4096, clusterSize: CLUSTER, mount: 'local', slots: 1, journalSize: 64 << 20, discard: false }, { random: systemRandom, time: 1 });
  const volume = await Volume.mount(device);
  const { blkno } = await volume.names.create(volume.names.root, Buffer.from('file'), { mode: MODE, uid: 0, gid: 0 });
  for (let i = 0; i < extents; i++) await fallocate(volume.ctx, blkno, 'reserve', 4 * i * CLUSTER, CLUSTER, false);
  await volume.sync();
  return { volume, blkno };
}

/** Microseconds and changed blocks per call of `work`. */
async function cost(volume, count, work) {
  const { log } = volume.ctx.engine;
  let blocks = 0;
  const add = log.add.bind(log);
  log.add = (op) => {
    blocks += op.overlay.size;
    add(op);
  };
  const started = performance.now();
  for (let i = 0; i < count; i++) await work(i);
  const us = ((performance.now() - started) * 1000) / count;
  delete log.add;
  await volume.sync();
  return { us, blocks: blocks / count };
}

const rows = [];
const page = Buffer.alloc(100, 'x');
for (const extents of [10, 100, 1000, 10_000, 100_000]) {
  const { volume, blkno } = await fragmented(extents);
  const { ctx } = volume;
  // Each in a hole between two records, of a large file as of a small one: at least as many as make it walk once.
  const count = Math.min(WRITES, Math.max(10, extents));
  const taken = new Set();
  const place = () => {
    for (;;) {
      const at = 4 * Math.floor(Math.random() * Math.max(extents, count)) + 2;
      if (!taken.has(at)) {
        taken.add(at);
        return at;
      }
    }
  };
  const random = await cost(volume, Math.max(count, extents >> 3), () => writeFile(ctx, blkno, place() * CLUSTER, page));
  const inPlace = await cost(volume, count, (i) => writeFile(ctx, blkno, 4 * ((i * 7919) % extents) * CLUSTER, page));
  const append = await cost(volume, count, (i) => writeFile(ctx, blkno, 4 * (2 * Math.max(extents, count) + i) * CLUSTER, page));
  const depth = await ctx.engine.read('depth', (op) => extentTrees.dinodeTree(ctx.inode(op, blkno, 3), op, ctx).list().depth);
  rows.push({ extents, depth, append, random, inPlace });
  await volume.unmount();
}
const [first] = rows;
if (values.json) console.log(JSON.stringify(rows));
else {
  console.log('extents  depth   append: us  blocks  ratio   random into holes: us  blocks  ratio   first write to reserved: us  ratio');
  const cell = (text, width) => String(text).padStart(width);
  for (const { extents, depth, append, random, inPlace } of rows) {
    console.log([
      cell(extents, 7), cell(depth, 6), cell(append.us.toFixed(0), 12), cell(append.blocks.toFixed(1), 7), cell((append.us / first.append.us).toFixed(2), 6),
      cell(random.us.toFixed(0), 23), cell(random.blocks.toFixed(1), 7), cell((random.us / first.random.us).toFixed(2), 6),
      cell(inPlace.us.toFixed(0), 29), cell((inPlace.us / first.inPlace.us).toFixed(2), 6),
    ].join(' '));
  }
}
