import { describe, expect, test } from 'vitest';
import { LINK_MAX, MODE } from '../../src/format/index.js';
import { EX } from '../../src/locking/levels.js';
import { ATTR, setLinkCount } from '../../src/volume/attributes.js';
import { GEOMETRIES, expectFsckClean, makeVolume } from '../support/volume.js';
import { DIR, FILE, Names, PLAIN, bytes, settle } from './support.js';

async function open(spec = GEOMETRIES[0]): Promise<{ fs: Names; root: number; device: Awaited<ReturnType<typeof makeVolume>> }> {
  const device = await makeVolume(spec);
  const fs = await Names.open(device);
  return { fs, root: fs.ns.root, device };
}

describe('attributes', () => {
  test('mode, owner and times change; ctime follows', async () => {
    const { fs, root, device } = await open();
    const made = await fs.create(root, 'f', { ...FILE, mode: MODE.REG | 0o600 });
    expect(made).toMatchObject({ mode: MODE.REG | 0o600, uid: 1000, gid: 1000, links: 1, size: 0, blocks: 0, blockSize: 4096 });
    expect(made.atime).toEqual(made.mtime);
    const changed = await fs.ns.change(made.blkno, { mode: 0o4755, uid: 7, gid: 8, atime: { sec: -5, nsec: 6 }, mtime: { sec: 2 ** 33, nsec: 999_999_999 } });
    expect(changed).toMatchObject({ mode: MODE.REG | 0o4755, uid: 7, gid: 8, atime: { sec: -5, nsec: 6 }, mtime: { sec: 2 ** 33, nsec: 999_999_999 } });
    expect(changed.ctime.sec).toBeGreaterThan(made.ctime.sec);
    const touched = await fs.ns.change(made.blkno, { atime: 'now', mtime: 'now' });
    expect(touched.mtime).toEqual(touched.ctime);
    await fs.ctx.engine.log.flush();
    await expectFsckClean(device);
  });

  test('a setgid directory gives its group', async () => {
    const { fs, root } = await open();
    const dir = await fs.create(root, 'd', { ...DIR, gid: 50 });
    await fs.ns.change(dir.blkno, { mode: 0o2775 });
    expect(await fs.create(dir.blkno, 'f', { ...FILE, mode: MODE.REG | 0o2770 })).toMatchObject({ gid: 50, mode: MODE.REG | 0o770 });
    expect(await fs.create(dir.blkno, 'member', { mode: MODE.REG | 0o2770, uid: 9, gid: 50 })).toMatchObject({ gid: 50, mode: MODE.REG | 0o2770 });
    expect(await fs.create(dir.blkno, 'sub', DIR)).toMatchObject({ gid: 50, mode: MODE.DIR | 0o2755 });
  });

  test('special files keep their device number', async () => {
    const { fs, root, device } = await open();
    await fs.create(root, 'tty', { mode: MODE.CHR | 0o620, uid: 0, gid: 5, rdev: 0x501 });
    await fs.create(root, 'pipe', { mode: MODE.FIFO | 0o600, uid: 0, gid: 0, rdev: 77 });
    expect(await fs.lookup(root, 'tty')).toMatchObject({ rdev: 0x501, blocks: 0 });
    expect(await fs.lookup(root, 'pipe')).toMatchObject({ rdev: 0 });
    await fs.ctx.engine.log.flush();
    await expectFsckClean(device);
  });

  test('every new inode has another generation', async () => {
    const { fs, root } = await open();
    const seen = new Set<number>();
    for (let i = 0; i < 20; i++) {
      seen.add((await fs.create(root, 'f')).generation);
      await fs.ns.unlink(root, bytes('f'));
    }
    expect(seen.size).toBe(20);
  });

  test('immutable and append-only are honoured', async () => {
    const { fs, root } = await open();
    const file = await fs.create(root, 'f'), dir = await fs.create(root, 'd', DIR);
    await fs.create(dir.blkno, 'in');
    const eperm = { errno: 'EPERM', code: 'FLAGS_FORBID' };
    for (const flag of [ATTR.IMMUTABLE, ATTR.APPEND]) {
      expect((await fs.ns.setFlags(file.blkno, flag)).flags).toBe(flag);
      await fs.ns.setFlags(dir.blkno, flag);
      await expect(fs.ns.unlink(root, bytes('f'))).rejects.toMatchObject(eperm);
      await expect(fs.ns.link(file.blkno, root, bytes('g'))).rejects.toMatchObject(eperm);
      await expect(fs.ns.rename({ oldDir: root, oldName: bytes('f'), newDir: root, newName: bytes('g') })).rejects.toMatchObject(eperm);
      await expect(fs.ns.change(file.blkno, { mode: 0 })).rejects.toMatchObject(eperm);
      await expect(fs.ns.unlink(dir.blkno, bytes('in'))).rejects.toMatchObject(eperm);
      if (flag === ATTR.IMMUTABLE) await expect(fs.create(dir.blkno, 'x')).rejects.toMatchObject(eperm);
      else await fs.create(dir.blkno, 'x');
      await fs.ns.setFlags(file.blkno, 0);
      await fs.ns.setFlags(dir.blkno, 0);
    }
    await fs.ns.unlink(dir.blkno, bytes('x'));
  });

  test('reading a directory sets its atime when it is not newer than mtime', async () => {
    const { fs, root } = await open();
    const dir = await fs.create(root, 'd', DIR);
    await fs.list(dir.blkno);
    const read = await fs.ns.attributes(dir.blkno);
    expect(read.atime.sec).toBeGreaterThan(dir.atime.sec);
    expect(read.mtime).toEqual(dir.mtime);
    await fs.list(dir.blkno);
    expect((await fs.ns.attributes(dir.blkno)).atime).toEqual(read.atime);
    await fs.create(dir.blkno, 'f');
    await fs.list(dir.blkno);
    expect((await fs.ns.attributes(dir.blkno)).atime.sec).toBeGreaterThan(read.atime.sec);
  });

  test('statfs counts as the kernel does', async () => {
    const { fs, root } = await open();
    const before = await fs.ns.statistics();
    expect(before).toMatchObject({ blockSize: 4096, blocks: fs.ctx.geo.totalBlocks, nameLength: 255, files: fs.ctx.geo.totalClusters, freeFiles: before.freeBlocks });
    for (let i = 0; i < 1500; i++) await fs.create(root, `f${i}`);
    expect((await fs.ns.statistics()).freeBlocks).toBeLessThan(before.freeBlocks);
  });
});

