/**
 * The page cache of a host's kernel above a member's mount: what it holds of an inode goes before the inode's meta lock does.
 * How the two wait for each other, and why never in a circle: page-io.ts.
 */
import type { FsContext } from '../context.js';

export interface HostCaches {
  /**
   * Drop the pages of bytes [from, to) of an inode. Dirty ones are written by requests like any other (`pageWrite`), pages that
   * are being filled are waited for. When it resolves, no page of the range is left that was filled or being filled at the call.
   */
  drop(ino: number, from: number, to: number): Promise<void>;
  /** A while, after which a `drop` that has not resolved waits for a request of ours, as a rule. */
  pause(): Promise<void>;
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
