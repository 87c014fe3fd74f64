/**
 * A kernel node and ours beat on one LUN for five minutes, each through a loop device of its own with direct I/O, and neither misses a beat:
 * what everything else about clusters in these tests stands on (docs/design.md, section 5, point 2). LUNFS_BEAT_SECONDS: for another time.
 */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Heartbeat, type Loss, NodeMap, type RegionPlace, hostScheduler, regionName, regionThread, timeoutsOf } from '@lunfs/o2cb';
import { afterAll, expect, test } from 'vitest';
import { ClusterLab } from '../support/cluster-lab.js';
import type { KernelNode } from '../support/machines.js';
import { debugfs, debugfsStat, mkfs } from '../support/ocfs2-tools.js';
import { Cleanup, loopDevice, tempDir } from '../support/temp.js';
import { until } from '../support/until.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());

const SECONDS = Number(process.env.LUNFS_BEAT_SECONDS ?? 300);
/** The kernel has the lower number: whatever it thinks of a node that beats and cannot be reached, it stays. */
const KERNEL = 1;
const OURS = 2;

function ourNode(mode: 'local' | 'global') {
  const told: string[] = [];
  const warnings: string[] = [];
  const losses: Loss[] = [];
  const heartbeat = new Heartbeat({
    node: OURS, mode, timeouts: timeoutsOf(), configured: new NodeMap([0, 1, 2, 3]), scheduler: hostScheduler,
    random: () => BigInt.asUintN(64, process.hrtime.bigint() * 0x9e37_79b9_7f4a_7c15n),
    renewed: () => undefined, lost: (loss) => void losses.push(loss), warning: (_, text) => void warnings.push(text),
  });
  heartbeat.membership.subscribe(1, { nodeUp: (node) => void told.push(`up ${node}`), nodeDown: (node) => void told.push(`down ${node}`) });
  const start = (region: string, place: RegionPlace) => new Promise<void>((resolve, reject) => heartbeat.start(region, regionThread(place), (error) => (error ? reject(error) : resolve())));
  const stop = (region: string) => new Promise<void>((resolve) => heartbeat.stop(region, resolve));
  return { heartbeat, told, warnings, losses, start, stop };
}

/** Nodes that the kernel takes for alive. */
async function liveNodes(kernel: KernelNode): Promise<string> {
  return (await kernel.must('cat /sys/kernel/debug/o2hb/livenodes')).trim();
}

/** Resolves when the kernel takes these nodes, and no others, for alive. */
async function takesForAlive(kernel: KernelNode, ...nodes: number[]): Promise<void> {
  await until(`the kernel takes nodes ${nodes.join()} for alive`, async () => (await liveNodes(kernel)) === nodes.join(' '));
}

test('a kernel node and ours beat side by side, and neither misses a beat', { timeout: (SECONDS + 400) * 1000 }, async () => {
  const lun = path.join(tempDir(cleanup, 'beat'), 'lun');
  await mkfs(lun, { size: 256 << 20, blockSize: 4096, clusterSize: 4096, slots: 4, cluster: 'ocfs2' });
  const offset = (await debugfsStat(lun, '//heartbeat')).extents[0].block * 4096;
  const region = regionName(/UUID: ([0-9A-F]+)/.exec(await debugfs(lun, 'stats'))![1]);
  const lab = await ClusterLab.start(cleanup, { lun, count: 4 });
  const device = await loopDevice(cleanup, lun);
  const kernel = await lab.kernelNode(KERNEL);
  await kernel.must('mount -t debugfs none /sys/kernel/debug');
  await kernel.mount('/dev/vda', '/mnt/lun');
  const { heartbeat, told, warnings, losses, start, stop } = ourNode('local');
  await start(region, { device, offset, blockBytes: 512 });
  expect(told.toSorted()).toEqual([`up ${KERNEL}`, `up ${OURS}`]);

  await takesForAlive(kernel, KERNEL, OURS);
  const end = performance.now() + SECONDS * 1000;
  let silent = 0;
  let rounds = 0;
  for (; performance.now() < end; rounds++) {
    await kernel.must(`echo ${rounds} > /mnt/lun/file && sync`);
    expect(await liveNodes(kernel)).toBe(`${KERNEL} ${OURS}`);
    const [facts] = heartbeat.regions();
    expect(facts).toMatchObject({ state: 'steady', unsure: [] });
    silent = Math.max(silent, ...facts.live.map((one) => one.silent));
    await sleep(2000);
  }
  console.log(`${SECONDS} s, looked at ${rounds} times: at most ${silent} samples in a row in which a node had not changed`);
  // No beat of ours was lost or failed, and nobody went, in its eyes or ours.
  expect([told.length, warnings, losses]).toEqual([2, [], []]);
  // Sequence, generation or node in its slot other than it wrote: the kernel tells of each.
  expect(await kernel.complaints()).toEqual([]);
  expect((await kernel.must('dmesg')).match(/Heartbeat (sequence|generation) mismatch|Another node is heartbeating/)).toBeNull();

  // A goodbye each way: ours first, for the kernel could not mount again beside a node that beats and cannot be reached.
  await stop(region);
  await takesForAlive(kernel, KERNEL);
  expect(heartbeat.grant(region)).toBeUndefined();
  await start(region, { device, offset, blockBytes: 512 });
  await takesForAlive(kernel, KERNEL, OURS);
  told.splice(0);
  await kernel.umount('/mnt/lun');
  await until('the kernel node is gone', () => told.length > 0);
  expect(told).toEqual([`down ${KERNEL}`]);
  await stop(region);
  await kernel.shutdown();
});

test('with global heartbeat on a device of 4096-byte sectors', { timeout: 400_000 }, async () => {
  const lun = path.join(tempDir(cleanup, 'beat'), 'lun');
  const uuid = '00000000000000000000000000000ABC';
  await mkfs(lun, { size: 256 << 20, blockSize: 4096, clusterSize: 4096, slots: 4, cluster: 'ocfs2', extra: ['--global-heartbeat', '-U', uuid] });
  const offset = (await debugfsStat(lun, '//heartbeat')).extents[0].block * 4096;
  const lab = await ClusterLab.start(cleanup, { lun, count: 4, heartbeat: 'global', regions: [uuid], sectorSize: 4096 });
  const device = await loopDevice(cleanup, lun, { sectorSize: 4096 });
  const kernel = await lab.kernelNode(KERNEL);
  await kernel.must('mount -t debugfs none /sys/kernel/debug && o2cb start-heartbeat ocfs2');
  const node = ourNode('global');
  await node.start(uuid, { device, offset, blockBytes: 4096 });
  await until('both live', () => [...node.heartbeat.membership.live].join() === `${KERNEL},${OURS}`);
  await takesForAlive(kernel, KERNEL, OURS);
  // A region of the quorum on both sides: everybody who lives beats in it. Only then it counts.
  await until('the region counts', () => node.heartbeat.regions()[0].quorum && node.heartbeat.grant(uuid) !== undefined);
  await sleep(20_000);
  expect([node.told.length, node.warnings, node.losses, await liveNodes(kernel)]).toEqual([2, [], [], `${KERNEL} ${OURS}`]);
  await node.stop(uuid);
  await takesForAlive(kernel, KERNEL);
  await kernel.must('o2cb stop-heartbeat ocfs2');
  await kernel.shutdown();
});
