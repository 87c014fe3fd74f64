/**
 * Open files and directories on the main thread: file handles, what workers were told of them, and the marks that workers leave
 * when they write in place.
 *
 * File handles are a counter, never used twice: a stale handle is unknown, not somebody else's. Workers hear of a file at its second
 * data request that they could not serve (most files are small and are read or written once), then get mappings as the requests
 * show what is wanted. Mappings are clipped to the file's size, so that no request inside them can pass EOF.
 */
import { UsageError } from '@lunfs/device';
import type { FileBackend, MappedRun } from '@lunfs/device';
import type { OpenDirectory, OpenFile } from '../handler.js';
import { FOPEN } from '../protocol/constants.js';
import { WROTE_BYTES, WroteMark } from './decide.js';
import type { FileNews } from './decide.js';

/** Mappings are asked for in windows of this many bytes around a request, and at most this many runs at a time. */
const WINDOW = 1 << 28;
const RUNS_MAX = 1024;
/** Data requests handed over before workers are told of a file. */
const REQUESTS_BEFORE_NEWS = 2;
/** Reads of what has no mapping, inside a window asked for before, until it is asked for again. */
const MISSES_BEFORE_ASKING = 64;

type Direct = NonNullable<FileBackend['direct']>;

/** What workers must be told, and how to count the marks they leave; session.ts sends it, tests read it. */
export interface WorkerLink {
  tell(news: FileNews): void;
  /** Counts marks set by workers, ever. */
  marks(): number;
}

export class OpenEntry<F extends OpenFile> {
  readonly fh: number;
  readonly nodeid: number;
  readonly file: F;
  requests = 0;
  mark: WroteMark | undefined;
  /** The last mapping answer: nothing new can be learned by asking again inside it, per direction, while the epoch lasts. */
  readonly asked = { read: { epoch: -1, from: 0, to: 0, misses: 0 }, write: { epoch: -1, from: 0, to: 0, misses: 0 } };
  asking = false;

  constructor(fh: number, nodeid: number, file: F) {
    this.fh = fh;
    this.nodeid = nodeid;
    this.file = file;
  }

  get openFlags(): number {
    const { directIo, keepCache, nonSeekable, parallelDirectWrites } = this.file;
    return (directIo ? FOPEN.DIRECT_IO : 0) | (keepCache ? FOPEN.KEEP_CACHE : 0) | (nonSeekable ? FOPEN.NONSEEKABLE : 0)
      | (parallelDirectWrites ? FOPEN.PARALLEL_DIRECT_WRITES : 0);
  }
}

function unknownHandle(fh: number): UsageError {
  return new UsageError('FUSE_BAD_HANDLE', 'EBADF', `the kernel uses file handle ${fh}, which is not open`, { fh });
}

export class OpenFiles<F extends OpenFile, D extends OpenDirectory> {
  #nextHandle = 1;
  readonly #files = new Map<number, OpenEntry<F>>();
  readonly #directories = new Map<number, D>();
  /** Files whose mark workers may set. */
  readonly #marked = new Set<OpenEntry<F>>();
  #marksSeen = 0;
  readonly #link: WorkerLink;
  readonly #wrote: (file: F, at: number) => void;

  constructor(link: WorkerLink, wrote: (file: F, at: number) => void) {
    this.#link = link;
    this.#wrote = wrote;
  }

