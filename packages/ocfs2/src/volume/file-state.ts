/**
 * What a mount keeps in memory of a file in use: its range lock, the gates of those who do direct I/O by its mapping, and
 * times that are not written yet. Nothing here is needed to understand the volume; all may be lost.
 *
 * Recall: whoever removes, moves or un-writes mapped extents (truncate, punch, zero), rewrites parts of a sector, or
 * gives the cluster locks away, goes in this order:
 *  1. range lock, exclusive: `mapRange` hands out no new mapping of the range, our own I/O in it has ended;
 *  2. `recall`: the gates' epochs change, I/O by older mappings has ended when it resolves;
 *  3. the operation that changes the tree;
 *  4. range lock released: workers map anew and find what is there now.
 * Recalling before 1 would let a mapping handed out in between survive the change.
 */
import type { Gate } from '@lunfs/device';
import type { FsContext, InodeRef } from '../context.js';
import type { DinodeView } from '../format/structs.js';
import { EX, type LockLevel } from '../locking/levels.js';
import { type LockTable, type Op, type Timestamp, Within } from '../txn/index.js';
import { type Attributes, setTimes } from './attributes.js';
import type { DataUnderWay } from './ordered.js';
import { PageState, dropPages } from './page-state.js';
import { RangeLock } from './range-lock.js';

/** Data written in place changes times only: they are written once they are this late in milliseconds, or with the next flush. */
const LAZY_TIMES_MS = 1000;

export class FileState implements DataUnderWay {
  readonly #ranges = new RangeLock();
  readonly gates = new Set<Gate>();
  /** Time of the last in-place write that the dinode does not show yet. */
  lateTime: Timestamp | undefined;
  /** Since when the dinode's times are late, in monotonic milliseconds. */
  lateSince = 0;
  uses = 0;
  /** Bytes of writes that were answered before they reached the device. */
  behind = 0;
  readonly dataUnderWay = new Set<Promise<void>>();
  /** What the kernel's page cache does with the file (page-io.ts). */
  readonly pages = new PageState();

  /** Range locks; who holds the whole file for a request has others within it. */
  get ranges(): RangeLock {
    const within = Within.current;
    return within instanceof WithinFile && within.state === this ? within.ranges : this.#ranges;
  }

  /** Step 2 above. */
  async recall(): Promise<void> {
    if (this.gates.size > 0) await Promise.all([...this.gates].map((gate) => gate.recall()));
  }
}

/** A request on one file, within locks of the file that its caller holds. */
export class WithinFile extends Within {
  constructor(readonly state: FileState, locks: LockTable, readonly ranges: RangeLock = new RangeLock()) {
    super(locks);
  }
}

const registry = new WeakMap<FsContext, Map<number, FileState>>();

function states(ctx: FsContext): Map<number, FileState> {
  let map = registry.get(ctx);
  if (map === undefined) registry.set(ctx, (map = new Map<number, FileState>()));
  return map;
}

/** Run `work` with the file's state; it is forgotten when nobody uses it and it holds nothing. */
export async function withFile<T>(ctx: FsContext, ino: number, work: (state: FileState) => Promise<T>): Promise<T> {
  const map = states(ctx);
  let state = map.get(ino);
  if (state === undefined) map.set(ino, (state = new FileState()));
  const done = useState(ctx, ino, state);
  try {
    return await work(state);
  } finally {
    done();
  }
}

/** Keep a file's state for longer than the work that has it. Returns what ends that. */
export function useState(ctx: FsContext, ino: number, state: FileState): () => void {
  state.uses++;
  return () => {
    state.uses--;
    forgetIdle(states(ctx), ino, state);
  };
}

function forgetIdle(map: Map<number, FileState>, ino: number, state: FileState): void {
  if (state.uses === 0 && state.gates.size === 0 && state.lateTime === undefined && state.pages.cached === undefined) map.delete(ino);
}

