import path from 'node:path';
import { MemoryDevice, openDevice } from '@lunfs/device';
import { afterAll, describe, expect, test } from 'vitest';
import { Cleanup, exec, must, sparseFile, tempDir } from '../../../test/support/temp.js';
import { type Signature, probeSignatures } from '../src/signatures.js';

const MIB = 2 ** 20;
const KINDS = async (device: MemoryDevice) => (await probeSignatures(device)).map((s) => s.kind);

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

const cleanup = new Cleanup();
afterAll(() => cleanup.run());

/** What is found on a file of `size` bytes that a tool has made something of. */
async function made(size: number, command: string, args: readonly string[], input = ''): Promise<Signature[]> {
  const file = sparseFile(path.join(tempDir(cleanup, 'signatures'), 'image'), size);
  await must(command, [...args, file], { input });
  const device = await openDevice(file, { warn: () => undefined });
  try {
    return await probeSignatures(device);
  } finally {
    await device.close();
  }
}

const found = async (tool: string) => (await exec('sh', ['-c', `command -v ${tool}`])).status === 0;
const hasExt = await found('mke2fs'), hasXfs = await found('mkfs.xfs'), hasBtrfs = await found('mkfs.btrfs'), hasSfdisk = await found('sfdisk');

describe('probeSignatures', () => {
  test('nothing on an empty device, nor in noise', async () => {
    expect(await probeSignatures(blank())).toEqual([]);
    expect(await probeSignatures(blank(64 * 1024))).toEqual([]);
    const noise = new Uint8Array(MIB).map((_, i) => (i * 197) & 0xff);
    expect(await probeSignatures(put(blank(), 0, noise))).toEqual([]);
  });

  test.skipIf(!hasExt)('ext2, ext4, swap made by their tools', async () => {
    expect(await made(64 * MIB, 'mke2fs', ['-q', '-F', '-t', 'ext4', '-L', 'data', '-U', '11111111-2222-3333-4444-555555555555'])).toEqual([
      { kind: 'ext4', text: 'an ext4 file system', label: 'data', uuid: '11111111-2222-3333-4444-555555555555' },
    ]);
    expect((await made(16 * MIB, 'mke2fs', ['-q', '-F', '-t', 'ext2'])).map(({ kind }) => kind)).toEqual(['ext2']);
    expect(await made(16 * MIB, 'mkswap', ['-L', 'pages', '-U', '11111111-2222-3333-4444-555555555555'])).toMatchObject([
      { kind: 'swap', label: 'pages', uuid: '11111111-2222-3333-4444-555555555555' },
    ]);
  });

  test.skipIf(!hasXfs)('XFS made by mkfs.xfs', async () => {
    expect(await made(400 * MIB, 'mkfs.xfs', ['-q', '-L', 'big'])).toMatchObject([{ kind: 'xfs', label: 'big' }]);
  });

  test.skipIf(!hasBtrfs)('Btrfs made by mkfs.btrfs', async () => {
    expect(await made(200 * MIB, 'mkfs.btrfs', ['-q', '-L', 'tree'])).toMatchObject([{ kind: 'btrfs', label: 'tree' }]);
  });

  test.skipIf(!hasSfdisk)('GPT and MBR made by sfdisk', async () => {
    const table = (label: string) => made(64 * MIB, 'sfdisk', ['-q'], `label: ${label}\n,16M\n,\n`);
    expect(await table('gpt')).toMatchObject([{ kind: 'gpt' }]);
    expect(await table('dos')).toEqual([{ kind: 'dos', text: 'an MBR partition table with 2 partitions' }]);
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
});
