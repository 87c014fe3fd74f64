/**
 * Whether everybody means the same volume. An array's clone of a LUN carries the UUID of its original, and with it the names of heartbeat region
 * and lock domain: hosts on the one and on the other would share locks, but not data. (Two hosts with one node number are found by the
 * heartbeat itself: `Region`, states `taken` and warning `foreign-beat`.)
 */
import { ClusterError } from '@lunfs/device';
import type { NodeMap } from '../node-map.js';

/** A device of this host with the volume on it. Paths of one multipath device are one device. */
export interface VolumeDevice {
  readonly device: string;
  readonly uuid: string;
}

/** Throws DUPLICATE_UUID if another device of this host carries the volume that is to be used from `device`. */
export function refuseClone(device: string, uuid: string, present: readonly VolumeDevice[]): void {
  const others = present.filter((one) => one.uuid === uuid && one.device !== device).map((one) => one.device);
  if (others.length === 0) return;
  const names = others.join(', ');
  throw new ClusterError(
    'DUPLICATE_UUID',
    `${device} and ${names} carry the same volume UUID ${uuid}: one is a copy (a clone or a snapshot made by the array), or they are paths of one LUN without multipath. ` +
      'Detach the one that is not meant. To use both give the copy a new UUID, while no host uses it: tunefs.ocfs2 -U DEVICE',
    { device, others: names, uuid },
  );
}

/** What the disk and the network say of the nodes when a volume is about to be joined. */
export interface Sightings {
  /** This node. */
  readonly local: number;
  /** Nodes live in the volume's heartbeat region. */
  readonly beating: NodeMap;
  /** Nodes that we exchange messages with. */
  readonly connected: NodeMap;
  /** Nodes live in any region of this host. */
  readonly live: NodeMap;
  /** Nodes that say on the network that they are members of the volume's domain. */
  readonly members: NodeMap;
}

/**
 * Throws NODE_NOT_ON_DISK if a node is there on the network but its beats are not on our disk: it uses another LUN than we do, or one of
 * us cannot read what the other writes. With global heartbeat a member of the domain need not beat on the volume: give `live` as `beating`.
 */
export function refuseUnseen(volume: string, { local, beating, connected, live, members }: Sightings): void {
  const unseen = [...members].filter((node) => node !== local && !beating.has(node));
  const strange = [...connected].filter((node) => node !== local && !live.has(node) && !unseen.includes(node));
  if (unseen.length === 0 && strange.length === 0) return;
  const nodes = [...unseen, ...strange].sort((a, b) => a - b);
  const list = nodes.join(' and of node ');
  throw new ClusterError(
    'NODE_NOT_ON_DISK',
    `${volume}: of node ${list} there is no beat on the disk as this host sees it, though it ${unseen.length > 0 ? 'uses this volume' : 'is reached'} on the network. ` +
      'Is this LUN a copy of the one that it uses, or does this host see an old state of it? Compare the LUN\'s serial on all hosts (lsblk -o NAME,SERIAL,WWN); nothing was written',
    { volume, nodes: nodes.join(',') },
  );
}
