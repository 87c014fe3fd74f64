/**
 * Chain allocators: an inode whose chain list links groups of bits (ondisk-format.md 4.2-4.5). The global bitmap and
 * the inode and extent block suballocators are chain allocators; what a bit means is their users' business.
 *
 * Identities kept by every operation here: i_total = sum of c_total, i_used = i_total - sum of c_free,
 * c_free = sum of bg_free_bits_count of the chain's groups.
 */
import type { FsContext, InodeRef } from '../context.js';
import { badField, BitmapId1, ChainList, checkBlkno, FL, GROUP_DESC } from '../format/index.js';
import { EX, type LockLevel } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import { type BitRun, type ChainAllocator, editGroup, type Group, readGroup, returnBits, takeBits } from './group.js';

/** Looks for a run in one group; undefined: nothing (long enough) there. */
export type GroupSearch = (group: Group) => BitRun | undefined;

export interface Claimed extends BitRun {
  readonly group: Group;
}

function view(ref: InodeRef): ChainAllocator {
  if (!(ref.di.flags & FL.CHAIN)) throw badField(ref.block, 'dinode', 'i_flags', ref.di.flags, 'is no chain allocator');
  const { used, total } = BitmapId1.at(ref.block);
  if (used > total) throw badField(ref.block, 'dinode', 'i_used', used, `exceeds i_total ${total}`);
  return { ref, list: new ChainList(ref.block), used, total };
}

/** Lock and read an allocator. Claims and frees need EX. */
export function readAllocator(op: Op, ctx: FsContext, blkno: number, level: LockLevel = EX): ChainAllocator {
  return view(ctx.inode(op, blkno, level));
}

/** Lock an allocator EX and take its dinode for change. */
export function editAllocator(op: Op, ctx: FsContext, blkno: number): ChainAllocator {
  return view(ctx.editInode(op, blkno));
}

/**
 * Find a run by `search` and take it: in group `hint` first (0: none), then in the chain with most free bits, then in
 * the others in order. A group found deep in the fullest chain that keeps free bits moves to the chain's head.
 * Undefined: no group has what `search` wants. (Linux 6.1 fs/ocfs2/suballoc.c:ocfs2_claim_suballoc_bits.)
 */
export function claimBits(op: Op, ctx: FsContext, alloc: ChainAllocator, search: GroupSearch, hint: number): Claimed | undefined {
  if (alloc.used === alloc.total) return undefined;
  if (hint !== 0) {
    const group = readGroup(op, alloc, hint);
    const run = group.gd.freeBits > 0 ? search(group) : undefined;
    if (run !== undefined) return take(op, ctx, alloc, group, run);
  }
  const { list } = alloc;
  if (list.nextFree === 0) throw badField(alloc.ref.block, 'chain_list', 'cl_next_free_rec', 0, `although ${alloc.total} bits are counted`);
  let victim = 0;
  for (let i = 1; i < list.nextFree; i++) if (list.free(i) > list.free(victim)) victim = i;
  const found = searchChain(op, ctx, alloc, victim, search, true);
  if (found !== undefined) return found;
  for (let i = 0; i < list.nextFree; i++) {
    if (i === victim || list.free(i) === 0) continue;
    const other = searchChain(op, ctx, alloc, i, search, false);
    if (other !== undefined) return other;
  }
  return undefined;
}

/** Groups of a chain from its head on, each checked to be linked once and to know its chain. */
export function* chainGroups(op: Op, alloc: ChainAllocator, chain: number): Generator<Group> {
  const seen = new Set<number>();
  for (let blkno = alloc.list.blkno(chain), from = alloc.ref.block; blkno !== 0; ) {
    readAhead(op, alloc, chain, blkno);
    if (seen.has(blkno)) throw badField(from, 'group_desc', 'bg_next_group', blkno, `closes a loop in chain ${chain}`);
    seen.add(blkno);
    const group = readGroup(op, alloc, blkno);
    if (group.gd.chain !== chain) throw badField(group.block, 'group_desc', 'bg_chain', group.gd.chain, `is linked in chain ${chain}`);
    yield group;
    from = group.block;
    blkno = group.gd.nextGroup;
  }
}

