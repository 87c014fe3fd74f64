/**
 * Who else uses a device: mounts, holders on top of it, processes that have it open. A writer asks here before it touches a
 * device (docs/design.md, "One writer per device on one host"); every refusal names the user and the remedy.
 *
 * Advisory by nature: what is checked here could change a moment later. O_EXCL and flock, taken at open, decide races; these
 * checks find what those cannot see (a path of a multipath map, an image behind a loop device) and say who it is.
 */
import { readFileSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import { ClusterError } from './errors.js';
import { type BlockDeviceFacts, type DeviceNumber, type Holder, SYSFS, blockDeviceFacts, loopDevicesOf } from './sysfs.js';

/** Where a device is mounted, from /proc/self/mountinfo (Documentation/filesystems/proc.rst, 3.5). */
export interface MountEntry {
  readonly number: string;
  readonly mountPoint: string;
  readonly type: string;
}

/** Parse mountinfo; fields are octal-escaped. */
export function parseMountInfo(text: string): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const fields = line.split(' ');
    const dash = fields.indexOf('-', 6);
    if (dash < 0) continue;
    const mountPoint = fields[4].replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    entries.push({ number: fields[2], mountPoint, type: fields[dash + 1] });
  }
  return entries;
}

/** Throws DEVICE_MOUNTED if the device, a partition of it or the disk it is a partition of is mounted. */
export function refuseMounted(path: string, facts: BlockDeviceFacts, mountInfo = readFileSync('/proc/self/mountinfo', 'utf8')): void {
  const mounts = new Map(parseMountInfo(mountInfo).map((entry) => [entry.number, entry]));
  const find = (number: DeviceNumber): MountEntry | undefined => mounts.get(`${number.major}:${number.minor}`);
  const refuse = (mount: MountEntry, what: string): never => {
    throw new ClusterError(
      'DEVICE_MOUNTED',
      `${path} is in use: ${what} mounted on ${mount.mountPoint} (${mount.type}). Unmount it first: umount ${mount.mountPoint}`,
      {
        device: path,
        mountPoint: mount.mountPoint,
        type: mount.type,
      },
    );
  };
  const own = find(facts);
  if (own) refuse(own, 'it is');
  const disk = facts.disk && find(facts.disk);
  if (disk) refuse(disk, 'the disk that it is a partition of is');
  for (const partition of facts.partitions) {
    const mount = find(partition);
    if (mount) refuse(mount, `its partition ${partition.kernelName} is`);
  }
}

/** Throws DEVICE_HELD if another device sits on this one, on a partition of it or on its disk (multipath, LVM, RAID, crypt). */
export function refuseHeld(path: string, facts: BlockDeviceFacts, sysfs = SYSFS): void {
  refuseHolders(path, facts.holders, 'it');
  if (facts.disk) refuseHolders(path, blockDeviceFacts(facts.disk, sysfs).holders, 'the disk that it is a partition of');
  for (const partition of facts.partitions)
    refuseHolders(path, blockDeviceFacts(partition, sysfs).holders, `its partition ${partition.kernelName}`);
}

function refuseHolders(path: string, holders: readonly Holder[], what: string): void {
  const holder = holders.find((h) => h.mapper?.uuid.startsWith('mpath-')) ?? holders[0];
  if (!holder) return;
  const { mapper, kernelName } = holder;
  const fields = { device: path, holder: mapper?.name ?? kernelName, kernelName, uuid: mapper?.uuid };
  if (mapper?.uuid.startsWith('mpath-')) {
    throw new ClusterError(
      'DEVICE_HELD',
      `${path} cannot be used: ${what} is one path of the multipath map ${mapper.name}. Use /dev/mapper/${mapper.name}`,
      fields,
    );
  }
  const by = mapper ? `/dev/mapper/${mapper.name}${mapper.uuid ? ` (${mapper.uuid.split('-')[0]})` : ''}` : `/dev/${kernelName}`;
  throw new ClusterError('DEVICE_HELD', `${path} cannot be used: ${what} is part of ${by}. Use that device, or take it down first`, fields);
}

