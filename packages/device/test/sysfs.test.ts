import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { tempDir } from '../../../test/support/temp.js';
import { blockDeviceFacts, deviceNumber, loopDevicesOf } from '../src/sysfs.js';
import { cleanupAfterEach } from './support/vitest.js';
import { layOut } from './support/sysfs-tree.js';

const cleanup = cleanupAfterEach();

describe('deviceNumber', () => {
  it('unpacks st_rdev as makedev packs it', () => {
    expect(deviceNumber(0x0701)).toEqual({ major: 7, minor: 1 });
    expect(deviceNumber(0xfd0c)).toEqual({ major: 253, minor: 12 });
    expect(deviceNumber(0x10_0803)).toEqual({ major: 8, minor: 259 }); // minor bits from 20 up
    expect(deviceNumber(2 ** 44 + 2 ** 32 + 0x0102)).toEqual({ major: 4097, minor: 2 + 2 ** 20 });
  });
});

describe('blockDeviceFacts', () => {
  it('reads a LUN below a multipath map, its partition and the map', () => {
    const sysfs = layOut(tempDir(cleanup));
    expect(blockDeviceFacts({ major: 8, minor: 0 }, sysfs)).toEqual({
      major: 8,
      minor: 0,
      kernelName: 'sda',
      size: 2048 * 512,
      readOnly: false,
      logicalBlockSize: 4096,
      physicalBlockSize: 4096,
      rotational: true,
      discardGranularity: 4096,
      discardMaxBytes: 1 << 20,
      writeZeroesMaxBytes: 0,
      model: 'VENDOR LUN 9000',
      mapper: undefined,
      backingFile: undefined,
      holders: [{ kernelName: 'dm-0', mapper: { name: 'mpatha', uuid: 'mpath-3600' } }],
      disk: undefined,
      partitions: [{ major: 8, minor: 1, kernelName: 'sda1' }],
    });
    expect(blockDeviceFacts({ major: 8, minor: 1 }, sysfs)).toMatchObject({
      kernelName: 'sda1',
      size: 1024 * 512,
      logicalBlockSize: 4096,
      disk: { major: 8, minor: 0 },
      holders: [],
      partitions: [],
      model: 'VENDOR LUN 9000',
    });
    expect(blockDeviceFacts({ major: 253, minor: 0 }, sysfs)).toMatchObject({
      mapper: { name: 'mpatha', uuid: 'mpath-3600' },
      discardMaxBytes: 0,
      logicalBlockSize: 512,
    });
  });

  it('says so when sysfs knows nothing, or not the size', () => {
    const sysfs = tempDir(cleanup);
    expect(() => blockDeviceFacts({ major: 8, minor: 0 }, sysfs)).toThrow(
      expect.objectContaining({ code: 'DEVICE_NO_SYSFS', errno: 'ENODEV' }),
    );
    mkdirSync(join(sysfs, 'devices/odd'), { recursive: true });
    mkdirSync(join(sysfs, 'dev/block'), { recursive: true });
    symlinkSync('../../devices/odd', join(sysfs, 'dev/block/8:0'));
    writeFileSync(join(sysfs, 'devices/odd/size'), 'many\n');
    expect(() => blockDeviceFacts({ major: 8, minor: 0 }, sysfs)).toThrow(expect.objectContaining({ code: 'DEVICE_NO_SYSFS' }));
  });
});

describe('loopDevicesOf', () => {
  it('finds the loop devices of a file', () => {
    const sysfs = tempDir(cleanup);
    for (const [name, file] of [
      ['loop0', '/a'],
      ['loop1', '/b'],
      ['loop2', '/a'],
      ['sda', '/a'],
    ]) {
      const path = join(sysfs, 'block', name, 'loop/backing_file');
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, `${file}\n`);
    }
    expect(loopDevicesOf('/a', sysfs)).toEqual(['loop0', 'loop2']);
    expect(loopDevicesOf('/c', sysfs)).toEqual([]);
  });
});
