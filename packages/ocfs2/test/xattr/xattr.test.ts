import { describe, expect, test } from 'vitest';
import { DYN, Dinode, MODE, XATTR_BLOCK, XATTR_INDEXED, XattrBlock } from '../../src/format/index.js';
import { RawReader } from '../../src/inspect/index.js';
import { writeFile } from '../../src/volume/index.js';
import { randomFrom } from '../../../../test/support/temp.js';
import { HOSTILE, variants } from '../support/locks.js';
import { GEOMETRIES, type NamedVolume, debugfs, expectFsckClean, makeVolume } from '../support/volume.js';
import { DIR, Names, PLAIN, bytes, settle, symlink } from '../volume/support.js';
import { type Model, expectModel, expectOnDisk, lengthOf, randomValue } from './support.js';

/** Where an inode keeps its attributes. */
async function storages(reader: RawReader, ino: number): Promise<string> {
  const di = Dinode.at(await reader.inode(ino));
  const block = di.xattrLoc === 0 ? '' : XattrBlock.at(await reader.read(di.xattrLoc, XATTR_BLOCK)).flags & XATTR_INDEXED ? 'tree' : 'block';
  return `${di.dynFeatures & DYN.HAS_XATTR ? 'has' : ''} ${di.dynFeatures & DYN.INLINE_XATTR ? 'inline' : ''} ${block}`.trim();
}

const SMALL_CLUSTERS: NamedVolume = { name: '512/64K metaecc', size: 300 << 20, mkfsArgs: ['-b', '512', '-C', '64K', '-N', '2', '-J', 'size=4M', '--fs-features=metaecc'] };
const TWO_BLOCKS: NamedVolume = { name: '2K/8K metaecc', size: 100 << 20, mkfsArgs: ['-b', '2048', '-C', '8192', '-N', '2', '-J', 'size=8M', '--fs-features=metaecc'] };

describe.each(variants([...GEOMETRIES, SMALL_CLUSTERS, TWO_BLOCKS]))('extended attributes on $name', (spec) => {
  test('come, change size and go as in a Map', async () => {
    const device = await makeVolume(spec);
    const random = randomFrom(HOSTILE ? 7 : 11);
    let fs = await Names.open(device, { seed: 3 });
    const root = fs.ns.root;
    const long = 'n'.repeat(200);
    const inodes = [
      { made: await fs.create(root, 'file'), names: 300, ops: HOSTILE ? 150 : 450 },
      { made: await fs.create(root, 'directory', DIR), names: 12, ops: 30 },
      { made: await fs.create(root, 'link', symlink('over/there')), names: 6, ops: 20 },
    ].map((one) => ({ ...one, model: new Map() as Model }));
    await writeFile(fs.ctx, inodes[0].made.blkno, 0, Buffer.from('some text of the file'));
    for (const { made, names, ops, model } of inodes) {
      const prefixes = (made.mode & 0o170000) === MODE.LNK ? ['trusted.', 'security.'] : ['user.', 'user.', 'trusted.', 'security.'];
      for (let i = 0; i < ops; i++) {
        const n = Math.floor(random() * names);
        const name = `${prefixes[n % prefixes.length]}${n % 9 === 0 ? long : 'attribute '}${n}`;
        if (random() < 0.2 && model.has(name)) {
          await fs.ns.removeXattr(made.blkno, bytes(name));
          model.delete(name);
        } else {
          const value = randomValue(random, lengthOf(random));
          await fs.ns.setXattr(made.blkno, bytes(name), value, { mode: model.has(name) ? 'replace' : 'create' });
          model.set(name, value);
        }
        if (i % 150 === 149) {
          await fs.ctx.engine.log.flush();
          fs = await Names.open(device, { seed: i });
        }
      }
      await expectModel(fs, made.blkno, model);
    }
    await fs.ctx.engine.log.flush();
    for (const { made, model } of inodes) await expectOnDisk(device, made.blkno, model);
    const reader = await RawReader.open(device);
    expect(await storages(reader, inodes[0].made.blkno)).toBe(reader.geo.blockSize === 512 ? 'has  tree' : 'has inline tree');
    await expectFsckClean(device);
    // Everything goes again with the inodes.
    await fs.ns.unlink(root, bytes('file'));
    await fs.ns.unlink(root, bytes('link'));
    await fs.ns.rmdir(root, bytes('directory'));
    await fs.ctx.engine.log.flush();
    await settle(device);
    await expectFsckClean(device);
  });
});

