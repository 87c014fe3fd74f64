/**
 * Writing file content.
 *
 * In place: all of the range is mapped, written, unshared and below i_size. Data goes to the device under the cluster
 * locks, no operation runs, mtime is late (file-state.ts).
 * Shared extents are first given clusters of their own (file-cow.ts), then written as if they had been the file's.
 * Otherwise one operation claims clusters, inserts extents as written or turns unwritten ones into written ones, and sets
 * i_size and times; the data goes to the device after it, and the transaction commits only when the data is there
 * (data=ordered): a crash shows all or nothing, never old bytes. Nobody in this process sees the new extents before,
 * because the range lock covers whole clusters from before the operation until the data is written; nobody in the
 * cluster, because giving up the locks commits first.
 */
import { UsageError } from '@lunfs/device';
import type { FsContext, InodeRef } from '../context.js';
import { dinodeTree, insert, lookup, setFlags } from '../extents/index.js';
import { EXT } from '../format/constants.js';
import { EX } from '../locking/levels.js';
import { hasRefTree } from '../refcount/index.js';
import { claimClusters } from '../alloc/index.js';
import type { Op } from '../txn/index.js';
import { COW_BYTES, cowRange, unshare } from './file-cow.js';
import { type Piece, allEnded, writeBytes, writeFresh, zeroBytes } from './file-data.js';
import { becomesInline, inlineToExtents, writeInline } from './file-inline.js';
import { type Segment, isInline, lockFile, segments } from './file-map.js';
import { type FileState, noteInPlaceWrite, touch, useState, withFile } from './file-state.js';
import { Ordered } from './ordered.js';

/** Bytes of one file that may be on their way to the device after their write was answered. */
export const MOST_BEHIND = 1 << 20;
/** Pieces one operation takes on at most, so that it fits a transaction. */
const MAX_PIECES = 64;
/** Of these, pieces of shared extents that one stretch of a write copies at most: each may change blocks of two trees. */
const COW_PIECES = 16;

/** Largest size of a file in bytes (Linux 6.1 fs/ocfs2/super.c:ocfs2_max_file_offset). */
export function maxFileSize(ctx: FsContext): number {
  return (0x1_0000_0000 - 1) * ctx.geo.clusterSize;
}

export function checkFileRange(ctx: FsContext, ino: number, offset: number, length: number): void {
  if (!Number.isSafeInteger(offset) || offset < 0 || !Number.isSafeInteger(length) || length < 0) {
    throw new UsageError('BAD_RANGE', 'EINVAL', `byte ${offset}, ${length} bytes is no range of a file`, { inode: ino, offset, length });
  }
  if (offset + length > maxFileSize(ctx)) {
    throw new UsageError('FILE_TOO_LARGE', 'EFBIG', `${ctx.geo.device}: a file can have at most ${maxFileSize(ctx)} bytes here, inode ${ino} would get ${offset + length}; use larger clusters`, { inode: ino, offset, length });
  }
}

/**
 * Write all of `from` at byte `offset` (`'append'`: at i_size) of a regular file. Returns the offset written at. When it
 * resolves every reader of this process sees the data; durable after `log.commit()` and a device flush.
 * `behind`: data of clusters that are new to the file may reach the device after that (see `writeBehind`).
 * Throws NO_SPACE, FILE_TOO_LARGE; what an earlier operation of the same call wrote stays.
 */
export async function writeFile(ctx: FsContext, ino: number, offset: number | 'append', from: Uint8Array, { behind = false } = {}): Promise<number> {
  checkFileRange(ctx, ino, offset === 'append' ? 0 : offset, from.length);
  if (from.length === 0) return offset === 'append' ? 0 : offset;
  return withFile(ctx, ino, async (state) => {
    if (offset !== 'append' && !passesEnd(ctx, ino, offset + from.length) && (await writeInPlace(ctx, ino, state, offset, from))) {
      await noteInPlaceWrite(ctx, ino);
      return offset;
    }
    const at = offset === 'append' ? undefined : offset;
    let start = at;
    for (let done = 0; done < from.length; ) {
      const step = await writeAllocating(ctx, ino, state, start === undefined ? undefined : start + done, from.subarray(done), behind);
      start ??= step.offset;
      done += step.length;
    }
    return start!;
  });
}

/** Known without waiting to end behind i_size, as appends do: not in place, then. */
function passesEnd(ctx: FsContext, ino: number, end: number): boolean {
  return ctx.engine.readNow('size', (op) => end > lockFile(op, ctx, ino, EX).di.size) ?? false;
}

