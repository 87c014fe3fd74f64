/**
 * Changes a device was asked to make, and what a power failure leaves of them: the whole change, nothing, or some of
 * its logical blocks (one block is atomic, see the BlockDevice port).
 */
import type { MemoryDevice } from '../memory-device.js';
import type { Random } from '../random.js';

/** A write (with its bytes), a write-zeroes or a discard; offset and length in bytes. */
export interface Change {
  readonly kind: 'write' | 'zeroes' | 'discard';
  readonly offset: number;
  readonly length: number;
  /** The bytes of a write, a private copy. */
  readonly bytes?: Uint8Array;
}

/** Make the change, or only the part [from, to) of its bytes. */
export function applyChange(device: MemoryDevice, change: Change, from = 0, to = change.length): void {
  const offset = change.offset + from;
  if (change.bytes) device.writeSync(offset, change.bytes.subarray(from, to));
  else if (change.kind === 'zeroes') device.writeZeroesSync(offset, to - from);
  else device.discardSync(offset, to - from);
}

/** What a power failure leaves of a change that no flush covers: all, nothing, a first part, or a random set of its blocks. */
export function applySurvivors(device: MemoryDevice, change: Change, random: Random): void {
  const unit = device.logicalBlockSize;
  const blocks = change.length / unit;
  const fate = random.int(blocks === 1 ? 4 : 6);
  if (fate < 2) return;
  if (fate < 4) {
    applyChange(device, change);
  } else if (fate === 4 || !change.bytes) {
    applyChange(device, change, 0, random.int(blocks) * unit);
  } else {
    for (let block = 0; block < blocks; block++) {
      if (random.chance(0.5)) applyChange(device, change, block * unit, (block + 1) * unit);
    }
  }
}
