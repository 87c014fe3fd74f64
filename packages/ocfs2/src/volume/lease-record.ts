/**
 * The lease of a disk as it lies on the volume, in the attribute `trusted.lunfs.lease` of the disk's file: 80 bytes, the most that
 * an attribute keeps beside its name, so that no lease costs a cluster. What it means, and why it may be believed: docs/leases.md.
 *
 * It names its inode: what came with a clone, a restored copy or any other way to another file says nothing there.
 */
import { UsageError } from '@lunfs/device';
import { Block, LE, struct } from '../format/block.js';

export const LEASE_XATTR = Buffer.from('trusted.lunfs.lease');
const LEASE_BYTES = 80;
const VERSION = 1;
/** The node number of a host that has the volume to itself. */
export const NO_NODE = 255;
const HOST_MAX = 32;

const { u8, u32, big, bytes } = LE;
/** What is read here a user may have written: a wild number is no corruption of the volume, so none is read as u64. */
const Lease = struct('lunfs_lease', LEASE_BYTES, {
  version: u8(0), state: u8(1), node: u8(2), otherNode: u8(3), generation: u32(4), inode: big(8), epoch: big(16), incarnation: big(24), otherIncarnation: big(32),
  since: big(40), host: bytes(48, HOST_MAX),
});

/** By their numbers on the volume. */
const STATES = ['released', 'held', 'incoming', 'switched'] as const;

/**
 * `held`: the holder may write. `incoming`: it may, and has offered the lease to `other`, for a guest that moves there. `switched`: the holder
 * is the host it was offered to and does not write yet; `other` is the one who had it and may take it back until then. `released`: nobody.
 */
export type LeaseState = (typeof STATES)[number];

/** A process that serves a volume: one run of it on one host. */
export interface Incarnation {
  /** Node number in the cluster; `NO_NODE` without one. */
  readonly node: number;
  /** 64 random bits, never 0. */
  readonly incarnation: bigint;
}

export interface DiskLease {
  readonly state: LeaseState;
  /** Grows whenever the right to write goes to somebody, who may be the same again; never used twice for one disk. */
  readonly epoch: number;
  readonly holder: Incarnation;
  /** Name of the holder's host, its first 32 bytes. */
  readonly host: string;
  /** The other side of a hand-over. Incarnation 0: it has not accepted yet. */
  readonly other?: Incarnation;
  /** Seconds since 1970 by the holder's clock, for people to read. */
  readonly since: number;
}

/** The inode whose lease it is. */
export interface LeasedInode {
  readonly blkno: number;
  readonly generation: number;
}

export function encodeLease({ blkno, generation }: LeasedInode, { state, epoch, holder, host, other, since }: DiskLease): Uint8Array {
  const value = new Uint8Array(LEASE_BYTES);
  const view = Lease.at(new Block('', blkno, value));
  view.version = VERSION;
  view.state = STATES.indexOf(state);
  view.generation = generation;
  view.inode = BigInt(blkno);
  view.epoch = BigInt(epoch);
  view.node = holder.node;
  view.incarnation = holder.incarnation;
  view.otherNode = other?.node ?? NO_NODE;
  view.otherIncarnation = other?.incarnation ?? 0n;
  view.since = BigInt(since);
  value.set(Buffer.from(host).subarray(0, HOST_MAX), 48);
  return value;
}

/** Undefined: it is another file's. Throws LEASE_UNKNOWN. */
export function decodeLease(device: string, { blkno, generation }: LeasedInode, value: Uint8Array): DiskLease | undefined {
  const unknown = (why: string): UsageError => new UsageError('LEASE_UNKNOWN', 'EINVAL', `${device}: the lease of inode ${blkno} ${why}: a newer lunfs made it, or it is damaged. When no host has this disk in use, remove the attribute trusted.lunfs.lease of its file (setfattr -x)`, { device, inode: blkno });
  if (value.length !== LEASE_BYTES) throw unknown(`has ${value.length} bytes`);
  const view = Lease.at(new Block(device, blkno, Uint8Array.from(value)));
  if (view.version !== VERSION) throw unknown(`is of version ${view.version}`);
  const state = STATES.at(view.state);
  const epoch = Number(view.epoch), since = Number(view.since);
  if (state === undefined || view.incarnation === 0n || ![epoch, epoch + 1, since].every(Number.isSafeInteger)) throw unknown('means nothing');
  if (view.inode !== BigInt(blkno) || view.generation !== generation) return undefined;
  const end = view.host.indexOf(0);
  const paired = state === 'incoming' || state === 'switched';
  return {
    state, epoch, holder: { node: view.node, incarnation: view.incarnation }, host: Buffer.from(view.host.subarray(0, end < 0 ? HOST_MAX : end)).toString(),
    ...(paired && { other: { node: view.otherNode, incarnation: view.otherIncarnation } }), since,
  };
}
