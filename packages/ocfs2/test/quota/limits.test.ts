/** Limits are kept before anything changes; grace periods begin, run out and end; who may pass them. */
import { MemoryDevice, Random } from '@lunfs/device';
import { beforeAll, describe, expect, test } from 'vitest';
import { MODE } from '../../src/format/index.js';
import { formatVolume } from '../../src/mkfs/index.js';
import { applyLimits } from '../../src/quota/limits.js';
import { asRequester } from '../../src/quota/index.js';
import { type Volume, fallocate, writeFile } from '../../src/volume/index.js';
import type { Clock } from '../../src/txn/index.js';
import { expectFsckClean } from '../support/volume.js';
import { countUse, mountQuiet, reported } from './support.js';

const MIB = 2 ** 20, C = 4096;
const EXCEEDED = { code: 'QUOTA_EXCEEDED', errno: 'EDQUOT' };

/** Time that stands until it is told to pass. */
class SetClock implements Clock {
  sec = 1_700_000_000;
  now() {
    return { sec: this.sec, nsec: 0 };
  }
  monotonic() {
    return this.sec * 1000;
  }
}

let template: MemoryDevice;
beforeAll(async () => {
  template = new MemoryDevice({ size: 24 * MIB, name: 'limits' });
  await formatVolume(template, { mount: 'local', slots: 1, blockSize: 4096, clusterSize: C, journalSize: 4 * MIB, features: 'usrquota,grpquota' }, { random: new Random(1), time: 1_600_000_000 });
});

/** A volume with user 1000, and what that user does. */
async function withUser(work: (volume: Volume, as: <T>(uid: number, run: () => Promise<T>) => Promise<T>, clock: SetClock) => Promise<void>): Promise<void> {
  const device = template.clone();
  const clock = new SetClock();
  const volume = await mountQuiet(device, { clock });
  await work(volume, (uid, run) => asRequester({ uid }, run), clock);
  await volume.ctx.engine.log.flush();
  expect(await reported(volume)).toEqual(await countUse(device));
  await volume.unmount();
  await expectFsckClean(device, ['INODE_SPARSE_SIZE']);
}

let serial = 0;
async function file(volume: Volume, uid = 1000, gid = 100): Promise<number> {
  const { names } = volume;
  const { blkno } = await names.create(names.root, Buffer.from(`f${serial++}`), { mode: MODE.REG | 0o644, uid, gid });
  await names.forget(blkno);
  return blkno;
}