/** Groups of a chain asked for at once. */
const READ_AHEAD = 256;

/**
 * Before a walk comes to a group of the global bitmap that is not there: ask for it and others of its chain at once, or a
 * search through a large bitmap would start again for each. Groups lie where the geometry says, and every `cl_count`th is
 * of one chain as mkfs links them; a guess that is wrong costs a read of another group.
 */
function readAhead(op: Op, { ref, list }: ChainAllocator, chain: number, blkno: number): void {
  const { geo } = op;
  if (list.bpc !== 1 || list.cpg !== geo.clustersPerGroup || op.overlay.has(blkno) || op.cache.get(blkno, GROUP_DESC, ref.lock.name) !== undefined) return;
  const groups = Math.ceil(Math.min(ref.di.clusters, geo.totalClusters) / list.cpg);
  const wanted = new Set([blkno]);
  for (let g = chain; g < groups && wanted.size < READ_AHEAD; g += list.nextFree) {
    const at = g === 0 ? geo.firstClusterGroup : g * list.cpg * geo.bpc;
    if (op.cache.get(at, GROUP_DESC, ref.lock.name) === undefined) wanted.add(at);
  }
  checkBlkno(geo, blkno, 'chain_list', 'group pointer', ref.block);
  op.prefetch(ref.lock, wanted, GROUP_DESC);
}

function searchChain(op: Op, ctx: FsContext, alloc: ChainAllocator, chain: number, search: GroupSearch, mayRelink: boolean): Claimed | undefined {
  let previous: Group | undefined;
  for (const group of chainGroups(op, alloc, chain)) {
    const run = group.gd.freeBits > 0 ? search(group) : undefined;
    if (run === undefined) {
      previous = group;
      continue;
    }
    if (mayRelink && previous !== undefined && group.gd.freeBits > run.len) moveToHead(op, ctx, alloc, chain, previous, group);
    return take(op, ctx, alloc, group, run);
  }
  return undefined;
}

/** (Linux 6.1 fs/ocfs2/suballoc.c:ocfs2_relink_block_group.) */
function moveToHead(op: Op, ctx: FsContext, alloc: ChainAllocator, chain: number, previous: Group, group: Group): void {
  const { list } = editAllocator(op, ctx, alloc.ref.blkno);
  editGroup(op, alloc, previous.blkno).gd.nextGroup = group.gd.nextGroup;
  editGroup(op, alloc, group.blkno).gd.nextGroup = list.blkno(chain);
  list.setBlkno(chain, group.blkno);
}

function take(op: Op, ctx: FsContext, alloc: ChainAllocator, { blkno }: Group, run: BitRun): Claimed {
  const group = editGroup(op, alloc, blkno);
  takeBits(group, run);
  count(op, ctx, alloc, group, -run.len);
  return { group, ...run };
}

/** Free a run of bits of one group. */
export function freeBits(op: Op, ctx: FsContext, alloc: ChainAllocator, groupBlkno: number, run: BitRun): void {
  const group = editGroup(op, alloc, groupBlkno);
  returnBits(group, run);
  count(op, ctx, alloc, group, run.len);
}

/** Carry a change of a group's free bits into chain and dinode. */
function count(op: Op, ctx: FsContext, alloc: ChainAllocator, group: Group, freed: number): void {
  const { ref, list, used } = editAllocator(op, ctx, alloc.ref.blkno);
  const { chain } = group.gd;
  const free = list.free(chain) + freed;
  if (free < 0 || free > list.total(chain)) throw badField(ref.block, 'chain_list', `rec[${chain}].c_free`, list.free(chain), `does not agree with group ${group.blkno}`);
  if (used - freed < 0) throw badField(ref.block, 'dinode', 'i_used', used, `is less than the ${freed} bits to be freed`);
  list.setFree(chain, free);
  BitmapId1.at(ref.block).used = used - freed;
}
