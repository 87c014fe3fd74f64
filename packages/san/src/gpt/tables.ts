/**
 * The two GPTs of a device, read and written. A table is changed only when both copies are valid and say the same, and both are saved to a file before, in the format of
 * `sgdisk --backup`, so that `sgdisk --load-backup` can bring them back.
 */
import * as fs from 'node:fs';
import { type BlockDevice, CorruptionError, IoError, UsageError } from '@lunfs/device';
import { type Gpt, arraySectors, parseGpt, parseHeader } from './codec.js';
import type { GptPlan } from './plan.js';

export interface GptTables {
  /** As it is used: the primary one. */
  readonly gpt: Gpt;
  readonly backup: Gpt;
  readonly mbr: Uint8Array;
  /** Of the device, in the table's unit. */
  readonly sectors: number;
}

/** Both tables, checked. Throws GPT_NONE, GPT_HEADER, GPT_ENTRIES, GPT_BACKUP. */
export async function readTables(device: BlockDevice): Promise<GptTables> {
  const sizes = [...new Set([device.logicalBlockSize, 512, 4096])].filter((size) => size >= device.logicalBlockSize);
  for (const sectorSize of sizes) {
    const sectors = Math.floor(device.size / sectorSize);
    if (sectors < 4) continue;
    const header = parseHeader(await at(device, sectorSize, 1, 1), 1, sectors, device.name);
    if (header === undefined) continue;
    const gpt = parseGpt(header, await at(device, sectorSize, header.entries, arraySectors(header)), device.name);
    return { gpt, backup: await readBackup(device, gpt, sectors), mbr: await at(device, sectorSize, 0, 1), sectors };
  }
  throw new UsageError('GPT_NONE', 'EINVAL', `${device.name} holds no GPT partition table: there is no entry that could grow. A volume on the whole LUN needs none (lunfs grow)`, { device: device.name });
}

/** Where the primary says it is, which after an enlargement of the disk is no longer its end. */
async function readBackup(device: BlockDevice, gpt: Gpt, sectors: number): Promise<Gpt> {
  const { sectorSize, alternate, entriesCrc, diskGuid, count, entrySize } = gpt.header;
  const bad = (what: string, cause?: unknown): CorruptionError => new CorruptionError('GPT_BACKUP', `${device.name}: the backup of the GPT in sector ${alternate} ${what}. Nothing is changed while the two copies do not agree: look with sgdisk --verify`, { device: device.name, sector: alternate }, cause);
  const header = parseHeader(await at(device, sectorSize, alternate, 1), alternate, sectors, device.name);
  if (header === undefined) throw bad('is not there');
  if (header.alternate !== 1 || header.diskGuid !== diskGuid || header.entriesCrc !== entriesCrc || header.count !== count || header.entrySize !== entrySize) throw bad('says something else than the primary');
  return parseGpt(header, await at(device, sectorSize, header.entries, arraySectors(header)), device.name);
}

async function at(device: BlockDevice, sectorSize: number, sector: number, count: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(count * sectorSize);
  await device.read(sector * sectorSize, bytes);
  return bytes;
}

/** Writes both tables to a new file and has it on its disk. Throws GPT_SAVE when it is there already or cannot be written. */
export function saveTables({ gpt, backup, mbr }: GptTables, file: string): void {
  // gptfdisk gpt.cc:SaveGPTBackup: blocks of 512: MBR, primary header, backup header, then the array once.
  const image = Buffer.concat([mbr.subarray(0, 512), gpt.header.bytes.subarray(0, 512), backup.header.bytes.subarray(0, 512), gpt.array]);
  try {
    const fd = fs.openSync(file, 'wx', 0o600);
    try {
      fs.writeSync(fd, image);
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
  } catch (cause) {
    throw new UsageError('GPT_SAVE', 'EINVAL', `the partition tables could not be saved to ${file} (${cause instanceof Error ? cause.message : String(cause)}), so nothing was changed: name a new file with --save`, { file }, cause);
  }
}

/** Writes a plan in its order, then reads both tables back. Throws GPT_NOT_WRITTEN when they are not what was planned. */
export async function writePlan(device: BlockDevice, plan: GptPlan): Promise<GptTables> {
  for (const { offset, bytes } of plan.writes) {
    await device.write(offset, bytes);
    await device.flush();
  }
  const now = await readTables(device);
  const entry = now.gpt.entries.find(({ index }) => index === plan.index);
  const { sectorSize } = now.gpt.header;
  if (entry === undefined || entry.first * sectorSize !== plan.start || (entry.last - entry.first + 1) * sectorSize !== plan.sizeAfter) {
    throw new IoError('GPT_NOT_WRITTEN', `${device.name}: what was written to its partition table was not read back; restore the saved tables with sgdisk --load-backup`, { device: device.name });
  }
  return now;
}
