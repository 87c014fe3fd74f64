import path from 'node:path';
import { MemoryDevice } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { RawReader, readGeometry } from '../../src/inspect/index.js';
import { Dinode } from '../../src/format/index.js';
import { formatVolume, type MkfsOptions, planVolume } from '../../src/mkfs/index.js';
import { exec, randomFrom, sparseFile } from '../../../../test/support/temp.js';
import { expectFsckClean, loadSparse, withDir } from '../support/volume.js';
import { diffVolumes } from './volume-diff.js';

const MIB = 2 ** 20, GIB = 2 ** 30;
const UUID = '0123456789ABCDEF0123456789ABCDEF';

/** mkfs.ocfs2 on a sparse file of `size`, as a memory device; `fails` true: its refusal. */
async function reference(size: number, args: readonly string[]): Promise<MemoryDevice | undefined> {
  return withDir(async (dir) => {
    const file = sparseFile(path.join(dir, 'volume'), size);
    const { status } = await exec('mkfs.ocfs2', ['-q', '-F', '-U', UUID, ...args, file]);
    return status === 0 ? loadSparse(file, size) : undefined;
  });
}

function random(seed: number): { u32(): number } {
  const next = randomFrom(seed);
  return { u32: () => Math.floor(next() * 2 ** 32) };
}

interface Case {
  readonly name: string;
  readonly size: number;
  readonly args: string[];
  readonly options: MkfsOptions;
  /** Fields in which mkfs.ocfs2 writes what happened to be in its memory. */
  readonly garbage?: (field: string) => boolean;
}

/** It copies 16 bytes of a shorter cluster name. */
const beyondClusterName = (field: string) => field === 'super_block.clusterName';
/** It takes an uninitialised buffer for lost+found's only block, if the directory is not inline: all but two entries of 16 bytes, names of 1 and 2. */
const beyondDots = (field: string) => {
  const at = /^data byte 0x(\w+)$/.exec(field);
  return at !== null && (Number.parseInt(at[1], 16) >= 0x1e || [0xd, 0xe, 0xf].includes(Number.parseInt(at[1], 16)));
};

/** It writes the info block of global quota files from an uninitialised buffer, of which it fills the fields alone. */
const beyondQuotaInfo = (field: string) => field.startsWith('global_quota_info byte');