/** Write in place if that is possible. Holds the range in whole logical blocks: those at the edges are read and patched. */
async function writeInPlace(ctx: FsContext, ino: number, state: FileState, offset: number, from: Uint8Array): Promise<boolean> {
  const { device } = ctx.engine.cache;
  const unit = device.logicalBlockSize;
  const end = offset + from.length;
  const release = await state.ranges.lock(offset - (offset % unit), Math.ceil(end / unit) * unit, true);
  try {
    // A worker writing the other part of a patched block must not lose its bytes.
    if (offset % unit !== 0 || end % unit !== 0) await state.recall();
    return await ctx.engine.readHolding('write in place', (op) => planInPlace(op, ctx, ino, offset, end), async (found) => {
      if (found === undefined) return false;
      await Promise.all(found.map((s) => writeBytes(device, s.device, from.subarray(s.offset - offset, s.offset - offset + s.length))));
      return true;
    });
  } finally {
    release();
  }
}

function planInPlace(op: Op, ctx: FsContext, ino: number, offset: number, end: number): Segment[] | undefined {
  const ref = lockFile(op, ctx, ino, EX);
  if (end > ref.di.size || isInline(ref)) return undefined;
  const out: Segment[] = [];
  for (const s of segments(op, ctx, ref, offset, end)) {
    if (s.device < 0 || s.flags !== 0) return undefined;
    out.push(s);
  }
  return out;
}

/** Clusters [first, end) of a file. */
interface ClusterRange {
  readonly first: number;
  readonly end: number;
}

interface Step {
  readonly offset: number;
  readonly length: number;
}

/** What the operation decided; the data follows. */
interface WritePlan extends Step {
  /** Written pieces between old end and offset: zeroed before they come into sight. */
  readonly zero: readonly Piece[];
  /** Pieces that hold data already: written in place. */
  readonly old: readonly Piece[];
  /** Pieces that hold nothing yet, in whole clusters. */
  readonly fresh: readonly Piece[];
}

/** One operation's worth of a write that allocates, converts or extends. */
async function writeAllocating(ctx: FsContext, ino: number, state: FileState, at: number | undefined, from: Uint8Array, mayBehind: boolean): Promise<Step> {
  const { clusterSize } = ctx.geo;
  const look = (op: Op) => {
    const ref = lockFile(op, ctx, ino, EX);
    return { size: ref.di.size, shares: hasRefTree(ref) };
  };
  for (;;) {
    const { size, shares } = ctx.engine.readNow('size', look) ?? (await ctx.engine.read('size', look));
    const offset = at ?? size, end = offset + from.length;
    if (at === undefined) checkFileRange(ctx, ino, offset, from.length);
    if (!ctx.geo.sparse && offset > size) {
      await fillTo(ctx, ino, state, offset);
      continue;
    }
    const extends_ = end > size;
    // What is copied on write moves, so it is locked as well.
    const around = shares ? COW_BYTES : 0;
    const lockFrom = Math.max(0, Math.floor((extends_ ? Math.min(offset, size) : offset) / clusterSize) * clusterSize - around);
    const lockTo = extends_ ? Number.POSITIVE_INFINITY : Math.ceil(end / clusterSize) * clusterSize + around;
    const release = await state.ranges.lock(lockFrom, lockTo, true);
    let behind = false;
    try {
      const ordered = new Ordered();
      const plan = await ctx.engine.run('write', (op): WritePlan | 'again' => {
        const ref = lockFile(op, ctx, ino, EX);
        // The locked range was chosen by a size that may have changed since.
        if (ref.di.size !== size && (extends_ || end > ref.di.size)) return 'again';
        ordered.attach(op, state);
        touch(op, ref.di, state);
        return planAllocating(op, ctx, ref, offset, from, ordered, { first: lockFrom / clusterSize, end: lockTo / clusterSize });
      });
      if (plan === 'again') continue;
      const { device } = ctx.engine.cache;
      const unit = device.logicalBlockSize;
      if (mayBehind && plan.fresh.length > 0 && plan.zero.length === 0 && plan.old.length === 0 && ordered.alone && state.behind + plan.length <= MOST_BEHIND) {
        behind = true;
        release.shrink(Math.ceil(end / clusterSize) * clusterSize);
        writeBehind(ctx, ino, state, plan, from, ordered, release);
        return plan;
      }
      await ordered.finish(async () => {
        if (plan.zero.length > 0 || plan.old.some((p) => p.offset % unit !== 0 || (p.offset + p.length) % unit !== 0)) await state.recall();
        await Promise.all(plan.zero.map((p) => zeroBytes(device, p.device, p.length)));
        const data = (p: Piece) => from.subarray(Math.max(0, p.offset - offset), Math.min(plan.length, p.offset + p.length - offset));
        await Promise.all([
          ...plan.old.map((p) => writeBytes(device, p.device, data(p))),
          ...plan.fresh.map((p) => writeFresh(device, p, Math.max(0, offset - p.offset), data(p))),
        ]);
      });
      return plan;
    } finally {
      if (!behind) release();
    }
  }
}

