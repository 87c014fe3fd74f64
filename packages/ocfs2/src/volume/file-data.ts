/**
 * File data on the device: reads, writes and zeroes of any alignment as whole logical blocks. Parts of a logical block at
 * the edges of a write are read, patched and written back; the caller holds the range lock over whole logical blocks
 * meanwhile. Data of file and device are equally aligned, since clusters are multiples of logical blocks.
 */
import type { BlockDevice } from '@lunfs/device';

/** A piece of a file and where it lies on the device. All in bytes. */
export interface Piece {
  readonly offset: number;
  readonly length: number;
  readonly device: number;
}

const floor = (v: number, unit: number) => v - (v % unit);
const ceil = (v: number, unit: number) => floor(v + unit - 1, unit);

/** Read `into.length` bytes at device byte `at`, any alignment. */
export async function readBytes(device: BlockDevice, at: number, into: Uint8Array): Promise<void> {
  const unit = device.logicalBlockSize;
  const end = at + into.length, from = ceil(at, unit), to = floor(end, unit);
  if (from >= to) {
    const window = new Uint8Array(ceil(end, unit) - floor(at, unit));
    await device.read(floor(at, unit), window);
    into.set(window.subarray(at % unit, (at % unit) + into.length));
    return;
  }
  const reads: Promise<void>[] = [device.read(from, into.subarray(from - at, to - at))];
  if (from > at) reads.push(edge(from - unit, (sector) => into.set(sector.subarray(unit - (from - at)), 0)));
  if (to < end) reads.push(edge(to, (sector) => into.set(sector.subarray(0, end - to), to - at)));
  await Promise.all(reads);

  async function edge(sectorAt: number, copy: (sector: Uint8Array) => void): Promise<void> {
    const sector = new Uint8Array(unit);
    await device.read(sectorAt, sector);
    copy(sector);
  }
}

/** Write `from` at device byte `at`, any alignment; the rest of the logical blocks at the edges is kept. */
export async function writeBytes(device: BlockDevice, at: number, from: Uint8Array): Promise<void> {
  const unit = device.logicalBlockSize;
  const end = at + from.length, a = ceil(at, unit), b = floor(end, unit);
  if (a > b) return patch(device, floor(at, unit), (sector) => sector.set(from, at % unit));
  const writes: Promise<void>[] = [];
  if (a < b) writes.push(device.write(a, from.subarray(a - at, b - at)));
  if (at < a) writes.push(patch(device, a - unit, (sector) => sector.set(from.subarray(0, a - at), unit - (a - at))));
  if (b < end) writes.push(patch(device, b, (sector) => sector.set(from.subarray(b - at), 0)));
  await Promise.all(writes);
}

/** Zero [at, at + length) of the device, any alignment. */
export async function zeroBytes(device: BlockDevice, at: number, length: number): Promise<void> {
  const unit = device.logicalBlockSize;
  const end = at + length, a = ceil(at, unit), b = floor(end, unit);
  if (a > b) return patch(device, floor(at, unit), (sector) => sector.fill(0, at % unit, (at % unit) + length));
  const writes: Promise<void>[] = [];
  if (a < b) writes.push(device.writeZeroes(a, b - a));
  if (at < a) writes.push(patch(device, a - unit, (sector) => sector.fill(0, unit - (a - at))));
  if (b < end) writes.push(patch(device, b, (sector) => sector.fill(0, 0, end - b)));
  await Promise.all(writes);
}

/** Bytes copied at once. */
const COPY_STEP = 1 << 20;

/**
 * Copy a piece of a file to device byte `to`, in whole logical blocks; those that lie wholly inside bytes [except.from,
 * except.to) of the file are left out.
 */
export async function copyBytes(device: BlockDevice, piece: Piece, to: number, except: { readonly from: number; readonly to: number }): Promise<void> {
  const unit = device.logicalBlockSize;
  const end = piece.offset + piece.length;
  const from = Math.min(end, Math.max(piece.offset, ceil(except.from, unit))), until = Math.max(from, Math.min(end, floor(except.to, unit)));
  for (const [a, b] of [[piece.offset, from], [until, end]]) {
    for (let at = a; at < b; at += COPY_STEP) {
      const bytes = new Uint8Array(Math.min(COPY_STEP, b - at));
      await device.read(piece.device + (at - piece.offset), bytes);
      await device.write(to + (at - piece.offset), bytes);
    }
  }
}

async function patch(device: BlockDevice, sectorAt: number, change: (sector: Uint8Array) => void): Promise<void> {
  const sector = new Uint8Array(device.logicalBlockSize);
  await device.read(sectorAt, sector);
  change(sector);
  await device.write(sectorAt, sector);
}

/** All of them have ended, also when one failed: until then their memory is in use. */
export async function allEnded(writes: Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(writes)) if (result.status === 'rejected') throw result.reason;
}

/** Fill a piece that held nothing before: `data` at `at` bytes from its start, zeroes elsewhere. What lay on the device is not read. */
export async function writeFresh(device: BlockDevice, piece: Piece, at: number, data: Uint8Array): Promise<void> {
  const unit = device.logicalBlockSize;
  const end = at + data.length, a = floor(at, unit), b = ceil(end, unit);
  const writes: Promise<void>[] = [];
  if (a > 0) writes.push(device.writeZeroes(piece.device, a));
  if (b < piece.length) writes.push(device.writeZeroes(piece.device + b, piece.length - b));
  let from = a, to = b;
  if (at > from) {
    from = Math.min(b, a + unit);
    writes.push(padded(a, from));
  }
  if (end < to && to > from) {
    to = b - unit;
    writes.push(padded(to, b));
  }
  if (from < to) writes.push(device.write(piece.device + from, data.subarray(from - at, to - at)));
  await allEnded(writes);

  function padded(start: number, stop: number): Promise<void> {
    const block = new Uint8Array(stop - start);
    const first = Math.max(start, at);
    block.set(data.subarray(first - at, Math.min(stop, end) - at), first - start);
    return device.write(piece.device + start, block);
  }
}
