/**
 * Pass 0: chain allocators (global bitmap, inode and extent allocators). Walks every chain, checks group descriptors
 * against their parent, sums, loops and duplicates, and hands each group's bitmap to the later passes.
 */
import { badField } from '../format/block.js';
import { FL } from '../format/constants.js';
import { type Geometry, blockToCluster, capacity } from '../format/geometry.js';
import { GROUP_DESC } from '../format/kinds.js';
import { ChainList, ExtentList, bits } from '../format/lists.js';
import { BitmapId1, Dinode, GROUP_BITMAP, GROUP_LIST, DISCONTIG_BITMAP_SIZE, GroupDesc } from '../format/structs.js';
import type { Block } from '../format/block.js';
import type { Findings } from './findings.js';
import type { Group } from './group.js';
import { guard, guardSync } from './guard.js';
import { InFlight } from './in-flight.js';
import type { RawReader } from '../inspect/raw-reader.js';

/** Chains walked at a time: each waits for one block after the other. */
const CHAINS_IN_FLIGHT = 32;

interface AllocatorSpec {
  readonly inode: Block;
  readonly name: string;
  /** The global bitmap: its bits are clusters, its groups have no pieces. */
  readonly cluster: boolean;
  /** Every group found so far, with the allocator it is in. */
  readonly seen: Map<number, string>;
  /** Called with each group, in no particular order; keep what is needed of it. */
  readonly onGroup: (group: Group) => void;
}

/** No suballocator group of any block and cluster size is larger (Linux 6.1 fs/ocfs2/suballoc.c: one cluster, or 4 MiB). */
const MAX_GROUP_BYTES = 4 << 20;

/** Check one allocator. */
export async function checkAllocator(reader: RawReader, findings: Findings, spec: AllocatorSpec): Promise<void> {
  const { inode, name, cluster } = spec;
  const { geo } = reader;
  const di = Dinode.at(inode), id1 = BitmapId1.at(inode), chains = new ChainList(inode);
  const bad = (code: string, text: string, block = inode.blkno) => findings.error(code, `${name}: ${text}`, block);
  if (!(di.flags & FL.CHAIN)) throw badField(inode, 'dinode', 'i_flags', di.flags, `is no chain allocator (${name})`);
  const bpc = cluster ? 1 : geo.bpc;
  if (cluster ? chains.cpg !== geo.clustersPerGroup : chains.cpg * geo.clusterSize > MAX_GROUP_BYTES) bad('CHAIN_CPG', `cl_cpg is ${chains.cpg}${cluster ? `, should be ${geo.clustersPerGroup}` : ''}`);
  if (chains.bpc !== bpc) bad('CHAIN_CPG', `cl_bpc is ${chains.bpc}, should be ${bpc}`);
  const sums: { total: number; free: number }[] = [];
  const walks = new InFlight(CHAINS_IN_FLIGHT);
  const parts = Array.from({ length: chains.nextFree }, () => findings.part());
  for (let c = 0; c < chains.nextFree; c++) {
    await walks.add(async () => {
      sums[c] = await walkChain(reader, parts[c], spec, chains, c);
    });
  }
  await walks.done();
  let total = 0, free = 0;
  for (const [c, sum] of sums.entries()) {
    findings.take(parts[c]);
    if (chains.total(c) !== sum.total || chains.free(c) !== sum.free) {
      bad('CHAIN_BITS', `chain ${c} counts ${chains.free(c)} of ${chains.total(c)} bits free, its groups have ${sum.free} of ${sum.total}`);
    }
    total += sum.total;
    free += sum.free;
  }
  if (id1.total !== total || id1.used !== total - free) bad('CHAIN_GROUP_BITS', `counts ${id1.used} of ${id1.total} bits used, its chains have ${total - free} of ${total}`);
  const clusters = cluster ? geo.totalClusters : total / bpc;
  if (di.clusters !== clusters) bad('CHAIN_I_CLUSTERS', `i_clusters is ${di.clusters}, its groups cover ${clusters}`);
  if (di.size !== di.clusters * geo.clusterSize) bad('CHAIN_I_SIZE', `i_size is ${di.size}, should be ${di.clusters * geo.clusterSize}`);
}

