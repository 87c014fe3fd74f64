/**
 * mount(8), umount(8) and lines of fstab with volumes of ours: real programs of util-linux, which find our helpers in /sbin. They do so in a mount name space of this
 * test, where that directory has them on top; nothing is installed on this machine.
 */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import path from 'node:path';
import type { ManagedFacts } from '@lunfs/host';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LunfsHost, type Ran, finish } from '../../../../test/support/lunfs-host.js';
import { lacks, mkfs, mustBeClean } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup, exec, loopDevice, tempDir } from '../../../../test/support/temp.js';

const BIN = path.resolve(import.meta.dirname, '../../bin');
const UUID = '3f2504e0-4f89-41d3-9a0c-0305e82c3302';

describe.skipIf(lacks('ocfs2-tools', 'fuse', 'loop'))('mount(8) and fstab', () => {
  const cleanup = new Cleanup();
  let directory: string;
  let image: string;
  let at: string;
  let other: string;
  let inside: (command: string, args: readonly string[]) => readonly string[];

  /** A command where the helpers are; `mount` or `umount` as a rule. */
  const run = (command: string, ...args: readonly string[]): Promise<Ran> => {
    const [program, ...rest] = inside(command, args);
    return finish(spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, LUNFS_RUN_DIR: path.join(directory, 'run') } }));
  };
  const fstab = (...lines: readonly string[]): string => {
    const file = path.join(directory, 'fstab');
    fs.writeFileSync(file, lines.map((line) => `${line}\n`).join(''));
    return file;
  };

  beforeAll(async () => {
    directory = tempDir(cleanup, 'helper');
    [at, other] = ['mnt', 'other'].map((name) => path.join(directory, name));
    for (const one of [at, other]) fs.mkdirSync(one);
    cleanup.add(async () => {
      await exec('chattr', ['-R', '-f', '-i', directory]);
    });
    image = path.join(directory, 'lun');
    await mkfs(image, { size: 256 << 20, blockSize: 4096, clusterSize: 4096, slots: 2, label: 'helped', extra: ['-U', UUID] });
    const links = path.join(directory, 'sbin');
    fs.mkdirSync(links);
    for (const name of ['mount.fuse.lunfs', 'umount.fuse.lunfs']) fs.symlinkSync(path.join(BIN, `${name}.cjs`), path.join(links, name));
    const sbin = fs.realpathSync('/sbin');
    const holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', `mount -t overlay overlay -o lowerdir=${links}:${sbin} ${sbin} && echo ready && read -r word`], { stdio: ['pipe', 'pipe', 'inherit'] });
    const over = new Promise<void>((resolve) => { holder.once('close', () => resolve()); });
    cleanup.add(async () => {
      for (const where of [at, other]) await run('umount', '-i', '-l', where);
      holder.stdin.end();
      await over;
    });
    await new Promise<void>((resolve, reject) => {
      holder.stdout.once('data', () => resolve());
      holder.once('close', () => reject(new Error('no mount name space with an overlay')));
    });
    inside = (command, args) => ['nsenter', '--target', String(holder.pid), '--mount', '--wd=/', command, ...args];
  }, 60_000);
  afterAll(() => cleanup.run(), 60_000);

  it('mounts by device, with OCFS2\'s options, says what it does otherwise; umount waits until the volume is closed', { timeout: 120_000 }, async () => {
    const options = '_netdev,noatime,errors=remount-ro,data=writeback,localalloc=16,atime_quantum=60,acl,user_xattr,coherency=full,commit=5,nointr';
    const mounted = await run('mount', '-t', 'fuse.lunfs', '-o', options, image, at);
    expect(mounted).toMatchObject({ code: 0 });
    for (const name of ['data=writeback', 'localalloc=16', 'atime_quantum=60', 'commit=5', 'nointr']) expect(mounted.stderr).toContain(`-o ${name} is not honoured: `);
    expect(mounted.stderr).not.toMatch(/errors|acl|user_xattr|coherency|noatime|_netdev/);
    expect((await run('findmnt', '-n', '-o', 'FSTYPE,OPTIONS', at)).stdout).toMatch(/^fuse\.lunfs +.*noatime/);
    expect((await run('touch', `${at}/file`)).code).toBe(0);
    expect(await run('umount', at)).toMatchObject({ code: 0, stderr: '' });
    await mustBeClean(image);
    // Nobody writes below, also when the volume is away (packages/host/test/oracle/mount-point.test.ts).
    expect((await run('touch', `${at}/file`)).code).not.toBe(0);
  });

  it('refuses with mount(8)\'s exit codes', { timeout: 120_000 }, async () => {
    const mount = (options: string, ...args: readonly string[]): Promise<Ran> => run('mount', '-t', 'fuse.lunfs', '-o', options, ...args);
    expect(await mount('errors=explode', image, at)).toMatchObject({ code: 1, stderr: expect.stringContaining('OCFS2 has no such value of errors') as string });
    expect(await mount('nonsense', image, at)).toMatchObject({ code: 1, stderr: expect.stringContaining('-o nonsense: no such option') as string });
    expect(await run('mount', '-s', '-f', '-t', 'fuse.lunfs', '-o', 'nonsense', image, at)).toMatchObject({ code: 0 });
    expect(await mount('rw', path.join(directory, 'nothing'), at)).toMatchObject({ code: 32 });
    expect(await mount('rw', image, path.join(directory, 'nowhere'))).toMatchObject({ code: expect.any(Number) as number });
    expect((await run('findmnt', '-n', at)).stdout).toBe('');
  });

  it('mount -a with a line by UUID=, and a line by LABEL= for a directory alone; busy is told', { timeout: 180_000 }, async () => {
    const unwind = new Cleanup();
    try {
      const device = await loopDevice(unwind, image);
      const table = fstab(`UUID=${UUID} ${at} fuse.lunfs _netdev,noatime,errors=remount-ro 0 0`, `LABEL=helped ${other} fuse.lunfs ro,noauto 0 0`);
      expect(await run('mount', '-a', '-T', table)).toMatchObject({ code: 0 });
      expect((await run('findmnt', '-n', '-o', 'SOURCE', at)).stdout.trim()).toBe(device);
      expect((await run('sh', '-c', `test -e ${at}/file`)).code).toBe(0);
      expect(await run('mount', '-a', '-T', table)).toMatchObject({ code: 0 }); // it is mounted
      const [program, ...args] = inside('sh', ['-c', `exec 3> ${at}/held; echo held; read -r word`]);
      const busy = spawn(program, args, { stdio: ['pipe', 'pipe', 'ignore'] });
      const over = new Promise<void>((resolve) => { busy.once('close', () => resolve()); });
      await new Promise<void>((resolve) => { busy.stdout.once('data', () => resolve()); });
      expect(await run('umount', at)).toMatchObject({ code: 32, stderr: expect.stringContaining('is in use') as string });
      busy.stdin.end();
      await over;
      expect(await run('umount', at)).toMatchObject({ code: 0 });
      expect(await run('mount', '-T', table, other)).toMatchObject({ code: 0 });
      expect((await run('sh', '-c', `test -e ${other}/file && ! touch ${other}/new`)).code).toBe(0);
      expect(await run('umount', other)).toMatchObject({ code: 0 });
    } finally {
      await unwind.run();
    }
    await mustBeClean(image);
  });

  it('a volume of a cluster goes through lunfsd, for this boot', { timeout: 300_000 }, async () => {
    const shared = path.join(directory, 'shared');
    await mkfs(shared, { size: 256 << 20, blockSize: 4096, clusterSize: 4096, slots: 2, cluster: 'ocfs2' });
    const table = fstab(`${shared} ${other} fuse.lunfs _netdev 0 0`);
    expect(await run('mount', '-T', table, other)).toMatchObject({ code: 32, stderr: expect.stringContaining('lunfsd is not running on this host') as string });
    const node = { number: 1, name: 'helper', address: '127.0.97.1', port: 7797 };
    const host = new LunfsHost(cleanup, { name: 'ocfs2', nodes: [node], settings: { threshold: 7, idleMs: 5000 } }, node, shared, (command, args, options) => {
      const [program, ...rest] = inside(command, args);
      return spawn(program, rest, options);
    });
    await host.up();
    const mount = (): Promise<Ran> => {
      const [program, ...rest] = inside('mount', ['-a', '-T', table]);
      return finish(spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, LUNFS_RUN_DIR: host.data } }));
    };
    expect(await mount()).toMatchObject({ code: 0, stderr: '' });
    expect(await host.json<ManagedFacts[]>('status')).toMatchObject([{ directory: other, state: 'mounted' }]);
    expect(JSON.parse(fs.readFileSync(path.join(host.data, 'state/mounts.json'), 'utf8'))).toMatchObject({ mounts: [{ directory: other, seal: true, boot: fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim() }] });
    const [program, ...rest] = inside('umount', [other]);
    expect(await finish(spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, LUNFS_RUN_DIR: host.data } }))).toMatchObject({ code: 0, stderr: '' });
    await expect.poll(() => host.json<ManagedFacts[]>('status'), { timeout: 60_000 }).toEqual([]);
    await host.must('down');
    await mustBeClean(shared);
  });
});
