/**
 * A volume grows from 1 GiB to 64 GiB in steps, by hosts of ours and by a kernel node (tunefs.ocfs2, so by the kernel's own ioctls), while
 * all of them write to it. The hosts have the LUN open from before it was enlarged. When it fails it tells what it was at, and what each
 * node waits for.
 */
import * as fs from 'node:fs';
import path from 'node:path';
import { afterAll, expect, onTestFailed, test } from 'vitest';
import { ClusterLab } from '../support/cluster-lab.js';
import { LunfsHost } from '../support/lunfs-host.js';
import type { KernelNode } from '../support/machines.js';
import { mkfs, mustBeClean } from '../support/ocfs2-tools.js';
import { Cleanup, must, tempDir } from '../support/temp.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());

const GIB = 2 ** 30;
const blocks = (gib: number): number => (gib * GIB) / 4096;
/** The most files that the load of a node writes: each is a handful of locks, which a kernel node that leaves drops or hands over one by one. */
const FILES = 60;

/** Files of 0 to 400 KB with their sums beside them, some removed again, until the file `stop` is there or there were enough. */
const load = (mount: string, who: string, stop: string): string => `mkdir ${mount}/${who} && cd ${mount}/${who} && i=0; while [ ! -e ${stop} -a $i -lt ${FILES} ]; do i=$((i+1))
  head -c $((i * 7919 % 400000)) /dev/urandom > f$i && sync f$i && md5sum f$i > s$i || exit 1
  if [ $((i % 3)) = 0 ]; then rm f$((i-1)) s$((i-1)) || exit 1; fi; sleep 0.1; done; echo $i`;
/** What `load` wrote is all there. */
const verify = (mount: string): string => `for d in host0 host1 kernel; do cd ${mount}/$d && cat s* | md5sum -c --quiet || exit 1; done; cat ${mount}/*/s* | wc -l`;

/** What a kernel node's tasks that wait, wait for. */
const WAITING = `for p in /proc/[0-9]*; do grep -q '^State:.D' $p/status 2>/dev/null && { cat $p/comm $p/stack; }; done; dmesg | tail -n 20`;

test('from 1 GiB to 64 GiB under load, by ours and by the kernel', { timeout: 600_000 }, async () => {
  const steps: string[] = [];
  const start = performance.now();
  const step = (what: string): void => void steps.push(`${((performance.now() - start) / 1000).toFixed(1)} s: ${what}`);
  const nodes: { kernel?: KernelNode; hosts: LunfsHost[] } = { hosts: [] };
  onTestFailed(async () => {
    const { kernel, hosts } = nodes;
    const waits = await kernel?.run(WAITING, { timeoutMs: 20_000 }).then(({ stdout }) => stdout, String);
    const locks = hosts.map(async (host) => (await Promise.race([host.run('locks', '--busy'), new Promise<{ stdout: string }>((resolve) => { setTimeout(resolve, 20_000, { stdout: 'no answer' }); })])).stdout + host.logs());
    console.log([...steps, waits, ...(await Promise.all(locks))].join('\n'));
  }, 60_000);

  const lun = path.join(tempDir(cleanup, 'grow'), 'lun');
  await mkfs(lun, { size: GIB, blockSize: 4096, clusterSize: 4096, slots: 4, cluster: 'ocfs2' });
  const lab = await ClusterLab.start(cleanup, { lun, count: 3, settings: { threshold: 7, idleMs: 5000 } });
  const hosts = await Promise.all([0, 2].map(async (number) => LunfsHost.inLab(cleanup, lab, await lab.host(number))));
  nodes.hosts = hosts;
  const [first, second] = hosts;
  fs.truncateSync(lun, 64 * GIB); // the hosts' devices keep their size until they are rescanned
  step('hosts and kernel node mount');
  const [kernel] = await Promise.all([lab.kernelNode(1), ...hosts.map(async (host) => {
    await host.up();
    await host.mountVolume();
  })]);
  nodes.kernel = kernel;
  await kernel.mount('/dev/vda', '/mnt');
  const complained = await kernel.complaints();

  step('a LUN that is larger, on a host that has not looked: the remedy is named');
  const refused = await first.run('grow', '--size', '2G', first.mount);
  expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('rescan')]);
  for (const { device } of hosts) await must('losetup', ['--set-capacity', device]);

  const stop = path.join(first.directory, 'stop');
  const loads = [
    ...hosts.map((host, i) => host.do(load(host.mount, `host${i}`, stop), 400)),
    kernel.must(`(${load('/mnt', 'kernel', '/tmp/stop')}) | tail -n1`, { timeoutMs: 400_000 }),
  ];
  for (const one of loads) one.catch(() => undefined); // awaited below; what fails first is the one to tell
  const expectSize = async (gib: number): Promise<void> => {
    step(`statfs of ${gib} GiB`);
    const shown = [kernel.must('stat -f -c %b /mnt'), ...hosts.map((host) => host.do('stat -f -c %b $M'))];
    expect((await Promise.all(shown)).map(Number)).toEqual([blocks(gib), blocks(gib), blocks(gib)]);
  };
  step('dry run');
  const plan = await first.json<{ to: number; blocks: unknown[] }>('grow', '--dry-run', '--size', '2G', first.device);
  expect(plan.to).toBe(blocks(2));
  await expectSize(1);
  step('the first host grows');
  expect(await first.must('grow', '--size', '2G', first.device)).toContain('to 2 GiB');
  await expectSize(2);
  step('the second host grows');
  await second.must('grow', '--size', '5G', second.mount);
  await expectSize(5);
  step('the kernel node grows');
  await kernel.must(`tunefs.ocfs2 -y -S /dev/vda ${blocks(8)} < /dev/null`, { timeoutMs: 300_000 });
  await expectSize(8);
  step('the first host grows to the end');
  const last = await first.json<{ from: number; to: number; backups: number[] }>('grow', first.device);
  expect(last).toMatchObject({ from: blocks(8), to: blocks(64), backups: [blocks(16)] });
  await expectSize(64);

  // Behind the old end, from every side and seen from every side.
  step('large files');
  for (const host of hosts) await host.do(`fallocate -l 3G $M/large-${host.node.number}`);
  await kernel.must('touch /tmp/stop; fallocate -l 3G /mnt/large-k');
  fs.writeFileSync(stop, '');
  step('the load ends');
  for (const one of loads) expect(Number(await one)).toBeGreaterThan(3);
  step('all read what was written');
  const found = await Promise.all([kernel.must(verify('/mnt'), { timeoutMs: 300_000 }), ...hosts.map((host) => host.do(verify(host.mount), 300))]);
  expect(new Set(found).size).toBe(1);
  expect(Number(found[0])).toBeGreaterThan(5);
  expect((await kernel.complaints()).filter((line) => !complained.includes(line))).toEqual([]);
  step('the kernel node leaves');
  await kernel.must('umount /mnt', { timeoutMs: 300_000 });
  step('the hosts leave');
  await Promise.all(hosts.map((host) => host.must('down')));
  await kernel.shutdown();
  step('fsck.ocfs2 and the verifier');
  await mustBeClean(lun);
  await first.must('check', lun);
  console.log(steps.join('\n'));
});
