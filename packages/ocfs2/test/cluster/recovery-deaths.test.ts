/**
 * A member that dies within each step of what it does for another that died: what the first had synced is there, what the first owed is given
 * back by those who are left, once, but for clusters that only the second's memory knew (alloc/take-over.ts). That it died within the step is not left to chance: the step's own operation is waited for.
 */
import { describe, expect, test } from 'vitest';
import { checkVolume } from '../../src/check/index.js';
import { punchHole, readFile, truncateFile, writeFile } from '../../src/volume/index.js';
import { CLUSTER_ARGS, type ClusterNode, TestCluster } from '../support/cluster.js';
import { expectFsckClean } from '../support/volume.js';
import { FILE, bytes } from '../volume/support.js';

const SPEC = { size: 160 << 20, mkfsArgs: [...CLUSTER_ARGS, '--fs-features=usrquota,grpquota'] };
const CLUSTER = 4096;

/** Operations of the engine by name, in the order in which recovery comes to them, and what may be left where a node dies there. */
const STEPS = [
  ['takeOverClusters', 'take over slot', []], ['freeTakenOver', 'free clusters of a dead node', ['CLUSTER_ALLOC_BIT']], ['Quota.recover', 'quota recovery', []],
  ['Volume.finishRecovery: orphans', 'wipe', []],
] as const;
const MOMENTS = ['when it begins', 'when it is done, and not durable', 'a few requests later'] as const;

/** Records in the truncate log, each of one cluster: every second one of a file is punched out of it. */
async function owe({ volume: { names, ctx } }: ClusterNode, name: string, records: number): Promise<void> {
  const { blkno } = await names.create(names.root, bytes(name), FILE);
  await writeFile(ctx, blkno, 0, new Uint8Array(2 * records * CLUSTER).fill(1));
  for (let i = 0; i < records; i++) await punchHole(ctx, blkno, 2 * i * CLUSTER, CLUSTER);
  await names.forget(blkno);
}

/** Resolves with the node that comes to this operation first, at the moment. */
function reaches(nodes: readonly ClusterNode[], operation: string, moment: (typeof MOMENTS)[number]): Promise<ClusterNode> {
  return new Promise((resolve, reject) => {
    for (const node of nodes) {
      const { engine } = node.volume.ctx;
      const run = engine.run.bind(engine);
      engine.run = (name, ...rest) => {
        if (name !== operation) return run(name, ...rest);
        if (moment === 'when it begins') resolve(node);
        const result = run(name, ...rest);
        if (moment !== 'when it begins') {
          const { requests } = node.device;
          result.then(async () => {
            for (let i = 0; moment === 'a few requests later' && i < 200 && node.device.requests < requests + 4; i++) await new Promise((next) => setImmediate(next));
            resolve(node);
          }, reject);
        }
        return result;
      };
    }
  });
}

describe.each(STEPS)('a member dies in %s', { timeout: 300_000 }, (_, operation, leaks: readonly string[]) => {
  test.each(MOMENTS)('%s', async (moment) => {
    const cluster = await TestCluster.make(operation.length * 7 + moment.length, SPEC);
    const first = await cluster.mount(1);
    const others = [await cluster.mount(2), await cluster.mount(3)];
    // Where another's records do not fit into its own truncate log, a node has to free them itself: 487 fit.
    if (operation === 'free clusters of a dead node') for (const node of others) await owe(node, `o${node.number}`, 470);
    await owe(first, 'cut', 60);
    const { names, ctx } = first.volume;
    const kept = await names.create(names.root, bytes('kept'), { ...FILE, uid: 1000, gid: 1000 });
    await writeFile(ctx, kept.blkno, 0, new Uint8Array(50_000).fill(3));
    const orphan = await names.create(names.root, bytes('orphan'), { ...FILE, uid: 1000, gid: 1000 });
    await writeFile(ctx, orphan.blkno, 0, new Uint8Array(300_000).fill(4));
    await names.unlink(names.root, bytes('orphan')); // it is in use
    await truncateFile(ctx, kept.blkno, 40_000);
    await first.volume.sync();

    const reached = reaches(others, operation, moment);
    cluster.kill(1);
    const second = await reached;
    cluster.kill(second.number);
    const [last] = others.filter((node) => node !== second);
    const content = new Uint8Array(40_000);
    const { blkno, size } = await last.volume.names.lookup(last.volume.names.root, bytes('kept'));
    await readFile(last.volume.ctx, blkno, 0, content);
    expect([size, content.every((byte) => byte === 3)]).toEqual([40_000, true]);
    await last.volume.names.forget(blkno);
    await cluster.unmount(last);
    await cluster.unmount(await cluster.mount(9));
    expect((await checkVolume(cluster.lun)).findings.filter(({ code }) => !leaks.includes(code))).toEqual([]);
    await expectFsckClean(cluster.lun, leaks);
  });
});
