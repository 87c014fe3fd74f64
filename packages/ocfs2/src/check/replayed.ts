/** The volume that a check is to look at: as its journals would make it. What replays them is loaded only when one is dirty. */
import type { BlockDevice } from '@lunfs/device';
import { JOURNAL_DIRTY, JournalId1 } from '../format/structs.js';
import { RawReader } from '../inspect/raw-reader.js';
import { readSystemFiles } from '../inspect/system-files.js';

/** `device` as it would be after replaying the journals of all dirty slots, and those slots. Nothing is written. */
export async function withJournals(device: BlockDevice): Promise<{ readonly device: BlockDevice; readonly slots: readonly number[] }> {
  const reader = await RawReader.open(device);
  const sys = await readSystemFiles(reader);
  for (const blkno of sys.journal) {
    if (!(JournalId1.at(await reader.inode(blkno)).flags & JOURNAL_DIRTY)) continue;
    const { replayedView } = await import('../volume/replay-overlay.js');
    return await replayedView(reader, sys);
  }
  return { device, slots: [] };
}
