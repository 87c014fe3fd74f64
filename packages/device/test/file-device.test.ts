import { readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { sparseFile, tempDir } from '../../../test/support/temp.js';
import { FileDevice } from '../src/file-device.js';
import { openDevice } from '../src/open-device.js';
import { Random } from '../src/random.js';
import { contentOf, exercise, filled } from './support/model.js';
import { cleanupAfterEach } from './support/vitest.js';

const cleanup = cleanupAfterEach();
const image = (size: number): string => sparseFile(join(tempDir(cleanup, 'device'), 'image'), size);

async function opened(path: string, options: Parameters<typeof openDevice>[1] = { write: true }): Promise<FileDevice> {
  const device = await openDevice(path, options);
  cleanup.add(() => device.close());
  return device;
}

describe('FileDevice', () => {
  it('behaves as an array of bytes, whatever the buffers; the file has them', async () => {
    for (const logicalBlockSize of [512, 4096]) {
      const path = image(3 << 20);
      const device = await opened(path, { write: true, logicalBlockSize });
      const model = await exercise(device, new Random(1), 120, 1_500_000);
      expect(Buffer.compare(readFileSync(path), model)).toBe(0);
    }
  });

  it('the blocking calls do the same', async () => {
    const device = await opened(image(3 << 20));
    const random = new Random(2);
    const model = new Uint8Array(device.size);
    for (let step = 0; step < 120; step++) {
      const length = 512 * (1 + random.int(4000));
      const offset = 512 * random.int((device.size - length) / 512);
      const buffer = random.chance(0.5) ? device.pool.acquire(length) : new Uint8Array(length);
      if (random.chance(0.6)) {
        random.fill(buffer);
        device.writeSync(offset, buffer);
        model.set(buffer, offset);
      } else {
        device.readSync(offset, buffer);
        expect(Buffer.compare(buffer, model.subarray(offset, offset + length))).toBe(0);
      }
    }
    device.flushSync();
    expect(Buffer.compare(await contentOf(device), model)).toBe(0);
  });

  it('returns every bounce buffer, also after errors', async () => {
    const path = image(1 << 20);
    const device = await opened(path);
    truncateSync(path, 4096);
    await expect(device.read(8192, new Uint8Array(4096))).rejects.toMatchObject({
      code: 'DEVICE_SHORT',
      errno: 'EIO',
      fields: { offset: 8192, length: 4096 },
    });
    expect(() => device.readSync(8192, new Uint8Array(4096))).toThrow(expect.objectContaining({ code: 'DEVICE_SHORT' }));
    await device.write(0, new Uint8Array(4096));
    expect(device.pool.inUse).toBe(0);
  });

  it('zeroes large ranges by the file system, small ones by writing, exactly as far as asked', async () => {
    const path = image(16 << 20);
    const device = await opened(path);
    await device.write(0, filled(16 << 20, 5));
    await device.writeZeroes(4096, 8 << 20);
    await device.writeZeroes(12 << 20, 1536);
    const content = readFileSync(path);
    const zero = (from: number, to: number): boolean => content.subarray(from, to).every((byte) => byte === 0);
    const five = (from: number, to: number): boolean => content.subarray(from, to).every((byte) => byte === 5);
    expect(five(0, 4096) && zero(4096, 4096 + (8 << 20)) && five(4096 + (8 << 20), 12 << 20)).toBe(true);
    expect(zero(12 << 20, (12 << 20) + 1536) && five((12 << 20) + 1536, 16 << 20)).toBe(true);
  });

  it('zeroes and discards without the helper programs too', async () => {
    const path = image(16 << 20);
    const real = await opened(path);
    await real.write(0, filled(16 << 20, 5));
    // The descriptor's own facts are wrong on purpose: blkdiscard refuses a file, as it would refuse an unable device.
    const device = new FileDevice({
      fd: real.fd,
      name: path,
      kind: 'block',
      direct: true,
      size: real.size,
      logicalBlockSize: 512,
      readOnly: false,
      canDiscard: true,
    });
    await device.writeZeroes(0, 8 << 20);
    await device.discard(8 << 20, 4 << 20);
    expect(device.canDiscard).toBe(false);
    await device.discard(8 << 20, 4 << 20);
    const content = readFileSync(path);
    expect(content.subarray(0, 8 << 20).every((byte) => byte === 0)).toBe(true);
    expect(content.subarray(8 << 20).every((byte) => byte === 5)).toBe(true);
  });

  it('names device, offset, length and errno of a failed request', async () => {
    const path = image(1 << 20);
    const reader = await opened(path, {});
    // A writable face on a descriptor opened for reading: the kernel answers EBADF.
    const device = new FileDevice({
      fd: reader.fd,
      name: path,
      kind: 'file',
      direct: true,
      size: 1 << 20,
      logicalBlockSize: 512,
      readOnly: false,
      canDiscard: false,
    });
    const expected = {
      kind: 'io',
      code: 'DEVICE_WRITE',
      errno: 'EBADF',
      fields: { device: path, offset: 4096, length: 512, errno: 'EBADF' },
    };
    await expect(device.write(4096, new Uint8Array(512))).rejects.toMatchObject(expected);
    expect(() => device.writeSync(4096, new Uint8Array(512))).toThrow(expect.objectContaining({ code: 'DEVICE_WRITE' }));
    expect(device.pool.inUse).toBe(0);
    await expect(reader.write(4096, new Uint8Array(512))).rejects.toMatchObject({ code: 'DEVICE_READ_ONLY' });
  });

  it('close waits for what is in flight, then refuses', async () => {
    const device = await opened(image(32 << 20));
    const bytes = filled(16 << 20, 3);
    let written = false;
    const write = device.write(0, bytes).then(() => (written = true));
    await device.close();
    expect(written).toBe(true);
    await write;
    await device.close();
    await expect(device.read(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'DEVICE_CLOSED' });
    await expect(device.flush()).rejects.toMatchObject({ code: 'DEVICE_CLOSED' });
    expect(() => device.readSync(0, new Uint8Array(512))).toThrow(expect.objectContaining({ code: 'DEVICE_CLOSED' }));
  });
});
