import fs from 'node:fs';
import path from 'node:path';
import { Gate, MemoryDevice } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { flushTruncateLog, statClusters } from '../../src/alloc/index.js';
import type { FsContext } from '../../src/context.js';
import { DYN } from '../../src/format/index.js';
import { PR } from '../../src/locking/levels.js';
import {
  Namespace, cutToSize, fallocate, fileExtents, fileStatus, flushAllTimes, flushTimes, mapRange, maxFileSize, preallocateContiguous, punchHole, readFile, registerGate, seekData,
  seekHole, truncateFile, writeFile, zeroRange,
} from '../../src/volume/index.js';
import { must, randomFrom, seed } from '../../../../test/support/temp.js';
import { openTestContext } from '../support/context.js';
import { makeFile } from '../support/files.js';
import { HOSTILE } from '../support/locks.js';
import { GEOMETRIES, debugfs, expectFsckClean, makeVolume, withDir, writeOut } from '../support/volume.js';

const [DEFAULT] = GEOMETRIES;

async function volume(spec = DEFAULT, options: Parameters<typeof openTestContext>[1] = {}) {
  const device = await makeVolume(spec);
  const ctx = await openTestContext(device, options);
  return { device, ctx, ino: await makeFile(ctx, 'file') };
}

async function read(ctx: FsContext, ino: number, offset: number, length: number): Promise<Uint8Array> {
  const into = new Uint8Array(length).fill(0xee);
  return into.subarray(0, await readFile(ctx, ino, offset, into));
}

const filled = (length: number, byte: number) => new Uint8Array(length).fill(byte);
const dinode = (ctx: FsContext, ino: number) => ctx.engine.read('stat', (op) => {
  const { di } = ctx.inode(op, ino, PR);
  return { size: di.size, clusters: di.clusters, inline: (di.dynFeatures & DYN.INLINE_DATA) !== 0, mtime: di.mtime };
});

/** Operations that changed the volume while `work` ran. */
async function operations(ctx: FsContext, work: () => Promise<unknown>): Promise<string[]> {
  const { log } = ctx.engine;
  const names: string[] = [];
  const add = log.add.bind(log);
  log.add = (op) => {
    if (op.overlay.size > 0) names.push(op.name);
    add(op);
  };
  try {
    await work();
  } finally {
    log.add = add;
  }
  return names;
}

// Locks that are wanted back cost operations of their own.
if (!HOSTILE) {
  describe('what operations a write costs', () => {
    test('in place: none, times come late; allocating 4 KiB: one', async () => {
      const { ctx, ino, device } = await volume();
      await truncateFile(ctx, ino, 1 << 20);
      await writeFile(ctx, ino, 0, filled(65536, 1));
      expect(await operations(ctx, async () => {
        for (let i = 0; i < 10; i++) await writeFile(ctx, ino, 4096 * i, filled(4096, 3 + i));
        await writeFile(ctx, ino, 100, filled(1000, 99));
      })).toEqual([]);
      const names = new Namespace(ctx);
      const late = (await names.attributes(ino)).mtime;
      expect(late.sec).toBeGreaterThan((await dinode(ctx, ino)).mtime);
      expect(await operations(ctx, () => flushTimes(ctx, ino))).toEqual(['write times']);
      expect((await dinode(ctx, ino)).mtime).toBe(late.sec);
      await writeFile(ctx, ino, 0, filled(4096, 1));
      await names.change(ino, { mtime: { sec: 5, nsec: 6 } });
      expect(await operations(ctx, () => flushAllTimes(ctx))).toEqual([]);
      expect((await names.attributes(ino)).mtime).toEqual({ sec: 5, nsec: 6 });
      await writeFile(ctx, ino, 0, filled(4096, 1));
      await new Promise((resolve) => setTimeout(resolve, 1010));
      expect(await operations(ctx, () => writeFile(ctx, ino, 0, filled(4096, 2)))).toEqual(['write times']);
      expect(await operations(ctx, () => writeFile(ctx, ino, 500_000 - (500_000 % 4096), filled(4096, 7)))).toEqual(['write']);
      await ctx.engine.log.flush();
      await expectFsckClean(device);
    });

    test('a megabyte into a hole: one operation, one extent', async () => {
      const { ctx, ino } = await volume();
      expect(await operations(ctx, () => writeFile(ctx, ino, 0, filled(1 << 20, 5)))).toEqual(['write']);
      expect((await fileExtents(ctx, ino, 0, 100)).length).toBe(1);
    });
  });
}

