/**
 * The orphan scan: inodes that lost their last name while a node had them in use, and that nobody wiped since (that node
 * died, or two nodes let go of them at once and each saw the other), are found by looking through all orphan directories now
 * and then. One node of the cluster does it for all: who finds that the number in the lock's value block is what he saw last
 * time knows that nobody has scanned since (Linux 6.1 fs/ocfs2/journal.c:ocfs2_queue_orphan_scan; dlmglue.c:ocfs2_orphan_scan_lock).
 */
import { Block, BE, struct } from '../format/block.js';
import { EX, ORPHAN_SCAN_LOCK } from '../locking/levels.js';
import { LVB_SIZE } from '../locking/dlm.js';
import type { LockTable } from '../txn/index.js';

/** Milliseconds between two looks of one node; up to `JITTER_MS` more, so that nodes do not look at once (ocfs2.h:ORPHAN_SCAN_SCHEDULE_TIMEOUT). */
const INTERVAL_MS = 300_000;
const JITTER_MS = 5000;

const VERSION = 1;
const OrphanScanLvb = struct('orphan_scan_lvb', LVB_SIZE, { version: BE.u8(0), seqno: BE.u32(4) });

export class OrphanScan {
  /** Number in the value block while we have the lock; undefined: none is valid. */
  #value: number | undefined;
  /** Number that was there when we looked last. */
  #seen = 0;

  /** When to look next. `dice`: uniform in [0, 2^32). */
  static interval(dice: number): number {
    return INTERVAL_MS + (dice % JITTER_MS);
  }

  /** The lock was granted from NL. */
  granted(lvb: Uint8Array): void {
    const { version, seqno } = OrphanScanLvb.at(new Block('', 0, lvb));
    this.#value = version === VERSION ? seqno : undefined;
  }

  /** What the next holder is told. */
  value(): Uint8Array | undefined {
    if (this.#value === undefined) return undefined;
    const bytes = new Uint8Array(LVB_SIZE);
    Object.assign(OrphanScanLvb.at(new Block('', 0, bytes)), { version: VERSION, seqno: this.#value });
    return bytes;
  }

  /** Is it our turn to scan? If so, the others will know that we did. */
  async turn(locks: LockTable): Promise<boolean> {
    await locks.hold(ORPHAN_SCAN_LOCK, EX);
    try {
      const seqno = this.#value ?? (this.#seen + 1) >>> 0;
      const ours = seqno === this.#seen;
      this.#seen = seqno;
      this.#value = ours ? (seqno + 1) >>> 0 : seqno;
      return ours;
    } finally {
      locks.drop(ORPHAN_SCAN_LOCK, EX);
    }
  }
}
