import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { provenAccel } from '../../scripts/lib/machine/machine.mjs';
import { KernelNode, MachineDown, makeGuestDisk, singleNodeCluster, startGuest } from '../support/machines.js';
import { debugfsStat, mkfs, mustBeClean } from '../support/ocfs2-tools.js';
import { Cleanup, loopDevice, must, sparseFile, tempDir } from '../support/temp.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());
const directory = tempDir(cleanup, 'machines');

test('a kernel node mounts a local volume, exchanges trees with this host, and leaves a clean volume', { timeout: 240_000 }, async () => {
  const image = path.join(directory, 'local.img');
  await mkfs(image, { size: 256 << 20, blockSize: 4096, clusterSize: 4096, features: 'metaecc' });
  const node = await KernelNode.start(cleanup, { disks: [image] });
  console.log(`kernel node booted in ${(node.machine.bootMs / 1000).toFixed(1)} s`);
  const uptime = async (): Promise<number> => Number((await node.must('cat /proc/uptime')).split(' ')[0]);
  const begun = performance.now(), first = await uptime();
  await node.mount('/dev/vda', '/mnt/lun');

  const input = randomBytes(100_000);
  expect(await node.run('cat > /mnt/lun/bytes; sha256sum < /mnt/lun/bytes; echo no >&2; exit 5', { input })).toMatchObject({ status: 5, stderr: 'no\n', stdout: expect.stringMatching(/^[0-9a-f]{64} {2}-\n$/) as string });
  const both = await Promise.all([node.must('sleep 0.5; echo slow'), node.must('echo fast')]);
  expect(both).toEqual(['slow\n', 'fast\n']);

  const tree = path.join(directory, 'tree');
  fs.mkdirSync(path.join(tree, 'sub'), { recursive: true });
  fs.writeFileSync(path.join(tree, 'sub/file'), input, { mode: 0o640 });
  fs.symlinkSync('sub/file', path.join(tree, 'link'));
  sparseFile(path.join(tree, 'sparse'), 50 << 20);
  await node.must('mkdir /mnt/lun/tree');
  await node.putTree(tree, '/mnt/lun/tree');
  expect(await node.must('cd /mnt/lun/tree; stat -c "%n %a %s" sub/file sparse; readlink link; cmp link ../bytes && echo same; du -k sparse')).toBe(
    'sub/file 640 100000\nsparse 600 52428800\nsub/file\nsame\n0\tsparse\n');
  const back = path.join(directory, 'back');
  fs.mkdirSync(back);
  await node.getTree('/mnt/lun/tree', back);
  expect(await must('diff', ['-r', '--no-dereference', tree, back])).toBe('');

  // What the scripts of the other suites call is there and runs on OCFS2.
  await node.must(`cd /mnt/lun && git init -q repo && cd repo && git config user.email a@b && git config user.name a && cp -r ../tree . && git add . && git commit -q -m one && git fsck --strict && git clone -q . ../clone && diff -r tree ../clone/tree`);
  expect(await node.must(`cd /mnt/lun && sqlite3 base.db 'pragma journal_mode=wal; create table t(a); insert into t values(1),(2); select sum(a) from t'`)).toBe('wal\n3\n');
  await node.must('cd /mnt/lun && fio --name=job --filename=fio --size=4M --bs=64k --rw=randwrite --verify=crc32c --ioengine=psync --direct=1 --output=/tmp/fio');
  expect(await node.must(`cd /mnt/lun && setfattr -n user.a -v value bytes && getfattr --only-values -n user.a bytes && setfacl -m u:alice:r bytes && getfacl -c bytes | grep alice`)).toBe('valueuser:alice:r--\n');

  // Its clock does not depend on what was measured while it booted, and is not fast.
  if ((await provenAccel()) === 'tcg') expect(await node.must('cat /sys/devices/system/clocksource/clocksource0/current_clocksource')).toBe('acpi_pm\n');
  expect(await uptime() - first).toBeLessThan(((performance.now() - begun) / 1000) * 1.01 + 0.05);

  await node.umount('/mnt/lun');
  await node.shutdown();
  await mustBeClean(image);
  expect((await debugfsStat(image, '/bytes')).fields.get('Size')).toBe('100000');
});

