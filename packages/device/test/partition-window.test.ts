import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../src/memory-device.js';
import { PartitionWindow } from '../src/partition-window.js';
import { Random } from '../src/random.js';
import { contentOf, exercise, filled } from './support/model.js';

describe('PartitionWindow', () => {
  it('is a device of its own and touches nothing outside', async () => {
    const disk = new MemoryDevice({ size: 1 << 20, logicalBlockSize: 4096 });
    await disk.write(0, filled(1 << 20, 0x77));
    const window = new PartitionWindow(disk, 256 << 10, 512 << 10);
    const model = await exercise(window, new Random(1), 200);
    const content = await contentOf(disk);
    expect(Buffer.compare(content.subarray(256 << 10, 768 << 10), model)).toBe(0);
    expect(content.subarray(0, 256 << 10).every((byte) => byte === 0x77)).toBe(true);
    expect(content.subarray(768 << 10).every((byte) => byte === 0x77)).toBe(true);
  });

  it('refuses requests past its own end though the device goes on', async () => {
    const window = new PartitionWindow(new MemoryDevice({ size: 1 << 20 }), 0, 4096);
    await expect(window.read(4096, new Uint8Array(512))).rejects.toMatchObject({ code: 'DEVICE_RANGE' });
    await expect(window.writeZeroes(0, 8192)).rejects.toMatchObject({ code: 'DEVICE_RANGE' });
    await expect(window.discard(4096, 512)).rejects.toMatchObject({ code: 'DEVICE_RANGE' });
  });

  it('can be read-only on a writable device', async () => {
    const window = new PartitionWindow(new MemoryDevice({ size: 8192 }), 4096, 4096, { readOnly: true });
    await expect(window.write(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'DEVICE_READ_ONLY' });
  });

  it('must be whole blocks inside the device', () => {
    const disk = new MemoryDevice({ size: 1 << 20, logicalBlockSize: 4096 });
    for (const [start, size] of [
      [512, 4096],
      [0, 512],
      [-4096, 8192],
      [4096, 1 << 20],
      [Number.NaN, 4096],
    ]) {
      expect(() => new PartitionWindow(disk, start, size)).toThrow(expect.objectContaining({ code: 'DEVICE_WINDOW' }));
    }
  });
});
