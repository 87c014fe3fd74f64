/**
 * Extended attributes as getxattr(2) and its like know them: full names, the rules of each name space, ACLs in the form of the
 * system call, and what ACLs have to do with the mode (Linux 6.1 fs/xattr.c:xattr_permission, fs/ocfs2/acl.c). Permissions of
 * the caller are the caller's business; the flags immutable and append-only are checked here.
 *
 * The functions are bodies for `engine.run` and `engine.read`; the inode's meta lock stands for the kernel's ip_xattr_sem too,
 * as operations of one process are serial.
 */
import type { FsContext, InodeRef } from '../context.js';
import { MODE } from '../format/constants.js';
import { EX, PR } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import {
  type AclEntry, XATTR_TYPE, XATTR_VALUE_MAX, type XattrName, type XattrSetMode, aclAfterChmod, aclForNew, aclFromXattr, aclMode, aclToXattr, cloneXattr, dropXattr, encodeAcl,
  findXattr, fullXattrName, isAcl, listXattr, noXattr, parseAcl, parseXattrName, putXattr, readValue,
} from '../xattr/index.js';
import { ATTR, checkFlags, fileType, isDirectory, liveInode, refuse, setTimes } from './attributes.js';
import { foldLateTimes } from './file-state.js';

/** Longest full name, and all names together (include/uapi/linux/limits.h:XATTR_NAME_MAX, XATTR_LIST_MAX). */
const NAME_MAX = 255;
const SETGID = 0o2000;
const ACCESS: XattrName = { type: XATTR_TYPE.ACL_ACCESS, rest: new Uint8Array() };
const CAPABILITY: XattrName = { type: XATTR_TYPE.SECURITY, rest: Buffer.from('capability') };
const DEFAULT: XattrName = { type: XATTR_TYPE.ACL_DEFAULT, rest: new Uint8Array() };

export interface XattrChange {
  /** `create` (XATTR_CREATE) throws XATTR_EXISTS, `replace` (XATTR_REPLACE) NO_XATTR. */
  readonly mode?: XattrSetMode;
  /** An access ACL that is set clears setgid: its caller is not in the file's group. */
  readonly killSetgid?: boolean;
}

/** The value of an attribute. Throws NO_XATTR, XATTR_UNSUPPORTED. */
export function getXattr(op: Op, ctx: FsContext, blkno: number, full: Uint8Array): Uint8Array {
  const name = stored(ctx, blkno, full);
  const inode = liveInode(op, ctx, blkno, PR);
  const found = findXattr(op, ctx, inode, name);
  if (found === undefined) throw noXattr(ctx, inode);
  const value = readValue(op, ctx, inode, found);
  return isAcl(name.type) ? aclToXattr(value) : value;
}

/** Full names of all attributes. */
export function listXattrNames(op: Op, ctx: FsContext, blkno: number): Uint8Array[] {
  return listXattr(op, ctx, liveInode(op, ctx, blkno, PR)).map(({ item }) => fullXattrName(item));
}

/** Set an attribute; ctime becomes now. Throws XATTR_TOO_BIG, XATTR_UNSUPPORTED, XATTR_NOT_HERE, ACL_INVALID, FLAGS_FORBID, NO_SPACE. */
export function setXattr(op: Op, ctx: FsContext, blkno: number, full: Uint8Array, value: Uint8Array, change: XattrChange = {}): void {
  const name = stored(ctx, blkno, full);
  if (value.length > XATTR_VALUE_MAX) throw refuse(ctx, 'XATTR_TOO_BIG', 'E2BIG', blkno, `cannot have an attribute of ${value.length} bytes; ${XATTR_VALUE_MAX} are the most`);
  const inode = changing(op, ctx, blkno, name);
  if (isAcl(name.type)) return setAcl(op, ctx, inode, name, aclFromXattr(value), change);
  putXattr(op, ctx, inode, name, value, change.mode);
}

/** Remove an attribute; ctime becomes now. Throws NO_XATTR (not for ACLs: no ACL is what was asked for), XATTR_UNSUPPORTED, FLAGS_FORBID. */
export function removeXattr(op: Op, ctx: FsContext, blkno: number, full: Uint8Array): void {
  const name = stored(ctx, blkno, full);
  const inode = changing(op, ctx, blkno, name);
  if (isAcl(name.type)) setAcl(op, ctx, inode, name, [], {});
  else dropXattr(op, ctx, inode, name);
}

/** Does the file carry capabilities for whoever runs it? */
export function hasCapability(op: Op, ctx: FsContext, blkno: number): boolean {
  return findXattr(op, ctx, liveInode(op, ctx, blkno, PR), CAPABILITY) !== undefined;
}

/** They go with the content or the owner that they were given for (Linux 6.1 security/commoncap.c:cap_inode_killpriv). */
export function dropCapability(op: Op, ctx: FsContext, blkno: number): void {
  if (findXattr(op, ctx, liveInode(op, ctx, blkno, EX), CAPABILITY) !== undefined) dropXattr(op, ctx, ctx.editInode(op, blkno), CAPABILITY);
}

/** After a change of the mode: the access ACL follows it (acl.c:ocfs2_acl_chmod). */
export function aclFollowsMode(op: Op, ctx: FsContext, inode: InodeRef): void {
  const acl = readAcl(op, ctx, inode, ACCESS);
  if (acl !== undefined) storeAcl(op, ctx, inode, ACCESS, aclAfterChmod(acl, inode.di.mode));
}

