/**
 * Telling the device which clusters are free: what fstrim(8) asks of a file system (Linux 6.1 fs/ocfs2/alloc.c:ocfs2_trim_fs,
 * ocfs2_trim_mainbm). FITRIM is an ioctl that the kernel does not hand to FUSE servers, so it is a command of ours.
 *
 * To a cluster a discard is what its next owner's first write is, so the same rule says when it may be done: when the allocator could
 * hand the cluster out. That excludes what is in windows and truncate logs of any node (the bitmap counts it as used), what was freed by
 * a transaction that is not durable yet (a crash would give it back to its owner), and the backup superblocks. While a group's runs are
 * being discarded none of them is handed out: to other nodes, because allocating takes the bitmap's EX lock, and PR is held here; on this
 * node, where locks do not keep operations apart, because the allocator counts them as used (alloc/state.ts). Who finds no other space
 * waits for the end of the group. Between groups the lock is let go, so that nobody waits longer than that.
 *
 * What follows may be in any order: the discards need no flush. A later write to the cluster is submitted after its discard has ended,
 * and the flush that makes the one durable covers the other.
 *
 * A helper program that does the discard (device/helpers.ts) may outlive us by a moment. It holds our descriptor, and with it the device
 * against the next writer of this host; as a member of a cluster, where others could be faster, we have none and cannot discard.
 *
 * One node at a time trims, by the trim lock, which is asked for with no other lock held. Nothing is said in its value block, so a kernel
 * node that waited for us trims again (Linux skips a trim that the node before has just done).
 */
import { UsageError } from '@lunfs/device';
import { beginDiscard, endDiscard, flushTruncateLog, groupCount } from '../alloc/index.js';
import type { FsContext } from '../context.js';
import { EX, TRIM_LOCK } from '../locking/levels.js';
import { allEnded } from './file-data.js';

/** Bytes of the shortest run that is discarded, where nothing else is asked for: each costs the device, and us a helper program, a request. */
const LEAST = 1 << 20;
/** Requests under way at once. */
const AT_ONCE = 4;

/** Bytes; whole clusters of it are meant. */
export interface TrimOptions {
  /** Begin of the part of the volume to look at. Default 0. */
  readonly offset?: number;
  /** Default: to the end. */
  readonly length?: number;
  /** Shorter runs of free clusters are left alone. Default 1 MiB. */
  readonly minimum?: number;
  /** Told after each cluster group, in bytes of the volume. */
  readonly progress?: (done: number, total: number) => void;
}

export interface Trimmed {
  /** Bytes discarded, in how many runs. */
  readonly bytes: number;
  readonly runs: number;
}

const trimming = new WeakSet<FsContext>();

/** Throws NO_DISCARD, TRIMMING, BAD_RANGE, and what keeps the volume from being changed. */
export async function trimVolume(ctx: FsContext, options: TrimOptions = {}): Promise<Trimmed> {
  const { locks, refusal, cache: { device } } = ctx.engine;
  if (refusal !== undefined) throw refusal;
  for (const [name, value] of [['offset', options.offset], ['length', options.length], ['minimum', options.minimum]] as const) {
    if (value !== undefined && (!Number.isSafeInteger(value) || value < 0)) throw new UsageError('BAD_RANGE', 'EINVAL', `${value} bytes is no ${name} of a trim`, { name, value });
  }
  if (!device.canDiscard) throw noDiscard(ctx);
  if (trimming.has(ctx)) throw new UsageError('TRIMMING', 'EBUSY', `${ctx.geo.device} is being trimmed by this node already; wait until that is done`, { device: ctx.geo.device });
  trimming.add(ctx);
  try {
    await locks.hold(TRIM_LOCK, EX);
    try {
      return await trimGroups(ctx, options);
    } finally {
      locks.drop(TRIM_LOCK, EX);
      await locks.surrender(TRIM_LOCK);
    }
  } finally {
    trimming.delete(ctx);
  }
}

async function trimGroups(ctx: FsContext, { offset = 0, length = Number.POSITIVE_INFINITY, minimum = LEAST, progress }: TrimOptions): Promise<Trimmed> {
  const { engine, geo: { clusterSize, clustersPerGroup } } = ctx;
  // What this node has cut from files counts as free as soon as that is durable.
  await flushTruncateLog(ctx);
  await engine.log.commit();
  const groups = await engine.read('trim', (op) => groupCount(op, ctx));
  const range = { least: Math.max(1, Math.ceil(minimum / clusterSize)), from: Math.ceil(offset / clusterSize), to: Math.floor((offset + length) / clusterSize) };
  const [first, end] = [Math.floor(range.from / clustersPerGroup), Math.min(groups, Math.ceil(range.to / clustersPerGroup))];
  let bytes = 0, runs = 0;
  for (let index = first; index < end; index++) {
    const lens = await engine.readHolding('trim', (op) => beginDiscard(op, ctx, index, range), async (found) => {
      try {
        await allEnded(Array.from({ length: AT_ONCE }, async (_, lane) => {
          for (let i = lane; i < found.length; i += AT_ONCE) await discard(ctx, found[i].start * clusterSize, found[i].len * clusterSize);
        }));
      } finally {
        endDiscard(ctx);
      }
      return found.map(({ len }) => len);
    });
    runs += lens.length;
    bytes += lens.reduce((sum, len) => sum + len, 0) * clusterSize;
    progress?.((index + 1 - first) * clustersPerGroup * clusterSize, (end - first) * clustersPerGroup * clusterSize);
  }
  return { bytes, runs };
}

async function discard(ctx: FsContext, offset: number, length: number): Promise<void> {
  const { device } = ctx.engine.cache;
  if (ctx.engine.refusal !== undefined) throw ctx.engine.refusal;
  await device.discard(offset, length);
  // Devices that turn out not to take it say so only now.
  if (!device.canDiscard) throw noDiscard(ctx);
}

function noDiscard({ geo: { device } }: FsContext): UsageError {
  return new UsageError('NO_DISCARD', 'EOPNOTSUPP', `${device} cannot be trimmed here: it takes no discards, or it is fenced, as a member of a cluster has it (a discard could reach it after this host has been fenced); unmount the volume on all hosts and use "lunfs trim --offline", or fstrim(8) on a kernel node`, { device });
}
