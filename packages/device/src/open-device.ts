/**
 * Opening a LUN or an image file: find out what it is, refuse what must not be touched, take it exclusively.
 *
 * A writer is refused a device that is mounted (DEVICE_MOUNTED) or that another device sits on (DEVICE_HELD); an exclusive one
 * also a device that another writer holds (DEVICE_BUSY): O_EXCL on block devices, where the kernel's mounts and the
 * device mapper take part, flock on image files. Readers may look beside a writer unless they ask for exclusivity: then writers and
 * they keep each other out, but readers do not.
 *
 * On block devices, where O_EXCL knows no sharing, that takes two marks. A reader takes a shared flock, then tries O_EXCL for a moment;
 * a writer takes O_EXCL, then an exclusive flock for a moment (no longer: udev looks at no device that is locked so). Each sets its
 * own mark before it looks for the other's, so of two that come at once at least one sees the other.
 */
import { constants, type Stats } from 'node:fs';
import * as fs from 'node:fs/promises';
import { close, closeSync, fstat, open, openSync, read } from 'node:fs';
import { promisify } from 'node:util';
import { AlignedPool } from './aligned-pool.js';
import { busy, refuseHeld, refuseLoopBacked, refuseMounted } from './claims.js';
import type { Fence } from './direct/fence.js';
import { ERRNO, type ErrnoName, IoError, LunfsError, UsageError } from './errors.js';
import { FileDevice } from './file-device.js';
import { type HelperResult, flock } from './helpers.js';
import { systemErrno } from './io-error.js';
import { type BlockDeviceFacts, type DeviceNumber, SYSFS, blockDeviceFacts, deviceNumber } from './sysfs.js';

const openFd = promisify(open);
const closeFd = promisify(close);
const statFd = promisify(fstat);
const readFd = promisify(read);

export interface OpenOptions {
  /** Open for reading and writing. Default: for reading. */
  readonly write?: boolean;
  /** A writer: keep other exclusive users out. A reader: keep exclusive writers out. DEVICE_BUSY if there is one. Default: as `write`. */
  readonly exclusive?: boolean;
  /** 512 or 4096. Default: the device's own, 512 for files. Never smaller than the device's own. */
  readonly logicalBlockSize?: number;
  /** A file whose file system refuses O_DIRECT may go through the page cache, with a warning. Default true; else DEVICE_NO_DIRECT. */
  readonly allowBuffered?: boolean;
  /** Smallest useful size in bytes: less fails with DEVICE_TOO_SMALL. Default: one logical block. */
  readonly minSize?: number;
  /** Told what an operator should know though it is no error. Default: `process.emitWarning`. */
  readonly warn?: (message: string) => void;
  /** Buffers for requests that are not aligned. Default: a pool of its own. */
  readonly pool?: AlignedPool;
  /** Until when requests may be submitted, for a LUN that other hosts write too. Default: for ever. */
  readonly fence?: Fence;
  /** Where sysfs is; for tests. */
  readonly sysfs?: string;
}

/**
 * Open a block device or an image file. Errors: DEVICE_MISSING, DEVICE_DENIED, DEVICE_NOT_A_DEVICE, DEVICE_READ_ONLY,
 * DEVICE_BLOCK_SIZE, DEVICE_TOO_SMALL, DEVICE_NO_DIRECT, DEVICE_MOUNTED, DEVICE_HELD, DEVICE_BUSY, DEVICE_NO_HELPER, DEVICE_OPEN.
 */
export async function openDevice(path: string, options: OpenOptions = {}): Promise<FileDevice> {
  const wanted = options.logicalBlockSize;
  if (wanted !== undefined && wanted !== 512 && wanted !== 4096) {
    throw new UsageError(
      'DEVICE_BLOCK_SIZE',
      'EINVAL',
      `${path}: logical blocks of ${wanted} bytes were asked for; only 512 and 4096 exist`,
      { device: path, logicalBlockSize: wanted },
    );
  }
  // Looked at before it is opened: opening a FIFO waits for its other end, opening a tape moves it.
  const stats = await fs.stat(path).catch((cause: unknown) => {
    throw openError(path, options, cause);
  });
  if (stats.isBlockDevice()) return openBlock(path, stats, options);
  if (stats.isFile()) return openFile(path, stats, options);
  const is = stats.isDirectory()
    ? 'a directory'
    : stats.isCharacterDevice()
      ? 'a character device'
      : stats.isFIFO()
        ? 'a FIFO'
        : 'a socket';
  throw new UsageError(
    'DEVICE_NOT_A_DEVICE',
    'ENOTTY',
    `${path} is ${is}. Give a block device (for a LUN /dev/mapper/NAME) or an image file`,
    { device: path, is },
  );
}

