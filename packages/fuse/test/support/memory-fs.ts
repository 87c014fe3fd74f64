/**
 * A complete file system behind the FuseHandler port, for tests and the benchmark of the session itself: name space in memory, file
 * data in clusters of a BlockDevice. On a MemoryDevice every request comes here; on a device opened with O_DIRECT files hand out
 * mappings, and the session's workers do the I/O of written clusters themselves.
 *
 * Clusters are thin: allocated by the first write, given back by truncate, punch and the last reference.
 */
import { alignedMemory, FileDevice, Gate, UsageError } from '@lunfs/device';
import type { ErrnoName, FileBackend, MappedRun, MemoryDevice, RangeStatus } from '@lunfs/device';
import type { AddEntry, AttributeChanges, Attributes, AttributesReply, Caller, Created, Entry, FileSystemStatus, FuseHandler, NegativeEntry, OpenDirectory, OpenFile } from '../../src/handler.js';
import { FALLOC, O, RENAME_EXCHANGE, RENAME_NOREPLACE, SEEK_DATA } from '../../src/protocol/constants.js';

const CLUSTER = 65536;
const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const HOLE = -1;

function fail(errno: ErrnoName, what: string): UsageError {
  return new UsageError('MEMORY_FS', errno, what);
}

interface Time { sec: number; nsec: number }

class Inode {
  readonly id: number;
  mode: number;
  uid: number;
  gid: number;
  rdev = 0;
  nlink = 1;
  size = 0;
  opens = 0;
  references = 0;
  atime: Time;
  mtime: Time;
  ctime: Time;
  target: Buffer = Buffer.alloc(0);
  /** Device byte of each cluster, HOLE where there is none. */
  clusters: number[] = [];
  readonly gate = new Gate();
  readonly xattrs = new Map<string, Buffer>();
  /** Directories: name (latin1) to child, with the cookie each entry keeps for life. */
  readonly children = new Map<string, { inode: Inode; cookie: number }>();
  nextCookie = 3;
  parent: Inode | undefined;

  constructor(id: number, mode: number, uid: number, gid: number, now: Time) {
    this.id = id;
    this.mode = mode;
    this.uid = uid;
    this.gid = gid;
    this.atime = this.mtime = this.ctime = now;
  }

  get isDirectory(): boolean { return (this.mode & S_IFMT) === S_IFDIR; }
}

class MemoryFile implements OpenFile {
  readonly inode: Inode;
  readonly backend: FileBackend;
  readonly directIo: boolean;
  readonly keepCache: boolean;
  readonly parallelDirectWrites = true;

  constructor(inode: Inode, backend: FileBackend, directIo: boolean) {
    this.inode = inode;
    this.backend = backend;
    this.directIo = directIo;
    this.keepCache = !directIo;
  }
}

class MemoryDirectory implements OpenDirectory {
  readonly cacheListing = false;
  readonly inode: Inode;
  constructor(inode: Inode) { this.inode = inode; }
}

/** Synchronous calls only: the tests' own calls into the mount may hold every thread of libuv's pool. */
type SyncDevice = FileDevice | MemoryDevice;

export interface MemoryFsOptions {
  /** Open every file with FOPEN_DIRECT_IO. */
  readonly directIo?: boolean;
  /** Seconds for which the kernel may keep names and attributes. Default 1. */
  readonly ttl?: number;
  /** Answer each request later, as a file system with locks and I/O would. */
  readonly slow?: () => Promise<void>;
}

export class MemoryFs implements FuseHandler<MemoryFile, MemoryDirectory> {
  readonly counts = { reads: 0, writes: 0, wrote: 0, released: 0, destroyed: 0 };
  readonly #device: SyncDevice;
  readonly #options: MemoryFsOptions;
  readonly #inodes = new Map<number, Inode>();
  readonly #free: number[] = [];
  #fresh = 0;
  #nextInode = 2;
  readonly #root: Inode;
  /** One cluster to read, change and write: partial writes of a device that takes whole blocks only. */
  readonly #bounce = new Uint8Array(alignedMemory(CLUSTER), 0, CLUSTER);
  #queue: Promise<void> = Promise.resolve();

  constructor(device: SyncDevice, options: MemoryFsOptions = {}) {
    this.#device = device;
    this.#options = options;
    this.#root = new Inode(1, S_IFDIR | 0o755, 0, 0, this.#now());
    this.#root.nlink = 2;
    this.#root.references = 1;
    this.#root.parent = this.#root;
    this.#inodes.set(1, this.#root);
  }

