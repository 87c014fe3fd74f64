/** o2dlm against the kernel's: a member of ours, with no file system in it, between two kernel nodes that have the volume mounted. */
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ClusterLab } from '../support/cluster-lab.js';
import type { KernelNode } from '../support/machines.js';
import { debugfs, debugfsStat, mkfs, mustBeClean } from '../support/ocfs2-tools.js';
import { Cleanup, tempDir } from '../support/temp.js';
import { Member, type Said } from './member.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());

/** What a kernel says when a node dies whom it was just about to tell something, whoever that was. */
const OF_DEATHS = /error -(107|112) send (AST|BAST|DEREF) |not on the Tracking list|dlm_flush_asts:\d+ ERROR: status = -(107|112)/;

const UUID = '5EA15EA15EA15EA15EA15EA15EA15EA1';
const [NL, PR, EX] = [0, 3, 5];

/** A lock's name as dlmglue makes it (cluster-protocols.md 7.1), hex. */
function lockName(type: string, block: number, generation: number): string {
  return Buffer.from(`${type}000000${block.toString(16).padStart(16, '0')}${generation.toString(16).padStart(8, '0')}`).toString('hex');
}

/** What the value block of an inode's meta lock says (7.2). */
function metaLvb(hex = ''): { version: number; mtime: bigint; mode: number; generation: number } {
  const lvb = Buffer.from(hex, 'hex');
  return { version: lvb[0], mtime: lvb.readBigUInt64BE(32), mode: lvb.readUInt16BE(48), generation: lvb.readUInt32BE(56) };
}

/** What the kernel printed of OCFS2, in one line: o2dlm prints lists of nodes in pieces. */
async function words(kernel: KernelNode): Promise<string> {
  return (await kernel.must('dmesg')).replace(/\s*\n\[[^\]]*\]/g, '').replace(/^.*?o2hb: /s, '');
}

/** A kernel's command that may have to wait. */
function pending(kernel: KernelNode, command: string): { ended: boolean; result: Promise<string> } {
  const state = { ended: false, result: kernel.must(command).finally(() => (state.ended = true)) };
  return state;
}

/** A lock of our member. Orders resolve when the lock manager has completed them. */
class TestLock {
  static #next = 1;
  readonly id = TestLock.#next++;
  readonly member: Member;

  constructor(member: Member) {
    this.member = member;
  }

  take(name: string, level: number, options = {}): Promise<Said> {
    return this.#order({ op: 'lock', name, level, options });
  }

  convert(level: number, options = {}): Promise<Said> {
    return this.#order({ op: 'convert', level, ...options });
  }

  async unlock(): Promise<void> {
    await this.member.ask({ op: 'unlock', lock: this.id });
  }

  async #order(order: object): Promise<Said> {
    const from = this.member.said.length;
    await this.member.ask({ lock: this.id, ...order });
    return await this.member.heard({ event: 'ast', lock: this.id }, from);
  }
}

