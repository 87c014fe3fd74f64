/** Every fixture volume reads exactly as Linux said it is. (The crashed one after recovery: test/volume.) */
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { FIXTURES, type Fixture, readManifest, unpackFixture } from '../../../../test/support/fixtures.js';
import { Cleanup, tempDir } from '../../../../test/support/temp.js';
import { checkVolume } from '../../src/check/index.js';
import { Dinode, MODE, S_IFMT } from '../../src/format/index.js';
import { RawReader, listXattrs, xattrValue } from '../../src/inspect/index.js';
import { ACL_TAG, type AclEntry, aclToXattr, isAcl, parseAcl, xattrText } from '../../src/xattr/index.js';
import { loadSparse } from '../support/volume.js';

const CLEAN = FIXTURES.filter((f) => f !== 'crash');

async function open(name: Fixture): Promise<RawReader> {
  const cleanup = new Cleanup();
  try {
    return await RawReader.open(await loadSparse(await unpackFixture(name, tempDir(cleanup))));
  } finally {
    await cleanup.run();
  }
}

const TYPE_NAMES: Record<number, string> = {
  [MODE.DIR]: 'directory', [MODE.REG]: 'file', [MODE.LNK]: 'symlink', [MODE.FIFO]: 'fifo', [MODE.SOCK]: 'socket', [MODE.BLK]: 'block', [MODE.CHR]: 'char',
};

/** The tree as the manifest would list it: path → dinode block. */
async function walk(reader: RawReader, at = reader.geo.rootBlkno, path = '.', out = new Map<string, number>()): Promise<Map<string, number>> {
  out.set(path, at);
  const inode = await reader.inode(at);
  if ((Dinode.at(inode).mode & S_IFMT) !== MODE.DIR) return out;
  for (const { name, inode: child } of await reader.entries(inode)) {
    const text = Buffer.from(name).toString('utf8');
    if (text !== '.' && text !== '..') await walk(reader, child, path === '.' ? text : `${path}/${text}`, out);
  }
  return out;
}

const TAGS: Record<number, string> = { [ACL_TAG.USER_OBJ]: 'user', [ACL_TAG.USER]: 'user', [ACL_TAG.GROUP_OBJ]: 'group', [ACL_TAG.GROUP]: 'group', [ACL_TAG.MASK]: 'mask', [ACL_TAG.OTHER]: 'other' };
const aclText = (entries: readonly AclEntry[]) => entries.map((e) => `${TAGS[e.tag]}:${e.tag === ACL_TAG.USER || e.tag === ACL_TAG.GROUP ? e.id : ''}:${e.perm}`).sort();

describe.each(CLEAN)('fixture %s', (name) => {
  test('names, modes, owners, links, sizes, times, devices, contents', { timeout: 60_000 }, async () => {
    const reader = await open(name);
    const { entries } = readManifest(name);
    const tree = await walk(reader);
    expect([...tree.keys()].sort()).toEqual([...entries.keys()].sort());
    for (const [path, want] of entries) {
      const inode = await reader.inode(tree.get(path)!);
      const di = Dinode.at(inode);
      const rdev = Number(di.rdev);
      expect({
        path, type: TYPE_NAMES[di.mode & S_IFMT], mode: di.mode & 0o7777, uid: di.uid, gid: di.gid, links: di.links + di.linksHi * 65536, size: di.size, mtime: di.mtime, inode: di.blkno,
        rdev: want.type === 'block' || want.type === 'char' ? { major: (rdev >> 8) & 0xfff, minor: (rdev & 0xff) | ((rdev >> 12) & 0xfff00) } : { major: 0, minor: 0 },
      }).toEqual({ path, type: want.type, mode: want.mode, uid: want.uid, gid: want.gid, links: want.links, size: want.size, mtime: want.mtime, inode: want.inode, rdev: want.rdev });
      if (want.type === 'file') expect(createHash('sha256').update(await reader.content(inode)).digest('hex'), path).toBe(want.sha256);
      if (want.type === 'symlink') expect(Buffer.from(await reader.content(inode)).toString('utf8'), path).toBe(want.target);
    }
  });

  test('attributes and ACLs', { timeout: 60_000 }, async () => {
    const reader = await open(name);
    const manifest = readManifest(name);
    let attributes = 0, acls = 0;
    for (const [path, at] of await walk(reader)) {
      const inode = await reader.inode(at);
      const mine = new Map<string, string>();
      const acl: Record<string, AclEntry[]> = {};
      for (const attr of await listXattrs(reader, inode)) {
        const raw = await xattrValue(reader, attr);
        const name = xattrText(attr.item);
        if (isAcl(attr.item.type)) acl[name] = parseAcl(raw);
        mine.set(name, Buffer.from(isAcl(attr.item.type) ? aclToXattr(raw) : raw).toString('latin1'));
        attributes++;
      }
      const want = new Map([...(manifest.xattrs.get(path) ?? [])].map(([k, v]) => [k, v.toString('latin1')]));
      expect([...mine.keys()].sort(), path).toEqual([...want.keys()].sort());
      for (const [k, v] of want) expect(mine.get(k), `${path} ${k}`).toBe(v);
      const listed = manifest.acls.get(path);
      for (const [attr, isDefault] of [['system.posix_acl_access', false], ['system.posix_acl_default', true]] as const) {
        if (!acl[attr]) continue;
        acls++;
        expect(aclText(acl[attr]), path).toEqual(listed!.filter((e) => e.isDefault === isDefault).map((e) => `${e.tag}:${e.id ?? ''}:${e.perm}`).sort());
      }
    }
    // max-compat has neither attributes nor ACLs.
    expect(attributes > 100).toBe(name !== 'plain');
    expect(acls > 0).toBe(name !== 'plain');
  });

  test('is clean for the verifier', async () => {
    const report = await checkVolume((await open(name)).device);
    expect(report.findings.filter((f) => f.severity !== 'recovery')).toEqual([]);
    expect(report.clean).toBe(true);
  });
});
