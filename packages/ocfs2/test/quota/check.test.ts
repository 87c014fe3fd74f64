/** The verifier names what is wrong with quota files; a mount that meets it says so and does no more harm. */
import { MemoryDevice, Random } from '@lunfs/device';
import { beforeAll, expect, test } from 'vitest';
import { checkVolume } from '../../src/check/index.js';
import { type Block, ExtentList, GlobalDquot, GlobalQuotaInfo, ID2, LocalQuotaInfo, MODE, QuotaLeaf, stampCheck } from '../../src/format/index.js';
import { RawReader, readSystemFiles } from '../../src/inspect/index.js';
import { formatVolume } from '../../src/mkfs/index.js';
import { expectFsckClean } from '../support/volume.js';
import { mountQuiet } from './support.js';

const BS = 1024;
let clean: MemoryDevice;

beforeAll(async () => {
  clean = new MemoryDevice({ size: 24 * 2 ** 20, name: 'broken' });
  await formatVolume(clean, { mount: 'local', slots: 1, blockSize: BS, clusterSize: 4096, journalSize: 4 * 2 ** 20, features: 'usrquota,metaecc' }, { random: new Random(1), time: 1_600_000_000 });
  const volume = await mountQuiet(clean);
  for (let uid = 1000; uid < 1030; uid++) await volume.names.forget((await volume.names.create(volume.names.root, Buffer.from(`u${uid}`), { mode: MODE.REG, uid, gid: 0 })).blkno);
  await volume.unmount();
  await expectFsckClean(clean);
});

/** Change block `index` of a quota file, its checksum recomputed unless it is the checksum that is to be wrong. */
async function change(device: MemoryDevice, file: 'global' | 'local', index: number, work: (block: Block) => void, stamp = true): Promise<void> {
  const reader = await RawReader.open(device);
  const [{ global, local }] = (await readSystemFiles(reader)).quota;
  const inode = await reader.inode(file === 'global' ? global : local[0]);
  const list = new ExtentList(inode, ID2);
  for (let i = 0; i < list.nextFree; i++) {
    const from = list.cpos(i) * reader.geo.bpc;
    if (index < from || index >= from + list.clusters(i) * reader.geo.bpc) continue;
    const block = await reader.readRaw(list.blkno(i) + index - from);
    work(block);
    if (stamp) stampCheck(block.bytes, BS - 8);
    device.writeSync(block.blkno * BS, block.bytes);
    return;
  }
  throw new Error(`the ${file} file has no block ${index}`);
}

/** The first leaf of the global file. */
const LEAF = 6;

interface Case {
  readonly name: string;
  readonly codes: string[];
  readonly breakIt: (device: MemoryDevice) => Promise<void>;
  /** The volume still mounts and lets a file be made. */
  readonly works?: boolean;
}

const CASES: readonly Case[] = [
  { name: 'magic', codes: ['QMAGIC_INVALID'], breakIt: (d) => change(d, 'global', 0, (b) => void (GlobalQuotaInfo.at(b).magic = 1)) },
  { name: 'count of blocks', codes: ['QMAGIC_INVALID'], works: true, breakIt: (d) => change(d, 'global', 0, (b) => void (GlobalQuotaInfo.at(b).blocks -= 1)) },
  { name: 'checksum of the root', codes: ['BAD_CRC32', 'QMAGIC_INVALID'], breakIt: (d) => change(d, 'global', 1, (b) => b.bytes.fill(0xff, 200, 210), false) },
  { name: 'reference out of the file', codes: ['QTREE_BLK_INVALID', 'DQBLK_INVALID', 'QUOTA_USAGE'], breakIt: (d) => change(d, 'global', LEAF - 1, (b) => b.dv.setUint32(0, 12_345, true)) },
  { name: 'reference to the root', codes: ['QTREE_BLK_INVALID', 'DQBLK_INVALID', 'QUOTA_USAGE'], breakIt: (d) => change(d, 'global', LEAF - 1, (b) => b.dv.setUint32(0, 1, true)) },
  { name: 'records of a leaf', codes: ['DQBLK_INVALID'], works: true, breakIt: (d) => change(d, 'global', LEAF, (b) => void (QuotaLeaf.at(b).entries -= 1)) },
  { name: 'id of a record', codes: ['DQBLK_INVALID', 'QUOTA_USAGE'], breakIt: (d) => change(d, 'global', LEAF, (b) => void (GlobalDquot.at(b, QuotaLeaf.size).id = 77)) },
  { name: 'use', codes: ['QUOTA_USAGE'], works: true, breakIt: (d) => change(d, 'global', LEAF, (b) => void (GlobalDquot.at(b, QuotaLeaf.size + GlobalDquot.size).space += 4096)) },
  { name: 'local magic', codes: ['QUOTA_LOCAL'], breakIt: (d) => change(d, 'local', 0, (b) => void (LocalQuotaInfo.at(b).magic = 1)) },
  { name: 'local blocks', codes: ['QUOTA_LOCAL'], breakIt: (d) => change(d, 'local', 0, (b) => void (LocalQuotaInfo.at(b).blocks = 1000)) },
  { name: 'local chunks', codes: ['QUOTA_LOCAL'], breakIt: (d) => change(d, 'local', 0, (b) => void (LocalQuotaInfo.at(b).chunks = 50)) },
];

test.each(CASES)('$name', async ({ codes, breakIt, works }) => {
  const device = clean.clone();
  await breakIt(device);
  const { findings } = await checkVolume(device);
  expect([...new Set(findings.map(({ code }) => code))].sort()).toEqual([...codes].sort());
  const create = async (): Promise<void> => {
    const volume = await mountQuiet(device);
    await volume.names.forget((await volume.names.create(volume.names.root, Buffer.from('new'), { mode: MODE.REG, uid: 0, gid: 0 })).blkno);
    await volume.unmount();
  };
  if (works) await create();
  else await expect(create()).rejects.toMatchObject({ kind: 'corruption' });
});