describe('inline data', () => {
  test('a small file is inline, grows in the dinode, moves out when it must, by the kernel\'s sizes', async () => {
    const { ctx, ino, device } = await volume({ ...DEFAULT, mkfsArgs: [...DEFAULT.mkfsArgs, '--fs-features=inline-data'] });
    await writeFile(ctx, ino, 0, filled(100, 1));
    expect(await dinode(ctx, ino)).toMatchObject({ size: 100, clusters: 0, inline: true });
    await writeFile(ctx, ino, 3895, filled(1, 2));
    expect(await dinode(ctx, ino)).toMatchObject({ size: 3896, inline: true });
    await truncateFile(ctx, ino, 50);
    await truncateFile(ctx, ino, 200);
    expect(await read(ctx, ino, 0, 300)).toEqual(Uint8Array.from([...filled(50, 1), ...filled(150, 0)]));
    await punchHole(ctx, ino, 10, 20);
    await writeFile(ctx, ino, 'append', filled(3697, 3));
    expect(await dinode(ctx, ino)).toMatchObject({ size: 3897, clusters: 1, inline: false });
    expect(await read(ctx, ino, 0, 4000)).toEqual(Uint8Array.from([...filled(10, 1), ...filled(20, 0), ...filled(20, 1), ...filled(150, 0), ...filled(3697, 3)]));
    await ctx.engine.log.flush();
    await expectFsckClean(device);
  });

  test('a file that has a size already does not become inline', async () => {
    const { ctx, ino } = await volume();
    await truncateFile(ctx, ino, 1);
    await writeFile(ctx, ino, 0, filled(1, 1));
    expect((await dinode(ctx, ino)).inline).toBe(false);
  });
});

describe('what other programs see', () => {
  test('debugfs dumps what was written', async () => {
    const { ctx, ino, device } = await volume(GEOMETRIES[4]);
    const random = randomFrom(seed('dump'));
    const want = new Uint8Array(3_000_000);
    for (let i = 0; i < 300; i++) {
      const at = Math.floor(random() * 2_990_000), data = filled(1 + Math.floor(random() * 9000), 1 + Math.floor(random() * 255));
      await writeFile(ctx, ino, at, data);
      want.set(data, at);
    }
    await truncateFile(ctx, ino, want.length);
    await fallocate(ctx, ino, 'reserve', 1_000_000, 500_000, false);
    await flushAllTimes(ctx);
    await ctx.engine.log.flush();
    await expectFsckClean(device);
    await withDir(async (dir) => {
      const image = writeOut(device, path.join(dir, 'volume')), out = path.join(dir, 'out');
      await must('debugfs.ocfs2', ['-R', `dump <${ino}> ${out}`, image]);
      expect(Buffer.compare(fs.readFileSync(out), want)).toBe(0);
    });
    const { clusters, size } = await dinode(ctx, ino);
    expect(await debugfs(device, `stat <${ino}>`)).toMatch(new RegExp(`Size: ${size}[^]*Clusters: ${clusters}`));
  });
});

