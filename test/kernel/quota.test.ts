/**
 * Quota between Linux's OCFS2 and the engine, both ways: what one counts and limits, the other reads and keeps; each recovers
 * the local quota files that the other left behind. One boot serves all.
 */
import fs from 'node:fs';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { openDevice } from '@lunfs/device';
import { type MkfsOptions, type QuotaType, MODE, Volume, asRequester, checkVolume, formatVolume, systemRandom, writeFile } from '@lunfs/ocfs2';
import { afterAll, expect, test } from 'vitest';
import { KernelNode } from '../support/machines.js';
import { KNOWN_FALSE_POSITIVES, mkfs, mustBeClean } from '../support/ocfs2-tools.js';
import { Cleanup, must, sparseFile, tempDir } from '../support/temp.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());
const directory = tempDir(cleanup, 'quota');
const image = (name: string) => path.join(directory, `${name}.img`);
const script = fs.readFileSync(path.join(import.meta.dirname, 'quota.pl'), 'utf8');
const MIB = 2 ** 20;
const OWN: MkfsOptions = { blockSize: 1024, clusterSize: 4096, mount: 'local', slots: 1, journalSize: 4 * MIB, features: 'usrquota,grpquota,metaecc' };
const TYPES: readonly QuotaType[] = ['user', 'group'];
/** Whoever owns anything in this test. */
const IDS = [0, 100, 200, 300, 1000, 1001, 1002, 1003, 5000, 6000, 6001, 70_000, 4_000_000_000];

/** Id, bytes, inodes and limits, as quota.pl prints them. Ids that use nothing and may use all are left out: Linux keeps some. */
type Rows = string[];
const plain = (rows: Rows) => rows.filter((row) => !/^\d+( 0)+$/.test(row)).sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10));

async function withVolume<T>(name: string, work: (volume: Volume) => Promise<T>): Promise<T> {
  const device = await openDevice(image(name), { write: true });
  try {
    return await work(await Volume.mount(device));
  } finally {
    await device.close();
  }
}

async function ours(volume: Volume): Promise<Record<QuotaType, Rows>> {
  const rows = async (type: QuotaType): Promise<Rows> => (await volume.quota!.report(type)).map(
    (r) => [r.id, r.space, r.inodes, r.spaceSoft / 1024, r.spaceHard / 1024, r.inodeSoft, r.inodeHard].join(' '),
  );
  return { user: plain(await rows('user')), group: plain(await rows('group')) };
}

async function theirs(node: KernelNode, device: string): Promise<Record<QuotaType, Rows>> {
  const rows = async (type: number): Promise<Rows> => (await node.must(`perl - get ${device} ${type} ${IDS.join(' ')}`, { input: script })).trim().split('\n');
  return { user: plain(await rows(0)), group: plain(await rows(1)) };
}

/** Files of several owners, one of which is limited. */
async function fill({ names, ctx, quota, geo }: Volume): Promise<void> {
  for (const [i, [uid, gid]] of [[1000, 100], [1001, 100], [1002, 200], [70_000, 4_000_000_000]].entries()) {
    const dir = await names.create(names.root, Buffer.from(`d${i}`), { mode: MODE.DIR | 0o777, uid, gid });
    for (let n = 0; n < 40; n++) {
      const { blkno } = await names.create(dir.blkno, Buffer.from(`file-${n}-${'x'.repeat(60)}`), { mode: MODE.REG | 0o666, uid, gid });
      if (n % 10 === 0) await writeFile(ctx, blkno, 0, new Uint8Array((n + 1) * geo.blockSize));
      await names.forget(blkno);
    }
    await names.forget(dir.blkno);
  }
  await quota!.setLimits('user', 1001, { spaceHard: 400 * 1024, inodeSoft: 45, inodeHard: 50 });
  await quota!.setLimits('group', 200, { spaceSoft: 10 * MIB });
}