/**
 * Let data go to clusters that are new to the file while its writer goes on, from memory of our own. The transaction that shows them
 * waits for it, and with it every fsync and every lock that is given away; if it fails, so does the log. Its range stays locked until
 * it is there, so nobody reads or maps what is not written yet; and as the clusters can be freed only by a later operation, and reused
 * only after that one is committed, the data never lands in what is somebody else's by then.
 */
function writeBehind(ctx: FsContext, ino: number, state: FileState, plan: WritePlan, from: Uint8Array, ordered: Ordered, release: () => void): void {
  const { device } = ctx.engine.cache;
  const own = device.pool?.acquire(plan.length) ?? new Uint8Array(plan.length);
  own.set(from.subarray(0, plan.length));
  const done = useState(ctx, ino, state);
  state.behind += plan.length;
  const data = (p: Piece) => own.subarray(Math.max(0, p.offset - plan.offset), Math.min(plan.length, p.offset + p.length - plan.offset));
  ordered
    .finish(() => allEnded(plan.fresh.map((p) => writeFresh(device, p, Math.max(0, plan.offset - p.offset), data(p)))))
    .catch(() => undefined) // the log's: its next commit fails
    .finally(() => {
      device.pool?.release(own);
      state.behind -= plan.length;
      release();
      done();
    });
}

/** `locked`: clusters of the file that may move. */
function planAllocating(op: Op, ctx: FsContext, ref: InodeRef, offset: number, from: Uint8Array, ordered: Ordered, locked: ClusterRange): WritePlan {
  const { di } = ref;
  const end = offset + from.length;
  const nothing = { zero: [], old: [], fresh: [] };
  if (becomesInline(ctx, ref, end)) {
    writeInline(ctx, ref, offset, from);
    return { offset, length: from.length, ...nothing };
  }
  if (isInline(ref)) inlineToExtents(op, ctx, ref, ordered);
  const { clusterSize, blockSize } = ctx.geo;
  const tree = dinodeTree(ref, op, ctx);
  const zero = offset > di.size ? writtenPieces(op, ctx, ref, di.size, offset, ordered) : [];
  const old: Piece[] = [], fresh: Piece[] = [];
  const written = { from: offset, to: offset };
  const endCluster = Math.ceil(end / clusterSize);
  let at = offset;
  for (let pieces = 0; at < end && pieces < MAX_PIECES; pieces++) {
    const cpos = Math.floor(at / clusterSize);
    let found = lookup(op, tree, cpos);
    if (!found.hole && found.flags & EXT.REFCOUNTED) {
      const range = cowRange(clusterSize, found, cpos, Math.min(endCluster, found.cpos + found.clusters) - cpos);
      // What is too much for this operation the next one goes on with.
      const done = unshare(op, ctx, ref, Math.max(range.first, locked.first), Math.min(range.end, locked.end), ordered, COW_PIECES, written);
      if (done <= cpos) break;
      found = lookup(op, tree, cpos);
      pieces += COW_PIECES;
    }
    const most = Math.min(endCluster, found.cpos + found.clusters) - cpos;
    const got = found.hole ? allocate(op, ctx, ref, cpos, most, 0) : { clusters: most, blkno: found.blkno + (cpos - found.cpos) * ctx.geo.bpc };
    const piece = { offset: cpos * clusterSize, length: got.clusters * clusterSize, device: got.blkno * blockSize };
    const to = Math.min(end, piece.offset + piece.length);
    if (found.hole) fresh.push(piece);
    else {
      if (found.flags & EXT.UNWRITTEN) {
        setFlags(op, ctx, tree, cpos, most, 0, EXT.UNWRITTEN);
        fresh.push(piece);
      } else old.push({ offset: at, length: to - at, device: piece.device + (at - piece.offset) });
    }
    at = to;
  }
  written.to = at;
  if (at > offset && at > di.size) di.size = at;
  return { offset, length: at - offset, zero, old, fresh };
}

