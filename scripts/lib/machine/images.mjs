// What virtual machines boot: one initramfs, and ext4 images made from copies of this machine's own programs.
//
// Everything is cached under .cache/machine by a key over what it is made of (kernel, programs, the scripts beside
// this file), so a second boot builds nothing, and a new ocfs2-tools or a changed agent rebuilds.
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { cachedKernel } from '../kernel.mjs';
import { findProgram } from '../oracles.mjs';
import { cacheDir, run } from '../run.mjs';

const here = import.meta.dirname;
const machineDir = path.join(cacheDir, 'machine');

/** Modules every machine loads, and those of an OCFS2 node; dependencies come from modules.dep. */
const modules = {
  base: ['virtio_pci', 'virtio_blk', 'virtio_console', 'virtio_net', 'crc32c_generic', 'ext4'],
  /** Loaded by whoever wants them, in the order of /modules/order (`insmod`): the others' boots need not wait for them. */
  san: ['virtio_scsi', 'sd_mod', 'sg', 'dm_multipath', 'dm_service_time', 'scsi_dh_alua', 'loop'],
  node: ['configfs', 'ocfs2_stack_o2cb', 'ocfs2_dlm', 'ocfs2_dlmfs', 'ocfs2', 'loop', 'fuse'],
};

/** Packages whose programs all go into a machine, and single programs. */
const basePackages = ['bash', 'coreutils', 'findutils', 'grep', 'sed', 'tar', 'gzip', 'diffutils'];
const basePrograms = ['mount', 'umount', 'flock', 'fallocate', 'ip', 'busybox', 'awk', 'blockdev', 'fio'];
const nodePackages = ['ocfs2-tools', 'attr', 'acl'];
/** A host of a SAN: what a LUN has to be compared by, and what makes maps of paths. */
const sanPrograms = ['multipathd', 'multipath', 'dmsetup', 'kpartx', 'udevadm', '/lib/systemd/systemd-udevd', 'lsscsi', 'sg_inq', 'sg_readcap', 'lsblk', 'losetup', 'sfdisk', 'partx', 'swapon', 'swapoff', 'mkswap', 'dmesg', 'setpriv'];
/** What those load by name. */
const sanFiles = ['/lib/multipath', '/lib/udev/scsi_id', '/lib/udev/kpartx_id', ...['50-udev-default', '55-dm', '56-dm-mpath', '56-dm-parts', '60-block', '60-kpartx', '60-multipath', '60-persistent-storage', '60-persistent-storage-dm', '95-dm-notify'].map((rule) => `/lib/udev/rules.d/${rule}.rules`)];
const nodePrograms = ['git', 'git-upload-pack', 'git-receive-pack', 'sqlite3', 'losetup', 'filefrag', 'lsattr', 'chattr', 'dmesg', 'zstd', 'setpriv', 'perl'];

