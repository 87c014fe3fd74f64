/**
 * What growing a partition changes, before anything is written: the last sector of one entry, the table's idea of how large the disk is, the backup table's
 * place, and the size that the protective MBR guards. Pure.
 *
 * The first sector of a partition is never touched. Only the free space behind the partition is taken: a partition that another one follows grows up to that one.
 */
import { UsageError } from '@lunfs/device';
import { type Gpt, arraySectors, encodeHeader, encodeLast, encodeProtective, protectiveEntry } from './codec.js';

/** One field of one structure. */
export interface GptChange {
  /** `primary header`, `entry 1`, `backup header`, `protective MBR`. */
  readonly what: string;
  readonly field: string;
  readonly from: number;
  readonly to: number;
}

/** A range of the disk and what is written there. */
export interface GptWrite {
  readonly what: string;
  /** Bytes from the start of the disk. */
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export interface GptPlan {
  readonly index: number;
  /** Bytes from the start of the disk; the same before and after. */
  readonly start: number;
  readonly sizeBefore: number;
  readonly sizeAfter: number;
  readonly changes: readonly GptChange[];
  /**
   * In their order, a flush after each. The new backup comes first, in a place that nobody refers to yet; then the primary table, whose array and header are one write. A crash before
   * it leaves the old table valid, one within it the new backup, which is where Linux looks when the primary is damaged; after it only the MBR's size is old.
   */
  readonly writes: readonly GptWrite[];
}

const MIB = 2 ** 20;

/** `sectors`: of the disk, now. `index`: which partition. Throws GPT_NO_PARTITION, GPT_NO_ROOM, GPT_DISK_SHRUNK. */
export function planGrowth(gpt: Gpt, mbr: Uint8Array, sectors: number, index: number, device: string): GptPlan {
  const { header } = gpt;
  const { sectorSize } = header;
  const entry = gpt.entries.find((one) => one.index === index);
  if (entry === undefined) throw new UsageError('GPT_NO_PARTITION', 'EINVAL', `${device} has no partition ${index}; it has ${gpt.entries.map((one) => one.index).join(', ') || 'none'}`, { device, partition: index });
  const table = arraySectors(header);
  const backupArray = sectors - 1 - table;
  const lastUsable = backupArray - 1;
  if (lastUsable < header.lastUsable) throw new UsageError('GPT_DISK_SHRUNK', 'EINVAL', `${device} has ${sectors} sectors of ${sectorSize} bytes, fewer than its partition table was made for: its partitions may use sectors up to ${header.lastUsable}. Is the LUN the right one, and its size seen by all paths (lunfs lun rescan)?`, { device, sectors });
  const next = gpt.entries.filter((one) => one.first > entry.last).sort((a, b) => a.first - b.first)[0];
  const last = endFor(entry.last, next === undefined ? lastUsable : next.first - 1, sectorSize);
  if (last === entry.last) {
    const why = next === undefined ? `it ends where the disk does, to the MiB. If the LUN was enlarged, this host has not seen it yet: lunfs lun rescan ${device}` : `partition ${next.index} begins in sector ${next.first}, less than a MiB behind it`;
    throw new UsageError('GPT_NO_ROOM', 'ENOSPC', `partition ${index} of ${device} cannot grow: ${why}`, { device, partition: index });
  }
  const array = encodeLast(gpt, index, last);
  const primary = encodeHeader(header, { self: 1, alternate: sectors - 1, lastUsable, entries: header.entries }, array);
  const backup = encodeHeader(header, { self: sectors - 1, alternate: 1, lastUsable, entries: backupArray }, array);
  const guard = protectiveEntry(mbr);
  const writes: GptWrite[] = [
    { what: 'backup table', offset: backupArray * sectorSize, bytes: joined([padded(array, table * sectorSize), backup]) },
    ...primaryWrites(gpt, array, primary),
  ];
  const guarded = Math.min(sectors - 1, 0xffff_ffff);
  if (guard !== undefined && guard.sectors !== guarded) writes.push({ what: 'protective MBR', offset: 0, bytes: encodeProtective(mbr, guard.at, sectors) });
  const changes: GptChange[] = [
    { what: `entry ${index}`, field: 'last sector', from: entry.last, to: last },
    { what: 'primary header', field: 'last usable sector', from: header.lastUsable, to: lastUsable },
    { what: 'primary header', field: 'sector of the backup header', from: header.alternate, to: sectors - 1 },
    { what: 'backup header', field: 'its own sector', from: header.alternate, to: sectors - 1 },
    ...(guard === undefined ? [] : [{ what: 'protective MBR', field: 'sectors', from: guard.sectors, to: guarded }]),
  ].filter(({ from, to }) => from !== to);
  return { index, start: entry.first * sectorSize, sizeBefore: (entry.last - entry.first + 1) * sectorSize, sizeAfter: (last - entry.first + 1) * sectorSize, changes, writes };
}

/** The end of the space, back to a whole MiB of the disk: what is behind it is no growth worth a change, and the next run finds nothing to do. */
function endFor(now: number, limit: number, sectorSize: number): number {
  const unit = MIB / sectorSize;
  return Math.max(now, Math.floor((limit + 1) / unit) * unit - 1);
}

/** Header and array in one piece where they lie side by side, as they do on nearly all disks; else the array first. */
function primaryWrites({ header }: Gpt, array: Uint8Array, sector: Uint8Array): GptWrite[] {
  const { sectorSize } = header;
  const bytes = padded(array, arraySectors(header) * sectorSize);
  if (header.entries === 2) return [{ what: 'primary table', offset: sectorSize, bytes: joined([sector, bytes]) }];
  return [{ what: 'primary entries', offset: header.entries * sectorSize, bytes }, { what: 'primary header', offset: sectorSize, bytes: sector }];
}

function padded(bytes: Uint8Array, length: number): Uint8Array {
  const out = new Uint8Array(length);
  out.set(bytes);
  return out;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
