import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { FIXTURES, readManifest, unpackFixture } from '../support/fixtures.js';
import { debugfs, debugfsStat, fsck, KNOWN_FALSE_POSITIVES, mustBeClean } from '../support/ocfs2-tools.js';
import { Cleanup, tempDir } from '../support/temp.js';

const cleanup = new Cleanup();
afterAll(() => cleanup.run());
const directory = tempDir(cleanup, 'fixtures');

describe.each(FIXTURES)('fixture %s', (name) => {
  test('its manifest parses and agrees with debugfs.ocfs2', async () => {
    const { entries, xattrs, acls } = readManifest(name);
    expect(entries.size).toBeGreaterThan(200);
    expect(entries.get('.')?.type).toBe('directory');
    if (name !== 'crash') {
      expect(entries.get('names/ünï-ço∂é')?.size).toBe(2);
      expect(entries.get('slink')?.target).toBe('tiny');
      expect(entries.get('chr')).toMatchObject({ type: 'char', rdev: { major: 1, minor: 3 } });
    }
    if (name !== 'plain' && name !== 'crash') {
      expect(xattrs.get('tiny')?.get('user.small')?.toString()).toBe('val');
      expect(xattrs.get('a/b')?.get('system.posix_acl_access')?.readUInt32LE(0)).toBe(2); // POSIX_ACL_XATTR_VERSION
      expect(acls.get('moved-dir')).toContainEqual({ isDefault: true, tag: 'user', id: 1001, perm: 6 });
    }
    for (const file of xattrs.keys()) expect(entries.has(file), `xattrs of ${file}`).toBe(true);
    for (const file of acls.keys()) expect(entries.has(file), `acl of ${file}`).toBe(true);
  });

  test('its image is what the manifest says, as far as debugfs.ocfs2 and fsck.ocfs2 can tell', async () => {
    const image = await unpackFixture(name, directory);
    if (name === 'crash') {
      // Its truth is still in the journal: what the image shows now is the state before.
      expect(await debugfs(image, 'stat //journal:0000')).toMatch(/Type: Regular/);
      return;
    }
    const { entries } = readManifest(name);
    for (const [file, entry] of [...entries].filter(([key]) => /^(a|a\/b|seq\.txt|frag1|punched|unwritten)$/.test(key))) {
      const { fields } = await debugfsStat(image, `/${file}`);
      expect(fields.get('Inode'), file).toBe(String(entry.inode));
      expect(fields.get('Size'), file).toBe(String(entry.size));
      expect(Number.parseInt(fields.get('Mode')!, 8), file).toBe(entry.mode & 0o777); // debugfs leaves out setuid, setgid, sticky
      expect(fields.get('Links'), file).toBe(String(entry.links));
    }
    const { extents } = await debugfsStat(image, '/unwritten');
    if (name !== 'plain') expect(extents.some(({ flags }) => (flags & 1) !== 0)).toBe(true);
    const dumped = `${directory}/${name}.seq`;
    await debugfs(image, `dump /seq.txt ${dumped}`);
    expect(createHash('sha256').update(fs.readFileSync(dumped)).digest('hex')).toBe(entries.get('seq.txt')?.sha256);
    await mustBeClean(image, KNOWN_FALSE_POSITIVES);
  });
});

test('fsck.ocfs2 findings come as codes, and damage is not taken for clean', async () => {
  const image = await unpackFixture('512', directory);
  const tiny = readManifest('512').entries.get('tiny')!;
  const file = fs.openSync(image, 'r+');
  fs.writeSync(file, Buffer.from([tiny.links + 6]), 0, 1, tiny.inode * 512 + 0x2a); // i_links_count; the volume has no metaecc
  fs.closeSync(file);
  const { findings } = await fsck(image, KNOWN_FALSE_POSITIVES);
  expect(findings).toEqual([{ code: 'INODE_COUNT', text: expect.stringContaining(`Inode ${tiny.inode}`) as string }]);
  await expect(mustBeClean(image, KNOWN_FALSE_POSITIVES)).rejects.toThrow(/1 findings/);
  await expect(debugfs(image, 'stat /nosuch')).rejects.toThrow(/not found/);
});
