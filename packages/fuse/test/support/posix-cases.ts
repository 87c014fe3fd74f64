/**
 * What POSIX programs expect of a file system, as a table of cases that any directory of any mount can be run against (after
 * go-fuse's posixtest). They use asynchronous calls and child processes only, so that the file system under test may be served
 * by the very process that runs them; no child's working directory is on the mount, for the same reason.
 *
 * A case gets an empty directory of its own and throws when the file system misbehaves.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { constants, existsSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';

const execute = promisify(execFile);

export interface PosixCase {
  readonly name: string;
  /** Features that the file system or the machine must have; a runner skips the case when one is missing. */
  readonly needs?: readonly PosixNeed[];
  /** Milliseconds it may take. */
  readonly timeout?: number;
  run(directory: string): Promise<void>;
}

export type PosixNeed = 'root' | 'python3' | 'direct' | 'tmpfile' | 'xattr' | 'fallocate' | 'hard links';

const PYTHON = ['/usr/bin/python3', '/usr/local/bin/python3'].find((file) => existsSync(file)) ?? (process.env.PATH ?? '').split(':').map((d) => path.join(d, 'python3')).find((file) => existsSync(file));

/** What of `PosixNeed` the machine lacks, with the reason; what the file system lacks the runner knows. */
export function machineLacks(need: PosixNeed): string | undefined {
  if (need === 'root' && process.getuid?.() !== 0) return 'needs root';
  if (need === 'python3' && PYTHON === undefined) return 'needs python3';
  return undefined;
}

/** Runs a Python program for what Node has no call for; `directory` is its first argument. Its working directory is /. */
async function python(program: string, ...args: string[]): Promise<string> {
  const { stdout } = await execute(PYTHON ?? 'python3', ['-c', program, ...args], { cwd: '/', timeout: 60_000, maxBuffer: 1 << 26 });
  return stdout;
}

async function rejects(promise: Promise<unknown>, code: string): Promise<void> {
  await assert.rejects(promise, (error: NodeJS.ErrnoException) => {
    assert.equal(error.code, code);
    return true;
  });
}

/** Bytes that differ at every position and between seeds. */
function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0, state = seed * 2654435761 + 1; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

