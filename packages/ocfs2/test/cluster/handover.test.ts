/**
 * A lease that goes from host to host with its guest: whoever dies, at whatever request of it, one of both can go on and the other cannot, and nobody
 * else has had the disk in between.
 */
import { describe, expect, test } from 'vitest';
import { TestCluster } from '../support/cluster.js';
import { type Host, code, host, leave, read } from '../support/leases.js';
import { expectFsckClean } from '../support/volume.js';

const EPOCH = 1;

interface Scene {
  readonly cluster: TestCluster;
  readonly source: Host;
  readonly target: Host;
  /** Somebody else. */
  readonly other: Host;
  readonly abort: AbortController;
  /** Of the target. */
  readonly active: Promise<number>;
}

/** The source has the lease and has offered it; the target has accepted. */
async function offered(seed: number): Promise<Scene> {
  const cluster = await TestCluster.make(seed);
  const [source, target, other] = [await host(cluster, 1), await host(cluster, 2), await host(cluster, 3)];
  expect(await source.leases.acquire(source.disk)).toBe(EPOCH);
  await source.leases.offer(source.disk, target.number);
  const abort = new AbortController();
  const { active } = await target.leases.accept(target.disk, abort.signal);
  return { cluster, source, target, other, abort, active };
}

async function end({ cluster }: Scene, ...hosts: readonly Host[]): Promise<void> {
  for (const one of hosts) {
    if (one.leases.epochOf(one.disk.ino) !== undefined) await one.leases.release(one.disk);
    await leave(cluster, one);
  }
  await expectFsckClean(cluster.lun);
}

