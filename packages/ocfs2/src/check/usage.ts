/** Which clusters the bitmap says are in use, which are referred to and by whom; compared at the end (CLUSTER_ALLOC_BIT, DUP_CLUSTERS). */
import type { Geometry } from '../format/geometry.js';
import { bits } from '../format/lists.js';
import type { Findings } from './findings.js';
import type { Turns } from './turns.js';

/** The maps of claimed clusters, shared by all threads. */
export interface ClaimMemory {
  readonly claimed: SharedArrayBuffer;
  readonly shared?: SharedArrayBuffer;
}

function words(bytes: Uint8Array): Int32Array {
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

export class ClusterUsage {
  readonly total: number;
  /** As the global bitmap has it; kept by the first thread only. */
  readonly allocated: Uint8Array;
  readonly memory: ClaimMemory;
  readonly #claimed: Uint8Array;
  /** Clusters referred to by extents flagged REFCOUNTED: any number of referrers, counted per tree in refcounts.ts. */
  readonly #shared: Uint8Array | undefined;

  /** `memory`: of another thread's claims. */
  constructor(geo: Geometry, private readonly findings: Findings, private readonly turns: Turns, memory?: ClaimMemory) {
    this.total = geo.totalClusters;
    // Whole words, so that maps are compared word by word.
    const bytes = Math.ceil(this.total / 32) * 4;
    this.allocated = new Uint8Array(memory === undefined ? bytes : 0);
    // Memory that is never written costs nothing.
    this.memory = memory ?? { claimed: new SharedArrayBuffer(bytes), shared: geo.refcount ? new SharedArrayBuffer(bytes) : undefined };
    this.#claimed = new Uint8Array(this.memory.claimed);
    this.#shared = this.memory.shared && new Uint8Array(this.memory.shared);
  }

  /** Take over the bitmap of a group: `count` bits from byte `base` on, for the clusters from `first` (a multiple of 8) on. */
  allocate(first: number, bitmap: Uint8Array, base: number, count: number): void {
    const n = Math.min(count, this.total - first);
    if (first < 0 || n <= 0) return;
    const whole = n >>> 3;
    this.allocated.set(bitmap.subarray(base, base + whole), first >>> 3);
    for (let bit = whole << 3; bit < n; bit++) if (bits.test(bitmap, base, bit)) bits.set(this.allocated, 0, first + bit);
  }

  /** `who` refers to clusters [start, start+count). */
  claim(start: number, count: number, who: string, shared = false): void {
    const from = Math.max(0, start), end = Math.min(this.total, start + count);
    if (from >= end) return;
    // A record that is shared on a volume without such a feature is an error of its own.
    const asShared = shared && this.#shared !== undefined;
    if (this.turns.alone) this.#claimAlone(from, end, who, asShared);
    else if (!this.#claimBeside(from, end, asShared)) this.turns.contest();
  }

  /** One thread: exact about what is claimed twice. */
  #claimAlone(from: number, end: number, who: string, shared: boolean): void {
    const mine = shared ? this.#shared! : this.#claimed;
    const foreign = (at: number): number => {
      const claimed = bits.next(this.#claimed, 0, at, end, true);
      return shared || this.#shared === undefined ? claimed : Math.min(claimed, bits.next(this.#shared, 0, at, end, true));
    };
    for (let at = from; at < end; ) {
      const taken = foreign(at);
      bits.fill(mine, 0, at, taken);
      if (taken === end) return;
      let to = taken + 1;
      while (to < end && foreign(to) === to) to++;
      this.findings.error(who.startsWith('system file') ? 'DUP_CLUSTERS_SYSFILE_CLONE' : 'DUP_CLUSTERS_CLONE', `clusters ${taken}..${to - 1} of ${who} are also used by something else`);
      at = to;
    }
  }

  /** Beside other threads: false if a cluster was claimed before. Each sets its own bits before it looks at others', so one of two sees both. */
  #claimBeside(from: number, end: number, shared: boolean): boolean {
    const mine = words(shared ? this.#shared! : this.#claimed), others = shared ? words(this.#claimed) : this.#shared && words(this.#shared);
    let free = true;
    for (let at = from; at < end; ) {
      const word = at >>> 5, to = Math.min(end, (word + 1) * 32);
      const mask = (to - at === 32 ? -1 : ((1 << (to - at)) - 1) << (at & 31)) | 0;
      const before = Atomics.or(mine, word, mask);
      if (!shared && before & mask) free = false;
      if (others !== undefined && Atomics.load(others, word) & mask) free = false;
      at = to;
    }
    return free;
  }

  isClaimed(cluster: number): boolean {
    return bits.test(this.#claimed, 0, cluster) || (this.#shared !== undefined && bits.test(this.#shared, 0, cluster));
  }

  /** Clusters in use by the global bitmap. */
  get used(): number {
    return bits.count(this.allocated, 0, this.total);
  }

  /** Report every run where bitmap and references disagree. */
  compare(): void {
    const allocated = words(this.allocated), claimed = words(this.#claimed), shared = this.#shared && words(this.#shared);
    for (let c = 0; c < this.total; ) {
      if ((c & 31) === 0) {
        // Whole equal words are skipped: most of a volume.
        let i = c / 32;
        while (i < allocated.length && allocated[i] === (shared === undefined ? claimed[i] : claimed[i] | shared[i])) i++;
        c = i * 32;
        if (c >= this.total) return;
      }
      const used = bits.test(this.allocated, 0, c), referred = this.isClaimed(c);
      if (used === referred) {
        c++;
        continue;
      }
      let to = c + 1;
      while (to < this.total && bits.test(this.allocated, 0, to) === used && this.isClaimed(to) === referred) to++;
      if (used) this.findings.add('leak', 'CLUSTER_ALLOC_BIT', `clusters ${c}..${to - 1} are marked in use but nothing refers to them`);
      else this.findings.error('CLUSTER_ALLOC_BIT', `clusters ${c}..${to - 1} are in use but marked free in the global bitmap`);
      c = to;
    }
  }
}
