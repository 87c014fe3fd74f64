/**
 * POSIX ACLs (ondisk-format.md 7.3): on disk an array of {u16 tag, u16 perm, u32 id}; through getxattr the same entries
 * behind a version word (include/uapi/linux/posix_acl_xattr.h).
 */

export interface AclEntry {
  /** ACL_TAG. */
  readonly tag: number;
  /** rwx as 4, 2, 1. */
  readonly perm: number;
  /** uid or gid; 0xFFFFFFFF for tags without one. */
  readonly id: number;
}

export const ACL_TAG = { USER_OBJ: 0x01, USER: 0x02, GROUP_OBJ: 0x04, GROUP: 0x08, MASK: 0x10, OTHER: 0x20 } as const;
/** xe_type of the two attributes. */
export const ACL_XATTR_TYPES: readonly number[] = [2, 3];
const ENTRY = 8;
const XATTR_VERSION = 2;

/** The entries of an on-disk value; a trailing part of an entry is left out. */
export function parseAcl(value: Uint8Array): AclEntry[] {
  const dv = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const out: AclEntry[] = [];
  for (let at = 0; at + ENTRY <= value.length; at += ENTRY) out.push({ tag: dv.getUint16(at, true), perm: dv.getUint16(at + 2, true), id: dv.getUint32(at + 4, true) });
  return out;
}

/** The on-disk value as getxattr(2) hands it out. */
export function aclToXattr(value: Uint8Array): Uint8Array {
  const out = new Uint8Array(4 + value.length - (value.length % ENTRY));
  new DataView(out.buffer).setUint32(0, XATTR_VERSION, true);
  out.set(value.subarray(0, out.length - 4), 4);
  return out;
}
