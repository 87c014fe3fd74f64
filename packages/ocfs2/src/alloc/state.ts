/**
 * What a mount remembers of allocation in memory: hints, the size of the next local alloc window, from whom blocks are
 * stolen, and clusters whose freeing is not committed yet. All of it may be lost at any time without harm to the volume.
 * Changed only when an operation applies (`op.onApply`) or between operations.
 */
import type { FsContext } from '../context.js';
import { BACKUP_SUPER_OFFSETS, bits, clusterToGroup, hasBackups, blockToCluster } from '../format/index.js';
import type { Op } from '../txn/index.js';

/** A run of bits in one group of the global bitmap. */
interface GroupRun {
  readonly group: number;
  readonly bit: number;
  readonly len: number;
}

export type MetaType = 'inode' | 'extent';

/** Stealing from other slots' suballocators (Linux 6.1 fs/ocfs2/suballoc.c:ocfs2_steal_resource). */
export interface StealState {
  /** Slot that had space last; undefined: own slot first. */
  slot: number | undefined;
  /** Blocks stolen since the own allocator was last tried. */
  stolen: number;
}

/** The local alloc window to be opened next (Linux 6.1 fs/ocfs2/localalloc.c:ocfs2_recalc_la_window). */
export interface WindowState {
  mode: 'enabled' | 'throttled' | 'disabled';
  /** Clusters of the next window. */
  clusters: number;
  readonly defaultClusters: number;
  /** Monotonic milliseconds at which a throttled or disabled window is tried at full size again. */
  retryAt: number;
  /** Group of the global bitmap the last window came from; 0: none. */
  lastGroup: number;
}

export class AllocState {
  readonly steal: Record<MetaType, StealState> = { inode: { slot: undefined, stolen: 0 }, extent: { slot: undefined, stolen: 0 } };
  /** Global bitmap group the last inode group was taken from; 0: none. */
  inodeGroupHint = 0;
  /** The truncate log flush under way. */
  flushing: Promise<void> | undefined;
  /** The own truncate log may hold clusters (true until a flush has shown otherwise: a mount can find some). */
  mayHoldLogged = true;
  /** How often clusters of a dead node were put there. */
  adopted = 0;
  window: WindowState;

  /** Bits that are clear on disk only once a transaction commits, by group. */
  readonly #pending = new Map<number, { readonly bitmap: Uint8Array; count: number }>();
  /** Bits an operation that has not applied yet clears. */
  readonly #clearing = new WeakMap<Op, GroupRun[]>();
  /** Free bits of a group that are being discarded on the device. */
  #discard: { readonly runs: readonly GroupRun[]; readonly ended: Promise<void>; readonly end: () => void } | undefined;
  /** Bits of backup superblocks, by group. */
  readonly #backups = new Map<number, number[]>();

  constructor(readonly ctx: FsContext, defaultWindow: number) {
    const { geo } = ctx;
    this.window = { mode: 'enabled', clusters: defaultWindow, defaultClusters: defaultWindow, retryAt: 0, lastGroup: 0 };
    if (!hasBackups(geo)) return;
    // All six, also those beyond the present end: an online grow may bring them inside.
    for (const at of BACKUP_SUPER_OFFSETS) {
      const { group, bit } = clusterToGroup(geo, blockToCluster(geo, at / geo.blockSize));
      this.#backups.set(group, [...(this.#backups.get(group) ?? []), bit]);
    }
  }

  /** Blocks or clusters became free: the own allocators are tried first again (Linux 6.1 fs/ocfs2/suballoc.c:ocfs2_init_steal_slots). */
  stopStealing(): void {
    for (const steal of [this.steal.inode, this.steal.extent]) Object.assign(steal, { slot: undefined, stolen: 0 });
  }

  /** Remember that `op` clears these bits: they may be handed out again only when its transaction is durable. */
  defer(op: Op, run: GroupRun): void {
    const own = this.#clearing.get(op);
    if (own === undefined) this.#clearing.set(op, [run]);
    else own.push(run);
    op.onApply(() => {
      let pending = this.#pending.get(run.group);
      if (pending === undefined) this.#pending.set(run.group, (pending = { bitmap: new Uint8Array(this.ctx.geo.blockSize), count: 0 }));
      for (let i = 0; i < run.len; i++) bits.set(pending.bitmap, 0, run.bit + i);
      pending.count += run.len;
    });
    op.onCommit(() => {
      const pending = this.#pending.get(run.group);
      if (pending === undefined) return;
      for (let i = 0; i < run.len; i++) bits.clear(pending.bitmap, 0, run.bit + i);
      pending.count -= run.len;
      if (pending.count === 0) this.#pending.delete(run.group);
    });
  }

  /** Clusters that become usable with the next commit. */
  get pendingClusters(): number {
    let sum = 0;
    for (const { count } of this.#pending.values()) sum += count;
    return sum;
  }

  /** From now on these free bits are being discarded: they are not handed out. */
  beginDiscard(runs: readonly GroupRun[]): void {
    let end: () => void = () => undefined;
    const ended = new Promise<void>((resolve) => (end = resolve));
    this.#discard = { runs, ended, end };
  }

  endDiscard(): void {
    this.#discard?.end();
    this.#discard = undefined;
  }

  /** Settles when clusters that are being discarded are free again; undefined if there are none. */
  get discardEnd(): Promise<void> | undefined {
    return this.#discard?.ended;
  }

  /**
   * The bitmap of a global bitmap group with everything marked that must not be handed out: used clusters, those whose
   * freeing is not committed (Linux 6.1 fs/ocfs2/suballoc.c:ocfs2_test_bg_bit_allocatable), what is being discarded, and the backup
   * superblocks, whose bits an offline grow by ocfs2-tools 1.8.7 leaves clear (ondisk-format.md 11.2).
   */
  allocatable(op: Op, group: number, bitmap: Uint8Array): Uint8Array {
    const pending = this.#pending.get(group), backups = this.#backups.get(group);
    const busy = [...(this.#clearing.get(op) ?? []), ...(this.#discard?.runs ?? [])].filter((run) => run.group === group);
    if (pending === undefined && backups === undefined && busy.length === 0) return bitmap;
    const out = bitmap.slice();
    if (pending !== undefined) for (let i = 0; i < out.length; i++) out[i] |= pending.bitmap[i];
    for (const run of busy) for (let i = 0; i < run.len; i++) bits.set(out, 0, run.bit + i);
    for (const bit of backups ?? []) bits.set(out, 0, bit);
    return out;
  }

  /** A cluster that must never be freed or handed out. */
  isBackup(group: number, bit: number): boolean {
    return this.#backups.get(group)?.includes(bit) ?? false;
  }
}
