/**
 * Which clusters of a volume in the making are taken, by group. Groups nobody took anything from exist only as numbers,
 * so that a volume of many TiB is laid out in little memory.
 *
 * Clusters are found as mkfs.ocfs2 finds them, so that both make the same volume (ocfs2-tools libocfs2/bitmap.c:alloc_range_func).
 */
import { UsageError } from '@lunfs/device';
import { bits } from '../format/index.js';
import type { VolumePlan } from './plan.js';

interface Touched {
  readonly bitmap: Uint8Array;
  used: number;
}

export class ClusterMap {
  readonly #touched = new Map<number, Touched>();
  /** Cluster of group 0's descriptor: the first after the superblock. */
  readonly firstGroupCluster: number;

  constructor(readonly plan: VolumePlan) {
    this.firstGroupCluster = Math.ceil(3 / plan.bpc);
  }

  /** Clusters a group covers. */
  bitsOf(group: number): number {
    return group === this.plan.clusterGroups - 1 ? this.plan.tailGroupClusters : this.plan.clustersPerGroup;
  }

  /** Used clusters of a group; an untouched one holds its descriptor, group 0 also what lies before its own. */
  usedOf(group: number): number {
    return this.#touched.get(group)?.used ?? this.#reserved(group);
  }

  /** The group's bitmap if more than the descriptor is taken. */
  bitmapOf(group: number): Uint8Array {
    return this.#touched.get(group)?.bitmap ?? this.#fresh(group);
  }

  /** Block of a group's descriptor. */
  blockOf(group: number): number {
    return (group === 0 ? this.firstGroupCluster : group * this.plan.clustersPerGroup) * this.plan.bpc;
  }

  /** Mark one cluster used. */
  take(cluster: number): void {
    const group = Math.floor(cluster / this.plan.clustersPerGroup);
    this.#take(group, cluster % this.plan.clustersPerGroup, 1);
  }

  /** A run of `want` clusters from the first group that has one, else of at least `min`: the longest of the first group that has that. */
  claim(want: number, min: number): { start: number; len: number } {
    for (let group = 0; group < this.plan.clusterGroups; group++) {
      const limit = this.bitsOf(group);
      if (limit - this.usedOf(group) < min) continue;
      const bitmap = this.bitmapOf(group);
      let bestAt = 0, best = 0;
      for (let at = bits.next(bitmap, 0, 0, limit, false); at < limit && best < want; ) {
        const end = bits.next(bitmap, 0, at, limit, true);
        if (end - at > best) {
          best = Math.min(want, end - at);
          bestAt = at;
        }
        at = bits.next(bitmap, 0, end, limit, false);
      }
      if (best < min) continue;
      this.#take(group, bestAt, best);
      return { start: group * this.plan.clustersPerGroup + bestAt, len: best };
    }
    throw new UsageError('MKFS_TOO_SMALL', 'ENOSPC', `the volume of ${this.plan.bytes} bytes is too small for its system files; use a larger device, smaller journals or fewer node slots`);
  }

  #reserved(group: number): number {
    return group === 0 ? this.firstGroupCluster + 1 : 1;
  }

  #fresh(group: number): Uint8Array {
    const bitmap = new Uint8Array(this.plan.blockSize - 64);
    for (let i = 0; i < this.#reserved(group); i++) bits.set(bitmap, 0, i);
    return bitmap;
  }

  #take(group: number, bit: number, len: number): void {
    let touched = this.#touched.get(group);
    if (touched === undefined) this.#touched.set(group, (touched = { bitmap: this.#fresh(group), used: this.#reserved(group) }));
    for (let i = bit; i < bit + len; i++) bits.set(touched.bitmap, 0, i);
    touched.used += len;
  }
}
