import { describe, expect, test } from 'vitest';
import { DYN, MODE } from '../../src/format/index.js';
import { RawReader } from '../../src/inspect/index.js';
import { Dinode, XATTR_INDEXED, XATTR_BLOCK, XattrBlock } from '../../src/format/index.js';
import { writeFile } from '../../src/volume/index.js';
import { randomFrom } from '../../../../test/support/temp.js';
import { GEOMETRIES, type NamedVolume, debugfs, expectFsckClean, makeVolume } from '../support/volume.js';
import { DIR, FILE, Names, bytes, symlink } from '../volume/support.js';
import { type Model, expectModel, expectOnDisk, lengthOf, valueOf } from './support.js';

/** Where an inode keeps its attributes. */
async function storages(reader: RawReader, ino: number): Promise<string> {
  const di = Dinode.at(await reader.inode(ino));
  const block = di.xattrLoc === 0 ? '' : XattrBlock.at(await reader.read(di.xattrLoc, XATTR_BLOCK)).flags & XATTR_INDEXED ? 'tree' : 'block';
  return `${di.dynFeatures & DYN.HAS_XATTR ? 'has' : ''} ${di.dynFeatures & DYN.INLINE_XATTR ? 'inline' : ''} ${block}`.trim();
}

const SMALL_CLUSTERS: NamedVolume = { name: '512/64K metaecc', size: 300 << 20, mkfsArgs: ['-b', '512', '-C', '64K', '-N', '2', '-J', 'size=4M', '--fs-features=metaecc'] };
const TWO_BLOCKS: NamedVolume = { name: '2K/8K metaecc', size: 100 << 20, mkfsArgs: ['-b', '2048', '-C', '8192', '-N', '2', '-J', 'size=8M', '--fs-features=metaecc'] };

const VOLUMES = [...GEOMETRIES, SMALL_CLUSTERS, TWO_BLOCKS].map((spec) => ({ ...spec, hostile: spec.name === '4K/4K' || spec.name === '512/4K' || spec.name.includes('2K') }));

describe.each(VOLUMES)('extended attributes on $name', (spec) => {
  test.each(spec.hostile ? [{ hostile: false }, { hostile: true }] : [{ hostile: false }])('come, change size and go as in a Map (hostile locks: $hostile)', async ({ hostile }) => {
    const device = await makeVolume(spec);
    const random = randomFrom(hostile ? 7 : 11);
    let fs = await Names.open(device, { hostile, seed: 3 });
    const root = fs.ns.root;
    const long = 'n'.repeat(200);
    const inodes = [
      { made: await fs.create(root, 'file'), names: 400, ops: hostile ? 200 : 700 },
      { made: await fs.create(root, 'directory', DIR), names: 12, ops: 40 },
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
          const value = valueOf(random, lengthOf(random));
          await fs.ns.setXattr(made.blkno, bytes(name), value, { mode: model.has(name) ? 'replace' : 'create' });
          model.set(name, value);
        }
        if (i % 200 === 199 && !hostile) {
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
    fs = await Names.open(device);
    await fs.ns.unlink(root, bytes('file'));
    await fs.ns.unlink(root, bytes('link'));
    await fs.ns.rmdir(root, bytes('directory'));
    await fs.ctx.engine.log.flush();
    await expectFsckClean(device);
  });
});