describe('space', () => {
  test('no space in the middle of a write: nothing changed, nothing leaked', async () => {
    const { ctx, ino, device } = await volume({ ...DEFAULT, size: 40 << 20 });
    await writeFile(ctx, ino, 0, filled(10_000, 1));
    const free = async () => (await ctx.engine.read('free', (op) => statClusters(op, ctx))).free;
    const large = await makeFile(ctx, 'large');
    await expect(writeFile(ctx, ino, 5000, filled(60 << 20, 2))).rejects.toMatchObject({ code: 'NO_SPACE' });
    expect(await read(ctx, ino, 0, 20_000)).toEqual(filled(10_000, 1));
    await expect((async () => {
      for (;;) await writeFile(ctx, large, 'append', filled(1 << 20, 3));
    })()).rejects.toMatchObject({ code: 'NO_SPACE' });
    const { size } = await dinode(ctx, large);
    expect(size % (1 << 20)).toBe(0);
    expect(await free()).toBeLessThan(300);
    await expect(fallocate(ctx, ino, 'reserve', 0, 8 << 20, false)).rejects.toMatchObject({ code: 'NO_SPACE' });
    await ctx.engine.log.flush();
    await expectFsckClean(device);
    await truncateFile(ctx, large, 0);
    await flushTruncateLog(ctx);
    await ctx.engine.log.flush();
    await writeFile(ctx, large, 0, filled(size, 4));
    await ctx.engine.log.flush();
    await expectFsckClean(device);
    expect(await read(ctx, ino, 0, 20_000)).toEqual(filled(10_000, 1));
  });

  test.each([{ zeroed: false }, { zeroed: true }])('a thick disk takes few extents (zeroed: $zeroed)', async ({ zeroed }) => {
    const { ctx, ino, device } = await volume();
    let last = 0;
    await preallocateContiguous(ctx, ino, 150 << 20, { zeroed, progress: (done) => (last = done) });
    expect(last).toBe(150 << 20);
    const extents = await fileExtents(ctx, ino, 0, 1000);
    expect(extents.length).toBeLessThanOrEqual(zeroed ? 4 : 3);
    expect(extents.every((e) => e.unwritten === !zeroed)).toBe(true);
    expect((await fileStatus(ctx, ino, 0, 1 << 30, 10)).map((s) => s.kind)).toEqual([zeroed ? 'data' : 'zero']);
    expect((await read(ctx, ino, 77 << 20, 5000)).every((b) => b === 0)).toBe(true);
    await ctx.engine.log.flush();
    await expectFsckClean(device);
  });

  test('data of a deleted file never shows: new clusters, kept space, holes', async () => {
    const { ctx, ino, device } = await volume(GEOMETRIES[2]);
    const old = await makeFile(ctx, 'old');
    await writeFile(ctx, old, 0, filled(400 << 20, 0xaa));
    await truncateFile(ctx, old, 0);
    await flushTruncateLog(ctx);
    await ctx.engine.log.flush();
    await fallocate(ctx, ino, 'reserve', 0, 8 << 20, true);
    await writeFile(ctx, ino, 100, filled(10, 1));
    await writeFile(ctx, ino, 5_000_000, filled(10, 1));
    await truncateFile(ctx, ino, 12 << 20);
    await writeFile(ctx, ino, 11 << 20, filled(10, 1));
    const bytes = await read(ctx, ino, 0, 12 << 20);
    expect(bytes.reduce((n, b) => n + b, 0)).toBe(30);
    await ctx.engine.log.flush();
    await expectFsckClean(device);
  });

  test('what lies beyond i_size is cut on request', async () => {
    const { ctx, ino, device } = await volume();
    await writeFile(ctx, ino, 0, filled(10_000, 1));
    await fallocate(ctx, ino, 'reserve', 0, 1 << 20, true);
    expect((await dinode(ctx, ino)).clusters).toBe(256);
    await cutToSize(ctx, ino);
    expect((await dinode(ctx, ino)).clusters).toBe(3);
    await ctx.engine.log.flush();
    await expectFsckClean(device);
  });

  test('a truncation to the size it has frees what was reserved beyond', async () => {
    const { device, ctx, ino } = await volume();
    await writeFile(ctx, ino, 0, filled(5000, 1));
    await fallocate(ctx, ino, 'reserve', 0, 1 << 20, true);
    expect((await dinode(ctx, ino)).clusters).toBe(256);
    await truncateFile(ctx, ino, 5000);
    expect(await dinode(ctx, ino)).toMatchObject({ clusters: 2, size: 5000 });
    expect(await read(ctx, ino, 0, 6000)).toEqual(filled(5000, 1));
    await ctx.engine.log.flush();
    await expectFsckClean(device);
  });

  test('sizes beyond the largest, ranges beyond sense, unknown modes', async () => {
    const { ctx, ino } = await volume();
    const limit = maxFileSize(ctx);
    await writeFile(ctx, ino, limit - 1, filled(1, 1));
    expect(await seekData(ctx, ino, 0)).toBe(limit - 4096 + 0);
    expect(await seekHole(ctx, ino, 0)).toBe(0);
    await expect(seekData(ctx, ino, limit)).rejects.toMatchObject({ errno: 'ENXIO' });
    await expect(writeFile(ctx, ino, limit, filled(1, 1))).rejects.toMatchObject({ errno: 'EFBIG' });
    await expect(writeFile(ctx, ino, 'append', filled(1, 1))).rejects.toMatchObject({ errno: 'EFBIG' });
    await expect(truncateFile(ctx, ino, limit + 1)).rejects.toMatchObject({ errno: 'EFBIG' });
    await expect(truncateFile(ctx, ino, -1)).rejects.toMatchObject({ errno: 'EINVAL' });
    await expect(fallocate(ctx, ino, 'collapse', 0, 4096, false)).rejects.toMatchObject({ errno: 'EOPNOTSUPP' });
    await expect(fallocate(ctx, ino, 'punch', 0, 0, false)).rejects.toMatchObject({ errno: 'EINVAL' });
    await expect(writeFile(ctx, ctx.geo.rootBlkno, 0, filled(1, 1))).rejects.toMatchObject({ errno: 'EISDIR' });
  });
});

