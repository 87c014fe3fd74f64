/**
 * A partition takes the space that its disk has gained, in use or not: the first half of a volume's growth where the volume is on a partition.
 *
 * The disk is opened for writing though a partition of it is mounted, which `openDevice` refuses: what is written here is the partition table alone, which nobody
 * who has a partition in use writes. An flock on the disk keeps out others that do the same, and udev, which reads tables (systemd: Locking Block Device Access).
 *
 * `identify` says which volume is in the partition. It is asked before anything is written, and again by the new table: the same answer at the same byte, or the old tables
 * are written back.
 */
import { constants } from 'node:fs';
import * as fs from 'node:fs/promises';
import { open } from 'node:fs';
import { promisify } from 'node:util';
import { type BlockDevice, ClusterError, FileDevice, IoError, LunfsError, PartitionWindow, UsageError, blockDeviceFacts, deviceNumber, flock, openDevice } from '@lunfs/device';
import { readDisks } from '../blocks.js';
import { monotonicMs, pause } from '../clock.js';
import type { SanHost } from '../host.js';
import { findLun, viewOf } from '../luns.js';
import { type GptPlan, planGrowth } from './plan.js';
import { type GptTables, readTables, saveTables, writePlan } from './tables.js';

const openFd = promisify(open);

export interface PartitionGrowthOptions {
  /** Number of the partition. Default: of the partition that was named, else the only one. */
  readonly index?: number;
  /** Plan only. */
  readonly dryRun?: boolean;
  /** New file for both tables as they were; made before the first write. */
  readonly save: (diskGuid: string) => string;
  /** Which volume is in a partition; throws when there is none that may grow. */
  readonly identify: (partition: BlockDevice) => Promise<string>;
}

export interface PartitionGrowth {
  /** The disk. */
  readonly device: string;
  readonly volume: string;
  readonly plan: GptPlan;
  /** Where the tables were saved; undefined: nothing was written. */
  readonly saved?: string;
}

/**
 * Grow a partition of a block device (named by the disk or by the partition) or of an image file. Errors: those of `readTables` and `planGrowth`, GPT_SAVE,
 * GPT_WHICH, GPT_BUSY, GPT_MOVED, GPT_NOT_WRITTEN, GPT_KERNEL, DEVICE_HELD.
 */
export async function growPartition(host: SanHost, path: string, options: PartitionGrowthOptions): Promise<PartitionGrowth> {
  const target = await targetOf(host, path);
  const device = await openTable(target, options.dryRun !== true);
  try {
    const tables = await readTables(device);
    const index = options.index ?? target.partition ?? onlyPartition(tables, device.name);
    const plan = planOrKernel(host, target, tables, index, device.name);
    const volume = await identityOf(device, plan.start, plan.sizeBefore, options);
    if (options.dryRun) return { device: device.name, volume, plan };
    const saved = plan.writes.length === 0 ? undefined : await change(device, tables, plan, volume, options);
    if (target.kernelName !== undefined) await tellKernel(host, target.kernelName, index, plan);
    return { device: device.name, volume, plan, saved };
  } finally {
    await device.close();
  }
}

interface Target {
  readonly path: string;
  /** Of the disk; undefined: an image file. */
  readonly kernelName?: string;
  readonly partition?: number;
}

async function targetOf(host: SanHost, path: string): Promise<Target> {
  const stats = await fs.stat(path).catch(() => undefined);
  if (stats?.isFile()) return { path };
  const found = findLun(await viewOf(host), path);
  if (found.isPath) throw new ClusterError('DEVICE_HELD', `${path} is one path of the multipath map ${found.lun.map?.name ?? ''}. Use ${found.lun.device}`, { device: path });
  return { path: `/dev/${found.lun.kernelName.replaceAll('!', '/')}`, kernelName: found.lun.kernelName, partition: found.partition };
}

async function openTable({ path, kernelName }: Target, write: boolean): Promise<FileDevice> {
  if (kernelName === undefined || !write) return await openDevice(path, { write: write && kernelName === undefined, warn: () => undefined });
  const facts = blockDeviceFacts(deviceNumber((await fs.stat(path)).rdev));
  const fd = await openFd(path, constants.O_RDWR | constants.O_DIRECT).catch((cause: unknown) => {
    throw new IoError('DEVICE_OPEN', `${path} cannot be opened for writing: ${cause instanceof Error ? cause.message : String(cause)}`, { device: path }, cause);
  });
  const device = new FileDevice({ fd, name: path, kind: 'block', direct: true, size: facts.size, logicalBlockSize: facts.logicalBlockSize, readOnly: false, canDiscard: false });
  const { status } = await flock(fd, 'exclusive', 10);
  if (status === 0) return device;
  await device.close();
  throw new ClusterError('GPT_BUSY', `${path} is locked by another program that reads or writes its partition table: try again (fuser ${path})`, { device: path });
}

function onlyPartition({ gpt }: GptTables, device: string): number {
  if (gpt.entries.length === 1) return gpt.entries[0].index;
  throw new UsageError('GPT_WHICH', 'EINVAL', `${device} has ${gpt.entries.length} partitions (${gpt.entries.map(({ index, name }) => `${index}${name === '' ? '' : ` "${name}"`}`).join(', ')}): say which with --number`, { device });
}

