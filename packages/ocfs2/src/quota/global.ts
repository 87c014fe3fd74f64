/**
 * The global quota file of one type in an operation: a radix tree of block references over the id, its leaves lists of
 * records (Linux 6.1 fs/quota/quota_tree.c). Blocks without content form a single list from free_blk, leaves with free
 * records a double one from free_entry. Blocks are taken in the kernel's order.
 *
 * Locks as the kernel nests them: the file's meta lock, then the quota info lock (quota_global.c, "locking dependencies").
 */
import { InternalError } from '@lunfs/device';
import { type Block, badField } from '../format/block.js';
import {
  GlobalDquot, type GlobalDquotView, GlobalQuotaInfo, QUOTA_ROOT, QUOTA_TYPES, QuotaLeaf, type QuotaLayout, checkQuotaHeader, isFreeRecord, quotaLayout, quotaTreeIndex,
} from '../format/quota.js';
import type { FsContext, QuotaFiles } from '../context.js';
import { type LockLevel, RANK, lockName } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import { QuotaFile } from './file.js';

export class GlobalQuota {
  readonly #file: QuotaFile;
  readonly #layout: QuotaLayout;

  /** `level` EX to change anything. */
  constructor(op: Op, ctx: FsContext, files: QuotaFiles, level: LockLevel) {
    this.#layout = quotaLayout(ctx.geo.blockSize);
    this.#file = new QuotaFile(op, ctx, files.global, level);
    const number = QUOTA_TYPES.indexOf(files.type);
    if (!ctx.geo.local) op.lock(lockName('Q', number, 0), level, RANK.quota + number / 2 + 0.25);
    const block = this.#file.read(0);
    checkQuotaHeader(block, 'global', files.type);
    const { blocks } = GlobalQuotaInfo.at(block);
    if (blocks <= QUOTA_ROOT || blocks > this.#file.blocks) throw badField(block, 'global_quota_info', 'dqi_blocks', blocks, `does not fit the file's ${this.#file.blocks}`);
  }

  get info(): Readonly<ReturnType<typeof GlobalQuotaInfo.at>> {
    return GlobalQuotaInfo.at(this.#file.read(0));
  }

  editInfo(): ReturnType<typeof GlobalQuotaInfo.at> {
    return GlobalQuotaInfo.at(this.#file.write(0));
  }

  /** The record of an id; not to be changed. */
  find(id: number): GlobalDquotView | undefined {
    const place = this.#find(id);
    return place && GlobalDquot.at(this.#file.read(place.leaf), place.at);
  }

  /** The record of an id, for change. */
  edit(id: number): GlobalDquotView | undefined {
    const place = this.#find(id);
    return place && GlobalDquot.at(this.#file.write(place.leaf), place.at);
  }

  /** A new record for an id that has none. It must not be left all zero. Throws NO_SPACE. */
  create(id: number): GlobalDquotView {
    let block = QUOTA_ROOT;
    const path = [block];
    for (let level = 0; level < this.#layout.depth - 1; level++) {
      let child = this.#child(block, id, level, path);
      if (child === 0) {
        child = this.#takeBlock();
        this.#setChild(block, id, level, child);
      }
      path.push((block = child));
    }
    const level = this.#layout.depth - 1;
    if (this.#child(block, id, level, path) !== 0) throw badField(this.#file.read(block), 'quota_tree', 'ref', id, 'leads to a leaf already, which has no record of it');
    const leaf = this.#leafWithRoom();
    this.#setChild(block, id, level, leaf);
    const bytes = this.#file.write(leaf);
    const at = this.#records().find((offset) => isFreeRecord(bytes, offset));
    if (at === undefined) throw badField(bytes, 'quota_leaf', 'dqdh_entries', QuotaLeaf.at(bytes).entries, 'says there is a free record, but there is none');
    const record = GlobalDquot.at(bytes, at);
    record.id = id;
    return record;
  }

  /** Have the free blocks that creating records of so many ids may take. Returns whether the file grew for it. Throws NO_SPACE. */
  reserve(ids: number): boolean {
    const wanted = ids * this.#layout.depth;
    let free = 0;
    for (let index = this.info.freeBlk; index !== 0 && free < wanted; free++) {
      const block = this.#file.read(this.#checked(this.#file.dinode, 'free list', index, QUOTA_ROOT + 1));
      index = this.#leaf(block).nextFree;
    }
    for (let n = free; n < wanted; n++) this.#giveBlock(this.#addBlock());
    return free < wanted;
  }

  /** Remove a record that `edit` or `create` gave, and the blocks that were there for it alone. */
  remove({ id, base }: GlobalDquotView): void {
    const path = this.#path(id);
    const leaf = path?.pop();
    if (path === undefined || leaf === undefined) throw new InternalError('QUOTA_RECORD', `quota record of id ${id} is removed but not in the tree`);
    this.#freeRecord(leaf, base);
    for (let level = this.#layout.depth - 1; level >= 0; level--) {
      const block = path[level];
      this.#setChild(block, id, level, 0);
      if (block === QUOTA_ROOT || this.#file.write(block).bytes.subarray(0, 4 * this.#layout.refs).some((byte) => byte !== 0)) return;
      this.#giveBlock(block);
    }
  }

  /**
   * Records from id `from` on in order of their ids, `limit` at most, and the id to go on with (undefined: that was all).
   * Level by level, so that the blocks of one are asked for together.
   */
  list(from: number, limit: number): { records: GlobalDquotView[]; next?: number } {
    const { refs, depth } = this.#layout;
    let nodes = [{ index: QUOTA_ROOT, id: 0 }];
    let next: number | undefined;
    for (let level = 0; level < depth; level++) {
      this.#file.prefetch(nodes.map(({ index }) => index));
      const step = refs ** (depth - 1 - level);
      const below: typeof nodes = [];
      for (const { index, id: base } of nodes) {
        const block = this.#file.read(index);
        for (let i = Math.max(0, Math.floor((from - base) / step)); i < refs; i++) {
          const child = block.dv.getUint32(4 * i, true), id = base + i * step;
          if (child === 0 || id > 0xffffffff || (next !== undefined && id >= next)) continue;
          if (below.length === limit) next = id;
          else below.push({ index: this.#checked(block, `ref[${i}]`, child, QUOTA_ROOT + 1), id });
        }
      }
      nodes = below;
    }
    this.#file.prefetch(nodes.map(({ index }) => index));
    return { records: nodes.map(({ index, id }) => GlobalDquot.at(this.#file.read(index), this.#recordAt(index, id))), next };
  }

  #find(id: number): { leaf: number; at: number } | undefined {
    const leaf = this.#path(id)?.pop();
    return leaf === undefined ? undefined : { leaf, at: this.#recordAt(leaf, id) };
  }

  /** Tree blocks from the root down to the leaf for an id. */
  #path(id: number): number[] | undefined {
    const path = [QUOTA_ROOT];
    for (let level = 0; level < this.#layout.depth; level++) {
      const child = this.#child(path[level], id, level, path);
      if (child === 0) return undefined;
      path.push(child);
    }
    return path;
  }

  /** Byte of the record of an id in the leaf that the tree names for it. */
  #recordAt(leaf: number, id: number): number {
    const block = this.#file.read(leaf);
    const at = this.#records().find((offset) => GlobalDquot.at(block, offset).id === id && !isFreeRecord(block, offset));
    if (at === undefined) throw badField(block, 'quota_leaf', 'dqb_id', id, 'is referred to but has no record here');
    return at;
  }

  #records(): number[] {
    return Array.from({ length: this.#layout.records }, (_, i) => QuotaLeaf.size + i * GlobalDquot.size);
  }

  /** A block number read from the file, checked. */
  #checked(block: Block, field: string, value: number, least: number): number {
    const { blocks } = this.info;
    if (value !== 0 && (value < least || value >= blocks)) throw badField(block, 'quota_tree', field, value, `is no block of the ${blocks} of the file`);
    return value;
  }

  #child(index: number, id: number, level: number, path: readonly number[]): number {
    const block = this.#file.read(index);
    const i = quotaTreeIndex(this.#layout, id, level);
    const child = this.#checked(block, `ref[${i}]`, block.dv.getUint32(4 * i, true), QUOTA_ROOT + 1);
    if (path.includes(child)) throw badField(block, 'quota_tree', `ref[${i}]`, child, 'leads in a circle');
    return child;
  }

  #setChild(index: number, id: number, level: number, child: number): void {
    this.#file.write(index).dv.setUint32(4 * quotaTreeIndex(this.#layout, id, level), child, true);
  }

  #leaf(block: Block): ReturnType<typeof QuotaLeaf.at> {
    const leaf = QuotaLeaf.at(block);
    this.#checked(block, 'dqdh_next_free', leaf.nextFree, QUOTA_ROOT + 1);
    this.#checked(block, 'dqdh_prev_free', leaf.prevFree, QUOTA_ROOT + 1);
    if (leaf.entries > this.#layout.records) throw badField(block, 'quota_leaf', 'dqdh_entries', leaf.entries, `exceeds ${this.#layout.records}`);
    return leaf;
  }

  /** A block of zeros (quota_tree.c:get_free_dqblk). */
  #takeBlock(): number {
    const info = this.editInfo();
    const free = this.#checked(info.block, 'dqi_free_blk', info.freeBlk, QUOTA_ROOT + 1);
    if (free === 0) return this.#addBlock();
    const block = this.#file.write(free);
    info.freeBlk = this.#leaf(block).nextFree;
    block.bytes.fill(0);
    return free;
  }

  /** A block of zeros at the end of the file. */
  #addBlock(): number {
    const info = this.editInfo();
    // A kernel that died between growing the file and counting the block left one beyond the count.
    const index = info.blocks < this.#file.blocks ? info.blocks : this.#file.append();
    this.#file.write(index).bytes.fill(0);
    info.blocks = index + 1;
    return index;
  }

  #giveBlock(index: number): void {
    const info = this.editInfo();
    const block = this.#file.write(index);
    block.bytes.fill(0);
    QuotaLeaf.at(block).nextFree = info.freeBlk;
    info.freeBlk = index;
  }

  /** A leaf with a free record, which is counted as taken (quota_tree.c:find_free_dqentry). */
  #leafWithRoom(): number {
    const info = this.editInfo();
    let index = this.#checked(info.block, 'dqi_free_entry', info.freeEntry, QUOTA_ROOT + 1);
    if (index === 0) {
      index = this.#takeBlock();
      info.freeEntry = index;
    }
    const leaf = this.#leaf(this.#file.write(index));
    if (leaf.entries + 1 >= this.#layout.records) this.#unlinkLeaf(index);
    leaf.entries++;
    return index;
  }

  /** Take a leaf out of the list of those with free records. */
  #unlinkLeaf(index: number): void {
    const leaf = this.#leaf(this.#file.write(index));
    const { nextFree, prevFree } = leaf;
    if (nextFree !== 0) this.#leaf(this.#file.write(nextFree)).prevFree = prevFree;
    if (prevFree !== 0) this.#leaf(this.#file.write(prevFree)).nextFree = nextFree;
    else this.editInfo().freeEntry = nextFree;
    leaf.nextFree = 0;
    leaf.prevFree = 0;
  }

  /** Free a record, and the leaf if it was its last (quota_tree.c:free_dqentry). */
  #freeRecord(index: number, at: number): void {
    const block = this.#file.write(index);
    const leaf = this.#leaf(block);
    if (leaf.entries === 0) throw badField(block, 'quota_leaf', 'dqdh_entries', 0, 'is too few');
    block.bytes.fill(0, at, at + GlobalDquot.size);
    leaf.entries--;
    if (leaf.entries === 0) {
      this.#unlinkLeaf(index);
      this.#giveBlock(index);
    } else if (leaf.entries === this.#layout.records - 1) {
      const info = this.editInfo();
      const first = this.#checked(info.block, 'dqi_free_entry', info.freeEntry, QUOTA_ROOT + 1);
      if (first !== 0) this.#leaf(this.#file.write(first)).prevFree = index;
      leaf.nextFree = first;
      leaf.prevFree = 0;
      info.freeEntry = index;
    }
  }
}
