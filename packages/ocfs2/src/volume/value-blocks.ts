/**
 * Value blocks of inodes' meta locks (cluster-protocols.md 7.2; Linux 6.1 fs/ocfs2/dlmglue.c:ocfs2_set_meta_lvb,
 * ocfs2_refresh_inode_from_lvb): what other nodes are told when EX is given up, and what they told us, which spares looking
 * at the disk for attributes. A block that says less than all is worse than none, for it is trusted.
 */
import type { FsContext } from '../context.js';
import { DYN, FL, S_IFMT } from '../format/constants.js';
import type { Geometry } from '../format/geometry.js';
import { DINODE, DINODE_ANY } from '../format/kinds.js';
import { Dinode } from '../format/structs.js';
import { type MetaValue, decodeMetaLvb, encodeMetaLvb } from '../locking/meta-lvb.js';
import { type LockLevel, NL, PR, parseLockName } from '../locking/levels.js';
import type { BlockCache } from '../txn/index.js';
import type { Attributes } from './attributes.js';

/**
 * For a meta lock: the dinode's present version, if it is cached. An inode that was wiped has none, so that everybody looks
 * at the disk and finds it gone.
 */
export function metaValue(cache: BlockCache, name: string): Uint8Array | undefined {
  const lock = parseLockName(name);
  if (lock?.type !== 'M') return undefined;
  const entry = cache.peek(lock.blkno);
  if (entry === undefined || entry.owner !== name || (entry.kind !== DINODE && entry.kind !== DINODE_ANY)) return undefined;
  const di = Dinode.at(entry.block);
  return di.flags & FL.VALID ? encodeMetaLvb(di) : undefined;
}

/** What must not change while an inode is referenced: a value that says otherwise is of another inode. */
export interface InodeIdentity {
  readonly generation: number;
  readonly type: number;
  readonly rdev: number;
}

/**
 * What other nodes said of inodes whose lock we hold at PR and were granted from NL. Nobody changes an inode then, we neither:
 * at EX the value is forgotten.
 */
export class MetaValues {
  readonly #values = new Map<string, MetaValue>();

  granted(name: string, level: LockLevel, lvb: Uint8Array, from: LockLevel): void {
    const value = level === PR && from === NL && name.startsWith('M') ? decodeMetaLvb(lvb) : undefined;
    if (value === undefined) this.#values.delete(name);
    else this.#values.set(name, value);
  }

  gone(name: string): void {
    this.#values.delete(name);
  }

  /** Attributes by the value of the inode's lock, which is held. Undefined: there is none that says all. */
  attributes(geo: Geometry, name: string, blkno: number, { generation, type, rdev }: InodeIdentity): Attributes | undefined {
    const value = this.#values.get(name);
    if (value === undefined || value.generation !== generation || (value.mode & S_IFMT) !== type) return undefined;
    const { dynFeatures, clusters, size, attr: flags, atime, ctime, mtime, mode, links, uid, gid } = value;
    // Of an indexed directory's links the value has the lower half only.
    if (dynFeatures & DYN.INDEXED_DIR) return undefined;
    const blocks = dynFeatures & DYN.INLINE_DATA ? Math.ceil(size / 512) : clusters * (geo.clusterSize / 512);
    return { blkno, generation, mode, links, uid, gid, size, blocks, blockSize: geo.clusterSize, rdev, atime, mtime, ctime, flags };
  }
}

const registry = new WeakMap<FsContext, MetaValues>();

/** A mount with other nodes beside it keeps what they say. */
export function keepValues(ctx: FsContext, values: MetaValues): void {
  registry.set(ctx, values);
}

export function valuesOf(ctx: FsContext): MetaValues | undefined {
  return registry.get(ctx);
}
