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
}
