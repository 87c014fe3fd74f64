/**
 * Reading a log after a crash, in three passes (Linux 6.1 fs/jbd2/recovery.c; ondisk-format.md 9.4): find where the
 * committed transactions end, collect revoked blocks, put the newest image of each block in place.
 *
 * Nothing in the log is trusted. A block with another magic, sequence or type ends the log, and so does a transaction
 * that would be longer than the log; each step of the scan moves on by at least one block, so it ends. Inside committed
 * transactions wrong numbers raise before anything is written: a half replay would be worse than none. Replay is
 * idempotent, because the log is declared empty only after all images are in place and flushed.
 */
import type { BlockDevice } from '@lunfs/device';
import { Block } from '../format/block.js';
import { SUPER_BLOCK_BLKNO } from '../format/constants.js';
import type { Geometry } from '../format/geometry.js';
import { badField } from '../format/block.js';
import { JBD2_BLOCK, JBD2_MAGIC } from '../format/structs.js';
import type { BlockMap } from './block-map.js';
import { type BlockWrite, writeBlocks } from './block-writer.js';
import { type LogSuper, countTags, encodeLogSuper, logBlockType, nextSequence, parseLogSuper, readRevokes, readTags, sequenceAtOrAfter } from './log-format.js';

export interface ReplayResult {
  /** Blocks put in place. */
  readonly replayed: number;
  /** Committed transactions found in the log. */
  readonly transactions: number;
  /** Sequence number after the last committed transaction. */
  readonly sequence: number;
}

/** A committed transaction as the scan found it: where its descriptor and revoke blocks lie. */
export interface LogTransaction {
  readonly sequence: number;
  readonly descriptors: readonly { readonly at: number; readonly block: Block }[];
  readonly revokes: readonly Block[];
}

/** Where an image lies in the log. */
export interface LogImage {
  readonly blkno: number;
  readonly at: number;
  readonly escaped: boolean;
  readonly sequence: number;
}

/** Images are read and written in batches of this many bytes. */
const BATCH_BYTES = 4 << 20;

/** Reads one journal's log. */
export class LogReader {
  private constructor(readonly device: BlockDevice, readonly geo: Geometry, readonly map: BlockMap, readonly sb: LogSuper) {}

  /** Throws a corruption error for a superblock that is none, JOURNAL_FEATURES for features that are not replayed. */
  static async open(device: BlockDevice, geo: Geometry, map: BlockMap): Promise<LogReader> {
    return new LogReader(device, geo, map, parseLogSuper(await readLogBlock(device, geo, map, 0), geo, map));
  }

  /** Pass 1. `end`: the sequence number the first uncommitted transaction has or would have. */
  async scan(): Promise<{ transactions: LogTransaction[]; end: number }> {
    const { sb } = this;
    const transactions: LogTransaction[] = [];
    let sequence = sb.sequence;
    if (sb.start < sb.first) return { transactions, end: sequence };
    let descriptors: { at: number; block: Block }[] = [], revokes: Block[] = [];
    for (let at = sb.start, walked = 0; walked < sb.maxLen - sb.first; ) {
      const block = await readLogBlock(this.device, this.geo, this.map, at);
      let step = 1;
      switch (logBlockType(block, sequence)) {
        case JBD2_BLOCK.descriptor:
          descriptors.push({ at, block });
          step += countTags(block, sb.bit64);
          break;
        case JBD2_BLOCK.revoke:
          revokes.push(block);
          break;
        case JBD2_BLOCK.commit:
          transactions.push({ sequence, descriptors, revokes });
          descriptors = [];
          revokes = [];
          sequence = nextSequence(sequence);
          break;
        default:
          return { transactions, end: sequence };
      }
      walked += step;
      at = this.#wrap(at + step);
    }
    return { transactions, end: sequence };
  }

