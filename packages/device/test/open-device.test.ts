import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { must, sparseFile, tempDir } from '../../../test/support/temp.js';
import { openDevice } from '../src/open-device.js';
import { cleanupAfterEach, containing, matching } from './support/vitest.js';

const cleanup = cleanupAfterEach();
const directory = (): string => tempDir(cleanup, 'device');

async function opened(...args: Parameters<typeof openDevice>): ReturnType<typeof openDevice> {
  const device = await openDevice(...args);
  cleanup.add(() => device.close());
  return device;
}

describe('openDevice on an image file', () => {
  it('opens with O_DIRECT in blocks of 512, or as asked', async () => {
    const path = sparseFile(join(directory(), 'image'), (1 << 20) + 1000);
    expect(await opened(path)).toMatchObject({
      name: path,
      kind: 'file',
      direct: true,
      readOnly: true,
      canDiscard: false,
      logicalBlockSize: 512,
      size: (1 << 20) + 512,
    });
    expect(await opened(path, { write: true, logicalBlockSize: 4096 })).toMatchObject({
      readOnly: false,
      canDiscard: true,
      logicalBlockSize: 4096,
      size: 1 << 20,
    });
  });

  it('lets one writer in, and readers beside it unless they want exclusivity', async () => {
    const path = sparseFile(join(directory(), 'image'), 1 << 20);
    const writer = await opened(path, { write: true });
    const refusal = {
      kind: 'cluster',
      code: 'DEVICE_BUSY',
      errno: 'EBUSY',
      message: containing(`held for writing by this process (${process.pid})`),
    };
    await expect(openDevice(path, { write: true })).rejects.toMatchObject(refusal);
    await expect(openDevice(path, { exclusive: true })).rejects.toMatchObject(refusal);
    await opened(path);
    await opened(path, { write: true, exclusive: false });
    await writer.close();
    await opened(path, { write: true });
  });

  it('names the process that holds the lock', async () => {
    const path = sparseFile(join(directory(), 'image'), 1 << 20);
    const holder = spawn('flock', ['-x', path, 'sh', '-c', 'echo ready; exec sleep 60'], {
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true,
    });
    cleanup.add(() => void process.kill(-holder.pid!, 'SIGKILL'));
    await once(holder.stdout, 'data');
    await expect(openDevice(path, { write: true })).rejects.toMatchObject({
      code: 'DEVICE_BUSY',
      message: matching(/held for writing by .*(flock|sleep) \(process \d+\)/),
    });
  });

  it('refuses what is too small', async () => {
    const path = sparseFile(join(directory(), 'image'), 1 << 20);
    await expect(openDevice(path, { minSize: 2 << 20 })).rejects.toMatchObject({
      code: 'DEVICE_TOO_SMALL',
      errno: 'ENOSPC',
      fields: { size: 1 << 20, minSize: 2 << 20 },
    });
    await expect(openDevice(sparseFile(join(directory(), 'empty'), 0))).rejects.toMatchObject({ code: 'DEVICE_TOO_SMALL' });
  });

  it('refuses what is not a device, without opening it', async () => {
    const dir = directory();
    await must('mkfifo', [join(dir, 'fifo')]);
    const server = createServer().listen(join(dir, 'socket'));
    cleanup.add(() => void server.close());
    await once(server, 'listening');
    for (const [path, is] of [
      [dir, 'a directory'],
      ['/dev/null', 'a character device'],
      [join(dir, 'fifo'), 'a FIFO'],
      [join(dir, 'socket'), 'a socket'],
    ]) {
      await expect(openDevice(path)).rejects.toMatchObject({
        code: 'DEVICE_NOT_A_DEVICE',
        errno: 'ENOTTY',
        message: containing(`${path} is ${is}`),
      });
    }
  });

  it('refuses what is missing, a dangling link too', async () => {
    const dir = directory();
    symlinkSync('nowhere', join(dir, 'link'));
    for (const path of [join(dir, 'none'), join(dir, 'link')])
      await expect(openDevice(path)).rejects.toMatchObject({ code: 'DEVICE_MISSING', errno: 'ENOENT' });
    await expect(openDevice(join(sparseFile(join(dir, 'file'), 512), 'below'))).rejects.toMatchObject({ code: 'DEVICE_MISSING' });
  });

  it('knows no logical blocks but 512 and 4096', async () => {
    await expect(openDevice('/nowhere', { logicalBlockSize: 1024 })).rejects.toMatchObject({ code: 'DEVICE_BLOCK_SIZE', errno: 'EINVAL' });
  });

  it('refuses to write an image behind a loop device; reading is allowed', async () => {
    const dir = directory();
    const path = sparseFile(join(dir, 'image'), 1 << 20);
    const sysfs = join(dir, 'sys');
    const attribute = join(sysfs, 'block/loop5/loop/backing_file');
    mkdirSync(dirname(attribute), { recursive: true });
    writeFileSync(attribute, `${path}\n`);
    await expect(openDevice(path, { write: true, sysfs })).rejects.toMatchObject({
      code: 'DEVICE_HELD',
      message: matching(/the file behind \/dev\/loop5.*losetup -d \/dev\/loop5/),
    });
    await opened(path, { sysfs });
  });
});
