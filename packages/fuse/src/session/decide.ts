/**
 * What a worker does with a message: one pure function of the message, the facts it knows of open files, and the files' gates.
 * No I/O, no clock. What it decides is carried out by worker.ts; a simulator can run the same decisions.
 *
 * A READ or WRITE is done in place only when every byte of it lies inside written, unshared extents of the present epoch, and
 * file offset, device offset and length are aligned for O_DIRECT. Facts end at the file's size as it was when they were made, so a
 * request inside them neither reads past EOF nor extends the file. Everything else is the owner's: holes, tails, growth,
 * setuid bits to be cleared, files without a descriptor to read from.
 */
import { DirectMap, Gate, type GateMemory } from '@lunfs/device';
import { MAX_WRITE, O, OPCODE, WRITE_FLAG } from '../protocol/constants.js';
import { readU64 } from '../protocol/struct.js';
import { IN_HEADER, READ_IN, WRITE_IN } from '../protocol/structs.js';

/** Most pieces of one request that a worker does itself; more fragmented ones are the owner's. */
const PIECES_MAX = 16;

/** What the main thread tells workers about open files. */
export type FileNews =
  | { readonly kind: 'open'; readonly fh: number; readonly fd: number; readonly alignment: number; readonly gate: GateMemory; readonly wrote: SharedArrayBuffer; readonly directIo: boolean }
  | { readonly kind: 'map'; readonly fh: number; readonly epoch: number; readonly write: boolean; readonly runs: Float64Array }
  | { readonly kind: 'close'; readonly fh: number };

/** Shared memory by which workers tell that they wrote in place: a flag, and when (monotonic ms). */
export const WROTE_BYTES = 16;
const WROTE_FLAG = 0; // index in the Int32 view
const WROTE_AT = 1; // index in the Float64 view

export class WroteMark {
  readonly #i32: Int32Array;
  readonly #f64: Float64Array;

  constructor(memory: SharedArrayBuffer) {
    this.#i32 = new Int32Array(memory);
    this.#f64 = new Float64Array(memory);
  }

  /** True when the mark was not set before. */
  set(now: number): boolean {
    this.#f64[WROTE_AT] = now;
    return Atomics.exchange(this.#i32, WROTE_FLAG, 1) === 0;
  }

  /** Take the mark away; when it was set last, or -1 when it was not set. */
  take(): number {
    return Atomics.exchange(this.#i32, WROTE_FLAG, 0) === 0 ? -1 : this.#f64[WROTE_AT];
  }
}

/** One open file as a worker knows it. */
export class WorkerFile {
  readonly fd: number;
  readonly alignment: number;
  readonly gate: Gate;
  readonly wrote: WroteMark;
  readonly directIo: boolean;
  readonly readable = new DirectMap();
  readonly writable = new DirectMap();

  constructor(news: Extract<FileNews, { kind: 'open' }>) {
    this.fd = news.fd;
    this.alignment = news.alignment;
    this.gate = new Gate(news.gate);
    this.wrote = new WroteMark(news.wrote);
    this.directIo = news.directIo;
  }

  learn(epoch: number, write: boolean, runs: Float64Array): void {
    for (const map of write ? [this.readable, this.writable] : [this.readable]) {
      if (map.epoch !== epoch) {
        if (map.epoch !== -1 && ((epoch - map.epoch) | 0) < 0) continue; // older than what we know
        map.reset(epoch);
      }
      for (let i = 0; i < runs.length; i += 3) map.add(runs[i], runs[i + 1], runs[i + 2]);
    }
  }
}

export class WorkerFiles {
  readonly #files = new Map<number, WorkerFile>();

  get(fh: number): WorkerFile | undefined {
    return this.#files.get(fh);
  }

  apply(news: FileNews): void {
    switch (news.kind) {
      case 'open': this.#files.set(news.fh, new WorkerFile(news)); break;
      case 'map': this.#files.get(news.fh)?.learn(news.epoch, news.write, news.runs); break;
      case 'close': this.#files.delete(news.fh); break;
    }
  }
}

/** A decision to do I/O in place, filled in by `decide`; one object is reused for all requests. */
export class Plan {
  file!: WorkerFile;
  epoch = 0;
  unique = 0;
  size = 0;
  count = 0;
  /** Device offset and length of each piece, in the order of the data. */
  readonly device = new Float64Array(PIECES_MAX);
  readonly length = new Float64Array(PIECES_MAX);
}

export type Verdict = 'forward' | 'read' | 'write';

/** Decide about the message of `length` bytes at `at`. Fills `plan` unless the verdict is 'forward'. */
export function decide(view: DataView, at: number, length: number, files: WorkerFiles, plan: Plan): Verdict {
  if (length < IN_HEADER.size + READ_IN.size || view.getUint32(at + IN_HEADER.at.len, true) !== length) return 'forward';
  const opcode = view.getUint32(at + IN_HEADER.at.opcode, true);
  const write = opcode === OPCODE.WRITE;
  if (!write && opcode !== OPCODE.READ) return 'forward';
  if (view.getUint16(at + IN_HEADER.at.total_extlen, true) !== 0) return 'forward';

  const body = at + IN_HEADER.size; // fuse_read_in and fuse_write_in have fh, offset, size and flags at the same places
  const file = files.get(readU64(view, body + READ_IN.at.fh));
  if (file === undefined) return 'forward';
  const offset = readU64(view, body + READ_IN.at.offset);
  const size = view.getUint32(body + READ_IN.at.size, true);
  const unaligned = file.alignment - 1;
  if (offset < 0 || size === 0 || size > MAX_WRITE || ((offset % file.alignment) | (size & unaligned)) !== 0) return 'forward';
  if (length !== IN_HEADER.size + READ_IN.size + (write ? size : 0)) return 'forward';
  if (write) {
    if ((view.getUint32(body + WRITE_IN.at.write_flags, true) & WRITE_FLAG.KILL_SUIDGID) !== 0) return 'forward';
    // The kernel sends no FSYNC after an O_SYNC write that bypassed its cache by FOPEN_DIRECT_IO; and where the end of such a file is, others may know better.
    if (file.directIo && (view.getUint32(body + WRITE_IN.at.flags, true) & (O.DSYNC | O.APPEND)) !== 0) return 'forward';
  }

  const map = write ? file.writable : file.readable;
  const epoch = file.gate.epoch;
  if (map.epoch !== epoch) return 'forward';
  let count = 0;
  for (let done = 0; done < size; count++) {
    const device = map.find(offset + done);
    if (device < 0 || count === PIECES_MAX || device % file.alignment !== 0) return 'forward';
    const piece = Math.min(map.available(offset + done), size - done);
    if ((piece & unaligned) !== 0) return 'forward';
    plan.device[count] = device;
    plan.length[count] = piece;
    done += piece;
  }
  plan.file = file;
  plan.epoch = epoch;
  plan.unique = readU64(view, at + IN_HEADER.at.unique);
  plan.size = size;
  plan.count = count;
  return write ? 'write' : 'read';
}
