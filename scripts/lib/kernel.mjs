// Debian's kernel, unpacked into the cache and never installed: the kernel node and the guests of the tests boot it.
import fs from 'node:fs';
import path from 'node:path';
import { cacheDir, run } from './run.mjs';

const kernelDir = path.join(cacheDir, 'kernel');

/**
 * @typedef {object} Kernel
 * @property {string} release   uname -r of it
 * @property {string} image     path of the uncompressed vmlinux
 * @property {string} base      directory that holds lib/modules/RELEASE, with modules.dep
 */

/** @returns {Kernel | undefined} the kernel that `fetchKernel` left in the cache */
export function cachedKernel() {
  const entries = fs.existsSync(kernelDir) ? fs.readdirSync(kernelDir).filter((name) => !name.includes('.tmp')) : [];
  for (const release of entries.sort().reverse()) {
    const base = path.join(kernelDir, release);
    const image = path.join(base, 'boot/vmlinux');
    if (fs.existsSync(image) && fs.existsSync(path.join(base, 'lib/modules', release, 'modules.dep'))) return { release, image, base };
  }
  return undefined;
}

/**
 * Unpacks the vmlinux inside a bzImage (Documentation/x86/boot.rst: setup_sects, payload_offset, payload_length).
 * QEMU enters it directly (PVH), which saves the 2 s that decompression takes without KVM.
 * @param {string} file
 * @param {string} target
 * @returns {Promise<string | undefined>} what went wrong
 */
async function unpackKernel(file, target) {
  const image = fs.readFileSync(file);
  const start = (image[0x1f1] + 1) * 512 + image.readUInt32LE(0x248);
  // The last four bytes of the payload are its unpacked size, not part of the compressed stream.
  const payload = image.subarray(start, start + image.readUInt32LE(0x24c) - 4);
  const packed = `${target}.packed`;
  fs.writeFileSync(packed, payload);
  const program = payload.readUInt32BE(0) === 0x28b52ffd ? 'zstd' : 'xz';
  const { status, output } = await run('sh', ['-c', `${program} -dc < "$1" > "$2"`, 'unpack', packed, target]);
  fs.rmSync(packed);
  return status === 0 && fs.readFileSync(target).readUInt32BE(0) === 0x7f454c46 ? undefined : `${program} could not unpack the kernel: ${output.trim()}`;
}

/** Parts of the kernel package that a virtual machine can need; the rest is 300 MB of drivers. */
const wanted = ['arch', 'block', 'crypto', 'fs', 'lib', 'net/core', 'drivers/block', 'drivers/char', 'drivers/md', 'drivers/net', 'drivers/scsi', 'drivers/virtio'];

/**
 * Downloads the package that `linux-image-amd64` depends on and unpacks what is wanted of it. Works without root.
 * @param {(line: string) => void} say
 * @returns {Promise<string | undefined>} why it can't be had, or undefined
 */
export async function fetchKernel(say) {
  if (cachedKernel()) return undefined;
  const depends = await run('apt-cache', ['depends', '--important', 'linux-image-amd64']);
  const name = /Depends: (linux-image-\S+)/.exec(depends.output)?.[1];
  if (depends.status !== 0 || !name) return `apt-cache knows no linux-image-amd64: ${depends.output.trim() || 'no output'}`;
  const release = name.replace('linux-image-', '');
  const work = path.join(kernelDir, `${release}.tmp${process.pid}`);
  fs.mkdirSync(work, { recursive: true });
  try {
    say(`fetching ${name}`);
    const download = await run('apt-get', ['download', '-q', name], { cwd: work });
    const deb = fs.readdirSync(work).find((file) => file.endsWith('.deb'));
    if (download.status !== 0 || !deb) return `apt-get download ${name} failed: ${download.output.trim()}`;
    const modules = `./lib/modules/${release}`;
    const members = [`./boot/vmlinuz-${release}`, `${modules}/modules.*`, ...wanted.map((part) => `${modules}/kernel/${part}/*`)];
    const unpack = await run('bash', ['-c', 'set -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar -x --wildcards "${@:2}"', 'unpack', deb, ...members], { cwd: work });
    if (unpack.status !== 0) return `${deb} could not be unpacked: ${unpack.output.trim()}`;
    fs.rmSync(path.join(work, deb));
    const depmod = await run('/sbin/depmod', ['-b', work, release]);
    if (depmod.status !== 0) return `depmod failed: ${depmod.output.trim()}`;
    const packed = path.join(work, 'boot', `vmlinuz-${release}`);
    const problem = await unpackKernel(packed, path.join(work, 'boot/vmlinux'));
    if (problem) return problem;
    fs.rmSync(packed);
    fs.rmSync(path.join(kernelDir, release), { recursive: true, force: true });
    fs.renameSync(work, path.join(kernelDir, release));
    return undefined;
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
}