describe('limits', () => {
  test('names', async () => {
    const { fs, root } = await open();
    await fs.create(root, 'x'.repeat(255));
    await expect(fs.create(root, 'x'.repeat(256))).rejects.toMatchObject({ errno: 'ENAMETOOLONG' });
    await expect(fs.lookup(root, '€'.repeat(86))).rejects.toMatchObject({ errno: 'ENAMETOOLONG' });
    for (const name of ['', 'a/b', 'a\0', '.', '..']) await expect(fs.create(root, name)).rejects.toMatchObject({ errno: 'EINVAL' });
    await expect(fs.ns.rmdir(root, bytes('..'))).rejects.toMatchObject({ errno: 'EINVAL' });
    await expect(fs.lookup((await fs.lookup(root, 'x'.repeat(255))).blkno, 'y')).rejects.toMatchObject({ errno: 'ENOTDIR' });
    expect((await fs.lookup(root, '..')).blkno).toBe(root);
    await expect(fs.ns.attributes(fs.ctx.sys.globalBitmap)).rejects.toMatchObject({ errno: 'ESTALE' });
  });

  test.each([[PLAIN, LINK_MAX], [GEOMETRIES[0], 0xffff]] as const)('links on $name', async (spec, most) => {
    const { fs, root } = await open(spec);
    const file = await fs.create(root, 'f'), dir = await fs.create(root, 'd', DIR);
    await fs.ctx.engine.run('many links', (op) => {
      for (const blkno of [file.blkno, dir.blkno]) {
        fs.ctx.metaLock(op, blkno, EX);
        setLinkCount(fs.ctx.editInode(op, blkno).di, most);
      }
    });
    await expect(fs.ns.link(file.blkno, root, bytes('g'))).rejects.toMatchObject({ errno: 'EMLINK' });
    await expect(fs.create(dir.blkno, 'sub', DIR)).rejects.toMatchObject({ errno: 'EMLINK' });
    const sub = await fs.create(root, 'sub', DIR);
    await expect(fs.ns.rename({ oldDir: root, oldName: bytes('sub'), newDir: dir.blkno, newName: bytes('sub') })).rejects.toMatchObject({ errno: 'EMLINK' });
    expect((await fs.ns.attributes(sub.blkno)).links).toBe(2);
    await fs.create(dir.blkno, 'file');
  });

  test('a full volume: what does not fit leaves no trace', { timeout: 60_000 }, async () => {
    const { fs, root, device } = await open({ name: 'small', size: 16 << 20, mkfsArgs: ['-b', '4096', '-C', '4096', '-N', '1', '-J', 'size=4M'] });
    const dir = await fs.create(root, 'd', DIR);
    let made = 0;
    await expect((async () => {
      for (;; made++) await fs.create(dir.blkno, `file-${made}`, made % 3 === 0 ? DIR : FILE);
    })()).rejects.toMatchObject({ errno: 'ENOSPC' });
    expect(made).toBeGreaterThan(500);
    expect((await fs.list(dir.blkno)).size).toBe(made + 2);
    await fs.ctx.engine.log.flush();
    await expectFsckClean(device);
    for (let i = 0; i < made; i++) await (i % 3 === 0 ? fs.ns.rmdir(dir.blkno, bytes(`file-${i}`)) : fs.ns.unlink(dir.blkno, bytes(`file-${i}`)));
    await fs.create(dir.blkno, 'again');
    await fs.ctx.engine.log.flush();
    await settle(device);
    await expectFsckClean(device);
  });
});

