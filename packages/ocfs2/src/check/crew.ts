/**
 * Threads that help with a verification. They work on the tables of the first thread, which are shared memory, and take parts of a
 * pass like it does (turns.ts); what is no table (findings, use by owner, shared runs) they hand over at the end of each pass.
 *
 * A thread pays when there are many inodes: it takes about 70 ms of a core to start. Its reads go through the descriptor of the
 * device, so only a file or block device has helpers, not a view of it.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { FileDevice, type OpenedFile } from '@lunfs/device';
import type { Geometry } from '../format/geometry.js';
import type { QuotaType } from '../format/quota.js';
import type { Checker } from './checker.js';
import type { Finding } from './findings.js';
import type { Group } from './group.js';
import type { SlotGroups } from './inodes.js';
import type { Use } from './owners.js';
import type { Pass } from './turns.js';
import type { ClaimMemory } from './usage.js';

/** Bits of inode allocators from which on a thread more pays: below it, V8 compiling the code a second time costs as much as the thread does. And threads at most. */
const MIN_ROWS = 1 << 18;
const MOST_HELPERS = 3;

/** What the passes work on. */
export interface Ground {
  readonly geo: Geometry;
  readonly inodeSlots: readonly SlotGroups[];
  readonly extentSlots: readonly (readonly Group[])[];
  readonly orphanDirs: readonly number[];
}

/** The same for threads to make their tables of. */
export interface CrewStart extends Ground {
  readonly file: OpenedFile;
  readonly turns: SharedArrayBuffer;
  readonly inodes: SharedArrayBuffer;
  readonly meta: SharedArrayBuffer;
  readonly claims: ClaimMemory;
}

/** What a thread hands over at the end of a pass. */
export interface PassResult {
  readonly list: readonly Finding[];
  readonly truncated: number;
  readonly live: number;
  readonly directories: number;
  readonly owners: Readonly<Record<QuotaType, ReadonlyMap<number, Use>>>;
  readonly shared: readonly { readonly root: number; readonly inodes: number; readonly runs: Uint32Array }[];
}

export class Crew {
  readonly #workers: Worker[] = [];
  /** By worker: the result of the pass that is under way. */
  #results: Promise<PassResult | undefined>[] = [];

  private constructor(helpers: number, private readonly c: Checker, start: CrewStart) {
    for (let i = 0; i < helpers; i++) {
      this.#workers.push(new Worker(new URL('./check-worker.js', import.meta.url), { workerData: start, execArgv: [], name: 'check' }));
    }
  }

  /** `helpers`: threads beside this one; as many as pay when undefined. */
  static form(c: Checker, ground: Ground, helpers?: number): Crew | undefined {
    const { device } = c.reader;
    const count = helpers ?? (c.inodes.rows < MIN_ROWS ? 0 : Math.min(MOST_HELPERS, availableParallelism() - 1));
    if (!(device instanceof FileDevice) || count === 0) return undefined;
    const { fd, name, kind, direct, size, logicalBlockSize, readOnly, canDiscard } = device;
    c.turns.alone = false;
    return new Crew(count, c, {
      ...ground, file: { fd, name, kind, direct, size, logicalBlockSize, readOnly, canDiscard },
      turns: c.turns.memory, inodes: c.inodes.memory, meta: c.meta.memory, claims: c.usage.memory,
    });
  }

  /** Have all threads begin a pass. */
  begin(pass: Pass): void {
    this.#results = this.#workers.map((worker) => {
      worker.postMessage(pass);
      return new Promise((resolve) => {
        const gone = () => resolve(undefined);
        worker.once('error', gone).once('exit', gone).once('message', (result: PassResult) => {
          worker.off('error', gone).off('exit', gone);
          resolve(result);
        });
      });
    });
  }

  /** All threads have ended the pass; what they found is taken over. */
  async end(): Promise<void> {
    const { c } = this;
    for (const result of await Promise.all(this.#results)) {
      // What a thread that died had taken nobody has looked at.
      if (result === undefined || result.truncated > 0) c.turns.contest();
      if (result === undefined) continue;
      c.findings.take(result);
      c.inodes.live += result.live;
      c.inodes.directories += result.directories;
      c.owners.add(result.owners);
      for (const { root, inodes, runs } of result.shared) c.addTree(root, inodes, runs);
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}
