/** Leases of disks among members: one of those who race, what a death leaves, who comes back, and what a record of another file is worth. */
import { describe, expect, test } from 'vitest';
import { RawReader, readSystemFiles } from '../../src/inspect/index.js';
import { SlotMap, readLease } from '../../src/volume/index.js';
import { EX, PR } from '../../src/locking/index.js';
import { TestCluster } from '../support/cluster.js';
import { code, host, leave, read } from '../support/leases.js';
import { expectFsckClean } from '../support/volume.js';

async function nodesWithSlots({ lun }: TestCluster): Promise<number[]> {
  const reader = await RawReader.open(lun);
  return (await SlotMap.read(reader, (await readSystemFiles(reader)).slotMap)).taken().map(({ node }) => node);
}

describe('a lease', () => {
  test.each([1, 2, 3])('is had by exactly one of those who race for it, with the next epoch each time (seed %i)', async (seed) => {
    const cluster = await TestCluster.make(seed);
    const hosts = [await host(cluster, 1), await host(cluster, 2), await host(cluster, 3)];
    for (let epoch = 1; epoch <= 4; epoch++) {
      const answers = await Promise.all(hosts.map(({ leases, disk }) => leases.acquire(disk).catch((error: { code: string }) => error.code)));
      expect(answers.map(String).sort()).toEqual([String(epoch), 'DISK_IN_USE', 'DISK_IN_USE']);
      const winner = hosts[answers.indexOf(epoch)];
      for (const one of hosts) expect(await read(one)).toMatchObject({ state: 'held', epoch, holder: { node: winner.number }, host: `host${winner.number}` });
      await winner.leases.release(winner.disk);
      for (const one of hosts) expect(await read(one)).toMatchObject({ state: 'released', epoch, holder: { node: winner.number } });
    }
    for (const one of hosts) await leave(cluster, one);
    await expectFsckClean(cluster.lun);
  });

  test('is refused with the name of the host that has it, since when, and what to do', async () => {
    const cluster = await TestCluster.make(11);
    const a = await host(cluster, 1), b = await host(cluster, 2);
    expect(await read(a)).toBeUndefined();
    await a.leases.acquire(a.disk);
    await expect(b.leases.acquire(b.disk)).rejects.toMatchObject({ code: 'DISK_IN_USE', kind: 'cluster', errno: 'EBUSY', fields: { node: 1, host: 'host1', epoch: 1 }, message: expect.stringMatching(/vm\.raw is in use on host host1 \(node 1\) since 20\d\d-.*unexport/) as string });
    // A second export of the same host is one more user; the last one releases.
    expect(await a.leases.acquire(a.disk)).toBe(1);
    await a.leases.release(a.disk);
    expect(await code(b.leases.acquire(b.disk))).toBe('DISK_IN_USE');
    let ran = false;
    expect(await code(b.leases.guard(b.disk, async () => void (ran = true)))).toBe('DISK_IN_USE');
    await a.leases.release(a.disk);
    await b.leases.guard(b.disk, async () => void (ran = true));
    expect(ran).toBe(true);
    expect(await b.leases.acquire(b.disk)).toBe(2);
    await b.leases.release(b.disk);
    for (const one of [a, b]) await leave(cluster, one);
    await expectFsckClean(cluster.lun);
  });

  test('is the flock of the file, too: programs see it, and are seen', async () => {
    const cluster = await TestCluster.make(12);
    const a = await host(cluster, 1), b = await host(cluster, 2);
    const { flocks } = b.volume;
    await a.leases.acquire(a.disk);
    for (const level of [PR, EX] as const) expect(await flocks!.lock(b.disk.ino, 7n, level)).toBe(false);
    await a.leases.release(a.disk);
    expect(await flocks!.lock(b.disk.ino, 7n, PR)).toBe(true);
    for (const one of [a, b]) await expect(one.leases.acquire(one.disk)).rejects.toMatchObject({ code: 'DISK_IN_USE', message: expect.stringContaining('flock(2)') as string });
    await flocks!.close(b.disk.ino, 7n);
    expect(await a.leases.acquire(a.disk)).toBe(2);
    await a.leases.release(a.disk);
    for (const one of [a, b]) await leave(cluster, one);
  });

  test.each([21, 22])('of a host that dies is had by nobody before its journal is replayed, and then with the next epoch (seed %i)', async (seed) => {
    const cluster = await TestCluster.make(seed);
    const a = await host(cluster, 1), b = await host(cluster, 2), c = await host(cluster, 3);
    expect(await a.leases.acquire(a.disk)).toBe(1);
    expect(await code(b.leases.acquire(b.disk))).toBe('DISK_IN_USE');
    // c hears of it late: b may have the lock of the dead one before c knows.
    const told = cluster.kill(1, [3]);
    expect(await nodesWithSlots(cluster)).toContain(1);
    const tries = [b, c].map(async ({ leases, disk }) => {
      const answer = await code(leases.acquire(disk));
      return { answer, slots: await nodesWithSlots(cluster) };
    });
    setTimeout(told, 20);
    const answers = await Promise.all(tries);
    expect(answers.map(({ answer }) => answer).sort()).toEqual(['DISK_IN_USE', 'done']);
    expect(answers.find(({ answer }) => answer === 'done')!.slots).not.toContain(1);
    expect(await read(b)).toMatchObject({ state: 'held', epoch: 2 });
    for (const one of [b, c]) {
      if (one.leases.epochOf(one.disk.ino) !== undefined) await one.leases.release(one.disk);
      await leave(cluster, one);
    }
    await expectFsckClean(cluster.lun);
  });

  test('is resumed by the host that had it if nobody has had it since, and by nobody else', async () => {
    const cluster = await TestCluster.make(31);
    const a = await host(cluster, 1), b = await host(cluster, 2);
    const epoch = await a.leases.acquire(a.disk);
    cluster.kill(1);
    expect(await code(b.leases.resume(b.disk, epoch))).toBe('LEASE_LOST');
    const again = await host(cluster, 1);
    expect(await again.leases.resume(again.disk, epoch)).toBe(epoch);
    expect(await read(b)).toMatchObject({ state: 'held', epoch, holder: { node: 1, incarnation: again.leases.self.incarnation } });
    expect(await code(b.leases.acquire(b.disk))).toBe('DISK_IN_USE');
    cluster.kill(1);
    expect(await b.leases.acquire(b.disk)).toBe(epoch + 1);
    const third = await host(cluster, 1);
    await expect(third.leases.resume(third.disk, epoch)).rejects.toMatchObject({ code: 'DISK_IN_USE', fields: { node: 2 } });
    await b.leases.release(b.disk);
    await expect(third.leases.resume(third.disk, epoch)).rejects.toMatchObject({ code: 'LEASE_LOST', message: expect.stringContaining('is host2\'s with epoch 2') as string });
    // What was lost is begun anew, and nothing is left of the refusals.
    expect(await third.leases.acquire(third.disk)).toBe(epoch + 2);
    await third.leases.release(third.disk);
    for (const one of [b, third]) await leave(cluster, one);
    await expectFsckClean(cluster.lun);
  });

  test('survives the death of all, and a clone has none', async () => {
    const cluster = await TestCluster.make(41);
    const a = await host(cluster, 1), b = await host(cluster, 2);
    await a.leases.acquire(a.disk);
    const { names } = a.volume;
    const clone = await names.reflink(a.disk.ino, names.root, Buffer.from('clone.raw'), { uid: 0, gid: 0, preserve: true });
    expect((await names.listXattr(clone.blkno)).map(String)).toContain('trusted.lunfs.lease');
    expect(await readLease(a.volume.ctx, clone.blkno)).toBeUndefined();
    const cloned = await host(cluster, 3, Buffer.from('clone.raw'));
    expect(await cloned.leases.acquire(cloned.disk)).toBe(1);
    for (const node of [1, 2, 3]) cluster.kill(node);
    const c = await host(cluster, 4);
    expect(await read(c)).toMatchObject({ state: 'held', epoch: 1, holder: { node: 1 } });
    expect(await c.leases.acquire(c.disk)).toBe(2);
    await c.leases.release(c.disk);
    await leave(cluster, c);
    expect(b.device.alive).toBe(false);
    await expectFsckClean(cluster.lun);
  });

  test('that cannot be understood is refused by name, and harms nothing', async () => {
    const cluster = await TestCluster.make(51);
    const a = await host(cluster, 1);
    await a.leases.acquire(a.disk);
    await a.leases.release(a.disk);
    const { names } = a.volume;
    const name = Buffer.from('trusted.lunfs.lease');
    const good = await names.getXattr(a.disk.ino, name);
    const bad: ((value: Uint8Array) => Uint8Array)[] = [
      (value) => value.subarray(0, 79), (value) => Uint8Array.of(2, ...value.subarray(1)), (value) => Uint8Array.of(1, 9, ...value.subarray(2)),
      ...[16, 40].map((at) => (value: Uint8Array) => value.fill(0xff, at, at + 8)), (value) => value.fill(0, 24, 32),
    ];
    for (const change of bad) {
      await names.setXattr(a.disk.ino, name, change(good.slice()));
      expect(await code(a.leases.acquire(a.disk))).toBe('LEASE_UNKNOWN');
      expect(await code(read(a))).toBe('LEASE_UNKNOWN');
    }
    expect(a.volume.readOnlyReason).toBeUndefined();
    await names.removeXattr(a.disk.ino, name);
    expect(await a.leases.acquire(a.disk)).toBe(1);
    await a.leases.release(a.disk);
    await leave(cluster, a);
  });

  test('needs attributes', async () => {
    const cluster = await TestCluster.make(61, { size: 160 << 20, mkfsArgs: ['-b', '4096', '-C', '4096', '-N', '4', '-J', 'size=4M', '--cluster-stack=o2cb', '--cluster-name=test', '--fs-features=noxattr'] });
    const a = await host(cluster, 1);
    await expect(a.leases.acquire(a.disk)).rejects.toMatchObject({ code: 'LEASE_NEEDS_XATTR', message: expect.stringContaining('--fs-features=xattr') as string });
    expect(await read(a)).toBeUndefined();
    await leave(cluster, a);
  });
});
