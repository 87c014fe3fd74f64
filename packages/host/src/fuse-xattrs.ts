/**
 * Extended attributes for the mount: the kernel above decides by name space and ACLs who may do what (FUSE_POSIX_ACL with
 * default permissions; Linux 6.1 fs/xattr.c:xattr_permission); what it leaves to the file system is done here.
 */
import { UsageError } from '@lunfs/device';
import type { Caller } from '@lunfs/fuse';
import type { Volume } from '@lunfs/ocfs2';

const TRUSTED = Buffer.from('trusted.');
/** setxattr(2) flags. */
const XATTR_CREATE = 1;
const XATTR_REPLACE = 2;

export class Xattrs {
  constructor(private readonly volume: Volume) {}

  /** Names, as listxattr(2) lists them to this caller: trusted ones to root alone. */
  async list(caller: Caller, ino: number): Promise<Uint8Array[]> {
    this.#served();
    const names = await this.volume.names.listXattr(ino);
    return caller.uid === 0 ? names : names.filter((name) => !isTrusted(name));
  }

  get(_caller: Caller, ino: number, name: Buffer): Promise<Uint8Array> {
    this.#served();
    return this.volume.names.getXattr(ino, name);
  }

  /** `killSetgid`: an access ACL set by somebody outside the file's group takes setgid away. */
  set(ino: number, name: Buffer, value: Buffer, flags: number, killSetgid: boolean): Promise<void> {
    this.#served();
    const mode = flags & XATTR_CREATE ? 'create' : flags & XATTR_REPLACE ? 'replace' : 'either';
    return this.volume.names.setXattr(ino, name, value, { mode, killSetgid });
  }

  remove(ino: number, name: Buffer): Promise<void> {
    this.#served();
    return this.volume.names.removeXattr(ino, name);
  }

  /** ENOSYS stops the kernel from asking, ACLs included; it tells its callers EOPNOTSUPP. */
  #served(): void {
    const { xattr, device } = this.volume.geo;
    if (!xattr) throw new UsageError('XATTR_UNSUPPORTED', 'ENOSYS', `${device} lacks the feature "xattr" (tunefs.ocfs2 --fs-features=xattr)`, { device });
  }
}

function isTrusted(name: Uint8Array): boolean {
  return Buffer.from(name.buffer, name.byteOffset, TRUSTED.length <= name.length ? TRUSTED.length : 0).equals(TRUSTED);
}
