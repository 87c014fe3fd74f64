import { describe, expect, it } from 'vitest';
import { tempDir } from '../../../test/support/temp.js';
import { parseMountInfo, refuseHeld, refuseMounted } from '../src/claims.js';
import { blockDeviceFacts } from '../src/sysfs.js';
import { layOut } from './support/sysfs-tree.js';
import { cleanupAfterEach, having, matching } from './support/vitest.js';

const cleanup = cleanupAfterEach();
const line = (number: string, at: string): string => `36 25 ${number} / ${at} rw,noatime shared:1 master:2 - ocfs2 /dev/x rw\n`;

describe('parseMountInfo', () => {
  it('skips the optional fields and undoes the octal escapes', () => {
    const text = `25 1 254:0 / / rw - ext4 /dev/vda rw\n${line('8:1', '/mnt/a\\040b\\134c')}garbage\n\n`;
    expect(parseMountInfo(text)).toEqual([
      { number: '254:0', mountPoint: '/', type: 'ext4' },
      { number: '8:1', mountPoint: '/mnt/a b\\c', type: 'ocfs2' },
    ]);
  });
});

describe('refuseMounted', () => {
  it('finds the device itself, a partition of it, and the disk it is part of', () => {
    const sysfs = layOut(tempDir(cleanup));
    const disk = blockDeviceFacts({ major: 8, minor: 0 }, sysfs);
    const partition = blockDeviceFacts({ major: 8, minor: 1 }, sysfs);
    const refusal = (message: RegExp): unknown =>
      expect.objectContaining({ code: 'DEVICE_MOUNTED', errno: 'EBUSY', message: matching(message) });
    expect(() => refuseMounted('/dev/sda', disk, line('8:0', '/mnt'))).toThrow(
      refusal(/\/dev\/sda is in use: it is mounted on \/mnt \(ocfs2\).*umount \/mnt/),
    );
    expect(() => refuseMounted('/dev/sda', disk, line('8:1', '/boot'))).toThrow(refusal(/its partition sda1 is mounted on \/boot/));
    expect(() => refuseMounted('/dev/sda1', partition, line('8:0', '/mnt'))).toThrow(
      refusal(/the disk that it is a partition of is mounted/),
    );
    expect(() => refuseMounted('/dev/sda', disk, line('8:2', '/mnt'))).not.toThrow();
  });
});

describe('refuseHeld', () => {
  it('sends the user from a path to its multipath map', () => {
    const sysfs = layOut(tempDir(cleanup));
    const held =
      (path: string, minor: number): (() => void) =>
      () =>
        refuseHeld(path, blockDeviceFacts({ major: 8, minor }, sysfs), sysfs);
    expect(held('/dev/sda', 0)).toThrow(
      expect.objectContaining({
        code: 'DEVICE_HELD',
        message: matching(/one path of the multipath map mpatha\. Use \/dev\/mapper\/mpatha$/),
      }),
    );
    expect(held('/dev/sda1', 1)).toThrow(
      expect.objectContaining({ code: 'DEVICE_HELD', message: matching(/the disk that it is a partition of is one path/) }),
    );
    expect(() => refuseHeld('/dev/mapper/mpatha', blockDeviceFacts({ major: 253, minor: 0 }, sysfs), sysfs)).not.toThrow();
  });

  it('names other holders too', () => {
    const sysfs = layOut(tempDir(cleanup), { name: 'vg-lv', uuid: 'LVM-abc' });
    expect(() => refuseHeld('/dev/sda', blockDeviceFacts({ major: 8, minor: 0 }, sysfs), sysfs)).toThrow(
      expect.objectContaining({
        code: 'DEVICE_HELD',
        message: matching(/part of \/dev\/mapper\/vg-lv \(LVM\)/),
        fields: having({ holder: 'vg-lv', kernelName: 'dm-0' }),
      }),
    );
  });
});
