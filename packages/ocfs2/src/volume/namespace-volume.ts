/**
 * The name space with promises: what a mount, the command line and tests call. Every function that returns an inode's
 * attributes for a name gives the caller one reference to it (as FUSE counts lookups); `forget` gives references back.
 * A referenced inode is never wiped, whoever removes its names.
 */
import { LunfsError } from '@lunfs/device';
import type { FsContext, InodeRef } from '../context.js';
import { type DirEntry, dirEntries } from '../dir/index.js';
import { EX, PR, RENAME_LOCK } from '../locking/levels.js';
import { DINODE_ANY } from '../format/kinds.js';
import type { MetaLock, Op } from '../txn/index.js';
import { type Attributes, attributesOf, liveDirectory, liveInode } from './attributes.js';
import {
  type AtimeRule, type AttributeChange, DEFAULT_ATIME, type VolumeStatistics, atimeIsDue, changeAttributes, changeFlags, touchAtime, volumeStatistics,
} from './attributes-change.js';
import { withLateTimes } from './file-state.js';
import { InodeTable } from './inode-life.js';
import { type NewInode, type Unlinked, createName, findName, linkName, lookupName, readSymlink, unlinkName } from './namespace.js';
import { type ReflinkOptions, reflinkFile } from './reflink.js';
import { type XattrChange, dropCapability, getXattr, hasCapability, listXattrNames, removeXattr, setXattr } from './xattrs.js';
import { valuesOf } from './value-blocks.js';
import { type Relation, type RenameRequest, belowItself, parentOf, renameName } from './namespace-rename.js';

export class Namespace {
  readonly inodes: InodeTable;
  /** Renames that move directories, one after the other: locks do not keep operations of one node apart. */
  #moves: Promise<unknown> = Promise.resolve();

  constructor(readonly ctx: FsContext, private readonly atime: AtimeRule = DEFAULT_ATIME) {
    this.inodes = new InodeTable(ctx);
  }

  get root(): number {
    return this.ctx.geo.rootBlkno;
  }

