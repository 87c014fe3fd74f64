// From the built package: the device starts its thread from a file beside its own.
import {
  FileDevice,
  IoWorkerDevice,
  MemoryDevice,
  PartitionWindow,
  alignedMemory,
  openDevice,
  openIoWorkerDevice,
  writeMany,
} from '@lunfs/device';
import { execFileSync } from 'node:child_process';
import { readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { sparseFile, tempDir } from '../../../test/support/temp.js';
import { Random } from '../src/random.js';
import { exercise, filled } from './support/model.js';
import { cleanupAfterEach } from './support/vitest.js';

const cleanup = cleanupAfterEach();

async function opened(size: number): Promise<{ device: IoWorkerDevice; path: string }> {
  const path = sparseFile(join(tempDir(cleanup, 'io'), 'image'), size);
  const device = await openIoWorkerDevice(path, { write: true });
  cleanup.add(() => device.close());
  return { device, path };
}

describe('IoWorkerDevice', () => {
  it('behaves as an array of bytes, whatever the buffers; the file has them', async () => {
    const { device, path } = await opened(6 << 20);
    const model = await exercise(device, new Random(1), 150, 5 << 20);
    await device.flush();
    expect(Buffer.compare(readFileSync(path), model)).toBe(0);
  });

  it('takes more requests than the ring has slots, and answers all', async () => {
    const { device, path } = await opened(8 << 20);
    await Promise.all(Array.from({ length: 2048 }, (_, i) => device.write(i * 4096, filled(4096, i % 251))));
    const back = Array.from({ length: 2048 }, () => new Uint8Array(4096));
    await Promise.all(back.map((into, i) => device.read(i * 4096, into)));
    for (const [i, bytes] of back.entries()) expect(bytes.every((byte) => byte === i % 251)).toBe(true);
    expect(readFileSync(path)[4096]).toBe(1);
    expect(device.pool.inUse).toBe(0);
  });

  it('serves in order: of writes to one block the last wins, a read sees the writes before it', async () => {
    const { device } = await opened(1 << 20);
    const seen = new Uint8Array(512);
    const requests: Promise<void>[] = [];
    for (let i = 1; i <= 200; i++) requests.push(device.write(0, filled(512, i)));
    requests.push(device.read(0, seen), device.flush(), device.write(0, filled(512, 250)));
    await Promise.all(requests);
    expect(seen.every((byte) => byte === 200)).toBe(true);
  });

  it('uses shared aligned memory of others without a copy', async () => {
    const { device } = await opened(1 << 20);
    const memory = new Uint8Array(alignedMemory(1 << 20, true));
    memory.fill(7, 0, 8192);
    await device.write(4096, memory.subarray(0, 8192));
    await device.read(4096, memory.subarray(65536, 65536 + 8192));
    expect(memory.subarray(65536, 65536 + 8192).every((byte) => byte === 7)).toBe(true);
    expect(device.pool.capacity).toBe(0);
  });

  it('zeroes small and large ranges and discards', async () => {
    const { device, path } = await opened(32 << 20);
    await device.write(0, filled(32 << 20, 5));
    await device.writeZeroes(512, 4096);
    await device.writeZeroes(1 << 20, 16 << 20);
    await device.discard(20 << 20, 4 << 20);
    const content = readFileSync(path);
    expect(content.subarray(512, 4608).every((byte) => byte === 0)).toBe(true);
    expect(content.subarray(1 << 20, 17 << 20).every((byte) => byte === 0)).toBe(true);
    expect(content.subarray(17 << 20, 20 << 20).every((byte) => byte === 5)).toBe(true);
  });

  it('reports errors as FileDevice does, and goes on', async () => {
    const { device, path } = await opened(1 << 20);
    truncateSync(path, 65536);
    const outcomes = await Promise.allSettled([
      device.write(0, filled(512, 1)),
      device.read(131072, new Uint8Array(4096)),
      device.read(0, new Uint8Array(512)),
    ]);
    expect(outcomes.map((o) => o.status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect((outcomes[1] as PromiseRejectedResult).reason).toMatchObject({ code: 'DEVICE_SHORT', fields: { offset: 131072, length: 4096 } });
    await expect(device.read(1, new Uint8Array(512))).rejects.toMatchObject({ code: 'DEVICE_UNALIGNED' });
    const reader = new IoWorkerDevice(await openDevice(path));
    cleanup.add(() => reader.close());
    await expect(reader.write(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'DEVICE_READ_ONLY' });
    expect(device.pool.inUse).toBe(0);
  });

  it("names the system's errno", async () => {
    const path = sparseFile(join(tempDir(cleanup, 'io'), 'image'), 1 << 20);
    const file = await openDevice(path);
    Object.defineProperty(file, 'readOnly', { value: false }); // the descriptor is not writable: the kernel answers EBADF
    const device = new IoWorkerDevice(file);
    cleanup.add(() => device.close());
    await expect(device.write(4096, filled(512, 1))).rejects.toMatchObject({
      code: 'DEVICE_WRITE',
      errno: 'EBADF',
      fields: { device: path, offset: 4096, length: 512, errno: 'EBADF' },
    });
  });

  it('fails every request by name once its thread has ended, rather than wait for ever', async () => {
    // No descriptor at all is not the device's failure but a bug of the caller: the thread ends on it.
    const file = new FileDevice({
      fd: -1,
      name: 'nothing',
      kind: 'file',
      direct: true,
      size: 1 << 20,
      logicalBlockSize: 512,
      readOnly: false,
      canDiscard: false,
    });
    const device = new IoWorkerDevice(file);
    const requests = [device.flush(), device.write(0, filled(512, 1)), device.read(0, device.pool.acquire(4096))];
    for (const outcome of await Promise.allSettled(requests))
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'DEVICE_WORKER', errno: 'EIO' } });
    await expect(device.read(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'DEVICE_WORKER' });
  });

  it('close waits for what is in flight, then refuses', async () => {
    const { device, path } = await opened(16 << 20);
    const write = device.write(0, filled(16 << 20, 9));
    await device.close();
    await write;
    await device.close();
    expect(readFileSync(path).every((byte) => byte === 9)).toBe(true);
    await expect(device.flush()).rejects.toMatchObject({ code: 'DEVICE_CLOSED' });
  });

  it('joins batches through windows', async () => {
    const { device, path } = await opened(4 << 20);
    const window = new PartitionWindow(device, 1 << 20, 1 << 20);
    const model = new MemoryDevice({ size: 1 << 20 });
    const pieces = new Random(3).shuffle(Array.from({ length: 256 }, (_, i) => ({ offset: i * 4096, bytes: filled(4096, i) })));
    await writeMany(window, pieces);
    await writeMany(model, pieces);
    const expected = new Uint8Array(1 << 20);
    await model.read(0, expected);
    expect(Buffer.compare(readFileSync(path).subarray(1 << 20, 2 << 20), expected)).toBe(0);
  });

  it('keeps the process alive for a request, and not without one', () => {
    const path = sparseFile(join(tempDir(cleanup, 'io'), 'image'), 1 << 20);
    const built = fileURLToPath(import.meta.resolve('@lunfs/device'));
    const script = `import { openIoWorkerDevice } from ${JSON.stringify(built)};
      const device = await openIoWorkerDevice(${JSON.stringify(path)}, { write: true });
      await device.write(0, new Uint8Array(512).fill(1)); await device.flush(); console.log('done');`;
    expect(execFileSync(process.execPath, ['--input-type=module', '-e', script], { timeout: 10_000, encoding: 'utf8' })).toBe('done\n');
  });
});
