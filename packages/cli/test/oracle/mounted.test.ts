/** The command around a mount: what goes through it, what is refused beside it, and how it ends. */
import { execFile } from 'node:child_process';
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

beforeAll(async () => {
  fs.mkdirSync(mountPoint);
  await cli.volume('lun.img', 1024 * MIB, '-L', 'mounted');
});
afterAll(async () => {
  await cli.run(['umount', '-f', 'lun.img']);
  cli.end();
});

it('mounts, serves disks through the process, refuses the device by name, and unmounts', async () => {
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
