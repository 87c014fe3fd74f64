/**
 * Blocks for inodes and for extent, index, xattr and refcount blocks: each slot's inode_alloc and extent_alloc
 * (ondisk-format.md 4.4, 4.5, 4.8).
 *
 * A node allocates from its own slot's allocator and grows it by groups from the global bitmap: contiguous ones, and on
 * volumes with DISCONTIG_BG, when no run is long enough, groups in pieces. If it cannot grow, it takes free bits of other
 * slots' allocators (never growing them). A block goes back to the allocator it came from, whoever frees it.
 */
import { CorruptionError } from '@lunfs/device';
import type { FsContext } from '../context.js';
import { badField, BitmapId1, type Block, capacity, ExtentList, type Geometry, GROUP_BITMAP, GROUP_DESC, GROUP_LIST, GroupDesc, INVALID_SLOT, SIG, bits, checkBlkno } from '../format/index.js';
import type { Op } from '../txn/index.js';
import { claimFromBitmap, returnClusters } from './bitmap.js';
import { claimBits, editAllocator, freeBits, readAllocator } from './chain.js';
import { claimFromBitmapHard, type ClusterRun, noSpace } from './clusters.js';
import { bitToBlock, type ChainAllocator, findZeroRun, type Group, groupBitmap, readGroup, suballocBitmapSize } from './group.js';
import type { MetaType } from './state.js';
import { allocState } from './window-size.js';

export type { MetaType } from './state.js';

/** A metadata block and what its structure records of its origin (*_suballoc_slot, _bit, _loc). */
export interface MetaClaim {
  readonly blkno: number;
  readonly slot: number;
  readonly bit: number;
  /** Descriptor block if the group is discontiguous, else 0. */
  readonly loc: number;
}

/** The fields in which the structure of a claimed block says who it is and where it comes from. */
interface MetaHeader {
  signature: string;
  blkno: number;
  fsGeneration: number;
  suballocSlot: number;
  suballocBit: number;
  suballocLoc: number;
}

/** Write them into the structure of a block just claimed. */
export function stampMeta(ctx: FsContext, header: MetaHeader, signature: string, { blkno, slot, bit, loc }: MetaClaim): void {
  header.signature = signature;
  header.blkno = blkno;
  header.fsGeneration = ctx.geo.fsGeneration;
  header.suballocSlot = slot;
  header.suballocBit = bit;
  header.suballocLoc = loc;
}

/** What `freeMeta` needs of them. */
export function claimOf({ blkno, suballocSlot: slot, suballocBit: bit, suballocLoc: loc }: Readonly<MetaHeader>): MetaClaim {
  return { blkno, slot, bit, loc };
}

/** The inode a new one should lie by: slot and group it was allocated from. */
export interface Neighbour {
  readonly slot: number;
  readonly group: number;
}

/** Blocks stolen in a row before the own allocator is tried again (OCFS2_MAX_TO_STEAL). */
const MOST_STOLEN = 1024;
/** Inode numbers stay below this, as the kernel keeps them without the inode64 mount option. */
const MAX_INODE_BLOCK = 0xffffffff;

/** The group a block belongs to: its descriptor's block. */
export function groupOf({ blkno, bit, loc }: Pick<MetaClaim, 'blkno' | 'bit' | 'loc'>): number {
  return loc !== 0 ? loc : blkno - bit;
}

function allocatorOf(ctx: FsContext, type: MetaType, slot: number): number | undefined {
  if (slot === INVALID_SLOT && type === 'inode') return ctx.sys.globalInodeAlloc;
  return (type === 'inode' ? ctx.sys.inodeAlloc : ctx.sys.extentAlloc)[slot];
}

/**
 * Claim one block. `near`: slot and group of the inode it should lie by (an inode's parent directory); used if that
 * slot is the one allocated from. The content of the block is the caller's to write (`op.create`). Throws NO_SPACE.
 */