test('a member of ours in a domain of kernel nodes: join, locks, value blocks, mastery, migration, recovery', { timeout: 600_000 }, async () => {
  const lun = path.join(tempDir(cleanup, 'cluster'), 'lun');
  await mkfs(lun, { size: 256 << 20, blockSize: 4096, clusterSize: 4096, slots: 4, cluster: 'ocfs2', extra: ['-U', UUID] });
  const regionOffset = (await debugfsStat(lun, '//heartbeat')).extents[0].block * 4096;
  const fsGeneration = Number(/FS Generation: (\d+)/.exec(await debugfs(lun, 'stats'))![1]);
  const lab = await ClusterLab.start(cleanup, { lun, count: 3, settings: { threshold: 7, idleMs: 5_000 } });
  const host = await lab.host(1);
  let ours = new Member(host, lab, { uuid: UUID, regionOffset, dlm: true });
  const [low, high] = await Promise.all([0, 2].map((number) => lab.kernelNode(number)));
  await Promise.all([low, high].map((kernel) => kernel.mount('/dev/vda', '/mnt')));
  await Promise.all([0, 2].map((node) => ours.heard({ code: 'CONNECTED', node })));

  expect(await ours.ask({ op: 'join', name: UUID })).toBe('joined');
  for (const kernel of [low, high]) expect(await words(kernel)).toContain(`o2dlm: Node 1 joins domain ${UUID} ( 0 1 2 ) 3 nodes`);

  // The root directory's inode lock: its value block is what the kernel put there, and a kernel's change waits for us.
  await low.must('mkdir /mnt/early');
  const root = lockName('M', 5, fsGeneration);
  const rootLock = new TestLock(ours);
  const first = metaLvb((await rootLock.take(root, PR, { valueBlock: true })).lvb);
  expect(first).toMatchObject({ version: 5, mode: 0o040755, generation: fsGeneration });
  const held = (await rootLock.convert(EX)).lvb;
  const mark = ours.said.length;
  const touch = pending(low, 'touch /mnt/file && stat -c %i /mnt/file');
  await ours.heard({ event: 'bast', lock: rootLock.id }, mark);
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect(touch.ended).toBe(false);
  await rootLock.convert(NL, { lvb: held });
  const inode = Number(await touch.result);
  const second = metaLvb((await rootLock.convert(PR)).lvb);
  expect(second.mtime).toBeGreaterThan(first.mtime);
  await rootLock.unlock();
  expect(await high.must('ls /mnt')).toBe('early\nfile\nlost+found\n');

  // We master a flock that both kernels want, answer by our queues, and hand it over when we leave.
  const generation = Number(/Generation: (\d+)/.exec(await low.must("sync; debugfs.ocfs2 -R 'stat /file' /dev/vda"))![1]);
  const flock = lockName('F', inode, generation);
  const flockLock = new TestLock(ours);
  await flockLock.take(flock, EX);
  expect(await ours.ask({ op: 'inspect', name: flock })).toMatchObject({ owner: 1, granted: [{ node: 1, level: EX }] });
  expect(await low.run('flock -n /mnt/file true')).toMatchObject({ status: 1 });
  const waiting = [low, high].map((kernel) => pending(kernel, 'flock -x /mnt/file bash -c "echo got; sleep 3"'));
  const convert = { level: NL, converting: EX };
  await expect.poll(() => ours.ask({ op: 'inspect', name: flock }), { timeout: 60_000 }).toMatchObject({ converting: [convert, convert] });
  expect(waiting.map(({ ended }) => ended)).toEqual([false, false]);
  await flockLock.unlock();
  expect(await ours.ask({ op: 'leaveDomain' })).toBe('left');
  expect(await Promise.all(waiting.map(({ result }) => result))).toEqual(['got\n', 'got\n']);
  for (const kernel of [low, high]) expect(await words(kernel)).toContain(`o2dlm: Node 1 leaves domain ${UUID}`);

  // A kernel dies while it masters locks; the survivors recover it, and what we hold is ours still.
  expect(await ours.ask({ op: 'join', name: UUID })).toBe('joined');
  await high.must('cd /mnt && mkdir other && for i in 1 2 3 4 5; do echo $i > other/$i; done; sync');
  const kept = new TestLock(ours);
  await kept.take(root, PR, { valueBlock: true });
  const death = ours.said.length;
  await high.kill();
  await ours.heard({ event: 'evicted', node: 2 }, death);
  await kept.convert(EX);
  await kept.unlock();
  expect(await low.must('cat /mnt/other/*; touch /mnt/alive')).toBe('1\n2\n3\n4\n5\n');

  // We die while we hold the root directory: the kernel recovers us and goes on, and takes us in again.
  await new TestLock(ours).take(root, EX, { valueBlock: true });
  await ours.kill();
  expect(await low.must('touch /mnt/after; ls /mnt')).toBe('after\nalive\nearly\nfile\nlost+found\nother\n');
  expect(await words(low)).toContain('Node 0 (me) is the Recovery Master for the dead node 1');
  ours = new Member(host, lab, { uuid: UUID, regionOffset, dlm: true });
  await ours.heard({ code: 'CONNECTED', node: 0 });
  expect(await ours.ask({ op: 'join', name: UUID })).toBe('joined');
  const last = new TestLock(ours);
  expect(metaLvb((await last.take(root, PR, { valueBlock: true })).lvb)).toMatchObject({ version: 5, generation: fsGeneration });
  await last.unlock();
  expect(await ours.ask({ op: 'leaveDomain' })).toBe('left');
  await low.umount('/mnt');
  await ours.leave();
  await low.shutdown(OF_DEATHS);
  await mustBeClean(lun);
});
