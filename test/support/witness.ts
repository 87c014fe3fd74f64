/**
 * A LUN that writes down every write it gets: when it came, from which task, where, and how it begins. One file per host, all over the
 * same bytes, each a file of a FUSE file system served by the test itself, beside and independent of what it watches. Nothing is cached on
 * the way: hosts open their file with O_DIRECT, and the log has the write before it is done. A host's path to it can be cut: then its
 * requests hang, as those of a path without an end, until it is healed.
 */
import * as fs from 'node:fs';
import path from 'node:path';
import { IoError, UsageError, monotonicMs } from '@lunfs/device';
import { type Attributes, type AttributesReply, type Caller, type Entry, type FuseHandler, type NegativeEntry, type OpenDirectory, type OpenFile, mountFuse } from '@lunfs/fuse';
import { type Cleanup, tempDir } from './temp.js';

export interface Write {
  /** Monotonic milliseconds at which it arrived. */
  readonly at: number;
  readonly host: string;
  /** The task (thread) that wrote. */
  readonly task: number;
  readonly offset: number;
  readonly length: number;
  /** The first 32 bytes. */
  readonly begins: Buffer;
  /** It came while the host's path was cut: it was not done. */
  readonly held: boolean;
}

/** Which requests of a host hang. */
export type Cut = 'reads' | 'writes' | 'all';

interface Path {
  cut?: Cut;
  /** Ends what hangs. */
  release: (() => void)[];
}

interface LunFile extends OpenFile {
  readonly host: string;
}

const FIRST_NODE = 2;

class WitnessFs implements FuseHandler<LunFile, OpenDirectory> {
  readonly log: Write[] = [];
  readonly #fd: number;
  readonly #size: number;
  readonly #paths = new Map<string, Path>();

  constructor(image: string, private readonly hosts: readonly string[]) {
    this.#fd = fs.openSync(image, 'r+');
    this.#size = fs.fstatSync(this.#fd).size;
  }

  lookup(_caller: Caller, _parent: number, name: Buffer): Entry | NegativeEntry {
    const at = this.hosts.indexOf(name.toString());
    return at < 0 ? { nodeid: 0, entryTtl: 0 } : { ...this.#attributes(FIRST_NODE + at), nodeid: FIRST_NODE + at, generation: 1, entryTtl: 3600 };
  }

  forget(): void {}

  getattr(_caller: Caller, nodeid: number): AttributesReply {
    return this.#attributes(nodeid);
  }

  setattr(_caller: Caller, nodeid: number): AttributesReply {
    return this.#attributes(nodeid);
  }

  open(_caller: Caller, nodeid: number): LunFile {
    return { host: this.hosts[nodeid - FIRST_NODE], directIo: true, parallelDirectWrites: true };
  }

  cut(host: string, what: Cut): void {
    this.#path(host).cut = what;
  }

  heal(host: string): void {
    const path = this.#path(host);
    path.cut = undefined;
    for (const release of path.release.splice(0)) release();
  }

  #path(host: string): Path {
    const path = this.#paths.get(host) ?? { release: [] };
    this.#paths.set(host, path);
    return path;
  }

  /** It hangs until the path is healed, and fails then: whatever had it on the way has given it up. */
  #hang(host: string): Promise<never> {
    return new Promise((_, reject) => {
      this.#path(host).release.push(() => reject(new IoError('WITNESS_CUT', 'the path to the LUN was cut')));
    });
  }

  read(_caller: Caller, { host }: LunFile, offset: number, into: Uint8Array): number | Promise<number> {
    const { cut } = this.#path(host);
    if (cut === 'reads' || cut === 'all') return this.#hang(host);
    return fs.readSync(this.#fd, into, 0, Math.min(into.length, Math.max(0, this.#size - offset)), offset);
  }

  write({ pid }: Caller, { host }: LunFile, offset: number, from: Uint8Array): number | Promise<number> {
    const { cut } = this.#path(host);
    const held = cut === 'writes' || cut === 'all';
    this.log.push({ at: monotonicMs(), host, task: pid, offset, length: from.length, begins: Buffer.from(from.subarray(0, 32)), held });
    if (held) return this.#hang(host);
    return fs.writeSync(this.#fd, from, 0, from.length, offset);
  }

  wrote(): void {}
  release(): void {}
  fsync(): void {}
  opendir(): OpenDirectory {
    return {};
  }
  readdir(): void {}
  releasedir(): void {}
  fsyncdir(): void {}

  statfs(): never {
    return refuse();
  }
  readlink = refuse;
  symlink = refuse;
  mknod = refuse;
  mkdir = refuse;
  unlink = refuse;
  rmdir = refuse;
  rename = refuse;
  link = refuse;
  create = refuse;

  destroy(): void {
    fs.closeSync(this.#fd);
  }

  #attributes(nodeid: number): AttributesReply {
    const file = nodeid >= FIRST_NODE;
    const attr: Attributes = {
      ino: nodeid, size: file ? this.#size : 0, blocks: file ? this.#size / 512 : 0, atime: 0, atimensec: 0, mtime: 0, mtimensec: 0, ctime: 0, ctimensec: 0, mode: file ? 0o100600 : 0o40755,
      nlink: 1, uid: 0, gid: 0, rdev: 0, blksize: 4096,
    };
    return { attr, ttl: 3600 };
  }
}

function refuse(): never {
  throw new UsageError('WITNESS', 'EOPNOTSUPP', 'the witness has files and nothing else');
}

export interface Witness {
  /** In the order of arrival; grows. */
  readonly log: readonly Write[];
  /** The LUN as a host sees it. */
  device(host: string): string;
  /** From now on these requests of the host hang. */
  cut(host: string, what: Cut): void;
  /** They are done again; those that hang fail with EIO, undone. */
  heal(host: string): void;
}

/** Serve an image to hosts. It must not be used otherwise until the clean-up, which comes after that of its users. */
export async function witness(cleanup: Cleanup, image: string, hosts: readonly string[]): Promise<Witness> {
  const directory = tempDir(cleanup, 'witness');
  const served = new WitnessFs(image, hosts);
  const mount = await mountFuse(served, { directory, source: 'witness', subtype: 'witness', workers: 1 });
  cleanup.add(() => mount.close(0));
  // Nobody ends while a request of his hangs.
  cleanup.add(() => {
    for (const host of hosts) served.heal(host);
  });
  return {
    log: served.log, device: (host) => path.join(directory, host),
    cut: (host, what) => served.cut(host, what), heal: (host) => served.heal(host),
  };
}
