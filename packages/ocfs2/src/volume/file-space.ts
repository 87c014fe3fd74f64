/**
 * Space of a file without its content: fallocate in the modes that OCFS2 has, and preallocation for thick disks.
 *
 * Ranges are zeroed by marking whole written clusters unwritten where that is possible: one operation, whatever the
 * length, and a crash shows old bytes or zeroes, never a mixture within a cluster.
 */
import { UsageError } from '@lunfs/device';
import { claimFromBitmap } from '../alloc/bitmap.js';
import type { FsContext, InodeRef } from '../context.js';
import { dinodeTree, insert, lookup, setFlags } from '../extents/index.js';
import { EXT } from '../format/constants.js';
import { InlineData } from '../format/structs.js';
import { EX } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import type { Piece } from './file-data.js';
import { inlineToExtents, resizeInline } from './file-inline.js';
import { isInline, lockFile } from './file-map.js';
import { type FileState, touch, withFile } from './file-state.js';
import { removeClusters, zeroPieces } from './file-truncate.js';
import { allocate, checkFileRange, writtenPieces } from './file-write.js';
import { Ordered } from './ordered.js';

/** Records one operation adds or changes at most. */
const MAX_PIECES = 64;

/** Bytes zeroed within one operation: its transaction waits for them. */
const ZERO_STEP = 64 << 20;

/** What fallocate(2) can ask for; collapse and insert range do not exist on OCFS2. */
export type FallocateMode = 'reserve' | 'punch' | 'zero' | 'collapse' | 'insert';

/** fallocate(2). `keepSize`: i_size stays even if the range ends beyond it (punch implies it). Throws EOPNOTSUPP for what the volume cannot do. */
export async function fallocate(ctx: FsContext, ino: number, mode: FallocateMode, offset: number, length: number, keepSize: boolean): Promise<void> {
  switch (mode) {
    case 'reserve': return reserveRange(ctx, ino, offset, length, { keepSize });
    case 'punch': return punchHole(ctx, ino, offset, length);
    case 'zero': return zeroRange(ctx, ino, offset, length, keepSize);
    default: throw new UsageError('FALLOCATE_MODE', 'EOPNOTSUPP', `OCFS2 files have no ${mode} range; copy the data instead`, { inode: ino, mode });
  }
}

/** Bytes the clusters that hold [from, to) span. */
function clusterRange(ctx: FsContext, from: number, to: number): [number, number] {
  const { clusterSize } = ctx.geo;
  return [Math.floor(from / clusterSize) * clusterSize, Math.ceil(to / clusterSize) * clusterSize];
}

function needUnwritten(ctx: FsContext, ino: number, what: string): void {
  if (ctx.geo.unwritten && ctx.geo.sparse) return;
  throw new UsageError('NO_UNWRITTEN', 'EOPNOTSUPP', `${ctx.geo.device}: ${what} needs the features sparse and unwritten, which this volume lacks; write zeroes instead`, { inode: ino });
}

function checkRange(ctx: FsContext, ino: number, offset: number, length: number): void {
  checkFileRange(ctx, ino, offset, length);
  if (length === 0) throw new UsageError('BAD_RANGE', 'EINVAL', 'a range to be allocated, zeroed or punched cannot be empty', { inode: ino, offset });
}

interface ReserveOptions {
  readonly keepSize: boolean;
  /** Take the largest free runs of the volume, one after the other, instead of what lies nearest. */
  readonly contiguous?: boolean;
  /** Write zeroes and make the extents written: slower now, no conversion at the first write. */
  readonly zeroed?: boolean;
  /** Bytes reserved so far. */
  readonly progress?: (done: number) => void;
}

/**
 * Allocate what is a hole in [offset, offset + length), unwritten. In several operations: when space runs out
 * (NO_SPACE) what was reserved before stays; i_size changes in the last one only (`zeroed`: with each).
 */
async function reserveRange(ctx: FsContext, ino: number, offset: number, length: number, options: ReserveOptions): Promise<void> {
  checkRange(ctx, ino, offset, length);
  needUnwritten(ctx, ino, 'reserving space');
  await withFile(ctx, ino, async (state) => {
    // From 0: what lies between i_size and the range is zeroed when i_size comes to lie behind it, and may move for that.
    const release = await state.ranges.lock(options.keepSize ? clusterRange(ctx, offset, offset)[0] : 0, Number.POSITIVE_INFINITY, true);
    try {
      for (let at = offset; at < offset + length; ) {
        at = await reserveStep(ctx, ino, state, at, offset + length, options);
        options.progress?.(Math.min(at, offset + length) - offset);
      }
    } finally {
      release();
    }
  });
}

