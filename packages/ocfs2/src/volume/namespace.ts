/**
 * Names: look up, create, link and unlink, each as one operation (ondisk-format.md 9.9). The functions here are
 * synchronous bodies for `engine.run`; namespace-rename.ts has rename, namespace-volume.ts the face with promises and
 * inode references.
 *
 * Locks as the kernel nests them: directory, inode, dentry, own orphan directory; allocators below (Linux 6.1
 * fs/ocfs2/namei.c). Permissions are the caller's business (FUSE's default_permissions); the flags immutable and
 * append-only are checked here.
 */
import { UsageError } from '@lunfs/device';
import { DX_LINK_MAX, DYN, FL, FT, LINK_MAX, MAX_NAME_LEN, MODE, SIG, S_IFMT, fileTypeOfMode } from '../format/constants.js';
import { capacity } from '../format/geometry.js';
import { DINODE, RAW_BLOCK } from '../format/kinds.js';
import { ExtentList } from '../format/lists.js';
import { Dinode, ID2, InlineData } from '../format/structs.js';
import type { FsContext, InodeRef } from '../context.js';
import { claimClusters, claimMeta, groupOf, stampMeta } from '../alloc/index.js';
import { type DirTarget, dirAdd, dirIsEmpty, dirLookup, dirRemove, initDir } from '../dir/index.js';
import { dinodeTree, insert, lookup } from '../extents/index.js';
import { EX, PR, RANK, dentryLockName } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import { ATTR, checkFlags, isDirectory, isFastSymlink, fileType, linkCount, liveDirectory, liveInode, refuse, setLinkCount, setTimes } from './attributes.js';
import { lockOrphanDir, orphanAdd } from './orphans.js';
import { inheritAcl } from './xattrs.js';

const SETGID = 0o2000;
const GROUP_EXEC = 0o010;
/** Longest symlink text (include/uapi/linux/limits.h:PATH_MAX, with its NUL). */
const MAX_SYMLINK = 4095;

/** A new inode as its creator wants it. */
export interface NewInode {
  /** File type and permission bits. */
  readonly mode: number;
  /** Bits that `mode` loses, unless the directory has a default ACL; none by default. */
  readonly umask?: number;
  readonly uid: number;
  readonly gid: number;
  /** Device number of a device file, encoded as on disk (huge_encode_dev). */
  readonly rdev?: number;
  /** Text of a symlink. */
  readonly target?: Uint8Array;
}

/** Throws NAME_INVALID or NAME_TOO_LONG unless a file can be called this. */
export function checkName(ctx: FsContext, dir: number, name: Uint8Array): void {
  if (name.length > MAX_NAME_LEN) throw refuse(ctx, 'NAME_TOO_LONG', 'ENAMETOOLONG', dir, `cannot hold a name of ${name.length} bytes; ${MAX_NAME_LEN} are the most`);
  if (name.length === 0 || name.includes(0x2f) || name.includes(0)) throw refuse(ctx, 'NAME_INVALID', 'EINVAL', dir, 'cannot hold an empty name, or one with "/" or a zero byte');
}

/** The same for a name about to be made or removed: not `.` or `..`. */
export function checkNewName(ctx: FsContext, dir: number, name: Uint8Array): void {
  checkName(ctx, dir, name);
  if (isDots(name)) throw refuse(ctx, 'NAME_INVALID', 'EINVAL', dir, 'keeps its entries "." and ".."');
}

function isDots(name: Uint8Array): boolean {
  return name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
}

export function notFound(ctx: FsContext, dir: number, name: Uint8Array): UsageError {
  return new UsageError('NOT_FOUND', 'ENOENT', `${ctx.geo.device}: there is no "${Buffer.from(name).toString()}" in directory ${dir}`, { device: ctx.geo.device, block: dir });
}

/** The inode a name stands for, locked PR; undefined if there is no such name. `.` and `..` work. */
export function findName(op: Op, ctx: FsContext, dirBlkno: number, name: Uint8Array): InodeRef | undefined {
  checkName(ctx, dirBlkno, name);
  const dir = liveDirectory(op, ctx, dirBlkno, PR);
  const found = dirLookup(op, ctx, dir, name);
  if (found === undefined) return undefined;
  return found.blkno === dirBlkno ? dir : ctx.inode(op, found.blkno, PR);
}

