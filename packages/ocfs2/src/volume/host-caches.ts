/**
 * Caches of a host above the mount (contents, listings, attributes): told before a lock of their inode goes to another node.
 *
 * What is cached of an inode is right as long as its locks are held. So the lock waits for `drop`, and `drop` must wait for
 * nothing that waits for the lock: no read of the inode. A kernel's page cache does wait so (a page is locked while it is
 * filled), which is why a member's FUSE mount uses direct I/O; caches that count generations do not.
 */
import type { FsContext } from '../context.js';

export interface HostCaches {
  /**
   * Another node is about to change this inode, or its listing. When it resolves nothing of it is cached, and nothing that
   * was read before this call comes into the cache any more.
   */
  drop(ino: number): Promise<void> | undefined;
}

const registry = new WeakMap<FsContext, HostCaches>();

/** Undefined: nothing is cached above the mount. */
export function setCaches(ctx: FsContext, caches: HostCaches | undefined): void {
  if (caches === undefined) registry.delete(ctx);
  else registry.set(ctx, caches);
}

export function cachesOf(ctx: FsContext): HostCaches | undefined {
  return registry.get(ctx);
}
