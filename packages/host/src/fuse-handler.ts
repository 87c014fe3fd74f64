/**
 * A mounted volume behind the FUSE port. Names and attributes are the engine's `Namespace`; data of open files is done by the session's
 * workers where mappings allow it, else here.
 *
 * Invariants
 *  - A node id is the inode's block number (the root: 1). Each entry replied holds one reference in the engine; `forget` gives it
 *    back, `destroy` all that are left: the kernel forgets nothing when a mount goes.
 *  - An open file holds its inode in the `FileTable`; the kernel holds a reference besides, as long as the file is open.
 *  - Every change of the volume goes through this process, so the kernel may cache names and attributes for long; what changes by
 *    another way than the mount is invalidated by whoever changes it (file-table.ts, host-volume.ts). Exported files get no time at all,
 *    nor do those of a volume that other nodes change, too: each use asks us, who hold the cluster's lock or get it. There read and write
 *    pass the page cache; mappings do not, and their pages are tied to the cluster's lock (`page-io.ts` of the engine has the argument).
 *  - With `writeback` the kernel answers write(2) itself and keeps size, mtime and ctime of files it knows: what we say of them it ignores. So nothing but the
 *    mount may change files then (host-volume.ts refuses exports, new sizes of disks and volumes of other nodes), and holes are not told: LSEEK has no
 *    answer that reckons with pages which wait in the kernel; without one Linux takes all of a file for data (Linux 6.1 fs/fuse/file.c:fuse_lseek).
 *  - A write is durable at fsync, as POSIX has it. A write to a file opened with O_DIRECT, as QEMU does, survives in addition the death
 *    of this process before it is acknowledged (docs/design.md, section 2).
 */
import { LunfsError, UsageError } from '@lunfs/device';
import {
  type AddEntry, type AttributeChanges, type AttributesReply, type Caller, type Created, type DirectoryEntry, type Entry, FALLOC, type FileSystemStatus, type FuseHandler,
  type NegativeEntry, O, type OpenDirectory, type OpenFile, RENAME_EXCHANGE, RENAME_NOREPLACE, SEEK_DATA,
} from '@lunfs/fuse';
import {
  type Attributes, EX, type FallocateMode, type Flocks, PR, type Volume, fallocate, flushTimes, noteInPlaceWrite, openWritable, pageRead, pageWrite, readFile, seekData, seekHole,
  shareRange, truncateFile, whilePagesMayGo, writeFile,
} from '@lunfs/ocfs2';
import type { FileTable, OpenedFile } from './file-table.js';
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, direntType, fuseAttributes, inodeOf, nodeOf, withoutSuid } from './fuse-attributes.js';
import { Xattrs } from './fuse-xattrs.js';

/** Seconds the kernel may keep names and attributes: nothing changes behind its back. */
const LONG = 86_400;
/** open(2)'s O_DIRECT by architecture (arch/arm64/include/uapi/asm/fcntl.h; asm-generic elsewhere). */
const O_DIRECT = process.arch === 'arm64' ? 0o200000 : 0o40000;
/** ioctl(2) requests of chattr and lsattr (include/uapi/linux/fs.h), 64 and 32 bit. */
const GETFLAGS = [0x80086601, 0x80046601];
const SETFLAGS = [0x40086602, 0x40046602];
const FLAG_IMMUTABLE = 0x10;
const FLAG_APPEND = 0x20;
/** Bytes that one copy_file_range shares at most: other requests of the file wait for it. */
const MOST_SHARED = 2 ** 30;
/** Entries asked of a directory at a time: what fits a reply of 32 KiB, with attributes and without. */
const ENTRIES_PLUS = 192;
const ENTRIES = 1000;

/** An open file of the mount. */
export interface MountedFile extends OpenFile {
  readonly opened: OpenedFile;
  readonly ino: number;
  /** Writes survive our death. */
  readonly survives: boolean;
  /** Ends what lets pages be changed by mappings. */
  readonly unmapped?: () => void;
}

export interface MountedDirectory extends OpenDirectory {
  readonly ino: number;
}

export interface HandlerOptions {
  /** Other nodes change the volume, too: the kernel keeps no names and attributes, and pages of open files for mappings only. */
  readonly shared?: boolean;
  /** Writes wait in the kernel's page cache for close, fsync or its writeback (MountSpec.writeback). */
  readonly writeback?: boolean;
}