/** The same for a name that must be there. Throws NOT_FOUND. */
export function lookupName(op: Op, ctx: FsContext, dirBlkno: number, name: Uint8Array): InodeRef {
  const found = findName(op, ctx, dirBlkno, name);
  if (found === undefined) throw notFound(ctx, dirBlkno, name);
  return found;
}

/** A directory in which names are about to change. Throws if it is gone or its flags forbid it. */
export function changingDirectory(op: Op, ctx: FsContext, blkno: number, removing: boolean): InodeRef {
  const dir = liveDirectory(op, ctx, blkno, EX);
  if (linkCount(dir.di) === 0) throw refuse(ctx, 'NOT_FOUND', 'ENOENT', blkno, 'is a directory that was removed');
  checkFlags(ctx, dir, removing ? ATTR.IMMUTABLE | ATTR.APPEND : ATTR.IMMUTABLE);
  return dir;
}

export function checkAbsent(op: Op, ctx: FsContext, dir: InodeRef, name: Uint8Array): void {
  if (dirLookup(op, ctx, dir, name) === undefined) return;
  throw new UsageError('EXISTS', 'EEXIST', `${ctx.geo.device}: "${Buffer.from(name).toString()}" is there already in directory ${dir.blkno}`, { device: ctx.geo.device, block: dir.blkno });
}

/** Most links of an inode (checked on mkdir and link; Linux 6.1 fs/ocfs2/ocfs2.h:ocfs2_link_max). */
export function linkMax(ctx: FsContext, { di }: InodeRef): number {
  if (!ctx.geo.indexedDirs) return LINK_MAX;
  // The upper half of the count is read on indexed directories only: more would come back as fewer.
  return di.dynFeatures & DYN.INDEXED_DIR ? DX_LINK_MAX : 0xffff;
}

/** A directory about to get another subdirectory. */
export function checkLinks(ctx: FsContext, inode: InodeRef): void {
  if (linkCount(inode.di) >= linkMax(ctx, inode)) throw refuse(ctx, 'TOO_MANY_LINKS', 'EMLINK', inode.blkno, `has ${linkCount(inode.di)} links, the most it can have`);
}

export function addLinks(inode: InodeRef, n: number): void {
  setLinkCount(inode.di, linkCount(inode.di) + n);
}

/** Create a file, directory, symlink or special file. Throws EXISTS, NO_SPACE, TOO_MANY_LINKS. */
export function createName(op: Op, ctx: FsContext, dirBlkno: number, name: Uint8Array, spec: NewInode): InodeRef {
  checkNewName(ctx, dirBlkno, name);
  const look = changingDirectory(op, ctx, dirBlkno, false);
  const type = spec.mode & S_IFMT;
  checkAbsent(op, ctx, look, name);
  if (type === MODE.DIR) checkLinks(ctx, look);
  const dir = ctx.editInode(op, dirBlkno);
  const inode = makeInode(op, ctx, dir, spec);
  if (type === MODE.DIR) {
    initDir(op, ctx, inode, dirBlkno);
    addLinks(dir, 1);
  } else if (type === MODE.LNK) writeSymlink(op, ctx, inode, spec.target ?? new Uint8Array());
  inheritAcl(op, ctx, dir, inode, spec.umask ?? 0);
  dirAdd(op, ctx, dir, name, { blkno: inode.blkno, type: fileTypeOfMode(spec.mode) });
  return inode;
}

/** Claim and fill a dinode with one link, two for a directory (namei.c:__ocfs2_mknod_locked). */
export function makeInode(op: Op, ctx: FsContext, dir: InodeRef, spec: NewInode): InodeRef {
  const { geo } = ctx;
  const parent = dir.di;
  const near = { slot: parent.suballocSlot, group: groupOf({ blkno: dir.blkno, bit: parent.suballocBit, loc: parent.suballocLoc }) };
  const claim = claimMeta(op, ctx, 'inode', near);
  const lock = ctx.metaLock(op, claim.blkno, EX);
  const block = op.create(lock, claim.blkno, DINODE);
  const di = Dinode.at(block);
  const type = spec.mode & S_IFMT;
  const generation = ctx.nextGeneration;
  op.onApply(() => {
    ctx.nextGeneration = (generation + 1) >>> 0;
  });
  stampMeta(ctx, di, SIG.dinode, claim);
  di.generation = generation;
  [di.mode, di.gid] = inherited(dir, spec);
  di.uid = spec.uid;
  if (type === MODE.CHR || type === MODE.BLK) di.rdev = BigInt(spec.rdev ?? 0);
  setLinkCount(di, type === MODE.DIR ? 2 : 1);
  di.flags = FL.VALID;
  setTimes(di, 'amc', op.now);
  if (type === MODE.DIR && geo.inlineData) {
    di.dynFeatures = DYN.INLINE_DATA;
    InlineData.at(block).idCount = capacity.inlineData(geo.blockSize);
  } else new ExtentList(block, ID2).count = capacity.dinodeExtents(geo.blockSize);
  return { blkno: claim.blkno, lock, block, di };
}

