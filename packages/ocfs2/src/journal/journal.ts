/**
 * The journal of one slot: a write-ahead log of block images in JBD2's format, used as Linux's OCFS2 uses JBD2
 * (ondisk-format.md 9; Linux 6.1 fs/jbd2/{transaction,commit,checkpoint}.c, fs/ocfs2/journal.c).
 *
 * Life of a change. `add` makes an operation's blocks part of the running transaction (many operations share one). A
 * commit closes it, opens the next, waits for its ordered data, and writes: descriptors and images; flush; commit block;
 * flush. A checkpoint later puts the newest committed version of each block in place, flushes, moves the tail on disk
 * past them, flushes, and only then counts their log space as free.
 *
 * Why each flush (the device may persist unflushed writes in any subset and order, block-device.ts):
 *  1. before the commit block: else the commit block could survive without its images or without the ordered data, and
 *     replay would put garbage in place. It also makes the commit before it durable, and the tail if that was rewritten.
 *  2. after the commit block: else a commit that was reported could be lost. This one alone may be left to a later flush
 *     (`durable: false`): the commit block has reached the device, so the death of our process loses nothing; the power
 *     may still fail, which is what a guest's FLUSH is for.
 *  3. before images go in place: the transactions they come from must be durable (flush 2, if it was left out).
 *     Else a crash could find half of an operation in place and no log to complete it from.
 *  4. after the images, before the tail moves: else the log would be declared free of images that are not in place.
 *  5. after the tail moved, before its space is used again or a cluster lock is given up: else a crash could find the old
 *     tail pointing at overwritten blocks, or replay an old image over another node's newer block.
 *
 * The tail. After a checkpoint it points at the next transaction to come when none is left, as mkfs and the kernel do: a
 * scan finds nothing there with that number, so the log is empty, and the next commit need not rewrite it. A number is
 * never used twice: recovery skips one (replay.ts), commits are serial, and a commit block follows a flush, so no commit
 * block can exist with the number of a transaction that a scan found uncommitted, nor with any after it.
 *
 * Other invariants: a commit begins only after the one before it has written its commit block; checksums are stamped on a
 * version when it is logged, and the same bytes go in place; live transactions plus the running one always fit into the
 * log (`admit`); after a failed write or flush (ordered data too: committing without it would show what its blocks held before) nothing is written any more (`aborted`): the kernel of the device reports
 * such an error once, so trying again could report a success that never was.
 */
import { type BlockDevice, InternalError, IoError, type LunfsError, UsageError } from '@lunfs/device';
import { stampCheck } from '../format/blockcheck.js';
import type { Geometry } from '../format/geometry.js';
import type { CacheEntry } from '../txn/block-cache.js';
import type { Clock, CommitOptions, Log } from '../txn/engine.js';
import type { Op } from '../txn/op.js';
import type { BlockMap } from './block-map.js';
import { type BlockSink, type BlockWrite, settleAll, writeBlocks } from './block-writer.js';
import { Flusher } from './flusher.js';
import { type LogSuper, encodeCommit, encodeDescriptor, encodeLogSuper, logBlocksFor, needsEscape, nextSequence, tagsPerDescriptor } from './log-format.js';
import { LogReader } from './replay.js';
import { Transaction } from './transaction.js';

/** One-shot timers, passed in (docs/design.md, rule 5). */
export interface Timers {
  /** Call `fn` after `ms` milliseconds; the result cancels it. */
  after(ms: number, fn: () => void): () => void;
}

export interface JournalOptions {
  readonly clock: Clock;
  /** Without timers transactions are committed by size and on request only. */
  readonly timers?: Timers;
  /** Milliseconds after which a running transaction is committed. Default 5000, the kernel's. */
  readonly commitInterval?: number;
  /** Called once, when the journal aborts. */
  readonly onAbort?: (error: LunfsError) => void;
}

export class Journal implements Log {
  /** Why nothing is written any more; undefined while all is well. Final. */
  aborted: LunfsError | undefined;
  /** Most blocks one operation may change. */
  readonly maxBlocks: number;
  readonly #area: number;
  readonly #maxLogBlocks: number;
  readonly #flusher: Flusher;
  readonly #sink: BlockSink;
  #running = new Transaction(1);
  /** Transactions that hold log space, oldest first; the last may still be on its way into the log. */
  readonly #live: Transaction[] = [];
  /** Logged, but not known to be durable. */
  #undurable: Transaction[] = [];
  #loggedTid = 0;
  /** All transactions up to this one are out of the log on disk. */
  #retiredTid = 0;
  /** Log blocks taken by transactions whose retirement is not yet durable. */
  #used = 0;
  /** Next free log block. */
  #head: number;
  #sequence: number;
  #tail: { sequence: number; start: number };
  #tailWrite: Promise<void> = Promise.resolve();
  #commitInFlight: Promise<void> | undefined;
  #checkpointInFlight: Promise<void> | undefined;
  /** Last transaction that changed a block under this lock; pruned at checkpoints. */
  readonly #lastChange = new Map<string, number>();
  #cancelTimer: (() => void) | undefined;
  #closed = false;

