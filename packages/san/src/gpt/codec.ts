/**
 * GUID partition tables as bytes (UEFI Specification 2.10, 5.3): a header in the sector after the protective MBR, an array of entries, and a copy of both at
 * the end of the disk with the header last. Codec only, no I/O. All numbers of sectors here are in the table's own sectors.
 *
 * Nothing read is believed before its checksum, its place and its ranges are right; what is changed is changed in a copy of the very bytes that were read, so
 * reserved fields, attributes and names of other programs stay as they are.
 */
import { crc32 } from 'node:zlib';
import { CorruptionError } from '@lunfs/device';
import { printable } from '../host.js';

export const GPT_SIGNATURE = 'EFI PART';
/** Fields of a header, by offset. */
const HEADER = { signature: 0, revision: 8, size: 12, crc: 16, self: 24, alternate: 32, firstUsable: 40, lastUsable: 48, guid: 56, entries: 72, count: 80, entrySize: 84, entriesCrc: 88 } as const;
const HEADER_BYTES = 92;
/** Fields of an entry. */
const ENTRY = { type: 0, guid: 16, first: 32, last: 40, attributes: 48, name: 56 } as const;
const NAME_BYTES = 72;
/** Tables have 128 entries of 128 bytes; more is allowed, but no more than this is believed. */
const MOST_ENTRIES = 4096, MOST_ENTRY_BYTES = 4096;

export interface GptHeader {
  readonly sectorSize: number;
  /** Where this header is and where its copy is. */
  readonly self: number;
  readonly alternate: number;
  readonly firstUsable: number;
  readonly lastUsable: number;
  readonly diskGuid: string;
  /** First sector of the array, how many entries it has, and how large each is. */
  readonly entries: number;
  readonly count: number;
  readonly entrySize: number;
  readonly entriesCrc: number;
  /** The whole sector. */
  readonly bytes: Uint8Array;
}

/** An entry in use. */
export interface GptEntry {
  /** From 1, as programs number partitions. */
  readonly index: number;
  readonly typeGuid: string;
  readonly guid: string;
  /** Both are part of it. */
  readonly first: number;
  readonly last: number;
  readonly attributes: bigint;
  readonly name: string;
}

export interface Gpt {
  readonly header: GptHeader;
  /** All of the array. */
  readonly array: Uint8Array;
  readonly entries: readonly GptEntry[];
}

/** The first sector behind the header that the array takes, and how many sectors that is. */
export function arraySectors({ count, entrySize, sectorSize }: Pick<GptHeader, 'count' | 'entrySize' | 'sectorSize'>): number {
  return Math.ceil((count * entrySize) / sectorSize);
}

/**
 * A header, checked but for what needs the array. `self`: the sector it was read from; `sectors`: of the disk, now. Throws GPT_HEADER with the field; undefined: there is
 * none (another signature).
 */
export function parseHeader(sector: Uint8Array, self: number, sectors: number, device: string): GptHeader | undefined {
  const b = Buffer.from(sector.buffer, sector.byteOffset, sector.length);
  if (b.toString('latin1', 0, 8) !== GPT_SIGNATURE) return undefined;
  const fail = (field: string, what: string): CorruptionError => new CorruptionError('GPT_HEADER', `${device}: the GPT header in sector ${self} has a bad ${field}: ${what}. Repair it with sgdisk before anything is changed`, { device, sector: self, field });
  const size = b.readUInt32LE(HEADER.size);
  if (size < HEADER_BYTES || size > sector.length) throw fail('HeaderSize', `${size}`);
  const copy = Buffer.from(b.subarray(0, size));
  copy.writeUInt32LE(0, HEADER.crc);
  if (crc32(copy) !== b.readUInt32LE(HEADER.crc)) throw fail('HeaderCRC32', 'the checksum is wrong');
  const number = (field: keyof typeof HEADER): number => {
    const value = b.readBigUInt64LE(HEADER[field]);
    if (value >= BigInt(sectors)) throw fail(field, `sector ${value} of a disk of ${sectors}`);
    return Number(value);
  };
  if (b.readUInt32LE(HEADER.revision) !== 0x0001_0000) throw fail('Revision', b.readUInt32LE(HEADER.revision).toString(16));
  const header: GptHeader = {
    sectorSize: sector.length, self: number('self'), alternate: number('alternate'), firstUsable: number('firstUsable'), lastUsable: number('lastUsable'), diskGuid: guidText(b, HEADER.guid),
    entries: number('entries'), count: b.readUInt32LE(HEADER.count), entrySize: b.readUInt32LE(HEADER.entrySize), entriesCrc: b.readUInt32LE(HEADER.entriesCrc), bytes: new Uint8Array(sector),
  };
  if (header.self !== self) throw fail('MyLBA', `it says sector ${header.self}`);
  if (header.entrySize < 128 || header.entrySize > MOST_ENTRY_BYTES || (header.entrySize & (header.entrySize - 1)) !== 0) throw fail('SizeOfPartitionEntry', `${header.entrySize}`);
  if (header.count < 1 || header.count > MOST_ENTRIES) throw fail('NumberOfPartitionEntries', `${header.count}`);
  if (header.firstUsable > header.lastUsable || header.firstUsable < 2) throw fail('FirstUsableLBA', `${header.firstUsable} to ${header.lastUsable}`);
  const end = header.entries + arraySectors(header);
  const outside = self === 1 ? header.entries < 2 || end > header.firstUsable : header.entries <= header.lastUsable || end > self;
  if (outside) throw fail('PartitionEntryLBA', `the array in sectors ${header.entries} to ${end - 1} is not beside what partitions may use (${header.firstUsable} to ${header.lastUsable})`);
  return header;
}