/** Mode and group of a new inode: a setgid directory gives its group (Linux 6.1 fs/inode.c:inode_init_owner, mode_strip_sgid). */
function inherited(dir: InodeRef, { mode, uid, gid }: NewInode): [mode: number, gid: number] {
  if (!(dir.di.mode & SETGID)) return [mode, gid];
  if ((mode & S_IFMT) === MODE.DIR) return [mode | SETGID, dir.di.gid];
  const strip = (mode & (SETGID | GROUP_EXEC)) === (SETGID | GROUP_EXEC) && uid !== 0 && gid !== dir.di.gid;
  return [strip ? mode & ~SETGID : mode, dir.di.gid];
}

/** Text of a symlink: in the dinode, or in a cluster whose blocks go through the journal (namei.c:ocfs2_symlink). */
function writeSymlink(op: Op, ctx: FsContext, inode: InodeRef, text: Uint8Array): void {
  const { geo } = ctx;
  if (text.length === 0) throw refuse(ctx, 'NAME_INVALID', 'ENOENT', inode.blkno, 'cannot be a symlink to nothing');
  if (text.length > MAX_SYMLINK) throw refuse(ctx, 'NAME_TOO_LONG', 'ENAMETOOLONG', inode.blkno, `cannot be a symlink of ${text.length} bytes; ${MAX_SYMLINK} are the most`);
  inode.di.size = text.length;
  if (text.length <= capacity.fastSymlink(geo.blockSize)) {
    inode.block.bytes.fill(0, ID2);
    inode.block.bytes.set(text, ID2);
    return;
  }
  const blkno = claimClusters(op, ctx, 1, 1).start * geo.bpc;
  insert(op, ctx, dinodeTree(inode, op, ctx), { cpos: 0, clusters: 1, blkno, flags: 0 });
  // The NUL after the text belongs to the data.
  for (let i = 0; i * geo.blockSize <= text.length; i++) {
    op.create(inode.lock, blkno + i, RAW_BLOCK).bytes.set(text.subarray(i * geo.blockSize, (i + 1) * geo.blockSize));
  }
}

/** Text of a symlink. Throws NOT_A_SYMLINK. */
export function readSymlink(op: Op, ctx: FsContext, blkno: number): Uint8Array {
  const { geo } = ctx;
  const inode = liveInode(op, ctx, blkno, PR);
  const { di, block } = inode;
  if (fileType(di) !== MODE.LNK) throw refuse(ctx, 'NOT_A_SYMLINK', 'EINVAL', blkno, 'is no symlink');
  if (isFastSymlink(di)) return block.bytes.slice(ID2, ID2 + di.size);
  if (di.size > MAX_SYMLINK) throw refuse(ctx, 'NAME_TOO_LONG', 'ENAMETOOLONG', blkno, `is a symlink of ${di.size} bytes; ${MAX_SYMLINK} are the most`);
  const text = new Uint8Array(di.size);
  const tree = dinodeTree(inode, op, ctx);
  for (let at = 0; at < text.length; at += geo.blockSize) {
    const logical = at / geo.blockSize;
    const rec = lookup(op, tree, Math.floor(logical / geo.bpc));
    if (rec.hole) break;
    const data = op.read(inode.lock, rec.blkno + logical - rec.cpos * geo.bpc, RAW_BLOCK);
    text.set(data.bytes.subarray(0, Math.min(geo.blockSize, text.length - at)), at);
  }
  return text;
}

