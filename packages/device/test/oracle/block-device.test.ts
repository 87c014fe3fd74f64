import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Cleanup, loopDevice, must, sparseFile, tempDir } from '../../../../test/support/temp.js';
import { openDevice } from '../../src/open-device.js';
import { Random } from '../../src/random.js';
import { exercise, filled } from '../support/model.js';
import { cleanupAfterEach, containing, matching } from '../support/vitest.js';

const cleanup = cleanupAfterEach();

async function lun(size: number, sectorSize: 512 | 4096 = 512): Promise<{ loop: string; file: string }> {
  const file = sparseFile(join(tempDir(cleanup, 'device'), 'lun'), size);
  return { file, loop: await loopDevice(cleanup, file, { sectorSize }) };
}

async function opened(...args: Parameters<typeof openDevice>): ReturnType<typeof openDevice> {
  const device = await openDevice(...args);
  cleanup.add(() => device.close());
  return device;
}

async function mounted(device: string): Promise<string> {
  const dir = tempDir(cleanup, 'mount');
  await must('mount', [device, dir]);
  cleanup.add(async () => void (await must('umount', [dir])));
  return dir;
}

describe('openDevice on a block device', () => {
  it('takes size and logical blocks from the device; its bytes arrive', async () => {
    for (const sectorSize of [512, 4096] as const) {
      const { loop, file } = await lun(4 << 20, sectorSize);
      const device = await openDevice(loop, { write: true });
      expect(device).toMatchObject({ kind: 'block', direct: true, size: 4 << 20, logicalBlockSize: sectorSize, readOnly: false });
      const model = await exercise(device, new Random(sectorSize), 100, 1 << 20);
      await device.flush();
      await device.close();
      expect(Buffer.compare(readFileSync(file), model)).toBe(0);
    }
  });

  it('uses larger logical blocks when asked, never smaller', async () => {
    const { loop } = await lun(4 << 20, 4096);
    await expect(openDevice(loop, { logicalBlockSize: 512 })).rejects.toMatchObject({
      code: 'DEVICE_BLOCK_SIZE',
      fields: { deviceBlockSize: 4096 },
    });
    const small = await lun(4 << 20);
    expect((await opened(small.loop, { logicalBlockSize: 4096 })).logicalBlockSize).toBe(4096);
  });

  it('zeroes and discards by the device while it is held exclusively', async () => {
    const { loop, file } = await lun(32 << 20);
    const device = await opened(loop, { write: true });
    expect(device.canDiscard).toBe(true);
    await device.write(0, filled(32 << 20, 7));
    await device.writeZeroes(1 << 20, 8 << 20);
    await device.discard(16 << 20, 8 << 20);
    await device.flush();
    expect(device.canDiscard).toBe(true); // still: the helper succeeded
    const content = readFileSync(file);
    expect(content.subarray(1 << 20, 9 << 20).every((byte) => byte === 0)).toBe(true);
    expect(content.subarray(0, 1 << 20).every((byte) => byte === 7)).toBe(true);
    expect(content.subarray(9 << 20, 16 << 20).every((byte) => byte === 7)).toBe(true);
    expect(Number((await must('stat', ['-c', '%b', file])).trim()) * 512).toBeLessThan(26 << 20); // discarded blocks were given back
  });

  it('lets one writer in, names it, lets readers look', async () => {
    const { loop } = await lun(4 << 20);
    const writer = await opened(loop, { write: true });
    await expect(openDevice(loop, { write: true })).rejects.toMatchObject({
      code: 'DEVICE_BUSY',
      errno: 'EBUSY',
      message: containing(`this process (${process.pid})`),
    });
    await opened(loop);
    await expect(openDevice(loop, { exclusive: true })).rejects.toMatchObject({ code: 'DEVICE_BUSY', message: containing(`this process (${process.pid})`) });
    await opened(loop, { write: true, exclusive: false });
    await writer.close();
    await opened(loop, { write: true });
  });

  it('lets readers in together, and no writer beside them', async () => {
    const { loop } = await lun(4 << 20);
    const readers = await Promise.all([1, 2, 3].map(() => opened(loop, { exclusive: true })));
    await expect(openDevice(loop, { write: true })).rejects.toMatchObject({ code: 'DEVICE_BUSY', message: containing('held for reading by this process') });
    for (const reader of readers) await reader.close();
    await opened(loop, { write: true });
  });

  it('refuses to write a mounted device, and names the mount', async () => {
    const { loop } = await lun(8 << 20);
    await must('mke2fs', ['-q', '-t', 'ext2', loop]);
    const dir = await mounted(loop);
    for (const exclusive of [true, false]) {
      await expect(openDevice(loop, { write: true, exclusive })).rejects.toMatchObject({
        code: 'DEVICE_MOUNTED',
        message: containing(`mounted on ${dir} (ext2)`),
      });
    }
    await opened(loop);
  });

  it('refuses the whole disk while a partition of it is mounted, and a partition while the disk is held', async () => {
    const { loop, file } = await lun(16 << 20);
    const table = Buffer.alloc(512); // an MBR with one Linux partition: 12 MiB from 1 MiB on
    table[450] = 0x83;
    table.writeUInt32LE(2048, 454);
    table.writeUInt32LE(24576, 458);
    table.writeUInt16LE(0xaa55, 510);
    const disk = await openDevice(loop, { write: true });
    await disk.write(0, table);
    await disk.flush();
    await disk.close();
    await must('partx', ['--add', loop]);
    cleanup.add(async () => void (await must('partx', ['--delete', loop])));
    const partition = `${loop}p1`;
    await must('mke2fs', ['-q', '-t', 'ext2', partition]);
    const unmount = new Cleanup();
    const dir = tempDir(unmount, 'mount');
    await must('mount', [partition, dir]);
    unmount.add(async () => void (await must('umount', [dir])));
    cleanup.add(() => unmount.run());
    await expect(openDevice(loop, { write: true })).rejects.toMatchObject({
      code: 'DEVICE_MOUNTED',
      message: containing(`its partition ${partition.slice(5)} is mounted on ${dir}`),
    });
    await expect(openDevice(partition, { write: true })).rejects.toMatchObject({
      code: 'DEVICE_MOUNTED',
      message: containing(`it is mounted on ${dir}`),
    });
    await unmount.run();
    const window = await openDevice(partition, { write: true });
    expect(window).toMatchObject({ size: 12 << 20, logicalBlockSize: 512, canDiscard: true });
    await window.write(0, filled(512, 0x42));
    await window.flush();
    await expect(openDevice(loop, { write: true })).rejects.toMatchObject({ code: 'DEVICE_BUSY' });
    await window.close();
    expect(readFileSync(file)[1 << 20]).toBe(0x42);
    const whole = await opened(loop, { write: true });
    await expect(openDevice(partition, { write: true })).rejects.toMatchObject({ code: 'DEVICE_BUSY' });
    await whole.close();
  });

  it('refuses to write an image file that a loop device serves', async () => {
    const { loop, file } = await lun(4 << 20);
    await expect(openDevice(file, { write: true })).rejects.toMatchObject({ code: 'DEVICE_HELD', message: containing(loop) });
  });

  it('refuses to write a read-only device, and one that is too small', async () => {
    const { loop } = await lun(4 << 20);
    await must('blockdev', ['--setro', loop]);
    cleanup.add(async () => void (await must('blockdev', ['--setrw', loop]))); // the flag outlives the detach
    await expect(openDevice(loop, { write: true })).rejects.toMatchObject({ code: 'DEVICE_READ_ONLY', errno: 'EROFS' });
    await opened(loop);
    await expect(openDevice(loop, { minSize: 1 << 30 })).rejects.toMatchObject({ code: 'DEVICE_TOO_SMALL' });
  });

  it('goes through the page cache, with a warning, where the file system refuses O_DIRECT in the blocks asked for', async () => {
    const { loop } = await lun(32 << 20, 4096);
    await must('mke2fs', ['-q', '-t', 'ext2', loop]);
    const dir = await mounted(loop);
    mkdirSync(join(dir, 'images'));
    const path = sparseFile(join(dir, 'images/image'), 4 << 20);
    const warnings: string[] = [];
    const device = await opened(path, { write: true, warn: (message) => warnings.push(message) });
    expect(device).toMatchObject({ direct: false, logicalBlockSize: 512 });
    expect(warnings).toEqual([matching(/refuses O_DIRECT in blocks of 512 bytes; using the page cache/)]);
    await exercise(device, new Random(8), 60);
    await device.flush();
    await device.close();
    await expect(openDevice(path, { allowBuffered: false })).rejects.toMatchObject({ code: 'DEVICE_NO_DIRECT' });
    const direct = await openDevice(path, { write: true, logicalBlockSize: 4096, warn: (message) => warnings.push(message) });
    expect(direct.direct).toBe(true);
    expect(warnings.length).toBe(1);
    await direct.close();
  });

  it('names a permission that is lacking', async () => {
    const { loop } = await lun(32 << 20);
    await must('mke2fs', ['-q', '-t', 'ext2', loop]);
    const path = sparseFile(join(await mounted(loop), 'image'), 1 << 20);
    await must('chattr', ['+i', path]); // even root may not write it
    await expect(openDevice(path, { write: true })).rejects.toMatchObject({
      code: 'DEVICE_DENIED',
      errno: 'EACCES',
      message: containing('no permission to write'),
    });
    await opened(path);
  });
});
