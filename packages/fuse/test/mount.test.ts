/** The session on real mounts: POSIX cases over both kinds of backing, in-place I/O by the workers, notifications, ends of life. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import * as fsp from 'node:fs/promises';
import path from 'node:path';
import { type FuseMount, mountFuse } from '@lunfs/fuse';
import { MemoryDevice, openDevice } from '@lunfs/device';
import type { FileDevice } from '@lunfs/device';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Cleanup, exec, must, sparseFile, tempDir } from '../../../test/support/temp.js';
import { MemoryFs } from './support/memory-fs.js';
import type { MemoryFsOptions } from './support/memory-fs.js';
import { machineLacks, posixCases } from './support/posix-cases.js';

const lacks = process.getuid?.() !== 0 ? 'mounting needs root' : !fs.existsSync('/dev/fuse') ? 'there is no /dev/fuse' : undefined;
const SIZE = 512 << 20;

async function backing(cleanup: Cleanup, kind: 'memory' | 'direct'): Promise<FileDevice | MemoryDevice> {
  if (kind === 'memory') return new MemoryDevice({ size: SIZE, logicalBlockSize: 4096 });
  const device = await openDevice(sparseFile(path.join(tempDir(cleanup, 'fuse'), 'lun'), SIZE), { write: true, logicalBlockSize: 4096 });
  cleanup.add(() => device.close());
  assert.ok(device.direct, 'the temporary directory supports O_DIRECT (set LUNFS_TEST_DIR to one that does)');
  return device;
}

async function mounted(cleanup: Cleanup, device: FileDevice | MemoryDevice, options: MemoryFsOptions = {}, errors: unknown[] = []): Promise<{ mount: FuseMount; handler: MemoryFs; directory: string }> {
  const directory = tempDir(cleanup, 'mnt');
  const handler = new MemoryFs(device, options);
  const mount = await mountFuse(handler, { directory, source: 'memory', onError: (error) => errors.push(error) });
  cleanup.add(() => mount.close(500));
  return { mount: mount as unknown as FuseMount, handler, directory };
}

describe.skipIf(lacks !== undefined)(`FUSE mounts${lacks === undefined ? '' : ` (skipped: ${lacks})`}`, () => {
  for (const [kind, options] of [['memory', {}], ['direct', {}], ['direct', { directIo: true }], ['memory', { ttl: 0, slow: () => new Promise<void>((resolve) => { setImmediate(resolve); }) }]] as const) {
    describe(`POSIX cases over a ${kind} device ${Object.keys(options).join(' and ')}`, () => {
      const cleanup = new Cleanup();
      const errors: unknown[] = [];
      let handler: MemoryFs;
      let directory: string;
      beforeAll(async () => {
        ({ handler, directory } = await mounted(cleanup, await backing(cleanup, kind), options, errors));
      });
      afterAll(async () => {
        await cleanup.run();
        expect(errors).toEqual([]);
        expect(handler.counts.destroyed).toBe(1);
      });
      for (const [index, one] of posixCases.entries()) {
        const missing = one.needs?.map(machineLacks).find((reason) => reason !== undefined);
        it.skipIf(missing !== undefined)(`${one.name}${missing === undefined ? '' : ` (skipped: ${missing})`}`, async () => {
          const own = path.join(directory, `case-${index}`);
          await fsp.mkdir(own);
          await one.run(own);
        }, one.timeout ?? 30_000);
      }
    });
  }

  describe('data in place and caches', () => {
    const cleanup = new Cleanup();
    afterEach(() => cleanup.run());

    /** Runs Python, whose buffers of mmap are aligned for O_DIRECT, with the working directory outside the mount. */
    const python = (program: string, ...args: string[]) => must('python3', ['-c', program, ...args], { cwd: '/' });
    const rewrite = `
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT); buf = mmap.mmap(-1, 65536)
for n in range(400):
    i = n * 37 % 64
    buf[:4] = b'%04d' % n; os.pwritev(fd, [buf], i << 16)
    buf[:4] = b'    '; os.preadv(fd, [buf], i << 16); assert buf[:4] == b'%04d' % n, (n, buf[:4])
os.close(fd)
`;

    it('workers serve written extents without the handler, and the handler hears of the writes', async () => {
      const { handler, directory } = await mounted(cleanup, await backing(cleanup, 'direct'), { directIo: true });
      const file = path.join(directory, 'f');
      await fsp.writeFile(file, Buffer.alloc(4 << 20, 1));
      await fsp.utimes(file, 1, 1);
      const before = { ...handler.counts };
      await python(rewrite, file);
      expect(handler.counts.reads - before.reads).toBeLessThan(20);
      expect(handler.counts.writes - before.writes).toBeLessThan(20);
      expect(handler.counts.wrote).toBeGreaterThan(before.wrote);
      expect((await fsp.stat(file)).mtimeMs).toBeGreaterThan(1e12);
    });

    it('nothing is served by a recalled mapping: truncate and punch between in-place writes', async () => {
      const { directory } = await mounted(cleanup, await backing(cleanup, 'direct'), { directIo: true });
      const file = path.join(directory, 'f');
      await fsp.writeFile(file, Buffer.alloc(4 << 20, 1));
      await python(`
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT); other = os.open(sys.argv[1] + '2', os.O_RDWR | os.O_CREAT)
buf = mmap.mmap(-1, 65536)
for n in range(40):
    for i in range(0, 64, 9): buf[:] = bytes([n + 1]) * 65536; os.pwritev(fd, [buf], i << 16)
    os.ftruncate(fd, 20 << 16)
    os.pwrite(other, b'\\xff' * (1 << 20), 0)   # takes clusters that were freed
    os.ftruncate(fd, 64 << 16)
    for i in range(0, 64, 9):
        os.preadv(fd, [buf], i << 16)
        assert buf[:] == (bytes([n + 1]) if i < 20 else b'\\0') * 65536, (n, i, buf[:8])
    os.ftruncate(other, 0)
`, file);
    });

    it('invalInode makes the kernel forget pages that changed underneath, also while they are dirty in an mmap', async () => {
      const { mount, handler, directory } = await mounted(cleanup, await backing(cleanup, 'memory'), { ttl: 1000 });
      const file = path.join(directory, 'f');
      await fsp.writeFile(file, 'old content');
      const { ino } = await fsp.stat(file);
      expect(await fsp.readFile(file, 'utf8')).toBe('old content');
      await handler.changeBehindKernel(ino, Buffer.from('new'));
      expect(await fsp.readFile(file, 'utf8')).toBe('old content'); // the kernel cannot know
      expect(await mount.session.invalInode(ino)).toBe(true);
      expect(await fsp.readFile(file, 'utf8')).toBe('new content');
      const mapped = exec('python3', ['-c', `
import mmap, os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR); os.ftruncate(fd, 1 << 20); m = mmap.mmap(fd, 1 << 20)
for at in range(0, 1 << 20, 4096): m[at:at+4] = b'MMAP'
print('dirty', flush=True); time.sleep(1.5); print(m[4096:4100].decode())
`, file], { cwd: '/' });
      await new Promise((resolve) => { setTimeout(resolve, 700); });
      expect(await mount.session.invalInode(ino)).toBe(true); // waits for write-back, which this very thread answers
      expect((await mapped).stdout).toBe('dirty\nMMAP\n');
      expect(await mount.session.invalInode(4711)).toBe(false);
    });

    it('invalEntry and notifyDelete make the kernel ask again', async () => {
      const { mount, handler, directory } = await mounted(cleanup, await backing(cleanup, 'memory'), { ttl: 1000 });
      await fsp.writeFile(path.join(directory, 'f'), '');
      const { ino } = await fsp.stat(path.join(directory, 'f'));
      handler.removeBehindKernel('f');
      await fsp.stat(path.join(directory, 'f'));
      expect(await mount.session.invalEntry(1, Buffer.from('f'))).toBe(true);
      await expect(fsp.stat(path.join(directory, 'f'))).rejects.toThrow(/ENOENT/);
      await fsp.writeFile(path.join(directory, 'g'), '');
      const second = (await fsp.stat(path.join(directory, 'g'))).ino;
      handler.removeBehindKernel('g');
      expect(await mount.session.notifyDelete(1, second, Buffer.from('g'))).toBe(true);
      await expect(fsp.stat(path.join(directory, 'g'))).rejects.toThrow(/ENOENT/);
      expect(await mount.session.notifyDelete(1, ino, Buffer.from('never'))).toBe(false);
    });

    it('a request that is not answered holds up nobody else', async () => {
      let open!: () => void;
      const gate = new Promise<void>((resolve) => { open = resolve; });
      let stall = false;
      const { directory } = await mounted(cleanup, await backing(cleanup, 'memory'), { ttl: 0, slow: () => (stall ? gate : Promise.resolve()) });
      await fsp.writeFile(path.join(directory, 'f'), 'x');
      stall = true;
      const stalled = Promise.all([1, 2].map(() => fsp.truncate(path.join(directory, 'f'), 100)));
      await new Promise((resolve) => { setTimeout(resolve, 100); });
      stall = false;
      for (let i = 0; i < 50; i++) expect((await fsp.stat(directory)).isDirectory()).toBe(true);
      open();
      await stalled;
    });
  });
});
