/**
 * The run directory of a guest: sockets, log, and the record by which whoever comes later finds its QEMU again. The record is written before
 * QEMU is started (so that what was made for it can be taken back) and once more with its process before the guest runs its first instruction.
 */
import * as fs from 'node:fs';
import path from 'node:path';
import { UsageError } from '@lunfs/device';
import { type DiskDefinition, type GuestDefinition, parseDefinition, parseDisk } from './definition.js';
import { readJson, writeJson } from './files.js';
import { isObject } from './qmp/message.js';

/** Longest path of a Unix socket (sun_path without its NUL). */
const SOCKET_PATH_MAX = 107;

export interface GuestPaths {
  readonly directory: string;
  /** The monitor for what changes the guest, and the one for looking at it, so that who looks never waits for who works. */
  readonly monitor: string;
  readonly queries: string;
  readonly serial: string;
  readonly vnc: string;
  readonly pid: string;
  readonly log: string;
  readonly record: string;
  channel(name: string): string;
}

/** Throws SOCKET_PATH when the directory is too deep for sockets. */
export function guestPaths(runDirectory: string, name: string): GuestPaths {
  const directory = path.join(runDirectory, name);
  const socket = (file: string): string => {
    const full = path.join(directory, file);
    if (Buffer.byteLength(full) <= SOCKET_PATH_MAX) return full;
    throw new UsageError('SOCKET_PATH', 'ENAMETOOLONG', `${full} is longer than the ${SOCKET_PATH_MAX} bytes a Unix socket's path may have; choose a shorter name for the guest or its port, or another run directory`, { socket: full });
  };
  const file = (name: string): string => path.join(directory, name);
  return {
    directory, monitor: socket('monitor'), queries: socket('queries'), serial: socket('serial'), vnc: socket('vnc'), pid: file('pid'), log: file('log'), record: file('record.json'),
    channel: (channel) => socket(`channel-${channel}`),
  };
}

/** How a guest reaches a disk, and what gives it back. */
export interface DiskEndpoint {
  /** Unix socket of the NBD server, and what to ask it for. */
  readonly socket: string;
  readonly exportName: string;
  /** Absolute path of the device, and of the disk in its volume. */
  readonly device: string;
  readonly path: string;
}

/** A disk of a running guest. */
export interface AttachedDisk extends DiskDefinition {
  readonly endpoint: DiskEndpoint;
  /** Its PCIe root port, where the machine has those. */
  readonly port: number;
}

/** A process, told from a later one of the same number by when it was started (ticks since boot, /proc/PID/stat). */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTime: number;
  readonly bootId: string;
}

export interface GuestRecord {
  readonly definition: GuestDefinition;
  readonly accel: 'kvm' | 'tcg';
  readonly disks: readonly AttachedDisk[];
  /** Tap devices that were made for it. */
  readonly taps: readonly string[];
  readonly startedAt: string;
  /** Undefined: it was about to be started. */
  readonly process?: ProcessIdentity;
}

/** The record of a guest, undefined when nothing of it is there. Throws GUEST_FILE, GUEST_RECORD. */
export function readRecord(paths: GuestPaths): GuestRecord | undefined {
  const value = readJson(paths.record);
  if (value === undefined) return undefined;
  try {
    return recordOf(value);
  } catch (cause) {
    throw new UsageError('GUEST_RECORD', 'EINVAL', `${paths.record} is no record of a guest: ${(cause as Error).message}; end its QEMU by hand (its number is in ${paths.pid}) and remove ${paths.directory}`, { file: paths.record }, cause);
  }
}

export function writeRecord(paths: GuestPaths, record: GuestRecord): void {
  writeJson(paths.record, record);
}

function recordOf(value: unknown): GuestRecord {
  const { definition, accel, disks, taps, startedAt, process } = need(value);
  if ((accel !== 'kvm' && accel !== 'tcg') || !Array.isArray(disks) || !Array.isArray(taps) || typeof startedAt !== 'string') throw new Error('a field is missing');
  return {
    definition: parseDefinition(definition), accel, startedAt, taps: taps.map(text), disks: disks.map(attachedOf),
    process: process === undefined ? undefined : identityOf(need(process)),
  };
}

function attachedOf(value: unknown): AttachedDisk {
  const { endpoint, port, ...definition } = need(value);
  const { socket, exportName, device, path: inside } = need(endpoint);
  return { ...parseDisk(definition), port: count(port), endpoint: { socket: text(socket), exportName: text(exportName), device: text(device), path: text(inside) } };
}

function identityOf({ pid, startTime, bootId }: Readonly<Record<string, unknown>>): ProcessIdentity {
  return { pid: count(pid), startTime: count(startTime), bootId: text(bootId) };
}

function need(value: unknown): Readonly<Record<string, unknown>> {
  if (!isObject(value)) throw new Error('an object is missing');
  return value;
}

function text(value: unknown): string {
  if (typeof value !== 'string') throw new Error('a text is missing');
  return value;
}

function count(value: unknown): number {
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw new Error('a number is missing');
  return value as number;
}

/** Nothing of the guest's run is left after it. */
export function removeRunFiles(paths: GuestPaths): void {
  fs.rmSync(paths.directory, { recursive: true, force: true });
}
