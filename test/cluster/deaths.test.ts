/** Deaths under load in a cluster of two hosts of ours and a kernel node: whoever dies, the others recover it and go on; what was synced is there. */
import * as fs from 'node:fs';
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { ClusterFacts } from '@lunfs/host';
import { ClusterLab } from '../support/cluster-lab.js';
import { LunfsHost, finish } from '../support/lunfs-host.js';
import { mkfs, mustBeClean } from '../support/ocfs2-tools.js';
import { Cleanup, tempDir } from '../support/temp.js';
import { until } from '../support/until.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());

/** Names, a rename and an append, each synced before it counts; goes on until its file `stop` is there. */
const load = (mount: string, who: string, stop: string): string => `mkdir -p ${mount}/${who}; i=0; while [ ! -e ${stop} ]; do i=$((i+1));
  echo $i > ${mount}/${who}/new && sync ${mount}/${who}/new && mv ${mount}/${who}/new ${mount}/${who}/f$i && echo ${who} $i >> ${mount}/log && sync ${mount}/log ${mount}/${who} && echo $i; done`;

test('a volume process of ours, then a kernel node', { timeout: 600_000 }, async () => {
  const lun = path.join(tempDir(cleanup, 'deaths'), 'lun');
  await mkfs(lun, { size: 512 << 20, blockSize: 4096, clusterSize: 4096, slots: 4, cluster: 'ocfs2' });
  const lab = await ClusterLab.start(cleanup, { lun, count: 3, settings: { threshold: 7, idleMs: 5000 } });
  const hosts = [await lab.host(0), await lab.host(2)];
  const [first, second] = hosts.map((host) => LunfsHost.inLab(cleanup, lab, host));
  const kernel = await lab.kernelNode(1);
  const mounts = [first, second].map(async (host) => {
    await host.up();
    await host.mountVolume();
  });
  await Promise.all([kernel.mount('/dev/vda', '/mnt'), ...mounts]);
  const complained = await kernel.complaints();
  const soon = { withinMs: 180_000 };
  const logs = (): string => `${first.logs()}${second.logs()}`;
  const process0 = async (): Promise<ClusterFacts['volumes'][number]> => (await first.json<ClusterFacts>('cluster', 'status')).volumes[0];
  const mountedAgain = async (before: number | undefined): Promise<boolean> => {
    const now = await process0();
    return now?.state === 'mounted' && now.pid !== before;
  };

  // A volume process dies while all three write.
  const stop = (host: LunfsHost): string => path.join(host.directory, 'stop');
  const kernelLoad = kernel.must(`(${load('/mnt', 'kernel', '/tmp/stop')}) > /tmp/done; tail -n1 /tmp/done`, { timeoutMs: 300_000 });
  kernelLoad.catch(() => undefined); // awaited below; a failure before that is the one to tell
  const secondLoad = second.do(load(second.mount, 'second', stop(second)), 300);
  const acknowledged: string[] = [];
  const firstLoad = first.sh(load(first.mount, 'first', stop(first)), 60).then(({ stdout }) => acknowledged.push(...stdout.split('\n').filter(Boolean)));
  await until('some of it is done', async () => Number((await second.sh('grep -c first $M/log')).stdout) > 6, logs, soon);
  const { pid } = await process0();
  process.kill(pid!, 'SIGKILL');
  // Its descriptors are dead; the loop fails on them until the mount is back.
  await until('the volume is mounted again', () => mountedAgain(pid), logs, soon);
  fs.writeFileSync(stop(first), '');
  await firstLoad;
  expect(acknowledged.length).toBeGreaterThan(5);
  const last = acknowledged.at(-1)!;
  expect(await second.do(`cat $M/first/f${last}`)).toBe(`${last}\n`);
  expect(await first.do(`ls $M/first | grep -c f; grep -c first $M/log`)).toMatch(/^\d+\n\d+\n$/);

  // The connection between a host and the kernel node is reset, both live: what was under way is lost, so the host begins anew.
  const { pid: before } = await process0();
  const reset = await finish(hosts[0].spawn('ss', ['--kill', '--tcp', 'dst', lab.config.nodes[1].address], { stdio: ['ignore', 'pipe', 'pipe'] }));
  expect(reset.stdout).toContain('7777');
  await until('the host has begun anew', () => mountedAgain(before), logs, soon);
  expect(first.logs()).toContain('both live: this node begins anew');
  expect(await first.do(`cat $M/first/f${last} && touch $M/anew`)).toBe(`${last}\n`);

  // The kernel node is cut off its power, while the hosts write.
  await kernel.must('for i in $(seq 20); do echo $i > /mnt/sure$i && sync /mnt/sure$i || exit 1; done; touch /tmp/stop');
  const kernelLast = (await kernelLoad).trim();
  const lateLoad = kernel.run(`rm /tmp/stop; ${load('/mnt', 'late', '/tmp/stop')}`, { timeoutMs: 60_000 }).catch(() => undefined);
  await new Promise((resolve) => { setTimeout(resolve, 2000); });
  // What a kernel's messenger and lock manager say when a peer dies (EHOSTDOWN, ENOTCONN, "link went down") they say of a kernel peer, too.
  const strange = (line: string): boolean => !complained.includes(line) && !/\b(dlm|o2net)_\w+:\d+ ERROR/.test(line);
  expect((await kernel.complaints()).filter(strange)).toEqual([]);
  await kernel.machine.kill();
  await lateLoad;
  expect(await first.do('cat $M/sure* | wc -l', 180)).toBe('20\n');
  fs.writeFileSync(stop(second), '');
  const done = (await secondLoad).trim().split('\n').at(-1)!;
  expect(await first.do(`cat $M/kernel/f${kernelLast} $M/second/f${done}`)).toBe(`${kernelLast}\n${done}\n`);
  for (const host of [first, second]) expect((await host.json<ClusterFacts>('cluster', 'status')).volumes[0]).toMatchObject({ domain: { members: [0, 2], recovering: [] } });
  await Promise.all([first.must('down'), second.must('down')]);
  await mustBeClean(lun);
});