/** @param {string} command @param {string[]} args @param {object} [options] */
async function must(command, args, options) {
  const { status, output } = await run(command, args, options);
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: status ${status}\n${output}`);
  return output;
}

/** @param {(string | Buffer)[]} parts */
function keyOf(parts) {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part).update('\0');
  return hash.digest('hex').slice(0, 16);
}

/**
 * Makes `name` by `make(temporary path)` unless it is in the cache; a half-made file never gets the name.
 * @param {string} name
 * @param {(target: string) => Promise<void>} make
 */
async function cached(name, make) {
  const file = path.join(machineDir, name);
  if (fs.existsSync(file)) return file;
  fs.mkdirSync(machineDir, { recursive: true });
  const work = fs.mkdtempSync(path.join(machineDir, '.tmp-'));
  try {
    const target = path.join(work, 'image');
    await make(target);
    fs.renameSync(target, file);
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
  return file;
}

function kernelOrThrow() {
  const kernel = cachedKernel();
  if (!kernel) throw new Error("Debian's kernel is not in the cache: run node scripts/setup.mjs");
  return kernel;
}

/**
 * Module files in an order in which each finds what it needs, read from modules.dep.
 * @param {import('../kernel.mjs').Kernel} kernel
 * @param {string[]} names
 */
function moduleFiles(kernel, names) {
  const directory = path.join(kernel.base, 'lib/modules', kernel.release);
  /** @type {Map<string, { file: string, needs: string[] }>} */
  const known = new Map();
  for (const line of fs.readFileSync(path.join(directory, 'modules.dep'), 'utf8').split('\n')) {
    const [file, needs] = line.split(':');
    if (needs !== undefined) known.set(path.basename(file, '.ko').replaceAll('-', '_'), { file, needs: needs.trim().split(' ').filter(Boolean) });
  }
  /** @type {string[]} */
  const order = [];
  /** @type {(file: string) => void} */
  const visit = (file) => {
    if (order.includes(file)) return;
    for (const need of known.get(path.basename(file, '.ko').replaceAll('-', '_'))?.needs ?? []) visit(need);
    order.push(file);
  };
  for (const name of names) {
    const entry = known.get(name);
    if (entry) visit(entry.file);
    else if (!fs.readFileSync(path.join(directory, 'modules.builtin'), 'utf8').includes(`/${name}.ko`)) throw new Error(`kernel ${kernel.release} has no module ${name}`);
  }
  return order.map((file) => path.join(directory, file));
}

/** The kernel and the initramfs that boots any machine of ours. */
export async function bootFiles() {
  const kernel = kernelOrThrow();
  const init = fs.readFileSync(path.join(here, 'initramfs-init.sh'));
  const busybox = findProgram('busybox');
  if (!busybox) throw new Error('no busybox: run node scripts/setup.mjs');
  const files = moduleFiles(kernel, [...modules.base, ...modules.node]);
  const key = keyOf([kernel.release, init, fs.readFileSync(busybox), files.join()]);
  const initramfs = await cached(`initramfs-${key}.cpio`, async (target) => {
    const tree = `${target}.tree`;
    for (const directory of ['bin', 'proc', 'sys', 'dev', 'root', 'modules']) fs.mkdirSync(path.join(tree, directory), { recursive: true });
    fs.copyFileSync(busybox, path.join(tree, 'bin/busybox'));
    for (const file of files) fs.copyFileSync(file, path.join(tree, 'modules', path.basename(file)));
    fs.writeFileSync(path.join(tree, 'modules/order'), files.map((file) => `${path.basename(file)}\n`).join(''));
    fs.writeFileSync(path.join(tree, 'init'), init, { mode: 0o755 });
    await must('bash', ['-c', 'set -o pipefail; cd "$1" && find . | cpio --quiet -o -H newc -R 0:0 > "$2"', 'pack', tree, target]);
  });
  return { kernel, initramfs };
}

/**
 * Programs as absolute paths: all of the packages, and the single ones.
 * @param {string[]} packages
 * @param {string[]} single
 */
async function programFiles(packages, single) {
  const listed = (await must('dpkg-query', ['-L', ...packages])).split('\n').filter((file) => /^(\/usr)?\/s?bin\/./.test(file));
  const named = single.map((name) => {
    const file = name.startsWith('/') && fs.existsSync(name) ? name : findProgram(name);
    if (!file) throw new Error(`no ${name} on this machine: run node scripts/setup.mjs`);
    return file;
  });
  return [...new Set([...listed, ...named])].filter((file) => fs.statSync(file, { throwIfNoEntry: false })?.isFile());
}

/**
 * A root tree of copies: the programs with every library they load, busybox for the rest, accounts, the agent.
 * @param {string} tree
 * @param {string[]} programs
 * @param {Buffer} agent
 * @param {{ files?: string[], modules?: string[] }} [more]   files and directories by their own names; kernel modules, into /modules
 */
async function makeTree(tree, programs, agent, { files = [], modules: kernelModules = [] } = {}) {
  for (const directory of ['usr/bin', 'usr/sbin', 'usr/lib', 'usr/lib64', 'proc', 'sys', 'dev', 'tmp', 'run', 'mnt', 'root', 'var', 'etc/ocfs2', 'etc/multipath', 'modules', 'dlm', 'usr/local/bin', 'usr/share/git-core/templates']) {
    fs.mkdirSync(path.join(tree, directory), { recursive: true });
  }
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) fs.symlinkSync(`usr/${name}`, path.join(tree, name));
  /** @param {string} file */
  const place = (file) => {
    const target = path.join(tree, file);
    fs.mkdirSync(path.dirname(target), { recursive: true });
    if (!fs.existsSync(target)) fs.copyFileSync(file, target);
  };
  const named = files.flatMap((file) => (fs.statSync(file).isDirectory() ? fs.readdirSync(file).map((name) => path.join(file, name)) : [file]));
  for (const file of [...programs, ...named]) place(file);
  for (const file of kernelModules) fs.copyFileSync(file, path.join(tree, 'modules', path.basename(file)));
  fs.writeFileSync(path.join(tree, 'modules/order'), kernelModules.map((file) => `${path.basename(file)}\n`).join(''));
  // ldd prints "NAME => PATH (ADDRESS)" and, for the loader, "PATH (ADDRESS)"; scripts and static programs have none.
  const libraries = (await run('ldd', [...programs, ...named])).output.matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gm);
  for (const [, file] of libraries) place(file);
  for (const applet of (await must(findProgram('busybox') ?? 'busybox', ['--list'])).split('\n').filter(Boolean)) {
    if (!['usr/bin', 'usr/sbin'].some((directory) => fs.existsSync(path.join(tree, directory, applet)))) fs.symlinkSync('busybox', path.join(tree, 'usr/bin', applet));
  }
  if (!fs.existsSync(path.join(tree, 'usr/bin/sh'))) fs.symlinkSync('bash', path.join(tree, 'usr/bin/sh'));
  fs.writeFileSync(path.join(tree, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1000::/tmp:/bin/bash\nbob:x:1001:1001::/tmp:/bin/bash\n');
  fs.writeFileSync(path.join(tree, 'etc/group'), 'root:x:0:\nalice:x:1000:\nbob:x:1001:\nstaff:x:50:alice,bob\n');
  fs.symlinkSync('/proc/self/mounts', path.join(tree, 'etc/mtab'));
  // /etc/multipath is the place that can be written.
  fs.symlinkSync('multipath/multipath.conf', path.join(tree, 'etc/multipath.conf'));
  fs.writeFileSync(path.join(tree, 'usr/sbin/lunfs-agent'), agent, { mode: 0o755 });
}

/**
 * An ext4 image of `bytes` (sparse), filled from a tree of programs.
 * @param {string} kind
 * @param {string[]} programs
 * @param {number} bytes
 * @param {string[]} features
 * @param {{ files?: string[], modules?: string[] }} [more]
 */
async function rootImage(kind, programs, bytes, features, more = {}) {
  const agent = fs.readFileSync(path.join(here, 'agent.sh'));
  const facts = programs.map((file) => `${file} ${fs.statSync(file).size} ${fs.statSync(file).mtimeMs}`);
  const key = keyOf([kind, agent, fs.readFileSync(import.meta.filename), ...facts, String(bytes), JSON.stringify(more)]);
  return await cached(`${kind}-${key}.ext4`, async (target) => {
    const tree = `${target}.tree`;
    await makeTree(tree, programs, agent, more);
    fs.closeSync(fs.openSync(target, 'w'));
    fs.truncateSync(target, bytes);
    await must(findProgram('mke2fs') ?? 'mke2fs', ['-q', '-F', '-t', 'ext4', '-E', 'root_owner=0:0,lazy_itable_init=1', ...features, '-d', tree, target]);
  });
}

/** The read-only root of a Linux OCFS2 node: ocfs2-tools and what the test scripts call. */
export async function nodeRoot() {
  const programs = await programFiles([...basePackages, ...nodePackages], [...basePrograms, ...nodePrograms]);
  return await rootImage('node', programs, 1 << 30, ['-O', '^has_journal', '-m', '0']);
}

/** The read-only root of a host of a SAN: multipathd, udev and what shows LUNs; its kernel's modules for them are in /modules. */
export async function sanRoot() {
  const kernel = kernelOrThrow();
  const loaded = moduleFiles(kernel, [...modules.base, ...modules.node]);
  const programs = await programFiles(basePackages, [...basePrograms, ...sanPrograms]);
  return await rootImage('san', programs, 1 << 30, ['-O', '^has_journal', '-m', '0'], { files: sanFiles, modules: moduleFiles(kernel, modules.san).filter((file) => !loaded.includes(file)) });
}

/**
 * A guest's own root, journalled, `bytes` large and mostly empty. The file is in the cache: copy it before booting.
 * @param {number} [bytes]
 */
export async function guestRoot(bytes = 768 << 20) {
  return await rootImage('guest', await programFiles(basePackages, basePrograms), bytes, ['-O', 'has_journal']);
}