/** A table that was written by a run which did not come to tell the kernel needs no other change than that. */
function planOrKernel(host: SanHost, { kernelName }: Target, tables: GptTables, index: number, device: string): GptPlan {
  try {
    return planGrowth(tables.gpt, tables.mbr, tables.sectors, index, device);
  } catch (error) {
    if (!(error instanceof LunfsError) || error.code !== 'GPT_NO_ROOM' || kernelName === undefined) throw error;
    const entry = tables.gpt.entries.find((one) => one.index === index)!;
    const { sectorSize } = tables.gpt.header;
    const size = (entry.last - entry.first + 1) * sectorSize;
    if (kernelSizes(host, kernelName, index).every((one) => one === size)) throw error;
    return { index, start: entry.first * sectorSize, sizeBefore: size, sizeAfter: size, changes: [], writes: [] };
  }
}

function identityOf(device: BlockDevice, start: number, size: number, { identify }: PartitionGrowthOptions): Promise<string> {
  return identify(new PartitionWindow(device, start, size - (size % device.logicalBlockSize), { readOnly: true }));
}

async function change(device: BlockDevice, tables: GptTables, plan: GptPlan, volume: string, options: PartitionGrowthOptions): Promise<string> {
  const file = options.save(tables.gpt.header.diskGuid);
  saveTables(tables, file);
  const now = await writePlan(device, plan);
  const entry = now.gpt.entries.find(({ index }) => index === plan.index)!;
  const { sectorSize } = now.gpt.header;
  const found = await identityOf(device, entry.first * sectorSize, (entry.last - entry.first + 1) * sectorSize, options).catch((error: unknown) => `nothing (${error instanceof Error ? error.message : String(error)})`);
  if (found === volume) return file;
  await restore(device, tables);
  throw new IoError('GPT_MOVED', `${device.name}: by the new table partition ${plan.index} holds ${found}, and before it held ${volume}. The old table was written back; it is in ${file} as well`, { device: device.name, partition: plan.index });
}

async function restore(device: BlockDevice, { gpt, mbr }: GptTables): Promise<void> {
  const { sectorSize, entries } = gpt.header;
  const padded = new Uint8Array(Math.ceil(gpt.array.length / sectorSize) * sectorSize);
  padded.set(gpt.array);
  for (const [sector, bytes] of [[entries, padded], [1, gpt.header.bytes], [0, mbr]] as const) {
    await device.write(sector * sectorSize, bytes);
    await device.flush();
  }
}

/** The kernel takes over the new size of this one partition, in use or not (BLKPG_RESIZE_PARTITION), or the device mapper that of its map. */
async function tellKernel(host: SanHost, disk: string, index: number, plan: GptPlan): Promise<void> {
  const disks = readDisks(host);
  const top = disks.get(disk);
  const said: string[] = [];
  const tell = async (program: string, args: readonly string[]): Promise<void> => {
    const { missing, status, stderr } = await host.run(program, args, 60_000);
    if (status !== 0) said.push(`${program}: ${missing ? 'not installed' : stderr || `status ${status}`}`);
  };
  // Named MAP, a delimiter, and the number: kpartx has to be given the same delimiter, or it makes another map.
  const map = (top?.holders ?? []).flatMap((name) => disks.get(name)?.mapper ?? []).find(({ uuid }) => uuid.startsWith(`part${index}-`));
  const delimiter = map === undefined ? '' : map.name.slice(top?.mapper?.name.length ?? 0, -String(index).length);
  if (map !== undefined) await tell('kpartx', ['-u', ...(delimiter === '' ? [] : ['-p', delimiter]), `/dev/${disk}`]);
  // Disks that are no map, and paths below a map where the kernel has read the table, have partitions of their own.
  const known = [disk, ...(top?.slaves ?? [])].filter((name) => disks.get(name)?.partitions.some((part) => part.index === index));
  for (const name of known) await tell('partx', ['-u', '--nr', String(index), `/dev/${name}`]);
  const until = monotonicMs() + 10_000;
  while (kernelSizes(host, disk, index).some((size) => size !== plan.sizeAfter)) {
    if (monotonicMs() > until) throw new IoError('GPT_KERNEL', `the partition table of /dev/${disk} is changed, but the kernel does not see it${said.length === 0 ? '' : ` (${said.join('; ')})`}: run this again, or partx -u --nr ${index} /dev/${disk}; for a multipath map kpartx -u`, { device: `/dev/${disk}`, partition: index });
    await pause(100);
  }
}

/** How large the kernel takes the partition to be, on the disk and as a map. */
function kernelSizes(host: SanHost, disk: string, index: number): number[] {
  const disks = readDisks(host);
  const top = disks.get(disk);
  const maps = (top?.holders ?? []).flatMap((name) => disks.get(name) ?? []).filter(({ mapper }) => mapper?.uuid.startsWith(`part${index}-`));
  return [...(top?.partitions ?? []).filter((part) => part.index === index), ...maps].map(({ size }) => size);
}
