/**
 * What lunfsd sees to before a volume is used: global heartbeat (the regions of cluster.conf beat from `lunfs up` on), the watchdog, one incarnation
 * at a time, and that a device is not there twice. Two hosts of ours on this machine, with a loop device each.
 */
import * as fs from 'node:fs';
import path from 'node:path';
import type { ClusterFacts } from '@lunfs/host';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LunfsHost } from '../../../../test/support/lunfs-host.js';
import { lacks, mkfs, mustBeClean } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup, loopDevice, must, tempDir } from '../../../../test/support/temp.js';

const REGION = '3F2504E04F8941D39A0C0305E82C3301';

describe.skipIf(lacks('ocfs2-tools', 'fuse', 'loop'))('global heartbeat, two hosts', () => {
  const cleanup = new Cleanup();
  let directory: string;
  let image: string;
  let watchdog: string;
  let one: LunfsHost;
  let two: LunfsHost;

  beforeAll(async () => {
    directory = tempDir(cleanup, 'membership');
    image = path.join(directory, 'lun');
    watchdog = path.join(directory, 'watchdog');
    fs.writeFileSync(watchdog, '');
    const region = path.join(directory, 'region');
    const options = { size: 256 << 20, blockSize: 4096, clusterSize: 4096, slots: 2, cluster: 'ocfs2', extra: ['--global-heartbeat'] };
    await mkfs(region, { ...options, extra: [...options.extra, '-U', REGION] });
    await mkfs(image, options);
    const nodes = [{ number: 1, name: 'one', address: '127.0.95.1', port: 7795 }, { number: 2, name: 'two', address: '127.0.95.2', port: 7795 }];
    const cluster = { name: 'ocfs2', heartbeat: 'global' as const, regions: [REGION], nodes, settings: { threshold: 7, idleMs: 5000 } };
    const devices = [await loopDevice(cleanup, image), await loopDevice(cleanup, image)];
    [one, two] = nodes.map((node, i) => new LunfsHost(cleanup, cluster, node, devices[i]));
    fs.appendFileSync(path.join(one.directory, 'o2cb'), `LUNFS_WATCHDOG=${watchdog}\n`);
    expect(await one.run(...up()))
      .toMatchObject({ code: 1, stderr: expect.stringContaining(`no device of this host carries the volume ${REGION}`) as string });
    await loopDevice(cleanup, region);
  }, 180_000);
  afterAll(() => cleanup.run(), 120_000);

  const up = (): string[] => ['up', '--node', 'one', '--config', path.join(one.directory, 'cluster.conf'), '--settings', path.join(one.directory, 'o2cb')];
  const status = (host: LunfsHost): Promise<ClusterFacts> => host.json<ClusterFacts>('cluster', 'status');

  it('the regions beat before anything is mounted, and the watchdog is fed', { timeout: 300_000 }, async () => {
    await Promise.all([one.up(), two.up()]);
    await expect.poll(async () => (await status(one)).regions, { timeout: 60_000, interval: 500 }).toMatchObject([{ name: REGION, state: 'steady', quorum: true, live: [{ node: 1 }, { node: 2 }] }]);
    expect((await status(one)).volumes).toEqual([]);
    expect(await one.run(...up())).toMatchObject({ code: 1, stderr: expect.stringContaining('lunfsd runs on this host already') as string });
    await expect.poll(() => fs.statSync(watchdog).size, { timeout: 30_000 }).toBeGreaterThan(1);
    expect([...new Set(fs.readFileSync(watchdog))]).toEqual([0]);
    expect(one.logs()).toContain('is no watchdog that this kernel tells of');
  });

  it('a copy of the volume on this host is refused by name', { timeout: 300_000 }, async () => {
    const copy = path.join(directory, 'copy');
    fs.copyFileSync(image, copy);
    const device = (await must('losetup', ['--find', '--show', copy])).trim();
    try {
      expect(await one.run('mount', one.device, one.mount)).toMatchObject({ code: 32, stderr: expect.stringMatching(new RegExp(`${one.device} and ${device} carry the same volume UUID .*tunefs.ocfs2 -U`)) as string });
    } finally {
      await must('losetup', ['--detach', device]);
    }
  });

  it('a volume that is no region is shared; it beats nowhere of its own', { timeout: 300_000 }, async () => {
    await Promise.all([one.mountVolume(), two.mountVolume()]);
    expect(await status(one)).toMatchObject({ heartbeatMode: 'global', regions: [{ name: REGION }], volumes: [{ state: 'mounted', domain: { members: [1, 2] } }] });
    expect((await status(one)).regions).toHaveLength(1);
    await one.do('echo from one > $M/file');
    expect(await two.do('cat $M/file; echo from two >> $M/file')).toBe('from one\n');
    expect(await one.do('cat $M/file')).toBe('from one\nfrom two\n');
  });

  it('after the death of lunfsd nothing begins before its volume process has ended; the mount comes back', { timeout: 300_000 }, async () => {
    const { pid, volumes } = await status(one);
    const volume = volumes[0].pid!;
    await one.do('echo synced > $M/synced; sync $M/synced');
    process.kill(pid, 'SIGKILL');
    fs.truncateSync(watchdog, 0);
    await one.up();
    expect(fs.existsSync(`/proc/${volume}`)).toBe(false);
    expect(await two.do('cat $M/synced; echo two > $M/synced')).toBe('synced\n');
    await expect.poll(async () => (await status(one)).volumes.map(({ state }) => state), { timeout: 120_000, interval: 500 }).toEqual(['mounted']);
    expect(await one.do('cat $M/synced')).toBe('two\n');
  });

  it('leaves with a goodbye, and disarms the watchdog', { timeout: 300_000 }, async () => {
    await one.must('down');
    expect(fs.readFileSync(watchdog).at(-1)).toBe('V'.charCodeAt(0));
    await expect.poll(async () => (await status(two)).nodes.find(({ number }) => number === 1)?.live, { timeout: 10_000 }).toBe(false);
    await two.must('down');
    await mustBeClean(image);
  });
});
