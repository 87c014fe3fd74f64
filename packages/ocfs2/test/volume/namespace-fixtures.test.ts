/** Volumes that Linux filled: read by name as Linux listed them, changed by us, and clean after that. */
import type { MemoryDevice } from '@lunfs/device';
import { describe, expect, test } from 'vitest';
import { MODE, S_IFMT } from '../../src/format/index.js';
import { type Fixture, readManifest, unpackFixture } from '../../../../test/support/fixtures.js';
import { expectFsckClean, loadSparse, withDir } from '../support/volume.js';
import { DIR, FILE, Names, bytes, symlink, text } from './support.js';

const TYPE_NAMES: Record<number, string> = {
  [MODE.DIR]: 'directory', [MODE.REG]: 'file', [MODE.LNK]: 'symlink', [MODE.FIFO]: 'fifo', [MODE.SOCK]: 'socket', [MODE.BLK]: 'block', [MODE.CHR]: 'char',
};
/** fsck.ocfs2's objections to what Linux itself left there (test/fixtures/ocfs2/README.md). */
const KNOWN = ['INODE_SPARSE_SIZE'];

function load(name: Fixture): Promise<MemoryDevice> {
  return withDir(async (dir) => loadSparse(await unpackFixture(name, dir)));
}

/** Every path below a directory, by lookups and listings. */
async function walk(fs: Names, dir = fs.ns.root, path = '.', out = new Map<string, number>()): Promise<Map<string, number>> {
  out.set(path, dir);
  for (const [name, blkno] of await fs.list(dir)) {
    if (name === '.' || name === '..') continue;
    const below = path === '.' ? name : `${path}/${name}`;
    const found = await fs.lookup(dir, name);
    expect(found.blkno, below).toBe(blkno);
    if ((found.mode & S_IFMT) === MODE.DIR) await walk(fs, blkno, below, out);
    else out.set(below, blkno);
  }
  return out;
}

describe.each(['4k1m', '1k4k', '512', 'plain', '4k4k'] as const)('fixture %s by name', (name) => {
  test('reads as Linux listed it', { timeout: 60_000 }, async () => {
    const fs = await Names.open(await load(name));
    const { entries } = readManifest(name);
    const tree = await walk(fs);
    expect([...tree.keys()].sort()).toEqual([...entries.keys()].sort());
    for (const [path, want] of entries) {
      const is = await fs.ns.attributes(tree.get(path)!);
      expect({ path, type: TYPE_NAMES[is.mode & S_IFMT], mode: is.mode & 0o7777, uid: is.uid, gid: is.gid, links: is.links, size: is.size, mtime: is.mtime.sec, inode: is.blkno })
        .toEqual({ path, type: want.type, mode: want.mode, uid: want.uid, gid: want.gid, links: want.links, size: want.size, mtime: want.mtime, inode: want.inode });
      if (want.type === 'symlink') expect(text(await fs.ns.readlink(is.blkno))).toBe(want.target);
    }
  });
});

describe.each(['4k1m', '1k4k', '512', 'plain'] as const)('fixture %s changed by us', (name) => {
  test('is clean and has the names it should', { timeout: 120_000 }, async () => {
    const device = await load(name);
    const fs = await Names.open(device);
    const { ns } = fs;
    const tree = await walk(fs);
    const { entries } = readManifest(name);
    const dirs = [...tree].filter(([path]) => entries.get(path)?.type === 'directory');
    for (const [path, dir] of dirs) {
      const there = new Set((await fs.list(dir)).keys());
      for (let i = 0; i < 12; i++) {
        const spec = i % 4 === 0 ? DIR : i % 4 === 1 ? symlink('there/'.repeat(i * 60)) : FILE;
        const made = `by us ${i} ${'ö'.repeat(i * 5)}`;
        await fs.create(dir, made, spec);
        there.add(made);
      }
      let n = 0;
      for (const old of [...there]) {
        if (old === '.' || old === '..' || n++ % 3 !== 0) continue;
        const is = await fs.lookup(dir, old);
        if ((is.mode & S_IFMT) === MODE.DIR) continue;
        if (n % 2 === 0) {
          await ns.unlink(dir, bytes(old));
          there.delete(old);
        } else {
          await ns.rename({ oldDir: dir, oldName: bytes(old), newDir: dir, newName: bytes(`${old.slice(0, 50)}~`) });
          there.delete(old);
          there.add(`${old.slice(0, 50)}~`);
        }
      }
      expect([...(await fs.list(dir)).keys()].sort(), path).toEqual([...there].sort());
    }
    expect(dirs.length).toBeGreaterThan(40);
    await fs.ctx.engine.log.flush();
    await expectFsckClean(device, KNOWN);
  });
});
