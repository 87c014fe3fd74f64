import { describe, expect, test } from 'vitest';
import { DIR, FILE, Names, PLAIN, bytes, settle, symlink, text } from './support.js';
import { HOSTILE, variants } from '../support/locks.js';
import { GEOMETRIES, debugfs, expectFsckClean, makeVolume } from '../support/volume.js';

const VOLUMES = [...GEOMETRIES, PLAIN];
const COUNT = HOSTILE ? 600 : 2000;

describe.each(variants(VOLUMES))('names on $name', (spec) => {
  test('a small tree', async () => {
    const device = await makeVolume(spec);
    const fs = await Names.open(device);
    const { root } = fs.ns;
    const d = await fs.create(root, 'dir', DIR);
    expect(d.links).toBe(2);
    expect((await fs.ns.attributes(root)).links).toBe(4);
    const f = await fs.create(d.blkno, 'file');
    await fs.ns.link(f.blkno, root, bytes('link'));
    await fs.ns.forget(f.blkno);
    expect((await fs.lookup(root, 'link')).links).toBe(2);
    await fs.create(root, 'short', symlink('over/there'));
    await fs.create(root, 'long', symlink('x/'.repeat(2040)));
    expect(text(await fs.ns.readlink((await fs.lookup(root, 'short')).blkno))).toBe('over/there');
    expect(text(await fs.ns.readlink((await fs.lookup(root, 'long')).blkno))).toBe('x/'.repeat(2040));
    expect([...(await fs.list(root, 2)).keys()].sort()).toEqual(['.', '..', 'dir', 'link', 'long', 'lost+found', 'short']);
    await expect(fs.create(root, 'dir')).rejects.toMatchObject({ errno: 'EEXIST' });
    await expect(fs.ns.unlink(root, bytes('dir'))).rejects.toMatchObject({ errno: 'EISDIR' });
    await expect(fs.ns.rmdir(root, bytes('dir'))).rejects.toMatchObject({ errno: 'ENOTEMPTY' });
    await expect(fs.ns.rmdir(root, bytes('short'))).rejects.toMatchObject({ errno: 'ENOTDIR' });
    await fs.ctx.engine.log.flush();
    await expectFsckClean(device);
    for (const name of ['short', 'long', 'link']) await fs.ns.unlink(root, bytes(name));
    await fs.ns.unlink(d.blkno, bytes('file'));
    await fs.ns.rmdir(root, bytes('dir'));
    expect([...(await fs.list(root)).keys()]).toEqual(['.', '..', 'lost+found']);
    await fs.ctx.engine.log.flush();
    await settle(device);
    await expectFsckClean(device);
    expect(await debugfs(device, 'ls //orphan_dir:0000')).not.toMatch(/[0-9a-f]{16}/);
  });

  test('the inodes of a listing are read ahead in few requests', async () => {
    const device = await makeVolume(spec);
    const before = await Names.open(device);
    const { blkno } = await before.create(before.ns.root, 'some', DIR);
    for (let i = 0; i < 150; i++) await before.create(blkno, `name-${i}`, FILE);
    await before.ctx.engine.log.flush();
    const fs = await Names.open(device);
    const inodes = [...(await fs.list(blkno)).entries()].filter(([name]) => !name.startsWith('.')).map(([, ino]) => ino);
    let reads = 0;
    const read = device.read.bind(device);
    device.read = (offset, into) => {
      reads++;
      return read(offset, into);
    };
    await fs.ns.readAhead(inodes);
    const ahead = reads;
    // A lock that cannot be had at once is left out.
    if (!HOSTILE) expect(ahead).toBeLessThan(inodes.length / 8);
    for (const ino of inodes) expect((await fs.ns.attributes(ino)).mode).toBe(FILE.mode);
    if (!HOSTILE) expect(reads).toBe(ahead);
    // What cannot be read is no error here, but where it is used.
    await fs.ns.readAhead([device.size / fs.ctx.geo.blockSize - 1]);
  });

  test(`a directory of ${COUNT} names comes and goes`, async () => {
    const device = await makeVolume(spec);
    const fs = await Names.open(device);
    const { blkno } = await fs.create(fs.ns.root, 'many', DIR);
    const names = Array.from({ length: COUNT }, (_, i) => `name-${i}-${'ä'.repeat(i % 60)}`);
    for (const name of names) await fs.create(blkno, name, FILE);
    expect([...(await fs.list(blkno)).keys()].slice(2).sort()).toEqual([...names].sort());
    await fs.ctx.engine.log.flush();
    await expectFsckClean(device);
    // inode, length of the entry and of the name, type, name
    const listed = (await debugfs(device, 'ls /many')).split('\n').map((line) => line.trim().split(/\s+/)).filter((fields) => fields.length === 5);
    expect(Object.fromEntries(listed.map((fields) => [fields[4], Number(fields[0])]))).toEqual(Object.fromEntries(await fs.list(blkno)));
    for (const name of names) expect((await fs.lookup(blkno, name)).mode).toBe(FILE.mode);
    for (const [i, name] of names.entries()) if (i % 3 !== 0) await fs.ns.unlink(blkno, bytes(name));
    await fs.ctx.engine.log.flush();
    await expectFsckClean(device);
    for (const [i, name] of names.entries()) if (i % 3 === 1) await fs.create(blkno, name, FILE);
    for (const [i, name] of names.entries()) if (i % 3 === 2) await expect(fs.lookup(blkno, name)).rejects.toMatchObject({ errno: 'ENOENT' });
    await fs.ctx.engine.log.flush();
    await expectFsckClean(device);
    for (const [i, name] of names.entries()) if (i % 3 !== 2) await fs.ns.unlink(blkno, bytes(name));
    await fs.ns.rmdir(fs.ns.root, bytes('many'));
    await fs.ctx.engine.log.flush();
    await settle(device);
    await expectFsckClean(device);
  });
});
