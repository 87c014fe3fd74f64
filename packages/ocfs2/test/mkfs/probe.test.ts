import path from 'node:path';
import { MemoryDevice } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { RawReader, readSystemFiles } from '../../src/inspect/index.js';
import { ExtentList, ID2 } from '../../src/format/index.js';
import { formatVolume, probeDevice } from '../../src/mkfs/index.js';
import { SlotMap } from '../../src/volume/index.js';
import { exec, must, sparseFile } from '../../../../test/support/temp.js';
import { loadSparse, withDir } from '../support/volume.js';

const MIB = 2 ** 20;
const KINDS = async (device: MemoryDevice) => (await probeDevice(device)).map((s) => s.kind);

function blank(size = 64 * MIB): MemoryDevice {
  return new MemoryDevice({ size, name: 'blank' });
}

/** Put bytes at any offset. */
function put(device: MemoryDevice, at: number, bytes: Uint8Array): MemoryDevice {
  const from = at - (at % 512), length = Math.ceil((at - from + bytes.length) / 512) * 512;
  const sectors = new Uint8Array(length);
  device.readSync(from, sectors);
  sectors.set(bytes, at - from);
  device.writeSync(from, sectors);
  return device;
}

/** A file system made by its own tool. */
function real(size: number, command: string, args: readonly string[]): Promise<MemoryDevice> {
  return withDir(async (dir) => {
    const file = sparseFile(path.join(dir, 'image'), size);
    await must(command, [...args, file]);
    return loadSparse(file, size);
  });
}

const found = async (tool: string) => (await exec('sh', ['-c', `command -v ${tool}`])).status === 0;
const hasXfs = await found('mkfs.xfs'), hasBtrfs = await found('mkfs.btrfs'), hasSfdisk = await found('sfdisk');

