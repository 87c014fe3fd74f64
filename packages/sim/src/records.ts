/**
 * What every record of the shared files may read as. A record is one sector that is written as a whole, with a stamp. A read shows the last
 * write that had completed when it began, or one that was under way meanwhile; what another node has seen stays. Writes of a process
 * that died before they were synced may be lost, in part too, unless somebody else has seen them.
 */
import type { Requester } from './disk.js';

export const RECORD_BYTES = 512;

/** Writes of one record that are kept. */
const KEPT = 200;

interface Write {
  readonly stamp: number;
  readonly by: Requester | undefined;
  readonly begin: number;
  /** When it was over, or seen by another node. */
  end: number;
  durable: boolean;
}

export class Records {
  #stamp = 0;
  readonly #records: Write[][];
  /** Writes that are over and not synced, by who made them. */
  readonly #fresh = new Map<Requester, Set<Write>>();
  reads = 0;

  /** All records hold stamp 0, synced. */
  constructor(count: number) {
    this.#records = Array.from({ length: count }, () => [{ stamp: 0, by: undefined, begin: -1, end: -1, durable: true }]);
  }

  /** Content of records that are written now, from `first` on. Returns bytes and what to call when the write is over. */
  write(by: Requester, first: number, count: number, now: () => number): { bytes: Uint8Array; done: () => void } {
    const stamp = ++this.#stamp;
    const writes = Array.from({ length: count }, (_, i): Write => {
      const write: Write = { stamp, by, begin: now(), end: Number.POSITIVE_INFINITY, durable: false };
      const record = this.#records[first + i];
      record.push(write);
      if (record.length > KEPT) record.shift();
      return write;
    });
    return {
      bytes: stamped(stamp, count),
      done: () => {
        let fresh = this.#fresh.get(by);
        if (fresh === undefined) this.#fresh.set(by, (fresh = new Set()));
        for (const write of writes) {
          write.end = Math.min(write.end, now());
          if (!write.durable) fresh.add(write);
        }
      },
    };
  }

  /** A sync by the process begins: call the result when it is over. */
  sync(by: Requester): () => void {
    const writes = [...(this.#fresh.get(by) ?? [])];
    return () => {
      for (const write of writes) {
        write.durable = true;
        this.#fresh.get(by)?.delete(write);
      }
    };
  }

  /** What is wrong with what a read, from `begin` to `end`, has shown of records from `first` on; undefined: nothing. */
  wrong(by: Requester, first: number, bytes: Uint8Array, begin: number, end: number): string | undefined {
    for (let i = 0; i * RECORD_BYTES < bytes.length; i++) {
      const text = this.#wrongRecord(by, this.#records[first + i], bytes.subarray(i * RECORD_BYTES, (i + 1) * RECORD_BYTES), begin, end);
      if (text !== undefined) return `record ${first + i}: ${text}`;
    }
    return undefined;
  }

  #wrongRecord(by: Requester, record: Write[], bytes: Uint8Array, begin: number, end: number): string | undefined {
    this.reads++;
    const words = new Uint32Array(bytes.slice().buffer);
    const stamp = words[0];
    if (words.some((word) => word !== stamp)) return `torn: ${[...new Set(words)].join(' ')}`;
    const seen = record.find((write) => write.stamp === stamp);
    if (seen === undefined) return `shows ${stamp}, which was never written there`;
    if (seen.begin > end) return `shows ${stamp}, which is written later`;
    const newer = record.find((write) => write !== seen && write.begin > seen.end && write.end < begin && (write.durable || write.by?.alive === true));
    if (newer !== undefined) return `shows ${stamp} (by ${seen.by?.name ?? 'the beginning'}, over at ${seen.end.toFixed(3)}) though ${newer.stamp} (by ${newer.by?.name}, ${newer.begin.toFixed(3)} to ${newer.end.toFixed(3)}${newer.durable ? ', durable' : ''}) came after it`;
    if (seen.by !== by) {
      seen.durable = true;
      seen.end = Math.min(seen.end, end);
    }
    return undefined;
  }
}

/** Records of zeros are stamp 0. */
function stamped(stamp: number, count: number): Uint8Array {
  return new Uint8Array(new Uint32Array((count * RECORD_BYTES) / 4).fill(stamp).buffer);
}