/** Claim a run of up to `want` clusters for a hole at `cpos`, near what lies before it, and insert it with `flags`. */
export function allocate(op: Op, ctx: FsContext, ref: InodeRef, cpos: number, want: number, flags: number): { clusters: number; blkno: number } {
  const tree = dinodeTree(ref, op, ctx);
  const before = cpos > 0 ? lookup(op, tree, cpos - 1) : undefined;
  const goal = before === undefined || before.hole ? undefined : Math.floor(before.blkno / ctx.geo.bpc) + before.clusters;
  const { start, len } = claimClusters(op, ctx, Math.min(want, tree.rules.maxRecord), 1, goal);
  const blkno = start * ctx.geo.bpc;
  insert(op, ctx, tree, { cpos, clusters: len, blkno, flags });
  return { clusters: len, blkno };
}

/** Pieces of [from, to) that hold written data, to be zeroed. Shared ones become the file's own first. */
export function writtenPieces(op: Op, ctx: FsContext, ref: InodeRef, from: number, to: number, ordered: Ordered): Piece[] {
  if (hasRefTree(ref)) ownWritten(op, ctx, ref, from, to, ordered);
  const out: Piece[] = [];
  for (const s of segments(op, ctx, ref, from, to)) {
    if (s.device < 0 || s.flags & EXT.UNWRITTEN) continue;
    out.push({ offset: s.offset, length: s.length, device: s.device });
  }
  return out;
}

/** See to it that what is written in [from, to) is not shared: whole clusters are marked unwritten, parts copied. */
function ownWritten(op: Op, ctx: FsContext, ref: InodeRef, from: number, to: number, ordered: Ordered): void {
  const { clusterSize, unwritten } = ctx.geo;
  const tree = dinodeTree(ref, op, ctx);
  const first = Math.ceil(from / clusterSize), last = Math.floor(to / clusterSize), end = Math.ceil(to / clusterSize);
  for (let at = Math.floor(from / clusterSize); at < end; ) {
    const found = lookup(op, tree, at);
    const stop = Math.min(end, found.cpos + found.clusters);
    const whole = Math.min(stop, last);
    if (found.hole || found.flags !== EXT.REFCOUNTED) at = stop;
    else if (unwritten && at >= first && at < whole) {
      setFlags(op, ctx, tree, at, whole - at, EXT.UNWRITTEN, 0);
      at = whole;
    } else at = unshare(op, ctx, ref, at, unwritten ? at + 1 : stop, ordered);
  }
}

/**
 * Extend a file to `size` with every cluster allocated and zero: what volumes without SPARSE_ALLOC demand. Several
 * operations; each leaves a complete shorter file.
 */
export async function fillTo(ctx: FsContext, ino: number, state: FileState, size: number): Promise<void> {
  const { clusterSize, blockSize } = ctx.geo;
  const { device } = ctx.engine.cache;
  for (let reached = 0; reached < size; ) {
    const release = await state.ranges.lock(0, Number.POSITIVE_INFINITY, true);
    try {
      const ordered = new Ordered();
      const step = await ctx.engine.run('extend', (op): { size: number; zero: Piece[] } => {
        const ref = lockFile(op, ctx, ino, EX);
        if (ref.di.size >= size) return { size: ref.di.size, zero: [] };
        ordered.attach(op, state);
        touch(op, ref.di, state);
        if (isInline(ref)) inlineToExtents(op, ctx, ref, ordered);
        const zero = writtenPieces(op, ctx, ref, ref.di.size, size, ordered);
        const tree = dinodeTree(ref, op, ctx);
        let at = Math.ceil(ref.di.size / clusterSize);
        const end = Math.ceil(size / clusterSize);
        for (let i = 0; i < MAX_PIECES && at < end; i++) {
          const found = lookup(op, tree, at);
          if (!found.hole) {
            at = Math.min(end, found.cpos + found.clusters);
            continue;
          }
          const got = allocate(op, ctx, ref, at, Math.min(end - at, found.clusters), 0);
          zero.push({ offset: at * clusterSize, length: got.clusters * clusterSize, device: got.blkno * blockSize });
          at += got.clusters;
        }
        ref.di.size = Math.min(size, at * clusterSize);
        return { size: ref.di.size, zero };
      });
      await ordered.finish(async () => {
        if (step.zero.length > 0) await state.recall();
        await Promise.all(step.zero.map((p) => zeroBytes(device, p.device, p.length)));
      });
      reached = step.size;
    } finally {
      release();
    }
  }
}