/** Give an inode another name (namei.c:ocfs2_link). Throws EXISTS, TOO_MANY_LINKS, IS_A_DIRECTORY (EPERM). */
export function linkName(op: Op, ctx: FsContext, blkno: number, dirBlkno: number, name: Uint8Array): InodeRef {
  checkNewName(ctx, dirBlkno, name);
  const dir = changingDirectory(op, ctx, dirBlkno, false);
  const look = liveInode(op, ctx, blkno, EX);
  if (isDirectory(look)) throw refuse(ctx, 'IS_A_DIRECTORY', 'EPERM', blkno, 'is a directory, which has one name only');
  checkFlags(ctx, look, ATTR.IMMUTABLE | ATTR.APPEND);
  if (linkCount(look.di) === 0) throw refuse(ctx, 'NOT_FOUND', 'ENOENT', blkno, 'was removed');
  checkLinks(ctx, look);
  checkAbsent(op, ctx, dir, name);
  const inode = ctx.editInode(op, blkno);
  addLinks(inode, 1);
  setTimes(inode.di, 'c', op.now);
  dirAdd(op, ctx, dir, name, { blkno, type: fileTypeOfMode(inode.di.mode) });
  return inode;
}

/** Tell nodes that know this name that it goes: they give their dentry lock back (namei.c:ocfs2_remote_dentry_delete). */
export function lockDentry(op: Op, ctx: FsContext, dir: number, blkno: number): void {
  if (ctx.geo.local) return;
  const name = dentryLockName(dir, blkno);
  op.lock(name, EX, RANK.dentry);
  op.onApply(() => ctx.engine.locks.giveUp(name));
}

/** An inode that lost a name: nobody else has one, so it waits in the orphan directory. */
export interface Unlinked {
  readonly blkno: number;
  readonly orphaned: boolean;
}

/**
 * Remove a name (namei.c:ocfs2_unlink). `directory`: rmdir, else unlink. An inode without names left is an orphan: the
 * caller wipes it when it is not in core. Throws NOT_FOUND, NOT_EMPTY, IS_A_DIRECTORY, NOT_A_DIRECTORY.
 */
export function unlinkName(op: Op, ctx: FsContext, dirBlkno: number, name: Uint8Array, directory: boolean): Unlinked {
  checkNewName(ctx, dirBlkno, name);
  const look = changingDirectory(op, ctx, dirBlkno, true);
  const found = dirLookup(op, ctx, look, name);
  if (found === undefined) throw notFound(ctx, dirBlkno, name);
  const victim = ctx.inode(op, found.blkno, EX);
  checkVictim(op, ctx, victim, directory);
  lockDentry(op, ctx, dirBlkno, found.blkno);
  const orphaned = losesLastLink(victim);
  if (orphaned) lockOrphanDir(op, ctx);
  const dir = ctx.editInode(op, dirBlkno);
  dirRemove(op, ctx, dir, name);
  setTimes(dir.di, 'mc', op.now);
  if (directory) addLinks(dir, -1);
  const inode = ctx.editInode(op, found.blkno);
  dropName(op, ctx, inode);
  return { blkno: found.blkno, orphaned };
}

/** Is this the last name? Directories have one. */
export function losesLastLink(victim: InodeRef): boolean {
  return isDirectory(victim) || linkCount(victim.di) <= 1;
}

/** May this inode lose a name? */
export function checkVictim(op: Op, ctx: FsContext, victim: InodeRef, directory: boolean): void {
  checkFlags(ctx, victim, ATTR.IMMUTABLE | ATTR.APPEND);
  if (isDirectory(victim)) {
    if (!directory) throw refuse(ctx, 'IS_A_DIRECTORY', 'EISDIR', victim.blkno, 'is a directory');
    if (victim.blkno === ctx.geo.rootBlkno) throw refuse(ctx, 'BUSY', 'EBUSY', victim.blkno, 'is the root directory');
    if (linkCount(victim.di) !== 2 || !dirIsEmpty(op, ctx, victim)) throw refuse(ctx, 'NOT_EMPTY', 'ENOTEMPTY', victim.blkno, 'is a directory with entries in it');
  } else if (directory) throw refuse(ctx, 'NOT_A_DIRECTORY', 'ENOTDIR', victim.blkno, 'is no directory');
}

/** Take a name away from an inode; without any it becomes an orphan. */
export function dropName(op: Op, ctx: FsContext, inode: InodeRef): void {
  const last = losesLastLink(inode);
  setLinkCount(inode.di, last ? 0 : linkCount(inode.di) - 1);
  if (last) orphanAdd(op, ctx, inode);
}

/** Dirent target of an inode. */
export function targetOf(inode: InodeRef): DirTarget {
  return { blkno: inode.blkno, type: isDirectory(inode) ? FT.DIR : fileTypeOfMode(inode.di.mode) };
}