export class VolumeHandler implements FuseHandler<MountedFile, MountedDirectory> {
  readonly #xattrs: Xattrs;
  readonly #shared: boolean;
  readonly #long: number;
  /** flock(2) for the whole cluster; where the volume is this host's alone the kernel does it. */
  readonly flock?: FuseHandler<MountedFile, MountedDirectory>['flock'];
  readonly lseek?: FuseHandler<MountedFile, MountedDirectory>['lseek'];
  readonly writeback: boolean;
  readonly #flockOwners = new WeakMap<MountedFile, bigint>();
  /** References the kernel holds, by inode. */
  readonly #held = new Map<number, number>();
  /** Work that no request waits for: wiping, late times. */
  readonly #background = new Set<Promise<void>>();

  constructor(private readonly volume: Volume, private readonly files: FileTable, private readonly report: (error: unknown, what: string) => void, { shared = false, writeback = false }: HandlerOptions = {}) {
    this.#shared = shared;
    this.writeback = writeback;
    this.#long = shared ? 0 : LONG;
    const { flocks } = volume;
    if (flocks !== undefined) this.flock = (caller, file, owner, type, wait) => this.#lockFile(flocks, caller, file, owner, type, wait);
    if (!writeback) this.lseek = (_caller, file, offset, whence) => (whence === SEEK_DATA ? seekData : seekHole)(volume.ctx, file.ino, offset);
    this.#xattrs = new Xattrs(volume);
  }

  /**
   * The cluster's locks are waited for by read-ahead and asynchronous I/O of all files; the kernel sends write-back, without which a lock is not given
   * up, behind as many of these as this at most. So it is far more than there ever are.
   */
  get background(): number | undefined {
    return this.#shared ? 4096 : undefined;
  }

  get acl(): boolean {
    return this.volume.geo.xattr;
  }

