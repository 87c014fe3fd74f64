/** Hosts that take the leases of one disk, over a cluster in one process. */
import { type DiskLease, type LeaseTaker, Leases, readLease } from '../../src/volume/index.js';
import type { ClusterNode, TestCluster } from './cluster.js';

const DISK = Buffer.from('vm.raw');

/** A host with a disk in use. */
export interface Host extends ClusterNode {
  readonly leases: Leases;
  readonly disk: { readonly ino: number; readonly name: string };
}

let incarnations = 1n;

/** A node that mounts, and has the disk in use; the first one makes it. */
export async function host(cluster: TestCluster, number: number, name = DISK): Promise<Host> {
  const node = await cluster.mount(number);
  const { names } = node.volume;
  const { blkno } = await names.lookup(names.root, name).catch(() => names.create(names.root, name, { mode: 0o100600, uid: 0, gid: 0 }));
  return { ...node, leases: leasesOf(cluster, node), disk: { ino: blkno, name: `lun:/${name.toString()}` } };
}

function leasesOf(cluster: TestCluster, { number, volume: { ctx, flocks } }: ClusterNode): Leases {
  const self: LeaseTaker = { node: number, incarnation: incarnations++, host: `host${number}`, hostOf: (node) => `host${node}`, lives: (node) => cluster.live.includes(node) };
  return new Leases(ctx, flocks, self);
}

export async function leave(cluster: TestCluster, one: Host): Promise<void> {
  await one.volume.names.forget(one.disk.ino);
  await cluster.unmount(one);
}

export const read = ({ volume: { ctx }, disk: { ino } }: Host): Promise<DiskLease | undefined> => readLease(ctx, ino);

/** The code of what a promise rejects with, or `done`. */
export const code = (promise: Promise<unknown>): Promise<string> => promise.then(() => 'done', (error: { code: string }) => error.code);
