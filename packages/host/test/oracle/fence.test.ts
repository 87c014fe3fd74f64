/**
 * The fence, with real processes: whoever is stopped for longer than peers wait, the volume process or lunfsd, no write of the old
 * incarnation reaches the LUN once peers may have begun to recover it, nor when what was stopped goes on; and the volume comes back by
 * itself. What the LUN got is told by a witness beside both (test/support/witness.ts).
 */
import * as fs from 'node:fs';
import path from 'node:path';
import { monotonicMs } from '@lunfs/device';
import type { ClusterFacts, ManagedFacts } from '@lunfs/host';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LunfsHost } from '../../../../test/support/lunfs-host.js';
import { lacks, mkfs, mustBeClean } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup, tempDir } from '../../../../test/support/temp.js';
import { until } from '../../../../test/support/until.js';
import { type Witness, witness } from '../../../../test/support/witness.js';

const THRESHOLD = 7;
/** From the submission of a beat until a peer may take the node for dead: docs/fencing.md. */
const DEAD_MS = (THRESHOLD - 1) * 2000;

const pause = (ms: number): Promise<void> => new Promise((resolve) => { setTimeout(resolve, ms); });

describe.skipIf(lacks('ocfs2-tools', 'fuse'))('a host that is stopped for longer than its peers wait', () => {
  let cleanup: Cleanup;
  let host: LunfsHost;
  let lun: Witness;
  let image: string;
  /** Bytes of the heartbeat's region. */
  let region: { readonly from: number; readonly to: number };

  beforeEach(async () => {
    cleanup = new Cleanup();
    const directory = tempDir(cleanup, 'fence');
    image = path.join(directory, 'lun');
    await mkfs(image, { size: 256 << 20, blockSize: 4096, clusterSize: 4096, slots: 2, cluster: 'ocfs2' });
    lun = await witness(cleanup, image, ['one']);
    const nodes = [{ number: 3, name: 'one', address: '127.0.91.3', port: 7791 }, { number: 4, name: 'two', address: '127.0.91.4', port: 7791 }];
    host = new LunfsHost(cleanup, { name: 'ocfs2', nodes, settings: { threshold: THRESHOLD, idleMs: 5000 } }, nodes[0], lun.device('one'));
    await host.up();
    await host.mountVolume();
    const beats = lun.log.filter((write) => write.length === 512 && write.begins[8] === 3 && write.begins.readUInt32LE(24 + 4) === 0 && write.begins.readUInt32LE(24) === THRESHOLD * 2000);
    expect(beats.length).toBeGreaterThan(2);
    region = { from: beats[0].offset, to: beats[0].offset + 512 };
  }, 180_000);
  afterEach(() => cleanup.run(), 180_000);

  const logs = (): string => host.logs();
  const soon = { everyMs: 200, withinMs: 120_000 };
  const volume = async (): Promise<ManagedFacts> => (await host.json<ClusterFacts>('cluster', 'status')).volumes[0];
  const tasks = (pid: number): Set<number> => new Set(fs.readdirSync(`/proc/${pid}/task`).map(Number));
  const isBeat = ({ offset }: { readonly offset: number }): boolean => offset >= region.from && offset < region.to;

  /** Somebody writes all the time: to a mapped file in place, and names. Ends when the mount does. */
  async function load(): Promise<void> {
    await host.do('dd if=/dev/zero of=$M/file bs=64k count=16 oflag=direct status=none; sync');
    for (const command of ['dd if=/dev/zero of=$M/file bs=4k count=200 oflag=direct conv=notrunc status=none', 'touch $M/n && sync $M/n && rm $M/n']) {
      const loop = host.sh(`while ${command}; do :; done`, 60);
      cleanup.add(async () => void (await loop));
    }
    await pause(1000);
  }

  /** The old incarnation's writes: none after `limit`, though there were many before `from`. */
  function silentAfter(old: ReadonlySet<number>, from: number, limit: number): void {
    const writes = lun.log.filter((write) => old.has(write.task));
    expect(writes.filter(({ at }) => at < from).length).toBeGreaterThan(10);
    expect(writes.filter(({ at }) => at >= limit)).toEqual([]);
  }

  async function comesBack(old: number): Promise<void> {
    await until('the volume is mounted again', async () => {
      const now = await volume();
      return now?.state === 'mounted' && now.pid !== old;
    }, logs, soon);
    const now = await volume();
    expect(now.fenced).toBeGreaterThan(0);
    await host.do('ls $M; echo after > $M/after; sync $M/after');
    await host.must('down');
    await mustBeClean(image);
  }

  it('the volume process: it is killed before the deadline, and what it had in hand is never written', { timeout: 300_000 }, async () => {
    const { pid } = await volume();
    await load();
    const old = tasks(pid!);
    process.kill(pid!, 'SIGSTOP');
    const stopped = monotonicMs();
    await until('the stopped process is killed', () => !fs.existsSync(`/proc/${pid}`), logs, soon);
    const lastBeat = lun.log.findLast((write) => isBeat(write) && write.at <= stopped)!;
    silentAfter(old, stopped, lastBeat.at + DEAD_MS);
    expect(host.logs()).toContain('no sign of life');
    await comesBack(pid!);
    silentAfter(old, stopped, lastBeat.at + DEAD_MS);
  });

  it('lunfsd: the volume process parks its I/O and ends; lunfsd, when it goes on, begins anew', { timeout: 300_000 }, async () => {
    const { pid } = await volume();
    const daemon = (await host.json<ClusterFacts>('cluster', 'status')).pid;
    await load();
    const old = tasks(pid!);
    const heartbeat = tasks(daemon);
    process.kill(daemon, 'SIGSTOP');
    const stopped = monotonicMs();
    cleanup.add(() => {
      try {
        process.kill(daemon, 'SIGCONT');
      } catch {
        // gone
      }
    });
    await pause(200);
    const lastBeat = lun.log.findLast(isBeat)!;
    // Nobody reaps it while its parent stands still: a zombie has no tasks but itself.
    await until('the volume process ends by itself', () => /^State:\s+Z/m.test(fs.readFileSync(`/proc/${pid}/status`, 'latin1')), logs, soon);
    silentAfter(old, stopped, lastBeat.at + DEAD_MS);
    await pause(Math.max(0, lastBeat.at + DEAD_MS + 2000 - monotonicMs()));
    const goesOn = monotonicMs();
    process.kill(daemon, 'SIGCONT');
    await comesBack(pid!);
    silentAfter(old, stopped, lastBeat.at + DEAD_MS);
    // Its old generation beats no more: one beat may have been in the thread's hands.
    const generation = (write: { readonly begins: Buffer }): bigint => write.begins.readBigUInt64LE(16);
    const late = lun.log.filter((write) => isBeat(write) && write.at >= goesOn && heartbeat.has(write.task) && generation(write) === generation(lastBeat));
    expect(late.length).toBeLessThanOrEqual(1);
  });
});
