/** Our mkfs and what it finds: nothing of what was there before is recognised afterwards. */
import { MemoryDevice } from '@lunfs/device';
import { formatVolume, probeVolume } from '@lunfs/ocfs2';
import { probeSignatures } from '@lunfs/san';
import { expect, it } from 'vitest';

const MIB = 2 ** 20;

it('what format overwrites is no longer found', async () => {
  const device = new MemoryDevice({ size: 64 * MIB, name: 'used' });
  const put = (at: number, bytes: Uint8Array): void => {
    const sector = new Uint8Array(512);
    device.readSync(at - (at % 512), sector);
    sector.set(bytes, at % 512);
    device.writeSync(at - (at % 512), sector);
  };
  put(1024 + 56, Uint8Array.of(0x53, 0xef));
  put(65600, Buffer.from('_BHRfS_M'));
  put(512, Buffer.from('EFI PART'));
  expect((await probeSignatures(device)).map(({ kind }) => kind)).toEqual(['gpt', 'btrfs', 'ext2']);
  await formatVolume(device, {}, { random: { u32: () => 5 }, time: 1 });
  expect(await probeSignatures(device)).toEqual([]);
  expect(await probeVolume(device)).toMatchObject({ kind: 'ocfs2', stack: 'o2cb' });
});
