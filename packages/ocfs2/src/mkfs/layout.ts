/**
 * All metadata of a fresh volume, laid out in memory in the order of mkfs.ocfs2 1.8.7, so that both tools make the same
 * bytes from the same options (ondisk-format.md 1.2; ocfs2-tools mkfs.ocfs2/mkfs.c:main, finish_normal_format).
 *
 * The result is what to write and what to zero; nothing here does I/O. The superblock and its copies are apart: they
 * are written last.
 */
import { UsageError } from '@lunfs/device';
import {
  BACKUP_SUPER_OFFSETS, BitmapId1, bits, Block, capacity, ChainList, DIR_TRAILER_SIZE, Dinode, type DinodeView, DirTrailer, DISCONTIG_BITMAP_SIZE, DYN,
  ExtentList, FL, FT, GROUP_BITMAP, GroupDesc, ID2, INCOMPAT, INLINE_DATA_START, InlineData, INVALID_SLOT, Jbd2Super, JBD2_BLOCK, JBD2_INCOMPAT, JBD2_MAGIC,
  GlobalDquot, GlobalQuotaInfo, LOCAL_QUOTA_CLEAN, LocalAlloc, LocalQuotaInfo, MODE, QUOTA_DEFAULTS, QUOTA_MAGIC, QUOTA_ROOT, QuotaLeaf, type QuotaType, quotaLayout, quotaTypes, SIG, slotFileName, stampCheck, STACK_GLOBAL_HEARTBEAT, SUPER_BLOCK_BLKNO, SuperBlock, SYSTEM_FILES, TruncateLog, uuidHash,
} from '../format/index.js';
import { ClusterMap } from './cluster-map.js';
import type { VolumePlan } from './plan.js';

/** What is random or time in a volume. */
export interface VolumeSeed {
  readonly generation: number;
  readonly uuid: Uint8Array;
  readonly dxSeed: readonly [number, number, number];
  /** Format time, seconds. */
  readonly time: number;
}

export interface BlockRange {
  readonly blkno: number;
  readonly count: number;
}

export interface Layout {
  readonly plan: VolumePlan;
  /** Metadata blocks by number, checksums in place; without cluster groups and superblocks. */
  readonly blocks: ReadonlyMap<number, Uint8Array>;
  /** Ranges that must read zero; written before the blocks, which may lie in them. */
  readonly zeroes: readonly BlockRange[];
  /** The two blocks before the superblock: a volume that OCFS version 1 does not take for its own. */
  readonly lead: Uint8Array;
  /** The superblock and its copies, by block. */
  readonly superBlocks: ReadonlyMap<number, Uint8Array>;
  /** The descriptor of a cluster group. */
  group(index: number): { blkno: number; bytes: Uint8Array };
}

const HEARTBEAT_BLOCKS = 256;
/** mkfs.ocfs2 sizes the system directory for names of this length. */
const SYSTEM_NAME_ROOM = 40;
const XATTR_INLINE_SIZE = 256;
const LEAD_TEXT = 'this is an ocfs2 volume';

type SystemKind = 'plain' | 'chain' | 'bitmap' | 'heartbeat' | 'journal' | 'localAlloc' | 'truncateLog' | 'orphanDir' | 'quota';

