import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../src/memory-device.js';
import { Random } from '../../src/random.js';
import { crashImage, prefixImages, reorderedImages } from '../../src/testing/crash-images.js';
import { RecordingDevice } from '../../src/testing/recording-device.js';
import { contentOf, exercise, filled } from '../support/model.js';

const BLOCK = 512;

async function recorded(): Promise<RecordingDevice> {
  const inner = new MemoryDevice({ size: 64 * BLOCK });
  await inner.write(0, filled(BLOCK, 0xaa));
  return new RecordingDevice(inner);
}

/** First byte of each block: enough where blocks are filled uniformly. */
async function firsts(device: MemoryDevice, blocks: number): Promise<number[]> {
  const content = await contentOf(device);
  return Array.from({ length: blocks }, (_, i) => content[i * BLOCK]);
}

describe('RecordingDevice', () => {
  it('passes everything on and logs it in order of submission', async () => {
    const device = await recorded();
    const bytes = filled(BLOCK, 1);
    await device.write(0, bytes);
    bytes.fill(2); // the log holds what was written, not the caller's buffer
    device.mark('first');
    await device.flush();
    await device.writeZeroes(BLOCK, BLOCK);
    await device.discard(2 * BLOCK, BLOCK);
    expect(device.log.map((entry) => entry.kind)).toEqual(['write', 'mark', 'flush', 'zeroes', 'discard']);
    expect(device.log[0]).toMatchObject({ offset: 0, length: BLOCK, bytes: filled(BLOCK, 1) });
    expect(device.changes).toBe(3);
    expect((await contentOf(device))[0]).toBe(1);
  });

  it('behaves as its inner device', async () => {
    await exercise(new RecordingDevice(new MemoryDevice({ size: 300_000 })), new Random(5), 200);
  });

  it('does not log what the device refuses', async () => {
    const device = await recorded();
    await expect(device.write(1, filled(BLOCK, 1))).rejects.toMatchObject({ code: 'DEVICE_UNALIGNED' });
    expect(device.log).toEqual([]);
  });

  it('never takes a change in flight, or a failed one, as covered by a flush', async () => {
    let release = (): void => undefined;
    class Slow extends MemoryDevice {
      override async write(offset: number, from: Uint8Array): Promise<void> {
        if (from[0] === 3) throw new Error('medium error');
        if (from[0] === 2) await new Promise<void>((resolve) => (release = resolve));
        return super.write(offset, from);
      }
    }
    const device = new RecordingDevice(new Slow({ size: 64 * BLOCK }));
    await device.write(0, filled(BLOCK, 1));
    const slow = device.write(BLOCK, filled(BLOCK, 2));
    await expect(device.write(2 * BLOCK, filled(BLOCK, 3))).rejects.toThrow('medium error');
    await device.flush();
    release();
    await slow;
    expect(device.log.at(-1)).toEqual({ kind: 'flush', upTo: 3, except: new Set([1, 2]) });
    const outcomes = new Set<string>();
    for (const image of reorderedImages(device, new Random(1), { perPoint: 60, select: (point) => point === 4 })) {
      const [first, ...rest] = await firsts(image.device, 3);
      expect(first).toBe(1);
      outcomes.add(rest.join());
    }
    expect([...outcomes].sort()).toEqual(['0,0', '0,3', '2,0', '2,3']);
  });
});