export function claimMeta(op: Op, ctx: FsContext, type: MetaType, near?: Neighbour): MetaClaim {
  const steal = allocState(ctx).steal[type];
  const stealing = steal.slot !== undefined && steal.stolen < MOST_STOLEN;
  const own = stealing ? undefined : claimOwn(op, ctx, type, near);
  if (own !== undefined) {
    op.onApply(() => Object.assign(steal, { slot: undefined, stolen: 0 }));
    return own;
  }
  const { maxSlots } = ctx.geo;
  const first = steal.slot ?? ctx.slot + 1;
  for (let i = 0; i < maxSlots; i++) {
    const slot = (first + i) % maxSlots;
    if (slot === ctx.slot) continue;
    const stolen = claimFrom(op, ctx, type, slot, near);
    if (stolen === undefined) continue;
    op.onApply(() => Object.assign(steal, { slot, stolen: stealing ? steal.stolen + 1 : 1 }));
    return stolen;
  }
  // The others have nothing left; something may have become free at home meanwhile.
  const late = stealing ? claimOwn(op, ctx, type, near) : undefined;
  if (late !== undefined) return late;
  throw noSpace(op, ctx, readAllocator(op, ctx, allocatorOf(ctx, type, ctx.slot)!).list.cpg);
}

function claimOwn(op: Op, ctx: FsContext, type: MetaType, near?: Neighbour): MetaClaim | undefined {
  const found = claimFrom(op, ctx, type, ctx.slot, near);
  return found ?? (growOwn(op, ctx, type) ? claimFrom(op, ctx, type, ctx.slot, near) : undefined);
}

function claimFrom(op: Op, ctx: FsContext, type: MetaType, slot: number, near?: Neighbour): MetaClaim | undefined {
  const alloc = readAllocator(op, ctx, allocatorOf(ctx, type, slot)!);
  const search = (group: Group) => {
    const run = findZeroRun(groupBitmap(group), 1, group.gd.bits);
    if (run === undefined || (type === 'inode' && bitToBlock(ctx.geo, group, alloc.list.bpc, run.bit).blkno >= MAX_INODE_BLOCK)) return undefined;
    return run;
  };
  const found = claimBits(op, ctx, alloc, search, near?.slot === slot ? near.group : 0);
  if (found === undefined) return undefined;
  const { blkno, loc } = bitToBlock(ctx.geo, found.group, alloc.list.bpc, found.bit);
  return { blkno, slot, bit: found.bit, loc };
}

/** Give a block back to the allocator its structure names. Throws a corruption error if that does not hold it as used. */
export function freeMeta(op: Op, ctx: FsContext, type: MetaType, claim: MetaClaim): void {
  const blkno = allocatorOf(ctx, type, claim.slot);
  if (blkno === undefined) {
    throw new CorruptionError('CORRUPT_FIELD', `${ctx.geo.device}: block ${claim.blkno}: suballoc_slot = ${claim.slot} is no slot of this volume; run "lunfs check" on it`, {
      device: ctx.geo.device, block: claim.blkno, structure: `${type} block`, field: 'suballoc_slot', value: claim.slot,
    });
  }
  const alloc = readAllocator(op, ctx, blkno);
  const at = groupOf(claim);
  checkBlkno(ctx.geo, at, `${type} block ${claim.blkno}`, 'suballoc group', alloc.ref.block);
  const group = readGroup(op, alloc, at);
  if (claim.bit >= group.gd.bits || bitToBlock(ctx.geo, group, alloc.list.bpc, claim.bit).blkno !== claim.blkno) {
    throw badField(group.block, `${type} block ${claim.blkno}`, 'suballoc_bit', claim.bit, `is not its place in group ${at}`);
  }
  freeBits(op, ctx, alloc, at, { bit: claim.bit, len: 1 });
}

/**
 * Add a group to the own slot's allocator, in this operation; false when the global bitmap has no clusters for it.
 * (Linux 6.1 fs/ocfs2/suballoc.c:ocfs2_block_group_alloc.)
 */