  add(nodeid: number, file: F): OpenEntry<F> {
    const entry = new OpenEntry(this.#nextHandle++, nodeid, file);
    this.#files.set(entry.fh, entry);
    return entry;
  }

  addDirectory(directory: D): { fh: number; openFlags: number } {
    const fh = this.#nextHandle++;
    this.#directories.set(fh, directory);
    return { fh, openFlags: (directory.cacheListing ? FOPEN.CACHE_DIR : 0) | (directory.keepCache ? FOPEN.KEEP_CACHE : 0) };
  }

  file(fh: number): OpenEntry<F> {
    const entry = this.#files.get(fh);
    if (entry === undefined) throw unknownHandle(fh);
    return entry;
  }

  directory(fh: number): D {
    const directory = this.#directories.get(fh);
    if (directory === undefined) throw unknownHandle(fh);
    return directory;
  }

  /** Forget a file; the caller releases it. */
  remove(fh: number): F {
    const entry = this.file(fh);
    this.#files.delete(fh);
    if (this.#marked.delete(entry)) this.#link.tell({ kind: 'close', fh });
    this.#collect(entry);
    return entry.file;
  }

  removeDirectory(fh: number): D {
    const directory = this.directory(fh);
    this.#directories.delete(fh);
    return directory;
  }

  /** Forget everything (the connection ended); the caller releases what it gets. */
  drain(): { files: F[]; directories: D[] } {
    this.foldWrites();
    const files = [...this.#files.values()].map((entry) => entry.file);
    const directories = [...this.#directories.values()];
    this.#files.clear();
    this.#directories.clear();
    this.#marked.clear();
    return { files, directories };
  }

  /** Tell the handler of every file that workers have written since the last call. */
  foldWrites(): void {
    const marks = this.#link.marks();
    if (marks === this.#marksSeen) return;
    this.#marksSeen = marks;
    for (const entry of this.#marked) this.#collect(entry);
  }

  #collect(entry: OpenEntry<F>): void {
    const at = entry.mark?.take() ?? -1;
    if (at >= 0) this.#wrote(entry.file, at);
  }

  /** A data request was served by the handler: let the workers serve the next one like it. */
  async teach(entry: OpenEntry<F>, offset: number, length: number, write: boolean, grew: boolean): Promise<void> {
    const { asked } = entry;
    const { backend } = entry.file;
    if (backend === undefined || ++entry.requests < REQUESTS_BEFORE_NEWS || entry.asking) return;
    // Not looked at before: a backend may make its gate when it is asked for it.
    const { direct } = backend;
    if (direct === undefined) return;
    if (write) asked.read.epoch = -1;
    if (grew) return;
    if (((offset | length) & (direct.alignment - 1)) !== 0 || (write && backend.readOnly)) return;
    const window = write ? asked.write : asked.read;
    const known = window.epoch === direct.gate.epoch && offset >= window.from && offset < window.to;
    // Inside the last answer's window a read that found no mapping learns nothing new (a hole), unless others have written since.
    if (known && !write && ++window.misses % MISSES_BEFORE_ASKING !== 0) return;
    entry.asking = true;
    try {
      if (known && write) {
        // The write has allocated or converted just this range.
        this.#learned(entry, direct, write, await backend.map(offset, length, write, RUNS_MAX));
        return;
      }
      const from = offset - (offset % (WINDOW / 4));
      const answer = await backend.map(from, Math.min(WINDOW, backend.size - from), write, RUNS_MAX);
      const last = answer.runs.at(-1);
      window.epoch = answer.epoch;
      window.from = from;
      window.to = answer.runs.length < RUNS_MAX || last === undefined ? from + WINDOW : last.offset + last.length;
      this.#learned(entry, direct, write, answer);
    } catch {
      // No mapping, no harm: the handler goes on serving this file. A broken volume says so at the requests themselves.
    } finally {
      entry.asking = false;
    }
  }

  #learned(entry: OpenEntry<F>, direct: Direct, write: boolean, { epoch, runs }: { epoch: number; runs: readonly MappedRun[] }): void {
    if (!this.#files.has(entry.fh)) return; // released meanwhile
    const size = entry.file.backend?.size ?? 0;
    const flat: number[] = [];
    for (const run of runs) {
      const length = Math.min(run.length, size - run.offset);
      if (length > 0) flat.push(run.offset, length, run.device);
    }
    if (flat.length === 0) return;
    if (!this.#marked.has(entry)) {
      const wrote = new SharedArrayBuffer(WROTE_BYTES);
      entry.mark = new WroteMark(wrote);
      this.#marked.add(entry);
      this.#link.tell({
        kind: 'open', fh: entry.fh, fd: direct.fd, alignment: direct.alignment, gate: direct.gate.memory, wrote, directIo: entry.file.directIo === true,
      });
    }
    this.#link.tell({ kind: 'map', fh: entry.fh, epoch, write, runs: Float64Array.from(flat) });
  }
}