async function walkChain(reader: RawReader, findings: Findings, spec: AllocatorSpec, chains: ChainList, c: number): Promise<{ total: number; free: number }> {
  const { inode, name, cluster, seen, onGroup } = spec;
  const { geo } = reader;
  const bad = (code: string, text: string, block = inode.blkno) => findings.error(code, `${name}: ${text}`, block);
  let total = 0, free = 0, at = 0;
  try {
    at = chains.blkno(c);
  } catch (error) {
    bad('CHAIN_HEAD_LINK_RANGE', (error as Error).message);
    return { total, free };
  }
  if (at === 0) bad('CHAIN_EMPTY', `chain ${c} is empty before the end of the list`);
  for (let first = true; at !== 0; first = false) {
    const rangeCode = first ? 'CHAIN_HEAD_LINK_RANGE' : 'CHAIN_LINK_RANGE';
    if (at <= 2 || at >= geo.totalBlocks) {
      bad(rangeCode, `chain ${c} points to block ${at}, outside the volume`);
      break;
    }
    const other = seen.get(at);
    if (other !== undefined) {
      // A loop comes back to a group of its own chain.
      if (other === `${name} chain ${c}`) bad('GROUP_CHAIN_LOOP', `chain ${c} loops at block ${at}`, at);
      else bad('GROUP_DUPLICATE', `group ${at} is also in ${other}`, at);
      break;
    }
    seen.set(at, `${name} chain ${c}`);
    const here = at;
    const group = await guard(findings, 'CHAIN_LINK_MAGIC', `${name}: chain ${c}`, async () => {
      const block = await reader.read(here, GROUP_DESC);
      return { block, gd: GroupDesc.at(block), next: GroupDesc.at(block).nextGroup, parent: GroupDesc.at(block).parentDinode };
    });
    if (group === undefined) break;
    const { block, gd } = group;
    if (group.parent !== inode.blkno) bad('GROUP_PARENT', `group ${at} says its allocator is ${group.parent}`, at);
    if (gd.chain !== c) bad('GROUP_CHAIN', `group ${at} of chain ${c} says it is in chain ${gd.chain}`, at);
    const most = chains.cpg * chains.bpc;
    if (gd.bits > most) bad('GROUP_FREE_BITS', `group ${at} has ${gd.bits} bits, at most ${most} allowed`, at);
    const room = geo.blockSize - GROUP_BITMAP;
    if (gd.size !== room && (cluster || !geo.discontigBg || gd.size !== DISCONTIG_BITMAP_SIZE)) bad('GROUP_SIZE', `group ${at} says its bitmap has ${gd.size} bytes, it has ${room}`, at);
    const used = bits.count(block.bytes, GROUP_BITMAP, gd.bits);
    if (gd.freeBits !== gd.bits - used) bad('GROUP_FREE_BITS', `group ${at} counts ${gd.freeBits} free bits, its bitmap has ${gd.bits - used}`, at);
    if (!bits.test(block.bytes, GROUP_BITMAP, 0)) bad('GROUP_FREE_BITS', `group ${at}: the bit of the descriptor itself is free`, at);
    const pieces = cluster ? [] : (guardSync(findings, 'DISCONTIG_BG_LIST_CORRUPT', `${name}: group ${at}`, () => piecesOf(block, chains, geo, bad)) ?? []);
    const bitmap = block.bytes.slice(GROUP_BITMAP, GROUP_BITMAP + Math.ceil(gd.bits / 8));
    onGroup({ blkno: at, bits: Math.min(gd.bits, most), bitmap, pieces });
    total += gd.bits;
    free += gd.freeBits;
    at = group.next;
  }
  return { total, free };
}

