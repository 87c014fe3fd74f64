import { describe, expect, it } from 'vitest';
import { readMany, runsOf, writeMany } from '../src/batch.js';
import { MemoryDevice } from '../src/memory-device.js';
import { Random } from '../src/random.js';
import { FaultyDevice } from '../src/testing/faulty-device.js';
import { RecordingDevice } from '../src/testing/recording-device.js';
import { filled } from './support/model.js';

const piece = (block: number, blocks = 1): { offset: number; bytes: Uint8Array } => ({
  offset: block * 4096,
  bytes: filled(blocks * 4096, block + 1),
});

describe('runsOf', () => {
  it('joins neighbours whatever their order, up to a mebibyte', () => {
    const shape = (pieces: Parameters<typeof runsOf>[0]): number[][] => runsOf(pieces).map((run) => [run.offset / 4096, run.length / 4096]);
    expect(shape([piece(3), piece(1), piece(7), piece(2)])).toEqual([
      [1, 3],
      [7, 1],
    ]);
    expect(shape(Array.from({ length: 300 }, (_, i) => piece(i)))).toEqual([
      [0, 256],
      [256, 44],
    ]);
    expect(shape([piece(0, 300), piece(300)])).toEqual([
      [0, 300],
      [300, 1],
    ]);
    expect(shape([])).toEqual([]);
  });
});

describe('writeMany and readMany', () => {
  it('move every piece, in few requests', async () => {
    const random = new Random(1);
    const device = new RecordingDevice(new MemoryDevice({ size: 16 << 20 }));
    const blocks = random.shuffle(Array.from({ length: 4096 }, (_, i) => i)).slice(0, 3000);
    await writeMany(
      device,
      blocks.map((block) => ({ offset: block * 4096, bytes: filled(4096, block % 251) })),
    );
    expect(device.changes).toBeLessThan(1500);
    const back = blocks.map((block) => ({ offset: block * 4096, bytes: new Uint8Array(4096) }));
    await readMany(device, back);
    for (const { offset, bytes } of back) expect(bytes.every((byte) => byte === (offset / 4096) % 251)).toBe(true);
  });

  it('throw the error of a failed run', async () => {
    const device = new FaultyDevice(new MemoryDevice({ size: 1 << 20 }), { random: new Random(1) });
    device.fail({ range: [40960, 45056] });
    await expect(writeMany(device, [piece(1), piece(9), piece(10)])).rejects.toMatchObject({ code: 'DEVICE_WRITE', errno: 'EIO' });
    await expect(readMany(device, [piece(1), piece(10)])).rejects.toMatchObject({ code: 'DEVICE_READ' });
  });
});