  async lookup(_caller: Caller, parent: number, name: Buffer): Promise<Entry | NegativeEntry> {
    const found = await this.volume.names.find(this.#ino(parent), name);
    return found === undefined ? { nodeid: 0, entryTtl: this.#long } : this.#entry(found);
  }

  forget(nodeid: number, count: number): void {
    const ino = this.#ino(nodeid);
    const left = (this.#held.get(ino) ?? 0) - count;
    if (left > 0) this.#held.set(ino, left);
    else this.#held.delete(ino);
    this.#later(this.volume.names.forget(ino, count), 'forget');
  }

  async getattr(_caller: Caller, nodeid: number): Promise<AttributesReply> {
    return this.#attributes(await this.volume.names.attributes(this.#ino(nodeid)));
  }

  async setattr(_caller: Caller, nodeid: number, changes: AttributeChanges): Promise<AttributesReply> {
    const ino = this.#ino(nodeid);
    const { size } = changes;
    // The kernel writes nothing back of the file before it has this answer.
    return this.#shared && size !== undefined ? whilePagesMayGo(this.volume.ctx, ino, size, () => this.#change(ino, changes)) : this.#change(ino, changes);
  }

  async #change(ino: number, changes: AttributeChanges): Promise<AttributesReply> {
    const { names } = this.volume;
    const { size, uid, gid, atime, mtime, ctime, killSuidGid } = changes;
    let { mode } = changes;
    if (size !== undefined || uid !== undefined || gid !== undefined) await names.dropCapability(ino);
    if (size !== undefined) await this.#resize(ino, size);
    if (killSuidGid) {
      const now = mode ?? (await names.attributes(ino)).mode;
      if (withoutSuid(now) !== now) mode = withoutSuid(now);
    }
    if (mode === undefined && uid === undefined && gid === undefined && atime === undefined && mtime === undefined && ctime === undefined) return this.#attributes(await names.attributes(ino));
    return this.#attributes(await names.change(ino, { mode, uid, gid, atime, mtime, ctime }));
  }

  readlink(_caller: Caller, nodeid: number): Promise<Uint8Array> {
    return this.volume.names.readlink(this.#ino(nodeid));
  }

  async symlink(caller: Caller, parent: number, name: Buffer, target: Buffer): Promise<Entry> {
    return this.#entry(await this.volume.names.create(this.#ino(parent), name, { mode: S_IFLNK | 0o777, uid: caller.uid, gid: caller.gid, target }));
  }

  async mknod(caller: Caller, parent: number, name: Buffer, mode: number, rdev: number, umask: number): Promise<Entry> {
    return this.#entry(await this.volume.names.create(this.#ino(parent), name, { mode, umask, uid: caller.uid, gid: caller.gid, rdev }));
  }

  mkdir(caller: Caller, parent: number, name: Buffer, mode: number, umask: number): Promise<Entry> {
    return this.mknod(caller, parent, name, S_IFDIR | (mode & 0o7777), 0, umask);
  }

  unlink(_caller: Caller, parent: number, name: Buffer): Promise<void> {
    return this.volume.names.unlink(this.#ino(parent), name);
  }

  rmdir(_caller: Caller, parent: number, name: Buffer): Promise<void> {
    return this.volume.names.rmdir(this.#ino(parent), name);
  }

  async rename(_caller: Caller, parent: number, name: Buffer, newParent: number, newName: Buffer, flags: number): Promise<void> {
    if ((flags & RENAME_EXCHANGE) !== 0) {
      throw new UsageError('RENAME_EXCHANGE', 'EINVAL', `${this.volume.geo.device}: OCFS2 cannot exchange two names; rename one after the other`);
    }
    await this.volume.names.rename({ oldDir: this.#ino(parent), oldName: name, newDir: this.#ino(newParent), newName, noReplace: (flags & RENAME_NOREPLACE) !== 0 });
  }

  async link(_caller: Caller, nodeid: number, newParent: number, newName: Buffer): Promise<Entry> {
    return this.#entry(await this.volume.names.link(this.#ino(nodeid), this.#ino(newParent), newName));
  }

  async open(_caller: Caller, nodeid: number, flags: number, killSuidGid: boolean): Promise<MountedFile> {
    const ino = this.#ino(nodeid);
    const { names } = this.volume;
    const { mode, flags: attr } = await names.attributes(ino);
    if ((mode & S_IFMT) !== S_IFREG) throw new UsageError('NOT_A_FILE', (mode & S_IFMT) === S_IFDIR ? 'EISDIR' : 'EINVAL', `${this.volume.geo.device}: inode ${ino} is not a regular file`, { inode: ino });
    const writes = (flags & O.ACCMODE) !== O.RDONLY;
    const truncates = (flags & O.TRUNC) !== 0;
    const forbidden = (attr & FLAG_IMMUTABLE) !== 0 ? writes || truncates : (attr & FLAG_APPEND) !== 0 && (truncates || (writes && (flags & O.APPEND) === 0));
    if (forbidden) throw this.#forbidden(ino, attr);
    // Workers write without asking: what a write takes away goes when the file is opened for it.
    if (writes || truncates) await names.dropCapability(ino);
    const file = await this.#open(ino, flags);
    if (truncates) {
      try {
        await this.#resize(ino, 0);
        if (killSuidGid) await this.#dropSuid(ino);
      } catch (error) {
        file.unmapped?.();
        await file.opened.close();
        throw error;
      }
    }
    return file;
  }

  async create(caller: Caller, parent: number, name: Buffer, mode: number, flags: number, umask: number): Promise<Created<MountedFile>> {
    const dir = this.#ino(parent);
    const { names } = this.volume;
    for (;;) {
      try {
        const made = await names.create(dir, name, { mode: S_IFREG | (mode & 0o7777), umask, uid: caller.uid, gid: caller.gid });
        return await this.#created(made, () => this.#open(made.blkno, flags));
      } catch (error) {
        if (!(error instanceof LunfsError) || error.code !== 'EXISTS' || (flags & O.EXCL) !== 0) throw error;
      }
      // Somebody else was faster: then it is a plain open, unless the name has gone again meanwhile.
      const found = await this.lookup(caller, parent, name);
      if (found.nodeid === 0) continue;
      try {
        return { ...(found as Entry), file: await this.open(caller, found.nodeid, flags, false) };
      } catch (error) {
        this.forget(found.nodeid, 1);
        throw error;
      }
    }
  }

  read(_caller: Caller, file: MountedFile, offset: number, into: Uint8Array): Promise<number> {
    return (this.#shared ? pageRead : readFile)(this.volume.ctx, file.ino, offset, into);
  }

  async write(_caller: Caller, file: MountedFile, offset: number, from: Uint8Array, how: { readonly killSuidGid: boolean; readonly cached: boolean; readonly append: boolean }): Promise<number> {
    const { ctx } = this.volume;
    if (how.killSuidGid) await this.#dropSuid(file.ino);
    // Who did not ask for O_DIRECT is promised nothing before fsync: new clusters get their data behind the answer.
    // Only the cluster's lock tells where a file ends: another node may have appended since our kernel asked.
    const at = this.#shared && how.append && !how.cached ? 'append' : offset;
    if (this.#shared && how.cached) await pageWrite(ctx, file.ino, offset, from);
    else await writeFile(ctx, file.ino, at, from, { behind: !file.survives });
    if (file.survives) await ctx.engine.log.commit({ durable: false });
    return from.length;
  }

  wrote(file: MountedFile): void {
    this.#later(noteInPlaceWrite(this.volume.ctx, file.ino), 'write times');
  }

  async release(_caller: Caller, file: MountedFile): Promise<void> {
    const owner = this.#flockOwners.get(file);
    if (owner !== undefined) await this.volume.flocks?.close(file.ino, owner);
    file.unmapped?.();
    await file.opened.close();
    await flushTimes(this.volume.ctx, file.ino);
  }

  async fsync(_caller: Caller, file: MountedFile, dataOnly: boolean): Promise<void> {
    if (!dataOnly) await flushTimes(this.volume.ctx, file.ino);
    await this.#commit();
  }

  async fallocate(_caller: Caller, file: MountedFile, mode: number, offset: number, length: number): Promise<void> {
    const keepSize = (mode & FALLOC.KEEP_SIZE) !== 0;
    const kind = FALLOCATE[mode & ~FALLOC.KEEP_SIZE];
    if (kind === undefined) throw new UsageError('FALLOCATE_MODE', 'EOPNOTSUPP', `${this.volume.geo.device}: fallocate mode ${mode} does not exist on OCFS2`, { mode });
    await fallocate(this.volume.ctx, file.ino, kind, offset, length, keepSize);
    if (file.survives) await this.volume.ctx.engine.log.commit({ durable: false });
  }

  /**
   * Whole clusters are shared; a part of one at the beginning or the end is copied, in a call of its own (calls may do less than
   * they were asked for). What cannot be shared the kernel copies by read and write. It has written back what it cached of both ranges.
   */
  async copyFileRange(_caller: Caller, from: MountedFile, fromOffset: number, to: MountedFile, toOffset: number, length: number): Promise<number> {
    const { ctx, names, geo } = this.volume;
    const { clusterSize } = geo;
    const left = Math.min(length, MOST_SHARED, (await names.attributes(from.ino)).size - fromOffset);
    if (left <= 0) return 0;
    const part = fromOffset % clusterSize;
    if (!geo.refcount || from.ino === to.ino || part !== toOffset % clusterSize) throw this.#notShared(to.ino);
    if (part !== 0) return this.#copyPart(from.ino, fromOffset, to, toOffset, Math.min(left, clusterSize - part));
    const whole = left - (left % clusterSize);
    for (const count of whole === left ? [left] : [left, whole]) {
      if (count > 0 && (await shareRange(ctx, { source: from.ino, from: fromOffset, target: to.ino, to: toOffset, length: count }))) {
        if (to.survives) await ctx.engine.log.commit({ durable: false });
        return count;
      }
    }
    if (whole > 0) throw this.#notShared(to.ino);
    return this.#copyPart(from.ino, fromOffset, to, toOffset, left);
  }

  opendir(_caller: Caller, nodeid: number): MountedDirectory {
    // The kernel drops its copy of a listing when the mount changes the directory; of other nodes' changes it would not know.
    return { ino: this.#ino(nodeid), cacheListing: !this.#shared, keepCache: !this.#shared };
  }

  async readdir(_caller: Caller, directory: MountedDirectory, offset: number, plus: boolean, add: AddEntry): Promise<void> {
    const { names } = this.volume;
    for (let position = offset; ; ) {
      const { entries, end } = await names.readdir(directory.ino, position, plus ? ENTRIES_PLUS : ENTRIES);
      const found = plus ? await this.#referAll(entries) : [];
      for (const [i, { name, blkno, type, next }] of entries.entries()) {
        const entry: DirectoryEntry = { name, ino: blkno, type: direntType(type), next, entry: found[i] && this.#peek(found[i]) };
        if (!add(entry)) {
          for (const rest of found.slice(i)) if (rest !== undefined) this.#later(names.forget(rest.blkno), 'forget');
          return;
        }
        if (found[i] !== undefined) this.#hold(blkno);
        position = next;
      }
      if (end || entries.length === 0) return;
    }
  }

  releasedir(): void {}

  fsyncdir(): Promise<void> {
    return this.#commit();
  }

  async statfs(): Promise<FileSystemStatus> {
    const s = await this.volume.names.statistics();
    return { blocks: s.blocks, bfree: s.freeBlocks, bavail: s.freeBlocks, files: s.files, ffree: s.freeFiles, bsize: s.blockSize, frsize: s.blockSize, namelen: s.nameLength };
  }

  syncfs(): Promise<void> {
    return this.volume.sync();
  }

  getxattr(caller: Caller, nodeid: number, name: Buffer): Promise<Uint8Array> {
    return this.#xattrs.get(caller, this.#ino(nodeid), name);
  }

  listxattr(caller: Caller, nodeid: number): Promise<readonly Uint8Array[]> {
    return this.#xattrs.list(caller, this.#ino(nodeid));
  }

  setxattr(_caller: Caller, nodeid: number, name: Buffer, value: Buffer, flags: number, killSetgid: boolean): Promise<void> {
    return this.#xattrs.set(this.#ino(nodeid), name, value, flags, killSetgid);
  }

  removexattr(_caller: Caller, nodeid: number, name: Buffer): Promise<void> {
    return this.#xattrs.remove(this.#ino(nodeid), name);
  }

  async ioctl(_caller: Caller, nodeid: number, _file: MountedFile | MountedDirectory, command: number, input: Buffer, outSize: number): Promise<Uint8Array> {
    const ino = this.#ino(nodeid);
    const { names } = this.volume;
    if (GETFLAGS.includes(command) && outSize >= 4) {
      const out = Buffer.alloc(outSize);
      out.writeUInt32LE((await names.attributes(ino)).flags >>> 0);
      return out;
    }
    if (SETFLAGS.includes(command) && input.length >= 4) {
      await names.setFlags(ino, input.readUInt32LE());
      return Buffer.alloc(0);
    }
    throw new UsageError('IOCTL', 'ENOTTY', `ioctl 0x${command.toString(16)} is not served`, { command });
  }

  /** The kernel has ended the connection: give back what it held, and wait until the volume can be unmounted. */
  async destroy(): Promise<void> {
    const held = [...this.#held];
    this.#held.clear();
    for (const [ino, count] of held) this.#later(this.volume.names.forget(ino, count), 'forget');
    while (this.#background.size > 0) await Promise.all(this.#background);
  }

  /** An open file has one owner of its lock, whoever shares it. */
  async #lockFile(flocks: Flocks, { signal }: Caller, file: MountedFile, owner: bigint, type: 'read' | 'write' | 'unlock', wait: boolean): Promise<void> {
    const { ino } = file;
    if (type === 'unlock') return flocks.unlock(ino, owner);
    this.#flockOwners.set(file, owner);
    if (await flocks.lock(ino, owner, type === 'write' ? EX : PR, { wait, signal })) return;
    throw new UsageError('FILE_LOCKED', 'EAGAIN', `${this.volume.geo.device}: inode ${ino} is locked by another open file, here or on another node`, { inode: ino });
  }

  #ino(nodeid: number): number {
    return inodeOf(nodeid, this.volume.names.root);
  }

  #ttl(ino: number): number {
    return this.files.isExported(ino) ? 0 : this.#long;
  }

  #attributes(a: Attributes): AttributesReply {
    return { attr: fuseAttributes(a), ttl: this.#ttl(a.blkno) };
  }

  #peek(a: Attributes): Entry {
    return { ...this.#attributes(a), nodeid: nodeOf(a.blkno, this.volume.names.root), generation: a.generation, entryTtl: this.#long };
  }

  /** An entry to be replied, whose reference the engine has counted. */
  #entry(a: Attributes): Entry {
    this.#hold(a.blkno);
    return this.#peek(a);
  }

  #hold(ino: number): void {
    this.#held.set(ino, (this.#held.get(ino) ?? 0) + 1);
  }

  /**
   * Attributes of listed inodes, with a reference to each; none for those that the kernel knows already and may keep, which cost twenty times the
   * rest of an entry. An inode that has gone since, or cannot be read, is listed without: the kernel
   * looks its name up when somebody wants it, and is told then.
   */
  async #referAll(entries: readonly { readonly name: Uint8Array; readonly blkno: number }[]): Promise<(Attributes | undefined)[]> {
    const without = (error: unknown): void => {
      if (!(error instanceof LunfsError) || error.kind === 'internal') this.report(error, 'readdir');
    };
    const found = entries.map((): Attributes | undefined => undefined);
    const known = ({ name, blkno }: { readonly name: Uint8Array; readonly blkno: number }): boolean => isDots(name) || (!this.#shared && this.#held.has(blkno));
    await this.volume.names.readAhead(entries.filter((entry) => !known(entry)).map(({ blkno }) => blkno));
    const loads: Promise<void>[] = [];
    for (const [i, entry] of entries.entries()) {
      if (known(entry)) continue;
      const { blkno } = entry;
      try {
        const one = this.volume.names.refer(blkno);
        if (one instanceof Promise) loads.push(one.then((attributes) => void (found[i] = attributes), without));
        else found[i] = one;
      } catch (error) {
        without(error);
      }
    }
    await Promise.all(loads);
    return found;
  }

  async #open(ino: number, flags: number): Promise<MountedFile> {
    const survives = (flags & O_DIRECT) !== 0;
    const opened = await this.files.openMounted(ino, { readOnly: (flags & O.ACCMODE) === O.RDONLY, survives });
    // Asked only now: an export that begins later finds this open in the table and reckons with its cached pages.
    const exported = this.files.isExported(ino);
    const file = { opened, ino, survives, backend: opened.backend, directIo: exported || this.#shared, keepCache: !exported && !this.#shared, parallelDirectWrites: true };
    if (!this.#shared || (flags & O.ACCMODE) !== O.RDWR) return file;
    try {
      return { ...file, unmapped: await openWritable(this.volume.ctx, ino) };
    } catch (error) {
      await opened.close();
      throw error;
    }
  }

  async #created(made: Attributes, open: () => Promise<MountedFile>): Promise<Created<MountedFile>> {
    try {
      const file = await open();
      return { ...this.#entry(made), file };
    } catch (error) {
      this.#later(this.volume.names.forget(made.blkno), 'forget');
      throw error;
    }
  }

  async #resize(ino: number, size: number): Promise<void> {
    const now = await this.volume.names.attributes(ino);
    if ((now.flags & (FLAG_IMMUTABLE | FLAG_APPEND)) !== 0) throw this.#forbidden(ino, now.flags);
    if (size < now.size && this.files.isExported(ino)) {
      throw new UsageError('FILE_EXPORTED', 'ETXTBSY', `${this.volume.geo.device}: inode ${ino} is exported as a disk of ${now.size} bytes and cannot become shorter; end the export first`, { inode: ino, size });
    }
    await truncateFile(this.volume.ctx, ino, size);
  }

  /** The kernel asks for it with a write or an open, but keeps the mode it knows: its attributes are dropped here (Linux 6.18 fs/fuse/file.c:fuse_write_update_attr). */
  async #dropSuid(ino: number): Promise<void> {
    const { names } = this.volume;
    const { mode } = await names.attributes(ino);
    if (withoutSuid(mode) === mode) return;
    await names.change(ino, { mode: withoutSuid(mode) });
    await this.files.attributesChanged(ino);
  }

  async #copyPart(ino: number, fromOffset: number, to: MountedFile, toOffset: number, length: number): Promise<number> {
    const bytes = new Uint8Array(length);
    const got = await readFile(this.volume.ctx, ino, fromOffset, bytes);
    await writeFile(this.volume.ctx, to.ino, toOffset, bytes.subarray(0, got));
    if (to.survives) await this.volume.ctx.engine.log.commit({ durable: false });
    return got;
  }

  #notShared(ino: number): UsageError {
    return new UsageError('NOT_SHARED', 'EOPNOTSUPP', `${this.volume.geo.device}: inode ${ino} cannot share these clusters; copy them`, { inode: ino });
  }

  #forbidden(ino: number, attr: number): UsageError {
    const what = (attr & FLAG_IMMUTABLE) !== 0 ? 'immutable' : 'append-only';
    return new UsageError('FLAGS_FORBID', 'EPERM', `${this.volume.geo.device}: inode ${ino} is ${what}; clear the flag with chattr first`, { inode: ino });
  }

  async #commit(): Promise<void> {
    if (this.volume.readOnlyReason?.code === 'READ_ONLY') return; // mounted so: there is nothing to commit
    await this.volume.ctx.engine.log.commit({ barrier: true });
  }

  #later(work: Promise<void>, what: string): void {
    const told = work.catch((error: unknown) => this.report(error, what)).finally(() => this.#background.delete(told));
    this.#background.add(told);
  }
}

/** fallocate(2) modes without KEEP_SIZE. */
const FALLOCATE: Readonly<Record<number, FallocateMode>> = {
  0: 'reserve', [FALLOC.PUNCH_HOLE]: 'punch', [FALLOC.ZERO_RANGE]: 'zero', [FALLOC.COLLAPSE_RANGE]: 'collapse', [FALLOC.INSERT_RANGE]: 'insert',
};

function isDots(name: Uint8Array): boolean {
  return name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
}
