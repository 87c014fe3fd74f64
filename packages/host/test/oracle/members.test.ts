/**
 * Two hosts of ours on one machine mount one volume: each sees what the other does, a main thread that stands still loses nothing, a killed volume process is recovered by the other and
 * comes back by itself with its exports, and the volume is clean in the end. The LUN notes who writes (test/support/witness.ts).
 */
import * as fs from 'node:fs';
import path from 'node:path';
import { monotonicMs } from '@lunfs/device';
import type { ClusterFacts, ExportFacts, LockFacts } from '@lunfs/host';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LunfsHost } from '../../../../test/support/lunfs-host.js';
import { lacks, mkfs, mustBeClean } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup, must, tempDir } from '../../../../test/support/temp.js';
import { type Witness, witness } from '../../../../test/support/witness.js';

describe.skipIf(lacks('ocfs2-tools', 'fuse', 'qemu'))('two hosts on one volume', () => {
  const cleanup = new Cleanup();
  let image: string;
  let one: LunfsHost;
  let two: LunfsHost;
  let lun: Witness;

  beforeAll(async () => {
    image = path.join(tempDir(cleanup, 'members'), 'lun');
    await mkfs(image, { size: 512 << 20, blockSize: 4096, clusterSize: 4096, slots: 4, cluster: 'ocfs2' });
    lun = await witness(cleanup, image, ['one', 'two']);
    const nodes = [{ number: 1, name: 'one', address: '127.0.93.1', port: 7793 }, { number: 2, name: 'two', address: '127.0.93.2', port: 7793 }];
    const cluster = { name: 'ocfs2', nodes, settings: { threshold: 7, idleMs: 5000 } };
    [one, two] = nodes.map((node) => new LunfsHost(cleanup, cluster, node, lun.device(node.name)));
    one.canStandStill();
  }, 120_000);
  afterAll(() => cleanup.run(), 120_000);

  const status = (host: LunfsHost): Promise<ClusterFacts> => host.json<ClusterFacts>('cluster', 'status');

  it('see what the other does', { timeout: 240_000 }, async () => {
    await Promise.all([one, two].map(async (host) => {
      await host.up();
      await host.mountVolume();
    }));
    expect((await status(one)).volumes).toMatchObject([{ state: 'mounted', domain: { members: [1, 2], recovering: [] } }]);
    await one.do('mkdir $M/d; for i in $(seq 20); do echo $i > $M/d/a$i; done');
    expect(await two.do('cat $M/d/a* | sort -n | tail -n1; for i in $(seq 20); do mv $M/d/a$i $M/d/b$i; done; rm $M/d/b1')).toBe('20\n');
    expect(await one.do('ls $M/d | wc -l; test ! -e $M/d/a2; cat $M/d/b2')).toBe('19\n2\n');
    const both = [one, two].map((host) => host.do(`for i in $(seq 40); do echo ${host.node.name} $i >> $M/turns; : > $M/d/${host.node.name}$i; done`));
    await Promise.all(both);
    for (const host of [one, two]) expect(await host.do('wc -l < $M/turns; ls $M/d | wc -l')).toBe('80\n99\n');
    // flock(2): one host holds it, the other is refused, waits, and gets it.
    const held = one.do(`touch $M/lock; flock -x $M/lock -c 'touch ${one.directory}/held; while [ -e ${one.directory}/held ]; do sleep 0.1; done'`);
    await two.do(`until [ -e ${one.directory}/held ]; do sleep 0.1; done; ! flock -n -s $M/lock -c true`);
    const waiting = two.do(`flock -s $M/lock -c 'echo got it'`);
    await two.do(`sleep 0.5; rm ${one.directory}/held`);
    expect(await waiting).toBe('got it\n');
    await held;
    const locks = await two.json<LockFacts[]>('locks', two.mount);
    expect(locks).toContainEqual(expect.objectContaining({ name: expect.stringMatching(/^M0{6}/) as string, level: expect.stringMatching(/^(PR|EX|NL)$/) as string }));
  });

  it('beat, and keep their deadlines, while a main thread stands still for six seconds', { timeout: 240_000 }, async () => {
    const before = await status(one);
    const { pid, volumes: [{ pid: volume }] } = before;
    const tasks = (of: number): number[] => fs.readdirSync(`/proc/${of}/task`).map(Number);
    const daemon = tasks(pid);
    const process1 = tasks(volume!);
    // A beat of node 1: one sector, its number in it, T × 2 s promised (docs/fencing.md).
    const beats = lun.log.filter(({ host, task, length, begins }) => host === 'one' && daemon.includes(task) && length === 512 && begins[8] === 1 && begins.readUInt32LE(24) === 14_000);
    const [{ offset }] = beats;
    /** What another reader finds in the slot. */
    const slot = (): { seq: bigint; generation: bigint } => {
      const bytes = Buffer.alloc(512);
      const fd = fs.openSync(image, 'r');
      fs.readSync(fd, bytes, 0, 512, offset);
      fs.closeSync(fd);
      return { seq: bytes.readBigUInt64LE(0), generation: bytes.readBigUInt64LE(16) };
    };
    const { seq, generation } = slot();
    await one.do('dd if=/dev/zero of=$M/place bs=64k count=16 oflag=direct status=none; sync');
    // In place, by locks that are held: it needs no main thread, and every write asks the fence.
    const load = one.sh(`touch ${one.directory}/loading; while [ -e ${one.directory}/loading ]; do dd if=/dev/zero of=$M/place bs=4k count=200 oflag=direct conv=notrunc status=none || exit 1; done`, 120);
    await one.do(`until [ -e ${one.directory}/loading ]; do sleep 0.1; done; sleep 1`);
    for (const still of [pid, volume!]) {
      let answered = 0;
      const asked = one.run('cluster', 'status').then(() => (answered = monotonicMs()));
      const [{ from, to }] = await Promise.all([one.standStill(still), asked]);
      const meanwhile = lun.log.filter(({ at }) => at > from && at < to);
      const seqs = meanwhile.filter((write) => write.offset === offset && write.length === 512).map(({ begins }) => begins.readBigUInt64LE(0));
      expect(to - from).toBeGreaterThanOrEqual(5990);
      expect(new Set(seqs).size, 'beats meanwhile').toBeGreaterThanOrEqual(2);
      // Nobody else answers for a thread that stands still; the volume's data goes on without lunfsd's.
      if (still === pid) {
        expect(answered).toBeGreaterThanOrEqual(to);
        expect(meanwhile.some((write) => process1.includes(write.task))).toBe(true);
      }
      expect((await status(two)).regions[0].live.map(({ node }) => node)).toEqual([1, 2]);
    }
    fs.rmSync(`${one.directory}/loading`);
    expect(await load).toMatchObject({ code: 0 });
    const now = slot();
    expect([now.seq > seq, now.generation]).toEqual([true, generation]);
    const after = await status(one);
    expect([after.pid, after.volumes[0]]).toEqual([pid, expect.objectContaining({ pid: volume, state: 'mounted', fenced: 0 })]);
    expect(two.logs()).not.toMatch(/has died|its heartbeat has ended/);
    await two.do('echo after > $M/after-still');
    expect(await one.do('cat $M/after-still; rm $M/after-still $M/place')).toBe('after\n');
    for (const host of [one, two]) expect((await status(host)).volumes).toMatchObject([{ domain: { members: [1, 2], recovering: [] } }]);
  });

  it('recover one that dies, which comes back with its exports', { timeout: 240_000 }, async () => {
    await one.must('disk', 'create', `${one.device}:/disk.raw`, '16M');
    const exported = await one.json<ExportFacts>('disk', 'export', `${one.device}:/disk.raw`);
    await must('qemu-io', ['-f', 'raw', '-c', 'write -P 7 0 64k', '-c', 'flush', exported.uri]);
    // What a guest writes is seen by the other host at once, and the other way round: mappings are given back with the locks.
    expect(await two.do(`head -c 65536 $M/disk.raw | tr -d '\\007' | wc -c`)).toBe('0\n');
    await two.do(`head -c 4096 /dev/zero | tr '\\0' '\\011' | dd of=$M/disk.raw bs=4096 seek=32 conv=notrunc oflag=direct status=none`);
    await must('qemu-io', ['-r', '-f', 'raw', '-c', 'read -P 9 128k 4k', '-c', 'read -P 7 0 64k', exported.uri]);
    const { pid } = (await status(one)).volumes[0];
    await one.do('echo synced > $M/synced; sync $M/synced');
    process.kill(pid!, 'SIGKILL');
    expect(await two.do('cat $M/synced; echo more >> $M/turns; tail -n1 $M/turns', 100)).toBe('synced\nmore\n');
    await expect.poll(async () => (await status(one)).volumes[0], { timeout: 100_000, interval: 500 }).toMatchObject({ state: 'mounted', lastEnd: 'SIGKILL' });
    expect(await one.do('tail -n1 $M/turns')).toBe('more\n');
    await must('qemu-io', ['-r', '-f', 'raw', '-c', 'read -P 7 0 64k', exported.uri]);
    expect((await status(two)).volumes[0]).toMatchObject({ state: 'mounted', domain: { members: [1, 2], recovering: [] } });
  });

  it('a host with a copy of the LUN is told from the network, and refused', { timeout: 240_000 }, async () => {
    const [mine, copy] = ['mine', 'copy'].map((name) => path.join(path.dirname(image), name));
    await mkfs(mine, { size: 256 << 20, blockSize: 4096, clusterSize: 4096, slots: 2, cluster: 'ocfs2' });
    fs.copyFileSync(mine, copy);
    const there = path.join(one.directory, 'other');
    fs.mkdirSync(there);
    await one.must('mount', mine, there);
    const refused = await two.run('mount', copy, one.directory);
    expect(refused).toMatchObject({ code: 32, stderr: expect.stringMatching(/of node 1 there is no beat on the disk as this host sees it, though it uses this volume on the network/) as string });
    await one.must('umount', there);
    await mustBeClean(copy);
    expect((await status(one)).volumes).toMatchObject([{ state: 'mounted', domain: { members: [1, 2], recovering: [] } }]);
  });

  it('leave in good order', { timeout: 240_000 }, async () => {
    expect(await one.run('mount', one.device, one.mount)).toMatchObject({ code: 32, stderr: expect.stringContaining('mounted on') as string });
    await two.must('umount', two.mount);
    await two.mountVolume();
    expect(await two.do('cat $M/synced')).toBe('synced\n');
    await Promise.all([one.must('umount', '--force', one.device), two.must('down')]);
    expect((await status(one)).volumes).toEqual([]);
    await one.must('down');
    await mustBeClean(image);
  });
});
