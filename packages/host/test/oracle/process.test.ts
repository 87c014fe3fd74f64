/** The life of a volume process: every way to end, what survives each, and what it refuses by name. */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as fsp from 'node:fs/promises';
import { createConnection } from 'node:net';
import path from 'node:path';
import { type ErrnoName, LunfsError } from '@lunfs/device';
import { HostVolume, connectVolumeProcess, startVolumeProcess } from '@lunfs/host';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lacks } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup, exec, must } from '../../../../test/support/temp.js';
import { type TestImage, ends, logOf, testImage } from '../support/image.js';

async function refusal(promise: Promise<unknown>): Promise<{ code: string; errno: ErrnoName }> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof LunfsError) return { code: error.code, errno: error.errno };
    throw error;
  }
  throw new Error('it was not refused');
}

/** Bytes that say where they belong. */
function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 8) bytes.writeDoubleLE(seed * 2 ** 32 + at, at);
  return bytes;
}

/** Work on a mount in a child, so that a dead mount does not hold our own threads. */
function python(program: string, ...args: string[]): Promise<string> {
  return must('python3', ['-c', program, ...args], { cwd: '/' });
}

describe.skipIf(lacks('ocfs2-tools', 'fuse'))('volume process', () => {
  let cleanup: Cleanup;
  let image: TestImage;
  beforeEach(async () => {
    cleanup = new Cleanup();
    image = await testImage(cleanup);
  });
  afterEach(() => cleanup.run());

  it('ends by umount: exit code 0, nothing in its log, volume clean, run directory empty but for the log', async () => {
    const one = await image.start({ mount: { directory: image.mountPoint } });
    expect(one.facts).toMatchObject({ device: image.image, mount: image.mountPoint, readOnly: false, exports: [] });
    await fsp.writeFile(path.join(image.mountPoint, 'file'), pattern(100_000, 1));
    await must('umount', [image.mountPoint]);
    expect(await ends(one)).toEqual({ code: 0, signal: null });
    expect(logOf(one)).toBe('');
    expect(fs.readdirSync(path.join(image.directory, 'run')).filter((name) => !name.endsWith('.log'))).toEqual([]);
    await image.check();
    const host = await HostVolume.open({ device: image.image, readOnly: true });
    const found = await host.volume.names.lookup(host.volume.names.root, Buffer.from('file'));
    expect(found.size).toBe(100_000);
    await host.close();
  });

  it('ends by SIGTERM although another mount namespace has a copy of the mount: whoever is in there gets errors', async () => {
    const one = await image.start({ mount: { directory: image.mountPoint } });
    await must('touch', [path.join(image.mountPoint, 'file')]);
    const holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', 'exec 5< "$0/file"; echo holds; read -r word; cat "$0/file"; echo "says $?"', image.mountPoint], { cwd: '/', stdio: ['pipe', 'pipe', 'ignore'] });
    let said = '';
    holder.stdout.on('data', (chunk: Buffer) => { said += chunk.toString(); });
    const gone = new Promise<void>((resolve) => { holder.once('close', () => resolve()); });
    cleanup.add(() => void holder.kill('SIGKILL'));
    while (said !== 'holds\n') await new Promise((resolve) => { setTimeout(resolve, 50); });
    one.kill('SIGTERM');
    expect(await ends(one)).toEqual({ code: 0, signal: null });
    holder.stdin.end('go\n');
    await gone;
    expect(said).toBe('holds\nsays 1\n');
    await image.check();
  });

  it('ends by SIGTERM while files are written: the mount goes, what was written before is whole, volume clean', async () => {
    const one = await image.start({ mount: { directory: image.mountPoint } });
    const file = path.join(image.mountPoint, 'busy');
    const writer = spawn('python3', ['-c', `
import os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600); n = 0
print('begun', flush=True)
try:
    while True:
        os.pwrite(fd, bytes([n % 251]) * 65536, n * 65536); n += 1
        if n % 20 == 0: os.fsync(fd); print(n, flush=True); time.sleep(0.02) # or the volume is full before the mount ends
except OSError as e: print('error', e.errno, flush=True)
`, file], { cwd: '/', stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    writer.stdout.on('data', (chunk: Buffer) => { said += chunk.toString(); });
    cleanup.add(() => void writer.kill('SIGKILL'));
    while (!/^\d+$/m.test(said)) await new Promise((resolve) => setTimeout(resolve, 20));
    const over = new Promise((resolve) => { writer.once('close', resolve); });
    one.kill('SIGTERM');
    expect(await ends(one)).toEqual({ code: 0, signal: null });
    await over;
    expect(said).toMatch(/^error (103|107|5)$/m); // ECONNABORTED, ENOTCONN, EIO: the mount was ended under it
    await image.check();
    const synced = Number(said.match(/^\d+$/gm)!.at(-1));
    const again = await image.start({ mount: { directory: image.mountPoint } });
    const back = await fsp.readFile(file);
    expect(back.length).toBeGreaterThanOrEqual(synced * 65536);
    for (let n = 0; n < synced; n++) expect(back[n * 65536 + 777]).toBe(n % 251);
    again.kill('SIGTERM');
    await ends(again);
  });

  it('after SIGKILL everything fsynced is there, and the mount can be made again at once', async () => {
    const at = (name: string) => path.join(image.mountPoint, name);
    const one = await image.start({ mount: { directory: image.mountPoint } });
    await python(`
import os, sys
d = sys.argv[1]
def put(name, data, sync):
    fd = os.open(d + '/' + name, os.O_RDWR | os.O_CREAT, 0o640); os.write(fd, data)
    if sync: os.fsync(fd)
    os.close(fd)
os.mkdir(d + '/dir')
for i in range(200): put('dir/f%d' % i, (b'%d ' % i) * 3000, i == 199)
put('big', b'x' * (5 << 20), True)
os.rename(d + '/dir/f7', d + '/renamed'); os.unlink(d + '/dir/f8'); os.truncate(d + '/dir/f9', 5)
f = os.open(d + '/dir', os.O_RDONLY); os.fsync(f)
put('lost?', b'y' * 4096, False)
`, image.mountPoint);
    one.kill('SIGKILL');
    expect((await ends(one)).signal).toBe('SIGKILL');
    const again = await image.start({ mount: { directory: image.mountPoint } });
    expect(again.facts.recovery.slots).toEqual([0]);
    expect((await fsp.readdir(at('dir'))).length).toBe(198);
    expect((await fsp.readFile(at('renamed'))).toString()).toBe('7 '.repeat(3000));
    expect((await fsp.readFile(at('dir/f199'))).toString()).toBe('199 '.repeat(3000));
    expect((await fsp.readFile(at('dir/f9'))).toString()).toBe('9 9 9');
    expect((await fsp.stat(at('big'))).size).toBe(5 << 20);
    expect((await fsp.readFile(at('big'))).every((byte) => byte === 0x78)).toBe(true);
    await must('umount', [image.mountPoint]);
    await ends(again);
    await image.check();
  });

  it('a write with O_DIRECT survives SIGKILL without fsync', async () => {
    const one = await image.start({ mount: { directory: image.mountPoint } });
    const file = path.join(image.mountPoint, 'direct');
    await python(`
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)
buf = mmap.mmap(-1, 65536)
for i in range(50):
    buf[:8] = b'%08d' % i; assert os.pwritev(fd, [buf], i * 3 * 65536) == 65536
os.kill(int(sys.argv[2]), 9)
`, file, String(one.pid));
    await ends(one);
    const again = await image.start({ mount: { directory: image.mountPoint } });
    const back = await fsp.readFile(file);
    expect(back.length).toBe((49 * 3 + 1) * 65536);
    for (let i = 0; i < 50; i++) expect(back.subarray(i * 3 * 65536, i * 3 * 65536 + 8).toString()).toBe(String(i).padStart(8, '0'));
    again.kill('SIGTERM');
    await ends(again);
    await image.check();
  });

  it('holds the device: a second process and any writer are refused by name', async () => {
    await image.start({ mount: { directory: image.mountPoint } });
    expect(await refusal(image.start({ exports: [] }))).toEqual({ code: 'DEVICE_BUSY', errno: 'EBUSY' });
    expect(await refusal(HostVolume.open({ device: image.image }))).toEqual({ code: 'DEVICE_BUSY', errno: 'EBUSY' });
    const link = path.join(image.directory, 'other-name');
    fs.symlinkSync(image.image, link);
    const control = await connectVolumeProcess(link);
    expect((await control.status()).mount).toBe(image.mountPoint);
    control.close();
  });

  it('says by name why it cannot start, and leaves nothing behind', async () => {
    expect(await refusal(image.start({ mount: { directory: path.join(image.directory, 'missing') } }))).toEqual({ code: 'FUSE_MOUNTPOINT', errno: 'ENOENT' });
    expect(await refusal(image.start({ exports: [{ path: '/none.raw' }] }))).toMatchObject({ code: 'NOT_FOUND' });
    expect(await refusal(image.start({ exports: [{ path: '/lost+found' }] }))).toMatchObject({ code: 'NOT_A_FILE' });
    expect(await refusal(connectVolumeProcess(image.image))).toMatchObject({ code: 'NO_VOLUME_PROCESS' });
    const empty = path.join(image.directory, 'empty');
    fs.writeFileSync(empty, Buffer.alloc(1 << 20));
    expect(await refusal(startVolumeProcess({ device: empty }))).toMatchObject({ code: 'NOT_OCFS2' });
    expect(await refusal(startVolumeProcess({ device: `${empty}-not` }))).toMatchObject({ code: 'DEVICE_MISSING' });
    await image.check();
  });

  it('control: exports come and go, disks are made, listed, resized and removed beside a mount that sees it', async () => {
    const one = await image.start({ mount: { directory: image.mountPoint } });
    const control = await image.connect();
    await expect(fsp.stat(path.join(image.mountPoint, 'a.raw'))).rejects.toMatchObject({ code: 'ENOENT' }); // the kernel keeps that it is not there
    const seen: number[] = [];
    const disk = await control.createDisk('/a.raw', { size: 100 << 20, allocation: 'thick-zeroed', progress: (done) => seen.push(done) });
    expect(disk).toMatchObject({ path: '/a.raw', size: 100 << 20, allocated: 100 << 20 });
    expect(seen.at(-1)).toBe(100 << 20);
    expect((await fsp.stat(path.join(image.mountPoint, 'a.raw'))).size).toBe(100 << 20);
    const facts = await control.diskInfo('/a.raw');
    expect(facts).toMatchObject({ written: 100 << 20, shared: 0 });
    expect(facts.extents.length).toBeLessThan(5);
    await control.createDisk('/b.raw', { size: 64 << 20, allocation: 'thin' });
    expect(await control.diskInfo('/b.raw')).toMatchObject({ allocated: 0, written: 0, extents: [] });
    await control.createDisk('/c.raw', { size: 64 << 20, allocation: 'thick-unwritten' });
    expect(await control.diskInfo('/c.raw')).toMatchObject({ allocated: 64 << 20, written: 0 });
    expect((await control.listDisks()).map((one_) => one_.path)).toEqual(['/a.raw', '/b.raw', '/c.raw']);
    expect(await refusal(control.createDisk('/b.raw', { size: 4096, allocation: 'thin' }))).toMatchObject({ errno: 'EEXIST' });
    expect(await refusal(control.createDisk('/d.raw', { size: 4097, allocation: 'thin' }))).toMatchObject({ code: 'DISK_SIZE' });
    expect(await refusal(control.createDisk('/d.raw', { size: 4 * 2 ** 30, allocation: 'thick-unwritten' }))).toMatchObject({ errno: 'ENOSPC' });
    expect((await control.listDisks()).length).toBe(3);
    const exported = await control.addExport({ path: '/b.raw' });
    expect(exported).toMatchObject({ name: 'b.raw', size: 64 << 20, connections: 0 });
    expect(fs.statSync(exported.socket!).mode & 0o777).toBe(0o600);
    expect(await refusal(control.addExport({ path: '/b.raw' }))).toMatchObject({ code: 'EXPORT_EXISTS' });
    expect(await refusal(control.removeDisk('/b.raw'))).toMatchObject({ code: 'DISK_EXPORTED' });
    expect(await refusal(control.resizeDisk('/b.raw', 32 << 20, { shrink: true }))).toMatchObject({ code: 'DISK_EXPORTED' });
    expect(await refusal(control.resizeDisk('/a.raw', 32 << 20))).toMatchObject({ code: 'DISK_SHRINK' });
    await expect(fsp.truncate(path.join(image.mountPoint, 'b.raw'), 4096)).rejects.toMatchObject({ code: 'ETXTBSY' });
    await control.resizeDisk('/b.raw', 128 << 20);
    expect((await fsp.stat(path.join(image.mountPoint, 'b.raw'))).size).toBe(128 << 20);
    await control.removeExport('b.raw');
    expect(fs.existsSync(exported.socket!)).toBe(false);
    await control.removeDisk('/b.raw');
    await expect(fsp.stat(path.join(image.mountPoint, 'b.raw'))).rejects.toMatchObject({ code: 'ENOENT' });
    expect((await control.status()).exports).toEqual([]);
    await control.stop();
    expect(await ends(one)).toEqual({ code: 0, signal: null });
    expect(logOf(one)).toBe('');
    await image.check();
  });

  it('control: nonsense ends the connection and harms nothing', async () => {
    await image.start({ mount: { directory: image.mountPoint } });
    const [socket] = fs.readdirSync(path.join(image.directory, 'run')).filter((name) => name.endsWith('.control'));
    for (const junk of ['\n', '{}\n', '[1,2\n', '{"id":"x","method":"stop"}\n', Buffer.alloc(5000, 0xff)]) {
      const peer = createConnection(path.join(image.directory, 'run', socket));
      const closed = new Promise((resolve) => { peer.on('error', () => undefined).on('close', resolve); });
      peer.write(junk);
      if (Buffer.isBuffer(junk)) peer.end();
      peer.resume();
      await closed;
    }
    const control = await image.connect();
    for (const [method, params] of [['status', { x: 1 }], ['export', {}], ['export', { path: 5 }], ['disk.create', { path: '/x', size: 1.5, allocation: 'thin' }], ['toString', {}]] as const) {
      const peer = createConnection(path.join(image.directory, 'run', socket));
      const answer = await new Promise<string>((resolve) => {
        peer.once('data', (chunk) => resolve(chunk.toString()));
        peer.write(`${JSON.stringify({ id: 1, method, params })}\n`);
      });
      peer.destroy();
      expect(answer).toContain(method === 'status' ? '"result"' : method === 'toString' ? 'CONTROL_METHOD' : 'CONTROL_PARAMS');
    }
    expect((await control.status()).exports).toEqual([]);
    control.close();
  });

  it('without a mount it lives as long as it has an export; an umount with exports ends the mount alone', async () => {
    const first = await image.start({ mount: { directory: image.mountPoint } });
    const control = await image.connect();
    await control.createDisk('/d.raw', { size: 16 << 20, allocation: 'thin' });
    const { uri } = await control.addExport({ path: '/d.raw' });
    await must('umount', [image.mountPoint]);
    await must('qemu-io', ['-f', 'raw', '-c', 'write -P 7 0 1M', '-c', 'flush', uri]);
    expect(await control.status()).toMatchObject({ exports: [{ name: 'd.raw' }] });
    await control.removeExport('d.raw');
    expect(await ends(first)).toEqual({ code: 0, signal: null });
    await image.check();
    const second = await image.start({ exports: [{ path: '/d.raw', readOnly: true, name: 'look' }] });
    const look = second.facts.exports[0];
    expect(look.readOnly).toBe(true);
    await must('qemu-io', ['-r', '-f', 'raw', '-c', 'read -P 7 0 1M', look.uri]);
    second.kill('SIGTERM');
    expect(await ends(second)).toEqual({ code: 0, signal: null });
    await image.check();
  });

  it('--trace prints every message, in the foreground, and a read-only mount refuses changes', async () => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', `
import { startVolumeProcess } from '@lunfs/host';
const one = await startVolumeProcess({ device: process.argv[1], readOnly: true, foreground: true, mount: { directory: process.argv[2], trace: true } });
console.log('ready', one.pid);
process.exitCode = (await one.exited).code;
`, image.image, image.mountPoint], { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => { said += chunk.toString(); });
    child.stderr.on('data', (chunk: Buffer) => { said += chunk.toString(); });
    const over = new Promise<number | null>((resolve) => { child.once('close', resolve); });
    cleanup.add(() => void child.kill('SIGKILL'));
    while (!said.includes('ready')) await new Promise((resolve) => setTimeout(resolve, 20));
    cleanup.add(() => void exec('umount', ['-l', image.mountPoint]));
    expect(await must('ls', [image.mountPoint])).toBe('lost+found\n');
    expect((await exec('touch', [path.join(image.mountPoint, 'x')])).stderr).toContain('Read-only file system');
    await must('umount', [image.mountPoint]);
    expect(await over).toBe(0);
    for (const op of ['INIT', 'OPENDIR', 'READDIR', 'GETATTR']) expect(said).toContain(op);
  });
});