/** One operation's worth of a reservation; returns where the next one goes on. */
async function reserveStep(ctx: FsContext, ino: number, state: FileState, from: number, end: number, options: ReserveOptions): Promise<number> {
  const { clusterSize, blockSize } = ctx.geo;
  const ordered = new Ordered();
  const step = await ctx.engine.run('reserve', (op): { at: number; zero: Piece[] } => {
    const ref = lockFile(op, ctx, ino, EX);
    ordered.attach(op, state);
    touch(op, ref.di, state);
    if (isInline(ref)) {
      if (end <= InlineData.at(ref.block).idCount) {
        if (!options.keepSize) resizeInline(ref, Math.max(ref.di.size, end));
        return { at: end, zero: [] };
      }
      inlineToExtents(op, ctx, ref, ordered);
    }
    const tree = dinodeTree(ref, op, ctx);
    const zero: Piece[] = [];
    const endCluster = Math.ceil(end / clusterSize);
    let cpos = Math.floor(from / clusterSize);
    const stop = options.zeroed ? Math.min(endCluster, cpos + ZERO_STEP / clusterSize) : endCluster;
    for (let pieces = 0; cpos < stop && pieces < MAX_PIECES; pieces++) {
      const found = lookup(op, tree, cpos);
      const most = Math.min(stop, found.cpos + found.clusters) - cpos;
      if (!found.hole) {
        cpos += most;
        continue;
      }
      const got = options.contiguous ? allocateLargest(op, ctx, ref, cpos, most, options.zeroed ? 0 : EXT.UNWRITTEN) : allocate(op, ctx, ref, cpos, most, EXT.UNWRITTEN);
      if (options.zeroed) zero.push({ offset: cpos * clusterSize, length: got.clusters * clusterSize, device: got.blkno * blockSize });
      cpos += got.clusters;
    }
    const reached = Math.min(end, cpos * clusterSize);
    if (!options.keepSize && reached > ref.di.size && (options.zeroed || reached === end)) {
      zero.push(...writtenPieces(op, ctx, ref, ref.di.size, reached, ordered).filter((p) => !zero.some((z) => z.device <= p.device && p.device < z.device + z.length)));
      ref.di.size = reached;
    }
    return { at: cpos * clusterSize, zero };
  });
  await ordered.finish(async () => {
    if (step.zero.length > 0) await state.recall();
    await zeroPieces(ctx, step.zero);
  });
  return step.at;
}

/** Fill a hole from the largest run the global bitmap has, found by halving the demand. */
function allocateLargest(op: Op, ctx: FsContext, ref: InodeRef, cpos: number, want: number, flags: number): { clusters: number; blkno: number } {
  const tree = dinodeTree(ref, op, ctx);
  const before = cpos > 0 ? lookup(op, tree, cpos - 1) : undefined;
  const goal = before === undefined || before.hole ? undefined : Math.floor(before.blkno / ctx.geo.bpc) + before.clusters;
  const most = Math.min(want, ctx.geo.clustersPerGroup - 1);
  for (let min = most; min >= 1; min = Math.floor(min / 2)) {
    const run = claimFromBitmap(op, ctx, { want: most, min, goal });
    if (run === undefined) continue;
    insert(op, ctx, tree, { cpos, clusters: run.len, blkno: run.start * ctx.geo.bpc, flags });
    return { clusters: run.len, blkno: run.start * ctx.geo.bpc };
  }
  // Nothing in the bitmap: what can be brought back, or NO_SPACE.
  return allocate(op, ctx, ref, cpos, want, flags);
}

/**
 * Space of a thick disk: all of [0, size) in runs as long as the volume has them, i_size = size. `zeroed`: written zeroes
 * (no conversion at the first write); else unwritten. `progress` gets the bytes done.
 */
export function preallocateContiguous(ctx: FsContext, ino: number, size: number, options: { zeroed: boolean; progress?: (done: number) => void }): Promise<void> {
  return reserveRange(ctx, ino, 0, size, { keepSize: false, contiguous: true, ...options });
}

/**
 * Make [offset, offset + length) a hole: whole clusters are freed, parts of clusters zeroed, i_size stays. Waits for
 * direct I/O by old mappings.
 */
