/**
 * A mount point while its volume is not mounted: nobody writes to the file system below, root included, and the checks by which Cloudpods takes a directory for
 * shared storage fail (its `validateGPFS` runs mountpoint and findmnt; `Accessible` makes the directory, and asks whether it can be written to).
 */
import * as fs from 'node:fs';
import path from 'node:path';
import { freeMountPoint } from '@lunfs/host';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lacks } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup, exec, must, tempDir } from '../../../../test/support/temp.js';
import { type TestImage, ends, testImage } from '../support/image.js';

/** What `validateGPFS` refuses. */
const LOCAL = ['ext', 'ext2', 'ext3', 'ext4', 'xfs', 'btrfs', 'jfs', 'reiserfs', 'ntfs', 'fat32', 'exfat', 'zfs'];

describe.skipIf(lacks('ocfs2-tools', 'fuse'))('a mount point without its volume', () => {
  const cleanup = new Cleanup();
  let image: TestImage;
  let at: string;

  beforeAll(async () => {
    image = await testImage(cleanup, { size: 256 << 20 });
    at = image.mountPoint;
    cleanup.add(async () => {
      await exec('umount', ['-i', '-l', at]);
      await freeMountPoint(at);
    });
  }, 60_000);
  afterAll(() => cleanup.run(), 60_000);

  const sh = async (command: string): Promise<number> => (await exec('sh', ['-c', command], { env: { D: at } })).status;
  /** By which Cloudpods takes it for a shared storage. */
  const taken = async (): Promise<boolean> => {
    const isMountPoint = (await sh('mountpoint "$D"')) === 0;
    const { status, stdout } = await exec('findmnt', ['-n', '-o', 'FSTYPE', '--target', at]);
    return isMountPoint && status === 0 && !LOCAL.includes(stdout.trim());
  };
  /** By which it goes on using it. */
  const accessible = async (): Promise<boolean> => (await sh('mkdir -p "$D" && test -d "$D" && test -w "$D"')) === 0;
  const WRITES = ['touch "$D/file"', 'mkdir "$D/image_cache"', 'echo disk > "$D/c0ffee00-0000-4000-8000-000000000000"', 'cp /etc/hostname "$D/"', 'ln -s x "$D/link"', 'mv /etc/hostname "$D/" 2>/dev/null', 'echo x >> "$D/VOLUME-IS-NOT-MOUNTED"', 'rmdir "$D"'];
  const refusesAll = async (): Promise<void> => {
    for (const write of WRITES) {
      expect([write, await sh(write)]).not.toEqual([write, 0]);
      expect([write, await sh(`setpriv --reuid=65534 --regid=65534 --clear-groups sh -c '${write}'`)]).not.toEqual([write, 0]);
    }
    expect([await taken(), await accessible()]).toEqual([false, false]);
  };
  const start = (): ReturnType<TestImage['start']> => image.start({ mount: { directory: at, seal: true } });

  it('passes what Cloudpods checks while it is mounted', { timeout: 120_000 }, async () => {
    const process_ = await start();
    expect(await must('findmnt', ['-n', '-o', 'FSTYPE', '--target', at])).toBe('fuse.lunfs\n');
    expect([await taken(), await accessible()]).toEqual([true, true]);
    expect(await sh('mount | grep -q " $D type fuse.lunfs " && df --output=source "$D" | grep -q lun && touch "$D/file" && sync "$D/file"')).toBe(0);
    expect(fs.readdirSync(at)).not.toContain('VOLUME-IS-NOT-MOUNTED');

    process_.kill('SIGKILL');
    await ends(process_);
    await refusesAll(); // dead or detached
    await expect.poll(() => sh('mount | grep -q " $D "'), { timeout: 30_000 }).toBe(1);
    await refusesAll();
    expect(fs.readdirSync(at)).toEqual(['VOLUME-IS-NOT-MOUNTED']);
    expect(fs.readFileSync(path.join(at, 'VOLUME-IS-NOT-MOUNTED'), 'utf8')).toContain(`lunfs umount ${at}`);
  });

  it('refuses writers after umount -l and after a clean end, and takes the volume again', { timeout: 120_000 }, async () => {
    const process_ = await start();
    expect(await sh('test -e "$D/file"')).toBe(0);
    await must('umount', ['-i', '-l', at]);
    await refusesAll();
    expect((await ends(process_)).code).toBe(0);
    await refusesAll();
    await freeMountPoint(at);
    expect(await sh('touch "$D/usual" && rm "$D/usual" && rmdir "$D" && mkdir "$D"')).toBe(0);
  });

  it('is refused when it is not empty; a directory that somebody else made immutable stays so', { timeout: 120_000 }, async () => {
    fs.mkdirSync(path.join(at, 'image_cache'));
    await expect(start()).rejects.toMatchObject({ code: 'MOUNT_POINT_NOT_EMPTY', message: expect.stringContaining('"image_cache"') as string });
    fs.rmdirSync(path.join(at, 'image_cache'));
    await must('chattr', ['+i', at]);
    try {
      const process_ = await start();
      process_.kill('SIGTERM');
      await ends(process_);
      await freeMountPoint(at);
      expect(await must('lsattr', ['-d', at])).toMatch(/^[a-zA-Z-]*i/);
    } finally {
      await must('chattr', ['-i', at]);
    }
  });

  it('where the file system below has no such flag, the dead mount stays in the way', { timeout: 120_000 }, async () => {
    const below = tempDir(cleanup, 'ramfs');
    await must('mount', ['-t', 'ramfs', 'none', below]);
    try {
      at = path.join(below, 'mnt');
      fs.mkdirSync(at);
      const process_ = await start();
      expect(fs.readFileSync(process_.log!, 'utf8')).toContain('cannot be made immutable');
      process_.kill('SIGKILL');
      await ends(process_);
      await new Promise((resolve) => { setTimeout(resolve, 1000); }); // a guard would have come by now
      await refusesAll();
      expect(await sh('mount | grep -q " $D type fuse.lunfs "')).toBe(0);
      const next = await start();
      expect(await sh('test -e "$D/file"')).toBe(0);
      next.kill('SIGTERM');
      await ends(next);
    } finally {
      await must('umount', ['-i', '-R', '-l', below]);
      at = image.mountPoint;
    }
    await image.check();
  });
});