/** System files in the order of their inodes; `perSlot` ones once per slot. */
const SYSTEM_ORDER: readonly { readonly name: keyof typeof SYSTEM_FILES; readonly kind: SystemKind; readonly perSlot: boolean; readonly quota?: QuotaType }[] = [
  { name: 'badBlocks', kind: 'plain', perSlot: false }, { name: 'globalInodeAlloc', kind: 'chain', perSlot: false },
  { name: 'slotMap', kind: 'plain', perSlot: false }, { name: 'heartbeat', kind: 'heartbeat', perSlot: false },
  { name: 'globalBitmap', kind: 'bitmap', perSlot: false }, { name: 'userQuota', kind: 'quota', perSlot: false, quota: 'user' },
  { name: 'groupQuota', kind: 'quota', perSlot: false, quota: 'group' }, { name: 'orphanDir', kind: 'orphanDir', perSlot: true },
  { name: 'extentAlloc', kind: 'chain', perSlot: true }, { name: 'inodeAlloc', kind: 'chain', perSlot: true },
  { name: 'journal', kind: 'journal', perSlot: true }, { name: 'localAlloc', kind: 'localAlloc', perSlot: true },
  { name: 'truncateLog', kind: 'truncateLog', perSlot: true }, { name: 'localUserQuota', kind: 'quota', perSlot: true, quota: 'user' },
  { name: 'localGroupQuota', kind: 'quota', perSlot: true, quota: 'group' },
];
const KIND_FLAGS: Record<SystemKind, number> = {
  plain: 0, chain: FL.BITMAP | FL.CHAIN, bitmap: FL.BITMAP | FL.CHAIN, heartbeat: FL.HEARTBEAT, journal: FL.JOURNAL,
  localAlloc: FL.BITMAP | FL.LOCAL_ALLOC, truncateLog: FL.DEALLOC, orphanDir: 0, quota: FL.QUOTA,
};

interface Entry {
  readonly name: string;
  readonly inode: number;
  readonly type: number;
}

const recLen = (nameLength: number) => (nameLength + 12 + 3) & ~3;

/** Room in the first inode group, in blocks: superblock, root, system directory, lost+found and system files of at least 32 slots, quota files included. */
const systemGroupBlocks = (slots: number) => 6 + 7 + 8 * Math.max(32, slots);

class Builder {
  readonly blocks = new Map<number, Uint8Array>();
  readonly zeroes: BlockRange[] = [];
  readonly map: ClusterMap;
  readonly #checkAt = new Map<number, number>();
  readonly inlineDirs: boolean;
  readonly trailers: boolean;
  /** Used bits of the first inode group. */
  #inodes = 1;
  systemGroup = 0;
  systemGroupBits = 0;

  constructor(readonly plan: VolumePlan, readonly seed: VolumeSeed) {
    this.map = new ClusterMap(plan);
    const { incompat } = plan.features;
    this.inlineDirs = (incompat & INCOMPAT.INLINE_DATA) !== 0;
    this.trailers = (incompat & (INCOMPAT.META_ECC | INCOMPAT.INDEXED_DIRS)) !== 0;
  }

  get metaecc(): boolean {
    return (this.plan.features.incompat & INCOMPAT.META_ECC) !== 0;
  }

  /** A fresh block of zeros; `checkAt`: where its checksum goes. */
  block(blkno: number, checkAt = -1): Block {
    const bytes = new Uint8Array(this.plan.blockSize);
    this.blocks.set(blkno, bytes);
    if (checkAt >= 0) this.#checkAt.set(blkno, checkAt);
    return new Block('new volume', blkno, bytes);
  }

