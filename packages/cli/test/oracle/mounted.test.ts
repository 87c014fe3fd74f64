/** The command around a mount: what goes through it, what is refused beside it, and how it ends. */
import { execFile, spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { KNOWN_FALSE_POSITIVES, mustBeClean } from '../../../../test/support/ocfs2-tools.js';
import { lunfsIn } from '../support/cli.js';

const MIB = 2 ** 20;
const run = promisify(execFile);
const cli = lunfsIn('mounted');
const inside = (name: string) => path.join(cli.directory, name);
const mountPoint = inside('mnt');

/** One of `lunfs quota report --json`. */
interface Report {
  readonly type: string;
  readonly records: readonly { readonly id: number; readonly space: number; readonly inodes: number; readonly spaceHard: number; readonly inodeSoft: number }[];
}


beforeAll(async () => {
  fs.mkdirSync(mountPoint);
  await cli.volume('lun.img', 1024 * MIB, '-L', 'mounted');
});
afterAll(async () => {
  await cli.run(['umount', '-f', 'lun.img']);
  cli.end();
});

it('mounts, serves disks through the process, refuses the device by name, and unmounts', { timeout: 180_000 }, async () => {
  await cli.must('mount', 'lun.img', 'mnt');
  fs.writeFileSync(path.join(mountPoint, 'file'), 'through the mount');
  expect(await cli.json('info', 'lun.img')).toMatchObject({ inUse: { mount: mountPoint, exports: [] } });
  expect((await cli.must('df', 'lun.img')).split('\n')[1]).toContain(mountPoint);
  for (const args of [['ls', 'lun.img'], ['cat', 'lun.img:/file'], ['rm', 'lun.img:/file'], ['cp', 'lun.img:/file', 'x'], ['stat', 'lun.img:/file']]) {
    expect(await cli.run(args)).toMatchObject({ code: 1, stderr: expect.stringContaining(`it is mounted on ${mountPoint}`) as unknown });
  }
  expect(await cli.run(['check', 'lun.img'])).toMatchObject({ code: 8 });
  expect(await cli.run(['mkfs', '-F', 'lun.img'])).toMatchObject({ code: 1 });
  expect(await cli.run(['mount', 'lun.img', 'mnt'])).toMatchObject({ code: 32, stderr: expect.stringContaining('mounted on') as unknown });

  const { lines } = await cli.json<{ lines: { qemuCommand: string } }>('disk', 'create', 'lun.img:/vm.raw', '64M');
  expect(lines.qemuCommand).toContain(path.join(mountPoint, 'vm.raw'));
  expect(fs.statSync(path.join(mountPoint, 'vm.raw')).size).toBe(64 * MIB);
  const { uri } = await cli.json<{ uri: string }>('disk', 'export', 'lun.img:/vm.raw');
  expect((await run('nbdinfo', ['--size', uri])).stdout.trim()).toBe(String(64 * MIB));
  await run('qemu-io', ['-f', 'raw', '-c', 'write -P 0x5a 1M 2M', '-c', 'flush', uri]);
  const bytes = fs.readFileSync(path.join(mountPoint, 'vm.raw'));
  expect([bytes[MIB - 1], bytes[MIB], bytes[3 * MIB - 1], bytes[3 * MIB]]).toEqual([0, 0x5a, 0x5a, 0]);
  expect(await cli.must('disk', 'ls', 'lun.img')).toContain(uri);
  // Free space goes back to the image while all of it is in use.
  fs.writeFileSync(path.join(mountPoint, 'goes'), Buffer.alloc(16 * MIB, 7));
  fs.rmSync(path.join(mountPoint, 'goes'));
  const before = fs.statSync(inside('lun.img')).blocks * 512;
  expect((await cli.json<{ bytes: number }>('trim', 'mnt')).bytes).toBeGreaterThan(16 * MIB);
  expect(before - fs.statSync(inside('lun.img')).blocks * 512).toBeGreaterThan(15 * MIB);
  expect(fs.readFileSync(path.join(mountPoint, 'vm.raw')).equals(bytes)).toBe(true);
  // The mount alone ends while an export goes on; the export ends the process.
  const { stderr } = await cli.run(['umount', 'mnt']);
  expect(stderr).toContain('1 export(s) go on');
  expect(fs.readdirSync(mountPoint)).toEqual([]);
  await cli.must('umount', 'lun.img');
  expect(await cli.must('cat', 'lun.img:/file')).toBe('through the mount');
  await mustBeClean(inside('lun.img'), KNOWN_FALSE_POSITIVES);
});

it('mounts read-only, and refuses what is no mount point', async () => {
  await cli.must('mount', '-o', 'ro,noatime', 'lun.img', 'mnt');
  expect(() => fs.writeFileSync(path.join(mountPoint, 'new'), '')).toThrow('EROFS');
  expect(fs.readFileSync(path.join(mountPoint, 'file'), 'utf8')).toBe('through the mount');
  await cli.must('umount', 'mnt');
  expect(await cli.run(['umount', 'mnt'])).toMatchObject({ code: 1, stderr: expect.stringContaining('nothing of lunfs is mounted') as unknown });
  expect(await cli.run(['mount', 'lun.img', 'nowhere'])).toMatchObject({ code: 32, stderr: expect.stringContaining('make the directory first') as unknown });
});

it('unmounts although another mount namespace has a copy of the mount', { timeout: 180_000 }, async () => {
  await cli.must('mount', 'lun.img', 'mnt');
  const holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', 'echo holds; read -r word; cat "$0/file"; echo "says $?"', mountPoint], { cwd: '/', stdio: ['pipe', 'pipe', 'ignore'] });
  let said = '';
  holder.stdout.on('data', (chunk: Buffer) => { said += chunk.toString(); });
  const gone = new Promise<void>((resolve) => { holder.once('close', () => resolve()); });
  try {
    while (said !== 'holds\n') await new Promise((resolve) => { setTimeout(resolve, 50); });
    await cli.must('umount', 'mnt');
  } finally {
    holder.stdin.end('go\n');
    await gone;
  }
  expect(said).toBe('holds\nsays 1\n');
  await mustBeClean(inside('lun.img'), KNOWN_FALSE_POSITIVES);
});

it('keeps quota: limits set beside the mount stop a user of it, who sees EDQUOT', { timeout: 180_000 }, async () => {
  await cli.volume('quota.img', 100 * MIB, '--fs-features=usrquota,grpquota');
  const at = inside('limited');
  fs.mkdirSync(at);
  await cli.must('quota', 'set', 'quota.img', '-u', '4711', '--block-hard', '256K', '--inode-soft', '3');
  await cli.must('mount', 'quota.img', 'limited');
  fs.mkdirSync(path.join(at, 'theirs'));
  fs.chownSync(path.join(at, 'theirs'), 4711, 4712);
  // In the directory: the way to it is root's alone.
  const asUser = (command: string) => spawnSync('setpriv', ['--reuid=4711', '--regid=4712', '--clear-groups', 'sh', '-c', command], { cwd: path.join(at, 'theirs'), encoding: 'utf8' });
  expect(asUser('dd if=/dev/zero of=f bs=64k count=3 status=none')).toMatchObject({ status: 0, stderr: '' });
  expect(asUser('dd if=/dev/zero of=g bs=64k count=3 status=none').stderr).toContain('Disk quota exceeded');
  expect(asUser('dd if=/dev/zero of=h bs=64k count=1 status=none oflag=direct').stderr).toContain('Disk quota exceeded');
  fs.writeFileSync(path.join(at, 'theirs/g'), Buffer.alloc(300_000), { flag: 'r+' });
  const records = (reports: readonly Report[]) => reports.map(({ type, records: found }) => ({ type, ...found.find(({ id }) => id === (type === 'user' ? 4711 : 4712)) }));
  const used = records(await cli.json<Report[]>('quota', 'report', at));
  expect(used).toMatchObject([{ type: 'user', inodes: 4, spaceHard: 256 * 1024, inodeSoft: 3 }, { type: 'group', inodes: 4, spaceHard: 0 }]);
  expect(used[0].space).toBeGreaterThan(256 * 1024);
  await cli.must('quota', 'set', at, '-u', '4711', '--block-hard', '1M');
  expect(asUser('dd if=/dev/zero of=h bs=64k count=1 status=none')).toMatchObject({ status: 0, stderr: '' });
  expect(await cli.must('quota', 'grace', '-u', 'quota.img', '--inode', '2h')).toContain('2 h 00 min for inodes');
  await cli.must('umount', 'limited');
  expect(await cli.must('check', 'quota.img')).toContain('clean');
  expect(await cli.must('quota', 'report', '-u', 'quota.img')).toMatch(/4711 +-\+ /);
});
