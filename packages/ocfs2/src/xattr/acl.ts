/**
 * POSIX ACLs (ondisk-format.md 7.3): on disk an array of {u16 tag, u16 perm, u32 id}; through getxattr and setxattr the same
 * entries behind a version word (include/uapi/linux/posix_acl_xattr.h). What an ACL says about the mode and what it becomes on
 * chmod and create is Linux 6.1 fs/posix_acl.c's; who may do what with it is decided by the kernel above us (FUSE_POSIX_ACL).
 */
import { UsageError } from '@lunfs/device';

export interface AclEntry {
  /** ACL_TAG. */
  readonly tag: number;
  /** rwx as 4, 2, 1. */
  readonly perm: number;
  /** uid or gid; 0xFFFFFFFF for tags without one. */
  readonly id: number;
}

export const ACL_TAG = { USER_OBJ: 0x01, USER: 0x02, GROUP_OBJ: 0x04, GROUP: 0x08, MASK: 0x10, OTHER: 0x20 } as const;
const ENTRY = 8;
const XATTR_VERSION = 2;
const NO_ID = 0xffffffff;

/** The entries of an on-disk value; a trailing part of an entry is left out. */
export function parseAcl(value: Uint8Array): AclEntry[] {
  const dv = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const out: AclEntry[] = [];
  for (let at = 0; at + ENTRY <= value.length; at += ENTRY) out.push({ tag: dv.getUint16(at, true), perm: dv.getUint16(at + 2, true), id: dv.getUint32(at + 4, true) });
  return out;
}

/** The on-disk value of an ACL. */
export function encodeAcl(acl: readonly AclEntry[]): Uint8Array {
  const out = new Uint8Array(acl.length * ENTRY);
  const dv = new DataView(out.buffer);
  for (const [i, { tag, perm, id }] of acl.entries()) {
    dv.setUint16(i * ENTRY, tag, true);
    dv.setUint16(i * ENTRY + 2, perm, true);
    dv.setUint32(i * ENTRY + 4, tag === ACL_TAG.USER || tag === ACL_TAG.GROUP ? id : NO_ID, true);
  }
  return out;
}

/** The on-disk value as getxattr(2) hands it out. */
export function aclToXattr(value: Uint8Array): Uint8Array {
  const out = new Uint8Array(4 + value.length - (value.length % ENTRY));
  new DataView(out.buffer).setUint32(0, XATTR_VERSION, true);
  out.set(value.subarray(0, out.length - 4), 4);
  return out;
}

/** The ACL of setxattr(2)'s value; empty where that means "none". Throws ACL_INVALID (EINVAL; EOPNOTSUPP for another version). */
export function aclFromXattr(value: Uint8Array): AclEntry[] {
  const bad = (errno: 'EINVAL' | 'EOPNOTSUPP', why: string) => new UsageError('ACL_INVALID', errno, `not a valid POSIX ACL: ${why}`);
  if (value.length === 0) return [];
  if (value.length < 4 || (value.length - 4) % ENTRY !== 0) throw bad('EINVAL', `${value.length} bytes`);
  if (new DataView(value.buffer, value.byteOffset).getUint32(0, true) !== XATTR_VERSION) throw bad('EOPNOTSUPP', 'unknown version');
  const acl = parseAcl(value.subarray(4));
  const why = acl.length > 0 ? aclFault(acl) : undefined;
  if (why !== undefined) throw bad('EINVAL', why);
  return acl;
}

/** Why this is no ACL (posix_acl.c:posix_acl_valid); undefined for a valid one. */
function aclFault(acl: readonly AclEntry[]): string | undefined {
  const order = Object.values(ACL_TAG);
  const count = new Map<number, number>();
  let last = -1;
  for (const { tag, perm, id } of acl) {
    const at = order.indexOf(tag as never);
    const named = tag === ACL_TAG.USER || tag === ACL_TAG.GROUP;
    if (at < 0) return `unknown tag ${tag}`;
    if (at < last || (at === last && !named)) return 'entries are not in order';
    if ((perm & ~7) !== 0) return `permissions ${perm}`;
    if (named && id === NO_ID) return 'a named entry without a name';
    last = at;
    count.set(tag, (count.get(tag) ?? 0) + 1);
  }
  for (const tag of [ACL_TAG.USER_OBJ, ACL_TAG.GROUP_OBJ, ACL_TAG.OTHER]) if (!count.has(tag)) return 'owner, group or others are missing';
  if ((count.has(ACL_TAG.USER) || count.has(ACL_TAG.GROUP)) && !count.has(ACL_TAG.MASK)) return 'named entries without a mask';
  return undefined;
}

/** Permission bits that stand for an ACL; `exact` when they say all of it, so that the ACL need not be kept (posix_acl.c:posix_acl_equiv_mode). */
export function aclMode(acl: readonly AclEntry[]): { bits: number; exact: boolean } {
  const of = (tag: number): number | undefined => acl.find((e) => e.tag === tag)?.perm;
  const group = of(ACL_TAG.MASK) ?? of(ACL_TAG.GROUP_OBJ) ?? 0;
  const exact = acl.every(({ tag }) => tag === ACL_TAG.USER_OBJ || tag === ACL_TAG.GROUP_OBJ || tag === ACL_TAG.OTHER);
  return { bits: ((of(ACL_TAG.USER_OBJ) ?? 0) << 6) | (group << 3) | (of(ACL_TAG.OTHER) ?? 0), exact };
}

/** The ACL after chmod (posix_acl.c:__posix_acl_chmod_masq): the group bits are the mask's where there is one. */
export function aclAfterChmod(acl: readonly AclEntry[], mode: number): AclEntry[] {
  return withBits(acl, (shift) => (mode >> shift) & 7);
}

/**
 * Access ACL and mode of a new inode under a default ACL (posix_acl.c:posix_acl_create_masq): it may do what both the ACL and
 * the mode that its creator asked for allow. No umask applies. `acl` is undefined if the mode says it all.
 */
export function aclForNew(defaultAcl: readonly AclEntry[], mode: number): { acl?: AclEntry[]; mode: number } {
  const perm = new Map(defaultAcl.map((e) => [e.tag, e.perm]));
  const allowed = (shift: number): number => {
    const mine = shift === 6 ? perm.get(ACL_TAG.USER_OBJ) : shift === 0 ? perm.get(ACL_TAG.OTHER) : (perm.get(ACL_TAG.MASK) ?? perm.get(ACL_TAG.GROUP_OBJ));
    return (mine ?? 0) & (mode >> shift) & 7;
  };
  const acl = withBits(defaultAcl, allowed);
  const bits = (allowed(6) << 6) | (allowed(3) << 3) | allowed(0);
  return { acl: aclMode(acl).exact ? undefined : acl, mode: (mode & ~0o777) | bits };
}

/** The ACL with the permissions of owner, group class (the mask where there is one) and others taken from `bits`. */
function withBits(acl: readonly AclEntry[], bits: (shift: number) => number): AclEntry[] {
  const groupClass = acl.some((e) => e.tag === ACL_TAG.MASK) ? ACL_TAG.MASK : ACL_TAG.GROUP_OBJ;
  return acl.map((e) => {
    const shift = e.tag === ACL_TAG.USER_OBJ ? 6 : e.tag === groupClass ? 3 : e.tag === ACL_TAG.OTHER ? 0 : undefined;
    return shift === undefined ? e : { ...e, perm: bits(shift) };
  });
}
