import { describe, expect, test } from 'vitest';
import { BACKUP_SUPER_OFFSETS } from '../../src/format/index.js';
import { RawReader } from '../../src/inspect/index.js';
import { checkVolume } from '../../src/check/index.js';
import { Volume, backupView, findBackupSupers, readBackupSuper, restoreSuperBlock, updateSuperBlock } from '../../src/volume/index.js';
import { expectFsckClean, makeVolume, readBytes } from '../support/volume.js';

describe.each([
  { name: '4K/4K metaecc', args: ['-b', '4096', '-C', '4096', '--fs-features=metaecc'], blockSize: 4096 },
  { name: '512/4K', args: ['-b', '512', '-C', '4096'], blockSize: 512 },
  { name: '2K/1M', args: ['-b', '2048', '-C', '1M', '--fs-features=metaecc'], blockSize: 2048 },
])('backup superblocks, $name', ({ args, blockSize }) => {
  const make = () => makeVolume({ size: 5 * 2 ** 30, mkfsArgs: ['-N', '2', '-M', 'local', '-J', 'size=17M', ...args] });
  const superBlock = (device: Awaited<ReturnType<typeof make>>) => readBytes(device, 2 * blockSize, blockSize);

  test('a volume whose superblock is gone is read by each of them, checked, and gets it back', async () => {
    const device = await make();
    const before = await superBlock(device);
    expect((await findBackupSupers(device)).map(({ number, blkno }) => [number, blkno])).toEqual([[1, BACKUP_SUPER_OFFSETS[0] / blockSize], [2, BACKUP_SUPER_OFFSETS[1] / blockSize]]);
    await device.write(2 * blockSize, new Uint8Array(blockSize).fill(0x5a));
    await expect(RawReader.open(device)).rejects.toMatchObject({ code: 'NOT_OCFS2' });
    for (const which of [1, 2, BACKUP_SUPER_OFFSETS[1] / blockSize]) {
      const view = backupView(device, await readBackupSuper(device, which));
      const volume = await Volume.mount(view, { readOnly: true });
      expect((await volume.names.lookup(volume.names.root, Buffer.from('lost+found'))).blkno).toBeGreaterThan(0);
      await volume.unmount();
      expect((await checkVolume(view)).clean).toBe(true);
      await expect(view.write(0, new Uint8Array(4096))).rejects.toMatchObject({ errno: 'EROFS' });
    }
    await restoreSuperBlock(device, await readBackupSuper(device, 2));
    expect(Buffer.compare(await superBlock(device), before)).toBe(0);
    await expectFsckClean(device);
  });

  test('copies follow changes of the superblock; what is damaged or missing is named', async () => {
    const device = await make();
    const { geo } = await RawReader.open(device);
    await updateSuperBlock(device, geo, (sb) => {
      sb.label = Buffer.concat([Buffer.from('renamed'), Buffer.alloc(57)]);
    });
    const backup = await readBackupSuper(device, 1);
    expect(backup.geo.label).toBe('renamed');
    expect(Buffer.compare(backup.image, await superBlock(device))).toBe(0);
    await expect(readBackupSuper(device, 3)).rejects.toMatchObject({ code: 'NO_BACKUP_SUPER' });
    await expect(readBackupSuper(device, 12345)).rejects.toMatchObject({ code: 'NO_BACKUP_SUPER' });
    // Not its own number: a copy that was made of another place, or for other blocks.
    await device.write(BACKUP_SUPER_OFFSETS[0], await superBlock(device));
    await expect(readBackupSuper(device, 1)).rejects.toMatchObject({ code: 'NO_BACKUP_SUPER' });
    expect((await findBackupSupers(device)).map(({ number }) => number)).toEqual([2]);
  });
});
