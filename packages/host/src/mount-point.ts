/**
 * The directory below a mount that must not be written to: while its volume is not mounted (before the mount at boot, after `umount -l`, after the death of
 * its process) a platform that looks at nothing but the path would fill the root disk, and its disks would be gone when the volume covers them.
 *
 * So it is made immutable (chattr +i): nobody, root included, makes a file in it, and access(2) says that it is not writable. Its mode would not do, for root passes it;
 * a file system mounted below would, but only until the next boot, and it would look mounted. Mounting over an immutable directory is allowed. A file in
 * it says what it is and shows that it was us. Files and directories that were in it before stay writable: so it must be empty.
 */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import path from 'node:path';
import { UsageError, parseMountInfo } from '@lunfs/device';

/** The name is what `ls` shows: it should say it all. */
const MARKER = 'VOLUME-IS-NOT-MOUNTED';

/** Runs a program of e2fsprogs; resolves to what it printed, or to nothing when it failed or is missing. */
function run(program: 'chattr' | 'lsattr', args: readonly string[]): Promise<string | undefined> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'], cwd: '/' });
    let out = '';
    child.stdout.on('data', (chunk: Buffer) => { out += chunk.toString(); });
    child.once('error', () => resolve(undefined));
    child.once('close', (code) => resolve(code === 0 ? out : undefined));
  });
}

/**
 * Make a directory, on which nothing of ours is mounted, unusable. True: it is. False: its file system cannot do that, which `log` is told.
 * Throws MOUNT_POINT_NOT_EMPTY.
 */
export async function sealMountPoint(directory: string, volume: string, log: (line: string) => void): Promise<boolean> {
  const flags = (await run('lsattr', ['-d', directory]))?.split(' ')[0];
  if (flags?.includes('i')) return true;
  const [found] = fs.readdirSync(directory).filter((name) => name !== MARKER);
  if (found !== undefined) {
    throw new UsageError('MOUNT_POINT_NOT_EMPTY', 'ENOTEMPTY',
      `${directory} is not empty ("${found}"): what is in it can be written to while the volume is not mounted, and cannot be seen while it is. Move it away (it may have been meant for the volume), or mount with -o noseal`, { directory });
  }
  const marker = path.join(directory, MARKER);
  if (flags !== undefined) {
    fs.writeFileSync(marker, `This directory is the mount point of a volume (${volume}), which is not mounted now.\nSo that nothing is written here by mistake it is immutable; "lunfs umount ${directory}" makes it a usual directory again.\n`, { mode: 0o444 });
    if ((await run('chattr', ['+i', marker, directory])) !== undefined) return true;
    await run('chattr', ['-i', directory, marker]);
    fs.rmSync(marker, { force: true });
  }
  log(`${directory} cannot be made immutable (chattr +i): whoever writes to it while the volume is not mounted writes to the file system below. Use a directory of ext4, xfs or btrfs, and see that chattr is installed`);
  return false;
}

/** Make it a usual directory again, unless something is mounted on it or it was not us who sealed it. */
export async function freeMountPoint(directory: string): Promise<void> {
  if (parseMountInfo(fs.readFileSync('/proc/self/mountinfo', 'utf8')).some((entry) => entry.mountPoint === directory)) return;
  const marker = path.join(directory, MARKER);
  if (fs.statSync(marker, { throwIfNoEntry: false }) === undefined) return;
  await run('chattr', ['-i', directory, marker]);
  fs.rmSync(marker, { force: true });
}