describe('prefixImages', () => {
  it('shows the base, every step and the whole run', async () => {
    const device = await recorded();
    await device.write(0, filled(BLOCK, 1));
    await device.write(BLOCK, filled(2 * BLOCK, 2));
    device.mark('two');
    await device.flush();
    await device.writeZeroes(0, BLOCK);
    const seen = [];
    for (const image of prefixImages(device)) seen.push([image.point, image.marks.join(), await firsts(image.device, 3)]);
    expect(seen).toEqual([
      [0, '', [0xaa, 0, 0]],
      [1, '', [1, 0, 0]],
      [2, '', [1, 2, 2]],
      [5, 'two', [0, 2, 2]],
    ]);
  });

  it('gives independent images, equal to a replay from scratch', async () => {
    const random = new Random(9);
    const inner = new MemoryDevice({ size: 256 << 10 });
    const device = new RecordingDevice(inner);
    await exercise(device, random, 150, 20_000);
    const replay = device.base!.clone();
    const final = await contentOf(device);
    let last = -1;
    for (const image of prefixImages(device, (point) => point % 3 === 0 || point === device.log.length)) {
      for (let i = Math.max(last, 0); i < image.point; i++) {
        const entry = device.log[i];
        if (entry.kind === 'write') await replay.write(entry.offset, entry.bytes!);
        if (entry.kind === 'zeroes') await replay.writeZeroes(entry.offset, entry.length);
      }
      last = image.point;
      expect(Buffer.compare(await contentOf(image.device), await contentOf(replay))).toBe(0);
      await image.device.write(0, filled(64 << 10, 0xff)); // spoils nothing for the next ones
    }
    expect(last).toBe(device.log.length);
    expect(Buffer.compare(await contentOf(replay), final)).toBe(0);
    expect(Buffer.compare(await contentOf(inner), final)).toBe(0);
  });
});

describe('reorderedImages', () => {
  it('keeps what a flush covers, and reaches every subset of the rest', async () => {
    const device = await recorded();
    await device.write(0, filled(BLOCK, 1));
    await device.flush();
    await device.write(BLOCK, filled(BLOCK, 2));
    await device.write(2 * BLOCK, filled(BLOCK, 3));
    const ends = new Set<string>();
    for (const image of reorderedImages(device, new Random(1), { perPoint: 100 })) {
      const blocks = await firsts(image.device, 3);
      if (image.point === 0) expect(blocks).toEqual([0xaa, 0, 0]);
      if (image.point >= 2) expect(blocks[0]).toBe(1);
      if (image.point === 4) ends.add(blocks.join());
    }
    expect([...ends].sort()).toEqual(['1,0,0', '1,0,3', '1,2,0', '1,2,3']);
  });

  it('never lets an older write of a block win over a newer one that survived', async () => {
    const device = await recorded();
    for (let value = 1; value <= 6; value++) await device.write(0, filled(BLOCK, value));
    const ends = new Set<number>();
    for (const image of reorderedImages(device, new Random(2), { perPoint: 300, select: (point) => point === 6 }))
      ends.add((await firsts(image.device, 1))[0]);
    expect([...ends].sort((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 0xaa]);
  });

  it('tears writes at logical blocks and nowhere else', async () => {
    const device = await recorded();
    await device.write(0, filled(8 * BLOCK, 7));
    const shapes = new Set<string>();
    for (const image of reorderedImages(device, new Random(3), { perPoint: 200, select: (point) => point === 1 })) {
      const content = await contentOf(image.device);
      const blocks = Array.from({ length: 8 }, (_, i) => new Set(content.subarray(i * BLOCK, (i + 1) * BLOCK)));
      for (const values of blocks) expect(values.size).toBe(1);
      shapes.add(blocks.map((values) => (values.has(7) ? 'x' : '.')).join(''));
    }
    expect(shapes).toContain('........');
    expect(shapes).toContain('xxxxxxxx');
    expect([...shapes].some((shape) => /^x+\.+$/.test(shape))).toBe(true);
    expect([...shapes].some((shape) => /\.x/.test(shape))).toBe(true);
  });

  it('rebuilds an image from its point and seed', async () => {
    const device = new RecordingDevice(new MemoryDevice({ size: 256 << 10 }));
    await exercise(device, new Random(6), 80, 20_000);
    for (const image of reorderedImages(device, new Random(4), { select: (point) => point % 7 === 0 })) {
      expect(Buffer.compare(await contentOf(image.device), await contentOf(crashImage(device, image.point, image.seed!).device))).toBe(0);
    }
  });

  it('says what is missing when there is no base to build on', () => {
    const nested = new RecordingDevice(new RecordingDevice(new MemoryDevice({ size: 4096 })));
    expect(() => [...prefixImages(nested)]).toThrow(expect.objectContaining({ code: 'DEVICE_NO_BASE' }));
  });
});
