/** ACLs of one form, in the form of setxattr(2): what owner, mask and others may do is a mode; a named user and the group have fixed rights. */
export const ACCESS_ACL = 'system.posix_acl_access';
export const DEFAULT_ACL = 'system.posix_acl_default';

const VERSION = 2;
const TAG = { USER_OBJ: 0x01, USER: 0x02, GROUP_OBJ: 0x04, MASK: 0x10, OTHER: 0x20 } as const;
const NAMED_USER = 4242;
const NO_ID = 0xffffffff;

/** The ACL of these permission bits. */
export function aclOf(bits: number): Buffer {
  const entries: [tag: number, perm: number, id: number][] = [
    [TAG.USER_OBJ, (bits >> 6) & 7, NO_ID], [TAG.USER, 7, NAMED_USER], [TAG.GROUP_OBJ, 5, NO_ID], [TAG.MASK, (bits >> 3) & 7, NO_ID], [TAG.OTHER, bits & 7, NO_ID],
  ];
  const out = Buffer.alloc(4 + 8 * entries.length);
  out.writeUInt32LE(VERSION);
  for (const [i, [tag, perm, id]] of entries.entries()) {
    out.writeUInt16LE(tag, 4 + 8 * i);
    out.writeUInt16LE(perm, 6 + 8 * i);
    out.writeUInt32LE(id, 8 + 8 * i);
  }
  return out;
}

/** And back. */
export function bitsOfAcl(acl: Uint8Array): number {
  const perm = (entry: number): number => Buffer.from(acl).readUInt16LE(6 + 8 * entry);
  return (perm(0) << 6) | (perm(3) << 3) | perm(4);
}
