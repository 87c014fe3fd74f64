/**
 * Names of block devices that mean the same LUN after the next boot, and those that do not: the kernel gives `sdX` and `dm-N` in the order in
 * which it finds things, so another LUN can stand under such a name.
 */
import * as fs from 'node:fs';
import path from 'node:path';
import type { Disk } from './blocks.js';
import { type SanHost, printable } from './host.js';
import { displayName } from './use.js';

/** By which kind of link an operator is best told of a device; the first that exists. */
const BEST = ['wwn-', 'scsi-3', 'nvme-eui.', 'nvme-uuid.', 'scsi-', 'nvme-', 'virtio-', 'ata-'];

/** Links of /dev/disk/by-id by the kernel name they lead to. */
export function stableLinks(host: SanHost): Map<string, string[]> {
  const found = new Map<string, string[]>();
  const directory = path.join(host.dev, 'disk/by-id');
  for (const name of list(directory)) {
    const target = link(path.join(directory, name));
    if (target === undefined) continue;
    const kernelName = path.basename(target);
    found.set(kernelName, [...(found.get(kernelName) ?? []), printable(name)]);
  }
  return found;
}

/** The name to write down for a device; undefined where udev has made none. */
export function stableName(disk: Pick<Disk, 'kernelName' | 'mapper'>, links: ReadonlyMap<string, readonly string[]>): string | undefined {
  if (disk.mapper !== undefined) return displayName(disk);
  const names = links.get(disk.kernelName) ?? [];
  const best = BEST.map((prefix) => names.find((name) => name.startsWith(prefix))).find((name) => name !== undefined) ?? names[0];
  return best === undefined ? undefined : `/dev/disk/by-id/${best}`;
}

/** A name that can mean another device after a boot. Loop devices are left out: who makes them says which. */
export function isUnstableName(device: string): boolean {
  return /^\/dev\/(?:dm-\d+|(?:sd|vd|xvd|hd)[a-z]+\d*|nvme\d+n\d+(?:p\d+)?)$/.test(device);
}

function list(directory: string): string[] {
  try {
    return fs.readdirSync(directory).sort();
  } catch {
    return [];
  }
}

function link(file: string): string | undefined {
  try {
    return fs.readlinkSync(file);
  } catch {
    return undefined;
  }
}
