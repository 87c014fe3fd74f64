/** Leases of disks as operators and other programs see them (docs/leases.md); what they are is the engine's business. */
import { type DiskLease, type LeaseState, NO_NODE, type Volume, readLease } from '@lunfs/ocfs2';

export interface LeaseFacts {
  readonly state: LeaseState;
  readonly epoch: number;
  /** Whose it is, or, when it is released, was. `node`: its number in the cluster; undefined: a host that had the volume to itself. */
  readonly host: string;
  readonly node?: number;
  /** The run of the volume process on that host: 16 hexadecimal digits. */
  readonly incarnation: string;
  /** Node number of the other side of a hand-over: to whom it is offered, or who may take it back. */
  readonly otherNode?: number;
  /** Seconds since 1970 by that host's clock. */
  readonly since: number;
}

/** Of a disk by its inode; undefined: it has never had a lease. Throws LEASE_UNKNOWN. */
export async function leaseFacts(volume: Volume, ino: number): Promise<LeaseFacts | undefined> {
  const lease = await readLease(volume.ctx, ino);
  return lease && factsOf(lease);
}

function factsOf({ state, epoch, host, holder, other, since }: DiskLease): LeaseFacts {
  return {
    state, epoch, host, node: holder.node === NO_NODE ? undefined : holder.node, incarnation: holder.incarnation.toString(16).padStart(16, '0'), otherNode: other?.node, since,
  };
}
