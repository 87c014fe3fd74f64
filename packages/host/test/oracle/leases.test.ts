/**
 * Leases of disks with real daemons: of two hosts that race one has the disk; it goes to the other with its guest; and when a host stands still and goes on,
 * the other does not get it before it has recovered it, and nothing of the old one is written after that. The LUN notes who writes (test/support/witness.ts).
 */
import * as fs from 'node:fs';
import path from 'node:path';
import { monotonicMs } from '@lunfs/device';
import type { ClusterFacts, ExportFacts, LeaseFacts } from '@lunfs/host';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LunfsHost } from '../../../../test/support/lunfs-host.js';
import { lacks, mkfs, mustBeClean } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup, must, tempDir } from '../../../../test/support/temp.js';
import { type Witness, witness } from '../../../../test/support/witness.js';

const pause = (ms: number): Promise<void> => new Promise((resolve) => { setTimeout(resolve, ms); });

describe.skipIf(lacks('ocfs2-tools', 'fuse', 'qemu'))('leases of disks', () => {
  const cleanup = new Cleanup();
  let image: string;
  let one: LunfsHost;
  let two: LunfsHost;
  let lun: Witness;
  let epoch = 0;

  beforeAll(async () => {
    image = path.join(tempDir(cleanup, 'leases'), 'lun');
    await mkfs(image, { size: 512 << 20, blockSize: 4096, clusterSize: 4096, slots: 4, cluster: 'ocfs2' });
    lun = await witness(cleanup, image, ['one', 'two']);
    const nodes = [{ number: 1, name: 'one', address: '127.0.95.1', port: 7795 }, { number: 2, name: 'two', address: '127.0.95.2', port: 7795 }];
    const cluster = { name: 'ocfs2', nodes, settings: { threshold: 7, idleMs: 5000 } };
    [one, two] = nodes.map((node) => new LunfsHost(cleanup, cluster, node, lun.device(node.name)));
    await Promise.all([one, two].map(async (host) => {
      await host.up();
      await host.mountVolume();
    }));
    await one.must('disk', 'create', `${one.device}:/vm.raw`, '16M');
  }, 240_000);
  afterAll(() => cleanup.run(), 120_000);

  const disk = (host: LunfsHost): string => `${host.device}:/vm.raw`;
  const lease = async (host: LunfsHost): Promise<LeaseFacts> => (await host.json<{ lease: LeaseFacts }>('disk', 'lease', disk(host))).lease;
  const io = (uri: string, ...commands: readonly string[]): Promise<string> => must('qemu-io', ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri]);

  it('of two hosts that race one has the disk, and the other is told who', { timeout: 240_000 }, async () => {
    for (let round = 0; round < 3; round++) {
      const hosts = [one, two] as const;
      const answers = await Promise.all(hosts.map((host) => host.run('disk', 'export', disk(host), '--json')));
      epoch++;
      expect(answers.map(({ code }) => code === 0).sort(), JSON.stringify(answers)).toEqual([false, true]);
      const at = answers.findIndex(({ code }) => code === 0);
      const winner = hosts[at], loser = hosts[1 - at];
      expect(JSON.parse(answers[at].stdout)).toMatchObject({ state: 'active', epoch });
      expect(answers[1 - at].stderr).toMatch(new RegExp(`in use on host ${winner.node.name} \\(node ${winner.node.number}\\) since 20.*unexport`));
      expect(await lease(loser)).toMatchObject({ state: 'held', epoch, host: winner.node.name, node: winner.node.number });
      if (round === 0) {
        expect(await loser.must('disk', 'ls', loser.device)).toMatch(new RegExp(`/vm\\.raw .* ${winner.node.name}`));
        expect((await loser.run('disk', 'rm', disk(loser))).stderr).toContain('in use on host');
        expect((await loser.run('disk', 'resize', '--shrink', disk(loser), '8M')).stderr).toContain('in use on host');
        // Who only reads needs no lease, and sees what is written elsewhere.
        const { uri } = JSON.parse(answers[at].stdout) as ExportFacts;
        await io(uri, 'write -P 5 0 64k', 'flush');
        const reader = await loser.json<ExportFacts>('disk', 'export', '-r', disk(loser));
        await must('qemu-io', ['-r', '-f', 'raw', '-c', 'read -P 5 0 64k', reader.uri]);
        await loser.must('disk', 'unexport', disk(loser));
      }
      await winner.must('disk', 'unexport', disk(winner));
      expect(await lease(loser)).toMatchObject({ state: 'released', epoch });
    }
  });

  it('goes to another host: what is written there waits until the switch, and here from then on; and it can be taken back', { timeout: 240_000 }, async () => {
    const source = await one.json<ExportFacts>('disk', 'export', disk(one));
    epoch++;
    await io(source.uri, 'write -P 1 0 64k', 'write -P 1 1M 4k', 'flush');
    expect((await two.run('disk', 'export', '--incoming', disk(two))).stderr).toContain('is not offered to this host');
    expect((await one.run('disk', 'handover', disk(one), '--to', 'nobody')).stderr).toContain('no node of the cluster is called nobody');
    await one.must('disk', 'handover', disk(one), '--to', 'two');
    expect((await one.run('disk', 'handover', disk(one), '--switch')).stderr).toContain('has not opened it');
    const target = await two.json<ExportFacts>('disk', 'export', '--incoming', disk(two));
    expect(target.state).toBe('incoming');
    await io(target.uri, 'read -P 1 0 64k');
    let written = false;
    const write = io(target.uri, 'write -P 2 0 64k', 'flush').then(() => {
      written = true;
    });
    await io(source.uri, 'write -P 1 64k 64k', 'flush', 'read -P 1 0 64k');
    await pause(500);
    expect([written, await lease(two)]).toEqual([false, expect.objectContaining({ state: 'incoming', epoch, host: 'one', otherNode: 2 })]);
    await one.must('disk', 'handover', disk(one), '--switch');
    await write;
    epoch++;
    expect(await lease(one)).toMatchObject({ state: 'held', epoch, host: 'two', node: 2 });
    expect((await one.run('disk', 'handover', disk(one), '--take-back')).stderr).toContain('in use on host two');
    // The source's export is there still: it reads what the target wrote, and writes nothing.
    await io(source.uri, 'read -P 2 0 64k', 'read -P 1 64k 64k');
    const late = io(source.uri, 'write -P 9 0 4k').then(() => 'written', () => 'failed');
    await pause(500);
    await one.must('disk', 'unexport', '--force', disk(one));
    expect(await late).toBe('failed');
    await io(target.uri, 'read -P 2 0 64k');
    // Back again; the other side gives up after the switch was prepared, and the guest stays.
    await two.must('disk', 'handover', disk(two), '--to', 'one');
    await one.json<ExportFacts>('disk', 'export', '--incoming', disk(one));
    await one.must('disk', 'unexport', disk(one));
    expect((await two.run('disk', 'handover', disk(two), '--switch')).stderr).toContain('cannot be handed over');
    await io(target.uri, 'write -P 3 0 64k', 'flush', 'read -P 3 0 64k');
    await two.must('disk', 'unexport', disk(two));
    expect(await lease(one)).toMatchObject({ state: 'released', epoch });
  });

  it('a host that stands still loses the disk to who has recovered it, writes nothing after that, and is told when it goes on', { timeout: 300_000 }, async () => {
    const exported = await one.json<ExportFacts>('disk', 'export', disk(one));
    epoch++;
    await io(exported.uri, 'write -P 7 0 1M', 'flush');
    const load = one.sh(`while qemu-io -f raw -c 'write -P 8 2M 4k' '${exported.uri}'; do :; done`, 60);
    const before = await one.json<ClusterFacts>('cluster', 'status');
    const old = new Set(fs.readdirSync(`/proc/${before.volumes[0].pid}/task`).map(Number));
    await pause(1000);
    process.kill(before.pid, 'SIGSTOP');
    cleanup.add(() => {
      try {
        process.kill(before.pid, 'SIGCONT');
      } catch {
        // gone
      }
    });
    const refusals: string[] = [];
    let taken: number | undefined;
    while (taken === undefined) {
      const { code, stderr } = await two.run('disk', 'export', disk(two));
      if (code === 0) taken = monotonicMs();
      else refusals.push(stderr);
    }
    epoch++;
    // Refused, or held up while nobody answers for the lock; had by nobody before the death was known.
    expect(two.logs()).toContain('node 1 has died');
    for (const refusal of refusals) expect(refusal).toContain('in use on host one (node 1)');
    expect(await lease(two)).toMatchObject({ state: 'held', epoch, host: 'two' });
    process.kill(before.pid, 'SIGCONT');
    await expect.poll(async () => (await one.json<ClusterFacts>('cluster', 'status')).volumes[0], { timeout: 150_000, interval: 500 }).toMatchObject({ state: 'mounted' });
    await expect.poll(() => one.logs(), { timeout: 60_000, interval: 500 }).toMatch(/export vm\.raw does not come back: DISK_IN_USE: .* in use on host two/);
    await load;
    expect(lun.log.filter((write) => old.has(write.task) && write.at < taken!).length).toBeGreaterThan(10);
    expect(lun.log.filter((write) => old.has(write.task) && write.at >= taken!)).toEqual([]);
    expect(await lease(one)).toMatchObject({ state: 'held', epoch, host: 'two' });
    const status = await two.json<ClusterFacts>('cluster', 'status');
    expect(status.volumes).toMatchObject([{ state: 'mounted' }]);
    await two.must('disk', 'unexport', disk(two));
    await one.json<ExportFacts>('disk', 'export', disk(one));
    expect(await lease(two)).toMatchObject({ state: 'held', epoch: epoch + 1, host: 'one' });
    await Promise.all([one, two].map((host) => host.must('down')));
    await mustBeClean(image);
  });
});