  private constructor(
    private readonly device: BlockDevice,
    private readonly geo: Geometry,
    private readonly map: BlockMap,
    private readonly sb: LogSuper,
    private readonly options: JournalOptions,
  ) {
    this.#area = sb.maxLen - sb.first;
    // A quarter of the log, so that three can be on their way while one fills (Linux 6.1 fs/jbd2/journal.c).
    this.#maxLogBlocks = Math.floor(sb.maxLen / 4);
    let most = this.#maxLogBlocks;
    while (this.#need(most) > this.#maxLogBlocks) most--;
    this.maxBlocks = most;
    this.#head = sb.first;
    // As the kernel reads an empty log's superblock (Linux 6.1 fs/jbd2/recovery.c:jbd2_journal_recover).
    this.#sequence = nextSequence(sb.sequence);
    this.#tail = { sequence: sb.sequence, start: 0 };
    this.#sink = { pool: device.pool, write: (offset, from) => this.#write(offset, from) };
    this.#flusher = new Flusher(() => this.#deviceFlush(), (done) => this.#flushed(done));
  }

  /**
   * Open a log whose content is in place (after `replayJournal`) or to be ignored (its dinode is not DIRTY). The caller
   * marks the dinode DIRTY before the first change.
   */
  static async open(device: BlockDevice, geo: Geometry, logBlocks: BlockMap, options: JournalOptions): Promise<Journal> {
    let reader = await LogReader.open(device, geo, logBlocks);
    if (reader.sb.start !== 0) {
      await reader.declareEmpty((await reader.scan()).end);
      reader = await LogReader.open(device, geo, logBlocks);
    }
    if (!reader.sb.bit64 && geo.totalBlocks > 2 ** 32) {
      throw new UsageError('JOURNAL_ADDRESS', 'EFBIG', `${geo.device}: the journal has 32-bit block numbers but the volume has ${geo.totalBlocks} blocks; convert it with "tunefs.ocfs2 -J block64"`, { device: geo.device });
    }
    return new Journal(device, geo, logBlocks, reader.sb, options);
  }

  admit(blocks: ReadonlyMap<number, CacheEntry>): boolean {
    const need = this.#need(this.#running.sizeWith(blocks));
    return need <= this.#maxLogBlocks && need <= this.#free();
  }

  /** Make the running transaction smaller or the log emptier. One call may not be enough: `admit` tells. */
  async makeRoom(blocks: number): Promise<void> {
    this.#check();
    if (blocks > this.maxBlocks) {
      throw new InternalError('JOURNAL_OPERATION_SIZE', `${this.geo.device}: one operation changes ${blocks} blocks, a transaction of this journal holds ${this.maxBlocks}; use a larger journal (tunefs.ocfs2 -J size=)`, { blocks });
    }
    if (this.#need(this.#running.blocks.size + blocks) > this.#maxLogBlocks && !this.#running.empty) await this.#closeRunning();
    else if (this.#live.length > 0) {
      await this.#logged(this.#running.tid - 1);
      await this.#checkpoint();
    } else await this.#logged(this.#newest());
  }

  add(op: Op): void {
    this.#check();
    const txn = this.#running;
    if (txn.empty) this.#startTimer();
    txn.add(op);
    for (const entry of op.overlay.values()) this.#lastChange.set(entry.owner, txn.tid);
  }

  /**
   * Everything added so far is replayed after a crash. `durable` (default true): of the machine too, not only of this
   * process. `barrier`: also everything written to the device directly and resolved before this call is durable (fsync).
   * Calls made while a commit runs share the next one.
   */
  async commit({ durable = true, barrier = false }: CommitOptions = {}): Promise<void> {
    this.#check();
    const mark = this.#flusher.mark();
    const tid = this.#newest();
    await this.#logged(tid);
    if (durable) for (const txn of [...this.#undurable]) if (txn.tid <= tid) await this.#flusher.after(txn.mark);
    if (barrier) await this.#flusher.after(mark);
  }

  /** Everything added so far is in place and no longer in the log on disk. */
  async flush(): Promise<void> {
    this.#check();
    await this.#retire(this.#newest());
  }

  /** As `flush`, for the blocks under one lock: what must be done before the lock goes (docs/design.md 2, "Giving up a lock"). */
  async flushOwner(owner: string): Promise<void> {
    const tid = this.#lastChange.get(owner);
    if (tid === undefined || tid <= this.#retiredTid) return;
    this.#check();
    await this.#retire(tid);
  }

  /** Flush, declare the log empty and stop. Rejects if the journal is or becomes aborted: then its dinode must stay DIRTY. */
  async close(): Promise<void> {
    await this.flush();
    this.#closed = true;
    this.#cancelTimer?.();
    await this.#tailWrite;
    await this.#writeBlock(0, encodeLogSuper(this.sb, this.#sequence, 0));
    await this.#flusher.after(this.#flusher.mark());
  }

  #need(blocks: number): number {
    return logBlocksFor(blocks, this.geo.blockSize, this.sb.bit64);
  }

  /** Log blocks the running transaction may take. One stays free, so that a full log is no full circle. */
  #free(): number {
    return this.#area - 1 - this.#used;
  }

  /** The newest transaction that anything waits for. */
  #newest(): number {
    return this.#running.empty ? this.#running.tid - 1 : this.#running.tid;
  }

  #check(): void {
    if (this.aborted !== undefined) throw this.aborted;
    if (this.#closed) throw new InternalError('JOURNAL_CLOSED', `${this.geo.device}: the journal is closed`);
  }

  #abort(cause: unknown): LunfsError {
    if (this.aborted === undefined) {
      const why = cause instanceof Error ? cause.message : String(cause);
      this.aborted = new IoError('JOURNAL_ABORTED', `${this.geo.device}: the journal is stopped after a failed write or flush (${why}); no metadata can change until the volume is unmounted, its device is sound and it is mounted again`, { device: this.geo.device }, cause, 'EROFS');
      this.#cancelTimer?.();
      this.options.onAbort?.(this.aborted);
    }
    return this.aborted;
  }

  async #write(offset: number, from: Uint8Array): Promise<void> {
    if (this.aborted !== undefined) throw this.aborted;
    try {
      await this.device.write(offset, from);
    } catch (error) {
      throw this.#abort(error);
    }
  }

