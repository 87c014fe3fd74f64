/** Reading file content: inline data, extents, holes and unwritten extents as zeroes, symlink targets. */
import type { FsContext, InodeRef } from '../context.js';
import { EXT, MODE, S_IFMT } from '../format/constants.js';
import { ID2, INLINE_DATA_START } from '../format/structs.js';
import { PR } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import { readBytes } from './file-data.js';
import { type Segment, isInline, lockData, segments } from './file-map.js';
import { withFile } from './file-state.js';

/** What to read: bytes that were in the dinode, or segments. `length` is clipped at i_size. */
export interface ReadPlan {
  readonly length: number;
  readonly inline?: Uint8Array;
  readonly segments: readonly Segment[];
}

/**
 * Read from byte `offset` of a regular file or symlink into `into`, any alignment (buffers of the device's aligned pool
 * are read into without a copy). Returns the bytes read, fewer only at the end of the file. Shared extents are read too.
 */
export async function readFile(ctx: FsContext, ino: number, offset: number, into: Uint8Array): Promise<number> {
  if (into.length === 0) return 0;
  return withFile(ctx, ino, async (state) => {
    // Whole logical blocks: a writer of a part of one at the edge of its range rewrites all of it.
    const release = await state.ranges.lock(offset, offset + into.length, false);
    try {
      return await ctx.engine.readHolding('read', (op) => planRead(op, ctx, lockData(op, ctx, ino, PR), offset, into.length), (found) => fillRead(ctx, found, offset, into));
    } finally {
      release();
    }
  });
}

export function planRead(op: Op, ctx: FsContext, ref: InodeRef, offset: number, wanted: number): ReadPlan {
  const { di, block } = ref;
  const length = Math.max(0, Math.min(wanted, di.size - offset));
  if (length === 0) return { length, segments: [] };
  const fast = (di.mode & S_IFMT) === MODE.LNK && di.clusters === 0;
  if (fast || isInline(ref)) {
    const start = (fast ? ID2 : INLINE_DATA_START) + offset;
    return { length, inline: block.bytes.subarray(start, start + length), segments: [] };
  }
  return { length, segments: [...segments(op, ctx, ref, offset, offset + length)] };
}

export async function fillRead(ctx: FsContext, found: ReadPlan, offset: number, into: Uint8Array): Promise<number> {
  if (found.inline !== undefined) into.set(found.inline);
  const { device } = ctx.engine.cache;
  const reads: Promise<void>[] = [];
  for (const s of found.segments) {
    const part = into.subarray(s.offset - offset, s.offset - offset + s.length);
    if (s.device < 0 || s.flags & EXT.UNWRITTEN) part.fill(0);
    else reads.push(readBytes(device, s.device, part));
  }
  await Promise.all(reads);
  return found.length;
}