  /** Pass 2 and the choice of pass 3: the newest image of every block that is not revoked at or after it. */
  images(transactions: readonly LogTransaction[]): LogImage[] {
    const revoked = new Map<number, number>();
    for (const { sequence, revokes } of transactions) {
      for (const block of revokes) for (const blkno of readRevokes(block, this.sb.bit64)) revoked.set(blkno, sequence);
    }
    const newest = new Map<number, LogImage>();
    for (const { sequence, descriptors } of transactions) {
      for (const { at, block } of descriptors) {
        readTags(block, this.geo, this.map, this.sb.bit64).forEach(({ blkno, escaped }, k) => {
          // Superblocks are written directly, never logged (ondisk-format.md 13, trap 2).
          if (blkno <= SUPER_BLOCK_BLKNO) throw badField(block, 'jbd2_descriptor', `t_blocknr[${k}]`, blkno, 'lies before the volume\'s first logged block');
          const last = revoked.get(blkno);
          if (last !== undefined && sequenceAtOrAfter(last, sequence)) return;
          newest.set(blkno, { blkno, at: this.#wrap(at + 1 + k), escaped, sequence });
        });
      }
    }
    return [...newest.values()];
  }

  /** Bytes of images, in the order given. */
  async readImages(images: readonly LogImage[]): Promise<BlockWrite[]> {
    const { blockSize } = this.geo;
    const out: BlockWrite[] = images.map(({ blkno }) => ({ blkno, bytes: new Uint8Array(blockSize) }));
    const order = images.map(({ at }, i) => ({ i, at, blkno: this.map.at(at).blkno })).sort((a, b) => a.blkno - b.blkno);
    for (let from = 0; from < order.length; ) {
      let n = 1;
      while (from + n < order.length && order[from + n].blkno === order[from].blkno + n) n++;
      const bytes = new Uint8Array(n * blockSize);
      await this.device.read(order[from].blkno * blockSize, bytes);
      for (let k = 0; k < n; k++) out[order[from + k].i].bytes.set(bytes.subarray(k * blockSize, (k + 1) * blockSize));
      from += n;
    }
    images.forEach(({ escaped }, i) => {
      if (escaped) new DataView(out[i].bytes.buffer).setUint32(0, JBD2_MAGIC);
    });
    return out;
  }

  /** Declare the log empty; `end` as the scan gave it. Everything in it must be in place and flushed, or unwanted. */
  async declareEmpty(end: number): Promise<void> {
    // One further, as the kernel does, so that no number of a transaction that was cut off in the log is used again.
    await this.device.write(this.map.at(0).blkno * this.geo.blockSize, encodeLogSuper(this.sb, nextSequence(end), 0));
    await this.device.flush();
  }

  #wrap(at: number): number {
    const { first, maxLen } = this.sb;
    return first + ((at - first) % (maxLen - first));
  }
}

async function readLogBlock(device: BlockDevice, geo: Geometry, map: BlockMap, at: number): Promise<Block> {
  const { blkno } = map.at(at);
  const bytes = new Uint8Array(geo.blockSize);
  await device.read(blkno * geo.blockSize, bytes);
  return new Block(geo.device, blkno, bytes);
}

/**
 * Put everything committed in a journal's log in place, flush, and declare the log empty. Only for a journal whose dinode
 * says DIRTY: the log of a clean one is to be ignored (ondisk-format.md 9.1). The caller holds the locks of 9.5 or 9.6.
 */
export async function replayJournal(device: BlockDevice, geo: Geometry, map: BlockMap): Promise<ReplayResult> {
  const reader = await LogReader.open(device, geo, map);
  const { transactions, end } = await reader.scan();
  const images = reader.images(transactions).sort((a, b) => a.blkno - b.blkno);
  const batch = Math.max(1, Math.floor(BATCH_BYTES / geo.blockSize));
  for (let i = 0; i < images.length; i += batch) {
    await writeBlocks(device, geo.blockSize, await reader.readImages(images.slice(i, i + batch)));
  }
  await device.flush();
  if (reader.sb.start !== 0) await reader.declareEmpty(end);
  return { replayed: images.length, transactions: transactions.length, sequence: end };
}