describe('extended attributes', () => {
  const QUICK = GEOMETRIES[0];

  test('go where Linux puts them: dinode, block, tree; large values outside; debugfs.ocfs2 shows them so', async () => {
    const device = await makeVolume(QUICK);
    const fs = await Names.open(device);
    const { root } = fs.ns;
    const set = async (ino: number, name: string, length: number): Promise<void> => fs.ns.setXattr(ino, bytes(name), Buffer.alloc(length, 0x61));
    const steps: string[] = [];
    const note = async (ino: number): Promise<void> => {
      await fs.ctx.engine.log.flush();
      steps.push(await storages(await RawReader.open(device), ino));
    };
    const file = (await fs.create(root, 'file')).blkno;
    await set(file, 'user.small', 10);
    await note(file);
    await set(file, 'user.large', 5000);
    await note(file);
    await set(file, 'user.second', 80);
    await set(file, 'user.third', 80);
    await note(file);
    for (let i = 0; i < 40; i++) await set(file, `user.more${i}`, 80);
    await note(file);
    const directory = (await fs.create(root, 'directory', DIR)).blkno; // its entries have the dinode to themselves
    await set(directory, 'user.small', 10);
    await note(directory);
    expect(steps).toEqual(['has inline', 'has inline', 'has inline block', 'has inline tree', 'has  block']);
    const shown = await debugfs(device, 'xattr -v /file');
    const rows = [...shown.matchAll(/^\s+#\d+\s+1\s+([01])\s+(\d+)\s+(\d+)/gm)].map(([, local, nameLength, length]) => `${local} ${nameLength} ${length}`);
    expect(rows).toHaveLength(44);
    expect(rows.filter((row) => row.startsWith('0'))).toEqual(['0 5 5000']);
    expect(shown).toMatch(/Has clusters: 2\s+Has buckets: 2/);
    expect(shown).toContain('Extended attributes in total: 44');
    await expectFsckClean(device);
  });

  test('follow the rules of their name spaces', async () => {
    const device = await makeVolume(QUICK);
    const fs = await Names.open(device);
    const { root } = fs.ns;
    const file = (await fs.create(root, 'file')).blkno;
    const link = (await fs.create(root, 'link', symlink('nowhere'))).blkno;
    const some = Buffer.from('some');
    const refused = (work: Promise<unknown>, errno: string) => expect(work).rejects.toMatchObject({ errno });
    await refused(fs.ns.getXattr(file, bytes('user.a')), 'ENODATA');
    await refused(fs.ns.removeXattr(file, bytes('user.a')), 'ENODATA');
    await refused(fs.ns.setXattr(file, bytes('user.a'), some, { mode: 'replace' }), 'ENODATA');
    await fs.ns.setXattr(file, bytes('user.a'), some, { mode: 'create' });
    await refused(fs.ns.setXattr(file, bytes('user.a'), some, { mode: 'create' }), 'EEXIST');
    await refused(fs.ns.setXattr(file, bytes('user.'), some), 'EOPNOTSUPP');
    await refused(fs.ns.setXattr(file, bytes('system.other'), some), 'EOPNOTSUPP');
    await refused(fs.ns.setXattr(file, bytes(`user.${'x'.repeat(251)}`), some), 'ERANGE');
    await fs.ns.setXattr(file, bytes(`user.${'x'.repeat(250)}`), some);
    await refused(fs.ns.setXattr(file, bytes('user.b'), Buffer.alloc(65_537)), 'E2BIG');
    await refused(fs.ns.setXattr(link, bytes('user.a'), some), 'EPERM');
    await fs.ns.setXattr(link, bytes('security.selinux'), some);
    await fs.ns.setFlags(file, 0x10);
    await refused(fs.ns.setXattr(file, bytes('user.a'), some), 'EPERM');
    await fs.ns.setFlags(file, 0);
    const plain = await Names.open(await makeVolume(PLAIN));
    await refused(plain.ns.setXattr(plain.ns.root, bytes('user.a'), some), 'EOPNOTSUPP');
  });

  test('that find no room leave no trace', async () => {
    const spec: NamedVolume = { name: 'small', size: 24 << 20, mkfsArgs: ['-b', '1024', '-C', '4096', '-N', '1', '-J', 'size=4M'] };
    const device = await makeVolume(spec);
    const fs = await Names.open(device);
    const { root } = fs.ns;
    const file = (await fs.create(root, 'file')).blkno;
    const model: Model = new Map();
    for (let i = 0; i < 60; i++) {
      model.set(`user.${i}`, Buffer.alloc(90 + i, i));
      await fs.ns.setXattr(file, bytes(`user.${i}`), model.get(`user.${i}`)!);
    }
    const filler = (await fs.create(root, 'filler')).blkno;
    for (let at = 0, step = 1 << 20; step >= 4096; ) {
      const full = await writeFile(fs.ctx, filler, at, new Uint8Array(step)).then(() => false, (error: { code?: string }) => {
        if (error.code !== 'NO_SPACE') throw error as Error;
        return true;
      });
      if (full) step /= 2;
      else at += step;
    }
    let failed = 0;
    for (let i = 0; i < 90; i++) {
      const name = `user.${i}`, value = Buffer.alloc(30_000 + i, i);
      try {
        await fs.ns.setXattr(file, bytes(name), value);
        model.set(name, value);
      } catch (error) {
        expect(error).toMatchObject({ code: 'NO_SPACE', errno: 'ENOSPC' });
        failed++;
      }
    }
    expect(failed).toBeGreaterThan(50);
    await expectModel(fs, file, model);
    await fs.ctx.engine.log.flush();
    await expectOnDisk(device, file, model);
    await expectFsckClean(device, ['EXTENT_LIST_DEPTH']); // write.ts: storeValue
  });
});
