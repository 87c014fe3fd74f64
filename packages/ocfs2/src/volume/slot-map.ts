/**
 * The slot map: which node mounts which slot (ondisk-format.md 10.1). Written directly, not journaled, only the block
 * that holds the slot, under the superblock lock.
 */
import type { BlockDevice } from '@lunfs/device';
import { type Block, badField } from '../format/block.js';
import { INVALID_SLOT } from '../format/constants.js';
import { Dinode, ExtendedSlot, ID2 } from '../format/structs.js';
import type { RawReader } from '../inspect/raw-reader.js';

export class SlotMap {
  private constructor(private readonly reader: RawReader, private readonly blocks: Block[]) {}

  /** Read it. `slotMap` is the system file's inode. */
  static async read(reader: RawReader, slotMap: number): Promise<SlotMap> {
    const { geo } = reader;
    const inode = await reader.inode(slotMap);
    const bytes = geo.maxSlots * (geo.extendedSlotMap ? 8 : 2);
    const wanted = Math.ceil(bytes / geo.blockSize);
    const blocks: Block[] = [];
    for await (const { blkno, clusters } of reader.extents(inode, ID2)) {
      for (let i = 0; i < clusters * geo.bpc && blocks.length < wanted; i++) blocks.push(await reader.readRaw(blkno + i));
    }
    if (blocks.length < wanted) throw badField(inode, 'slot_map', 'i_size', Dinode.at(inode).size, `has no room for ${geo.maxSlots} slots`);
    return new SlotMap(reader, blocks);
  }

  /** Node number in a slot, or undefined when it is free. */
  node(slot: number): number | undefined {
    const { block, at } = this.#place(slot);
    if (this.reader.geo.extendedSlotMap) {
      const entry = ExtendedSlot.at(block, at);
      return entry.valid ? entry.nodeNum : undefined;
    }
    const node = block.dv.getUint16(at, true);
    return node === INVALID_SLOT ? undefined : node;
  }

  /** Slots in use with their nodes. */
  taken(): { slot: number; node: number }[] {
    const out = [];
    for (let slot = 0; slot < this.reader.geo.maxSlots; slot++) {
      const node = this.node(slot);
      if (node !== undefined) out.push({ slot, node });
    }
    return out;
  }

  /** The slot for a node that mounts: the one it has (it died in it), else the lowest free one (Linux 6.1 fs/ocfs2/slot_map.c:ocfs2_find_slot). Undefined: all are taken. */
  slotFor(node: number): number | undefined {
    const taken = this.taken();
    const own = taken.find((entry) => entry.node === node)?.slot;
    if (own !== undefined) return own;
    for (let slot = 0; slot < this.reader.geo.maxSlots; slot++) if (taken.every((entry) => entry.slot !== slot)) return slot;
    return undefined;
  }

  /** Give a slot to a node, or free it (undefined: an extended entry keeps the last number, as Linux leaves it). Written and flushed. */
  async set(device: BlockDevice, slot: number, node: number | undefined): Promise<void> {
    const { block, at } = this.#place(slot);
    if (this.reader.geo.extendedSlotMap) {
      const entry = ExtendedSlot.at(block, at);
      entry.valid = node === undefined ? 0 : 1;
      if (node !== undefined) entry.nodeNum = node;
    } else block.dv.setUint16(at, node ?? INVALID_SLOT, true);
    await device.write(block.blkno * this.reader.geo.blockSize, block.bytes);
    await device.flush();
  }

  #place(slot: number): { block: Block; at: number } {
    const { geo } = this.reader;
    const byte = slot * (geo.extendedSlotMap ? 8 : 2);
    return { block: this.blocks[Math.floor(byte / geo.blockSize)], at: byte % geo.blockSize };
  }
}