test('a kernel node mounts a volume of a cluster; cut power leaves its journal dirty and a command that ran fails', { timeout: 240_000 }, async () => {
  const image = path.join(directory, 'cluster.img');
  await mkfs(image, { size: 256 << 20, blockSize: 4096, clusterSize: 4096, slots: 2, cluster: 'testing' });
  const node = await KernelNode.start(cleanup, { disks: [image], cluster: singleNodeCluster('testing') });
  await node.mount('/dev/vda', '/mnt/lun');
  await node.must('mkdir /mnt/lun/a && echo content > /mnt/lun/a/b && sync');
  await node.umount('/mnt/lun');
  await node.shutdown();
  await mustBeClean(image);

  const again = await KernelNode.start(cleanup, { disks: [image], cluster: singleNodeCluster('testing') });
  await again.mount('/dev/vda', '/mnt/lun');
  expect(await again.must('cat /mnt/lun/a/b')).toBe('content\n');
  await again.must('echo late > /mnt/lun/a/c; sync');
  const hanging = again.run('sleep 1000');
  await again.kill();
  await expect(hanging).rejects.toThrow(MachineDown);
  await expect(again.run('true')).rejects.toThrow(MachineDown);
  expect(again.machine.running).toBe(false);
  await expect(mustBeClean(image)).rejects.toThrow(/fsck/);
});

test('a volume that its kernel finds damaged fails the shutdown', { timeout: 240_000 }, async () => {
  const image = path.join(directory, 'damaged.img');
  await mkfs(image, { size: 128 << 20, blockSize: 4096, clusterSize: 4096, features: 'metaecc' });
  const root = Number((await debugfsStat(image, '/')).fields.get('Inode'));
  const file = fs.openSync(image, 'r+');
  fs.writeSync(file, randomBytes(64), 0, 64, root * 4096 + 1024); // in the root directory's dinode
  fs.closeSync(file);
  const node = await KernelNode.start(cleanup, { disks: [image] });
  await expect(node.mount('/dev/vda', '/mnt/lun')).rejects.toThrow(/ocfs2/i);
  await expect(node.shutdown()).rejects.toThrow(/complained/);
  expect(node.machine.running).toBe(false);
});

test('a kernel node takes a loop device with 4096-byte sectors', { timeout: 240_000 }, async () => {
  const image = sparseFile(path.join(directory, 'loop.img'), 128 << 20);
  const device = await loopDevice(cleanup, image, { sectorSize: 4096 });
  await mkfs(device, { blockSize: 4096, clusterSize: 4096 });
  const node = await KernelNode.start(cleanup, { disks: [{ file: device, sectorSize: 4096 }] });
  expect(await node.must('cat /sys/block/vda/queue/logical_block_size')).toBe('4096\n');
  await node.mount('/dev/vda', '/mnt/lun');
  await node.must('echo content > /mnt/lun/file');
  await node.shutdown(); // unmounts
  await mustBeClean(device);
});

test('a guest boots from its own disk, survives cut power with what it synced, and is powered off cleanly', { timeout: 240_000 }, async () => {
  const file = await makeGuestDisk(path.join(directory, 'guest.img'));
  const guest = await startGuest(cleanup, { file });
  console.log(`guest booted in ${(guest.bootMs / 1000).toFixed(1)} s`);
  await guest.must('head -c 20M /dev/urandom > /data && sha256sum /data > /data.sum && sync');
  await guest.kill();

  // The second time over NBD, as from an export of ours.
  const socket = path.join(directory, 'nbd.sock');
  const server = spawn('qemu-nbd', ['--format=raw', '--persistent', `--socket=${socket}`, '--export-name=disk', file], { stdio: 'inherit' });
  cleanup.add(() => { server.kill('SIGKILL'); });
  while (!fs.existsSync(socket)) await new Promise((resolve) => setTimeout(resolve, 20));
  const again = await startGuest(cleanup, { nbd: { socket, exportName: 'disk' } });
  expect(await again.must('sha256sum -c /data.sum')).toBe('/data: OK\n');
  await again.shutdown();
  expect(again.running).toBe(false);
  server.kill('SIGTERM');
  await once(server, 'exit');
  expect(await must('e2fsck', ['-fn', file])).toMatch(/clean|files/);
});