test('Linux and lunfs count alike, keep each other\'s limits, and recover each other', { timeout: 300_000 }, async () => {
  sparseFile(image('own'), 80 * MIB);
  const device = await openDevice(image('own'), { write: true });
  await formatVolume(device, OWN, { random: systemRandom, time: 1_700_000_000 });
  await device.close();
  await mkfs(image('tools'), { blockSize: 4096, clusterSize: 4096, size: 100 * MIB, features: 'usrquota,grpquota' });
  const told = new Map<string, Record<QuotaType, Rows>>();
  for (const name of ['own', 'tools']) {
    await withVolume(name, async (volume) => {
      await fill(volume);
      told.set(name, await ours(volume));
      // The power fails with everything committed: local files in use, entries not told.
      await volume.ctx.engine.log.commit();
      if (name === 'own') await must('cp', ['--sparse=always', image('own'), image('crashed')]);
      await volume.unmount();
    });
    await mustBeClean(image(name), KNOWN_FALSE_POSITIVES);
  }
  told.set('crashed', told.get('own')!);

  const disks = ['own', 'tools', 'crashed'];
  const node = await KernelNode.start(cleanup, { disks: disks.map(image) });
  for (const [i, name] of disks.entries()) {
    const at = `/dev/vd${'abc'[i]}`;
    await node.mount(at, `/mnt/${name}`);
    // Linux recovers in the background of a mount.
    for (let tries = 0; name === 'crashed' && tries < 60 && !isDeepStrictEqual(await theirs(node, at), told.get(name)); tries++) await node.must('sleep 1');
    expect(await theirs(node, at), `${name} as Linux reads it`).toEqual(told.get(name));
  }
  // Linux keeps our limits once they are switched on, counts what it does, sets limits of its own.
  for (const type of [0, 1]) await node.must(`perl - on /dev/vda ${type}`, { input: script });
  expect((await node.run('setpriv --reuid 1001 --regid 100 --clear-groups dd if=/dev/zero of=/mnt/own/d1/large bs=4k count=200')).stderr).toContain('quota exceeded');
  expect((await node.run(`setpriv --reuid 1001 --regid 100 --clear-groups bash -c 'for i in $(seq 20); do : > /mnt/own/d1/new$i || exit 1; done'`)).stderr).toContain('quota exceeded');
  await node.must('cd /mnt/own && rm d1/large && rm -r d2 && chown -R 1003:300 d3 && mkdir many && for i in $(seq 400); do : > many/a-long-name-for-an-entry-$i; done && chown 5000 many/*5');
  await node.must('perl - set /dev/vda 0 5000 100 200 30 40', { input: script });
  told.set('own', await theirs(node, '/dev/vda'));
  await node.must('umount /mnt/own; cd /mnt/tools && rm -r d0 && chown -R 6000:6000 d1 && : > more && chown 6001 more && sync');
  told.set('tools', await theirs(node, '/dev/vdb'));
  // The node dies with a volume mounted.
  await node.must('umount /mnt/crashed; sync');
  await node.kill();

  for (const name of disks) {
    await withVolume(name, async (volume) => {
      expect(await ours(volume), `${name} as Linux left it`).toEqual(told.get(name));
      if (name === 'own') {
        const limited = await volume.names.lookup(volume.names.root, Buffer.from('many'));
        const create = (i: number) => asRequester({ uid: 5000 }, () => volume.names.create(limited.blkno, Buffer.from(`of 5000 ${i}`), { mode: MODE.REG, uid: 5000, gid: 0 }));
        await expect(create(0)).rejects.toMatchObject({ errno: 'EDQUOT' });
      }
      await volume.unmount();
    });
    const opened = await openDevice(image(name), {});
    expect((await checkVolume(opened)).findings.filter(({ code }) => !KNOWN_FALSE_POSITIVES.includes(code)), name).toEqual([]);
    await opened.close();
    await mustBeClean(image(name), KNOWN_FALSE_POSITIVES);
    for (const [i, type] of TYPES.entries()) {
      const dump = path.join(directory, `dump-${type}`);
      await must('debugfs.ocfs2', ['-R', `dump //aquota.${type} ${dump}`, image(name)]);
      const bytes = fs.readFileSync(dump);
      const blockSize = name === 'tools' ? 4096 : 1024;
      expect([bytes.readUInt32LE(0), bytes.readUInt32LE(0x14)]).toEqual([0x0cf52470 + i, bytes.length / blockSize]);
    }
  }
});