/** Throws DEVICE_HELD if an image file is the store of a loop device: its users and we would not see each other's locks. */
export function refuseLoopBacked(path: string, realPath: string, sysfs = SYSFS): void {
  const loop = loopDevicesOf(realPath, sysfs)[0];
  if (!loop) return;
  throw new ClusterError(
    'DEVICE_HELD',
    `${path} cannot be used: it is the file behind /dev/${loop}. Use /dev/${loop}, or detach it first: losetup -d /dev/${loop}`,
    { device: path, holder: loop },
  );
}

const O_RDONLY = 0;
const O_ACCMODE = 3;

/** A process that has a file or device open. */
export interface OpenBy {
  readonly pid: number;
  readonly command: string;
  /** Has it open for writing. */
  readonly writes: boolean;
  /** Holds an flock on it. */
  readonly locks: boolean;
  /** That flock keeps others out altogether: a writer's. */
  readonly excludes: boolean;
}

/**
 * Processes that have the path (a real path, no links) open, or another name of the same block device; those that lock it
 * first. Best effort: processes of other users are seen by root only.
 */
export function openBy(realPath: string, block?: DeviceNumber): OpenBy[] {
  const rdev = block && statOf(realPath)?.rdev;
  const found: OpenBy[] = [];
  for (const pid of entries('/proc').filter((name) => /^\d+$/.test(name))) {
    let locks = false;
    let excludes = false;
    let writes = false;
    let opens = false;
    for (const fd of entries(`/proc/${pid}/fd`)) {
      const target = attempt(() => readlinkSync(`/proc/${pid}/fd/${fd}`));
      const same =
        target === realPath || (rdev !== undefined && target?.startsWith('/dev/') && statOf(`/proc/${pid}/fd/${fd}`)?.rdev === rdev);
      if (!same) continue;
      opens = true;
      const info = attempt(() => readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8')) ?? '';
      locks ||= /^lock:.*\bFLOCK\b/m.test(info);
      excludes ||= /^lock:.*\bFLOCK\b.*\bWRITE\b/m.test(info);
      writes ||= (Number.parseInt(/^flags:\s*([0-7]+)/m.exec(info)?.[1] ?? '0', 8) & O_ACCMODE) !== O_RDONLY;
    }
    if (opens)
      found.push({ pid: Number(pid), command: attempt(() => readFileSync(`/proc/${pid}/comm`, 'utf8').trim()) ?? '?', writes, locks, excludes });
  }
  return found.sort((a, b) => Number(b.locks) - Number(a.locks));
}

/**
 * The DEVICE_BUSY error, naming who has it, after O_EXCL or flock was refused. Of an image file without a visible locker
 * our own descriptor, open for the attempt, is not worth naming; a refused open of a block device left none.
 */
export function busy(path: string, realPath: string, block: DeviceNumber | undefined, cause?: unknown): ClusterError {
  const all = openBy(realPath, block);
  const lockers = all.filter((user) => user.locks);
  const writers = all.filter((user) => user.writes && (block !== undefined || user.pid !== process.pid));
  const users = lockers.length > 0 ? lockers : writers;
  const names = users.map((user) => (user.pid === process.pid ? `this process (${user.pid})` : `${user.command} (process ${user.pid})`));
  const who = names.length > 0 ? names.join(', ') : 'another process of this host, or the kernel (swap, a mount in another namespace)';
  return new ClusterError(
    'DEVICE_BUSY',
    `${path} is held for ${lockers.length > 0 && !lockers.some((user) => user.excludes) ? 'reading' : 'writing'} by ${who}. Stop it, or work through it instead of on the device`,
    { device: path, holders: names.join(', ') },
    cause,
  );
}

function entries(dir: string): string[] {
  return attempt(() => readdirSync(dir)) ?? [];
}

function statOf(path: string): { rdev: number } | undefined {
  return attempt(() => statSync(path));
}

/** Processes come and go, and others' are not ours to read: an absent answer is no error here. */
function attempt<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined;
  }
}