describe('several at once', () => {
  test.each([{ cacheBlocks: 60 }, { hostile: true, journal: true }])('overlapping writers: every range is one writer\'s; appenders do not overlap (%o)', async (options) => {
    const random = randomFrom(seed('writers'));
    const { ctx, ino, device } = await volume(GEOMETRIES[3], options);
    const writers = Array.from({ length: 60 }, (_, i) => ({ at: Math.floor(random() * 60_000), length: 1 + Math.floor(random() * 20_000), byte: i + 1 }));
    const reads: Promise<unknown>[] = [];
    await Promise.all(writers.map(async (w) => {
      reads.push(read(ctx, ino, w.at, w.length));
      await writeFile(ctx, ino, w.at, filled(w.length, w.byte));
    }));
    await Promise.all(reads);
    const bytes = await read(ctx, ino, 0, 100_000);
    // First come, first served: where two overlap, the later wins as a whole.
    for (const [i, w] of writers.entries()) {
      const seen = new Set(bytes.subarray(w.at, w.at + w.length));
      for (const b of seen) expect(b === w.byte || writers.some((o, k) => o.byte === b && k !== i && o.at < w.at + w.length && w.at < o.at + o.length)).toBe(true);
    }
    const log = await makeFile(ctx, 'log');
    const offsets = await Promise.all(Array.from({ length: 40 }, (_, i) => writeFile(ctx, log, 'append', filled(700, i + 1))));
    const all = await read(ctx, log, 0, 40 * 700 + 1);
    expect(all.length).toBe(40 * 700);
    for (const [i, at] of offsets.entries()) expect(all.subarray(at, at + 700)).toEqual(filled(700, i + 1));
    await ctx.engine.log.flush();
    await expectFsckClean(device);
  });

  // Where nobody else recalls it in between.
  if (!HOSTILE) {
    test('a mapping is recalled before its extents go, and handed out again after', async () => {
      const { ctx, ino, device } = await volume();
      await writeFile(ctx, ino, 0, filled(1 << 20, 9));
      const gate = new Gate();
      const unregister = registerGate(ctx, ino, gate);
      const map = (offset: number, length: number) => mapRange(ctx, ino, offset, length, true, 10, gate);
      const { epoch, runs } = await map(0, 1 << 20);
      expect(runs).toMatchObject([{ offset: 0, length: 1 << 20 }]);
      const bytes = new Uint8Array(4096);
      await device.read(runs[0].device + 8192, bytes);
      expect(bytes).toEqual(filled(4096, 9));
      // A worker is in the middle of a request: the punch waits for it.
      expect(gate.enter(epoch, 0, true)).toBe(true);
      const order: string[] = [];
      const punch = punchHole(ctx, ino, 0, 65536).then(() => order.push('punched'));
      await new Promise((resolve) => setTimeout(resolve, 30));
      order.push('left');
      gate.leave();
      await punch;
      expect(order).toEqual(['left', 'punched']);
      expect(gate.enter(epoch, 0, true)).toBe(false);
      const again = await map(0, 1 << 20);
      expect(again.epoch).toBe(gate.epoch);
      expect(again.runs).toMatchObject([{ offset: 65536, length: (1 << 20) - 65536 }]);
      // Writes to new places recall nothing, all that un-writes does.
      await writeFile(ctx, ino, 0, filled(4096, 1));
      await writeFile(ctx, ino, 'append', filled(4096, 1));
      expect(gate.epoch).toBe(again.epoch);
      await zeroRange(ctx, ino, 65536, 4096, true);
      await truncateFile(ctx, ino, 100_000);
      expect(gate.epoch).toBeGreaterThan(again.epoch + 1);
      expect((await map(0, 1 << 20)).runs).toMatchObject([{ offset: 0, length: 4096 }, { offset: 69632, length: 100_000 - 69632 }]);
      unregister();
    });
  }
});

test('a device of 4096-byte logical blocks', async () => {
  const small = await makeVolume(DEFAULT);
  const device = new MemoryDevice({ size: small.size, logicalBlockSize: 4096 });
  for (const { offset, bytes } of small.contents()) device.writeSync(offset, bytes);
  const ctx = await openTestContext(device);
  const ino = await makeFile(ctx, 'file');
  await writeFile(ctx, ino, 10_000, filled(5000, 1));
  await writeFile(ctx, ino, 10_100, filled(10, 2));
  await writeFile(ctx, ino, 4095, filled(2, 3));
  const bytes = await read(ctx, ino, 0, 20_000);
  expect(bytes.length).toBe(15_000);
  expect(bytes.reduce((n, b) => n + b, 0)).toBe(4990 + 20 + 6);
  await punchHole(ctx, ino, 10_050, 1);
  await truncateFile(ctx, ino, 12_345);
  expect((await read(ctx, ino, 1, 20_000)).reduce((n, b) => n + b, 0)).toBe(2345 - 1 - 10 + 20 + 6);
  await ctx.engine.log.flush();
  await expectFsckClean(device);
});