/** Someone does I/O by mappings of this file from now on: recalls go through `gate`. Returns what ends it. */
export function registerGate(ctx: FsContext, ino: number, gate: Gate): () => void {
  const map = states(ctx);
  let state = map.get(ino);
  if (state === undefined) map.set(ino, (state = new FileState()));
  const held = state;
  held.gates.add(gate);
  return () => {
    held.gates.delete(gate);
    forgetIdle(map, ino, held);
  };
}

/** All mappings of the file are given up when it resolves: before its cluster locks go. */
export async function recallMappings(ctx: FsContext, ino: number): Promise<void> {
  await states(ctx).get(ino)?.recall();
}

/**
 * mtime and ctime become those of the operation; late times are outdated once it applies.
 * (The mount clears set-user-id bits: Linux does it in file_remove_privs, above the file system.)
 */
export function touch(op: Op, di: DinodeView, state: FileState): void {
  setTimes(di, 'mc', op.now);
  op.onApply(() => {
    state.lateTime = undefined;
  });
}

/** Data was changed in place (by us or by a worker): mtime is late. Writes it if it has been so for long enough. */
export async function noteInPlaceWrite(ctx: FsContext, ino: number): Promise<void> {
  await withFile(ctx, ino, async (state) => {
    const { clock } = ctx.engine;
    if (state.lateTime === undefined) state.lateSince = clock.monotonic();
    state.lateTime = clock.now();
    if (clock.monotonic() - state.lateSince >= LAZY_TIMES_MS) await writeTimes(ctx, ino, state);
  });
}

/** What stat shows of an inode, with mtime and ctime that the dinode does not have yet. */
export function withLateTimes(ctx: FsContext, attributes: Attributes): Attributes {
  const late = states(ctx).get(attributes.blkno)?.lateTime;
  return late === undefined ? attributes : { ...attributes, mtime: late, ctime: late };
}

/** For operations that set times or end the inode: late times go into its dinode now, before what they set. */
export function foldLateTimes(op: Op, ctx: FsContext, inode: InodeRef): void {
  const map = states(ctx);
  const state = map.get(inode.blkno);
  if (state?.lateTime === undefined) return;
  setTimes(inode.di, 'mc', state.lateTime);
  op.onApply(() => {
    state.lateTime = undefined;
    forgetIdle(map, inode.blkno, state);
  });
}

/** Write a file's late times: before fsync, close and the loss of its lock. */
export async function flushTimes(ctx: FsContext, ino: number): Promise<void> {
  if (states(ctx).get(ino)?.lateTime !== undefined) await withFile(ctx, ino, (state) => writeTimes(ctx, ino, state));
}

/** Write all late times: before the volume is synced or unmounted, and now and then. */
export async function flushAllTimes(ctx: FsContext): Promise<void> {
  for (const ino of [...states(ctx).keys()]) await flushTimes(ctx, ino);
}

/**
 * A cluster lock of the file goes from one level to a lower one: mappings are given up, with the meta lock (M) pages cached above the mount dropped, then
 * the times of what was written by them go into the dinode, under the lock that is about to go (`locks`, see LockManagerOptions.onDowngrade).
 */
export async function giveUpFile(ctx: FsContext, ino: number, { type, from, to }: { type: 'M' | 'W'; from: LockLevel; to: LockLevel }, locks: LockTable): Promise<void> {
  if (!states(ctx).has(ino)) return;
  await withFile(ctx, ino, async (state) => {
    await state.recall();
    if (type === 'M' && to < state.pages.level) await dropPages(ctx, ino, state, from, locks);
    if (from === EX) await writeTimes(ctx, ino, state, locks);
  });
}

async function writeTimes(ctx: FsContext, ino: number, state: FileState, locks?: LockTable): Promise<void> {
  const late = state.lateTime;
  // On a volume that takes no more changes data is still written in place; its times stay late (docs/design.md 2, "Errors are final").
  if (late === undefined || ctx.engine.refusal !== undefined) return;
  state.lateTime = undefined;
  await ctx.engine.run('write times', (op) => {
    setTimes(ctx.editInode(op, ino).di, 'mc', late);
  }, locks);
}