  get inodes(): number { return this.#inodes.size; }

  #now(): Time {
    const ms = Date.now();
    return { sec: Math.floor(ms / 1000), nsec: (ms % 1000) * 1e6 };
  }

  #get(id: number): Inode {
    const inode = this.#inodes.get(id);
    if (inode === undefined) throw fail('ESTALE', `node ${id} is gone`);
    return inode;
  }

  #directory(id: number): Inode {
    const inode = this.#get(id);
    if (!inode.isDirectory) throw fail('ENOTDIR', `node ${id} is no directory`);
    return inode;
  }

  #child(parent: Inode, name: Buffer): Inode {
    const found = parent.children.get(name.toString('latin1'));
    if (found === undefined) throw fail('ENOENT', `no ${name.toString()}`);
    return found.inode;
  }

  #attributes(inode: Inode): Attributes {
    return {
      ino: inode.id, size: inode.isDirectory ? 4096 : inode.size, blocks: inode.clusters.filter((at) => at !== HOLE).length * (CLUSTER / 512),
      atime: inode.atime.sec, atimensec: inode.atime.nsec, mtime: inode.mtime.sec, mtimensec: inode.mtime.nsec, ctime: inode.ctime.sec, ctimensec: inode.ctime.nsec,
      mode: inode.mode, nlink: inode.nlink, uid: inode.uid, gid: inode.gid, rdev: inode.rdev, blksize: 4096,
    };
  }

  #attr(inode: Inode): AttributesReply {
    return { attr: this.#attributes(inode), ttl: this.#options.ttl ?? 1 };
  }

  /** An entry without counting a reference. */
  #peek(inode: Inode): Entry {
    return { ...this.#attr(inode), nodeid: inode.id, generation: 0, entryTtl: this.#options.ttl ?? 1 };
  }

  #entry(inode: Inode): Entry {
    inode.references++;
    return this.#peek(inode);
  }

  async #pause(): Promise<void> {
    await this.#options.slow?.();
  }

  #changed(directory: Inode): void {
    directory.mtime = directory.ctime = this.#now();
  }

  #make(caller: Caller, parent: Inode, mode: number): Inode {
    const setgid = (parent.mode & 0o2000) !== 0;
    const directory = (mode & S_IFMT) === S_IFDIR;
    const inode = new Inode(this.#nextInode++, mode | (setgid && directory ? 0o2000 : 0), caller.uid, setgid ? parent.gid : caller.gid, this.#now());
    this.#inodes.set(inode.id, inode);
    return inode;
  }

  #insert(parent: Inode, name: Buffer, inode: Inode): void {
    parent.children.set(name.toString('latin1'), { inode, cookie: parent.nextCookie++ });
    if (inode.isDirectory) {
      inode.parent = parent;
      parent.nlink++;
    }
    this.#changed(parent);
  }

  #remove(parent: Inode, name: Buffer): void {
    const inode = this.#child(parent, name);
    parent.children.delete(name.toString('latin1'));
    if (inode.isDirectory) parent.nlink--;
    this.#changed(parent);
  }

  #add(caller: Caller, parentId: number, name: Buffer, mode: number): Inode {
    const parent = this.#directory(parentId);
    if (parent.nlink === 0) throw fail('ENOENT', 'the directory was removed');
    if (parent.children.has(name.toString('latin1'))) throw fail('EEXIST', `${name.toString()} exists`);
    const inode = this.#make(caller, parent, mode);
    if (inode.isDirectory) inode.nlink = 2;
    this.#insert(parent, name, inode);
    return inode;
  }

  #dropLink(inode: Inode): void {
    inode.nlink = inode.isDirectory ? 0 : inode.nlink - 1;
    inode.ctime = this.#now();
    void this.#reap(inode);
  }

  async #reap(inode: Inode): Promise<void> {
    if (inode.nlink > 0 || inode.opens > 0 || inode.references > 0 || !this.#inodes.delete(inode.id)) return;
    await inode.gate.recall();
    for (const at of inode.clusters) if (at !== HOLE) this.#free.push(at);
    inode.clusters = [];
  }

  async lookup(_caller: Caller, parent: number, name: Buffer): Promise<Entry | NegativeEntry> {
    await this.#pause();
    const directory = this.#directory(parent);
    const found = directory.children.get(name.toString('latin1'));
    return found === undefined ? { nodeid: 0, entryTtl: this.#options.ttl ?? 1 } : this.#entry(found.inode);
  }

  forget(nodeid: number, count: number): void {
    const inode = this.#inodes.get(nodeid);
    if (inode === undefined) return;
    inode.references -= count;
    if (inode.references < 0) throw new Error(`node ${nodeid} was forgotten more often than it was looked up`);
    void this.#reap(inode);
  }

  getattr(_caller: Caller, nodeid: number): AttributesReply {
    return this.#attr(this.#get(nodeid));
  }

  async setattr(_caller: Caller, nodeid: number, changes: AttributeChanges): Promise<AttributesReply> {
    await this.#pause();
    const inode = this.#get(nodeid);
    const now = this.#now();
    if (changes.size !== undefined) await this.#truncate(inode, changes.size);
    if (changes.mode !== undefined) inode.mode = (inode.mode & S_IFMT) | (changes.mode & 0o7777);
    if (changes.uid !== undefined) inode.uid = changes.uid;
    if (changes.gid !== undefined) inode.gid = changes.gid;
    if (changes.killSuidGid) killSuidGid(inode);
    if (changes.atime !== undefined) inode.atime = changes.atime === 'now' ? now : changes.atime;
    if (changes.mtime !== undefined) inode.mtime = changes.mtime === 'now' ? now : changes.mtime;
    inode.ctime = changes.ctime ?? now;
    return this.#attr(inode);
  }

  readlink(_caller: Caller, nodeid: number): Uint8Array {
    return this.#get(nodeid).target;
  }

  symlink(caller: Caller, parent: number, name: Buffer, target: Buffer): Entry {
    const inode = this.#add(caller, parent, name, S_IFLNK | 0o777);
    inode.target = target;
    inode.size = target.length;
    return this.#entry(inode);
  }

  mknod(caller: Caller, parent: number, name: Buffer, mode: number, rdev: number): Entry {
    const inode = this.#add(caller, parent, name, mode);
    inode.rdev = rdev;
    return this.#entry(inode);
  }

  mkdir(caller: Caller, parent: number, name: Buffer, mode: number): Entry {
    return this.#entry(this.#add(caller, parent, name, S_IFDIR | (mode & 0o7777)));
  }

  async unlink(_caller: Caller, parent: number, name: Buffer): Promise<void> {
    await this.#pause();
    const directory = this.#directory(parent);
    const inode = this.#child(directory, name);
    if (inode.isDirectory) throw fail('EISDIR', 'a directory');
    this.#remove(directory, name);
    this.#dropLink(inode);
  }

  rmdir(_caller: Caller, parent: number, name: Buffer): void {
    const directory = this.#directory(parent);
    const inode = this.#child(directory, name);
    if (!inode.isDirectory) throw fail('ENOTDIR', 'not a directory');
    if (inode.children.size > 0) throw fail('ENOTEMPTY', 'not empty');
    this.#remove(directory, name);
    this.#dropLink(inode);
  }

  rename(_caller: Caller, parentId: number, name: Buffer, newParentId: number, newName: Buffer, flags: number): void {
    const parent = this.#directory(parentId);
    const newParent = this.#directory(newParentId);
    const inode = this.#child(parent, name);
    const target = newParent.children.get(newName.toString('latin1'))?.inode;
    if ((flags & RENAME_NOREPLACE) !== 0 && target !== undefined) throw fail('EEXIST', 'the target exists');
    for (let up: Inode | undefined = newParent; up !== undefined && up !== this.#root; up = up.parent) {
      if (up === inode) throw fail('EINVAL', 'into itself');
    }
    if ((flags & RENAME_EXCHANGE) !== 0) {
      if (target === undefined) throw fail('ENOENT', 'no target to exchange with');
      this.#remove(parent, name);
      this.#remove(newParent, newName);
      this.#insert(parent, name, target);
      this.#insert(newParent, newName, inode);
      inode.ctime = target.ctime = this.#now();
      return;
    }
    if (target === inode) return;
    if (target !== undefined) {
      if (target.isDirectory && !inode.isDirectory) throw fail('EISDIR', 'the target is a directory');
      if (!target.isDirectory && inode.isDirectory) throw fail('ENOTDIR', 'the target is no directory');
      if (target.children.size > 0) throw fail('ENOTEMPTY', 'the target is not empty');
      this.#remove(newParent, newName);
      this.#dropLink(target);
    }
    this.#remove(parent, name);
    this.#insert(newParent, newName, inode);
    inode.ctime = this.#now();
  }

  link(_caller: Caller, nodeid: number, newParent: number, newName: Buffer): Entry {
    const inode = this.#get(nodeid);
    const directory = this.#directory(newParent);
    if (inode.isDirectory) throw fail('EPERM', 'a directory');
    if (directory.children.has(newName.toString('latin1'))) throw fail('EEXIST', 'the name exists');
    inode.nlink++;
    inode.ctime = this.#now();
    this.#insert(directory, newName, inode);
    return this.#entry(inode);
  }

  #open(inode: Inode): MemoryFile {
    inode.opens++;
    return new MemoryFile(inode, this.#backend(inode), this.#options.directIo ?? false);
  }

  async open(_caller: Caller, nodeid: number, flags: number, kill: boolean): Promise<MemoryFile> {
    await this.#pause();
    const inode = this.#get(nodeid);
    if ((flags & O.TRUNC) !== 0) {
      await this.#truncate(inode, 0);
      if (kill) killSuidGid(inode);
    }
    return this.#open(inode);
  }

  create(caller: Caller, parent: number, name: Buffer, mode: number, flags: number): Created<MemoryFile> {
    const directory = this.#directory(parent);
    const found = directory.children.get(name.toString('latin1'))?.inode;
    if (found !== undefined && (flags & O.EXCL) !== 0) throw fail('EEXIST', 'the name exists');
    const inode = found ?? this.#add(caller, parent, name, S_IFREG | (mode & 0o7777));
    return { ...this.#entry(inode), file: this.#open(inode) };
  }

  tmpfile(caller: Caller, parent: number, mode: number): Created<MemoryFile> {
    const inode = this.#make(caller, this.#directory(parent), S_IFREG | (mode & 0o7777));
    inode.nlink = 0;
    return { ...this.#entry(inode), file: this.#open(inode) };
  }

  async read(_caller: Caller, file: MemoryFile, offset: number, into: Uint8Array): Promise<number> {
    this.counts.reads++;
    await this.#pause();
    const count = Math.max(0, Math.min(into.length, file.inode.size - offset));
    if (count > 0) await this.#serial(() => this.#readRange(file.inode, offset, into.subarray(0, count)));
    file.inode.atime = this.#now();
    return count;
  }

  async write(_caller: Caller, file: MemoryFile, offset: number, from: Uint8Array, how: { killSuidGid: boolean }): Promise<number> {
    this.counts.writes++;
    await this.#pause();
    const { inode } = file;
    if (how.killSuidGid) killSuidGid(inode);
    await this.#serial(() => this.#writeRange(inode, offset, from));
    inode.size = Math.max(inode.size, offset + from.length);
    inode.mtime = inode.ctime = this.#now();
    return from.length;
  }

  wrote(file: MemoryFile): void {
    this.counts.wrote++;
    file.inode.mtime = file.inode.ctime = this.#now();
  }

  release(_caller: Caller, file: MemoryFile): void {
    this.counts.released++;
    file.inode.opens--;
    void this.#reap(file.inode);
  }

  async fsync(): Promise<void> {
    if (this.#device instanceof FileDevice) this.#device.flushSync();
  }

  async fallocate(_caller: Caller, file: MemoryFile, mode: number, offset: number, length: number): Promise<void> {
    const { inode } = file;
    const keep = (mode & FALLOC.KEEP_SIZE) !== 0;
    const kind = mode & ~FALLOC.KEEP_SIZE;
    if (kind === FALLOC.PUNCH_HOLE || kind === FALLOC.ZERO_RANGE) await this.#zero(inode, offset, length);
    else if (kind !== 0) throw fail('EOPNOTSUPP', `fallocate mode ${mode}`);
    if (!keep && offset + length > inode.size) inode.size = offset + length;
    inode.mtime = inode.ctime = this.#now();
  }

  lseek(_caller: Caller, file: MemoryFile, offset: number, whence: number): number {
    const { inode } = file;
    if (offset >= inode.size) throw fail('ENXIO', 'past the end');
    for (let c = Math.floor(offset / CLUSTER); c * CLUSTER < inode.size; c++) {
      const hole = (inode.clusters[c] ?? HOLE) === HOLE;
      if (hole === (whence !== SEEK_DATA)) return Math.max(offset, c * CLUSTER);
    }
    if (whence === SEEK_DATA) throw fail('ENXIO', 'no data behind');
    return inode.size;
  }

  opendir(_caller: Caller, nodeid: number): MemoryDirectory {
    return new MemoryDirectory(this.#directory(nodeid));
  }

  readdir(_caller: Caller, directory: MemoryDirectory, offset: number, plus: boolean, add: AddEntry): void {
    const { inode } = directory;
    if (offset < 1 && !add({ name: Buffer.from('.'), ino: inode.id, type: 4, next: 1 })) return;
    if (offset < 2 && !add({ name: Buffer.from('..'), ino: inode.parent?.id ?? 1, type: 4, next: 2 })) return;
    for (const [name, { inode: child, cookie }] of inode.children) {
      if (cookie <= offset) continue;
      const taken = add({ name: Buffer.from(name, 'latin1'), ino: child.id, type: child.mode >> 12, next: cookie, entry: plus ? this.#peek(child) : undefined });
      if (!taken) return;
      if (plus) child.references++;
    }
  }

  releasedir(): void {
    this.counts.released++;
  }

  fsyncdir(): void {}

  statfs(): FileSystemStatus {
    const blocks = Math.floor(this.#device.size / 4096);
    const used = ((this.#fresh - this.#free.length * CLUSTER) / 4096);
    return { blocks, bfree: blocks - used, bavail: blocks - used, files: 1e6, ffree: 1e6 - this.#inodes.size, bsize: 4096, frsize: 4096, namelen: 255 };
  }

  getxattr(_caller: Caller, nodeid: number, name: Buffer): Uint8Array {
    const value = this.#get(nodeid).xattrs.get(name.toString('latin1'));
    if (value === undefined) throw fail('ENODATA', 'no such attribute');
    return value;
  }

  setxattr(_caller: Caller, nodeid: number, name: Buffer, value: Buffer, flags: number): void {
    const { xattrs } = this.#get(nodeid);
    const key = name.toString('latin1');
    if (flags === 1 && xattrs.has(key)) throw fail('EEXIST', 'the attribute exists');
    if (flags === 2 && !xattrs.has(key)) throw fail('ENODATA', 'no such attribute');
    xattrs.set(key, value);
  }

  listxattr(_caller: Caller, nodeid: number): Uint8Array[] {
    return [...this.#get(nodeid).xattrs.keys()].map((name) => Buffer.from(name, 'latin1'));
  }

  removexattr(_caller: Caller, nodeid: number, name: Buffer): void {
    if (!this.#get(nodeid).xattrs.delete(name.toString('latin1'))) throw fail('ENODATA', 'no such attribute');
  }

  destroy(): void {
    this.counts.destroyed++;
  }

  /** What another node of a cluster would do: change data that this mount's kernel may have cached. */
  async changeBehindKernel(ino: number, data: Uint8Array): Promise<void> {
    await this.#serial(() => this.#writeRange(this.#get(ino), 0, data));
  }

  removeBehindKernel(name: string): void {
    const inode = this.#child(this.#root, Buffer.from(name));
    this.#remove(this.#root, Buffer.from(name));
    this.#dropLink(inode);
  }

  /** One change of data at a time: they share a bounce buffer. */
  async #serial<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#queue;
    let done!: () => void;
    this.#queue = new Promise((resolve) => { done = resolve; });
    await before;
    try {
      return await work();
    } finally {
      done();
    }
  }

  #allocate(): number {
    const reused = this.#free.pop();
    if (reused !== undefined) return reused;
    if (this.#fresh + CLUSTER > this.#device.size) throw fail('ENOSPC', 'the device is full');
    this.#fresh += CLUSTER;
    return this.#fresh - CLUSTER;
  }

  async #readRange(inode: Inode, offset: number, into: Uint8Array): Promise<void> {
    for (let done = 0; done < into.length; ) {
      const at = offset + done;
      const within = at % CLUSTER;
      const length = Math.min(CLUSTER - within, into.length - done);
      const device = inode.clusters[(at - within) / CLUSTER] ?? HOLE;
      const part = into.subarray(done, done + length);
      if (device === HOLE) part.fill(0);
      else if (((within | length) & 4095) === 0) this.#device.readSync(device + within, part);
      else {
        this.#device.readSync(device, this.#bounce);
        part.set(this.#bounce.subarray(within, within + length));
      }
      done += length;
    }
  }

  async #writeRange(inode: Inode, offset: number, from: Uint8Array): Promise<void> {
    for (let done = 0; done < from.length; ) {
      const at = offset + done;
      const within = at % CLUSTER;
      const length = Math.min(CLUSTER - within, from.length - done);
      const index = (at - within) / CLUSTER;
      const part = from.subarray(done, done + length);
      while (inode.clusters.length <= index) inode.clusters.push(HOLE);
      const old = inode.clusters[index];
      const device = old === HOLE ? this.#allocate() : old;
      if (old !== HOLE && ((within | length) & 4095) === 0) this.#device.writeSync(device + within, part);
      else {
        if (old === HOLE) this.#bounce.fill(0);
        else this.#device.readSync(device, this.#bounce);
        this.#bounce.set(part, within);
        this.#device.writeSync(device, this.#bounce);
      }
      inode.clusters[index] = device; // after the data: a mapping must never show what lay there before
      done += length;
    }
  }

  /** Whole clusters leave the file first, then their mappings are recalled, then others may use them. */
  async #zero(inode: Inode, offset: number, length: number): Promise<void> {
    const freed: number[] = [];
    await this.#serial(async () => {
      const end = Math.min(offset + length, inode.clusters.length * CLUSTER);
      for (let at = offset; at < end; ) {
        const within = at % CLUSTER;
        const part = Math.min(CLUSTER - within, end - at);
        const index = (at - within) / CLUSTER;
        if (inode.clusters[index] !== HOLE) {
          if (part === CLUSTER) {
            freed.push(inode.clusters[index]);
            inode.clusters[index] = HOLE;
          } else await this.#writeRange(inode, at, Buffer.alloc(part));
        }
        at += part;
      }
    });
    await inode.gate.recall();
    this.#free.push(...freed);
  }

  async #truncate(inode: Inode, size: number): Promise<void> {
    if (size < inode.size) {
      const old = inode.size;
      inode.size = size;
      await this.#zero(inode, size, Math.max(old, inode.clusters.length * CLUSTER) - size);
      inode.clusters.length = Math.min(inode.clusters.length, Math.ceil(size / CLUSTER));
    }
    inode.size = size;
    inode.mtime = inode.ctime = this.#now();
  }

  #backend(inode: Inode): FileBackend {
    const device = this.#device;
    return {
      get size() { return inode.size; },
      readOnly: false,
      direct: device instanceof FileDevice && device.direct ? { fd: device.fd, alignment: 4096, gate: inode.gate } : undefined,
      map: async (offset, length, _write, limit) => {
        const runs: MappedRun[] = [];
        const { epoch } = inode.gate;
        for (let c = Math.floor(offset / CLUSTER); c < inode.clusters.length && c * CLUSTER < offset + length; c++) {
          const at = inode.clusters[c];
          if (at === HOLE) continue;
          const last = runs.at(-1);
          if (last !== undefined && last.offset + last.length === c * CLUSTER && last.device + last.length === at) last.length += CLUSTER;
          else if (runs.length === limit) break;
          else runs.push({ offset: c * CLUSTER, length: CLUSTER, device: at });
        }
        return { epoch, runs };
      },
      read: (offset, into) => this.#serial(() => this.#readRange(inode, offset, into)),
      write: (offset, from) => this.#serial(() => this.#writeRange(inode, offset, from)),
      flush: async () => { if (device instanceof FileDevice) device.flushSync(); },
      trim: (offset, length) => this.#zero(inode, offset, length),
      writeZeroes: (offset, length) => this.#zero(inode, offset, length),
      status: async (offset, length): Promise<RangeStatus[]> => [{ offset, length, kind: 'data' }],
      close: async () => {},
    };
  }
}

/** What chown, truncate and write take away (Linux fs/inode.c:should_remove_suid). */
function killSuidGid(inode: Inode): void {
  inode.mode &= ~0o4000;
  if ((inode.mode & 0o0010) !== 0) inode.mode &= ~0o2000;
}
