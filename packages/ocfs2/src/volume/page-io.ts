/**
 * I/O of a kernel's page cache above a member's mount, as FUSE gives it: pages are filled by reads (`pageRead`), dirty ones of
 * shared mappings come back as writes (`pageWrite`), and `HostCaches.drop` makes pages go.
 *
 * What pages stand on. A page is filled under the rw lock (W) and the meta lock (M) of the file and lives as long as M stays at
 * PR, or at EX while the file is open in a way that pages may be mapped for writing: the kernel does not tell when a clean page
 * becomes dirty. So a dirty page means M at EX. Such an open waits for M at EX (`openWritable`), which leaves pages valid that
 * were read under PR; and a writer of Linux takes M, if only to give it back, before it writes past its own cache under W alone.
 *
 * Why giving M up ends. While a page is filled it is locked, and `drop` waits for it; the request that fills it waits for M. So
 * does a write-back, and so does a truncate of this host, before whose answer the kernel sends no write-back of that file. The
 * lock therefore does not go at once: from the moment the recall begins until `drop` has ended these requests are served
 * under the lock that goes (PageDrop), whatever they waited for until then:
 *  1. for M: it is held, at least at the level that pages need;
 *  2. for a byte range: data of operations that have applied, and is still on its way to the device, is waited for first. Who else
 *     holds one of the file at that moment waits for M itself, has touched nothing, and will look anew. Admitted requests have ranges of their own;
 *  3. for W, which another node may have that waits for M: they go without. Linux's page cache does so always. What a read
 *     finds then may be half of a write that is under way; its page is gone before anything is granted to anyone;
 *  4. for other locks: these rank after M, and their holders never wait for M (locking/levels.ts).
 * Of a lock that goes down from PR no page is dirty, so `drop` waits for no write: truncates wait until it has ended. (A page that somebody has pinned can be
 * changed after all; there is no lock under which it could be stored, so its write-back fails, and with it the next fsync.)
 * A request that waited for its locks in the usual way does its work there or here, never twice: what comes too late finds it taken.
 *
 * Why no page is left. A pass of `drop` takes what was filled before it. A read that came before a pass and lies within it has its pages
 * locked already, so the pass takes them. A read that came later is held back; only if the pass does not end (it may wait for this very
 * read) it is served, and another pass goes over what it brought. Threads of the host that read on run into such a held read each, so
 * passes come to an end. Reads held back wait for M anew when the drop is over.
 */
import type { FsContext } from '../context.js';
import { EX, lockName } from '../locking/levels.js';
import type { LockTable } from '../txn/index.js';
import { lockData, lockFile } from './file-map.js';
import { fillRead, planRead } from './file-read.js';
import { type FileState, WithinFile, useState, withFile } from './file-state.js';
import { writeFile } from './file-write.js';
import { KeptLocks } from './kept-locks.js';
import type { PageDrop, PageRequest } from './page-state.js';

/** Says once whether the work is to be done: it is not if it has been done elsewhere meanwhile. */
type Claim = () => boolean;

/** Read as `readFile` does, where the bytes may become pages of the kernel's cache. */
export function pageRead(ctx: FsContext, ino: number, offset: number, into: Uint8Array): Promise<number> {
  const end = offset + into.length;
  return withFile(ctx, ino, (state) => {
    const { pages } = state;
    const read = async (ranges: FileState['ranges'], locks: LockTable, claim: Claim, known: boolean): Promise<number | undefined> => {
      const release = await ranges.lock(offset, end, false);
      try {
        return await ctx.engine.readHolding('read pages', (op) => planRead(op, ctx, lockData(op, ctx, ino, pages.level), offset, into.length), async (found) => {
          if (!claim()) return undefined;
          if (!known) pages.note(offset, end);
          return fillRead(ctx, found, offset, into);
        }, locks);
      } finally {
        release();
      }
    };
    return inTurn(state, { from: offset, to: end, kind: 'read', came: pages.passes }, {
      usual: (claim) => read(state.ranges, ctx.engine.locks, claim, false),
      admitted: async (drop) => (await read(drop.ranges, drop.locks, () => true, true))!,
    });
  });
}

