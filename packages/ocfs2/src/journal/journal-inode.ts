/**
 * A slot's journal file: its dinode (dirty flag and recovery generation) and where its log lies.
 *
 * The dinode is always written directly, with its checksum, never through the log (Linux 6.1
 * fs/ocfs2/journal.c:ocfs2_journal_toggle_dirty), under the EX lock of the journal inode; whoever holds that lock owns the
 * slot (ondisk-format.md 9.5). Each change here is flushed before the promise resolves.
 */
import type { BlockDevice } from '@lunfs/device';
import { type Block, badField } from '../format/block.js';
import { stampCheck } from '../format/blockcheck.js';
import { EXT, FL } from '../format/constants.js';
import { DINODE } from '../format/kinds.js';
import { Dinode, ID2, JOURNAL_DIRTY, JournalId1 } from '../format/structs.js';
import type { RawReader } from '../inspect/raw-reader.js';
import { BlockMap, type BlockRun } from './block-map.js';

/** Smallest journal file, bytes (Linux 6.1 fs/ocfs2/journal.c:ocfs2_journal_init). */
const MIN_JOURNAL_BYTES = 4 << 20;

export class JournalInode {
  private constructor(
    private readonly device: BlockDevice,
    private readonly reader: RawReader,
    /** The dinode as last read or written. */
    private readonly block: Block,
    readonly map: BlockMap,
  ) {}

  /** Read the journal inode at `blkno` from the device. Throws a corruption error unless it is a whole, sane journal file. */
  static async read(reader: RawReader, blkno: number): Promise<JournalInode> {
    const { geo, device } = reader;
    const block = await reader.inode(blkno);
    const di = Dinode.at(block);
    if (!(di.flags & FL.JOURNAL)) throw badField(block, 'dinode', 'i_flags', di.flags, 'is no journal');
    if (di.size < MIN_JOURNAL_BYTES || di.size > di.clusters * geo.clusterSize) throw badField(block, 'dinode', 'i_size', di.size, `of a journal is below 4 MiB or exceeds its ${di.clusters} clusters`);
    const runs: BlockRun[] = [];
    let cpos = 0;
    for await (const rec of reader.extents(block, ID2)) {
      if (rec.cpos !== cpos) throw badField(block, 'extent_list', 'e_cpos', rec.cpos, `leaves a hole in the journal at cluster ${cpos}`);
      if (rec.flags & EXT.UNWRITTEN) throw badField(block, 'extent_list', 'e_flags', rec.flags, 'marks part of the journal as unwritten');
      runs.push({ blkno: rec.blkno, count: rec.clusters * geo.bpc });
      cpos += rec.clusters;
    }
    if (cpos * geo.clusterSize < di.size) throw badField(block, 'dinode', 'i_size', di.size, `of the journal exceeds its ${cpos} mapped clusters`);
    return new JournalInode(device, reader, block, new BlockMap(geo, runs));
  }

  /** The log may hold transactions that are not in place. */
  get dirty(): boolean {
    return (JournalId1.at(this.block).flags & JOURNAL_DIRTY) !== 0;
  }

  /** Counts recoveries; peers compare it to see whether somebody has already replayed (9.6). 32 bits, wrapping. */
  get recoveryGeneration(): number {
    return JournalId1.at(this.block).recoveryGeneration;
  }

  /** Set before the first transaction. `recovered`: the log was replayed, so the recovery generation goes up. */
  markDirty(recovered = false): Promise<void> {
    return this.#write(true, recovered);
  }

  /** Only after everything in the log is in place and the log is empty. */
  markClean(recovered = false): Promise<void> {
    return this.#write(false, recovered);
  }

  async #write(dirty: boolean, bump: boolean): Promise<void> {
    const { geo } = this.reader;
    const id1 = JournalId1.at(this.block);
    id1.flags = dirty ? id1.flags | JOURNAL_DIRTY : id1.flags & ~JOURNAL_DIRTY;
    if (bump) id1.recoveryGeneration = (id1.recoveryGeneration + 1) >>> 0;
    if (geo.metaecc) stampCheck(this.block.bytes, DINODE.checkAt(geo));
    await this.device.write(this.block.blkno * geo.blockSize, this.block.bytes);
    await this.device.flush();
  }
}