  /** Find a name. Throws NOT_FOUND. */
  lookup(dir: number, name: Uint8Array): Promise<Attributes> {
    return this.ctx.engine.read('lookup', (op) => this.#referred(op, lookupName(op, this.ctx, dir, name)));
  }

  /** Find a name that may not be there: the kernel asks for every name before it makes it. */
  find(dir: number, name: Uint8Array): Promise<Attributes | undefined> {
    return this.ctx.engine.read('lookup', (op) => {
      const found = findName(op, this.ctx, dir, name);
      return found && this.#referred(op, found);
    });
  }

  /**
   * Read the inodes of a listing in few large requests, as far as their locks are to be had without waiting. A help for `refer` and
   * `attributes`, which ask for what is missing afterwards, and report what cannot be read.
   */
  async readAhead(blknos: readonly number[]): Promise<void> {
    const body = (op: Op) => {
      const found: [MetaLock, number][] = [];
      for (const blkno of blknos) {
        const lock = this.ctx.tryMetaLock(op, blkno, PR);
        if (lock !== undefined) found.push([lock, blkno]);
      }
      op.prefetchEach(found, DINODE_ANY);
    };
    await this.ctx.engine.read('read ahead', body).catch((error: unknown) => {
      if (!(error instanceof LunfsError) || error.kind === 'internal') throw error;
    });
  }

  /** Attributes of an inode that a listing named, with a reference as from `lookup`; at once if it is cached. Throws STALE if it has gone since. */
  refer(blkno: number): Attributes | Promise<Attributes> {
    const body = (op: Op) => this.#referred(op, liveInode(op, this.ctx, blkno, PR));
    return this.ctx.engine.readNow('refer', body) ?? this.ctx.engine.read('refer', body);
  }

  /** Attributes of an inode. */
  async attributes(blkno: number): Promise<Attributes> {
    const body = (op: Op) => withLateTimes(this.ctx, this.#told(op, blkno) ?? attributesOf(this.ctx.geo, liveInode(op, this.ctx, blkno, PR)));
    return this.ctx.engine.readNow('getattr', body) ?? this.ctx.engine.read('getattr', body);
  }

  create(dir: number, name: Uint8Array, spec: NewInode): Promise<Attributes> {
    return this.ctx.engine.run('create', (op) => this.#referred(op, createName(op, this.ctx, dir, name, spec)));
  }

  link(blkno: number, dir: number, name: Uint8Array): Promise<Attributes> {
    return this.ctx.engine.run('link', (op) => this.#referred(op, linkName(op, this.ctx, blkno, dir, name)));
  }

  /** Clone a regular file, sharing its clusters (reflink.ts). Throws NO_REFLINK on volumes without that. */
  async reflink(source: number, dir: number, name: Uint8Array, options: ReflinkOptions): Promise<Attributes> {
    return this.attributes(await reflinkFile(this.ctx, this.inodes, source, dir, name, options));
  }

  async unlink(dir: number, name: Uint8Array): Promise<void> {
    await this.#wipe(await this.ctx.engine.run('unlink', (op) => unlinkName(op, this.ctx, dir, name, false)));
  }

  async rmdir(dir: number, name: Uint8Array): Promise<void> {
    await this.#wipe(await this.ctx.engine.run('rmdir', (op) => unlinkName(op, this.ctx, dir, name, true)));
  }

  readlink(blkno: number): Promise<Uint8Array> {
    return this.ctx.engine.read('readlink', (op) => readSymlink(op, this.ctx, blkno));
  }

  /** Up to `limit` entries of a directory from `position` on (see dir/index.ts:dirEntries). Updates its atime by the mount's rule. */
  async readdir(dir: number, position = 0, limit = 1000): Promise<{ entries: DirEntry[]; end: boolean }> {
    const result = await this.ctx.engine.read('readdir', (op) => {
      const ref = liveDirectory(op, this.ctx, dir, PR);
      return { ...dirEntries(op, this.ctx, ref, position, limit), due: atimeIsDue(ref.di, op.now, this.atime) };
    });
    // A reader is not told when atime cannot be kept: read-only, full (Linux 6.1 fs/inode.c:touch_atime).
    if (result.due && position === 0) await this.ctx.engine.run('atime', (op) => touchAtime(op, this.ctx, dir)).catch(() => undefined);
    return result;
  }

  change(blkno: number, change: AttributeChange): Promise<Attributes> {
    return this.ctx.engine.run('setattr', (op) => attributesOf(this.ctx.geo, changeAttributes(op, this.ctx, blkno, change)));
  }

  setFlags(blkno: number, flags: number): Promise<Attributes> {
    return this.ctx.engine.run('setflags', (op) => attributesOf(this.ctx.geo, changeFlags(op, this.ctx, blkno, flags)));
  }

  /** The value of an extended attribute by its full name, ACLs in the form of getxattr(2). Throws NO_XATTR, XATTR_UNSUPPORTED. */
  getXattr(blkno: number, name: Uint8Array): Promise<Uint8Array> {
    return this.ctx.engine.read('getxattr', (op) => getXattr(op, this.ctx, blkno, name));
  }

  /** Full names of all extended attributes of an inode. */
  listXattr(blkno: number): Promise<Uint8Array[]> {
    return this.ctx.engine.read('listxattr', (op) => listXattrNames(op, this.ctx, blkno));
  }

  /** Set an extended attribute; an access ACL sets the mode too. Throws XATTR_EXISTS, NO_XATTR, XATTR_TOO_BIG, XATTR_UNSUPPORTED, ACL_INVALID, … */
  setXattr(blkno: number, name: Uint8Array, value: Uint8Array, change?: XattrChange): Promise<void> {
    return this.ctx.engine.run('setxattr', (op) => setXattr(op, this.ctx, blkno, name, value, change));
  }

  /** Take the capabilities from a file whose content or owner is about to change; FUSE_HANDLE_KILLPRIV_V2 leaves that to us. */
  async dropCapability(blkno: number): Promise<void> {
    const look = (op: Op) => hasCapability(op, this.ctx, blkno);
    if (!(this.ctx.engine.readNow('capability', look) ?? (await this.ctx.engine.read('capability', look)))) return;
    await this.ctx.engine.run('drop capability', (op) => dropCapability(op, this.ctx, blkno));
  }

  removeXattr(blkno: number, name: Uint8Array): Promise<void> {
    return this.ctx.engine.run('removexattr', (op) => removeXattr(op, this.ctx, blkno, name));
  }

  statistics(): Promise<VolumeStatistics> {
    return this.ctx.engine.read('statfs', (op) => volumeStatistics(op, this.ctx));
  }

  /** Give back references; the last one lets an inode without names go. */
  forget(blkno: number, count = 1): Promise<void> {
    return this.inodes.forget(blkno, count);
  }

  /** Rename. Throws NOT_FOUND, EXISTS, NOT_EMPTY, BELOW_ITSELF, … */
  async rename(request: RenameRequest): Promise<void> {
    while (true) {
      const source = await this.ctx.engine.read('rename', (op) => {
        const ref = lookupName(op, this.ctx, request.oldDir, request.oldName);
        return attributesOf(this.ctx.geo, ref);
      });
      const directory = (source.mode & 0o170000) === 0o040000;
      const attempt = () => this.#renameOnce(request, source.blkno, directory);
      const done = directory && request.oldDir !== request.newDir ? await this.#exclusively(attempt) : await attempt();
      if (done === undefined) continue;
      if (done.replaced) await this.#wipe(done.replaced);
      return;
    }
  }

  async #renameOnce(request: RenameRequest, blkno: number, directory: boolean): Promise<{ replaced?: Unlinked } | undefined> {
    const { oldDir, newDir } = request;
    let relation: Relation = { blkno, directory, newBelowOld: false, oldBelowNew: false };
    if (oldDir !== newDir) {
      const aboveNew = await this.#ancestors(newDir);
      if (directory && (newDir === blkno || aboveNew.includes(blkno))) throw belowItself(this.ctx, blkno);
      relation = { ...relation, newBelowOld: aboveNew.includes(oldDir), oldBelowNew: (await this.#ancestors(oldDir)).includes(newDir) };
    }
    return this.ctx.engine.run('rename', (op) => renameName(op, this.ctx, request, relation));
  }

  /** Directories above one, nearest first, each looked at under its own lock only (namei.c:ocfs2_check_if_ancestor). */
  async #ancestors(blkno: number): Promise<number[]> {
    const above: number[] = [];
    for (let at = blkno; at !== this.root; ) {
      const look = (op: Op) => parentOf(op, this.ctx, at);
      at = this.ctx.engine.readNow('ancestors', look) ?? (await this.ctx.engine.read('ancestors', look));
      if (above.includes(at)) break;
      above.push(at);
    }
    return above;
  }

  /** Run with the volume's rename lock, so that no directory of the cluster gets another parent meanwhile. */
  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const run = async () => {
      if (this.ctx.geo.local) return work();
      const { locks } = this.ctx.engine;
      await locks.hold(RENAME_LOCK, EX);
      try {
        return await work();
      } finally {
        locks.drop(RENAME_LOCK, EX);
      }
    };
    const result = this.#moves.then(run);
    this.#moves = result.catch(() => undefined);
    return result;
  }

  /** Attributes of an inode in core as another node told them with the lock, while its dinode is not cached. */
  #told(op: Op, blkno: number): Attributes | undefined {
    const values = valuesOf(this.ctx);
    const identity = values && this.inodes.identity(blkno);
    if (identity === undefined) return undefined;
    const { name } = this.ctx.metaLock(op, blkno, PR);
    return op.cache.peek(blkno)?.owner === name ? undefined : values?.attributes(this.ctx.geo, name, blkno, identity);
  }

  #referred(op: Op, inode: InodeRef): Attributes {
    this.inodes.refer(op, inode);
    return withLateTimes(this.ctx, attributesOf(this.ctx.geo, inode));
  }

  #wipe({ blkno, orphaned }: Unlinked): Promise<void> {
    return orphaned ? this.inodes.wipeUnused(blkno) : Promise.resolve();
  }
}