  /** Write one block of the journal file. */
  #writeBlock(at: number, bytes: Uint8Array): Promise<void> {
    return writeBlocks(this.#sink, this.geo.blockSize, [{ blkno: this.map.at(at).blkno, bytes }]);
  }

  async #deviceFlush(): Promise<void> {
    if (this.aborted !== undefined) throw this.aborted;
    try {
      await this.device.flush();
    } catch (error) {
      throw this.#abort(error);
    }
  }

  #flushed(done: number): void {
    const durable = this.#undurable.filter((txn) => txn.mark < done);
    this.#undurable = this.#undurable.filter((txn) => txn.mark >= done);
    for (const txn of durable) txn.durable();
  }

  #startTimer(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = this.options.timers?.after(this.options.commitInterval ?? 5000, () => {
      // A failure is not lost: it aborts the journal, and the next caller gets it.
      this.commit().catch(() => undefined);
    });
  }

  /** Transaction `tid` and all before it have their commit blocks written. */
  async #logged(tid: number): Promise<void> {
    while (this.#loggedTid < tid) {
      this.#check();
      await this.#nextCommit();
    }
  }

  /** The commit that is under way, else a new one of the running transaction. */
  #nextCommit(): Promise<void> {
    return (this.#commitInFlight ??= this.#commitRunning().finally(() => {
      this.#commitInFlight = undefined;
    }));
  }

  /** Wait until the present running transaction has begun to commit; not until that is done, the next one is open already. */
  async #closeRunning(): Promise<void> {
    const { tid } = this.#running;
    while (this.#running.tid === tid) {
      this.#check();
      const under = this.#commitInFlight;
      const commit = this.#nextCommit();
      if (under !== undefined) await commit;
      else commit.catch(() => undefined); // aborts the journal, see #startTimer
    }
  }

  async #commitRunning(): Promise<void> {
    const txn = this.#running;
    this.#running = new Transaction(txn.tid + 1);
    this.#cancelTimer?.();
    // Log space is taken before anything is awaited: from here on `admit` counts it, and the tail may point at it.
    if (txn.blocks.size > 0) this.#place(txn);
    try {
      await txn.orderedData();
      if (txn.blocks.size > 0) await this.#writeToLog(txn);
    } catch (error) {
      throw this.#abort(error);
    }
    txn.logged = true;
    txn.mark = this.#flusher.mark();
    this.#loggedTid = txn.tid;
    this.#undurable.push(txn);
    if (this.#used > this.#area / 2) this.#checkpoint().catch(() => undefined); // aborts the journal, see #startTimer
  }

  #place(txn: Transaction): void {
    txn.start = this.#head;
    txn.logBlocks = this.#need(txn.blocks.size);
    txn.sequence = this.#sequence;
    this.#head = this.#advance(this.#head, txn.logBlocks);
    this.#sequence = nextSequence(this.#sequence);
    this.#used += txn.logBlocks;
    this.#live.push(txn);
  }

  #advance(at: number, by: number): number {
    return this.sb.first + ((at - this.sb.first + by) % this.#area);
  }

  async #writeToLog(txn: Transaction): Promise<void> {
    const { blockSize } = this.geo;
    const blocks = this.#encode(txn);
    await settleAll([this.#syncTail(), writeBlocks(this.#sink, blockSize, blocks)]);
    await this.#flusher.after(this.#flusher.mark());
    const commit = new Uint8Array(blockSize);
    encodeCommit(commit, txn.sequence, this.options.clock.now());
    await this.#writeBlock(this.#advance(txn.start, txn.logBlocks - 1), commit);
  }

  /** Descriptors and images in log order. Checksums are stamped here, on bytes nobody changes any more. */
  #encode(txn: Transaction): BlockWrite[] {
    const { geo } = this;
    const perDescriptor = tagsPerDescriptor(geo.blockSize, this.sb.bit64);
    const entries = [...txn.blocks.values()];
    const out: BlockWrite[] = [];
    const push = (bytes: Uint8Array, escaped = false): void => {
      out.push({ blkno: this.map.at(this.#advance(txn.start, out.length)).blkno, bytes, escaped });
    };
    for (let from = 0; from < entries.length; from += perDescriptor) {
      const part = entries.slice(from, from + perDescriptor);
      const tags = part.map(({ block, kind }) => {
        const checkAt = kind.checkAt(geo);
        if (geo.metaecc && checkAt >= 0) stampCheck(block.bytes, checkAt);
        return { blkno: block.blkno, escaped: needsEscape(block.bytes) };
      });
      const descriptor = new Uint8Array(geo.blockSize);
      encodeDescriptor(descriptor, txn.sequence, this.sb.bit64, tags);
      push(descriptor);
      for (const [i, { block }] of part.entries()) push(block.bytes, tags[i].escaped);
    }
    return out;
  }

  /** Make the superblock's tail that of the oldest live transaction, or the place of the next one. Not flushed here. */
  #syncTail(): Promise<void> {
    this.#tailWrite = this.#tailWrite.then(async () => {
      const oldest = this.#live.at(0);
      const tail = { sequence: oldest?.sequence ?? this.#sequence, start: oldest?.start ?? this.#head };
      if (tail.sequence === this.#tail.sequence && tail.start === this.#tail.start) return;
      await this.#writeBlock(0, encodeLogSuper(this.sb, tail.sequence, tail.start));
      this.#tail = tail;
    });
    return this.#tailWrite;
  }

  /** Transaction `tid` and all before it are in place and out of the log, durably. */
  async #retire(tid: number): Promise<void> {
    while (this.#retiredTid < tid) {
      await this.#logged(tid);
      await this.#checkpoint();
    }
  }

  /** The checkpoint that is under way, else a new one of all that is logged by now. */
  #checkpoint(): Promise<void> {
    this.#check();
    return (this.#checkpointInFlight ??= this.#checkpointLogged().finally(() => {
      this.#checkpointInFlight = undefined;
    }));
  }

  async #checkpointLogged(): Promise<void> {
    const { blockSize } = this.geo;
    const retired = this.#live.filter((txn) => txn.logged);
    const upTo = this.#loggedTid;
    const last = retired.at(-1);
    if (last !== undefined) {
      await this.#flusher.after(last.mark);
      const newest = new Map<number, CacheEntry>();
      for (const txn of retired) for (const [blkno, entry] of txn.blocks) newest.set(blkno, entry);
      const inPlace = [...newest.values()].map(({ block }) => block).sort((a, b) => a.blkno - b.blkno);
      await writeBlocks(this.#sink, blockSize, inPlace);
      await this.#flusher.after(this.#flusher.mark());
      for (const txn of retired) for (const entry of txn.blocks.values()) entry.dirty = false;
      this.#live.splice(0, retired.length);
      await this.#syncTail();
      await this.#flusher.after(this.#flusher.mark());
      for (const txn of retired) this.#used -= txn.logBlocks;
    }
    this.#retiredTid = upTo;
    for (const [owner, tid] of this.#lastChange) if (tid <= upTo) this.#lastChange.delete(owner);
  }
}
