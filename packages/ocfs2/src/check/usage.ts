/** Which clusters the bitmap says are in use, which are referred to and by whom; compared at the end (CLUSTER_ALLOC_BIT, DUP_CLUSTERS). */
import type { Geometry } from '../format/geometry.js';
import { bits } from '../format/lists.js';
import type { Findings } from './findings.js';

export class ClusterUsage {
  readonly total: number;
  /** As the global bitmap has it. */
  readonly allocated: Uint8Array;
  readonly #claimed: Uint8Array;
  /** Clusters referred to by extents flagged REFCOUNTED: any number of referrers, counted per tree in refcounts.ts. */
  readonly #shared: Uint8Array;

  constructor(geo: Geometry, private readonly findings: Findings) {
    this.total = geo.totalClusters;
    const bytes = Math.ceil(this.total / 8);
    this.allocated = new Uint8Array(bytes);
    this.#claimed = new Uint8Array(bytes);
    this.#shared = new Uint8Array(bytes);
  }

  /** `who` refers to clusters [start, start+count). */
  claim(start: number, count: number, who: string, shared = false): void {
    const end = Math.min(this.total, start + count);
    for (let c = Math.max(0, start); c < end; c++) {
      const mine = shared ? this.#shared : this.#claimed;
      if (bits.test(this.#claimed, 0, c) || (!shared && bits.test(this.#shared, 0, c))) {
        let to = c + 1;
        while (to < end && bits.test(this.#claimed, 0, to)) to++;
        this.findings.error(who.startsWith('system file') ? 'DUP_CLUSTERS_SYSFILE_CLONE' : 'DUP_CLUSTERS_CLONE', `clusters ${c}..${to - 1} of ${who} are also used by something else`);
        c = to - 1;
        continue;
      }
      bits.set(mine, 0, c);
    }
  }

  isClaimed(cluster: number): boolean {
    return bits.test(this.#claimed, 0, cluster) || bits.test(this.#shared, 0, cluster);
  }

  /** Report every run where bitmap and references disagree. */
  compare(): void {
    for (let c = 0; c < this.total; ) {
      const used = bits.test(this.allocated, 0, c), referred = this.isClaimed(c);
      if (used === referred) {
        // Whole equal bytes are skipped: most of a volume.
        if ((c & 7) === 0) {
          const i = c >> 3;
          if (this.allocated[i] === (this.#claimed[i] | this.#shared[i])) {
            c += 8;
            continue;
          }
        }
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
