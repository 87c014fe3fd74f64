/**
 * Recovery at mount, by a node that has the volume to itself (ondisk-format.md 9.5, 9.6).
 *
 * First every dirty journal is replayed: images of different slots never conflict, so the order does not matter. What the
 * dead nodes still owe lies then in place: windows of local allocs and records of truncate logs. Linux's node-by-node
 * recovery copies them into memory, stamps the files empty and gives the clusters back later, which leaks them if it dies
 * in between. Nobody else is here, so we do it as the owners would have: each window and each record goes back in
 * operations of our own journal, atomically, and a crash of ours leaves the rest to the next mount. Until then the files
 * stay as they are: other mounts of the slot are kept out by our own dirty journal (a local volume) or by the offline mark.
 */
import { closeLocalAlloc, flushTruncateLog } from '../alloc/index.js';
import { FsContext, type SystemFiles } from '../context.js';
import type { RawReader } from '../inspect/raw-reader.js';
import { JournalInode, replayJournal } from '../journal/index.js';

export interface RecoveredSlot {
  readonly slot: number;
  /** Blocks put in place. */
  readonly blocks: number;
}

/**
 * Replay the journals of all dirty slots. Each is marked clean with its recovery generation raised, except that of
 * `keepDirty`, the slot about to be mounted: its flag stays, so that there is no moment at which a crash would forget it.
 */
export async function recoverJournals(reader: RawReader, sys: SystemFiles, keepDirty: number): Promise<RecoveredSlot[]> {
  const { device, geo } = reader;
  const recovered: RecoveredSlot[] = [];
  for (const [slot, blkno] of sys.journal.entries()) {
    const inode = await JournalInode.read(reader, blkno);
    if (!inode.dirty) continue;
    const { replayed } = await replayJournal(device, geo, inode.map);
    if (slot === keepDirty) await inode.markDirty(true);
    else await inode.markClean(true);
    recovered.push({ slot, blocks: replayed });
  }
  return recovered;
}

/**
 * Give back what slots left behind: windows into the global bitmap, truncate logs emptied. No commit is waited for: these clusters
 * belong to no file, so whoever takes one before the operation that frees it is durable overwrites nothing that a crash brings back.
 */
export async function settleSlots(ctx: FsContext): Promise<void> {
  for (let slot = 0; slot < ctx.geo.maxSlots; slot++) {
    const owner = slot === ctx.slot ? ctx : new FsContext(ctx.geo, ctx.sys, slot, ctx.engine, ctx.random);
    await closeLocalAlloc(owner);
    await flushTruncateLog(owner);
  }
}
