/**
 * Pass 0: chain allocators (global bitmap, inode and extent allocators). Walks every chain, checks group descriptors
 * against their parent, sums, loops and duplicates, and hands each group's bitmap to the later passes.
 */
import { badField } from '../format/block.js';
import { FL } from '../format/constants.js';
import { blockToCluster } from '../format/geometry.js';
import { GROUP_DESC } from '../format/kinds.js';
import { ChainList, ExtentList, bits } from '../format/lists.js';
import { BitmapId1, Dinode, GROUP_BITMAP, GROUP_LIST, DISCONTIG_BITMAP_SIZE, GroupDesc } from '../format/structs.js';
import type { Block } from '../format/block.js';
import type { Findings } from './findings.js';
import type { RawReader } from '../inspect/raw-reader.js';

export interface Group {
  readonly block: Block;
  readonly blkno: number;
  readonly bits: number;
  /** Contiguous pieces in bit order: `bit` is the first bit, `blkno` its block. One piece unless discontiguous. */
  readonly pieces: readonly { bit: number; bits: number; blkno: number }[];
}

/** Block of a bit of a suballocator group, or -1. */
export function groupBlock(group: Group, bit: number): number {
  for (const p of group.pieces) if (bit >= p.bit && bit < p.bit + p.bits) return p.blkno + bit - p.bit;
  return -1;
}

/** Bit of a block in a group, or -1. */
export function groupBit(group: Group, blkno: number): number {
  for (const p of group.pieces) if (blkno >= p.blkno && blkno < p.blkno + p.bits) return p.bit + blkno - p.blkno;
  return -1;
}

export function groupBitSet(group: Group, bit: number): boolean {
  return bit < group.bits && bits.test(group.block.bytes, GROUP_BITMAP, bit);
}

/** Check one allocator; `cluster` tells the global bitmap from suballocators. Returns its readable groups. */
export async function checkAllocator(reader: RawReader, findings: Findings, inode: Block, name: string, cluster: boolean, seen: Map<number, string>): Promise<Group[]> {
  const { geo } = reader;
  const di = Dinode.at(inode), id1 = BitmapId1.at(inode), chains = new ChainList(inode);
  const groups: Group[] = [];
  const bad = (code: string, text: string, block = inode.blkno) => findings.error(code, `${name}: ${text}`, block);
  if (!(di.flags & FL.CHAIN)) throw badField(inode, 'dinode', 'i_flags', di.flags, `is no chain allocator (${name})`);
  if (cluster && chains.cpg > geo.clustersPerGroup) bad('CHAIN_CPG', `cl_cpg is ${chains.cpg}, a group has at most ${geo.clustersPerGroup}`);
  let total = 0, free = 0;
  for (let c = 0; c < chains.nextFree; c++) {
    let chainTotal = 0, chainFree = 0;
    let at = chains.blkno(c);
    if (at === 0) {
      bad('CHAIN_EMPTY', `chain ${c} is empty before the end of the list`);
      continue;
    }
    const visited = new Set<number>();
    for (let first = true; at !== 0; first = false) {
      const rangeCode = first ? 'CHAIN_HEAD_LINK_RANGE' : 'CHAIN_LINK_RANGE';
      if (at <= 2 || at >= geo.totalBlocks) {
        bad(rangeCode, `chain ${c} points to block ${at}, outside the volume`);
        break;
      }
      if (visited.has(at)) {
        bad('GROUP_CHAIN_LOOP', `chain ${c} loops at block ${at}`, at);
        break;
      }
      visited.add(at);
      const other = seen.get(at);
      if (other !== undefined) bad('GROUP_DUPLICATE', `group ${at} is also in ${other}`, at);
      seen.set(at, name);
      let block: Block;
      try {
        block = await reader.read(at, GROUP_DESC);
      } catch (error) {
        bad('CHAIN_LINK_MAGIC', `chain ${c}: ${(error as Error).message}`, at);
        break;
      }
      const gd = GroupDesc.at(block);
      if (gd.parentDinode !== inode.blkno) bad('GROUP_PARENT', `group ${at} says its allocator is ${gd.parentDinode}`, at);
      if (gd.chain !== c) bad('GROUP_CHAIN', `group ${at} of chain ${c} says it is in chain ${gd.chain}`, at);
      if (gd.bits > chains.cpg * chains.bpc) bad('GROUP_FREE_BITS', `group ${at} has ${gd.bits} bits, at most ${chains.cpg * chains.bpc} allowed`, at);
      const used = bits.count(block.bytes, GROUP_BITMAP, gd.bits);
      if (gd.freeBits !== gd.bits - used) bad('GROUP_FREE_BITS', `group ${at} counts ${gd.freeBits} free bits, its bitmap has ${gd.bits - used}`, at);
      groups.push({ block, blkno: at, bits: gd.bits, pieces: cluster ? [] : piecesOf(block, chains, geo.bpc, geo.blockSize, bad) });
      chainTotal += gd.bits;
      chainFree += gd.freeBits;
      at = gd.nextGroup;
    }
    if (chains.total(c) !== chainTotal || chains.free(c) !== chainFree) {
      bad('CHAIN_BITS', `chain ${c} counts ${chains.free(c)} of ${chains.total(c)} bits free, its groups have ${chainFree} of ${chainTotal}`);
    }
    total += chainTotal;
    free += chainFree;
  }
  if (id1.total !== total || id1.used !== total - free) bad('CHAIN_GROUP_BITS', `counts ${id1.used} of ${id1.total} bits used, its chains have ${total - free} of ${total}`);
  const clusters = cluster ? geo.totalClusters : total / chains.bpc;
  if (di.clusters !== clusters) bad('CHAIN_I_CLUSTERS', `i_clusters is ${di.clusters}, its groups cover ${clusters}`);
  if (di.size !== di.clusters * geo.clusterSize) bad('CHAIN_I_SIZE', `i_size is ${di.size}, should be ${di.clusters * geo.clusterSize}`);
  return groups;
}

function piecesOf(block: Block, chains: ChainList, bpc: number, blockSize: number, bad: (code: string, text: string, block?: number) => void): Group['pieces'] {
  const gd = GroupDesc.at(block);
  const list = new ExtentList(block, GROUP_LIST);
  if (gd.size !== DISCONTIG_BITMAP_SIZE || list.nextFree === 0) return [{ bit: 0, bits: gd.bits, blkno: block.blkno }];
  if (list.depth !== 0) bad('DISCONTIG_BG_DEPTH', `group ${block.blkno} has a list of depth ${list.depth}`, block.blkno);
  if (list.count !== (blockSize - 0x150) / 16 || list.nextFree > list.count) {
    bad('DISCONTIG_BG_COUNT', `group ${block.blkno} has ${list.nextFree} of ${list.count} records`, block.blkno);
    return [];
  }
  const pieces = [];
  let sum = 0;
  for (let i = 0; i < list.nextFree; i++) {
    pieces.push({ bit: list.cpos(i) * bpc, bits: list.clusters(i) * bpc, blkno: list.blkno(i) });
    sum += list.clusters(i);
  }
  if (sum !== chains.cpg) bad(sum > chains.cpg ? 'DISCONTIG_BG_CLUSTERS' : 'DISCONTIG_BG_LESS_CLUSTERS', `group ${block.blkno} has ${sum} clusters, should have ${chains.cpg}`, block.blkno);
  return pieces;
}

/** The global bitmap's groups must sit exactly where the geometry says. */
export function checkBitmapPlaces(reader: RawReader, findings: Findings, groups: readonly Group[]): void {
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

