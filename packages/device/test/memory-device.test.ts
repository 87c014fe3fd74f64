import { describe, expect, it } from 'vitest';
import { DISCARD_FILL, MemoryDevice } from '../src/memory-device.js';
import { Random } from '../src/random.js';
import { contentOf, exercise, filled } from './support/model.js';

describe('MemoryDevice', () => {
  it('behaves as an array of bytes', async () => {
    for (const logicalBlockSize of [512, 4096]) {
      await exercise(new MemoryDevice({ size: 1_000_000, logicalBlockSize }), new Random(1), 400);
    }
  });

  it('uses whole blocks of the size it was given', () => {
    expect(new MemoryDevice({ size: 10_000, logicalBlockSize: 4096 }).size).toBe(8192);
  });

  it('refuses unaligned, outside and read-only requests by name', async () => {
    const device = new MemoryDevice({ size: 1 << 20, logicalBlockSize: 4096 });
    const bytes = new Uint8Array(4096);
    await expect(device.read(512, bytes)).rejects.toMatchObject({
      code: 'DEVICE_UNALIGNED',
      errno: 'EINVAL',
      fields: { offset: 512, length: 4096 },
    });
    await expect(device.write(0, bytes.subarray(1))).rejects.toMatchObject({ code: 'DEVICE_UNALIGNED' });
    await expect(device.read(Number.NaN, bytes)).rejects.toMatchObject({ code: 'DEVICE_UNALIGNED' });
    await expect(device.read(1 << 20, bytes)).rejects.toMatchObject({ code: 'DEVICE_RANGE' });
    await expect(device.write(-4096, bytes)).rejects.toMatchObject({ code: 'DEVICE_RANGE' });
    await expect(device.writeZeroes(0, 2 << 20)).rejects.toMatchObject({ code: 'DEVICE_RANGE' });
    const readOnly = new MemoryDevice({ size: 1 << 20, readOnly: true });
    for (const attempt of [readOnly.write(0, bytes), readOnly.writeZeroes(0, 512), readOnly.discard(0, 512)]) {
      await expect(attempt).rejects.toMatchObject({ code: 'DEVICE_READ_ONLY', errno: 'EROFS' });
    }
  });

  it('clones share nothing that is written later, in either direction', async () => {
    const random = new Random(2);
    const family = [new MemoryDevice({ size: 300_000 })];
    const models = [await exercise(family[0], random, 30)];
    for (let step = 0; step < 60; step++) {
      const i = random.int(family.length);
      if (random.chance(0.3)) {
        family.push(family[i].clone());
        models.push(models[i].slice());
      } else {
        models[i] = await exercise(family[i], random, 3);
      }
    }
    for (const [i, device] of family.entries()) expect(Buffer.compare(await contentOf(device), models[i])).toBe(0);
  });

  it('stays right through many clones of a large content, each changed and zeroed here and there', async () => {
    const random = new Random(7);
    let device = new MemoryDevice({ size: 8 << 20 });
    const model = Buffer.alloc(8 << 20);
    random.fill(model);
    await device.write(0, model);
    for (let step = 0; step < 400; step++) {
      const parent = device;
      device = parent.clone();
      const offset = 512 * random.int((7 << 20) / 512);
      const length = 512 * (1 + random.int(100));
      if (random.chance(0.3)) {
        await device.writeZeroes(offset, length);
        model.fill(0, offset, offset + length);
      } else {
        await device.write(offset, filled(length, step));
        model.fill(step, offset, offset + length);
      }
      await parent.write(offset, filled(length, 0xee)); // the child must not see it
    }
    expect(Buffer.compare(await contentOf(device), model)).toBe(0);
  });

  it('discards to a pattern, never to zero, and leaves the unwritten alone', async () => {
    const device = new MemoryDevice({ size: 1 << 20 });
    await device.write(0, filled(1024, 1));
    await device.discard(512, 1 << 19);
    const content = await contentOf(device);
    expect(content[511]).toBe(1);
    expect(content[512]).toBe(DISCARD_FILL);
    expect(content[1 << 18]).toBe(0);
  });

  it('lists its content in order, not past its end', async () => {
    const device = new MemoryDevice({ size: 100_352 });
    await device.write(99_840, filled(512, 9));
    await device.write(0, filled(512, 8));
    const pieces = [...device.contents()];
    expect(pieces.map((p) => p.offset)).toEqual([0, 98_304]);
    expect(pieces[1].bytes.length).toBe(100_352 - 98_304);
    expect(pieces[1].bytes[99_840 - 98_304]).toBe(9);
    await device.writeZeroes(0, 98_304);
    expect([...device.contents()].map((p) => p.offset)).toEqual([98_304]);
  });
});
