/**
 * What the inodes of a volume add up to, by their owners.
 *
 * Two sums are right for an id. Linux counts the clusters of directory indexes and does not count the root directory;
 * ocfs2-tools (mkfs.ocfs2, fsck.ocfs2 -fy) do it the other way round. So what may be counted or not makes a range.
 */
import { FL } from '../format/constants.js';
import type { QuotaType } from '../format/quota.js';
import type { DinodeView } from '../format/structs.js';

/** Use of one id in clusters and inodes; `maybe`: what one of the two ways of counting leaves out. */
export interface Use {
  clusters: number;
  inodes: number;
  maybeClusters: number;
  maybeInodes: number;
}

export class OwnerUse {
  readonly #ids: Record<QuotaType, Map<number, Use>> = { user: new Map(), group: new Map() };

  /** Count an inode; `index`: clusters of its directory index. */
  count({ flags, blkno, uid, gid, clusters }: DinodeView, rootBlkno: number, index: number): void {
    const system = (flags & FL.SYSTEM) !== 0;
    if (system && blkno !== rootBlkno) return;
    for (const use of [this.#of('user', uid), this.#of('group', gid)]) {
      if (system) use.maybeInodes++;
      else use.inodes++;
      if (!system) use.clusters += clusters;
      use.maybeClusters += system ? clusters + index : index;
    }
  }

  /** What another thread counted. */
  add(others: Readonly<Record<QuotaType, ReadonlyMap<number, Readonly<Use>>>>): void {
    for (const type of ['user', 'group'] as const) {
      for (const [id, use] of others[type]) {
        const sum = this.#of(type, id);
        sum.clusters += use.clusters;
        sum.inodes += use.inodes;
        sum.maybeClusters += use.maybeClusters;
        sum.maybeInodes += use.maybeInodes;
      }
    }
  }

  all(type: QuotaType): ReadonlyMap<number, Use> {
    return this.#ids[type];
  }

  #of(type: QuotaType, id: number): Use {
    let use = this.#ids[type].get(id);
    if (use === undefined) this.#ids[type].set(id, (use = { clusters: 0, inodes: 0, maybeClusters: 0, maybeInodes: 0 }));
    return use;
  }
}
