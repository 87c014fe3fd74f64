/** What a mount that is one of several members asks of the cluster stack (cluster-protocols.md 6, 9). */
import type { Dlm } from '../locking/dlm.js';

export interface ClusterMember {
  /** This node's number: what the slot map gets. */
  readonly node: number;
  /** The lock manager of the volume's domain, joined before the mount and left after the unmount. */
  readonly dlm: Dlm;
  /** Nodes that beat now. */
  live(): readonly number[];
  /**
   * Tells of every death of a member of the domain, before the lock manager grants anybody a lock that the dead node was
   * in the way of (dlmdomain.c calls evict handlers first): no block is read from then on before its journal is replayed.
   * Nodes that die before the first subscription are found by their slots. Returns what ends the subscription.
   */
  onDeath(listener: (node: number) => void): () => void;
  /**
   * May another member have learnt of a death before this one? Then it may have granted what the dead node held, and no lock that
   * is granted now is used before the doubt is over: by a death told here, or by a beat of who was in doubt.
   */
  suspects(): boolean;
  /** Calls `listener` when `suspects` may have changed. Returns what ends that. */
  onSuspicion(listener: () => void): () => void;
}
