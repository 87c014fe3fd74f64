/** Mounts with a writeback cache: what the kernel keeps of sizes, times and data is right while it waits, and all of it is on the volume afterwards. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fsp from 'node:fs/promises';
import path from 'node:path';
import { LunfsError } from '@lunfs/device';
import { HostVolume } from '@lunfs/host';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { machineLacks, posixCases } from '../../../fuse/test/support/posix-cases.js';
import { lacks } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup, must } from '../../../../test/support/temp.js';
import { type TestImage, ends, logOf, testImage } from '../support/image.js';

/** Cases that write data, or see what was written. SEEK_HOLE is not among them: on such a mount all of a file is data. */
const CASES = /append|truncate|sparse files|random writes|end$|open file usable|hard links|while open|permissions|times|statfs|mmap|O_DIRECT|fallocate|parallel/;

function python(program: string, ...args: string[]): Promise<string> {
  return must('python3', ['-c', `import os, sys\nd = sys.argv[1]\n${program}`, ...args], { cwd: '/' });
}

describe.skipIf(lacks('ocfs2-tools', 'fuse'))('mounted with writeback', { timeout: 180_000 }, () => {
  let cleanup: Cleanup;
  let image: TestImage;
  const at = (name: string) => path.join(image.mountPoint, name);
  beforeEach(() => { cleanup = new Cleanup(); });
  afterEach(() => cleanup.run());

  it('the POSIX cases that write', async () => {
    image = await testImage(cleanup, { clusterSize: 1 << 20, size: 2 * 2 ** 30 });
    const one = await image.start({ mount: { directory: image.mountPoint, writeback: true } });
    const cases = posixCases.filter(({ name, needs }) => CASES.test(name) && needs?.map(machineLacks).find((why) => why !== undefined) === undefined);
    expect(cases.length).toBeGreaterThan(12);
    for (const [index, case_] of cases.entries()) {
      const own = at(`case-${index}`);
      await fsp.mkdir(own);
      try {
        await case_.run(own);
      } catch (error) {
        throw new Error(`${case_.name}: ${String(error)}`, { cause: error });
      }
    }
    await must('umount', [image.mountPoint]);
    expect(await ends(one)).toEqual({ code: 0, signal: null });
    expect(logOf(one)).toBe('');
    await image.check();
  }, 300_000);

  it('small writes are few requests; size, times and bytes are the same before fsync, after it and on a mount without', async () => {
    image = await testImage(cleanup);
    const lines: string[] = [];
    const host = await HostVolume.open({ device: image.image });
    cleanup.add(() => host.close().catch(() => undefined));
    await host.mount({ directory: image.mountPoint, writeback: true, trace: (line) => void lines.push(line) });
    const told = await python(`
a = os.open(d + '/appended', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for i in range(3000): assert os.write(a, b'%07d\\n' % i * 512) == 4096
assert os.fstat(a).st_size == 3000 * 4096
w = os.open(d + '/appended', os.O_WRONLY)          # a part of a page: the kernel reads the rest by a handle that only writes
os.pwrite(w, b'patched', 5000); os.pwrite(w, b'end', 3000 * 4096 + 3)
print(os.stat(d + '/appended').st_size, os.stat(d + '/appended').st_mtime_ns, os.stat(d + '/appended').st_ctime_ns)
s = os.open(d + '/sparse', os.O_RDWR | os.O_CREAT)
os.ftruncate(s, 1 << 20); os.pwrite(s, b'x' * 10, 500000)   # dirty in the kernel only
assert os.lseek(s, 0, os.SEEK_DATA) == 0 and os.lseek(s, 0, os.SEEK_HOLE) == 1 << 20
os.fsync(a)
os.close(a); os.close(w); os.close(s)
t = os.open(d + '/dated', os.O_WRONLY | os.O_CREAT); os.write(t, b'dated'); os.close(t)
os.utime(d + '/dated', ns=(10**18, 10**18 + 7)); os.chmod(d + '/dated', 0o600)
print(os.stat(d + '/dated').st_mtime_ns, os.stat(d + '/dated').st_ctime_ns)
`, image.mountPoint);
    expect(lines.filter((line) => /\bWRITE\b/.test(line)).length).toBeLessThan(400); // 3005 calls of write(2)
    expect(lines.some((line) => /\bWRITE\b/.test(line))).toBe(true);
    await host.close();
    const one = await image.start({ mount: { directory: image.mountPoint } });
    const back = await fsp.readFile(at('appended'));
    const wanted = Buffer.concat([...Array.from({ length: 3000 }, (_, i) => Buffer.from(`${String(i).padStart(7, '0')}\n`.repeat(512))), Buffer.from('\0\0\0end')]);
    wanted.write('patched', 5000);
    expect(back.equals(wanted)).toBe(true);
    const sparse = await fsp.readFile(at('sparse'));
    expect([sparse.length, sparse.indexOf('x'), sparse.lastIndexOf('x')]).toEqual([1 << 20, 500_000, 500_009]);
    expect(await python(`
print(os.stat(d + '/appended').st_size, os.stat(d + '/appended').st_mtime_ns, os.stat(d + '/appended').st_ctime_ns)
print(os.stat(d + '/dated').st_mtime_ns, os.stat(d + '/dated').st_ctime_ns)
`, image.mountPoint)).toBe(told);
    one.kill('SIGTERM');
    await ends(one);
    await image.check();
  });

  it('a volume that is full says so at fsync or close, and stays whole', async () => {
    image = await testImage(cleanup, { size: 160 << 20, journalSize: 4 << 20, slots: 1 });
    const one = await image.start({ mount: { directory: image.mountPoint, writeback: true } });
    const said = await python(`
f = os.open(d + '/large', os.O_WRONLY | os.O_CREAT)
try:
    for i in range(300): os.write(f, b'z' * (1 << 20))
    os.fsync(f)
    print('fits')
except OSError as e: print(e.errno)
try: os.close(f)
except OSError: pass
os.unlink(d + '/large')
f = os.open(d + '/small', os.O_WRONLY | os.O_CREAT); os.write(f, b'fits'); os.fsync(f); os.close(f)
`, image.mountPoint);
    expect(said.trim()).toBe('28'); // ENOSPC
    one.kill('SIGTERM');
    expect(await ends(one)).toEqual({ code: 0, signal: null });
    await image.check();
  });

  it('after SIGKILL what was synced is there', async () => {
    image = await testImage(cleanup);
    const one = await image.start({ mount: { directory: image.mountPoint, writeback: true } });
    await python(`
f = os.open(d + '/synced', os.O_RDWR | os.O_CREAT); os.write(f, b's' * 300000); os.fsync(f); os.write(f, b'not synced')
os.kill(int(sys.argv[2]), 9)
`, image.mountPoint, String(one.pid));
    await ends(one);
    const again = await image.start({ mount: { directory: image.mountPoint, writeback: true } });
    const back = await fsp.readFile(at('synced'));
    expect(back.length).toBeGreaterThanOrEqual(300_000);
    expect(back.subarray(0, 300_000).every((byte) => byte === 0x73)).toBe(true);
    await must('umount', [image.mountPoint]);
    expect(await ends(again)).toEqual({ code: 0, signal: null });
    await image.check();
  });

  it('refuses by name what would change files behind the kernel: exports, new sizes, limits; its end by force syncs first', async () => {
    image = await testImage(cleanup, { features: 'usrquota' });
    const refused = (work: Promise<unknown>) => work.then(() => 'done', (error: unknown) => (error instanceof LunfsError ? error.code : String(error)));
    expect(await refused(image.start({ mount: { directory: image.mountPoint, writeback: true } }))).toBe('WRITEBACK_REFUSED');
    image = await testImage(cleanup);
    const host = await HostVolume.open({ device: image.image });
    cleanup.add(() => host.close().catch(() => undefined));
    await host.createDisk('/one.raw', { size: 1 << 20, allocation: 'thin' });
    await host.addExport({ path: '/one.raw' });
    expect(await refused(host.mount({ directory: image.mountPoint, writeback: true }))).toBe('WRITEBACK_REFUSED');
    await host.removeExport('one.raw');
    const mount = await host.mount({ directory: image.mountPoint, writeback: true });
    expect(await refused(host.addExport({ path: '/one.raw' }))).toBe('WRITEBACK_MOUNT');
    expect(await refused(host.resizeDisk('/one.raw', 2 << 20))).toBe('WRITEBACK_MOUNT');
    await host.createDisk('/two.raw', { size: 1 << 20, allocation: 'thin' });
    await host.removeDisk('/two.raw');
    // A clone has what the mount has written, also what waits in the kernel.
    await python("f = os.open(d + '/one.raw', os.O_WRONLY); os.pwrite(f, b'cloned', 70000); os.close(f)", image.mountPoint);
    await host.cloneDisk('/one.raw', '/clone.raw');
    expect(await python("sys.stdout.write(repr(open(d + '/clone.raw', 'rb').read()[70000:70006]))", image.mountPoint)).toBe("b'cloned'");
    // Held by another process: ours would close it at each exec of a child, which waits for the pages to be written, by us.
    const holder = spawn('python3', ['-c', "import sys; f = open(sys.argv[1], 'wb', 0); f.write(b'o' * 12345); print('open', flush=True); sys.stdin.read()", at('open')], { cwd: '/', stdio: ['pipe', 'pipe', 'inherit'] });
    cleanup.add(() => void holder.kill('SIGKILL'));
    await once(holder.stdout, 'data');
    await mount.close(0); // it is busy
    holder.stdin.end();
    await once(holder, 'close');
    await host.addExport({ path: '/one.raw' });
    await host.mount({ directory: image.mountPoint });
    expect((await fsp.readFile(at('open'))).equals(Buffer.alloc(12_345, 0x6f))).toBe(true);
    await host.close();
    await image.check();
  });
});