describe('limits', { timeout: 180_000 }, () => {
  test('a hard limit of space stops the write that would pass it, and leaves no trace', () => withUser(async (volume, as) => {
    const { ctx, quota } = volume;
    await quota!.setLimits('user', 1000, { spaceHard: 4 * C });
    const ino = await as(1000, () => file(volume));
    await as(1000, () => writeFile(ctx, ino, 0, new Uint8Array(3 * C).fill(1)));
    const before = await volume.names.attributes(ino);
    await expect(as(1000, () => writeFile(ctx, ino, 3 * C, new Uint8Array(2 * C).fill(2)))).rejects.toMatchObject(EXCEEDED);
    await expect(as(1000, () => fallocate(ctx, ino, 'reserve', 0, 5 * C, false))).rejects.toMatchObject(EXCEEDED);
    expect(await volume.names.attributes(ino)).toEqual(before);
    await as(1000, () => writeFile(ctx, ino, 3 * C, new Uint8Array(C).fill(2)));
    expect((await quota!.report('user')).find(({ id }) => id === 1000)).toMatchObject({ space: 4 * C, inodes: 1, spaceHard: 4 * C });
    // In place, freeing and root are free.
    await as(1000, () => writeFile(ctx, ino, 0, new Uint8Array(4 * C).fill(3)));
    await as(0, () => writeFile(ctx, ino, 4 * C, new Uint8Array(2 * C)));
    await as(1000, () => fallocate(ctx, ino, 'punch', 0, C, true));
    await expect(as(1000, () => writeFile(ctx, ino, 0, new Uint8Array(C)))).rejects.toMatchObject(EXCEEDED);
  }));

  test('a hard limit of inodes, of user and of group, by creating and by giving away', () => withUser(async (volume, as) => {
    const { quota, names } = volume;
    await quota!.setLimits('user', 1000, { inodeHard: 2 });
    await quota!.setLimits('group', 100, { inodeHard: 3 });
    await as(1000, () => file(volume));
    await as(1000, () => file(volume));
    await expect(as(1000, () => file(volume))).rejects.toMatchObject(EXCEEDED);
    const other = await as(1001, () => file(volume, 1001));
    await expect(as(1001, () => file(volume, 1001))).rejects.toMatchObject(EXCEEDED);
    const third = await as(1001, () => file(volume, 1001, 101));
    await expect(as(1001, () => names.change(third, { gid: 100 }))).rejects.toMatchObject(EXCEEDED);
    await expect(as(1001, () => names.change(other, { uid: 1000 }))).rejects.toMatchObject(EXCEEDED);
    await as(1001, () => names.change(other, { gid: 101 }));
    await as(1001, () => names.change(third, { gid: 100 }));
    expect((await names.readdir(names.root)).entries.length).toBe(3 + 4);
  }));

  test('a soft limit may be passed until its grace period is over', () => withUser(async (volume, as, clock) => {
    const { ctx, quota } = volume;
    expect(await quota!.settings('user')).toEqual({ spaceGrace: 604_800, inodeGrace: 604_800, syncMs: 10_000 });
    await quota!.setSettings('user', { spaceGrace: 100, inodeGrace: 50 });
    await quota!.setLimits('user', 1000, { spaceSoft: 2 * C, spaceHard: 10 * C, inodeSoft: 1 });
    const of = async () => (await quota!.report('user')).find(({ id }) => id === 1000)!;
    const ino = await as(1000, () => file(volume));
    await as(1000, () => writeFile(ctx, ino, 0, new Uint8Array(2 * C).fill(1)));
    expect(await of()).toMatchObject({ spaceTime: 0, inodeTime: 0 });
    await as(1000, () => writeFile(ctx, ino, 2 * C, new Uint8Array(C).fill(1)));
    expect(await of()).toMatchObject({ spaceTime: clock.sec + 100, inodeTime: 0 });
    const second = await as(1000, () => file(volume));
    clock.sec += 49;
    await as(1000, () => file(volume));
    await quota!.sync();
    clock.sec += 1;
    await expect(as(1000, () => file(volume))).rejects.toMatchObject(EXCEEDED);
    clock.sec += 50;
    await expect(as(1000, () => writeFile(ctx, ino, 3 * C, new Uint8Array(C)))).rejects.toMatchObject(EXCEEDED);
    await as(0, () => writeFile(ctx, ino, 3 * C, new Uint8Array(C)));
    // Below the limit the period ends; the next excess begins a new one.
    await as(1000, () => fallocate(ctx, ino, 'punch', 0, 3 * C, true));
    expect(await of()).toMatchObject({ space: C, spaceTime: 0 });
    await as(1000, () => writeFile(ctx, second, 0, new Uint8Array(3 * C).fill(1)));
    expect(await of()).toMatchObject({ spaceTime: clock.sec + 100 });
    // A higher limit ends it, too.
    expect(await quota!.setLimits('user', 1000, { spaceSoft: 8 * C, inodeSoft: 0 })).toMatchObject({ spaceTime: 0, inodeTime: 0, space: 4 * C, inodes: 3 });
    await as(1000, () => file(volume));
  }));

  test('limits and settings outlive the mount; what says nothing is gone', async () => {
    const device = template.clone();
    let volume = await mountQuiet(device);
    for (let id = 0; id < 200; id++) await volume.quota!.setLimits('user', id * 7_777_777, { spaceHard: id + 1 });
    await volume.quota!.setSettings('group', { syncMs: 2500 });
    await volume.unmount();
    await expectFsckClean(device);
    volume = await mountQuiet(device, { readOnly: true });
    const report = await volume.quota!.report('user');
    expect(report.map(({ id, spaceHard }) => [id, spaceHard])).toEqual(Array.from({ length: 200 }, (_, i) => [i * 7_777_777, i + 1]));
    expect((await volume.quota!.settings('group')).syncMs).toBe(2500);
    await volume.unmount();
    volume = await mountQuiet(device);
    for (let id = 0; id < 200; id++) await volume.quota!.setLimits('user', id * 7_777_777, { spaceHard: 0 });
    expect((await volume.quota!.report('user')).map(({ id }) => id)).toEqual([0]);
    await expect(volume.quota!.setLimits('user', 5, { spaceHard: -1 })).rejects.toMatchObject({ code: 'QUOTA_LIMIT' });
    await volume.unmount();
    await expectFsckClean(device);
  });

  test('thousands of owners: local entries fill blocks, tree blocks come and go', async () => {
    const device = new MemoryDevice({ size: 60 * MIB, name: 'owners' });
    await formatVolume(device, { mount: 'local', slots: 1, blockSize: 512, clusterSize: C, journalSize: 4 * MIB, features: 'usrquota' }, { random: new Random(1), time: 1_600_000_000 });
    const volume = await mountQuiet(device);
    const made: string[] = [];
    for (let i = 0; i < 600; i++) {
      const { blkno } = await volume.names.create(volume.names.root, Buffer.from(`o${i}`), { mode: MODE.REG, uid: (i * 2_654_435) % 4_294_967_291, gid: 0 });
      await volume.names.forget(blkno);
      made.push(`o${i}`);
    }
    await volume.ctx.engine.log.flush();
    expect((await reported(volume)).user).toEqual((await countUse(device)).user);
    await volume.sync();
    await volume.sync();
    for (const one of made) await volume.names.unlink(volume.names.root, Buffer.from(one));
    expect((await reported(volume)).user).toEqual(new Map([[0, { space: expect.any(Number) as number, inodes: 1 }]]));
    await volume.unmount();
    await expectFsckClean(device);
  });
});

