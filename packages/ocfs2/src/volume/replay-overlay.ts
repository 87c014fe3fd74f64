/**
 * A volume with dirty journals, read without being changed: the committed images of every dirty slot lie over the device
 * in memory. So `lunfs ls|cat|cp|check` see what recovery would make of a crashed volume, on a LUN nobody may write.
 * Images of different slots never conflict (ondisk-format.md 9.4).
 */
import { type BlockDevice, IoError, checkRange } from '@lunfs/device';
import type { SystemFiles } from '../context.js';
import { JournalInode, LogReader } from '../journal/index.js';
import type { RawReader } from '../inspect/raw-reader.js';

/** A read-only view of `device` with blocks replaced. */
export class OverlayDevice implements BlockDevice {
  readonly readOnly = true;
  readonly canDiscard = false;

  constructor(private readonly below: BlockDevice, private readonly blocks: ReadonlyMap<number, Uint8Array>, private readonly blockSize: number) {}

  get name(): string {
    return this.below.name;
  }
  get size(): number {
    return this.below.size;
  }
  get logicalBlockSize(): number {
    return this.below.logicalBlockSize;
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    checkRange(this, offset, into.length);
    await this.below.read(offset, into);
    const { blockSize } = this;
    for (let blkno = Math.floor(offset / blockSize); blkno * blockSize < offset + into.length; blkno++) {
      const image = this.blocks.get(blkno);
      if (image === undefined) continue;
      const from = Math.max(offset, blkno * blockSize), to = Math.min(offset + into.length, (blkno + 1) * blockSize);
      into.set(image.subarray(from - blkno * blockSize, to - blkno * blockSize), from - offset);
    }
  }

  async write(): Promise<void> {
    throw new IoError('DEVICE_READ_ONLY', `${this.name}: this view of a volume shows other blocks than the device holds, and cannot be written`, {}, undefined, 'EROFS');
  }
  async flush(): Promise<void> {}
  writeZeroes(): Promise<void> {
    return this.write();
  }
  async discard(): Promise<void> {}
  async close(): Promise<void> {}
}

/** `device` as it would be after replaying the journals of all dirty slots; the slots replayed. Nothing is written. */
export async function replayedView(reader: RawReader, sys: SystemFiles): Promise<{ device: BlockDevice; slots: number[] }> {
  const { device, geo } = reader;
  const blocks = new Map<number, Uint8Array>();
  const slots: number[] = [];
  for (const [slot, blkno] of sys.journal.entries()) {
    const inode = await JournalInode.read(reader, blkno);
    if (!inode.dirty) continue;
    slots.push(slot);
    const log = await LogReader.open(device, geo, inode.map);
    const { transactions } = await log.scan();
    for (const image of await log.readImages(log.images(transactions))) blocks.set(image.blkno, image.bytes);
  }
  return { device: slots.length === 0 ? device : new OverlayDevice(device, blocks, geo.blockSize), slots };
}
