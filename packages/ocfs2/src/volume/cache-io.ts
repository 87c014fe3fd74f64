/**
 * Caches above the mount (pages and listings in the kernel) are dropped before a lock of their inode goes to another node.
 *
 * Dropping a page waits until whoever is filling it is done, and filling it is a read that waits for the very lock: a circle.
 * So while caches are being dropped, reads of the inode go on under the lock that is about to go (it is still held). What
 * they leave in a cache behind the one who drops it would be stale later; hence caches are dropped again until nothing was
 * read meanwhile. Reads that come after that wait for the lock as ever, and what they fill is not valid before.
 */
import type { FsContext } from '../context.js';
import type { LockLevel } from '../locking/levels.js';
import type { LockTable } from '../txn/index.js';

/** What a host that caches above a mount drops for it. */
export interface HostCaches {
  /**
   * Nothing of this inode's content or listing is cached when it resolves, and what was changed there is written. It may
   * need reads of the inode to end (`BackendOptions`: those of backends do), and must not need anything else of the mount.
   * Undefined: there is nothing.
   */
  drop(ino: number): Promise<void> | undefined;
}

const registry = new WeakMap<FsContext, HostCaches>();

/** What caches above a mount drop before locks go; undefined: nothing is cached there. */
export function setCaches(ctx: FsContext, caches: HostCaches | undefined): void {
  if (caches === undefined) registry.delete(ctx);
  else registry.set(ctx, caches);
}

export function cachesOf(ctx: FsContext): HostCaches | undefined {
  return registry.get(ctx);
}

/** Locks of one file whose caches are being dropped, and the reads that go on under them. */
export class LeavingLocks {
  readonly #tables = new Map<string, LockTable>();
  readonly #watchers = new Set<() => void>();
  readonly #reads = new Set<Promise<unknown>>();
  /** Locks given to reads since caches were last asked to drop. */
  #passes = 0;

  /** Before lock `name` goes; `locks`: as an operation of its downgrade sees them (LockManagerOptions.onDowngrade). */
  async drop(caches: HostCaches, ino: number, name: string, locks: LockTable): Promise<void> {
    const first = caches.drop(ino);
    if (first === undefined) return;
    this.#tables.set(name, locks);
    for (const watcher of [...this.#watchers]) watcher();
    try {
      await first;
      await Promise.allSettled(this.#reads);
      while (this.#passes > 0) {
        this.#passes = 0;
        await caches.drop(ino);
        await Promise.allSettled(this.#reads);
      }
    } finally {
      this.#tables.delete(name);
    }
  }

  /** Run a read with locks that it gets also while they are about to go. */
  async read<T>(ctx: FsContext, work: (locks: LockTable) => Promise<T>): Promise<T> {
    const read = work(new ReadLocks(ctx.engine.locks, this));
    this.#reads.add(read);
    try {
      return await read;
    } finally {
      this.#reads.delete(read);
    }
  }

  /** A holder of a lock that is about to go. */
  pass(name: string, level: LockLevel): boolean {
    if (this.#tables.get(name)?.tryHold(name, level) !== true) return false;
    this.#passes++;
    return true;
  }

  /** Resolves when `pass` may say yes. Call the function it returns besides when nobody waits any more. */
  untilPass(name: string, level: LockLevel): { readonly passed: Promise<void>; readonly end: () => void } {
    let watcher: () => void = () => undefined;
    const passed = new Promise<void>((resolve) => {
      watcher = () => {
        if (this.pass(name, level)) resolve();
      };
    });
    this.#watchers.add(watcher);
    return { passed, end: () => void this.#watchers.delete(watcher) };
  }
}

class ReadLocks implements LockTable {
  readonly #passes = new Set<string>();

  constructor(private readonly table: LockTable, private readonly leaving: LeavingLocks) {}

  tryHold(name: string, level: LockLevel): boolean {
    if (this.table.tryHold(name, level)) return true;
    if (!this.leaving.pass(name, level)) return false;
    this.#passes.add(name);
    return true;
  }

  async hold(name: string, level: LockLevel): Promise<void> {
    if (this.tryHold(name, level)) return;
    const { passed, end } = this.leaving.untilPass(name, level);
    let late = false;
    const held = this.table.hold(name, level).then(() => {
      if (late) this.table.drop(name, level);
    });
    try {
      await Promise.race([held, passed.then(() => {
        late = true;
        this.#passes.add(name);
      })]);
    } finally {
      end();
      held.catch(() => undefined); // nobody waits for it any more
    }
  }

  tryLock(name: string, level: LockLevel): Promise<boolean> {
    return this.table.tryLock(name, level);
  }

  share(name: string, level: LockLevel): void {
    this.table.share(name, level);
  }

  drop(name: string, level: LockLevel): void {
    if (!this.#passes.delete(name)) this.table.drop(name, level);
  }

  giveUp(name: string): void {
    this.table.giveUp(name);
  }

  surrender(name: string): Promise<void> {
    return this.table.surrender(name);
  }

  pin(name: string): void {
    this.table.pin(name);
  }
}
