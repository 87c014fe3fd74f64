// The oracles: programs of others that say whether lunfs is right, the Debian package each comes in, and whether this
// machine has them. docs/design.md, section 5.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { cachedKernel } from './kernel.mjs';

/** Debian keeps PostgreSQL's server programs out of PATH, one directory per version. */
const postgresql = () => (fs.existsSync('/usr/lib/postgresql') ? fs.readdirSync('/usr/lib/postgresql').map((version) => `/usr/lib/postgresql/${version}/bin`) : []);

const searchPath = [...(process.env.PATH ?? '').split(':'), '/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin'].filter(Boolean);

/**
 * Absolute path of a program, looked for in PATH and the sbin directories (which a user's PATH often lacks).
 * @param {string} name
 * @returns {string | undefined}
 */
export function findProgram(name) {
  return [...searchPath, ...postgresql()].map((directory) => path.join(directory, name)).find((file) => fs.existsSync(file));
}

/** Debian packages and the programs that show each is there. */
export const debianPackages = {
  acl: ['getfacl', 'setfacl'],
  attr: ['getfattr', 'setfattr'],
  'btrfs-progs': ['mkfs.btrfs'],
  'busybox-static': ['busybox'],
  cpio: ['cpio'],
  dmsetup: ['dmsetup'],
  e2fsprogs: ['mke2fs', 'debugfs'],
  fdisk: ['sfdisk'],
  fio: ['fio'],
  fuse2fs: ['fuse2fs'],
  fuse3: ['fusermount3'],
  gdisk: ['sgdisk'],
  git: ['git'],
  iproute2: ['ip', 'bridge'],
  kmod: ['depmod'],
  kpartx: ['kpartx'],
  'libnbd-bin': ['nbdinfo', 'nbdcopy'],
  lsscsi: ['lsscsi'],
  'multipath-tools': ['multipathd', 'multipath'],
  'ocfs2-tools': ['mkfs.ocfs2', 'fsck.ocfs2', 'debugfs.ocfs2'],
  openssl: ['openssl'],
  parted: ['parted'],
  postgresql: ['initdb', 'postgres'],
  'qemu-system-x86': ['qemu-system-x86_64'],
  'qemu-utils': ['qemu-img', 'qemu-io', 'qemu-nbd'],
  'sg3-utils': ['sg_inq', 'sg_readcap'],
  sqlite3: ['sqlite3'],
  systemd: ['systemd-analyze', 'systemd-notify'],
  udev: ['udevadm'],
  'util-linux': ['losetup', 'setpriv', 'flock'],
  xfsprogs: ['mkfs.xfs'],
  'xz-utils': ['xz'],
  zstd: ['zstd'],
};

/** @returns {string[]} Debian packages of which a program is missing. */
export function missingPackages() {
  return Object.entries(debianPackages)
    .filter(([, programs]) => programs.some((program) => !findProgram(program)))
    .map(([name]) => name);
}

/** @type {(...programs: string[]) => () => string | undefined} */
const programs = (...names) => () => {
  const missing = names.filter((name) => !findProgram(name));
  return missing.length === 0 ? undefined : `no ${missing.join(', ')} on this machine`;
};

/** Whether a namespace with a bridge, a tap and a pair of virtual cards can be had: containers may be root and still lack it. */
function networkMissing() {
  const name = `lunfs-probe-${process.pid}`;
  const ip = findProgram('ip') ?? 'ip';
  const steps = [['netns', 'add', name], ['-n', name, 'link', 'add', 'name', 'br', 'type', 'bridge'], ['-n', name, 'tuntap', 'add', 'tap', 'mode', 'tap'], ['-n', name, 'link', 'add', 'name', 'a', 'type', 'veth', 'peer', 'name', 'b']];
  const failed = steps.map((args) => spawnSync(ip, args, { encoding: 'utf8' })).find(({ status }) => status !== 0);
  spawnSync(ip, ['netns', 'del', name]);
  return failed ? `no network namespace with bridge and tap: ${failed.stderr.trim()}` : undefined;
}

const isRoot = () => (process.getuid?.() === 0 ? undefined : 'needs root');

/**
 * What a suite can ask for in its suite.json. Each says why it can't be had, or undefined.
 * @type {Record<string, () => string | undefined>}
 */
const oracles = {
  'ocfs2-tools': programs('mkfs.ocfs2', 'fsck.ocfs2', 'debugfs.ocfs2'),
  qemu: programs('qemu-system-x86_64', 'qemu-img', 'qemu-io', 'setpriv'),
  kernel: () =>
    programs('qemu-system-x86_64', 'setpriv', 'busybox', 'cpio', 'mke2fs')() ??
    (cachedKernel() ? undefined : "Debian's kernel is not in .cache/kernel (node scripts/setup.mjs fetches it)"),
  multipath: programs('multipathd', 'multipath', 'dmsetup', 'kpartx', 'udevadm', 'lsscsi', 'sg_inq', 'lsblk'),
  partitions: programs('sgdisk', 'sfdisk', 'parted'),
  libnbd: programs('nbdinfo', 'nbdcopy'),
  fio: programs('fio'),
  openssl: programs('openssl'),
  fuse2fs: programs('fuse2fs'),
  sqlite: programs('sqlite3'),
  git: programs('git'),
  postgresql: programs('initdb', 'postgres', 'setpriv'),
  systemd: programs('systemd-analyze', 'systemd-notify', 'perl'),
  attr: programs('getfattr', 'setfattr', 'getfacl', 'setfacl'),
  root: isRoot,
  fuse: () => isRoot() ?? (fs.existsSync('/dev/fuse') ? undefined : 'no /dev/fuse on this machine'),
  network: () => isRoot() ?? programs('ip', 'bridge')() ?? networkMissing(),
  loop: () => isRoot() ?? programs('losetup')() ?? (fs.existsSync('/dev/loop-control') ? undefined : 'no loop devices on this machine'),
};

/**
 * Why `name` can't be had here, or undefined when it can. An unknown name throws: a misspelt need must not skip a suite.
 * @param {string} name
 */
export function oracleMissing(name) {
  const probe = oracles[name];
  if (!probe) throw new Error(`unknown oracle "${name}"; known: ${Object.keys(oracles).join(', ')}`);
  return probe();
}