describe('a hand-over', () => {
  test('gives the lease to the target with the next epoch; nobody has it in between', async () => {
    const scene = await offered(1);
    const { source, target, other, active } = scene;
    expect(await read(other)).toMatchObject({ state: 'incoming', epoch: EPOCH, holder: { node: 1 }, other: { node: 2, incarnation: target.leases.self.incarnation } });
    const tries = (async () => {
      const seen = new Set<string>();
      while (target.leases.epochOf(target.disk.ino) === undefined) seen.add(await code(other.leases.acquire(other.disk)));
      return [...seen];
    })();
    expect(await source.leases.switchOver(source.disk)).toBe(EPOCH + 1);
    expect(await active).toBe(EPOCH + 1);
    expect(await tries).toEqual(['DISK_IN_USE']);
    expect(await read(source)).toMatchObject({ state: 'held', epoch: EPOCH + 1, holder: { node: 2, incarnation: target.leases.self.incarnation }, host: 'host2' });
    expect(await code(source.leases.takeBack(source.disk))).toBe('DISK_IN_USE');
    expect(await code(source.leases.acquire(source.disk))).toBe('DISK_IN_USE');
    // And back, as often as anybody likes.
    await target.leases.offer(target.disk, 1);
    const back = await source.leases.accept(source.disk, scene.abort.signal);
    await target.leases.switchOver(target.disk);
    expect(await back.active).toBe(EPOCH + 2);
    await end(scene, source, target, other);
  });

  test('is refused to who was not asked, to oneself, to who has not accepted, and beside other exports', async () => {
    const scene = await offered(2);
    const { cluster, source, target, other, abort, active } = scene;
    const signal = new AbortController().signal;
    expect(await code(other.leases.accept(other.disk, signal))).toBe('NOT_OFFERED');
    expect(await code(target.leases.accept(target.disk, signal))).toBe('DISK_IN_USE');
    expect(await code(target.leases.acquire(target.disk))).toBe('DISK_IN_USE');
    expect(await code(source.leases.offer(source.disk, 1))).toBe('HANDOVER_SELF');
    expect(await code(other.leases.offer(other.disk, 1))).toBe('LEASE_LOST');
    await source.leases.acquire(source.disk);
    expect(await code(source.leases.switchOver(source.disk))).toBe('HANDOVER_SHARED');
    await source.leases.release(source.disk);
    // Another offer withdraws the first.
    await source.leases.offer(source.disk, 3);
    expect(await code(source.leases.switchOver(source.disk))).toBe('NOT_ACCEPTED');
    abort.abort();
    expect(await code(active)).toBe('INTERRUPTED');
    const mind = new AbortController();
    const second = await other.leases.accept(other.disk, mind.signal);
    // Who dies has accepted nothing.
    cluster.kill(3);
    expect(await code(source.leases.switchOver(source.disk))).toBe('NOT_ACCEPTED');
    void second.active.catch(() => undefined);
    await source.leases.withdraw(source.disk);
    expect(await read(target)).toMatchObject({ state: 'held', epoch: EPOCH, holder: { node: 1 } });
    await end(scene, source, target);
  });

  test('can be given up by either side; the source goes on', async () => {
    const scene = await offered(3);
    const { source, target, other, abort, active } = scene;
    abort.abort();
    expect(await code(active)).toBe('INTERRUPTED');
    expect(await read(other)).toMatchObject({ state: 'held', epoch: EPOCH, holder: { node: 1 } });
    expect(await code(source.leases.switchOver(source.disk))).toBe('NOT_ACCEPTED');
    await source.leases.offer(source.disk, 2);
    const again = await target.leases.accept(target.disk, new AbortController().signal);
    await source.leases.withdraw(source.disk);
    expect(await code(other.leases.acquire(other.disk))).toBe('DISK_IN_USE');
    // The source ends without having switched: the target is not to go on.
    await source.leases.release(source.disk);
    expect(await code(again.active)).toBe('HANDOVER_LOST');
    expect(await other.leases.acquire(other.disk)).toBe(EPOCH + 1);
    await end(scene, source, target, other);
  });

  // Crashes are tried at requests of the side that dies, until it is through; LUNFS_THOROUGH=1: at each.
  const REQUESTS = 60;
  const STEP = process.env.LUNFS_THOROUGH === '1' ? 1 : 2;

  test('the source dies at any request of the switch: the target has it, or the source resumes', { timeout: 600_000 }, async () => {
    const went: string[] = [];
    for (let n = 0, through = false; !through && n < REQUESTS; n += STEP) {
      const scene = await offered(100 + n);
      const { cluster, source, target, other, active } = scene;
      const from = source.device.requests;
      const killed = cluster.requests(1, from + n).then(() => cluster.kill(1));
      const switched = source.leases.switchOver(source.disk).then(() => {
        through = source.device.alive;
      }, () => undefined);
      void switched;
      await killed;
      const outcome = await code(active);
      const again = await host(cluster, 1);
      const resumed = await code(again.leases.resume(again.disk, EPOCH));
      went.push(outcome);
      expect([outcome, resumed], `${n} requests`).toEqual(outcome === 'done' ? ['done', 'DISK_IN_USE'] : ['HANDOVER_LOST', 'done']);
      expect((outcome === 'done' ? target : again).leases.epochOf(again.disk.ino)).toBe(outcome === 'done' ? EPOCH + 1 : EPOCH);
      expect(await code(other.leases.acquire(other.disk))).toBe('DISK_IN_USE');
      await end(scene, again, target, other);
    }
    expect(new Set(went)).toEqual(new Set(['HANDOVER_LOST', 'done']));
  });

  test('the target dies at any request of its beginning: the source takes the lease back, or it is who has the disk next', { timeout: 600_000 }, async () => {
    const went: string[] = [];
    for (let n = 0, through = false; !through && n < REQUESTS; n += STEP) {
      const scene = await offered(200 + n);
      const { cluster, source, target, other, active } = scene;
      const from = target.device.requests;
      void active.then(() => {
        through = target.device.alive;
      }, () => undefined);
      await source.leases.switchOver(source.disk);
      await cluster.requests(2, from + n);
      cluster.kill(2);
      const back = await code(source.leases.takeBack(source.disk));
      went.push(back);
      // It has begun, durably: its guest may have written. Else nobody has since the source ended.
      expect(['done', 'HANDOVER_LOST'], `${n} requests`).toContain(back);
      if (back === 'done') expect(await code(other.leases.acquire(other.disk))).toBe('DISK_IN_USE');
      else expect(await other.leases.acquire(other.disk)).toBe(EPOCH + 2);
      expect((await read(other))!.epoch).toBe(EPOCH + 2);
      if (through) expect(back).toBe('HANDOVER_LOST');
      await end(scene, source, other);
    }
    expect(new Set(went)).toEqual(new Set(['done', 'HANDOVER_LOST']));
  });
});