  seal(): void {
    if (this.metaecc) for (const [blkno, at] of this.#checkAt) stampCheck(this.blocks.get(blkno)!, at);
  }

  /** Contiguous clusters; their first block. */
  clusters(count: number): number {
    return this.map.claim(count, count).start * this.plan.bpc;
  }

  clustersFor(bytes: number): number {
    return Math.ceil(bytes / this.plan.clusterSize);
  }

  zero(blkno: number, count: number): void {
    this.zeroes.push({ blkno, count });
  }

  /** Take the next inode of the system group. */
  systemInode(): { blkno: number; bit: number } {
    const bit = this.#inodes++;
    return { blkno: this.systemGroup + bit, bit };
  }

  get systemGroupUsed(): number {
    return this.#inodes;
  }

  /** Common fields of a dinode. */
  dinode(blkno: number, bit: number, mode: number, flags: number): DinodeView {
    const di = Dinode.at(this.block(blkno, 0x80));
    const { generation, time } = this.seed;
    Object.assign(di, {
      signature: SIG.dinode, generation, fsGeneration: generation, suballocSlot: INVALID_SLOT, suballocBit: bit, blkno, mode, flags,
      links: 1, atime: time, ctime: time, mtime: time,
    });
    return di;
  }

  extentList(di: DinodeView): ExtentList {
    const list = new ExtentList(di.block, ID2);
    list.count = capacity.dinodeExtents(this.plan.blockSize);
    return list;
  }

  /** Give an inode one extent from cluster 0. */
  singleExtent(di: DinodeView, blkno: number, clusters: number): void {
    const list = this.extentList(di);
    list.nextFree = 1;
    list.setLeaf(0, 0, clusters, blkno, 0);
    di.clusters = clusters;
  }

  /** Add one cluster to a file; its first block. */
  append(di: DinodeView): number {
    const list = new ExtentList(di.block, ID2);
    const { start } = this.map.claim(1, 1);
    const blkno = start * this.plan.bpc, last = list.nextFree - 1;
    if (last >= 0 && list.blkno(last) + list.clusters(last) * this.plan.bpc === blkno) list.setLeaf(last, list.cpos(last), list.clusters(last) + 1, list.blkno(last), 0);
    else {
      list.setLeaf(last + 1, di.clusters, 1, blkno, 0);
      list.nextFree = last + 2;
    }
    di.clusters += 1;
    return blkno;
  }

  /** Allocate `clusters` to an empty file in as few runs as there are. */
  extend(di: DinodeView, clusters: number): void {
    const list = new ExtentList(di.block, ID2);
    for (let cpos = 0; cpos < clusters; ) {
      const { start, len } = this.map.claim(clusters - cpos, 1);
      const i = list.nextFree;
      if (i === list.count) {
        throw new UsageError('MKFS_JOURNAL_SIZE', 'EINVAL', `a file of ${clusters} clusters has more than ${list.count} extents with blocks of ${this.plan.blockSize} bytes; choose larger blocks or a smaller journal`);
      }
      list.setLeaf(i, cpos, len, start * this.plan.bpc, 0);
      list.nextFree = i + 1;
      cpos += len;
    }
    di.clusters = clusters;
    di.size = clusters * this.plan.clusterSize;
  }

  /** Write entries into areas of `area` bytes each (of which `usable` hold entries); number of areas used. */
  fillDirents(entries: readonly Entry[], usable: number, areaAt: (index: number) => { dv: DataView; at: number }): number {
    let index = 0, { dv, at } = areaAt(0);
    let offset = 0, last = -1;
    for (const { name, inode, type } of entries) {
      const length = recLen(name.length);
      if (usable - offset < length) {
        ({ dv, at } = areaAt(++index));
        offset = 0;
        last = -1;
      }
      // The last entry of an area owns the rest of it.
      if (last >= 0) dv.setUint16(at + last + 8, offset - last, true);
      const base = at + offset;
      dv.setUint32(base, inode % 2 ** 32, true);
      dv.setUint32(base + 4, Math.floor(inode / 2 ** 32), true);
      dv.setUint16(base + 8, usable - offset, true);
      dv.setUint8(base + 10, name.length);
      dv.setUint8(base + 11, type);
      for (let i = 0; i < name.length; i++) dv.setUint8(base + 12 + i, name.charCodeAt(i));
      last = offset;
      offset += length;
    }
    return index + 1;
  }

  /** Make `di` a directory of these entries: inline, or in the blocks from `firstBlock` on (`clusters` are its own). */
  directory(di: DinodeView, entries: readonly Entry[], extent?: { readonly blkno: number; readonly clusters: number }): void {
    const { blockSize } = this.plan;
    di.links = entries.filter((e) => e.type === FT.DIR).length;
    if (extent === undefined) {
      const room = capacity.inlineData(blockSize);
      di.dynFeatures = DYN.INLINE_DATA;
      di.size = room;
      InlineData.at(di.block).idCount = room;
      this.fillDirents(entries, room, () => ({ dv: di.block.dv, at: INLINE_DATA_START }));
      return;
    }
    this.singleExtent(di, extent.blkno, extent.clusters);
    const usable = this.trailers ? blockSize - DIR_TRAILER_SIZE : blockSize;
    const used = this.fillDirents(entries, usable, (index) => {
      const block = this.block(extent.blkno + index, this.trailers ? usable + 0x38 : -1);
      if (this.trailers) {
        const trailer = DirTrailer.at(block, usable);
        Object.assign(trailer, { compatRecLen: DIR_TRAILER_SIZE, signature: SIG.dirTrailer, blkno: block.blkno, parentDinode: di.blkno });
      }
      return { dv: block.dv, at: 0 };
    });
    di.size = used * blockSize;
  }

  /** A descriptor whose bitmap has its first bit set. */
  descriptor(block: Block, parent: number, bitCount: number, size: number, chain: number): void {
    const gd = GroupDesc.at(block);
    Object.assign(gd, { signature: SIG.group, size, bits: bitCount, freeBits: bitCount - 1, chain, generation: this.seed.generation, parentDinode: parent, blkno: block.blkno });
    bits.set(block.bytes, GROUP_BITMAP, 0);
  }

  chainList(di: DinodeView, cpg: number, bpc: number): ChainList {
    const list = new ChainList(di.block);
    list.count = capacity.chains(this.plan.blockSize);
    list.cpg = cpg;
    list.bpc = bpc;
    return list;
  }

  /** Add a group to a suballocator; its descriptor's block. (ocfs2-tools libocfs2/chainalloc.c:ocfs2_chain_add_group.) */
  addGroup(di: DinodeView): number {
    const { blockSize, features } = this.plan;
    const list = new ChainList(di.block);
    const blkno = this.clusters(list.cpg);
    const chain = list.nextFree < list.count ? list.nextFree : (di.clusters / list.cpg) % list.count;
    const bitCount = list.cpg * list.bpc;
    const block = this.block(blkno, 0x30);
    this.descriptor(block, di.blkno, bitCount, features.incompat & INCOMPAT.DISCONTIG_BG ? DISCONTIG_BITMAP_SIZE : blockSize - GROUP_BITMAP, chain);
    GroupDesc.at(block).nextGroup = list.blkno(chain);
    list.setFree(chain, list.free(chain) + bitCount - 1);
    list.setTotal(chain, list.total(chain) + bitCount);
    list.setBlkno(chain, blkno);
    if (chain === list.nextFree) list.nextFree = chain + 1;
    const id1 = BitmapId1.at(di.block);
    id1.used += 1;
    id1.total += bitCount;
    di.clusters += list.cpg;
    di.size = di.clusters * this.plan.clusterSize;
    return blkno;
  }
}

/** Lay a volume out. Throws UsageError MKFS_TOO_SMALL when the system files do not fit. */
export function layOut(plan: VolumePlan, seed: VolumeSeed): Layout {
  const b = new Builder(plan, seed);
  const { blockSize, bpc, slots } = plan;

  // Inodes of the system, and the first clusters, in the order of mkfs.ocfs2.
  const groupClusters = b.clustersFor(systemGroupBlocks(slots) * blockSize);
  b.systemGroup = b.clusters(groupClusters);
  b.systemGroupBits = groupClusters * bpc;
  const directoryClusters = (count: number) => (b.inlineDirs && count === 0 ? undefined : { blkno: b.clusters(Math.max(1, count)), clusters: Math.max(1, count) });
  const rootExtent = directoryClusters(0);
  const root = b.systemInode();
  const names = 7 + 8 * slots;
  const systemInline = b.inlineDirs && recLen(SYSTEM_NAME_ROOM) * names <= capacity.inlineData(blockSize);
  const systemBlocks = Math.ceil(names / Math.floor(blockSize / recLen(SYSTEM_NAME_ROOM)));
  const systemExtent = systemInline ? undefined : directoryClusters(b.clustersFor(systemBlocks * blockSize));
  const system = b.systemInode();
  const quotas = quotaTypes(plan.features);
  const files = SYSTEM_ORDER.filter(({ quota }) => quota === undefined || quotas.includes(quota)).flatMap(({ name, kind, perSlot }) => Array.from({ length: perSlot ? slots : 1 }, (_, slot) => ({
    kind, slot, key: name, text: perSlot ? `${SYSTEM_FILES[name]}:${String(slot).padStart(4, '0')}` : SYSTEM_FILES[name], ...b.systemInode(),
  })));
  const heartbeat = { blkno: 0, clusters: b.clustersFor(HEARTBEAT_BLOCKS * blockSize) };
  heartbeat.blkno = b.clusters(heartbeat.clusters);
  b.zero(heartbeat.blkno, heartbeat.clusters * bpc);
  const flags = FL.VALID | FL.SYSTEM;

  const rootDi = b.dinode(root.blkno, root.bit, MODE.DIR | 0o755, flags);
  const systemDi = b.dinode(system.blkno, system.bit, MODE.DIR | 0o755, flags);
  const dots = (self: number, parent: number): Entry[] => [{ name: '.', inode: self, type: FT.DIR }, { name: '..', inode: parent, type: FT.DIR }];
  if (systemExtent !== undefined) b.zero(systemExtent.blkno, systemExtent.clusters * bpc);
  b.directory(systemDi, [...dots(system.blkno, system.blkno), ...files.map((f) => ({ name: f.text, inode: f.blkno, type: f.kind === 'orphanDir' ? FT.DIR : FT.REG }))], systemExtent);

  const dis = new Map<string, DinodeView>();
  for (const { kind, blkno, bit, text } of files) {
    const di = b.dinode(blkno, bit, kind === 'orphanDir' ? MODE.DIR | 0o755 : MODE.REG | 0o644, flags | KIND_FLAGS[kind]);
    dis.set(text, di);
    switch (kind) {
      case 'plain': case 'journal': case 'quota': b.extentList(di); break;
      case 'heartbeat':
        b.singleExtent(di, heartbeat.blkno, heartbeat.clusters);
        di.size = HEARTBEAT_BLOCKS * blockSize;
        break;
      case 'localAlloc': LocalAlloc.at(di.block).size = capacity.localAllocBytes(blockSize); break;
      case 'truncateLog': TruncateLog.at(di.block).count = capacity.truncateRecs(blockSize); break;
      case 'chain': b.chainList(di, plan.suballocCpg, bpc); break;
      case 'bitmap': b.chainList(di, (blockSize - GROUP_BITMAP) * 8, 1); break;
      case 'orphanDir': {
        const extent = directoryClusters(0);
        if (extent !== undefined) b.zero(extent.blkno, bpc);
        b.directory(di, dots(blkno, system.blkno), extent);
      }
    }
  }
  const perSlot = (name: 'journal' | 'extentAlloc' | 'inodeAlloc') => Array.from({ length: slots }, (_, slot) => dis.get(`${SYSTEM_FILES[name]}:${String(slot).padStart(4, '0')}`)!);

  // The inode group of the system: all its bits are known now.
  const globalInodeAlloc = dis.get(SYSTEM_FILES.globalInodeAlloc)!;
  const group = b.block(b.systemGroup, 0x30);
  b.descriptor(group, globalInodeAlloc.blkno, b.systemGroupBits, blockSize - GROUP_BITMAP, 0);
  for (let bit = 0; bit < b.systemGroupUsed; bit++) bits.set(group.bytes, GROUP_BITMAP, bit);
  const groupFree = b.systemGroupBits - b.systemGroupUsed;
  GroupDesc.at(group).freeBits = groupFree;
  const giaList = new ChainList(globalInodeAlloc.block);
  giaList.cpg = groupClusters;
  giaList.nextFree = 1;
  giaList.setFree(0, groupFree);
  giaList.setTotal(0, b.systemGroupBits);
  giaList.setBlkno(0, b.systemGroup);
  Object.assign(BitmapId1.at(globalInodeAlloc.block), { used: b.systemGroupUsed, total: b.systemGroupBits });
  globalInodeAlloc.clusters = groupClusters;
  globalInodeAlloc.size = groupClusters * plan.clusterSize;

  // What mkfs.ocfs2 does through its library once a volume is there.
  const backups = plan.backups ? BACKUP_SUPER_OFFSETS.map((at) => at / blockSize).filter((blkno) => blkno < plan.blocks) : [];
  for (const blkno of backups) {
    const cluster = Math.floor(blkno / bpc);
    b.map.take(cluster);
    b.zero(cluster * bpc, bpc);
  }
  for (const di of perSlot('journal')) {
    b.extend(di, plan.journalSize / plan.clusterSize);
    const list = new ExtentList(di.block, ID2);
    for (let i = 0; i < list.nextFree; i++) b.zero(list.blkno(i), list.clusters(i) * bpc);
    journalSuper(b, list.blkno(0), di.clusters * bpc);
  }
  for (const di of perSlot('extentAlloc')) for (let n = 0; n < plan.extentAllocClusters; n += plan.suballocCpg) b.addGroup(di);
  slotMap(b, dis.get(SYSTEM_FILES.slotMap)!);
  quotaFiles(b, quotas, dis, rootDi.clusters);
  const lostFound = lostAndFound(b, perSlot('inodeAlloc')[0], root.blkno);
  if (rootExtent !== undefined) b.zero(rootExtent.blkno, bpc);
  b.directory(rootDi, [...dots(root.blkno, root.blkno), { name: 'lost+found', inode: lostFound, type: FT.DIR }], rootExtent);

  // The global bitmap, last: everything is allocated.
  const bitmapDi = dis.get(SYSTEM_FILES.globalBitmap)!;
  globalBitmap(b, bitmapDi);
  b.seal();
  const superBlocks = new Map<number, Uint8Array>();
  for (const blkno of [SUPER_BLOCK_BLKNO, ...backups]) superBlocks.set(blkno, superBlock(b, blkno, root.blkno, system.blkno));
  return { plan, blocks: b.blocks, zeroes: b.zeroes, lead: leadBlocks(blockSize), superBlocks, group: (index) => clusterGroup(b, bitmapDi.blkno, index) };
}

/** (ocfs2-tools libocfs2/mkjournal.c:ocfs2_init_journal_superblock.) */
function journalSuper(b: Builder, blkno: number, blocks: number): void {
  const { blockSize, journal64 } = b.plan;
  Object.assign(Jbd2Super.at(b.block(blkno)), {
    magic: JBD2_MAGIC, blocktype: JBD2_BLOCK.superV2, blockSize, maxLen: blocks, first: blockSize === 512 ? 2 : 1, sequence: 1, start: 1, nrUsers: 1,
    featureIncompat: journal64 ? JBD2_INCOMPAT.BIT64 : 0, uuid: b.seed.uuid,
  });
}

/** Empty slots: zero in the extended form, 0xffff in the old one; the map covers its whole allocation. */
function slotMap(b: Builder, di: DinodeView): void {
  const extended = (b.plan.features.incompat & INCOMPAT.EXTENDED_SLOT_MAP) !== 0;
  const clusters = b.clustersFor(b.plan.slots * (extended ? 8 : 2));
  b.extend(di, clusters);
  const blkno = new ExtentList(di.block, ID2).blkno(0);
  if (extended) b.zero(blkno, clusters * b.plan.bpc);
  else for (let i = 0; i < clusters * b.plan.bpc; i++) b.block(blkno + i).bytes.fill(0xff);
}

/** Blocks of a quota file, by their number in it; the file grows with them. */
class QuotaWriter {
  readonly #blocks: Block[] = [];
  constructor(private readonly b: Builder, private readonly di: DinodeView) {}

