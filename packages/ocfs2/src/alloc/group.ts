/**
 * Group descriptors: reading them as part of their allocator, searching and changing their bitmaps, and where a bit
 * lies on the volume (ondisk-format.md 4.1).
 *
 * Invariant kept by `takeBits`/`returnBits`: bg_free_bits_count = bg_bits - set bits among the first bg_bits.
 */
import type { InodeRef } from '../context.js';
import { badField, type Block, bits, type ChainList, checkBlkno, DISCONTIG_BITMAP_SIZE, ExtentList, type Geometry, GROUP_BITMAP, GROUP_DESC, GROUP_LIST, GroupDesc, type GroupDescView } from '../format/index.js';
import type { Op } from '../txn/index.js';

/** An allocator inode under its lock. */
export interface ChainAllocator {
  readonly ref: InodeRef;
  readonly list: ChainList;
  readonly used: number;
  readonly total: number;
}

export interface Group {
  readonly blkno: number;
  readonly block: Block;
  readonly gd: GroupDescView;
}

/** A run of bits in a group. */
export interface BitRun {
  readonly bit: number;
  readonly len: number;
}

/** Read a group of `alloc` and check it against its parent. */
export function readGroup(op: Op, alloc: ChainAllocator, blkno: number): Group {
  checkBlkno(op.geo, blkno, 'chain_list', 'group pointer', alloc.ref.block);
  return checked(alloc, op.read(alloc.ref.lock, blkno, GROUP_DESC));
}

/** The same, for change. */
export function editGroup(op: Op, alloc: ChainAllocator, blkno: number): Group {
  checkBlkno(op.geo, blkno, 'chain_list', 'group pointer', alloc.ref.block);
  return checked(alloc, op.write(alloc.ref.lock, blkno, GROUP_DESC));
}

/** (Linux 6.1 fs/ocfs2/suballoc.c:ocfs2_validate_gd_parent.) */
function checked(alloc: ChainAllocator, block: Block): Group {
  const gd = GroupDesc.at(block);
  const { list, ref } = alloc;
  if (gd.parentDinode !== ref.blkno) throw badField(block, 'group_desc', 'bg_parent_dinode', gd.parentDinode, `should be ${ref.blkno}`);
  const most = list.cpg * list.bpc;
  if (gd.bits > most) throw badField(block, 'group_desc', 'bg_bits', gd.bits, `exceeds the ${most} bits of its allocator's groups`);
  if (gd.chain >= list.nextFree) throw badField(block, 'group_desc', 'bg_chain', gd.chain, `is not below cl_next_free_rec ${list.nextFree}`);
  return { blkno: block.blkno, block, gd };
}

/** The group's bitmap bytes. */
export function groupBitmap({ block, gd }: Group): Uint8Array {
  return block.bytes.subarray(GROUP_BITMAP, GROUP_BITMAP + gd.size);
}

/**
 * The first run of `want` zero bits in [0, limit), else the longest run (the first of that length); undefined when no
 * bit is zero. (Linux 6.1 fs/ocfs2/suballoc.c:ocfs2_block_group_find_clear_bits.)
 */
export function findZeroRun(bitmap: Uint8Array, want: number, limit: number): BitRun | undefined {
  let best = 0, bestAt = 0;
  for (let at = bits.next(bitmap, 0, 0, limit, false); at < limit; ) {
    const end = bits.next(bitmap, 0, at, Math.min(limit, at + want), true);
    if (end - at > best) {
      best = end - at;
      bestAt = at;
      if (best === want) break;
    }
    at = bits.next(bitmap, 0, end, limit, false);
  }
  return best > 0 ? { bit: bestAt, len: best } : undefined;
}

/** Zero bits from `bit` on, at most `want`, within [bit, limit). */
export function zeroRunAt(bitmap: Uint8Array, bit: number, want: number, limit: number): number {
  return bit >= limit ? 0 : bits.next(bitmap, 0, bit, Math.min(limit, bit + want), true) - bit;
}

/** Set bits of a group that is open for change. A bit that is set already means corruption. */
export function takeBits({ block, gd }: Group, { bit, len }: BitRun): void {
  if (bit + len > gd.bits || len > gd.freeBits) throw badField(block, 'group_desc', 'bg_free_bits_count', gd.freeBits, `does not allow for bits ${bit}..${bit + len - 1} of ${gd.bits}`);
  if (bits.next(block.bytes, GROUP_BITMAP, bit, bit + len, true) < bit + len) throw badField(block, 'group_desc', 'bg_bitmap', bit, 'is in use and was about to be taken');
  for (let i = bit; i < bit + len; i++) bits.set(block.bytes, GROUP_BITMAP, i);
  gd.freeBits -= len;
}

/** Clear bits of a group that is open for change. A bit that is clear already means corruption. */
export function returnBits({ block, gd }: Group, { bit, len }: BitRun): void {
  if (bit + len > gd.bits) throw badField(block, 'group_desc', 'bg_bits', gd.bits, `does not cover bits ${bit}..${bit + len - 1}, which are to be freed`);
  const clear = bits.next(block.bytes, GROUP_BITMAP, bit, bit + len, false);
  if (clear < bit + len) throw badField(block, 'group_desc', 'bg_bitmap', `bit ${clear}`, 'is to be freed and is free already');
  if (gd.freeBits + len > gd.bits) throw badField(block, 'group_desc', 'bg_free_bits_count', gd.freeBits, `exceeds bg_bits ${gd.bits} once ${len} bits are freed`);
  for (let i = bit; i < bit + len; i++) bits.clear(block.bytes, GROUP_BITMAP, i);
  gd.freeBits += len;
}

/** Bitmap bytes of a new suballocator group (Linux 6.1 fs/ocfs2/ocfs2_fs.h:ocfs2_group_bitmap_size). */
export function suballocBitmapSize(geo: Geometry): number {
  return geo.discontigBg ? DISCONTIG_BITMAP_SIZE : geo.blockSize - GROUP_BITMAP;
}

/** Extent list of a discontiguous group; undefined for contiguous ones. */
export function discontigList(geo: Geometry, { block, gd }: Group): ExtentList | undefined {
  if (!geo.discontigBg || gd.size !== DISCONTIG_BITMAP_SIZE) return undefined;
  const list = new ExtentList(block, GROUP_LIST);
  if (list.nextFree === 0) return undefined;
  if (list.depth !== 0 || list.nextFree > list.count || GROUP_LIST + 16 + 16 * list.count > geo.blockSize) {
    throw badField(block, 'group_desc.bg_list', 'l_next_free_rec', list.nextFree, `does not fit a flat list of ${list.count} records`);
  }
  return list;
}

/** Block of a bit of a suballocator group, and what i_suballoc_loc must say: the descriptor if the group is discontiguous, else 0. */
export function bitToBlock(geo: Geometry, group: Group, bpc: number, bit: number): { blkno: number; loc: number } {
  const list = discontigList(geo, group);
  if (list === undefined) return { blkno: group.blkno + bit, loc: 0 };
  for (let i = 0; i < list.nextFree; i++) {
    const first = list.cpos(i) * bpc;
    if (bit < first || bit >= first + list.clusters(i) * bpc) continue;
    const blkno = list.blkno(i) + (bit - first);
    checkBlkno(geo, blkno, 'group_desc.bg_list', `rec[${i}].e_blkno`, group.block);
    return { blkno, loc: group.blkno };
  }
  throw badField(group.block, 'group_desc.bg_list', 'l_recs', `bit ${bit}`, 'is covered by no record');
}