async function openBlock(path: string, stats: Stats, options: OpenOptions): Promise<FileDevice> {
  const number = deviceNumber(stats.rdev);
  const sysfs = options.sysfs ?? SYSFS;
  const facts = blockDeviceFacts(number, sysfs);
  const readOnly = !options.write;
  const exclusive = options.exclusive ?? options.write;
  if (options.write) {
    refuseMounted(path, facts);
    refuseHeld(path, facts, sysfs);
    if (facts.readOnly) throw readOnlyError(path, 'the block device is read-only');
  }
  const logicalBlockSize = options.logicalBlockSize ?? facts.logicalBlockSize;
  if (logicalBlockSize < facts.logicalBlockSize) {
    throw new UsageError(
      'DEVICE_BLOCK_SIZE',
      'EINVAL',
      `${path} has logical blocks of ${facts.logicalBlockSize} bytes: it cannot be used in blocks of ${logicalBlockSize}`,
      {
        device: path,
        logicalBlockSize,
        deviceBlockSize: facts.logicalBlockSize,
      },
    );
  }
  const size = checkedSize(path, facts.size, logicalBlockSize, options);
  const realPath = await fs.realpath(path);
  const excl = exclusive && options.write ? constants.O_EXCL : 0;
  const fd = await openSame(path, stats, accessFlags(options) | constants.O_DIRECT | excl).catch((cause: unknown) => {
    throw excl !== 0 && systemErrno(cause) === 'EBUSY' ? busy(path, realPath, number, cause) : openError(path, options, cause);
  });
  const device = new FileDevice(
    { fd, name: path, kind: 'block', direct: true, size, logicalBlockSize, readOnly, canDiscard: facts.discardMaxBytes > 0, fence: options.fence, sysfs: options.sysfs },
    options.pool,
  );
  if (!exclusive) return device;
  try {
    if (options.write) {
      locked(path, await flock(fd, 'exclusive', UDEV_SECONDS), () => busy(path, realPath, number));
      await flock(fd, 'none');
    } else {
      locked(path, await flock(fd, 'shared'), () => busy(path, realPath, number));
      await refuseWriter(path, realPath, number, fd);
    }
    return device;
  } catch (error) {
    await device.close();
    throw error;
  }
}

/** Seconds a writer waits for those who look at the device for a moment: udev locks what it probes, after each close of a writer. */
const UDEV_SECONDS = 1;
/** Times a reader looks for a writer; another reader that looks at the same moment passes for one. */
const LOOKS = 20;

/** Throws DEVICE_BUSY if somebody has the block device open with O_EXCL for longer than a moment. */
async function refuseWriter(path: string, realPath: string, number: DeviceNumber, fd: number): Promise<void> {
  for (let look = 1; ; look++) {
    try {
      closeSync(openSync(realPath, constants.O_RDONLY | constants.O_NOCTTY | constants.O_EXCL));
      return;
    } catch (cause) {
      if (systemErrno(cause) !== 'EBUSY') throw openError(path, {}, cause);
      if (look === LOOKS) throw busy(path, realPath, number, cause);
    }
    // The pause between two looks: some milliseconds. The lock is ours already.
    await flock(fd, 'shared');
  }
}

/** Throws what came of an attempt to lock, unless it succeeded. */
function locked(path: string, lock: HelperResult, taken: () => LunfsError): void {
  if (lock.status === 0) return;
  if (lock.missing) {
    throw new UsageError('DEVICE_NO_HELPER', 'ENOENT', `${path} cannot be locked: the program flock is missing. Install util-linux`, { device: path });
  }
  throw lock.status === 1 ? taken() : new IoError('DEVICE_OPEN', `${path} cannot be locked: ${lock.stderr}`, { device: path });
}

async function openFile(path: string, stats: Stats, options: OpenOptions): Promise<FileDevice> {
  const exclusive = options.exclusive ?? options.write;
  const logicalBlockSize = options.logicalBlockSize ?? 512;
  const pool = options.pool ?? new AlignedPool();
  const size = checkedSize(path, stats.size, logicalBlockSize, options);
  const realPath = await fs.realpath(path);
  if (options.write && exclusive) refuseLoopBacked(path, realPath, options.sysfs);
  let fd = await openDirect(path, stats, logicalBlockSize, pool, options);
  const direct = fd !== undefined;
  if (fd === undefined) {
    const refused = `its file system refuses O_DIRECT in blocks of ${logicalBlockSize} bytes`;
    if (options.allowBuffered === false)
      throw new UsageError('DEVICE_NO_DIRECT', 'EINVAL', `${path}: ${refused}. Put the image on another file system`, {
        device: path,
        logicalBlockSize,
      });
    (options.warn ?? defaultWarn)(
      `${path}: ${refused}; using the page cache instead, which is slower and not safe on storage that several hosts share`,
    );
    fd = await openSame(path, stats, accessFlags(options)).catch((cause: unknown) => {
      throw openError(path, options, cause);
    });
  }
  const device = new FileDevice(
    { fd, name: path, kind: 'file', direct, size, logicalBlockSize, readOnly: !options.write, canDiscard: options.write ?? false, fence: options.fence, sysfs: options.sysfs },
    pool,
  );
  if (!exclusive) return device;
  try {
    locked(path, await flock(fd, options.write ? 'exclusive' : 'shared'), () => busy(path, realPath, undefined));
    return device;
  } catch (error) {
    await device.close();
    throw error;
  }
}

