/** This host's files as a `Tree`. Node knows no SEEK_DATA: holes are found as zeros, which a file system delivers at memory speed. */
import { execFile } from 'node:child_process';
import type { BigIntStats } from 'node:fs';
import * as fs from 'node:fs/promises';
import { promisify } from 'node:util';
import { UsageError } from '@lunfs/device';
import { readXattrs, writeXattrs } from './host-xattrs.js';
import type { Entry, Kind, Preserved, Reader, Time, Tree, Writer, Xattr } from './tree.js';

const run = promisify(execFile);
const GRANULE = 4096;

export class HostTree implements Tree {
  readonly granule = GRANULE;

  label(path: Uint8Array): string {
    return Buffer.from(path).toString();
  }

  async entry(path: Uint8Array, follow: boolean): Promise<Entry | undefined> {
    const at = Buffer.from(path);
    try {
      return entryOf(await (follow ? fs.stat(at, { bigint: true }) : fs.lstat(at, { bigint: true })));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  async list(directory: Uint8Array): Promise<Buffer[]> {
    return (await fs.readdir(Buffer.from(directory), { encoding: 'buffer' })).sort((a, b) => Buffer.compare(a, b));
  }

  async readlink(path: Uint8Array): Promise<Uint8Array> {
    return fs.readlink(Buffer.from(path), { encoding: 'buffer' });
  }

  async open(path: Uint8Array): Promise<Reader> {
    const handle = await fs.open(Buffer.from(path), 'r');
    const { size } = await handle.stat();
    return {
      size,
      nextData: async (offset) => (offset < size ? { offset, length: size - offset } : undefined),
      read: async (offset, into) => {
        let done = 0;
        while (done < into.length) {
          const { bytesRead } = await handle.read(into, done, into.length - done, offset + done);
          if (bytesRead === 0) break;
          done += bytesRead;
        }
        return done;
      },
      close: () => handle.close(),
    };
  }

  async create(path: Uint8Array, mode: number): Promise<Writer> {
    const handle = await fs.open(Buffer.from(path), 'w', mode);
    return {
      write: async (offset, bytes) => {
        for (let done = 0; done < bytes.length; ) done += (await handle.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
      },
      setSize: (size) => handle.truncate(size),
      close: () => handle.close(),
    };
  }

  async mkdir(path: Uint8Array, mode: number): Promise<void> {
    await fs.mkdir(Buffer.from(path), { mode });
  }

  symlink(path: Uint8Array, target: Uint8Array): Promise<void> {
    return fs.symlink(Buffer.from(target), Buffer.from(path));
  }

  link(path: Uint8Array, existing: Uint8Array): Promise<void> {
    return fs.link(Buffer.from(existing), Buffer.from(path));
  }

  /** By mknod(1): Node makes no special files. Its arguments are text, so the name must be UTF-8. */
  async special(path: Uint8Array, { kind, major, minor }: Entry, mode: number): Promise<void> {
    const text = Buffer.from(path).toString();
    if (kind === 'socket') throw new UsageError('SOCKET', 'EOPNOTSUPP', `${text}: sockets are not copied out; the program that listens makes its own`, { path: text });
    if (!Buffer.from(text).equals(Buffer.from(path))) throw new UsageError('NAME_NOT_UTF8', 'EINVAL', `${text}: a special file whose name is not UTF-8 cannot be made here`, { path: text });
    const octal = mode.toString(8).padStart(4, '0');
    const device = kind === 'fifo' ? ['p'] : [kind === 'block' ? 'b' : 'c', String(major), String(minor)];
    await run('mknod', ['-m', octal, '--', text, ...device]);
  }

  chmod(path: Uint8Array, mode: number): Promise<void> {
    return fs.chmod(Buffer.from(path), mode);
  }

  async preserve(path: Uint8Array, entry: Entry, what: Preserved): Promise<void> {
    const at = Buffer.from(path);
    let { mode } = entry;
    try {
      if (what.ownership) await fs.lchown(at, entry.uid, entry.gid);
    } catch (error) {
      // As cp -p: who may not give files away keeps them, without the bits that would then mean something else.
      if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error;
      mode &= 0o777;
    }
    if (what.mode && entry.kind !== 'symlink') await fs.chmod(at, mode);
    if (what.timestamps) await fs.lutimes(at, seconds(entry.atime), seconds(entry.mtime));
  }

  xattrs(path: Uint8Array): Promise<Xattr[]> {
    return readXattrs(path);
  }

  setXattrs(path: Uint8Array, xattrs: readonly Xattr[]): Promise<void> {
    return writeXattrs(path, xattrs);
  }
}

/** Node takes times as a floating number: exact to the microsecond. Half a one is added so that cutting does not lose one. */
function seconds({ sec, nsec }: Time): number {
  return sec + (Math.floor(nsec / 1000) + 0.5) / 1e6;
}

function entryOf(stats: BigIntStats): Entry {
  const rdev = stats.rdev;
  return {
    kind: kindOf(stats), mode: Number(stats.mode) & 0o7777, uid: Number(stats.uid), gid: Number(stats.gid), size: Number(stats.size), links: Number(stats.nlink),
    identity: `${stats.dev}:${stats.ino}`,
    // glibc's gnu_dev_major and gnu_dev_minor.
    major: Number(((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n)), minor: Number((rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n)),
    atime: timeOf(stats.atimeNs), mtime: timeOf(stats.mtimeNs),
  };
}

function timeOf(ns: bigint): Time {
  const nsec = ((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  return { sec: Number((ns - nsec) / 1_000_000_000n), nsec: Number(nsec) };
}

function kindOf(stats: BigIntStats): Kind {
  if (stats.isFile()) return 'file';
  if (stats.isDirectory()) return 'directory';
  if (stats.isSymbolicLink()) return 'symlink';
  if (stats.isFIFO()) return 'fifo';
  if (stats.isSocket()) return 'socket';
  return stats.isBlockDevice() ? 'block' : 'char';
}
