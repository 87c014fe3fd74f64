/** Files behind the FileBackend port: random requests against bytes in memory; a worker that does I/O by the mappings it is given; what is committed before an answer. */
import type { FileBackend } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { SharedFile, truncateFile } from '../../src/volume/index.js';
import { randomFrom, seed } from '../../../../test/support/temp.js';
import { openTestContext } from '../support/context.js';
import { makeFile } from '../support/files.js';
import { GEOMETRIES, expectFsckClean, isZero, makeVolume } from '../support/volume.js';
import { PLAIN } from './support.js';

const SIZE = 4 << 20;

/** A data worker: maps once, then reads and writes the device itself as long as its epoch holds. */
class Worker {
  #epoch = -1;
  #runs: { offset: number; length: number; device: number }[] = [];

  constructor(private readonly backend: FileBackend, private readonly file: SharedFile) {}

  /** True when it did the write itself. */
  async write(offset: number, data: Uint8Array): Promise<boolean> {
    const { gate, ctx } = this.file;
    if (this.#epoch !== gate.epoch) ({ epoch: this.#epoch, runs: this.#runs } = await this.backend.map(0, SIZE, true, 10_000));
    const run = this.#runs.find((one) => one.offset <= offset && offset + data.length <= one.offset + one.length);
    if (run === undefined || !gate.enter(this.#epoch, 0, true)) return false;
    await ctx.engine.cache.device.write(run.device + (offset - run.offset), data);
    gate.leave();
    return true;
  }
}

describe.each([...GEOMETRIES, PLAIN])('$name', (volume) => {
  test('requests of an export against a model, workers writing in place between them', { timeout: 60_000 }, async () => {
    const start = seed(`file backend ${volume.name}`);
    const random = randomFrom(start);
    const device = await makeVolume(volume);
    const ctx = await openTestContext(device, { seed: start });
    const ino = await makeFile(ctx, 'disk');
    await truncateFile(ctx, ino, SIZE);
    const file = new SharedFile(ctx, ino, undefined);
    await file.load();
    const backend = file.backend({ readOnly: false, survives: true });
    const worker = new Worker(backend, file);
    const model = new Uint8Array(SIZE);
    let inPlace = 0;
    for (let i = 0; i < 150; i++) {
      const length = 1 + Math.floor(random() * (random() < 0.3 ? 400_000 : 20_000));
      const offset = Math.floor(random() * (SIZE - length));
      const sectors = [offset - (offset % 4096), Math.ceil((offset + length) / 4096) * 4096] as const;
      const fill = 1 + (i % 255);
      switch (Math.floor(random() * 7)) {
        case 0: case 1:
          await backend.write(offset, new Uint8Array(length).fill(fill), random() < 0.1);
          model.fill(fill, offset, offset + length);
          break;
        case 2:
          await backend.trim(offset, length);
          if (ctx.geo.sparse) model.fill(0, offset, offset + length);
          break;
        case 3:
          await backend.writeZeroes(offset, length, random() < 0.5, false);
          model.fill(0, offset, offset + length);
          break;
        case 4:
          if (sectors[1] <= SIZE && await worker.write(sectors[0], new Uint8Array(sectors[1] - sectors[0]).fill(fill))) {
            model.fill(fill, ...sectors);
            inPlace++;
          }
          break;
        case 5: {
          const pieces = await backend.status(offset, length, 1000);
          let at = offset;
          for (const { offset: from, length: bytes, kind } of pieces) {
            expect(from).toBe(at);
            if (kind !== 'data') expect(isZero(model.subarray(from, from + bytes)), `${kind} at ${from}`).toBe(true);
            at += bytes;
          }
          expect(at).toBe(offset + length);
          break;
        }
        default: {
          const into = new Uint8Array(length);
          await backend.read(offset, into);
          expect(Buffer.compare(into, model.subarray(offset, offset + length)), `step ${i}: ${length} at ${offset}`).toBe(0);
        }
      }
    }
    expect(inPlace).toBeGreaterThan(0);
    const all = new Uint8Array(SIZE);
    await backend.read(0, all);
    expect(Buffer.compare(all, model)).toBe(0);
    await backend.flush();
    await file.close();
    await ctx.engine.log.flush();
    await expectFsckClean(device);
  });
});

describe('promises', () => {
  test('a surviving backend answers a write, and hands out a mapping, only when what they stand on is committed', async () => {
    const device = await makeVolume(GEOMETRIES[0]);
    const ctx = await openTestContext(device, { journal: true });
    const ino = await makeFile(ctx, 'disk');
    await truncateFile(ctx, ino, SIZE);
    const file = new SharedFile(ctx, ino, undefined);
    const commits: string[] = [];
    const { log } = ctx.engine;
    const commit = log.commit.bind(log);
    log.commit = async (options) => {
      await commit(options);
      commits.push(options?.barrier ? 'barrier' : options?.durable === false ? 'process' : 'machine');
    };
    const plain = file.backend({ readOnly: false, survives: false });
    await plain.write(0, new Uint8Array(8192), false);
    await plain.map(0, SIZE, true, 10);
    expect(commits).toEqual([]);
    const surviving = file.backend({ readOnly: false, survives: true });
    await surviving.map(0, SIZE, false, 10);
    expect(commits).toEqual([]);
    await surviving.map(0, SIZE, true, 10);
    await surviving.write(65536, new Uint8Array(8192), false);
    await surviving.trim(0, 4096);
    expect(commits).toEqual(['process', 'process', 'process']);
    await surviving.write(65536, new Uint8Array(8192), true);
    await surviving.flush();
    expect(commits.slice(3)).toEqual(['barrier', 'barrier']);
    await file.close();
    await log.flush();
  });

  test('other caches are dropped before an answer, and only for changes', async () => {
    const ctx = await openTestContext(await makeVolume(GEOMETRIES[0]));
    const ino = await makeFile(ctx, 'disk');
    await truncateFile(ctx, ino, SIZE);
    const file = new SharedFile(ctx, ino, undefined);
    const dropped: number[][] = [];
    const backend = file.backend({ readOnly: false, survives: true, changed: async (offset, length) => void dropped.push([offset, length]) });
    await backend.read(0, new Uint8Array(100));
    await backend.write(10, new Uint8Array(20), false);
    await backend.trim(4096, 4096);
    await backend.writeZeroes(0, 4096, false, false);
    await backend.flush();
    expect(dropped).toEqual([[10, 20], [4096, 4096], [0, 4096]]);
    await file.close();
  });

  test('refusals: past the end, and every change of a read-only one; keepSpace keeps the space', async () => {
    const ctx = await openTestContext(await makeVolume(GEOMETRIES[0]));
    const ino = await makeFile(ctx, 'disk');
    await truncateFile(ctx, ino, SIZE);
    const file = new SharedFile(ctx, ino, undefined);
    const backend = file.backend({ readOnly: false, survives: true, keepSpace: true });
    for (const one of [backend.read(SIZE - 1, new Uint8Array(2)), backend.write(SIZE, new Uint8Array(1), false), backend.trim(0, SIZE + 1), backend.status(-1, 5, 1)]) {
      await expect(one).rejects.toMatchObject({ code: 'BAD_RANGE', errno: 'EINVAL' });
    }
    await backend.write(0, new Uint8Array(1 << 20).fill(7), false);
    await backend.trim(0, 1 << 20);
    expect(await backend.status(0, 1 << 20, 10)).toMatchObject([{ kind: 'data' }]);
    await backend.writeZeroes(0, 1 << 20, true, false);
    await backend.writeZeroes(0, 2 << 20, true, false);
    expect(await backend.status(0, 2 << 20, 10)).toMatchObject([{ kind: 'zero', length: 2 << 20 }]);
    const fixed = file.backend({ readOnly: true, survives: false });
    for (const one of [fixed.write(0, new Uint8Array(1), false), fixed.trim(0, 1), fixed.writeZeroes(0, 1, true, false), fixed.map(0, 1, true, 1)]) {
      await expect(one).rejects.toMatchObject({ code: 'FILE_READ_ONLY', errno: 'EROFS' });
    }
    await fixed.flush();
    await file.close();
  });
});