/** A descriptor with O_DIRECT that is known to take blocks of the size; undefined if the file system refuses. */
async function openDirect(
  path: string,
  stats: Stats,
  blockSize: number,
  pool: AlignedPool,
  options: OpenOptions,
): Promise<number | undefined> {
  // Reads of holes pass in any size, so the probe below proves little on a sparse image: ask for the disk's block size too.
  const disk = diskOf(stats, options);
  if (disk && disk.logicalBlockSize > blockSize) return undefined;
  let fd: number;
  try {
    fd = await openSame(path, stats, accessFlags(options) | constants.O_DIRECT);
  } catch (cause) {
    if (systemErrno(cause) === 'EINVAL') return undefined;
    throw openError(path, options, cause);
  }
  const probe = pool.acquire(blockSize);
  try {
    await readFd(fd, probe, 0, blockSize, 0);
    return fd;
  } catch (cause) {
    await closeFd(fd);
    if (systemErrno(cause) === 'EINVAL') return undefined;
    throw openError(path, options, cause);
  } finally {
    pool.release(probe);
  }
}

/** The block device below a file, where the file system sits on exactly one. */
function diskOf(stats: Stats, options: OpenOptions): BlockDeviceFacts | undefined {
  try {
    return blockDeviceFacts(deviceNumber(stats.dev), options.sysfs);
  } catch (error) {
    if (error instanceof IoError) return undefined;
    throw error;
  }
}

/** Open, and make sure that it is what was looked at: a path can be renamed in between. */
async function openSame(path: string, before: Stats, flags: number): Promise<number> {
  const fd = await openFd(path, flags);
  const now = await statFd(fd);
  if (now.dev === before.dev && now.ino === before.ino && now.rdev === before.rdev) return fd;
  await closeFd(fd);
  throw new IoError('DEVICE_OPEN', `${path} was replaced while it was opened: try again`, { device: path });
}

function accessFlags(options: OpenOptions): number {
  return (options.write ? constants.O_RDWR : constants.O_RDONLY) | constants.O_NOCTTY;
}

function checkedSize(path: string, bytes: number, logicalBlockSize: number, options: OpenOptions): number {
  const size = bytes - (bytes % logicalBlockSize);
  const minSize = Math.max(options.minSize ?? 0, logicalBlockSize);
  if (size >= minSize) return size;
  throw new UsageError(
    'DEVICE_TOO_SMALL',
    'ENOSPC',
    `${path} has ${size} usable bytes, at least ${minSize} are needed. Use a larger LUN, or grow the image: truncate -s SIZE ${path}`,
    {
      device: path,
      size,
      minSize,
    },
  );
}

function readOnlyError(path: string, why: string, cause?: unknown): UsageError {
  return new UsageError(
    'DEVICE_READ_ONLY',
    'EROFS',
    `${path} cannot be written: ${why}. Make it writable, or open it for reading only`,
    { device: path },
    cause,
  );
}

function openError(path: string, options: OpenOptions, cause: unknown): LunfsError {
  if (cause instanceof LunfsError) return cause;
  const errno = systemErrno(cause);
  const fields = { device: path, errno };
  switch (errno) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new UsageError(
        'DEVICE_MISSING',
        'ENOENT',
        `${path} does not exist. Check the name; a LUN appears as /dev/mapper/NAME once its paths are there (multipath -ll)`,
        fields,
        cause,
      );
    case 'EACCES':
    case 'EPERM':
      return new UsageError(
        'DEVICE_DENIED',
        'EACCES',
        `${path}: no permission to ${options.write ? 'write' : 'read'} it. Run as root, or as a member of the group that owns it`,
        fields,
        cause,
      );
    case 'EROFS':
      return readOnlyError(path, 'its file system or device is read-only', cause);
    default:
      return new IoError('DEVICE_OPEN', `${path} cannot be opened: ${errno}`, fields, cause, errno in ERRNO ? (errno as ErrnoName) : 'EIO');
  }
}

function defaultWarn(message: string): void {
  process.emitWarning(message, 'LunfsWarning');
}