/** Write what the kernel's cache writes back. The file does not grow by it, and data is on the device when it resolves. */
export async function pageWrite(ctx: FsContext, ino: number, offset: number, from: Uint8Array): Promise<void> {
  await change(ctx, ino, { from: offset, to: offset + from.length, kind: 'write-back' }, async () => {
    const size = await ctx.engine.read('size', (op) => lockFile(op, ctx, ino, EX).di.size);
    if (offset < size) await writeFile(ctx, ino, offset, from.subarray(0, size - offset));
  });
}

/** Change a file's size by `work`, which takes other locks than the file's only if they rank after these: the kernel sends no write-back of the file before it is answered. */
export function whilePagesMayGo<T>(ctx: FsContext, ino: number, size: number, work: () => Promise<T>): Promise<T> {
  return change(ctx, ino, { from: size, to: size, kind: 'truncate' }, work);
}

/** `work` runs with the file's locks held at EX, and its byte ranges are its own. */
function change<T>(ctx: FsContext, ino: number, request: Omit<PageRequest, 'came'>, work: () => Promise<T>): Promise<T> {
  return withFile(ctx, ino, (state) => inTurn(state, { ...request, came: state.pages.passes }, {
    usual: async (claim) => {
      const release = await state.ranges.lock(0, Number.POSITIVE_INFINITY, true);
      try {
        return await ctx.engine.readHolding('pages', (op) => {
          const { lock, di } = lockFile(op, ctx, ino, EX);
          return [lock.name, lockName('W', ino, di.generation)];
        }, async (names) => (claim() ? { value: await new WithinFile(state, KeptLocks.held(ctx.engine.locks, names)).run(work) } : undefined), ctx.engine.locks);
      } finally {
        release();
      }
    },
    admitted: async (drop) => ({ value: await new WithinFile(state, drop.locks, drop.ranges).run(work) }),
  })).then(({ value }) => value);
}

interface Ways<T> {
  /** With locks and ranges as everybody takes them; undefined if the claim was refused. */
  readonly usual: (claim: Claim) => Promise<T | undefined>;
  readonly admitted: (drop: PageDrop) => Promise<T>;
}

/** Serve a request in the usual way, or, when the lock begins to go before its work has begun, within the drop. */
async function inTurn<T>({ pages }: FileState, request: PageRequest, ways: Ways<T>): Promise<T> {
  for (;;) {
    const { drop } = pages;
    if (drop !== undefined) {
      if (!(await drop.admit(request))) continue;
      try {
        return await ways.admitted(drop);
      } finally {
        drop.done();
      }
    }
    let state: 'waiting' | 'begun' | 'elsewhere' = 'waiting';
    let tell!: () => void;
    const dropBegins = new Promise<undefined>((resolve) => (tell = () => resolve(undefined)));
    pages.waiting.add(tell);
    const attempt = ways.usual(() => {
      if (state === 'elsewhere') return false;
      state = 'begun';
      return true;
    });
    try {
      const first = await Promise.race([attempt, dropBegins]);
      if (first !== undefined) return first;
      if ((state as string) === 'begun') return (await attempt)!;
      state = 'elsewhere';
      attempt.catch(() => undefined); // it has begun nothing
    } finally {
      pages.waiting.delete(tell);
    }
  }
}

/** An open file by which pages may be mapped for writing: waits for M at EX. Returns what ends it, to be called once. */
export function openWritable(ctx: FsContext, ino: number): Promise<() => void> {
  return withFile(ctx, ino, async (state) => {
    const done = useState(ctx, ino, state);
    try {
      await ctx.engine.readHolding('open for writing', (op) => void ctx.inode(op, ino, EX), async () => void state.pages.writers++);
    } catch (error) {
      done();
      throw error;
    }
    return () => {
      state.pages.writers--;
      done();
    };
  });
}
