/**
 * Extended attributes for the mount, which this version reads and does not change. Because nothing changes them, their blocks
 * outside the dinode are always in place, journal or not; the dinode comes from the engine.
 */
import { UsageError } from '@lunfs/device';
import { ACL_XATTR_TYPES, Dinode, DYN, PR, type RawXattr, RawReader, aclToXattr, listXattrs, type Volume, xattrValue } from '@lunfs/ocfs2';
import type { Caller } from '@lunfs/fuse';

const PREFIXES = ['user.', 'trusted.', 'security.'];

export class XattrReader {
  readonly #reader: RawReader;

  constructor(private readonly volume: Volume) {
    this.#reader = new RawReader(volume.device, volume.geo);
  }

  /** Names, as listxattr(2) lists them to this caller: trusted ones to root alone. */
  async list(caller: Caller, ino: number): Promise<Uint8Array[]> {
    const all = await this.#all(ino);
    return all.filter((one) => caller.uid === 0 || !one.name.startsWith('trusted.')).map(fullName);
  }

  /** Throws NO_XATTR (ENODATA). */
  async get(caller: Caller, ino: number, name: Buffer): Promise<Uint8Array> {
    const found = (await this.#all(ino)).find((one) => name.equals(fullName(one)));
    if (found === undefined || (caller.uid !== 0 && found.name.startsWith('trusted.'))) {
      throw new UsageError('NO_XATTR', 'ENODATA', `${this.volume.geo.device}: inode ${ino} has no attribute ${name.toString()}`, { inode: ino });
    }
    const value = await xattrValue(this.#reader, found);
    return ACL_XATTR_TYPES.includes(found.type) ? aclToXattr(value) : value;
  }

  async #all(ino: number): Promise<RawXattr[]> {
    const { ctx } = this.volume;
    const look = (op: Parameters<Parameters<typeof ctx.engine.read>[1]>[0]) => ctx.inode(op, ino, PR).block;
    const block = ctx.engine.readNow('xattrs', look) ?? (await ctx.engine.read('xattrs', look));
    return Dinode.at(block).dynFeatures & DYN.HAS_XATTR ? listXattrs(this.#reader, block) : [];
  }
}

/** Prefix and name as bytes: the name need not be UTF-8. */
function fullName(one: RawXattr): Uint8Array {
  const prefix = PREFIXES.find((p) => one.name.startsWith(p));
  return prefix === undefined ? Buffer.from(one.name) : Buffer.concat([Buffer.from(prefix), one.nameBytes]);
}

/** The refusal of every change. */
export function xattrsReadOnly(device: string, ino: number): UsageError {
  return new UsageError('FEATURE_READ_ONLY', 'EOPNOTSUPP', `${device}: changing extended attributes of inode ${ino} is not supported by this version of lunfs, which reads them; do it on a Linux node`, { device, inode: ino });
}