function piecesOf(block: Block, chains: ChainList, geo: Geometry, bad: (code: string, text: string, block?: number) => void): Group['pieces'] {
  const gd = GroupDesc.at(block);
  const { blkno } = block;
  const list = new ExtentList(block, GROUP_LIST);
  const inside = (start: number, count: number): boolean => start > 2 && start + count <= geo.totalBlocks;
  if (gd.size !== DISCONTIG_BITMAP_SIZE || !geo.discontigBg || list.nextFree === 0) {
    const count = Math.min(gd.bits, chains.cpg * geo.bpc, geo.totalBlocks - blkno);
    if (count < gd.bits) bad('GROUP_FREE_BITS', `group ${blkno} has ${gd.bits} bits, there is room for ${count}`, blkno);
    return [{ bit: 0, bits: count, blkno }];
  }
  if (list.depth !== 0) bad('DISCONTIG_BG_DEPTH', `group ${blkno} has a list of depth ${list.depth}`, blkno);
  if (list.count !== capacity.groupList(geo.blockSize)) bad('DISCONTIG_BG_COUNT', `group ${blkno} has a list for ${list.count} records, should be ${capacity.groupList(geo.blockSize)}`, blkno);
  if (list.nextFree > capacity.groupList(geo.blockSize)) {
    bad('DISCONTIG_BG_NEXT_FREE_REC', `group ${blkno} has ${list.nextFree} of ${list.count} records`, blkno);
    return [];
  }
  const pieces: { bit: number; bits: number; blkno: number }[] = [];
  let sum = 0;
  for (let i = 0; i < list.nextFree; i++) {
    const piece = { bit: list.cpos(i) * geo.bpc, bits: list.clusters(i) * geo.bpc, blkno: list.blkno(i) };
    if (list.cpos(i) !== sum || piece.bits === 0) bad('DISCONTIG_BG_REC_CORRUPT', `group ${blkno}: record ${i} covers ${list.clusters(i)} clusters from ${list.cpos(i)}, should begin at ${sum}`, blkno);
    else if (!inside(piece.blkno, piece.bits)) bad('DISCONTIG_BG_REC_RANGE', `group ${blkno}: record ${i} lies in blocks ${piece.blkno}..${piece.blkno + piece.bits - 1}, outside the volume`, blkno);
    else if (piece.bit + piece.bits <= gd.bits) pieces.push(piece);
    sum += list.clusters(i);
  }
  if (sum * geo.bpc !== gd.bits) bad(sum * geo.bpc > gd.bits ? 'DISCONTIG_BG_CLUSTERS' : 'DISCONTIG_BG_LESS_CLUSTERS', `group ${blkno} has ${sum} clusters, its bitmap is for ${gd.bits / geo.bpc}`, blkno);
  return pieces;
}

/** The global bitmap's groups must sit exactly where the geometry says. */
export function checkBitmapPlaces(reader: RawReader, findings: Findings, groups: readonly { readonly blkno: number; readonly bits: number }[]): void {
  const { geo } = reader;
  const expected = new Map<number, number>();
  for (let g = 0; g * geo.clustersPerGroup < geo.totalClusters; g++) {
    expected.set(g === 0 ? geo.firstClusterGroup : g * geo.clustersPerGroup * geo.bpc, Math.min(geo.clustersPerGroup, geo.totalClusters - g * geo.clustersPerGroup));
  }
  for (const group of groups) {
    const want = expected.get(group.blkno);
    if (want === undefined) findings.error('GROUP_UNEXPECTED_DESC', `global_bitmap: no group belongs at block ${group.blkno}`, group.blkno);
    else if (group.bits !== want) findings.error('GROUP_FREE_BITS', `global_bitmap: group ${group.blkno} has ${group.bits} bits, should have ${want}`, group.blkno);
    expected.delete(group.blkno);
  }
  for (const blkno of expected.keys()) findings.error('GROUP_EXPECTED_DESC', `global_bitmap: the group at block ${blkno} is in no chain`, blkno);
}

/** First cluster of each group of a suballocator and how many, for claiming. */
export function groupClusters(reader: RawReader, group: Group): { start: number; count: number }[] {
  return group.pieces.map((p) => ({ start: blockToCluster(reader.geo, p.blkno), count: Math.ceil(p.bits / reader.geo.bpc) }));
}