test('what a change means to limits', () => {
  const none = { spaceTime: 0, inodeTime: 0 }, grace = { space: 10, inodes: 20 };
  const limits = { spaceSoft: 100, spaceHard: 200, inodeSoft: 0, inodeHard: 5 };
  const grow = { space: 1, inodes: 0 };
  expect(applyLimits(limits, none, grace, { space: 100, inodes: 1 }, grow, 1000, false)).toEqual(none);
  expect(applyLimits(limits, none, grace, { space: 101, inodes: 1 }, grow, 1000, false)).toEqual({ spaceTime: 1010, inodeTime: 0 });
  expect(applyLimits(limits, { ...none, spaceTime: 1010 }, grace, { space: 150, inodes: 1 }, grow, 1009, false)).toEqual({ spaceTime: 1010, inodeTime: 0 });
  expect(applyLimits(limits, { ...none, spaceTime: 1010 }, grace, { space: 150, inodes: 1 }, grow, 1010, false)).toEqual({ what: 'space', limit: 100, why: 'grace' });
  expect(applyLimits(limits, { ...none, spaceTime: 1010 }, grace, { space: 150, inodes: 1 }, grow, 1010, true)).toEqual({ spaceTime: 1010, inodeTime: 0 });
  expect(applyLimits(limits, none, grace, { space: 201, inodes: 1 }, grow, 1000, false)).toEqual({ what: 'space', limit: 200, why: 'hard' });
  expect(applyLimits(limits, none, grace, { space: 1, inodes: 6 }, { space: 0, inodes: 1 }, 1000, false)).toEqual({ what: 'inodes', limit: 5, why: 'hard' });
  expect(applyLimits(limits, { ...none, spaceTime: 1010 }, grace, { space: 300, inodes: 6 }, { space: -5, inodes: -1 }, 2000, false)).toEqual({ spaceTime: 1010, inodeTime: 0 });
  expect(applyLimits(limits, { ...none, spaceTime: 1010 }, grace, { space: 100, inodes: 6 }, { space: -5, inodes: 0 }, 2000, false)).toEqual(none);
});
