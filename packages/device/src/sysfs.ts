/**
 * Facts about block devices from sysfs, since Node has no ioctl (Linux Documentation/ABI/stable/sysfs-block).
 *
 * Every function takes the root of sysfs, so tests can lay out a tree of their own. A partition has no `queue` and `dm`
 * directory; its queue facts are those of its disk. What is absent on an older kernel is reported as undefined, never guessed.
 */
import { readFileSync, readdirSync, realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { IoError } from './errors.js';

export const SYSFS = '/sys';

/** A device number. */
export interface DeviceNumber {
  readonly major: number;
  readonly minor: number;
}

/** A device-mapper device as sysfs names it; `uuid` begins with its kind: `mpath-`, `LVM-`, `part1-mpath-`, `CRYPT-`. */
export interface MapperName {
  readonly name: string;
  readonly uuid: string;
}

/** A device that sits on top of another, e.g. a multipath map on its paths. `kernelName`: dm-0, md127. */
export interface Holder {
  readonly kernelName: string;
  readonly mapper?: MapperName;
}

/** A block device with whatever sysfs says of it; sizes in bytes. */
export interface BlockDeviceFacts extends DeviceNumber {
  readonly kernelName: string;
  readonly size: number;
  readonly readOnly: boolean;
  readonly logicalBlockSize: number;
  readonly physicalBlockSize: number;
  readonly rotational: boolean;
  /** 0: the device cannot discard. */
  readonly discardGranularity: number;
  /** Largest single discard, 0: the device cannot discard. */
  readonly discardMaxBytes: number;
  readonly writeZeroesMaxBytes: number;
  /** Vendor and model as the device reports them, if it does. */
  readonly model?: string;
  readonly mapper?: MapperName;
  /** File behind a loop device. */
  readonly backingFile?: string;
  readonly holders: readonly Holder[];
  /** True for a partition; `disk` is then the number of the whole disk. */
  readonly disk?: DeviceNumber;
  readonly partitions: readonly (DeviceNumber & { readonly kernelName: string })[];
}

/** Major and minor of `st_rdev`, as glibc's makedev packs it: 12 + 20 bits of major, 8 + 24 of minor, interleaved. */
export function deviceNumber(rdev: number): DeviceNumber {
  const high = Math.floor(rdev / 0x1_0000_0000);
  const low = rdev % 0x1_0000_0000;
  const major = (Math.floor(low / 0x100) & 0xfff) + Math.floor(high / 0x1000) * 0x1000;
  const minor = (low % 0x100) + Math.floor(low / 0x10_0000) * 0x100 + (high % 0x1000) * 0x10_0000;
  return { major, minor };
}

/** All facts of a block device. Throws DEVICE_NO_SYSFS if sysfs doesn't know it or its size. */
export function blockDeviceFacts(number: DeviceNumber, sysfs = SYSFS): BlockDeviceFacts {
  const label = `${number.major}:${number.minor}`;
  let dir: string;
  try {
    dir = realpathSync(join(sysfs, 'dev/block', label));
  } catch (cause) {
    throw new IoError(
      'DEVICE_NO_SYSFS',
      `block device ${label} is not in ${sysfs}/dev/block: is sysfs mounted, and the device still attached?`,
      { ...number },
      cause,
      'ENODEV',
    );
  }
  const isPartition = text(dir, 'partition') !== undefined;
  const diskDir = isPartition ? dirname(dir) : dir;
  const queue = join(diskDir, 'queue');
  const sectors = integer(dir, 'size');
  if (sectors === undefined)
    throw new IoError('DEVICE_NO_SYSFS', `block device ${label}: ${dir}/size cannot be read`, { ...number }, undefined, 'ENODEV');
  const logicalBlockSize = integer(queue, 'logical_block_size') ?? 512;
  return {
    ...number,
    kernelName: basename(dir),
    size: sectors * 512, // always in units of 512, whatever the logical block
    readOnly: text(dir, 'ro') === '1',
    logicalBlockSize,
    physicalBlockSize: integer(queue, 'physical_block_size') ?? logicalBlockSize,
    rotational: text(queue, 'rotational') === '1',
    discardGranularity: integer(queue, 'discard_granularity') ?? 0,
    discardMaxBytes: integer(queue, 'discard_max_bytes') ?? 0,
    writeZeroesMaxBytes: integer(queue, 'write_zeroes_max_bytes') ?? 0,
    model: [text(diskDir, 'device/vendor'), text(diskDir, 'device/model')].filter(Boolean).join(' ') || undefined,
    mapper: mapperName(dir),
    backingFile: text(dir, 'loop/backing_file'),
    holders: holdersOf(dir),
    disk: isPartition ? parseNumber(text(diskDir, 'dev')) : undefined,
    partitions: isPartition ? [] : partitionsOf(dir),
  };
}

/** Kernel names of the loop devices that have the file behind them, e.g. `loop3`. */
export function loopDevicesOf(file: string, sysfs = SYSFS): string[] {
  const dir = join(sysfs, 'block');
  return list(dir).filter((name) => name.startsWith('loop') && text(join(dir, name), 'loop/backing_file') === file);
}

/** `8:17` as a device number; undefined if it isn't one. */
export function parseNumber(label: string | undefined): DeviceNumber | undefined {
  const match = /^(\d+):(\d+)$/.exec(label ?? '');
  return match ? { major: Number(match[1]), minor: Number(match[2]) } : undefined;
}

function mapperName(dir: string): MapperName | undefined {
  const name = text(dir, 'dm/name');
  return name === undefined ? undefined : { name, uuid: text(dir, 'dm/uuid') ?? '' };
}

function holdersOf(dir: string): Holder[] {
  return list(join(dir, 'holders')).map((kernelName) => ({ kernelName, mapper: mapperName(join(dir, 'holders', kernelName)) }));
}

function partitionsOf(dir: string): (DeviceNumber & { kernelName: string })[] {
  const found = [];
  for (const name of list(dir)) {
    if (text(join(dir, name), 'partition') === undefined) continue;
    const number = parseNumber(text(join(dir, name), 'dev'));
    if (number) found.push({ ...number, kernelName: name });
  }
  return found;
}

/** Trimmed content of an attribute; undefined if it is absent, empty or can't be read. */
function text(dir: string, attribute: string): string | undefined {
  try {
    return readFileSync(join(dir, attribute), 'utf8').trim() || undefined;
  } catch {
    return undefined;
  }
}

function integer(dir: string, attribute: string): number | undefined {
  const value = Number(text(dir, attribute) ?? Number.NaN);
  return Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

function list(dir: string): string[] {
  try {
    return readdirSync(dir).sort();
  } catch {
    return [];
  }
}
