/** o2net against the kernel's: our nodes as the lowest and as the highest number of one cluster. */
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ClusterLab } from '../support/cluster-lab.js';
import { debugfsStat, mkfs } from '../support/ocfs2-tools.js';
import { Cleanup, tempDir } from '../support/temp.js';
import { Member } from './member.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());

const UUID = '5EA15EA15EA15EA15EA15EA15EA15EA2';
const SETTINGS = { threshold: 7, idleMs: 5_000 };

async function sleep(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

test('our nodes, the lowest and the highest number, and a kernel node between them', { timeout: 480_000 }, async () => {
  const lun = path.join(tempDir(cleanup, 'cluster'), 'lun');
  await mkfs(lun, { size: 256 << 20, blockSize: 4096, clusterSize: 4096, slots: 4, cluster: 'ocfs2', extra: ['-U', UUID] });
  const regionOffset = (await debugfsStat(lun, '//heartbeat')).extents[0].block * 4096;
  const lab = await ClusterLab.start(cleanup, { lun, count: 3, settings: SETTINGS });
  const [lowest, highest] = [await lab.host(0), await lab.host(2)];
  const low = new Member(lowest, lab, { uuid: UUID, regionOffset });
  const high = new Member(highest, lab, { uuid: UUID, regionOffset });
  const kernel = await lab.kernelNode(1);
  await kernel.mount('/dev/vda', '/mnt');

  // Who connects to whom; and the kernel, which asks everybody when it joins its domain, was told that nobody here knows of one.
  const [accepted, connected] = [await low.heard({ code: 'CONNECTED', node: 1 }), await high.heard({ code: 'CONNECTED', node: 1 })];
  expect([accepted.message, connected.message]).toEqual(['accepted a connection of node client02 (1, 192.168.7.11:7777)', 'connected to node client02 (1, 192.168.7.11:7777)']);
  const words = await kernel.must('dmesg');
  expect(words).toMatch(/o2net: Connected to node client01 \(num 0\) at 192\.168\.7\.10:7777/);
  expect(words).toMatch(/o2net: Accepted connection from node client03 \(num 2\) at 192\.168\.7\.12:7777/);
  for (const node of [low, high]) {
    expect(await node.ask({ op: 'request', node: 1, type: 999, key: 7, bytes: 100 })).toEqual({ error: 'no-handler' });
    expect(await node.ask({ op: 'statistics' })).toContainEqual(expect.objectContaining({ node: 1, state: 'connected', connections: 1, received: expect.any(Number) as number }));
  }

  // A cut that lasts longer than the idle timeout closes nothing, and is over before the quorum must decide (18 s).
  const mark = [low.said.length, high.said.length];
  await lab.cut(2);
  await Promise.all([low.heard({ code: 'IDLE', node: 2 }, mark[0]), high.heard({ code: 'IDLE', node: 1 }, mark[1]), high.heard({ code: 'IDLE', node: 0 }, mark[1])]);
  await lab.heal(2);
  await Promise.all([low.heard({ code: 'HEARD_AGAIN', node: 2 }, mark[0]), high.heard({ code: 'HEARD_AGAIN', node: 1 }, mark[1]), high.heard({ code: 'HEARD_AGAIN', node: 0 }, mark[1])]);
  expect(await high.ask({ op: 'request', node: 1, type: 999, key: 7, bytes: 4072 })).toEqual({ error: 'no-handler' });

  // So does one that cuts one direction only.
  const later = high.said.length;
  await lab.silence(1, 2);
  await high.heard({ code: 'IDLE', node: 1 }, later);
  await lab.unsilence(1, 2);
  await high.heard({ code: 'HEARD_AGAIN', node: 1 }, later);
  expect(high.notices(later)).toEqual(['IDLE', 'HEARD_AGAIN']);
  expect([...low.notices(), ...high.notices()]).not.toContain('LOST');

  // A node that believes in another idle timeout is refused by both sides.
  await high.leave();
  await low.heard({ code: 'LOST', node: 2 });
  const stranger = new Member(highest, lab, { uuid: UUID, regionOffset, idleMs: 9_000 });
  const refused = await stranger.heard({ code: 'REFUSED', node: 1 });
  expect(refused.message).toContain('it uses a network idle timeout of 5000 ms, we use 9000 ms: O2CB_IDLE_TIMEOUT_MS');
  await expect.poll(() => kernel.must('dmesg'), { timeout: 30_000, interval: 500 }).toMatch(/client03 \(num 2\) at 192\.168\.7\.12:7777 uses a network idle timeout of 9000 ms, but we use 5000 ms locally/);
  expect((await low.heard({ code: 'REFUSED', node: 2 })).message).toContain('idle timeout of 9000 ms');
  expect(await stranger.ask({ op: 'request', node: 1, type: 999, key: 7, bytes: 0 })).toEqual({ error: 'not-connected' });
  await stranger.leave();

  // Meanwhile the kernel and the lowest have had more than a minute of nothing but keepalives, and were not idle for a moment.
  await sleep(Math.max(0, 60_000 - (low.said.at(-1)!.at - accepted.at)));
  expect(low.said.filter(({ event, node }) => event === 'notice' && node === 1).map(({ code }) => code)).toEqual(['CONNECTED']);
  expect(await kernel.must('dmesg')).not.toMatch(/client01 \(num 0\).*has been idle|No longer connected to node client01/);

  await kernel.umount('/mnt');
  await low.leave();
  await kernel.shutdown();
});