describe('probe', () => {
  test('nothing on an empty device, nor in noise', async () => {
    expect(await probeDevice(blank())).toEqual([]);
    expect(await probeDevice(blank(64 * 1024))).toEqual([]);
    const noise = new Uint8Array(MIB).map((_, i) => (i * 197) & 0xff);
    expect(await probeDevice(put(blank(), 0, noise))).toEqual([]);
  });

  test('ext2, ext4, swap made by their tools', async () => {
    expect(await probeDevice(await real(64 * MIB, 'mke2fs', ['-q', '-F', '-t', 'ext4', '-L', 'data', '-U', '11111111-2222-3333-4444-555555555555']))).toEqual([
      { kind: 'ext4', text: 'an ext4 file system', label: 'data', uuid: '11111111-2222-3333-4444-555555555555' },
    ]);
    expect(await KINDS(await real(16 * MIB, 'mke2fs', ['-q', '-F', '-t', 'ext2']))).toEqual(['ext2']);
    expect(await probeDevice(await real(16 * MIB, 'mkswap', ['-L', 'pages', '-U', '11111111-2222-3333-4444-555555555555']))).toMatchObject([
      { kind: 'swap', label: 'pages', uuid: '11111111-2222-3333-4444-555555555555' },
    ]);
  });

  test.skipIf(!hasXfs)('XFS made by mkfs.xfs', async () => {
    expect(await probeDevice(await real(400 * MIB, 'mkfs.xfs', ['-q', '-L', 'big']))).toMatchObject([{ kind: 'xfs', label: 'big' }]);
  });

  test.skipIf(!hasBtrfs)('Btrfs made by mkfs.btrfs', async () => {
    expect(await probeDevice(await real(200 * MIB, 'mkfs.btrfs', ['-q', '-L', 'tree']))).toMatchObject([{ kind: 'btrfs', label: 'tree' }]);
  });

  test.skipIf(!hasSfdisk)('GPT and MBR made by sfdisk', async () => {
    const table = (label: string) => withDir(async (dir) => {
      const file = sparseFile(path.join(dir, 'disk'), 64 * MIB);
      await must('sfdisk', ['-q', file], { input: `label: ${label}\n,16M\n,\n` });
      return loadSparse(file, 64 * MIB);
    });
    expect(await KINDS(await table('gpt'))).toEqual(['gpt']);
    expect(await probeDevice(await table('dos'))).toEqual([{ kind: 'dos', text: 'an MBR partition table with 2 partitions' }]);
  });

  test.each([
    ['LVM2_member', 512, 'LABELONE'], ['VMFS_volume_member', MIB, '\x0d\xd0\x01\xc0'], ['VMFS', 2 * MIB, '\x5e\xf1\xab\x2f'], ['xfs', 0, 'XFSB'],
    ['btrfs', 65600, '_BHRfS_M'], ['crypto_LUKS', 0, 'LUKS\xba\xbe'], ['linux_raid_member', 4096, '\xfc\x4e\x2b\xa9'], ['linux_raid_member', 64 * MIB - 8192, '\xfc\x4e\x2b\xa9'],
    ['linux_raid_member', 64 * MIB - 65536, '\xa9\x2b\x4e\xfc'], ['zfs_member', 131072, '\x0c\xb1\xba\0\0\0\0\0'], ['gpt', 512, 'EFI PART'], ['gpt', 4096, 'EFI PART'],
    ['ntfs', 3, 'NTFS    '], ['oracleasm', 32, 'ORCLDISK'], ['qcow2', 0, 'QFI\xfb'],
  ])('%s by its magic at %i', async (kind, at, magic) => {
    expect(await KINDS(put(blank(), at, Buffer.from(magic, 'latin1')))).toEqual([kind]);
  });

  test('a boot sector with no partitions is no partition table; several things are all named', async () => {
    const device = put(blank(), 510, Uint8Array.of(0x55, 0xaa));
    expect(await KINDS(device)).toEqual([]);
    put(device, 446, Uint8Array.of(0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0, 1, 0));
    put(device, 512, Buffer.from('LABELONE'));
    expect(await KINDS(device)).toEqual(['dos', 'LVM2_member']);
  });

  test('an OCFS2 volume: label, uuid, cluster, slots taken, nodes beating', async () => {
    const device = blank(100 * MIB);
    await formatVolume(device, { label: 'disks', uuid: '0123456789ABCDEF0123456789ABCDEF', clusterStack: 'o2cb', clusterName: 'lab' }, { random: { u32: () => 77 }, time: 1 });
    const plain = { kind: 'ocfs2', text: 'an OCFS2 volume of cluster "lab"', label: 'disks', uuid: '0123456789ABCDEF0123456789ABCDEF' };
    expect(await probeDevice(device)).toEqual([plain]);
    const reader = await RawReader.open(device);
    const sys = await readSystemFiles(reader);
    await (await SlotMap.read(reader, sys.slotMap)).set(device, 1, 4);
    expect(await probeDevice(device)).toEqual([{ ...plain, inUse: '1 slot taken: mounted, or not cleanly unmounted' }]);
    // A node whose beat counts on while we look.
    const first = new ExtentList(await reader.inode(sys.heartbeat), ID2).blkno(0);
    let beat = 0;
    const pause = async () => {
      const block = new Uint8Array(512);
      block[0] = ++beat;
      block[8] = 4;
      device.writeSync(first * reader.geo.blockSize + 4 * 512, block);
    };
    await pause();
    expect(await probeDevice(device, pause)).toEqual([{ ...plain, inUse: 'node 4 beating on it now' }]);
    put(device, 2 * reader.geo.blockSize + 0xf8, Uint8Array.of(77));
    expect((await probeDevice(device))[0].text).toContain('damaged');
  });

  test('what format overwrites is no longer found', async () => {
    const device = await real(64 * MIB, 'mke2fs', ['-q', '-F', '-t', 'ext4']);
    put(device, 65600, Buffer.from('_BHRfS_M'));
    expect(await KINDS(device)).toEqual(['btrfs', 'ext4']);
    await formatVolume(device, {}, { random: { u32: () => 5 }, time: 1 });
    expect(await KINDS(device)).toEqual(['ocfs2']);
  });
});
