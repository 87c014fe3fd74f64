/**
 * What a file's ranges are: mapped, unwritten or hole. The answers behind reads, direct mappings, NBD block status,
 * SEEK_DATA/SEEK_HOLE and extent lists.
 */
import { type Gate, type MappedRun, type RangeStatus, UsageError } from '@lunfs/device';
import type { FsContext, InodeRef } from '../context.js';
import { dinodeTree, walk } from '../extents/index.js';
import { DYN, EXT, MODE, S_IFMT } from '../format/constants.js';
import { EX, type LockLevel, PR, RANK, lockName } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import { withFile } from './file-state.js';
import { cachesOf } from './host-caches.js';

/** Lock an inode for data I/O: meta lock and rw lock at one level, as the kernel does with coherency=full. */
export function lockData(op: Op, ctx: FsContext, ino: number, level: LockLevel): InodeRef {
  const ref = level === EX && !op.readOnly ? ctx.editInode(op, ino) : ctx.inode(op, ino, level);
  op.lock(lockName('W', ino, ref.di.generation), level, RANK.rw);
  return ref;
}

/** As `lockData`, and throws unless it is a regular file. */
export function lockFile(op: Op, ctx: FsContext, ino: number, level: LockLevel): InodeRef {
  const ref = lockData(op, ctx, ino, level);
  if ((ref.di.mode & S_IFMT) === MODE.REG && !ctx.isSystem(ino)) return ref;
  const dir = (ref.di.mode & S_IFMT) === MODE.DIR;
  throw new UsageError('NOT_A_FILE', dir ? 'EISDIR' : 'EINVAL', `${ctx.geo.device}: inode ${ino} is not a regular file`, { inode: ino });
}

/** One piece of a file's content. */
export interface Segment {
  /** Bytes in the file. */
  readonly offset: number;
  readonly length: number;
  /** Byte on the device; -1 for a hole. */
  readonly device: number;
  /** EXT bits. */
  readonly flags: number;
}

/** Consecutive segments that cover [from, to) of an inode with an extent list. */
export function* segments(op: Op, ctx: FsContext, ref: InodeRef, from: number, to: number): Generator<Segment, void, undefined> {
  const { clusterSize, blockSize } = ctx.geo;
  let at = from;
  if (at >= to) return;
  for (const rec of walk(op, dinodeTree(ref, op, ctx), Math.floor(from / clusterSize))) {
    const start = rec.cpos * clusterSize;
    if (start >= to) break;
    if (start > at) {
      yield { offset: at, length: start - at, device: -1, flags: 0 };
      at = start;
    }
    const end = Math.min(to, start + rec.clusters * clusterSize);
    yield { offset: at, length: end - at, device: rec.blkno * blockSize + (at - start), flags: rec.flags };
    at = end;
    if (at >= to) return;
  }
  yield { offset: at, length: to - at, device: -1, flags: 0 };
}

export function isInline(ref: InodeRef): boolean {
  return (ref.di.dynFeatures & DYN.INLINE_DATA) !== 0;
}

/**
 * The written, unshared runs in [offset, offset + length) below i_size, at most `limit`, for direct I/O, with the epoch
 * of `gate` they belong to. `write`: the cluster locks are taken as for writing (also without, where pages of the file may be changed unasked). The gate must be registered
 * (`registerGate`) and whoever may lose the locks must recall it first.
 */
export async function mapRange(ctx: FsContext, ino: number, offset: number, length: number, write: boolean, limit: number, gate: Gate): Promise<{ epoch: number; runs: MappedRun[] }> {
  return withFile(ctx, ino, async (state) => {
    const release = await state.ranges.lock(offset, offset + length, false);
    try {
      // Locks and range lock still held: nothing can have been recalled between the lookup and the epoch.
      return await ctx.engine.readHolding('map', (op) => {
        const ref = lockFile(op, ctx, ino, write ? EX : state.pages.level);
        const runs: MappedRun[] = [];
        if (isInline(ref)) return runs;
        for (const s of segments(op, ctx, ref, offset, Math.min(offset + length, ref.di.size))) {
          if (s.device < 0 || s.flags !== 0) continue;
          if (runs.length === limit) break;
          runs.push({ offset: s.offset, length: s.length, device: s.device });
        }
        return runs;
      }, async (runs) => {
        // Who reads by the mapping may be the page cache.
        if (!write && runs.length > 0 && cachesOf(ctx) !== undefined) state.pages.note(offset, offset + length);
        return { epoch: gate.epoch, runs };
      });
    } finally {
      release();
    }
  });
}

