/**
 * Inodes in use by the mount, by exports, or by both, and what keeps both views of one file the same.
 *
 * The argument. Below the kernel's page cache there is one truth, the device: the mount's writes go through (a mount with a
 * writeback cache excludes exports: host-volume.ts; O_DIRECT underneath), so an export reads what was written by the mount once that write has returned. What can be stale is the page
 * cache above the mount, when an export changes the file. Therefore:
 *  1. While a file is exported, new opens get FOPEN_DIRECT_IO and attributes no time to live. mmap of such an open still caches pages,
 *     and opens from before the export cache as ever: so direct I/O alone is not enough.
 *  2. While a file is exported *and* open through the mount, workers may not write in place (`Gate.forbidWrites`, and a recall, so that no
 *     earlier write is in flight). Every write of an export then passes the main thread, which drops the range from the kernel's
 *     cache before it acknowledges. A page being read meanwhile is locked, and the kernel's invalidation waits for it.
 *  3. A file exported but not open through the mount is written at full speed; whatever the kernel still caches of it is dropped
 *     at the next open (no KEEP_CACHE while exported) and once more when the export ends.
 * A file that is not exported is changed by the mount alone, so caches are kept without limit.
 */
import type { FileBackend } from '@lunfs/device';
import { type DirectAccess, type FsContext, SharedFile } from '@lunfs/ocfs2';

/** Drops what the kernel caches of an inode: attributes, and pages from `offset` (`length` 0: to the end; `offset` < 0: none). */
export type InvalidateInode = (ino: number, offset: number, length: number) => Promise<void>;

/** One inode in use. */
class Use {
  mounted = 0;
  exported = 0;

  constructor(readonly file: SharedFile) {}
}

/** How a user opens a file. */
export interface FileUser {
  readonly readOnly: boolean;
  /** Acknowledged writes survive the death of this process. */
  readonly survives: boolean;
  /** TRIM and WRITE_ZEROES keep the space. */
  readonly keepSpace?: boolean;
}

export interface OpenedFile {
  readonly ino: number;
  readonly backend: FileBackend;
  /** Give it back, once. Never rejects: what fails is told to `report`. */
  close(): Promise<void>;
}

export class FileTable {
  readonly #uses = new Map<number, Use>();
  /** One change of users at a time per inode: forbid and recall must not overlap with the opposite. */
  readonly #turns = new Map<number, Promise<unknown>>();
  #invalidate: InvalidateInode = () => Promise.resolve();

  constructor(private readonly ctx: FsContext, private readonly access: DirectAccess | undefined, private readonly report: (error: unknown, what: string) => void) {}

  /** The mount's cache is dropped by this from now on. */
  set invalidate(invalidate: InvalidateInode) {
    this.#invalidate = invalidate;
  }

  /** The mount's kernel must ask for the attributes again; pages stay. */
  attributesChanged(ino: number): Promise<void> {
    return this.#invalidate(ino, -1, 0);
  }

  isExported(ino: number): boolean {
    return (this.#uses.get(ino)?.exported ?? 0) > 0;
  }

  /** Inodes in use. */
  get size(): number {
    return this.#uses.size;
  }

  /** A file of the mount. The caller holds a reference to the inode until it is closed. At once where no export has a part in it. */
  openMounted(ino: number, user: FileUser): OpenedFile | Promise<OpenedFile> {
    const use = this.#uses.get(ino);
    if (this.#turns.has(ino) || (use?.exported ?? 0) > 0) return this.#open(ino, 'mounted', user);
    const own = use ?? this.#use(ino);
    own.mounted++;
    return this.#opened(own, 'mounted', user);
  }

  /** A file of an export. The caller holds a reference to the inode until it is closed. */
  openExported(ino: number, user: FileUser): Promise<OpenedFile> {
    return this.#open(ino, 'exported', user);
  }

  async #open(ino: number, side: 'mounted' | 'exported', user: FileUser): Promise<OpenedFile> {
    const use = await this.#turn(ino, async () => {
      const found = this.#uses.get(ino) ?? this.#use(ino);
      found[side]++;
      try {
        // Clients of an export are told its size: it must be known, also while the dinode is not cached.
        if (side === 'exported') await found.file.load();
        await this.#arrange(found);
        if (side === 'exported' && found.exported === 1) await this.#invalidate(ino, 0, 0);
      } catch (error) {
        await this.#leave(found, side);
        throw error;
      }
      return found;
    });
    return this.#opened(use, side, user);
  }

  #use(ino: number): Use {
    const use = new Use(new SharedFile(this.ctx, ino, this.access));
    this.#uses.set(ino, use);
    return use;
  }

  #opened(use: Use, side: 'mounted' | 'exported', user: FileUser): OpenedFile {
    const { ino } = use.file;
    const changed = side === 'exported' ? (offset: number, length: number) => (use.mounted > 0 ? this.#invalidate(ino, offset, length) : Promise.resolve()) : undefined;
    const backend = use.file.backend({ ...user, changed });
    let open = true;
    return {
      ino, backend,
      close: async () => {
        if (!open) return;
        open = false;
        // One of several users, or one who never asked for a mapping: there is nothing to recall.
        if (!this.#turns.has(ino) && use.exported === 0 && (use.mounted > 1 || !use.file.gated)) {
          if (--use.mounted === 0) this.#uses.delete(ino);
          return;
        }
        try {
          await this.#turn(ino, () => this.#leave(use, side));
        } catch (error) {
          this.report(error, 'close');
        }
      },
    };
  }

  /** Point 2 of the argument, for the users there are now. */
  async #arrange(use: Use): Promise<void> {
    const both = use.mounted > 0 && use.exported > 0;
    if (both || use.file.gated) use.file.gate.forbidWrites(both);
    if (both && (use.mounted === 1 || use.exported === 1)) await use.file.gate.recall();
  }

  async #leave(use: Use, side: 'mounted' | 'exported'): Promise<void> {
    use[side]--;
    if (side === 'exported' && use.exported === 0) await this.#invalidate(use.file.ino, 0, 0);
    if (use.mounted + use.exported > 0) return this.#arrange(use);
    this.#uses.delete(use.file.ino);
    await use.file.close();
  }

  async #turn<T>(ino: number, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(ino) ?? Promise.resolve();
    const mine = before.then(work);
    const settled = mine.catch(() => undefined);
    this.#turns.set(ino, settled);
    try {
      return await mine;
    } finally {
      if (this.#turns.get(ino) === settled) this.#turns.delete(ino);
    }
  }
}
