/** The journal of every slot: a valid superblock, features all alike, clean or not (ondisk-format.md 9.1). */
import { Dinode, JBD2_BLOCK, JBD2_COMPAT, JBD2_INCOMPAT, JBD2_MAGIC, JOURNAL_DIRTY, Jbd2Super, JournalId1, ID2 } from '../format/structs.js';
import type { SystemFiles } from '../context.js';
import type { Checker } from './checker.js';

/** Smallest journal Linux accepts (Linux 6.1 fs/ocfs2/journal.h:OCFS2_MIN_JOURNAL_SIZE). */
const MIN_JOURNAL_BYTES = 4 << 20;

/** Smallest journal jbd2 accepts (Linux 6.1 include/linux/jbd2.h:JBD2_MIN_JOURNAL_BLOCKS). */
const MIN_JOURNAL_BLOCKS = 1024;

export async function checkJournals(c: Checker, sys: SystemFiles): Promise<void> {
  let features: string | undefined;
  for (const [slot, blkno] of sys.journal.entries()) {
    await c.guard('JOURNAL_FILE_INVALID', `journal of slot ${slot}`, async () => {
      const inode = await c.reader.inode(blkno);
      const di = Dinode.at(inode);
      if (JournalId1.at(inode).flags & JOURNAL_DIRTY) c.findings.add('recovery', 'JOURNAL_DIRTY', `the journal of slot ${slot} holds changes that are not in place; mount the volume to recover it`, blkno);
      if (di.size < MIN_JOURNAL_BYTES) c.findings.error('JOURNAL_TOO_SMALL', `the journal of slot ${slot} has ${di.size} bytes`, blkno);
      const first = await c.reader.extents(inode, ID2).next();
      if (first.done) return c.findings.error('JOURNAL_FILE_INVALID', `the journal of slot ${slot} has no blocks`, blkno);
      const block = await c.reader.readRaw(first.value.blkno);
      const js = Jbd2Super.at(block);
      if (js.magic !== JBD2_MAGIC || js.blocktype !== JBD2_BLOCK.superV2) return c.findings.error('JOURNAL_FILE_INVALID', `the journal of slot ${slot} has no valid superblock`, block.blkno);
      // What is read of it lies in the first 512 bytes, whatever the block size.
      if (js.maxLen < MIN_JOURNAL_BLOCKS || js.first === 0 || js.first >= js.maxLen || js.start >= js.maxLen) {
        c.findings.error('JOURNAL_FILE_INVALID', `the journal of slot ${slot} has blocks ${js.first}..${js.maxLen - 1} and begins at ${js.start}`, block.blkno);
      }
      if (js.blockSize !== c.geo.blockSize || js.maxLen > di.size / c.geo.blockSize) c.findings.error('JOURNAL_FILE_INVALID', `the journal of slot ${slot} says ${js.maxLen} blocks of ${js.blockSize}`, block.blkno);
      if (js.featureCompat & ~JBD2_COMPAT.CHECKSUM || js.featureIncompat & ~(JBD2_INCOMPAT.REVOKE | JBD2_INCOMPAT.BIT64 | JBD2_INCOMPAT.ASYNC_COMMIT) || js.featureRoCompat) {
        c.findings.error('JOURNAL_UNKNOWN_FEATURE', `the journal of slot ${slot} has features ${js.featureCompat}/${js.featureIncompat}/${js.featureRoCompat}`, block.blkno);
      }
      const mine = `${js.featureCompat & ~JBD2_COMPAT.CHECKSUM}/${js.featureIncompat & JBD2_INCOMPAT.BIT64}`;
      if (features !== undefined && features !== mine) c.findings.error('JOURNAL_MISSING_FEATURE', `the journal of slot ${slot} has other features than the first`, block.blkno);
      features ??= mine;
    });
  }
}
