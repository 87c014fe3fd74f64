/**
 * What a host's page cache holds of a file, and how it goes before the file's meta lock does. The argument is page-io.ts's.
 */
import { IoError } from '@lunfs/device';
import type { FsContext } from '../context.js';
import { EX, type LockLevel, PR, parseLockName } from '../locking/levels.js';
import type { LockTable } from '../txn/index.js';
import { type HostCaches, cachesOf } from './host-caches.js';
import type { DataUnderWay } from './ordered.js';
import { RangeLock } from './range-lock.js';

/** Bytes [from, to) of a file. */
export interface Bytes {
  readonly from: number;
  readonly to: number;
}

/** A request of the page cache, or one that may be: direct reads look the same. */
export interface PageRequest extends Bytes {
  /** A read may bring a page in, a write-back is a dirty one's; before a truncate is answered the kernel sends no write-back. */
  readonly kind: 'read' | 'write-back' | 'truncate';
  /** Passes of drops begun before it came. */
  readonly came: number;
}

export class PageState {
  /** Open files by which pages may be changed without a word (mmap). */
  writers = 0;
  /** All that was read since the last drop: nothing outside is in the cache. */
  cached: Bytes | undefined;
  /** Under way: requests are served under the lock that goes. */
  drop: PageDrop | undefined;
  /** Told when a drop begins. */
  readonly waiting = new Set<() => void>();
  passes = 0;

  /** At which the meta lock is held while a page is cached. */
  get level(): typeof PR | typeof EX {
    return this.writers > 0 ? EX : PR;
  }

  note(from: number, to: number): void {
    this.cached = hull(this.cached, { from, to });
  }
}

function hull(a: Bytes | undefined, b: Bytes): Bytes {
  return a === undefined ? b : { from: Math.min(a.from, b.from), to: Math.max(a.to, b.to) };
}

const overlap = (a: Bytes, b: Bytes): boolean => a.from < b.to && b.from < a.to;
const inside = (a: Bytes, b: Bytes): boolean => b.from <= a.from && a.to <= b.to;

/** Passes of a drop after which what was written back is not looked at once more. */
const PASSES_FOR_WRITES = 2;

/** One drop: passes over what is cached, until one has brought nothing in. */
export class PageDrop {
  readonly ranges = new RangeLock();
  readonly #held = new Map<PageRequest, (admitted: boolean) => void>();
  #pass: Bytes;
  /** What may have come into the cache behind the pass under way. */
  #again: Bytes | undefined;
  #inFlight = 0;
  #count = 0;
  #idle: (() => void) | undefined;
  #over = false;

  /** `level`: at which the lock is still held. */
  constructor(private readonly pages: PageState, cached: Bytes, private readonly level: LockLevel, readonly locks: LockTable) {
    this.#pass = cached;
  }

  /** True: to be served now, then `done`. False: the drop is over, try anew. */
  admit(request: PageRequest): boolean | Promise<boolean> {
    if (this.#over) return false;
    if (request.kind === 'read') {
      if (request.came < this.pages.passes && overlap(request, this.#pass)) return this.#admit(request, inside(request, this.#pass));
    } else if (this.level === EX) return this.#admit(request, false);
    else if (request.kind === 'write-back') throw new IoError('PAGE_LATE', 'a page that a program had pinned was changed when the lock of its file had gone; what was changed is lost', {});
    return new Promise((resolve) => this.#held.set(request, resolve));
  }

  done(): void {
    if (--this.#inFlight === 0) this.#idle?.();
  }

  async run(ino: number, caches: HostCaches): Promise<void> {
    try {
      for (let again: Bytes | undefined = this.#pass; again !== undefined; again = this.#again) {
        this.#pass = again;
        this.#again = undefined;
        this.pages.passes++;
        this.#count++;
        // Their pages are locked: the pass waits for them, and takes them along.
        this.#letIn((request) => request.came < this.pages.passes && overlap(request, again!));
        await this.#wait(caches.drop(ino, again.from, again.to), caches);
        if (this.#inFlight > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
      }
    } finally {
      this.#over = true;
      for (const resolve of this.#held.values()) resolve(false);
    }
  }

  async #wait(dropping: Promise<void>, caches: HostCaches): Promise<void> {
    let dropped = false;
    const told = dropping.finally(() => (dropped = true));
    while (!dropped) {
      await Promise.race([told, caches.pause()]);
      if (!dropped) this.#letIn((request) => overlap(request, this.#pass));
    }
    await told;
  }

  #letIn(which: (request: PageRequest) => boolean): void {
    for (const [request, resolve] of [...this.#held]) {
      if (request.kind !== 'read' || !which(request)) continue;
      this.#held.delete(request);
      resolve(this.#admit(request, request.came < this.pages.passes && inside(request, this.#pass)));
    }
  }

  /** `taken`: what it brings in goes with this pass. */
  #admit(request: PageRequest, taken: boolean): true {
    this.#inFlight++;
    // A page that somebody has pinned can be dirty again by the time it was to go: it stays, then.
    if (!taken && (request.kind === 'read' || this.#count <= PASSES_FOR_WRITES)) this.#again = hull(this.#again, request);
    return true;
  }
}

/** What dropping pages needs of a file (file-state.ts). */
interface CachedFile extends DataUnderWay {
  readonly pages: PageState;
}

/** The meta lock of a file goes down from `from`: when it resolves no page is cached, and none comes in before it is granted again. */
export async function dropPages(ctx: FsContext, ino: number, state: CachedFile, from: LockLevel, locks: LockTable): Promise<void> {
  const { pages } = state;
  const caches = cachesOf(ctx);
  const { cached } = pages;
  if (cached === undefined || caches === undefined || from < pages.level) return;
  // Its ranges are locked, or were; those of a drop are others, and reads within it would find the size without the data.
  while (state.dataUnderWay.size > 0) await Promise.all(state.dataUnderWay);
  const drop = (pages.drop = new PageDrop(pages, cached, from, withoutRw(locks, ino)));
  for (const tell of [...pages.waiting]) tell();
  try {
    await drop.run(ino, caches);
    pages.cached = undefined;
  } finally {
    pages.drop = undefined;
  }
}

/** The rw lock is not asked for (page-io.ts, point 3). */
function withoutRw(table: LockTable, ino: number): LockTable {
  const free = (name: string): boolean => {
    const lock = parseLockName(name);
    return lock?.type === 'W' && lock.blkno === ino;
  };
  return {
    tryHold: (name, level) => free(name) || table.tryHold(name, level),
    hold: async (name, level) => {
      if (!free(name)) await table.hold(name, level);
    },
    tryLock: async (name, level) => free(name) || table.tryLock(name, level),
    share: (name, level) => {
      if (!free(name)) table.share(name, level);
    },
    drop: (name, level) => {
      if (!free(name)) table.drop(name, level);
    },
    giveUp: (name) => table.giveUp(name),
    surrender: (name) => table.surrender(name),
    pin: (name) => table.pin(name),
  };
}
