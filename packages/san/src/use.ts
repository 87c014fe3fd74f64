/** Who uses a LUN on this host: mounts, swap, what stands on it. Each use names itself and what to do to end it. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parseMountInfo } from '@lunfs/device';
import type { Disk } from './blocks.js';
import { type SanHost, printable } from './host.js';

export type UseKind = 'mount' | 'swap' | 'lvm' | 'crypt' | 'raid' | 'mapper' | 'volume';

export interface Use {
  readonly kind: UseKind;
  /** The device that is used: the LUN's own, a partition of it, or what stands on it. */
  readonly device: string;
  /** For operators: `mounted on /srv (ext4)`. */
  readonly text: string;
}

/** What a host's kernel uses, by device number; read once for all LUNs. */
export interface Users {
  readonly mounts: ReadonlyMap<string, readonly { readonly mountPoint: string; readonly type: string }[]>;
  /** Kernel names of devices that are swapped to. */
  readonly swaps: ReadonlySet<string>;
}

export function readUsers(host: SanHost): Users {
  const mounts = new Map<string, { mountPoint: string; type: string }[]>();
  for (const { number, mountPoint, type } of parseMountInfo(fileText(host.proc, 'self/mountinfo'))) {
    mounts.set(number, [...(mounts.get(number) ?? []), { mountPoint: printable(mountPoint, 4096), type: printable(type) }]);
  }
  // "/dev/sda2  partition  …"; a name with blanks is escaped, which no device's is.
  const swaps = fileText(host.proc, 'swaps').split('\n').slice(1).flatMap((line) => /^\/dev\/(\S+)\s+partition\b/.exec(line)?.[1] ?? []);
  return { mounts, swaps: new Set(swaps) };
}

/**
 * All uses of the device, its partitions, and what stands on them, from below upwards. The walk over holders ends at maps of partitions and
 * multipath maps only in their own uses; what else stands there is a use itself.
 */
export function usesOf(disk: Disk, disks: ReadonlyMap<string, Disk>, users: Users): Use[] {
  const uses: Use[] = [];
  const seen = new Set<string>();
  const visit = (kernelName: string, number: string, holders: readonly string[], name: string): void => {
    if (seen.has(kernelName)) return;
    seen.add(kernelName);
    for (const { mountPoint, type } of users.mounts.get(number) ?? []) uses.push({ kind: 'mount', device: name, text: `mounted on ${mountPoint} (${type})` });
    if (users.swaps.has(kernelName)) uses.push({ kind: 'swap', device: name, text: 'swap' });
    for (const holder of holders) {
      const above = disks.get(holder);
      if (above === undefined) continue;
      const use = holderUse(above, name);
      if (use !== undefined) uses.push(use);
      visit(above.kernelName, above.number, above.holders, displayName(above));
      for (const part of above.partitions) visit(part.kernelName, part.number, part.holders, `/dev/${part.kernelName}`);
    }
  };
  visit(disk.kernelName, disk.number, disk.holders, displayName(disk));
  for (const part of disk.partitions) visit(part.kernelName, part.number, part.holders, `/dev/${part.kernelName}`);
  return uses;
}

function holderUse(above: Disk, on: string): Use | undefined {
  const { mapper, kernelName } = above;
  if (mapper === undefined) return kernelName.startsWith('md') ? { kind: 'raid', device: on, text: `part of the RAID /dev/${kernelName}` } : undefined;
  const { name, uuid } = mapper;
  // Maps of partitions and multipath maps are the LUN itself.
  if (uuid.startsWith('part') || uuid.startsWith('mpath-')) return undefined;
  if (uuid.startsWith('LVM-')) return { kind: 'lvm', device: on, text: `LVM volume ${name}` };
  if (uuid.startsWith('CRYPT-')) return { kind: 'crypt', device: on, text: `encrypted device ${name}` };
  return { kind: 'mapper', device: on, text: `device-mapper device ${name}` };
}

/** As operators call a device: by its map's name if it is one, else the kernel's. */
export function displayName({ kernelName, mapper }: Pick<Disk, 'kernelName' | 'mapper'>): string {
  return mapper === undefined || mapper.name.includes('/') ? `/dev/${kernelName.replaceAll('!', '/')}` : `/dev/mapper/${mapper.name}`;
}

function fileText(...parts: string[]): string {
  try {
    return readFileSync(path.join(...parts), 'utf8');
  } catch {
    return '';
  }
}
