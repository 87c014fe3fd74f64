/**
 * Disks of a volume, through the process that has it in use on this host, else on the device itself; and the lines to use one.
 */
import path from 'node:path';
import { LunfsError } from '@lunfs/device';
import {
  type CreateDiskOptions, type DiskAccess, type DiskExtents, type DiskFacts, type DiskLines, type LeaseFacts, type VolumeFacts, cloneDisk, connectVolumeProcess, createDisk, diskExtents, diskLines,
  exportSocket, leaseOf, listDisks, normalPath, removeDisk, resizeDisk,
} from '@lunfs/host';
import type { Volume } from '@lunfs/ocfs2';
import { withReader, withWriter } from './volume-access.js';

export interface Disks {
  /** Of the process that has the volume; undefined when none has. */
  readonly facts?: VolumeFacts;
  create(path: string, options: CreateDiskOptions): Promise<DiskFacts>;
  clone(source: string, path: string): Promise<DiskFacts>;
  list(directory: string, all: boolean): Promise<DiskFacts[]>;
  info(path: string): Promise<DiskExtents>;
  resize(path: string, size: number, shrink: boolean): Promise<DiskFacts>;
  remove(path: string): Promise<void>;
  /** Undefined: nobody ever asked for one. */
  lease(path: string): Promise<LeaseFacts | undefined>;
}

export async function withDisks<T>(command: string, device: string, options: { readonly write: boolean; readonly offline?: boolean }, work: (disks: Disks) => Promise<T>): Promise<T> {
  const control = await connectVolumeProcess(device).catch((error: unknown) => {
    if (error instanceof LunfsError && ['NO_VOLUME_PROCESS', 'NO_RUN_DIR', 'RUN_DIR', 'DEVICE_MISSING'].includes(error.code)) return undefined;
    throw error;
  });
  if (control === undefined) {
    const run = (volume: Volume) => work(directDisks(volume));
    return options.write ? withWriter(command, device, options, run) : withReader(command, device, {}, run);
  }
  try {
    return await work({
      facts: await control.status(), create: (at, more) => control.createDisk(at, more), clone: (from, at) => control.cloneDisk(from, at), list: (at, all) => control.listDisks(at, all), info: (at) => control.diskInfo(at),
      resize: (at, size, shrink) => control.resizeDisk(at, size, { shrink }), remove: (at) => control.removeDisk(at), lease: async (at) => (await control.lease(at)) ?? undefined,
    });
  } finally {
    control.close();
  }
}

function directDisks(volume: Volume): Disks {
  return {
    create: (at, options) => createDisk(volume, at, options), clone: (from, at) => cloneDisk(volume, from, at), list: (at, all) => listDisks(volume, at, all), info: (at) => diskExtents(volume, at),
    resize: (at, size, shrink) => resizeDisk(volume, at, size, { shrink }), remove: (at) => removeDisk(volume, at), lease: (at) => leaseOf(volume, at),
  };
}

export interface DiskUse {
  readonly lines: DiskLines;
  /** What has to be done before the lines work; undefined: they do now. */
  readonly before?: string;
  /** What the lines reach the disk by. */
  readonly access: DiskAccess;
}

/** How a guest gets a disk: by its export, else by its path in a mount, else by the export that it would have. */
export function useOf(device: string, file: string, facts: Pick<VolumeFacts, 'exports'> & Partial<Pick<VolumeFacts, 'mount' | 'readOnly'>> | undefined): DiskUse {
  const at = normalPath(file);
  const name = path.posix.basename(at);
  const id = name.replace(/\.raw$/, '').replace(/[^A-Za-z0-9_.-]/g, '-').replace(/^[^A-Za-z]+/, '') || 'disk0';
  const exported = facts?.exports.find((one) => one.path === at);
  if (exported !== undefined) return use({ kind: 'nbd', export: exported }, id);
  if (facts?.mount !== undefined) return use({ kind: 'file', path: path.join(facts.mount, at), readOnly: facts.readOnly }, id);
  const socket = exportSocket(device, name);
  const uri = `nbd+unix:///${encodeURIComponent(name)}?socket=${encodeURI(socket)}`;
  return { ...use({ kind: 'nbd', export: { name, uri, socket, readOnly: false } }, id), before: `lunfs disk export ${device}:${at}` };
}

function use(access: DiskAccess, id: string): DiskUse {
  return { access, lines: diskLines(access, { id }) };
}

/** The lines as text. */
export function showUse({ lines, before }: DiskUse): string {
  const parts = before === undefined ? [] : [`Export it first:\n  ${before}`];
  parts.push(`QEMU:\n  qemu-system-x86_64 … ${lines.qemuCommand}`, `libvirt:\n${indent(lines.libvirt)}`, `qemu-img:\n${indent(lines.qemuImg.join('\n'))}`);
  return parts.join('\n\n');
}

function indent(text: string): string {
  return text.split('\n').map((line) => `  ${line}`).join('\n');
}