  add(): Block {
    const { bpc, blockSize } = this.b.plan;
    const index = this.#blocks.length;
    if (index === this.di.clusters * bpc) this.b.append(this.di);
    const list = new ExtentList(this.di.block, ID2);
    let place = 0;
    for (let i = 0; i < list.nextFree; i++) {
      const from = list.cpos(i) * bpc;
      if (index >= from && index < from + list.clusters(i) * bpc) place = list.blkno(i) + index - from;
    }
    this.di.size = (index + 1) * blockSize;
    const block = this.b.block(place, blockSize - 8);
    this.#blocks.push(block);
    return block;
  }
}

/** Quota files of each kind: empty local ones, a global one with what the root user and group use so far, the root directory (mkfs.c:format_quota_files). */
function quotaFiles(b: Builder, types: readonly QuotaType[], dis: ReadonlyMap<string, DinodeView>, rootClusters: number): void {
  const { blockSize, clusterSize, slots } = b.plan;
  const layout = quotaLayout(blockSize);
  const globals = types.map((type) => {
    const global = dis.get(SYSTEM_FILES[type === 'user' ? 'userQuota' : 'groupQuota'])!;
    b.extend(global, b.clustersFor(2 * blockSize));
    const writer = new QuotaWriter(b, global);
    const info = GlobalQuotaInfo.at(writer.add());
    Object.assign(info, { magic: QUOTA_MAGIC.global[type], ...QUOTA_DEFAULTS });
    const root = writer.add();
    for (let slot = 0; slot < slots; slot++) {
      const local = dis.get(slotFileName(type === 'user' ? 'localUserQuota' : 'localGroupQuota', slot))!;
      b.extend(local, b.clustersFor(2 * blockSize));
      const blocks = new QuotaWriter(b, local);
      Object.assign(LocalQuotaInfo.at(blocks.add()), { magic: QUOTA_MAGIC.local[type], flags: LOCAL_QUOTA_CLEAN, chunks: 1, blocks: 2 });
      blocks.add();
    }
    return { writer, info, root };
  });
  for (const { writer, info, root } of globals) {
    // Id 0 takes the first place of every block on the way to its leaf.
    let above = root;
    for (let index = QUOTA_ROOT + 1; index <= layout.depth + 1; index++) {
      const block = writer.add();
      above.dv.setUint32(0, index, true);
      above = block;
    }
    QuotaLeaf.at(above).entries = 1;
    Object.assign(GlobalDquot.at(above, QuotaLeaf.size), { space: rootClusters * clusterSize, inodes: 1 });
    Object.assign(info, { blocks: layout.depth + 2, freeEntry: layout.depth + 1 });
  }
}

/** The first inode of users: from slot 0's allocator, which gets its first group for it. */
function lostAndFound(b: Builder, inodeAlloc: DinodeView, root: number): number {
  const groupBlkno = b.addGroup(inodeAlloc);
  const blkno = groupBlkno + 1;
  const block = new Block('new volume', groupBlkno, b.blocks.get(groupBlkno)!);
  bits.set(block.bytes, GROUP_BITMAP, 1);
  GroupDesc.at(block).freeBits -= 1;
  const list = new ChainList(inodeAlloc.block);
  list.setFree(0, list.free(0) - 1);
  BitmapId1.at(inodeAlloc.block).used += 1;
  const di = b.dinode(blkno, 1, MODE.DIR | 0o755, FL.VALID);
  di.suballocSlot = 0;
  // mkfs.ocfs2 names the group here although it is contiguous; readers take either.
  di.suballocLoc = groupBlkno;
  const extent = b.inlineDirs ? undefined : { blkno: b.clusters(1), clusters: 1 };
  b.directory(di, [{ name: '.', inode: blkno, type: FT.DIR }, { name: '..', inode: root, type: FT.DIR }], extent);
  return blkno;
}

function globalBitmap(b: Builder, di: DinodeView): void {
  const { plan, map } = b;
  const list = new ChainList(di.block);
  let used = 0;
  for (let group = 0; group < plan.clusterGroups; group++) {
    const chain = group % list.count, total = map.bitsOf(group), taken = map.usedOf(group);
    if (group < list.count) list.setBlkno(chain, map.blockOf(group));
    list.setTotal(chain, list.total(chain) + total);
    list.setFree(chain, list.free(chain) + total - taken);
    used += taken;
  }
  list.nextFree = Math.min(list.count, plan.clusterGroups);
  Object.assign(BitmapId1.at(di.block), { used, total: plan.clusters });
  di.clusters = plan.clusters;
  di.size = plan.bytes;
}

function clusterGroup(b: Builder, parent: number, index: number): { blkno: number; bytes: Uint8Array } {
  const { plan, map } = b;
  const chains = capacity.chains(plan.blockSize);
  const blkno = map.blockOf(index), total = map.bitsOf(index);
  const block = new Block('new volume', blkno, new Uint8Array(plan.blockSize));
  b.descriptor(block, parent, total, plan.blockSize - GROUP_BITMAP, index % chains);
  const gd = GroupDesc.at(block);
  gd.freeBits = total - map.usedOf(index);
  gd.nextGroup = index + chains < plan.clusterGroups ? map.blockOf(index + chains) : 0;
  block.bytes.set(map.bitmapOf(index), GROUP_BITMAP);
  if (b.metaecc) stampCheck(block.bytes, 0x30);
  return { blkno, bytes: block.bytes };
}

function superBlock(b: Builder, blkno: number, root: number, system: number): Uint8Array {
  const { plan, seed } = b;
  const block = new Block('new volume', blkno, new Uint8Array(plan.blockSize));
  const { compat, incompat, roCompat } = plan.features;
  Object.assign(Dinode.at(block), {
    signature: SIG.superBlock, generation: seed.generation, fsGeneration: seed.generation, suballocSlot: INVALID_SLOT, suballocBit: 0xffff,
    flags: FL.VALID | FL.SYSTEM | FL.SUPER_BLOCK, clusters: plan.clusters, blkno, ctime: seed.time, mtime: seed.time,
  });
  const sb = SuperBlock.at(block);
  Object.assign(sb, {
    minorRev: 90, maxMntCount: 20, lastCheck: seed.time, featureCompat: compat, featureIncompat: incompat, featureRoCompat: roCompat,
    rootBlkno: root, systemDirBlkno: system, blockSizeBits: Math.log2(plan.blockSize), clusterSizeBits: Math.log2(plan.clusterSize), maxSlots: plan.slots,
    firstClusterGroup: b.map.blockOf(0), uuid: seed.uuid,
  });
  sb.label.set(Buffer.from(plan.label));
  if (plan.stack !== undefined) {
    Object.assign(sb, { stack: plan.stack.name, clusterName: plan.stack.cluster, stackFlags: plan.stack.globalHeartbeat ? STACK_GLOBAL_HEARTBEAT : 0 });
  }
  if (incompat & INCOMPAT.XATTR) sb.xattrInlineSize = XATTR_INLINE_SIZE;
  if (incompat & (INCOMPAT.XATTR | INCOMPAT.INDEXED_DIRS)) sb.uuidHash = uuidHash(seed.uuid);
  if (incompat & INCOMPAT.INDEXED_DIRS) [sb.dxSeed0, sb.dxSeed1, sb.dxSeed2] = seed.dxSeed;
  if (b.metaecc) stampCheck(block.bytes, 0x80);
  return block.bytes;
}

/** (ondisk-format.md 1.1.) */
function leadBlocks(blockSize: number): Uint8Array {
  const bytes = new Uint8Array(2 * blockSize).fill(2);
  for (const at of [8, 0x88, 512 + 0x30, 512 + 0x84]) bytes.set(Buffer.from(`${LEAD_TEXT}\0`), at);
  return bytes;
}
