// A lunfs volume for benchmarks: an image file, held by a volume process of its own.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { spawnSync } from 'node:child_process';
import { HostVolume, connectVolumeProcess, startVolumeProcess } from '@lunfs/host';

/** Format an image of `bytes`, make disks `{path, size, allocation}` on it, and start a process that exports them, or mounts them at `mount`. */
export async function benchVolume(directory, { bytes, clusterSize = 1 << 20, disks, mount, writeback }) {
  const image = path.join(directory, 'lun');
  fs.closeSync(fs.openSync(image, 'w'));
  fs.truncateSync(image, bytes);
  // Allocated, as a LUN is: what is measured is not ext4's allocation below us.
  spawnSync('fallocate', ['-l', String(bytes), image]);
  const made = spawnSync('mkfs.ocfs2', ['-q', '-F', '-F', '-M', 'local', '-b', '4096', '-C', String(clusterSize), '-N', '2', '-J', 'size=64M', image], { encoding: 'utf8' });
  if (made.status !== 0) throw new Error(`mkfs.ocfs2: ${made.stderr}`);
  process.env.LUNFS_RUN_DIR = path.join(directory, 'run');
  const host = await HostVolume.open({ device: image });
  for (const { path: name, size, allocation } of disks) await host.createDisk(name, { size, allocation });
  await host.close();
  const started = await startVolumeProcess({ device: image, mount: mount && { directory: mount, writeback }, exports: mount ? [] : disks.map((disk) => ({ path: disk.path })) });
  const control = await connectVolumeProcess(image);
  return {
    control, pid: started.pid, exited: started.exited,
    close: async () => {
      // The process runs on its own: waiting for its end does not keep this one alive.
      const alive = setInterval(() => undefined, 1000);
      await control.stop();
      await started.exited;
      clearInterval(alive);
    },
  };
}
