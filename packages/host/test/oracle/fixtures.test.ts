/** Volumes that Linux filled, through a lunfs mount: names, attributes, contents, link targets, extended attributes and ACLs as Linux said. */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as fsp from 'node:fs/promises';
import path from 'node:path';
import { startVolumeProcess } from '@lunfs/host';
import { describe, expect, it } from 'vitest';
import { FIXTURES, type Manifest, readManifest, unpackFixture } from '../../../../test/support/fixtures.js';
import { lacks } from '../../../../test/support/ocfs2-tools.js';
import { Cleanup, must, tempDir } from '../../../../test/support/temp.js';
import { ends, logOf } from '../support/image.js';

const S_IFMT: Readonly<Record<string, number>> = { directory: 0o040000, file: 0o100000, symlink: 0o120000, fifo: 0o010000, socket: 0o140000, block: 0o060000, char: 0o020000 };

/** Attributes of every path below a directory, by path and name, as root sees them. */
async function attributes(root: string): Promise<Map<string, Map<string, Buffer>>> {
  const text = await must('python3', ['-c', `
import base64, errno, json, os, sys
out = {}
def look(p):
    # Symlinks have none that Linux lists in the manifest; a loop's target cannot be followed.
    if os.path.islink(p): return
    try: names = os.listxattr(p)
    except OSError as e:
        # A volume without the feature.
        if e.errno != errno.EOPNOTSUPP: raise
        names = []
    if names: out[base64.b64encode(os.fsencode(os.path.relpath(p, sys.argv[1]))).decode()] = {base64.b64encode(os.fsencode(n)).decode(): base64.b64encode(os.getxattr(p, n)).decode() for n in names}
look(sys.argv[1])
for d, ds, fs in os.walk(sys.argv[1]):
    for n in ds + fs: look(os.path.join(d, n))
print(json.dumps(out))
`, root], { cwd: '/' });
  const plain = (base64: string) => Buffer.from(base64, 'base64').toString();
  return new Map(Object.entries(JSON.parse(text) as Record<string, Record<string, string>>)
    .map(([file, values]) => [plain(file), new Map(Object.entries(values).map(([name, value]) => [plain(name), Buffer.from(value, 'base64')]))]));
}

/** `unwritten`: a file whose mtime Linux had not written yet when it crashed (test/fixtures/ocfs2/README.md). */
async function compare(root: string, manifest: Manifest, unwritten?: string): Promise<void> {
  const listed = (await fsp.readdir(root, { recursive: true })).sort();
  expect(listed).toEqual([...manifest.entries.keys()].filter((one) => one !== '.').sort());
  for (const [name, entry] of manifest.entries) {
    const file = path.join(root, name);
    const stat = await fsp.lstat(file);
    const seen = { mode: stat.mode, uid: stat.uid, gid: stat.gid, links: stat.nlink, size: stat.size, mtime: Math.floor(stat.mtimeMs / 1000), inode: stat.ino };
    const { mode, uid, gid, links, size, inode } = entry;
    const mtime = name === unwritten ? seen.mtime : entry.mtime;
    expect(seen, name).toEqual({ mode: S_IFMT[entry.type] | mode, uid, gid, links, size, mtime, inode });
    if (entry.type === 'symlink') expect(await fsp.readlink(file), name).toBe(entry.target);
    if (entry.type === 'file') expect(createHash('sha256').update(await fsp.readFile(file)).digest('hex'), name).toBe(entry.sha256);
  }
  const xattrs = await attributes(root);
  expect([...xattrs.keys()].sort()).toEqual([...manifest.xattrs.keys()].sort());
  for (const [file, values] of manifest.xattrs) expect(xattrs.get(file), file).toEqual(values);
}

describe.skipIf(lacks('ocfs2-tools', 'fuse'))('volumes that Linux filled, mounted', () => {
  for (const name of FIXTURES) {
    for (const readOnly of name === 'crash' ? [true, false] : [true]) {
      it(`${name}${name === 'crash' ? (readOnly ? ', read-only: its journal replayed in memory' : ', recovered') : ''}`, async () => {
        const cleanup = new Cleanup();
        try {
          const directory = tempDir(cleanup, 'host');
          process.env.LUNFS_RUN_DIR = path.join(directory, 'run');
          const image = await unpackFixture(name, directory);
          const mountPoint = path.join(directory, 'mnt');
          fs.mkdirSync(mountPoint);
          const one = await startVolumeProcess({ device: image, readOnly, mount: { directory: mountPoint } });
          cleanup.add(async () => {
            one.kill('SIGTERM');
            expect(await ends(one)).toEqual({ code: 0, signal: null });
            expect(logOf(one)).toBe('');
          });
          expect(one.facts.recovery.slots.length).toBe(name === 'crash' ? 1 : 0);
          await compare(mountPoint, readManifest(name), name === 'crash' ? 'reflink-3' : undefined);
        } finally {
          await cleanup.run();
        }
      }, 60_000);
    }
  }
});
