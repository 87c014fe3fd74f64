/**
 * Names of extended attributes: xe_type stands for the prefix, what is stored is the rest (Linux 6.1
 * fs/ocfs2/xattr.c:ocfs2_xattr_handler_map). The two ACLs are whole names: nothing of them is stored.
 */

export const XATTR_TYPE = { USER: 1, ACL_ACCESS: 2, ACL_DEFAULT: 3, TRUSTED: 4, SECURITY: 5 } as const;
/** Bit of xe_type: the value lies beside the name. */
export const XATTR_LOCAL = 0x80;

const PREFIXES: readonly (readonly [type: number, prefix: string])[] = [
  [XATTR_TYPE.USER, 'user.'], [XATTR_TYPE.TRUSTED, 'trusted.'], [XATTR_TYPE.SECURITY, 'security.'],
];
const WHOLE: readonly (readonly [type: number, name: string])[] = [
  [XATTR_TYPE.ACL_ACCESS, 'system.posix_acl_access'], [XATTR_TYPE.ACL_DEFAULT, 'system.posix_acl_default'],
];
/** Type to prefix or whole name. */
const TEXT: ReadonlyMap<number, string> = new Map([...PREFIXES, ...WHOLE]);
const NO_NAME = new Uint8Array();

/** An attribute's name as it is stored. */
export interface XattrName {
  /** XATTR_TYPE. */
  readonly type: number;
  /** What follows the prefix; empty for ACLs. */
  readonly rest: Uint8Array;
}

/** The stored form of a full name; undefined if it begins with no prefix that OCFS2 keeps, or ends with the prefix. */
export function parseXattrName(full: Uint8Array): XattrName | undefined {
  const name = Buffer.from(full.buffer, full.byteOffset, full.length);
  for (const [type, whole] of WHOLE) if (name.equals(Buffer.from(whole))) return { type, rest: NO_NAME };
  for (const [type, prefix] of PREFIXES) {
    if (name.length > prefix.length && name.subarray(0, prefix.length).equals(Buffer.from(prefix))) return { type, rest: name.subarray(prefix.length) };
  }
  return undefined;
}

/** Prefix or whole name of a type; undefined for one that is not known. */
export function xattrPrefix(type: number): string | undefined {
  return TEXT.get(type);
}

/** The full name as bytes: what follows the prefix need not be UTF-8. */
export function fullXattrName({ type, rest }: XattrName): Uint8Array {
  return Buffer.concat([Buffer.from(TEXT.get(type) ?? ''), rest]);
}

export function isAcl(type: number): boolean {
  return type === XATTR_TYPE.ACL_ACCESS || type === XATTR_TYPE.ACL_DEFAULT;
}