async function readAll(file: string): Promise<Buffer> {
  const handle = await fs.open(file, 'r');
  try {
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}

export const posixCases: readonly PosixCase[] = [
  {
    name: 'create, write, read back, stat, unlink',
    async run(directory) {
      const file = path.join(directory, 'a');
      const data = pattern(100_001, 1);
      await fs.writeFile(file, data, { mode: 0o640 });
      assert.deepEqual(await readAll(file), data);
      const stat = await fs.stat(file);
      assert.equal(stat.size, data.length);
      assert.equal(stat.mode & 0o7777, 0o640 & ~process.umask());
      assert.equal(stat.nlink, 1);
      assert.ok(stat.isFile());
      await fs.unlink(file);
      await rejects(fs.stat(file), 'ENOENT');
    },
  },
  {
    name: 'O_EXCL refuses an existing name, O_CREAT opens it',
    async run(directory) {
      const file = path.join(directory, 'a');
      await fs.writeFile(file, 'one', { flag: 'wx' });
      await rejects(fs.open(file, 'wx'), 'EEXIST');
      const handle = await fs.open(file, constants.O_RDWR | constants.O_CREAT);
      assert.equal((await handle.readFile()).toString(), 'one');
      await handle.close();
    },
  },
  {
    name: 'names: 255 bytes, UTF-8, any byte but slash and NUL',
    async run(directory) {
      const longest = 'x'.repeat(255);
      await fs.writeFile(path.join(directory, longest), 'l');
      await rejects(fs.writeFile(path.join(directory, `${longest}y`), ''), 'ENAMETOOLONG');
      await fs.writeFile(path.join(directory, 'größe 大きさ\n'), 'u');
      const raw = Buffer.concat([Buffer.from(`${directory}/`), Buffer.from([0xff, 0xfe, 0x01, 0x7f])]);
      await fs.writeFile(raw, 'r');
      const names = (await fs.readdir(directory, { encoding: 'buffer' })).map((name) => name.toString('latin1')).sort();
      assert.deepEqual(names, [Buffer.from([0xff, 0xfe, 0x01, 0x7f]), Buffer.from('größe 大きさ\n'), Buffer.from(longest)].map((b) => b.toString('latin1')).sort());
      assert.equal((await fs.readFile(raw)).toString(), 'r');
      await rejects(fs.stat(path.join(directory, 'grösse')), 'ENOENT');
    },
  },
  {
    name: 'append: concurrent appenders lose nothing',
    async run(directory) {
      const file = path.join(directory, 'log');
      const writers = Array.from({ length: 4 }, async (_, w) => {
        const handle = await fs.open(file, 'a');
        for (let i = 0; i < 50; i++) await handle.write(`${w}:${String(i).padStart(4, '0')}\n`);
        await handle.close();
      });
      await Promise.all(writers);
      const lines = (await fs.readFile(file, 'utf8')).trimEnd().split('\n');
      assert.equal(lines.length, 200);
      assert.equal(new Set(lines).size, 200);
    },
  },
  {
    name: 'truncate: shrink, grow, zeroes between, O_TRUNC',
    async run(directory) {
      const file = path.join(directory, 't');
      const data = pattern(200_000, 2);
      await fs.writeFile(file, data);
      await fs.truncate(file, 70_001);
      assert.deepEqual(await readAll(file), data.subarray(0, 70_001));
      await fs.truncate(file, 150_000);
      const grown = await readAll(file);
      assert.deepEqual(grown.subarray(0, 70_001), data.subarray(0, 70_001));
      assert.ok(grown.subarray(70_001).every((byte) => byte === 0), 'grown part reads zero');
      assert.equal(grown.length, 150_000);
      const handle = await fs.open(file, 'w');
      assert.equal((await handle.stat()).size, 0);
      await handle.truncate(10);
      assert.equal((await handle.stat()).size, 10);
      await handle.close();
    },
  },
  {
    name: 'sparse files: holes read zero, blocks count only data',
    async run(directory) {
      const file = path.join(directory, 's');
      const handle = await fs.open(file, 'w+');
      const data = pattern(5000, 3);
      await handle.write(data, 0, data.length, 10_000_003);
      const stat = await handle.stat();
      assert.equal(stat.size, 10_005_003);
      assert.ok(stat.blocks * 512 < 5_000_000, `${stat.blocks} blocks for 5000 bytes`);
      const buffer = Buffer.alloc(8192, 1);
      await handle.read(buffer, 0, 8192, 9_998_000);
      assert.ok(buffer.subarray(0, 2003).every((byte) => byte === 0));
      assert.deepEqual(buffer.subarray(2003, 7003), data);
      await handle.close();
    },
  },
  {
    name: 'random writes and reads of odd sizes against a model',
    async run(directory) {
      const size = 300_000;
      const model = Buffer.alloc(size);
      const handle = await fs.open(path.join(directory, 'm'), 'w+');
      await handle.truncate(size);
      let state = 12345;
      const next = (n: number) => (state = (Math.imul(state, 1103515245) + 12345) >>> 0) % n;
      for (let i = 0; i < 150; i++) {
        const at = next(size - 1);
        const length = 1 + next(Math.min(40_000, size - at));
        if (i % 3 === 0) {
          const data = pattern(length, i);
          data.copy(model, at);
          await handle.write(data, 0, length, at);
        } else {
          const back = Buffer.alloc(length);
          assert.equal((await handle.read(back, 0, length, at)).bytesRead, length);
          assert.ok(back.equals(model.subarray(at, at + length)), `read ${length} at ${at}`);
        }
      }
      await handle.close();
      assert.ok((await readAll(path.join(directory, 'm'))).equals(model));
    },
  },
  {
    name: 'read at and past the end',
    async run(directory) {
      const handle = await fs.open(path.join(directory, 'e'), 'w+');
      await handle.write(Buffer.from('0123456789'));
      const buffer = Buffer.alloc(20);
      assert.equal((await handle.read(buffer, 0, 20, 5)).bytesRead, 5);
      assert.equal((await handle.read(buffer, 0, 20, 10)).bytesRead, 0);
      assert.equal((await handle.read(buffer, 0, 20, 1 << 30)).bytesRead, 0);
      await handle.close();
    },
  },
  {
    name: 'rename: replaces a file, refuses what it must, moves directories',
    async run(directory) {
      const at = (name: string) => path.join(directory, name);
      await fs.writeFile(at('a'), 'A');
      await fs.writeFile(at('b'), 'B');
      await fs.rename(at('a'), at('b'));
      assert.equal((await readAll(at('b'))).toString(), 'A');
      await rejects(fs.stat(at('a')), 'ENOENT');
      await rejects(fs.rename(at('a'), at('c')), 'ENOENT');
      await fs.mkdir(at('d'));
      await fs.mkdir(at('d/e'));
      await fs.mkdir(at('empty'));
      await rejects(fs.rename(at('d'), at('d/e/x')), 'EINVAL');
      await rejects(fs.rename(at('b'), at('d')), 'EISDIR');
      await rejects(fs.rename(at('d'), at('b')), 'ENOTDIR');
      await rejects(fs.rename(at('empty'), at('d')), 'ENOTEMPTY');
      await fs.rename(at('d'), at('empty'));
      assert.deepEqual(await fs.readdir(at('empty')), ['e']);
      await fs.rename(at('empty/e'), at('moved'));
      assert.equal((await fs.stat(at('empty'))).nlink, 2);
      assert.deepEqual((await fs.readdir(directory)).sort(), ['b', 'empty', 'moved']);
      await fs.rename(at('b'), at('b'));
      assert.equal((await readAll(at('b'))).toString(), 'A');
    },
  },
  {
    name: 'rename keeps an open file usable and replaces an open target',
    async run(directory) {
      const at = (name: string) => path.join(directory, name);
      await fs.writeFile(at('a'), 'old');
      const old = await fs.open(at('a'), 'r+');
      await fs.writeFile(at('b'), 'new');
      await fs.rename(at('b'), at('a'));
      assert.equal((await old.readFile()).toString(), 'old');
      await old.write('older', 0);
      assert.equal((await old.stat()).nlink, 0);
      await old.close();
      assert.equal((await readAll(at('a'))).toString(), 'new');
    },
  },
  {
    name: 'renameat2: NOREPLACE and EXCHANGE',
    needs: ['python3'],
    async run(directory) {
      await python(`
import ctypes, os, sys, errno
d = sys.argv[1]; c = ctypes.CDLL(None, use_errno=True)
def ren(a, b, f):
    r = c.syscall(316 if os.uname().machine == 'x86_64' else 276, -100, os.fsencode(d + '/' + a), -100, os.fsencode(d + '/' + b), f)
    return 0 if r == 0 else ctypes.get_errno()
open(d + '/a', 'w').write('A'); open(d + '/b', 'w').write('B'); os.mkdir(d + '/dir')
assert ren('a', 'b', 1) == errno.EEXIST
assert ren('a', 'c', 1) == 0 and open(d + '/c').read() == 'A'
assert ren('c', 'b', 2) == 0 and open(d + '/c').read() == 'B' and open(d + '/b').read() == 'A'
assert ren('c', 'dir', 2) == 0 and os.path.isdir(d + '/c') and open(d + '/dir').read() == 'B'
assert ren('c', 'none', 2) == errno.ENOENT
assert ren('c', 'dir', 3) == errno.EINVAL
`, directory);
    },
  },
  {
    name: 'hard links: one inode, link count, survives unlink',
    needs: ['hard links'],
    async run(directory) {
      const at = (name: string) => path.join(directory, name);
      await fs.writeFile(at('a'), 'data');
      await fs.link(at('a'), at('b'));
      const [a, b] = [await fs.stat(at('a')), await fs.stat(at('b'))];
      assert.equal(a.ino, b.ino);
      assert.equal(b.nlink, 2);
      await fs.appendFile(at('b'), '+');
      assert.equal((await readAll(at('a'))).toString(), 'data+');
      await fs.unlink(at('a'));
      assert.equal((await fs.stat(at('b'))).nlink, 1);
      await rejects(fs.link(at('a'), at('c')), 'ENOENT');
      await fs.mkdir(at('d'));
      await rejects(fs.link(at('d'), at('e')), 'EPERM');
      await rejects(fs.link(at('b'), at('d')), 'EEXIST');
    },
  },
  {
    name: 'symlinks: short, long, dangling, loops',
    async run(directory) {
      const at = (name: string) => path.join(directory, name);
      await fs.writeFile(at('file'), 'F');
      await fs.symlink('file', at('short'));
      assert.equal(await fs.readlink(at('short')), 'file');
      assert.equal((await readAll(at('short'))).toString(), 'F');
      const target = `${'./'.repeat(1000)}file`;
      await fs.symlink(target, at('long'));
      assert.equal(await fs.readlink(at('long')), target);
      assert.equal((await fs.lstat(at('long'))).size, target.length);
      await fs.symlink('nowhere', at('dangling'));
      await rejects(fs.stat(at('dangling')), 'ENOENT');
      assert.ok((await fs.lstat(at('dangling'))).isSymbolicLink());
      await fs.symlink('loop', at('loop'));
      await rejects(fs.readFile(at('loop')), 'ELOOP');
      await rejects(fs.symlink('x', at('short')), 'EEXIST');
    },
  },
  {
    name: 'unlink while open: data stays until close',
    async run(directory) {
      const file = path.join(directory, 'u');
      const data = pattern(200_000, 5);
      const handle = await fs.open(file, 'w+');
      await handle.write(data, 0, data.length, 0);
      await fs.unlink(file);
      assert.equal((await handle.stat()).nlink, 0);
      const back = Buffer.alloc(data.length);
      await handle.read(back, 0, back.length, 0);
      assert.ok(back.equals(data));
      await handle.write(data, 0, 1000, 500_000);
      await handle.close();
      assert.deepEqual(await fs.readdir(directory), []);
    },
  },
  {
    name: 'directories: mkdir, rmdir, link counts, errors',
    async run(directory) {
      const at = (name: string) => path.join(directory, name);
      await fs.mkdir(at('d'), 0o750);
      assert.equal((await fs.stat(at('d'))).mode & 0o7777, 0o750 & ~process.umask());
      await rejects(fs.mkdir(at('d')), 'EEXIST');
      await rejects(fs.mkdir(at('no/d')), 'ENOENT');
      await fs.mkdir(at('d/e'));
      assert.equal((await fs.stat(at('d'))).nlink, 3);
      await rejects(fs.rmdir(at('d')), 'ENOTEMPTY');
      await fs.rmdir(at('d/e'));
      assert.equal((await fs.stat(at('d'))).nlink, 2);
      await fs.writeFile(at('f'), '');
      await rejects(fs.rmdir(at('f')), 'ENOTDIR');
      await rejects(fs.unlink(at('d')), 'EISDIR');
      await rejects(fs.mkdir(at('f/x')), 'ENOTDIR');
      await fs.rmdir(at('d'));
      await rejects(fs.stat(at('d')), 'ENOENT');
    },
  },
  {
    name: 'a listing of 10,000 entries, whole, while half are deleted',
    timeout: 120_000,
    async run(directory) {
      const names = Array.from({ length: 10_000 }, (_, i) => `entry-${i}`);
      for (let i = 0; i < names.length; i += 50) {
        await Promise.all(names.slice(i, i + 50).map(async (name) => (await fs.open(path.join(directory, name), 'wx')).close()));
      }
      assert.deepEqual((await fs.readdir(directory)).sort(), [...names].sort());
      const seen: string[] = [];
      const doomed = new Set(names.filter((_, i) => i % 2 === 1));
      const stream = await fs.opendir(directory, { bufferSize: 64 });
      for await (const entry of stream) {
        assert.ok(entry.isFile());
        seen.push(entry.name);
        if (doomed.has(entry.name)) await fs.unlink(path.join(directory, entry.name));
      }
      assert.equal(new Set(seen).size, seen.length, 'no entry comes twice');
      const listed = new Set(seen);
      for (const name of names) if (!doomed.has(name)) assert.ok(listed.has(name), `${name} is listed`);
      const left = await fs.readdir(directory);
      assert.equal(left.filter((name) => !doomed.has(name)).length, 5000);
      for (let i = 0; i < left.length; i += 50) await Promise.all(left.slice(i, i + 50).map((name) => fs.unlink(path.join(directory, name))));
      assert.deepEqual(await fs.readdir(directory), []);
    },
  },
  {
    name: 'permissions: another user is held to mode bits and ownership',
    needs: ['root', 'python3'],
    async run(directory) {
      await fs.chmod(directory, 0o755);
      await python(`
import os, sys, errno
d = sys.argv[1]
open(d + '/private', 'w').write('x'); os.chmod(d + '/private', 0o600)
open(d + '/public', 'w').write('x'); os.chmod(d + '/public', 0o644)
os.mkdir(d + '/sticky'); os.chmod(d + '/sticky', 0o1777); open(d + '/sticky/roots', 'w').close(); os.chmod(d + '/sticky/roots', 0o666)
def denied(what, *want):
    try: what()
    except OSError as e: assert e.errno in want, e
    else: raise AssertionError('allowed')
os.setgroups([]); os.setgid(12345); os.setuid(12345)
denied(lambda: open(d + '/private'), errno.EACCES)
assert open(d + '/public').read() == 'x'
denied(lambda: open(d + '/public', 'a'), errno.EACCES)
denied(lambda: open(d + '/new', 'w'), errno.EACCES)
denied(lambda: os.unlink(d + '/public'), errno.EACCES)
denied(lambda: os.chmod(d + '/public', 0o777), errno.EPERM)
denied(lambda: os.unlink(d + '/sticky/roots'), errno.EPERM, errno.EACCES)
open(d + '/sticky/mine', 'w').write('m')
s = os.stat(d + '/sticky/mine'); assert (s.st_uid, s.st_gid) == (12345, 12345)
os.chmod(d + '/sticky/mine', 0o4755)
denied(lambda: os.chown(d + '/sticky/mine', 0, 0), errno.EPERM)
with open(d + '/sticky/mine', 'r+') as f: f.write('changed')
assert os.stat(d + '/sticky/mine').st_mode & 0o4000 == 0, 'a write clears setuid'
os.unlink(d + '/sticky/mine')
`, directory);
    },
  },
  {
    name: 'chown, chmod and setgid directories',
    needs: ['root'],
    async run(directory) {
      const at = (name: string) => path.join(directory, name);
      await fs.writeFile(at('f'), '');
      await fs.chown(at('f'), 1000, 1001);
      await fs.chmod(at('f'), 0o4711);
      let stat = await fs.stat(at('f'));
      assert.deepEqual([stat.uid, stat.gid, stat.mode & 0o7777], [1000, 1001, 0o4711]);
      await fs.chown(at('f'), 1002, 1001);
      stat = await fs.stat(at('f'));
      assert.equal(stat.mode & 0o7777, 0o711, 'chown clears setuid');
      await fs.mkdir(at('d'));
      await fs.chown(at('d'), 0, 4242);
      await fs.chmod(at('d'), 0o2775);
      await fs.writeFile(at('d/f'), '');
      await fs.mkdir(at('d/e'));
      assert.equal((await fs.stat(at('d/f'))).gid, 4242);
      stat = await fs.stat(at('d/e'));
      assert.equal(stat.gid, 4242);
      assert.equal(stat.mode & 0o2000, 0o2000);
    },
  },
  {
    name: 'times: utimens, mtime and ctime of changes',
    async run(directory) {
      const at = (name: string) => path.join(directory, name);
      await fs.writeFile(at('f'), 'x');
      await fs.utimes(at('f'), 1_000_000_000.25, 1_200_000_000.5);
      let stat = await fs.stat(at('f'));
      assert.equal(stat.atimeMs, 1_000_000_000_250);
      assert.equal(stat.mtimeMs, 1_200_000_000_500);
      assert.ok(stat.ctimeMs > 1_500_000_000_000);
      await fs.appendFile(at('f'), 'y');
      stat = await fs.stat(at('f'));
      assert.ok(stat.mtimeMs > 1_500_000_000_000, 'a write sets mtime');
      await fs.utimes(directory, 1, 1);
      await fs.writeFile(at('g'), '');
      assert.ok((await fs.stat(directory)).mtimeMs > 1_500_000_000_000, 'a new name sets the directory’s mtime');
      await fs.symlink('f', at('l'));
      await fs.lutimes(at('l'), 5, 6);
      assert.equal((await fs.lstat(at('l'))).mtimeMs, 6000);
    },
  },
  {
    name: 'statfs says something that can be true',
    async run(directory) {
      const before = await fs.statfs(directory);
      assert.ok(before.blocks > 0 && before.bfree <= before.blocks && before.bavail <= before.bfree && before.bsize >= 512);
      await fs.writeFile(path.join(directory, 'f'), pattern(4 << 20, 6));
      const handle = await fs.open(path.join(directory, 'f'), 'r+');
      await handle.sync();
      await handle.close();
      const after = await fs.statfs(directory);
      assert.ok((before.bfree - after.bfree) * before.bsize >= 3 << 20, 'a 4 MiB file takes space');
    },
  },
  {
    name: 'mmap: shared writes reach the file, reads see it',
    needs: ['python3'],
    async run(directory) {
      const file = path.join(directory, 'm');
      await fs.writeFile(file, pattern(300_000, 7));
      await python(`
import mmap, sys, os
fd = os.open(sys.argv[1], os.O_RDWR)
m = mmap.mmap(fd, 300000)
before = m[100000:100010]
m[100000:100010] = b'ABCDEFGHIJ'; m[299990:300000] = b'0123456789'
m.flush(); assert os.pread(fd, 10, 100000) == b'ABCDEFGHIJ'
os.pwrite(fd, b'zz', 5000); assert m[5000:5002] == b'zz'
m.close(); os.close(fd)
`, file);
      const data = await readAll(file);
      assert.equal(data.length, 300_000);
      const expected = pattern(300_000, 7);
      expected.write('ABCDEFGHIJ', 100_000);
      expected.write('0123456789', 299_990);
      expected.write('zz', 5000);
      assert.ok(data.equals(expected));
    },
  },
  {
    name: 'O_DIRECT: aligned writes and reads, seen by buffered readers',
    needs: ['direct', 'python3'],
    async run(directory) {
      const file = path.join(directory, 'd');
      await python(`
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)
buf = mmap.mmap(-1, 1 << 20)
for round in range(3):
    for i in range(8):
        for at in range(0, 1 << 20, 4096): buf[at:at+8] = b'%d%d%06d' % (round, i, at // 4096)
        assert os.pwritev(fd, [buf], i << 20) == 1 << 20
    for i in range(8):
        assert os.preadv(fd, [buf], i << 20) == 1 << 20
        for at in range(0, 1 << 20, 4096): assert buf[at:at+8] == b'%d%d%06d' % (round, i, at // 4096), (round, i, at)
small = mmap.mmap(-1, 4096)
for i in range(0, 2048, 37):
    assert os.preadv(fd, [small], i * 4096) == 4096
    assert small[:8] == b'2%d%06d' % (i // 256, i % 256)
    small[:8] = b'small%03d' % (i % 1000); assert os.pwritev(fd, [small], i * 4096) == 4096
assert os.preadv(fd, [buf], 8 << 20) == 0
os.fsync(fd); os.close(fd)
with open(sys.argv[1], 'rb') as f:
    for i in range(0, 2048, 37):
        f.seek(i * 4096); assert f.read(8) == b'small%03d' % (i % 1000)
`, file);
      assert.equal((await fs.stat(file)).size, 8 << 20);
    },
  },
  {
    name: 'O_DIRECT and buffered I/O on one file stay coherent',
    needs: ['direct', 'python3'],
    async run(directory) {
      await python(`
import mmap, os, sys
name = sys.argv[1]
open(name, 'wb').write(b'\\0' * (4 << 20))
d = os.open(name, os.O_RDWR | os.O_DIRECT); b = os.open(name, os.O_RDWR)
buf = mmap.mmap(-1, 65536)
for i in range(40):
    at = (i * 7 % 60) * 65536
    buf[:8] = b'direct%02d' % i; os.pwritev(d, [buf], at)
    assert os.pread(b, 8, at) == b'direct%02d' % i
    os.pwrite(b, b'cached%02d' % i, at + 4096)
    os.preadv(d, [buf], at); assert buf[4096:4104] == b'cached%02d' % i
`, path.join(directory, 'c'));
    },
  },
  {
    name: 'SEEK_DATA and SEEK_HOLE cover a sparse file',
    needs: ['python3'],
    async run(directory) {
      await python(`
import os, sys, errno
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
os.pwrite(fd, b'x' * 4096, 4 << 20); os.ftruncate(fd, 16 << 20); os.fsync(fd)
data = os.lseek(fd, 0, os.SEEK_DATA); assert 0 <= data <= 4 << 20
hole = os.lseek(fd, 4 << 20, os.SEEK_HOLE); assert (4 << 20) + 4096 <= hole <= 16 << 20
assert os.lseek(fd, 4 << 20, os.SEEK_DATA) == 4 << 20
try: os.lseek(fd, 16 << 20, os.SEEK_DATA)
except OSError as e: assert e.errno == errno.ENXIO
else: raise AssertionError('SEEK_DATA past the end')
`, path.join(directory, 's'));
    },
  },
  {
    name: 'fallocate: reserve, keep size, punch, zero range',
    needs: ['fallocate', 'python3'],
    async run(directory) {
      await python(`
import ctypes, os, sys
c = ctypes.CDLL(None, use_errno=True)
def falloc(fd, mode, off, length):
    if c.fallocate(fd, mode, ctypes.c_longlong(off), ctypes.c_longlong(length)) != 0: raise OSError(ctypes.get_errno(), 'fallocate %d' % mode)
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
falloc(fd, 0, 0, 1 << 20); assert os.fstat(fd).st_size == 1 << 20
assert os.pread(fd, 1 << 20, 0) == b'\\0' * (1 << 20)
falloc(fd, 1, 1 << 20, 1 << 20); assert os.fstat(fd).st_size == 1 << 20
os.pwrite(fd, b'y' * (1 << 20), 0)
falloc(fd, 3, 100000, 500000)
b = os.pread(fd, 1 << 20, 0)
assert b[:100000] == b'y' * 100000 and b[100000:600000] == b'\\0' * 500000 and b[600000:] == b'y' * ((1 << 20) - 600000)
falloc(fd, 0x10 | 1, 700001, 1000)
b = os.pread(fd, 1 << 20, 0); assert b[700001:701001] == b'\\0' * 1000 and b[701001:701002] == b'y' and b[700000:700001] == b'y'
assert os.fstat(fd).st_size == 1 << 20
`, path.join(directory, 'f'));
    },
  },
  {
    name: 'O_TMPFILE, given a name later',
    needs: ['tmpfile', 'python3'],
    async run(directory) {
      await python(`
import ctypes, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_TMPFILE, 0o600)
os.write(fd, b'nameless'); assert os.fstat(fd).st_nlink == 0 and os.listdir(sys.argv[1]) == []
assert ctypes.CDLL(None).linkat(-100, b'/proc/self/fd/%d' % fd, -100, os.fsencode(sys.argv[1] + '/named'), 0x400) == 0
os.close(fd); assert open(sys.argv[1] + '/named').read() == 'nameless'
`, directory);
    },
  },
  {
    name: 'extended attributes: set, get, list, remove, flags, sizes',
    needs: ['xattr', 'python3'],
    async run(directory) {
      await python(`
import os, sys, errno
f = sys.argv[1] + '/x'; open(f, 'w').close()
def refused(what, want):
    try: what()
    except OSError as e: assert e.errno == want, e
    else: raise AssertionError('allowed')
os.setxattr(f, 'user.a', b'one'); os.setxattr(f, 'user.b', b''); os.setxattr(f, 'user.c', bytes(range(256)) * 8)
assert sorted(os.listxattr(f)) == ['user.a', 'user.b', 'user.c']
assert os.getxattr(f, 'user.a') == b'one' and os.getxattr(f, 'user.b') == b'' and os.getxattr(f, 'user.c') == bytes(range(256)) * 8
refused(lambda: os.setxattr(f, 'user.a', b'x', os.XATTR_CREATE), errno.EEXIST)
refused(lambda: os.setxattr(f, 'user.n', b'x', os.XATTR_REPLACE), errno.ENODATA)
os.removexattr(f, 'user.a'); refused(lambda: os.getxattr(f, 'user.a'), errno.ENODATA)
refused(lambda: os.removexattr(f, 'user.a'), errno.ENODATA)
`, directory);
    },
  },
  {
    name: 'special files: FIFO, socket and device nodes',
    needs: ['root', 'python3'],
    async run(directory) {
      await python(`
import os, stat, sys
d = sys.argv[1]
os.mkfifo(d + '/fifo', 0o644); assert stat.S_ISFIFO(os.stat(d + '/fifo').st_mode)
os.mknod(d + '/null', stat.S_IFCHR | 0o666, os.makedev(1, 3)); s = os.stat(d + '/null')
assert stat.S_ISCHR(s.st_mode) and s.st_rdev == os.makedev(1, 3)
os.mknod(d + '/disk', stat.S_IFBLK | 0o600, os.makedev(259, 70000)); assert os.stat(d + '/disk').st_rdev == os.makedev(259, 70000)
import socket
k = socket.socket(socket.AF_UNIX); os.chdir(d); k.bind('sock'); assert stat.S_ISSOCK(os.stat('sock').st_mode)
`, directory);
    },
  },
  {
    name: 'parallel I/O: 8 writers and readers of their own parts of one file',
    timeout: 60_000,
    async run(directory) {
      const file = path.join(directory, 'p');
      const part = 512 * 1024;
      await fs.writeFile(file, Buffer.alloc(8 * part));
      await Promise.all(Array.from({ length: 8 }, async (_, i) => {
        const handle = await fs.open(file, 'r+');
        const data = pattern(part, i + 10);
        for (let round = 0; round < 3; round++) {
          for (let at = 0; at < part; at += 65_536) await handle.write(data, at, 65_536, i * part + at);
          const back = Buffer.alloc(part);
          await handle.read(back, 0, part, i * part);
          assert.ok(back.equals(data), `part ${i}, round ${round}`);
        }
        await handle.close();
      }));
      const all = await readAll(file);
      for (let i = 0; i < 8; i++) assert.ok(all.subarray(i * part, (i + 1) * part).equals(pattern(part, i + 10)));
    },
  },
  {
    name: 'locks: flock and fcntl between two processes',
    needs: ['python3'],
    async run(directory) {
      await python(`
import fcntl, os, sys
f = sys.argv[1]; open(f, 'w').write('0123456789')
a = open(f, 'r+'); b = open(f, 'r+')
fcntl.flock(a, fcntl.LOCK_EX)
try: fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError: pass
else: raise AssertionError('two exclusive locks')
fcntl.flock(a, fcntl.LOCK_UN); fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
fcntl.lockf(a, fcntl.LOCK_EX, 5, 0)
if os.fork() == 0:
    c = open(f, 'r+')
    try: fcntl.lockf(c, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 3)
    except OSError: pass
    else: os._exit(1)
    fcntl.lockf(c, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 5); os._exit(0)
assert os.wait()[1] == 0
`, path.join(directory, 'l'));
    },
  },
];