function growOwn(op: Op, ctx: FsContext, type: MetaType): boolean {
  const state = allocState(ctx);
  const blkno = allocatorOf(ctx, type, ctx.slot)!;
  const { cpg } = readAllocator(op, ctx, blkno).list;
  const inode = type === 'inode';
  const maxBlock = inode ? MAX_INODE_BLOCK : undefined;
  const run = claimFromBitmapHard(op, ctx, { want: cpg, min: cpg, hint: inode ? state.inodeGroupHint : 0, maxBlock });
  const pieces = run !== undefined ? [run] : ctx.geo.discontigBg ? claimPieces(op, ctx, cpg, maxBlock) : undefined;
  if (pieces === undefined) return false;
  if (inode) {
    op.onApply(() => {
      state.inodeGroupHint = pieces[0].group;
    });
  }
  addGroup(op, ctx, editAllocator(op, ctx, blkno), pieces);
  return true;
}

type Piece = ClusterRun & { readonly group: number };

/**
 * The clusters of a discontiguous group: the longest runs the global bitmap has, as many as a descriptor can list;
 * undefined, and none of them taken, when those do not add up to `cpg`.
 * (Linux 6.1 fs/ocfs2/suballoc.c:ocfs2_block_group_alloc_discontig, ocfs2_block_group_grow_discontig.)
 */
function claimPieces(op: Op, ctx: FsContext, cpg: number, maxBlock: number | undefined): Piece[] | undefined {
  const most = capacity.groupList(ctx.geo.blockSize);
  const pieces: Piece[] = [];
  for (let needed = cpg, min = cpg >> 1; needed > 0 && min > 0 && pieces.length < most; ) {
    const run = claimFromBitmap(op, ctx, { want: needed, min: Math.min(min, needed), hint: pieces.at(-1)?.group, maxBlock });
    if (run === undefined) {
      min >>= 1;
      continue;
    }
    pieces.push(run);
    needed -= run.len;
    if (needed === 0) return pieces;
  }
  for (const { start, len } of pieces) returnClusters(op, ctx, start, len);
  return undefined;
}

/**
 * Make a group of these pieces and link it at the head of the smallest chain; its descriptor is the first block of the
 * first piece. (Linux 6.1 fs/ocfs2/suballoc.c:ocfs2_block_group_fill, ocfs2_bg_discontig_add_extent.)
 */
function addGroup(op: Op, ctx: FsContext, alloc: ChainAllocator, pieces: readonly ClusterRun[]): void {
  const { geo } = ctx;
  const { ref, list } = alloc;
  let chain = 0;
  for (let i = 1; i < list.count; i++) if (list.total(i) < list.total(chain)) chain = i;
  const blkno = pieces[0].start * geo.bpc;
  const block = op.create(ref.lock, blkno, GROUP_DESC);
  const gd = GroupDesc.at(block);
  gd.signature = SIG.group;
  gd.generation = geo.fsGeneration;
  gd.size = suballocBitmapSize(geo);
  gd.bits = list.cpg * list.bpc;
  gd.chain = chain;
  gd.nextGroup = list.blkno(chain);
  gd.parentDinode = ref.blkno;
  gd.blkno = blkno;
  if (pieces.length > 1) fillPieces(geo, block, pieces);
  bits.set(block.bytes, GROUP_BITMAP, 0);
  gd.freeBits = gd.bits - 1;
  list.setFree(chain, list.free(chain) + gd.freeBits);
  list.setTotal(chain, list.total(chain) + gd.bits);
  list.setBlkno(chain, blkno);
  if (list.nextFree < list.count) list.nextFree += 1;
  const id1 = BitmapId1.at(ref.block);
  id1.used += 1;
  id1.total += gd.bits;
  ref.di.clusters += list.cpg;
  ref.di.size = ref.di.clusters * geo.clusterSize;
}

function fillPieces(geo: Geometry, block: Block, pieces: readonly ClusterRun[]): void {
  const list = new ExtentList(block, GROUP_LIST);
  list.count = capacity.groupList(geo.blockSize);
  list.nextFree = pieces.length;
  let cpos = 0;
  for (const [i, { start, len }] of pieces.entries()) {
    list.setLeaf(i, cpos, len, start * geo.bpc, 0);
    cpos += len;
  }
}