/** Pieces covering [offset, offset + length) clipped at i_size, adjacent ones of a kind joined, at most `limit`. */
export async function fileStatus(ctx: FsContext, ino: number, offset: number, length: number, limit: number): Promise<RangeStatus[]> {
  return ctx.engine.read('status', (op) => {
    const ref = lockFile(op, ctx, ino, PR);
    const end = Math.min(offset + length, ref.di.size);
    if (isInline(ref)) return offset < end ? [{ offset, length: end - offset, kind: 'data' as const }] : [];
    const out: RangeStatus[] = [];
    for (const s of segments(op, ctx, ref, offset, end)) {
      const kind = s.device < 0 ? 'hole' : s.flags & EXT.UNWRITTEN ? 'zero' : 'data';
      const last = out.at(-1);
      if (last?.kind === kind) last.length += s.length;
      else if (out.length === limit) break;
      else out.push({ offset: s.offset, length: s.length, kind });
    }
    return out;
  });
}

/** Position of the first data (`hole`: of the first hole) at or after `offset`. Unwritten extents count as holes; so does i_size. Throws ENXIO past the end. */
async function seek(ctx: FsContext, ino: number, offset: number, hole: boolean): Promise<number> {
  return ctx.engine.read('seek', (op) => {
    const ref = lockFile(op, ctx, ino, PR);
    const { size } = ref.di;
    const beyond = () => new UsageError('SEEK_BEYOND', 'ENXIO', `no ${hole ? 'hole' : 'data'} at or after byte ${offset} of inode ${ino}, which has ${size} bytes`, { inode: ino, offset });
    if (offset < 0 || offset >= size) throw beyond();
    if (isInline(ref)) return hole ? size : offset;
    for (const s of segments(op, ctx, ref, offset, size)) if ((s.device < 0 || (s.flags & EXT.UNWRITTEN) !== 0) === hole) return s.offset;
    if (hole) return size;
    throw beyond();
  });
}

/** SEEK_DATA. */
export function seekData(ctx: FsContext, ino: number, offset: number): Promise<number> {
  return seek(ctx, ino, offset, false);
}

/** SEEK_HOLE. */
export function seekHole(ctx: FsContext, ino: number, offset: number): Promise<number> {
  return seek(ctx, ino, offset, true);
}

/** One extent as FIEMAP tells it. In bytes. */
export interface FileExtent extends MappedRun {
  readonly unwritten: boolean;
  readonly shared: boolean;
}

/** Extents from `offset` on, at most `limit`, beyond i_size too. An inline file has none. */
export async function fileExtents(ctx: FsContext, ino: number, offset: number, limit: number): Promise<FileExtent[]> {
  return ctx.engine.read('extents', (op) => {
    const ref = lockData(op, ctx, ino, PR);
    const out: FileExtent[] = [];
    if (isInline(ref)) return out;
    const { clusterSize, blockSize } = ctx.geo;
    for (const rec of walk(op, dinodeTree(ref, op, ctx), Math.floor(offset / clusterSize))) {
      if (out.length === limit) break;
      out.push({
        offset: rec.cpos * clusterSize, length: rec.clusters * clusterSize, device: rec.blkno * blockSize,
        unwritten: (rec.flags & EXT.UNWRITTEN) !== 0, shared: (rec.flags & EXT.REFCOUNTED) !== 0,
      });
    }
    return out;
  });
}