const CASES: readonly Case[] = [
  { name: 'defaults, 20 MiB', size: 20 * MIB, args: [], options: {} },
  { name: 'defaults, 301 MiB and a bit', size: 301 * MIB + 5 * 512, args: [], options: {} },
  { name: 'defaults, 600 MiB', size: 600 * MIB, args: [], options: {} },
  { name: 'defaults, 3 GiB', size: 3 * GIB, args: [], options: {} },
  { name: 'defaults, 16 GiB', size: 16 * GIB, args: [], options: {} },
  { name: 'vmstore, 4 GiB', size: 4 * GIB, args: ['-T', 'vmstore'], options: { type: 'vmstore' } },
  { name: 'vmstore, 100 GiB', size: 100 * GIB, args: ['-T', 'vmstore'], options: { type: 'vmstore' } },
  { name: 'datafiles, 2 GiB', size: 2 * GIB, args: ['-T', 'datafiles'], options: { type: 'datafiles' } },
  { name: 'mail, 1 GiB', size: GIB, args: ['-T', 'mail'], options: { type: 'mail' } },
  { name: '4K/1M, label, 2 slots, local', size: 600 * MIB, args: ['-b', '4096', '-C', '1M', '-L', 'disks', '-N', '2', '-M', 'local'], options: { blockSize: 4096, clusterSize: MIB, label: 'disks', slots: 2, mount: 'local' } },
  { name: '1K/4K', size: 100 * MIB, args: ['-b', '1024', '-C', '4096', '-N', '3'], options: { blockSize: 1024, clusterSize: 4096, slots: 3 } },
  { name: '1K/8K metaecc', size: 200 * MIB, args: ['-b', '1024', '-C', '8192', '--fs-features=metaecc'], options: { blockSize: 1024, clusterSize: 8192, features: 'metaecc' } },
  { name: '2K/16K', size: 700 * MIB, args: ['-b', '2048', '-C', '16384', '-N', '4'], options: { blockSize: 2048, clusterSize: 16384, slots: 4 } },
  { name: '512/4K', size: 80 * MIB, args: ['-b', '512', '-C', '4096', '-N', '2', '-J', 'size=4M'], options: { blockSize: 512, clusterSize: 4096, slots: 2, journalSize: 4 * MIB } },
  { name: '512/4K metaecc, 1 slot', size: 40 * MIB, args: ['-b', '512', '-C', '4096', '-N', '1', '-J', 'size=5M', '--fs-features=metaecc'], options: { blockSize: 512, clusterSize: 4096, slots: 1, journalSize: 5 * MIB, features: 'metaecc' } },
  { name: '32 slots, 4K/4K metaecc', size: GIB, args: ['-b', '4096', '-C', '4096', '-N', '32', '-J', 'size=4M', '--fs-features=metaecc'], options: { blockSize: 4096, clusterSize: 4096, slots: 32, journalSize: 4 * MIB, features: 'metaecc' } },
  { name: '100 slots', size: 2 * GIB, args: ['-b', '4096', '-C', '4096', '-N', '100', '-J', 'size=4M'], options: { blockSize: 4096, clusterSize: 4096, slots: 100, journalSize: 4 * MIB } },
  { name: 'block64, large journals of several extents', size: 4 * GIB, args: ['-b', '4096', '-C', '4096', '-N', '2', '-J', 'size=300M,block64'], options: { blockSize: 4096, clusterSize: 4096, slots: 2, journalSize: 300 * MIB, journal64: true } },
  { name: 'max-compat', size: 300 * MIB, args: ['--fs-feature-level=max-compat', '-N', '2'], options: { featureLevel: 'max-compat', slots: 2 }, garbage: beyondDots },
  { name: 'max-features but quotas', size: 300 * MIB, args: ['--fs-feature-level=max-features', '--fs-features=nousrquota,nogrpquota'], options: { featureLevel: 'max-features', features: 'nousrquota,nogrpquota' } },
  { name: 'user and group quota, 4K/4K', size: 300 * MIB, args: ['-b', '4096', '-C', '4096', '-N', '3', '--fs-features=usrquota,grpquota'], options: { blockSize: 4096, clusterSize: 4096, slots: 3, features: 'usrquota,grpquota' }, garbage: beyondQuotaInfo },
  { name: 'group quota, 512/4K metaecc', size: 60 * MIB, args: ['-b', '512', '-C', '4096', '-N', '2', '-J', 'size=4M', '--fs-features=grpquota,metaecc'], options: { blockSize: 512, clusterSize: 4096, slots: 2, journalSize: 4 * MIB, features: 'grpquota,metaecc' }, garbage: beyondQuotaInfo },
  { name: 'user quota, 1K/8K without inline data', size: 200 * MIB, args: ['-b', '1024', '-C', '8192', '-N', '2', '--fs-feature-level=max-compat', '--fs-features=usrquota'], options: { blockSize: 1024, clusterSize: 8192, slots: 2, featureLevel: 'max-compat', features: 'usrquota' }, garbage: (field) => beyondDots(field) || beyondQuotaInfo(field) },
  { name: 'max-features, 4K/1M', size: 600 * MIB, args: ['-b', '4096', '-C', '1M', '-N', '2', '--fs-feature-level=max-features'], options: { blockSize: 4096, clusterSize: MIB, slots: 2, featureLevel: 'max-features' }, garbage: beyondQuotaInfo },
  { name: 'features taken away', size: 300 * MIB, args: ['--fs-features=nosparse,norefcount,noxattr,nodiscontig-bg,noextended-slotmap,noappend-dio'], options: { features: 'nosparse,norefcount,noxattr,nodiscontig-bg,noextended-slotmap,noappend-dio' } },
  { name: 'o2cb cluster, global heartbeat', size: 300 * MIB, args: ['--cluster-stack=o2cb', '--cluster-name=lab1', '--global-heartbeat'], options: { clusterStack: 'o2cb', clusterName: 'lab1', globalHeartbeat: true }, garbage: beyondClusterName },
  { name: 'pcmk cluster', size: 300 * MIB, args: ['--cluster-stack=pcmk', '--cluster-name=lab-1'], options: { clusterStack: 'pcmk', clusterName: 'lab-1' }, garbage: beyondClusterName },
  { name: 'no backups, size in blocks', size: 2 * GIB, args: ['-b', '4096', '-C', '4096', '--no-backup-super'], options: { blockSize: 4096, clusterSize: 4096, noBackupSuper: true } },
];

/** What may differ between two runs of mkfs.ocfs2 itself. */
const TIMES = ['dinode.atime', 'dinode.ctime', 'dinode.mtime', 'super_block.lastCheck'];

describe('against mkfs.ocfs2', () => {
  test.each(CASES)('$name: the same bytes', async ({ size, args, options, garbage = () => false }) => {
    const theirs = await reference(size, args);
    expect(theirs, 'mkfs.ocfs2 refused').toBeDefined();
    const geo = await readGeometry(theirs!);
    const created = Dinode.at(await (await RawReader.open(theirs!)).readRaw(2));
    const ours = new MemoryDevice({ size: theirs!.size, name: 'ours' });
    await formatVolume(ours, { ...options, uuid: UUID }, { random: random(1), time: created.ctime, seed: { generation: geo.fsGeneration, dxSeed: geo.dxSeed } });
    const fields = diffVolumes(theirs!, ours, geo.blockSize);
    // A checksum differs with the times it covers.
    const others = [...fields].filter(([field]) => !TIMES.includes(field) && !garbage(field) && !(geo.metaecc && /\.check$/.test(field) && fields.size > 1));
    expect(Object.fromEntries(others)).toEqual({});
    expect((await readGeometry(ours)).stack).toEqual(geo.stack);
  }, 60_000);

  test('what is random or time, by structure', async () => {
    const size = 300 * MIB;
    const theirs = (await reference(size, ['--fs-features=metaecc', '-U', 'FFEEDDCCBBAA99887766554433221100']))!;
    const ours = new MemoryDevice({ size, name: 'ours' });
    await formatVolume(ours, { features: 'metaecc' }, { random: random(7), time: 1_600_000_000 });
    expect([...diffVolumes(theirs, ours, 1024).keys()].sort()).toEqual([
      'dinode.atime', 'dinode.check', 'dinode.ctime', 'dinode.fsGeneration', 'dinode.generation', 'dinode.mtime',
      'group_desc.check', 'group_desc.generation', 'jbd2_superblock.uuid',
      'super_block.dxSeed0', 'super_block.dxSeed1', 'super_block.dxSeed2', 'super_block.lastCheck', 'super_block.uuid', 'super_block.uuidHash',
    ]);
  });
});

