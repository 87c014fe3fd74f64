/**
 * Value blocks of a mount's locks: what other nodes are told when a lock is given up at EX (cluster-protocols.md 7.2; Linux
 * 6.1 fs/ocfs2/dlmglue.c:ocfs2_set_meta_lvb). A block that says less than all is worse than none: peers trust it without
 * looking at the disk.
 */
import { FL } from '../format/constants.js';
import { DINODE, DINODE_ANY } from '../format/kinds.js';
import { Dinode } from '../format/structs.js';
import { encodeMetaLvb } from '../locking/meta-lvb.js';
import { parseLockName } from '../locking/levels.js';
import type { BlockCache } from '../txn/index.js';

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