/**
 * ACLs of a new inode, held by `ctx.editInode`, whose i_mode is as its creator asked: the directory's default ACL or, if there is none, the
 * umask decides what is left of it (acl.c:ocfs2_acl_init_prepare, ocfs2_init_acl).
 */
export function inheritAcl(op: Op, ctx: FsContext, dir: InodeRef, inode: InodeRef, umask: number): void {
  const { di } = inode;
  if (fileType(di) === MODE.LNK) return;
  const inherited = readAcl(op, ctx, dir, DEFAULT);
  if (inherited === undefined) {
    di.mode &= ~(umask & 0o777);
    return;
  }
  const { acl, mode } = aclForNew(inherited, di.mode);
  if (isDirectory(inode)) storeAcl(op, ctx, inode, DEFAULT, inherited);
  di.mode = mode;
  if (acl !== undefined) storeAcl(op, ctx, inode, ACCESS, acl);
}

/**
 * Give a clone the attributes of its source, one operation each; without `preserve` ACLs and security labels are left to what the clone's
 * directory says (Linux 6.1 fs/ocfs2/xattr.c:ocfs2_reflink_xattr_no_security).
 */
export async function cloneXattrs(ctx: FsContext, source: number, clone: number, preserve: boolean): Promise<void> {
  const names = await ctx.engine.read('listxattr', (op) => listXattr(op, ctx, liveInode(op, ctx, source, PR)).map(({ item: { type, rest } }): XattrName => ({ type, rest })));
  for (const name of names) {
    if (!preserve && (isAcl(name.type) || name.type === XATTR_TYPE.SECURITY)) continue;
    await ctx.engine.run('reflink xattr', (op) => cloneXattr(op, ctx, liveInode(op, ctx, source, EX), ctx.editInode(op, clone), name));
  }
}

function setAcl(op: Op, ctx: FsContext, inode: InodeRef, name: XattrName, acl: readonly AclEntry[], { killSetgid = false }: XattrChange): void {
  const { di } = inode;
  if (fileType(di) === MODE.LNK) throw refuse(ctx, 'XATTR_UNSUPPORTED', 'EOPNOTSUPP', inode.blkno, 'is a symlink, which has no ACL');
  if (name.type === XATTR_TYPE.ACL_DEFAULT && !isDirectory(inode)) {
    if (acl.length > 0) throw refuse(ctx, 'XATTR_NOT_HERE', 'EACCES', inode.blkno, 'is no directory and has no default ACL');
    return;
  }
  let kept = acl;
  if (name.type === XATTR_TYPE.ACL_ACCESS && acl.length > 0) {
    const { bits, exact } = aclMode(acl);
    di.mode = (di.mode & ~0o777 & ~(killSetgid ? SETGID : 0)) | bits;
    if (exact) kept = [];
  }
  if (kept.length > 0) storeAcl(op, ctx, inode, name, kept);
  else if (findXattr(op, ctx, inode, name) !== undefined) dropXattr(op, ctx, inode, name);
}

function readAcl(op: Op, ctx: FsContext, inode: InodeRef, name: XattrName): AclEntry[] | undefined {
  const found = findXattr(op, ctx, inode, name);
  const acl = found && parseAcl(readValue(op, ctx, inode, found));
  return acl !== undefined && acl.length > 0 ? acl : undefined;
}

function storeAcl(op: Op, ctx: FsContext, inode: InodeRef, name: XattrName, acl: readonly AclEntry[]): void {
  putXattr(op, ctx, inode, name, encodeAcl(acl));
}

/** The stored form of a name. */
function stored(ctx: FsContext, blkno: number, full: Uint8Array): XattrName {
  if (!ctx.geo.xattr) throw refuse(ctx, 'XATTR_UNSUPPORTED', 'EOPNOTSUPP', blkno, 'cannot have extended attributes: the volume lacks the feature "xattr" (tunefs.ocfs2 --fs-features=xattr)');
  if (full.length === 0 || full.length > NAME_MAX) throw refuse(ctx, 'XATTR_NAME', 'ERANGE', blkno, `cannot have an attribute name of ${full.length} bytes; ${NAME_MAX} are the most`);
  const name = parseXattrName(full);
  if (name === undefined || name.rest.includes(0)) {
    throw refuse(ctx, 'XATTR_UNSUPPORTED', 'EOPNOTSUPP', blkno, `cannot have an attribute "${Buffer.from(full).toString()}": names begin with user., trusted. or security., or are those of the ACLs`);
  }
  return name;
}

/** The inode, for a change of this attribute. */
function changing(op: Op, ctx: FsContext, blkno: number, name: XattrName): InodeRef {
  const look = liveInode(op, ctx, blkno, EX);
  checkFlags(ctx, look, ATTR.IMMUTABLE | ATTR.APPEND);
  const type = fileType(look.di);
  if (name.type === XATTR_TYPE.USER && type !== MODE.REG && type !== MODE.DIR) throw refuse(ctx, 'XATTR_NOT_HERE', 'EPERM', blkno, 'is neither file nor directory and has no user attributes');
  const inode = ctx.editInode(op, blkno);
  foldLateTimes(op, ctx, inode);
  setTimes(inode.di, 'c', op.now);
  return inode;
}
