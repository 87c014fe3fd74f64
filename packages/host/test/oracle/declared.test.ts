/**
 * What is mounted comes back: after the death of lunfsd, after a reboot, when its device has another name, when its device comes later than lunfsd; and what was
 * unmounted does not. One host of ours on this machine, with two volumes on loop devices.
 */
import * as fs from 'node:fs';
import path from 'node:path';
import type { ManagedFacts } from '@lunfs/host';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LunfsHost } from '../../../../test/support/lunfs-host.js';
import { lacks, mkfs, mustBeClean } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup, must, tempDir } from '../../../../test/support/temp.js';

describe.skipIf(lacks('ocfs2-tools', 'fuse', 'loop'))('declared mounts', () => {
  const cleanup = new Cleanup();
  let images: string[];
  let host: LunfsHost;
  let other: string;
  let state: string;

  beforeAll(async () => {
    const directory = tempDir(cleanup, 'declared');
    images = ['first', 'second'].map((name) => path.join(directory, name));
    for (const image of images) await mkfs(image, { size: 256 << 20, blockSize: 4096, clusterSize: 4096, slots: 2, cluster: 'ocfs2' });
    cleanup.add(async () => {
      for (const image of images) await detach(image);
    });
    const node = { number: 1, name: 'alone', address: '127.0.96.1', port: 7796 };
    host = new LunfsHost(cleanup, { name: 'ocfs2', nodes: [node], settings: { threshold: 7, idleMs: 5000 } }, node, await attach(images[0]));
    other = path.join(host.directory, 'other');
    fs.mkdirSync(other);
    state = path.join(host.data, 'state/mounts.json');
  }, 120_000);
  afterAll(() => cleanup.run(), 120_000);

  const attach = async (image: string): Promise<string> => (await must('losetup', ['--find', '--show', '--direct-io=on', image])).trim();
  /** Its last user may have only just ended. */
  const detach = async (image: string): Promise<void> => {
    for (const line of (await must('losetup', ['--associated', image, '--noheadings', '--output', 'NAME'])).split('\n').filter(Boolean)) await must('losetup', ['--detach', line.trim()]);
    while ((await must('losetup', ['--associated', image])) !== '') await new Promise((resolve) => { setTimeout(resolve, 100); });
  };
  const status = (): Promise<ManagedFacts[]> => host.json<ManagedFacts[]>('status');
  const mounted = (directories: readonly string[]): Promise<void> =>
    expect.poll(async () => (await status()).filter((one) => one.state === 'mounted').map(({ directory }) => directory).sort(), { timeout: 180_000, interval: 500 }).toEqual([...directories].sort());
  /** The host's power is cut: not even what cleans up after the dead is left. */
  const kill = async (): Promise<void> => {
    for (const pid of await host.processes()) process.kill(pid, 'SIGKILL');
    await expect.poll(() => host.processes(), { timeout: 30_000 }).toEqual([]);
  };

  it('come back after SIGKILL of everything, over the dead mounts, by devices of other names', { timeout: 300_000 }, async () => {
    await host.up();
    const second = await attach(images[1]);
    await Promise.all([host.mountVolume(), host.must('mount', '--no-persist', '-o', 'noatime', second, other)]);
    await host.do('echo first > $M/file; sync $M/file');
    await kill();
    expect((await host.sh('ls $M')).stderr).toMatch(/Transport endpoint is not connected/);
    // Each image gets the loop device that the other one had.
    await must('umount', ['-i', '-l', other]);
    for (const image of images) await detach(image);
    const [swapped] = [await attach(images[1]), await attach(images[0])];
    await host.up();
    await mounted([host.mount, other]);
    expect((await status()).find(({ directory }) => directory === other)).toMatchObject({ device: swapped });
    expect(await host.do('cat $M/file')).toBe('first\n');
    expect(await must('findmnt', ['-n', '-o', 'OPTIONS', other])).toContain('noatime');
    expect((await must('findmnt', ['-n', '-o', 'TARGET', '-t', 'fuse.lunfs'])).split('\n').filter((line) => line.includes(host.mount))).toHaveLength(1);
  });

  it('come back after a reboot, but not what was for one boot; one that has no device keeps nobody waiting', { timeout: 300_000 }, async () => {
    await host.must('down');
    // What it says of this boot was said of an earlier one.
    fs.writeFileSync(state, fs.readFileSync(state, 'utf8').replaceAll(fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(), '0'));
    await detach(images[0]);
    await host.up();
    expect(await status()).toMatchObject([{ directory: host.mount, state: 'awaited', uuid: expect.stringMatching(/^[0-9A-F]{32}$/) as string }]);
    await expect.poll(async () => (await status())[0].reason, { timeout: 60_000 }).toMatch(/no device of this host carries the volume .* attach the LUN/);
    const second = await attach(images[1]);
    expect(await host.run('mount', second, host.mount)).toMatchObject({ code: 32, stderr: expect.stringContaining('no device of this host carries the volume') as string });
    const elsewhere = await attach(images[0]);
    // It comes back by itself; who mounts it by hand hurries it, and may come too late.
    await Promise.all([host.must('mount', second, other), host.run('mount', elsewhere, host.mount)]);
    await mounted([host.mount, other]);
    expect(await host.do('cat $M/file')).toBe('first\n');
    expect((await status()).find(({ directory }) => directory === host.mount)?.device).toBe(elsewhere);
  });

  it('rest until the next boot after umount(8), and are forgotten by lunfs umount; a broken file stops lunfsd by name', { timeout: 300_000 }, async () => {
    await must('umount', [host.mount]);
    await host.must('umount', other);
    const rests = { directory: host.mount, state: 'unmounted', reason: expect.stringContaining('next boot') as string };
    await expect.poll(status, { timeout: 60_000 }).toMatchObject([rests]);
    await host.must('down');
    const whole = JSON.parse(fs.readFileSync(state, 'utf8')) as { mounts: object[] };
    const text = JSON.stringify({ ...whole, mounts: [...whole.mounts, { uuid: '0123456789ABCDEF0123456789ABCDEF', device: '/dev/no-such', directory: other, allowOther: true, seal: false, options: [] }] });
    fs.writeFileSync(state, text.slice(0, -1));
    await expect(host.up()).rejects.toThrow(`${state}, which says what this host is to have mounted, is broken`);
    fs.writeFileSync(state, text);
    await host.up();
    expect(await status()).toMatchObject([{ directory: other, state: 'awaited' }, rests]);
    await host.must('umount', other);
    expect(await status()).toMatchObject([rests]);
    await host.must('umount', host.mount);
    expect(await host.run('umount', host.mount)).toMatchObject({ code: 1, stderr: expect.stringContaining('nothing of lunfs is mounted') as string });
    expect(await status()).toEqual([]);
    await host.must('down');
    for (const image of images) await mustBeClean(image);
  });
});
