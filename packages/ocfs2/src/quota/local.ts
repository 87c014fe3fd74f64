/**
 * A slot's local quota file in an operation: what the node in that slot changed since it last told the global file. Only
 * that node changes it, or who recovers it. An entry in use stands for one use count in the id's global record.
 * (Linux 6.1 fs/ocfs2/quota_local.c.)
 */
import { type Block, badField } from '../format/block.js';
import { bits } from '../format/lists.js';
import {
  LOCAL_QUOTA_BITMAP, LOCAL_QUOTA_CLEAN, LocalDquot, type LocalDquotView, LocalQuotaChunk, LocalQuotaInfo, type QuotaLayout, checkLocalInfo, checkQuotaHeader, chunkBlock, chunkLength,
  quotaLayout,
} from '../format/quota.js';
import type { FsContext, QuotaFiles } from '../context.js';
import type { LockLevel } from '../locking/levels.js';
import type { Op } from '../txn/index.js';
import { QuotaFile } from './file.js';

/** Where an entry is. */
export interface LocalPlace {
  readonly chunk: number;
  readonly bit: number;
}

export class LocalQuota {
  readonly #file: QuotaFile;
  readonly #layout: QuotaLayout;

  /** `level` EX to change anything. */
  constructor(op: Op, ctx: FsContext, files: QuotaFiles, slot: number, level: LockLevel) {
    this.#layout = quotaLayout(ctx.geo.blockSize);
    this.#file = new QuotaFile(op, ctx, files.local[slot], level);
    const block = this.#file.read(0);
    checkQuotaHeader(block, 'local', files.type);
    checkLocalInfo(block, this.#layout, this.#file.blocks);
  }

  get info(): Readonly<ReturnType<typeof LocalQuotaInfo.at>> {
    return LocalQuotaInfo.at(this.#file.read(0));
  }

  /** Closed cleanly: whatever the bitmaps say, nothing is in it. */
  get clean(): boolean {
    return (this.info.flags & LOCAL_QUOTA_CLEAN) !== 0;
  }

  set clean(clean: boolean) {
    if (clean === this.clean) return;
    const info = this.#editInfo();
    info.flags = clean ? info.flags | LOCAL_QUOTA_CLEAN : info.flags & ~LOCAL_QUOTA_CLEAN;
  }

  /** Take a free entry for an id; there must be one (`reserve`). */
  claim(id: number): LocalPlace | undefined {
    const place = this.#freeEntry();
    if (place === undefined) return undefined;
    const head = this.#file.write(chunkBlock(this.#layout, place.chunk));
    bits.set(head.bytes, LOCAL_QUOTA_BITMAP, place.bit);
    LocalQuotaChunk.at(head).free--;
    const entry = this.#entry(this.#file.write(this.#blockOf(place)), place);
    entry.id = id;
    entry.space = 0;
    entry.inodes = 0;
    return place;
  }

  release(place: LocalPlace): void {
    const head = this.#file.write(chunkBlock(this.#layout, place.chunk));
    bits.clear(head.bytes, LOCAL_QUOTA_BITMAP, place.bit);
    LocalQuotaChunk.at(head).free++;
  }

  /** The entry of an id, not to be changed. */
  read(place: LocalPlace, id: number): LocalDquotView {
    return this.#own(this.#entry(this.#file.read(this.#blockOf(place)), place), id);
  }

  /** The entry of an id, for change. */
  edit(place: LocalPlace, id: number): LocalDquotView {
    return this.#own(this.#entry(this.#file.write(this.#blockOf(place)), place), id);
  }

  /** Entries in use. */
  *used(): Generator<LocalPlace & { readonly entry: LocalDquotView }, void, undefined> {
    const { chunks, blocks } = this.info;
    for (let chunk = 0; chunk < chunks; chunk++) {
      const length = chunkLength(this.#layout, chunk, blocks);
      const head = this.#head(chunk, length);
      for (let bit = bits.next(head.bytes, LOCAL_QUOTA_BITMAP, 0, length, true); bit < length; bit = bits.next(head.bytes, LOCAL_QUOTA_BITMAP, bit + 1, length, true)) {
        const entry = this.#entry(this.#file.read(this.#blockOf({ chunk, bit })), { chunk, bit });
        if (entry.id > 0xffffffff) throw badField(entry.block, 'local_dquot', 'dqb_id', entry.id, 'is no 32-bit id');
        yield { chunk, bit, entry };
      }
    }
  }

  /** Empty all bitmaps. A kernel's recovery marks a file clean with bits set (quota_local.c:ocfs2_recover_local_quota_file journals another block than it changes). */
  reset(): void {
    const { chunks, blocks } = this.info;
    for (let chunk = 0; chunk < chunks; chunk++) {
      const length = chunkLength(this.#layout, chunk, blocks);
      const index = chunkBlock(this.#layout, chunk);
      const look = this.#file.read(index);
      if (LocalQuotaChunk.at(look).free === length && bits.next(look.bytes, LOCAL_QUOTA_BITMAP, 0, length, true) === length) continue;
      const head = this.#file.write(index);
      head.bytes.fill(0, LOCAL_QUOTA_BITMAP, LOCAL_QUOTA_BITMAP + Math.ceil(this.#layout.chunkEntries / 8));
      LocalQuotaChunk.at(head).free = length;
    }
  }

  /** Have so many free entries, so that claiming them needs no growth. Returns whether the file grew for it. Throws NO_SPACE. */
  reserve(count: number): boolean {
    const { chunks, blocks } = this.info;
    let free = 0;
    for (let chunk = 0; chunk < chunks; chunk++) free += LocalQuotaChunk.at(this.#head(chunk, chunkLength(this.#layout, chunk, blocks))).free;
    for (let missing = count - free; missing > 0; missing -= this.#layout.entries) this.#grow();
    return free < count;
  }

  #editInfo(): ReturnType<typeof LocalQuotaInfo.at> {
    return LocalQuotaInfo.at(this.#file.write(0));
  }

  #head(chunk: number, length: number): Block {
    const head = this.#file.read(chunkBlock(this.#layout, chunk));
    if (LocalQuotaChunk.at(head).free > length) throw badField(head, 'local_quota_chunk', 'dqc_free', LocalQuotaChunk.at(head).free, `exceeds ${length}`);
    return head;
  }

  #freeEntry(): LocalPlace | undefined {
    const { chunks, blocks } = this.info;
    for (let chunk = 0; chunk < chunks; chunk++) {
      const length = chunkLength(this.#layout, chunk, blocks);
      const head = this.#head(chunk, length);
      if (LocalQuotaChunk.at(head).free === 0) continue;
      const bit = bits.next(head.bytes, LOCAL_QUOTA_BITMAP, 0, length, false);
      if (bit === length) throw badField(head, 'local_quota_chunk', 'dqc_free', LocalQuotaChunk.at(head).free, 'says there are free entries, but there are none');
      return { chunk, bit };
    }
    return undefined;
  }

  /** Add a block of entries, in a new chunk if the last is full. */
  #grow(): void {
    const info = this.#editInfo();
    const { chunkBlocks, entries } = this.#layout;
    let chunk = info.chunks - 1;
    if (chunk < 0 || info.blocks - chunkBlock(this.#layout, chunk) - 1 >= chunkBlocks) {
      chunk++;
      this.#addBlock(info);
      info.chunks = chunk + 1;
    }
    this.#addBlock(info);
    LocalQuotaChunk.at(this.#file.write(chunkBlock(this.#layout, chunk))).free += entries;
  }

  /** The next block of the file, zeroed: blocks in the file may be more than the info block counts. */
  #addBlock(info: { blocks: number }): number {
    const index = info.blocks < this.#file.blocks ? info.blocks : this.#file.append();
    this.#file.write(index).bytes.fill(0);
    info.blocks = index + 1;
    return index;
  }

  #blockOf({ chunk, bit }: LocalPlace): number {
    return chunkBlock(this.#layout, chunk) + 1 + Math.floor(bit / this.#layout.entries);
  }

  #entry(block: Block, { bit }: LocalPlace): LocalDquotView {
    return LocalDquot.at(block, (bit % this.#layout.entries) * LocalDquot.size);
  }

  #own(entry: LocalDquotView, id: number): LocalDquotView {
    if (entry.id !== id) throw badField(entry.block, 'local_dquot', 'dqb_id', entry.id, `should be ${id}`);
    return entry;
  }
}
