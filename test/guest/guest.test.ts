/**
 * The main job: a guest with Debian's kernel and its own ext4 root runs from a disk on a volume, over NBD from a thin and from a
 * thick disk, and from the file in the mount. It writes 200 MB, syncs, loses its power, boots again and finds what it synced.
 * Then Linux's OCFS2 mounts the LUN and sees the same bytes as we do.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { openDevice } from '@lunfs/device';
import { type DiskAccess, type StartedProcess, connectVolumeProcess, createDisk, diskExtents, diskLines, startVolumeProcess } from '@lunfs/host';
import { Volume, checkVolume } from '@lunfs/ocfs2';
import { afterAll, describe, expect, test } from 'vitest';
import { Machine } from '../../scripts/lib/machine/machine.mjs';
import { EngineTree } from '../support/engine-tree.js';
import { KernelNode, makeGuestDisk } from '../support/machines.js';
import { mkfs, mustBeClean } from '../support/ocfs2-tools.js';
import { Cleanup, must, tempDir } from '../support/temp.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());
const directory = tempDir(cleanup, 'guest');
process.env.LUNFS_RUN_DIR = path.join(directory, 'run');
const image = path.join(directory, 'lun.img');
const mountPoint = path.join(directory, 'mnt');
const DISK_BYTES = 640 << 20;
const WRITTEN = 200 * 1000 * 1000;
const CASES = [
  { name: 'thin', how: 'a thin disk over NBD', allocation: 'thin' },
  { name: 'thick', how: 'a thick disk over NBD', allocation: 'thick-zeroed' },
  { name: 'mounted', how: 'the file in the mount', allocation: 'thin' },
] as const;
const inVolume = (name: string) => `/vms/${name}.raw`;

async function withVolume<T>(options: { readOnly: boolean }, work: (volume: Volume) => Promise<T>): Promise<T> {
  const device = await openDevice(image, { write: !options.readOnly });
  try {
    const volume = await Volume.mount(device, options);
    const result = await work(volume);
    await volume.unmount();
    return result;
  } finally {
    await device.close();
  }
}

describe('a guest on a volume', () => {
  let served: StartedProcess;
  let access: Map<string, DiskAccess>;

  test('its disks are made, exported and filled with its root', { timeout: 120_000 }, async () => {
    await mkfs(image, { size: 4 * 2 ** 30, type: 'vmstore', slots: 2 });
    await withVolume({ readOnly: false }, async (volume) => {
      await new EngineTree(volume).mkdir('vms');
      for (const { name, allocation } of CASES) await createDisk(volume, inVolume(name), { size: DISK_BYTES, allocation });
    });
    fs.mkdirSync(mountPoint);
    served = await startVolumeProcess({
      device: image, mount: { directory: mountPoint }, exports: [{ path: inVolume('thin') }, { path: inVolume('thick'), keepSpace: true }],
    });
    cleanup.add(() => served.kill('SIGKILL'));
    access = new Map<string, DiskAccess>([
      ...served.facts.exports.map((one): [string, DiskAccess] => [path.basename(one.path, '.raw'), { kind: 'nbd', export: one }]),
      ['mounted', { kind: 'file', path: path.join(mountPoint, inVolume('mounted')) }],
    ]);
    const root = await makeGuestDisk(path.join(directory, 'root.img'), DISK_BYTES);
    for (const { name } of CASES) {
      const to = access.get(name)!;
      await must('qemu-img', ['convert', '-n', '-t', 'none', '-f', 'raw', '-O', 'raw', root, to.kind === 'nbd' ? to.export.uri : to.path]);
    }
    fs.rmSync(root);
  });

  test.each(CASES)('runs from $how and survives the loss of its power', { timeout: 240_000 }, async ({ name }) => {
    const boot = async (): Promise<Machine> => {
      const { qemu } = diskLines(access.get(name)!);
      const lines = qemu.map((word) => (word.startsWith('virtio-blk-pci,') ? `${word},serial=root` : word));
      const machine = await Machine.start({ hostname: name, root: 'disk', disks: [], qemuArgs: lines });
      cleanup.add(() => machine.kill());
      return machine;
    };
    const started = performance.now();
    const guest = await boot();
    await guest.must(`head -c ${WRITTEN} /dev/urandom > /data && sync`, { timeoutMs: 200_000 });
    const sum = await guest.must('sha256sum /data', { timeoutMs: 100_000 });
    await guest.kill();
    const again = await boot();
    expect(await again.must('sha256sum /data; stat -c %s /data', { timeoutMs: 100_000 })).toBe(`${sum}${WRITTEN}\n`);
    expect((await again.must('dmesg')).split('\n').filter((line) => /I\/O error|EXT4-fs error|WARNING|BUG/.test(line))).toEqual([]);
    await again.shutdown();
    console.log(`${name}: two boots, 200 MB written and read in ${((performance.now() - started) / 1000).toFixed(1)} s`);
  });

  test('leaves disks in which Linux sees what we see', { timeout: 240_000 }, async () => {
    const control = await connectVolumeProcess(image);
    await control.stop();
    expect(await served.exited).toEqual({ code: 0, signal: null });
    await mustBeClean(image, ['INODE_SPARSE_SIZE', 'DX_TREE_MISSING']);
    const sums = await withVolume({ readOnly: true }, async (volume) => {
      const tree = new EngineTree(volume);
      const lines: string[] = [];
      for (const { name } of CASES) {
        const content = await tree.read(inVolume(name));
        lines.push(`${createHash('sha1').update(content).digest('hex')}  ${name}.raw\n`);
        fs.writeFileSync(path.join(directory, 'disk.img'), content);
        expect(await must('e2fsck', ['-fn', path.join(directory, 'disk.img')])).toMatch(/files/);
      }
      const thick = await diskExtents(volume, inVolume('thick'));
      expect(thick).toMatchObject({ size: DISK_BYTES, allocated: DISK_BYTES });
      // Zeroes and trims made parts of it unwritten; where it lies did not change.
      expect(thick.extents.filter((one, i, all) => i === 0 || all[i - 1].device + all[i - 1].length !== one.device).length).toBeLessThan(8);
      expect((await diskExtents(volume, inVolume('thin'))).allocated).toBeLessThan(DISK_BYTES);
      return lines.join('');
    });
    const node = await KernelNode.start(cleanup, { disks: [{ file: image, readOnly: false }] });
    await node.mount('/dev/vda', '/mnt/lun');
    expect(await node.must(`cd /mnt/lun/vms && sha1sum ${CASES.map(({ name }) => `${name}.raw`).join(' ')}`, { timeoutMs: 200_000 })).toBe(sums);
    await node.shutdown();
    await mustBeClean(image, ['INODE_SPARSE_SIZE', 'DX_TREE_MISSING']);
    const device = await openDevice(image);
    expect((await checkVolume(device)).findings.filter(({ code }) => code !== 'INODE_SPARSE_SIZE')).toEqual([]);
    await device.close();
  });
});
