import { expect } from 'vitest';
import type { BlockDevice } from '../../src/block-device.js';
import type { Random } from '../../src/random.js';

/** Random reads, writes, zeroes and flushes of whole blocks, against an array of bytes. Returns the array. */
export async function exercise(device: BlockDevice, random: Random, steps: number, maxBytes = 200_000): Promise<Uint8Array> {
  const unit = device.logicalBlockSize;
  const model = new Uint8Array(device.size);
  await device.read(0, model);
  for (let step = 0; step < steps; step++) {
    const length = unit * (1 + random.int(Math.min(maxBytes, device.size) / unit - 1));
    const offset = unit * random.int((device.size - length) / unit + 1);
    const dice = random.int(10);
    if (dice < 5) {
      const bytes = bufferFor(device, random, length);
      random.fill(bytes);
      await device.write(offset, bytes);
      model.set(bytes, offset);
    } else if (dice < 6) {
      await device.writeZeroes(offset, length);
      model.fill(0, offset, offset + length);
    } else if (dice < 7) {
      await device.flush();
    } else {
      const into = bufferFor(device, random, length).fill(0xee);
      await device.read(offset, into);
      expect(Buffer.compare(into, model.subarray(offset, offset + length)), `read of ${length} at ${offset}, step ${step}`).toBe(0);
    }
  }
  const all = new Uint8Array(device.size);
  await device.read(0, all);
  expect(Buffer.compare(all, model)).toBe(0);
  return model;
}

/** Sometimes from the device's pool (no copy), sometimes an ordinary one, sometimes one at an odd address. */
function bufferFor(device: BlockDevice, random: Random, length: number): Uint8Array {
  const dice = random.int(3);
  if (dice === 0 && device.pool) return device.pool.acquire(length);
  return dice === 1 ? new Uint8Array(length) : new Uint8Array(length + 3).subarray(3);
}

/** All bytes of a device. */
export async function contentOf(device: BlockDevice): Promise<Buffer> {
  const all = Buffer.alloc(device.size);
  await device.read(0, all);
  return all;
}

/** A buffer of `length` bytes, all `value`. */
export function filled(length: number, value: number): Uint8Array {
  return new Uint8Array(length).fill(value);
}