export async function punchHole(ctx: FsContext, ino: number, offset: number, length: number): Promise<void> {
  checkRange(ctx, ino, offset, length);
  needUnwritten(ctx, ino, 'punching holes');
  await changeRange(ctx, ino, offset, offset + length, async (state, from, end) => {
    const ordered = new Ordered();
    const step = await ctx.engine.run('punch', (op): { first: number; last: number; zero: Piece[] } => {
      const ref = lockFile(op, ctx, ino, EX);
      ordered.attach(op, state);
      touch(op, ref.di, state);
      if (isInline(ref)) {
        zeroInline(ref, from, end);
        return { first: 0, last: 0, zero: [] };
      }
      const { first, last, zero } = splitRange(op, ctx, ref, from, end, ordered);
      return { first, last, zero };
    });
    await ordered.finish(() => zeroPieces(ctx, step.zero));
    await removeClusters(ctx, ino, 'punch', step.first, step.last);
  });
}

/**
 * Zero [offset, offset + length) and have all of it allocated: written clusters become unwritten, holes are allocated
 * unwritten, parts of clusters are zeroed. i_size grows to the end unless `keepSize`.
 */
export async function zeroRange(ctx: FsContext, ino: number, offset: number, length: number, keepSize: boolean): Promise<void> {
  checkRange(ctx, ino, offset, length);
  needUnwritten(ctx, ino, 'zeroing a range without writing it');
  await changeRange(ctx, ino, offset, offset + length, async (state, from, end) => {
    for (let at: number | undefined = 0; at !== undefined; ) {
      const start: number = at;
      const ordered: Ordered = new Ordered();
      const step: { zero: Piece[]; next: number | undefined } = await ctx.engine.run('zero range', (op) => {
        const ref = lockFile(op, ctx, ino, EX);
        ordered.attach(op, state);
        touch(op, ref.di, state);
        if (isInline(ref)) {
          zeroInline(ref, from, end);
          return { zero: [], next: undefined };
        }
        const { first, last, zero } = splitRange(op, ctx, ref, from, end, ordered);
        return { zero: start === 0 ? zero : [], next: unwrite(op, ctx, ref, Math.max(first, start), last) };
      });
      await ordered.finish(() => zeroPieces(ctx, step.zero));
      at = step.next;
    }
  });
  await reserveRange(ctx, ino, offset, length, { keepSize });
}

/** Mark written clusters of [cpos, end) unwritten, shared ones too: others who share them see their bytes as before; returns where to go on if there were too many for one operation. */
function unwrite(op: Op, ctx: FsContext, ref: InodeRef, cpos: number, end: number): number | undefined {
  const tree = dinodeTree(ref, op, ctx);
  let at = cpos;
  for (let pieces = 0; at < end; pieces++) {
    if (pieces === MAX_PIECES) return at;
    const found = lookup(op, tree, at);
    const most = Math.min(end, found.cpos + found.clusters) - at;
    if (!found.hole) {
      if (!(found.flags & EXT.UNWRITTEN)) setFlags(op, ctx, tree, at, most, EXT.UNWRITTEN, 0);
    }
    at += most;
  }
  return undefined;
}

/** Lock the clusters of a range, recall mappings, change. The range is not clipped at i_size: clusters beyond belong to the file too. */
async function changeRange(ctx: FsContext, ino: number, from: number, end: number, change: (state: FileState, from: number, end: number) => Promise<void>): Promise<void> {
  await withFile(ctx, ino, async (state) => {
    const release = await state.ranges.lock(...clusterRange(ctx, from, end), true);
    try {
      await state.recall();
      await change(state, from, end);
    } finally {
      release();
    }
  });
}

/** Whole clusters [first, last) of a range, and the written pieces outside them. The cluster that holds i_size counts as whole if the range covers all of it up to there. */
function splitRange(op: Op, ctx: FsContext, ref: InodeRef, from: number, end: number, ordered: Ordered): { first: number; last: number; zero: Piece[] } {
  const { clusterSize } = ctx.geo;
  const first = Math.ceil(from / clusterSize);
  const last = Math.max(first, end >= ref.di.size ? Math.ceil(end / clusterSize) : Math.floor(end / clusterSize));
  const head = Math.min(end, first * clusterSize);
  const zero = from < head ? writtenPieces(op, ctx, ref, from, head, ordered) : [];
  const tail = Math.max(last * clusterSize, head);
  if (tail < end) zero.push(...writtenPieces(op, ctx, ref, tail, end, ordered));
  return { first, last, zero };
}

function zeroInline(ref: InodeRef, from: number, end: number): void {
  const { size } = ref.di;
  const start = InlineData.size;
  if (from < size) ref.block.bytes.fill(0, start + from, start + Math.min(end, size));
}