describe('our volumes', () => {
  test.each(CASES.filter((_, i) => i % 3 === 0))('$name: fsck.ocfs2 and our verifier find nothing', async ({ size, options }) => {
    const device = new MemoryDevice({ size, name: 'ours' });
    let last = { done: 0, total: 1 };
    await formatVolume(device, options, { random: random(3), time: 1_700_000_000, progress: (p) => (last = p) });
    expect(last.done).toBe(last.total);
    await expectFsckClean(device);
  }, 60_000);

  test('an old volume leaves nothing behind that shows', async () => {
    const device = new MemoryDevice({ size: 300 * MIB, name: 'used' });
    const noise = new Uint8Array(MIB).map((_, i) => (i * 31) & 0xff);
    for (let at = 0; at < device.size; at += MIB) device.writeSync(at, noise);
    await formatVolume(device, {}, { random: random(5), time: 1_700_000_000 });
    await expectFsckClean(device);
  });

  test('interrupted at any write, a format leaves no superblock', async () => {
    const made = new MemoryDevice({ size: 100 * MIB, name: 'made' });
    await formatVolume(made, {}, { random: random(5), time: 1_700_000_000 });
    let writes = 0;
    for (let stopAt = 1; ; stopAt++) {
      const device = made.clone();
      let left = stopAt;
      const write = device.write.bind(device);
      device.write = (offset, from) => {
        if (--left < 0) return Promise.reject(new Error('stopped'));
        writes++;
        return write(offset, from);
      };
      const finished = await formatVolume(device, {}, { random: random(6), time: 1_700_000_001 }).then(() => true, () => false);
      if (finished) break;
      await expect(readGeometry(device)).rejects.toMatchObject({ code: 'NOT_OCFS2' });
    }
    expect(writes).toBeGreaterThan(10);
  });

  test('what does not fit is refused before anything is written', async () => {
    const refused: [number, MkfsOptions, string][] = [
      [MIB, {}, 'MKFS_TOO_SMALL'], [300 * MIB, { type: 'vmstore' }, 'MKFS_TOO_SMALL'], [300 * MIB, { blockSize: 3000 }, 'MKFS_SIZE'],
      [300 * MIB, { clusterSize: 2 * MIB }, 'MKFS_SIZE'], [300 * MIB, { slots: 256 }, 'MKFS_SLOTS'], [300 * MIB, { journalSize: MIB }, 'MKFS_JOURNAL_SIZE'],
      [300 * MIB, { journalSize: 280 * MIB }, 'MKFS_JOURNAL_SIZE'],
      [300 * MIB, { features: 'noinline-data' }, 'FEATURE_UNSUPPORTED'], [300 * MIB, { features: 'nonsense' }, 'FEATURE_UNKNOWN'],
      [300 * MIB, { features: 'unwritten,nosparse' }, 'FEATURE_CONFLICT'], [300 * MIB, { label: 'x'.repeat(64) }, 'MKFS_LABEL'],
      [300 * MIB, { clusterStack: 'o2cb' }, 'MKFS_CLUSTER'], [300 * MIB, { mount: 'local', clusterStack: 'o2cb', clusterName: 'a' }, 'MKFS_CLUSTER'],
      [300 * MIB, { sizeInBlocks: 10_000_000 }, 'MKFS_SIZE'], [2 ** 45, { blockSize: 4096, clusterSize: 4096 }, 'MKFS_SIZE'], [2 ** 45, { clusterSize: 16384 }, 'MKFS_JOURNAL64'],
    ];
    for (const [size, options, code] of refused) {
      const device = new MemoryDevice({ size, name: 'empty' });
      await expect(formatVolume(device, options, { random: random(1), time: 1 }), JSON.stringify(options)).rejects.toMatchObject({ kind: 'usage', code });
      expect([...device.contents()]).toEqual([]);
    }
  });

  test('a plan is made without a write', () => {
    expect(planVolume({ name: 'lun', size: 2 ** 43, logicalBlockSize: 512 }, { type: 'vmstore' })).toMatchObject({
      blockSize: 4096, clusterSize: MIB, clusters: 2 ** 23, slots: 16, journalSize: 128 * MIB,
    });
  });
});