/** A header with its array, which has to be the one that it was made for. Throws GPT_ENTRIES with the entry. */
export function parseGpt(header: GptHeader, array: Uint8Array, device: string): Gpt {
  const fail = (what: string, fields = {}): CorruptionError => new CorruptionError('GPT_ENTRIES', `${device}: the GPT in sector ${header.self}: ${what}. Repair it with sgdisk before anything is changed`, { device, sector: header.self, ...fields });
  const bytes = header.count * header.entrySize;
  if (array.length < bytes) throw fail('its array was read short');
  const own = new Uint8Array(array.subarray(0, bytes));
  if (crc32(own) !== header.entriesCrc) throw fail('the checksum of its entries is wrong');
  const entries: GptEntry[] = [];
  const view = Buffer.from(own.buffer);
  for (let i = 0; i < header.count; i++) {
    const e = view.subarray(i * header.entrySize, (i + 1) * header.entrySize);
    if (e.subarray(ENTRY.type, 16).every((byte) => byte === 0)) continue;
    const first = e.readBigUInt64LE(ENTRY.first), last = e.readBigUInt64LE(ENTRY.last);
    if (first < BigInt(header.firstUsable) || last > BigInt(header.lastUsable) || first > last) throw fail(`entry ${i + 1} says sectors ${first} to ${last}, and ${header.firstUsable} to ${header.lastUsable} may be used`, { entry: i + 1 });
    entries.push({ index: i + 1, typeGuid: guidText(e, ENTRY.type), guid: guidText(e, ENTRY.guid), first: Number(first), last: Number(last), attributes: e.readBigUInt64LE(ENTRY.attributes), name: nameOf(e) });
  }
  const ordered = [...entries].sort((a, b) => a.first - b.first);
  for (const [i, entry] of ordered.entries()) if (i > 0 && entry.first <= ordered[i - 1].last) throw fail(`entries ${ordered[i - 1].index} and ${entry.index} overlap`, { entry: entry.index });
  return { header, array: own, entries };
}

/** What a header is changed to. */
export interface HeaderChange {
  readonly self: number;
  readonly alternate: number;
  readonly lastUsable: number;
  readonly entries: number;
}

/** The sector of a header with other places and the checksums of `array`. All else stays. */
export function encodeHeader({ bytes }: GptHeader, { self, alternate, lastUsable, entries }: HeaderChange, array: Uint8Array): Uint8Array {
  const out = Buffer.from(bytes);
  out.writeBigUInt64LE(BigInt(self), HEADER.self);
  out.writeBigUInt64LE(BigInt(alternate), HEADER.alternate);
  out.writeBigUInt64LE(BigInt(lastUsable), HEADER.lastUsable);
  out.writeBigUInt64LE(BigInt(entries), HEADER.entries);
  out.writeUInt32LE(crc32(array), HEADER.entriesCrc);
  out.writeUInt32LE(0, HEADER.crc);
  out.writeUInt32LE(crc32(out.subarray(0, out.readUInt32LE(HEADER.size))), HEADER.crc);
  return new Uint8Array(out);
}

/** The array with another last sector in one entry. */
export function encodeLast({ array, header }: Gpt, index: number, last: number): Uint8Array {
  const out = Buffer.from(array);
  out.writeBigUInt64LE(BigInt(last), (index - 1) * header.entrySize + ENTRY.last);
  return new Uint8Array(out);
}

/** Where the protective MBR says how many sectors are protected; undefined when the sector is none that has one entry of type 0xEE, from sector 1. */
export function protectiveEntry(mbr: Uint8Array): { readonly at: number; readonly sectors: number } | undefined {
  const b = Buffer.from(mbr.buffer, mbr.byteOffset, mbr.length);
  if (b.readUInt16LE(510) !== 0xaa55) return undefined;
  const at = [446, 462, 478, 494].filter((offset) => b[offset + 4] === 0xee && b.readUInt32LE(offset + 8) === 1);
  return at.length === 1 ? { at: at[0] + 12, sectors: b.readUInt32LE(at[0] + 12) } : undefined;
}

/** The same MBR that protects a disk of `sectors`, which is as much as 32 bits can say at most. */
export function encodeProtective(mbr: Uint8Array, at: number, sectors: number): Uint8Array {
  const out = Buffer.from(mbr);
  out.writeUInt32LE(Math.min(sectors - 1, 0xffff_ffff), at);
  return new Uint8Array(out);
}

/** Three fields little-endian, two as they are. */
function guidText(b: Buffer, at: number): string {
  const hex = (n: number, digits: number): string => n.toString(16).padStart(digits, '0');
  const tail = b.toString('hex', at + 8, at + 16);
  return [hex(b.readUInt32LE(at), 8), hex(b.readUInt16LE(at + 4), 4), hex(b.readUInt16LE(at + 6), 4), tail.slice(0, 4), tail.slice(4)].join('-').toUpperCase();
}

function nameOf(entry: Buffer): string {
  const text = entry.toString('utf16le', ENTRY.name, ENTRY.name + NAME_BYTES);
  const end = text.indexOf('\0');
  return printable(end < 0 ? text : text.slice(0, end), NAME_BYTES / 2);
}
