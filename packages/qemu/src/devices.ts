/**
 * A guest's disks and cards as QEMU's block nodes and devices; the same JSON at the start (-blockdev, -device) and when plugged in later
 * (blockdev-add, device_add).
 *
 *  - A raw node stands between device and NBD, so that what is below can be exchanged under a running guest (blockdev-reopen).
 *  - `cache.direct`: no page cache of the host between guest and LUN; other hosts write the LUN too.
 *  - `reconnect-delay`: requests wait for a volume process that is restarted instead of failing; what was acknowledged is there.
 *  - `werror`, `rerror` stop: past that a guest pauses; it never sees an I/O error for an outage or a full volume of ours.
 *  - `discard`, `detect-zeroes`: what a guest trims or fills with zeros is given back, unless the disk keeps its space.
 */
import type { DiskDefinition, NicDefinition } from './definition.js';
import type { BlockNode } from './qmp/commands.js';
import type { JsonObject } from './qmp/message.js';
import type { AttachedDisk, DiskEndpoint } from './run-files.js';

/** Seconds a request waits for the server to come back. */
const RECONNECT_DELAY = 300;
/** Root ports are packed eight to a slot of pcie.0, from this one on; QEMU itself takes slots from both ends. */
const FIRST_SLOT = 0x10;

/** Name of the node that a disk's device is attached to. */
export function topNode(id: string): string {
  return `disk-${id}`;
}

/** Name of the connection below it. One disk has several in its life: each knows the size that the disk had when it was made. */
export function nbdNodeName(id: string, generation: number): string {
  return `nbd-${id}-${generation}`;
}

export function nbdNode(disk: DiskDefinition, { socket, exportName }: DiskEndpoint, generation: number): BlockNode {
  return {
    driver: 'nbd', 'node-name': nbdNodeName(disk.id, generation), server: { type: 'unix', path: socket }, export: exportName, 'reconnect-delay': RECONNECT_DELAY, ...policy(disk),
  };
}

export function rawNode(disk: DiskDefinition, generation: number): BlockNode {
  return { driver: 'raw', 'node-name': topNode(disk.id), file: nbdNodeName(disk.id, generation), 'detect-zeroes': disk.readOnly ? 'off' : disk.keepSpace ? 'on' : 'unmap', ...policy(disk) };
}

function policy({ readOnly, keepSpace }: DiskDefinition): JsonObject {
  return { cache: { direct: true, 'no-flush': false }, 'read-only': readOnly, discard: keepSpace ? 'ignore' : 'unmap' };
}

/** The device that shows the disk to the guest; `bus`: the root port it is plugged into. */
export function diskDevice({ id, serial }: DiskDefinition, bus: string | undefined, bootIndex?: number): JsonObject & { readonly driver: string; readonly id: string } {
  return {
    driver: 'virtio-blk-pci', id, drive: topNode(id), serial, werror: 'stop', rerror: 'stop', 'write-cache': 'on', ...(bus === undefined ? {} : { bus }), ...(bootIndex === undefined ? {} : { bootindex: bootIndex }),
  };
}

/** Name of a root port, where the machine has them. */
export function portName(machine: string, port: number): string | undefined {
  return hasRootPorts(machine) ? `port${port}` : undefined;
}

export function hasRootPorts(machine: string): boolean {
  return machine.includes('q35');
}

export function rootPort(port: number): JsonObject {
  const place = { addr: `0x${(FIRST_SLOT + (port >> 3)).toString(16)}.0x${port & 7}`, ...((port & 7) === 0 ? { multifunction: true } : {}) };
  return { driver: 'pcie-root-port', id: `port${port}`, bus: 'pcie.0', chassis: port + 1, ...place };
}

/** The lowest port that none of the disks has. */
export function freePort(disks: readonly AttachedDisk[]): number {
  const taken = new Set(disks.map(({ port }) => port));
  let port = 0;
  while (taken.has(port)) port += 1;
  return port;
}

/** `device`: the tap device of a card that is not the user's. */
export function nicBackend(nic: NicDefinition, index: number, device: string | undefined): JsonObject {
  const id = `net${index}`;
  return nic.kind === 'user' ? { type: 'user', id } : { type: 'tap', id, ifname: device, script: 'no', downscript: 'no' };
}

export function nicDevice({ mac }: NicDefinition, index: number): JsonObject {
  return { driver: 'virtio-net-pci', id: `nic${index}`, netdev: `net${index}`, mac };
}
