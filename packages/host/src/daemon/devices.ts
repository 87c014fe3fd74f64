/**
 * The block devices of this host that carry a volume, by its UUID: which device has a heartbeat region, and whether a volume that is to be
 * mounted is there twice (an array's clone or snapshot, or the paths of a LUN without multipath).
 *
 * Not everything that shows a UUID twice is two volumes. Left out are: paths below a multipath map, what a device stands on or what stands on
 * it (`slaves` in sysfs), and loop devices over one file, which are one device by different names.
 */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type BlockDeviceFacts, ClusterError, LunfsError, blockDeviceFacts, deviceNumber } from '@lunfs/device';
import type { VolumeDevice } from '@lunfs/o2cb';
import { pause } from '../clock.js';
import { lineSplitter } from '../control-protocol.js';

/** What the program that looks at devices says of one. */
export interface ProbedDevice extends VolumeDevice {
  readonly label: string;
}

/** A device that has not answered by then does not take part: it could not be used either. */
const PROBE_MS = 5000;
const CLASS = '/sys/class/block';
/** Never a LUN: memory, drives for removable media (which may take seconds to say that they are empty). */
const NO_LUN = /^(?:ram|zram|sr|fd)\d/;

/** All devices of this host with a volume on them. */
export async function volumesHere(): Promise<ProbedDevice[]> {
  const candidates = fs.readdirSync(CLASS).sort().flatMap((name) => {
    const facts = NO_LUN.test(name) ? undefined : factsOf(`/dev/${name.replaceAll('!', '/')}`);
    // What stands below a multipath map is a path of it, no device of its own.
    return facts === undefined || facts.size === 0 || facts.holders.some(({ mapper }) => mapper?.uuid.startsWith('mpath-')) ? [] : [nameOf(facts)];
  });
  return probe(candidates);
}

/**
 * Devices of this host with the same volume on them that are not, by another name, the one that is to be used. None for an image file: an array
 * makes no copies of it, and whoever serves it by several names knows. `here`: what `volumesHere` finds.
 */
export async function clonesOf(device: string, uuid: string, here: readonly VolumeDevice[] | Promise<readonly VolumeDevice[]>): Promise<VolumeDevice[]> {
  if (factsOf(device) === undefined) return [];
  const mine = identityOf(device);
  const below = standsOn(mine);
  return (await here).filter((one) => {
    if (one.uuid !== uuid) return false;
    const other = identityOf(one.device);
    return other !== mine && !below.has(other) && !standsOn(other).has(mine);
  });
}

/**
 * Which device carries a volume now. `seen`: where it was, kept if it is there still (an image file is looked for nowhere else); `here`: what `volumesHere` finds.
 * Of several the first: whoever mounts it hears that it is there twice. Throws DEVICE_AWAITED.
 */
export async function deviceOf(uuid: string, seen: string, here: Promise<readonly VolumeDevice[]>): Promise<string> {
  const isFile = fs.statSync(seen, { throwIfNoEntry: false })?.isFile() === true;
  if (isFile && (await probe([seen])).some((one) => one.uuid === uuid)) return seen;
  const found = (await here).filter((one) => one.uuid === uuid);
  const kernelName = factsOf(seen)?.kernelName;
  if (found.some(({ device }) => device === seen || (kernelName !== undefined && factsOf(device)?.kernelName === kernelName))) return seen;
  if (found.length > 0) return found[0].device;
  throw new ClusterError('DEVICE_AWAITED', `no device of this host carries the volume ${uuid}, or it does not answer (it was ${seen}): attach the LUN, and it is mounted`, { uuid, device: seen }, undefined, 'ENODEV');
}

async function probe(devices: readonly string[]): Promise<ProbedDevice[]> {
  const found: ProbedDevice[] = [];
  if (devices.length === 0) return found;
  const child = spawn(process.execPath, [fileURLToPath(new URL('./probe/main.js', import.meta.url)), JSON.stringify(devices)], { stdio: ['ignore', 'pipe', 'ignore'], cwd: '/' });
  child.stdout.on('data', lineSplitter((line) => void found.push(JSON.parse(line) as ProbedDevice)));
  await Promise.race([new Promise<void>((resolve) => {
    child.once('close', () => resolve());
    child.once('error', () => resolve());
  }), pause(PROBE_MS)]);
  child.kill('SIGKILL');
  return found.sort((a, b) => (a.device < b.device ? -1 : 1));
}

/** Undefined: gone meanwhile, or no block device. */
function factsOf(device: string): BlockDeviceFacts | undefined {
  try {
    const stats = fs.statSync(device);
    return stats.isBlockDevice() ? blockDeviceFacts(deviceNumber(stats.rdev)) : undefined;
  } catch (error) {
    if (error instanceof LunfsError || (error as NodeJS.ErrnoException).code !== undefined) return undefined;
    throw error;
  }
}

/** As operators call it. */
function nameOf({ kernelName, mapper }: BlockDeviceFacts): string {
  const mapped = mapper && `/dev/mapper/${mapper.name}`;
  return mapped !== undefined && fs.existsSync(mapped) ? mapped : `/dev/${kernelName.replaceAll('!', '/')}`;
}

/** One text for all names of one device: that of the file behind a loop device or an image, else the kernel's name. */
function identityOf(device: string): string {
  const facts = factsOf(device);
  if (facts !== undefined && facts.backingFile === undefined) return facts.kernelName;
  const file = facts?.backingFile ?? device;
  try {
    const stats = fs.statSync(file);
    return stats.isBlockDevice() ? blockDeviceFacts(deviceNumber(stats.rdev)).kernelName : `file ${stats.dev}:${stats.ino}`;
  } catch {
    return `file ${file}`; // removed, or in a name space of others: the name is what there is
  }
}

/** Kernel names of all that a device stands on. */
function standsOn(kernelName: string): Set<string> {
  const found = new Set<string>();
  const walk = (name: string): void => {
    const directory = path.join(CLASS, name, 'slaves');
    for (const slave of fs.existsSync(directory) ? fs.readdirSync(directory) : []) {
      if (found.has(slave)) continue;
      found.add(slave);
      walk(slave);
    }
  };
  walk(kernelName);
  return found;
}
