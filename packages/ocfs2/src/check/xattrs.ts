/**
 * Extended attributes of an inode: their storages (entries, hashes, names and values that share no byte, what a bucket counts), the order
 * of buckets and records, values in extents. Claims what they refer to. (ondisk-format.md 7.2; fsck.ocfs2 1.8.7 xattr.c, whose
 * codes are used; order and double names it does not check.)
 */
import { Block } from '../format/block.js';
import { DYN, EXT } from '../format/constants.js';
import { blockToCluster } from '../format/geometry.js';
import { XATTR_BLOCK } from '../format/kinds.js';
import { ExtentList } from '../format/lists.js';
import { Dinode, XATTR_INDEXED, XATTR_TREE_LIST, XattrBlock, XattrEntry, XattrHeader, XattrTreeRoot, XattrValueRoot } from '../format/structs.js';
import { xattrHash } from '../format/dirhash.js';
import type { ExtentRecord } from '../inspect/raw-reader.js';
import { xattrStorages } from '../inspect/xattrs.js';
import { type XattrItem, type XattrStorage, decodeEntries, firstHash, isLocal, pairSize, xattrText } from '../xattr/entries.js';
import type { Checker } from './checker.js';
import { checkTree } from './trees.js';

export async function checkXattrs(c: Checker, inode: Block, who: string): Promise<void> {
  const { findings } = c;
  const di = Dinode.at(inode);
  if (di.dynFeatures & DYN.INLINE_XATTR && di.xattrInlineSize === 0) findings.error('XATTR_LOCATION_INVALID', `${who} has inline attributes in no room`, inode.blkno);
  const records = di.xattrLoc === 0 ? [] : await checkXattrBlock(c, di.xattrLoc, who);
  const names = new Set<string>();
  const order = new BucketOrder(c, who, records);
  for await (const storage of xattrStorages(c.reader, inode)) {
    const items = decodeEntries(storage);
    checkRoom(c, storage, items, who);
    if (storage.kind === 'bucket') order.next(storage, items);
    for (const item of items) {
      const name = xattrText(item), at = storage.block.blkno;
      const key = `${item.type} ${Buffer.from(item.rest).toString('latin1')}`;
      if (names.has(key)) findings.error('XATTR_ENTRY_INVALID', `${who} has attribute ${name} twice`, at);
      names.add(key);
      if (item.hash !== xattrHash(item.rest, c.geo.uuidHash)) findings.error('XATTR_HASH_INVALID', `${who}: attribute ${name} has hash ${item.hash.toString(16)}`, at);
      if (!isLocal(item)) await checkValue(c, inode, item, at, `attribute ${name} of ${who}`);
    }
  }
}

/** The xattr block and, if it is indexed, its tree; returns the records. */
async function checkXattrBlock(c: Checker, blkno: number, who: string): Promise<ExtentRecord[]> {
  const xb = await c.reader.read(blkno, XATTR_BLOCK);
  const view = XattrBlock.at(xb);
  c.refer({ blkno, slot: view.suballocSlot, bit: view.suballocBit, loc: view.suballocLoc, who: `xattr block of ${who}` });
  if (view.flags & ~XATTR_INDEXED) c.findings.error('XATTR_BLOCK_INVALID', `${who}: its xattr block has flags 0x${view.flags.toString(16)} that do not exist`, blkno);
  if (!(view.flags & XATTR_INDEXED)) return [];
  const tree = XattrTreeRoot.at(xb);
  const records = await checkTree(c, { root: xb, base: XATTR_TREE_LIST, who: `xattr tree of ${who}`, lastEb: tree.lastEbBlk, clusters: tree.clusters, clustersCode: 'XATTR_BLOCK_INVALID', written: true });
  for (const r of records) c.usage.claim(blockToCluster(c.geo, r.blkno), r.clusters, `xattr tree of ${who}`);
  if (records.length > 0 && records[0].cpos !== 0) c.findings.error('XATTR_BLOCK_INVALID', `${who}: its xattr tree does not begin at hash 0`, blkno);
  return records;
}

/** Names and values lie apart from each other and from the entries; a bucket counts them truly, and none crosses a block border in it. */
function checkRoom({ findings, geo }: Checker, { kind, block, base, size }: XattrStorage, items: readonly XattrItem[], who: string): void {
  const header = XattrHeader.at(block, base);
  let end = size, sum = 0;
  for (const item of [...items].sort((a, b) => b.offset - a.offset)) {
    const length = pairSize(item);
    if (item.offset + length > end) findings.error('XATTR_VALUE_INVALID', `${who}: attribute ${xattrText(item)} shares bytes with another`, block.blkno);
    if (kind === 'bucket' && Math.floor(item.offset / geo.blockSize) !== Math.floor((item.offset + Math.max(1, length) - 1) / geo.blockSize)) {
      findings.error('XATTR_NAME_OFFSET_INVALID', `${who}: attribute ${xattrText(item)} crosses a block border of its bucket`, block.blkno);
    }
    end = item.offset;
    sum += length;
  }
  if (end < XattrHeader.size + items.length * XattrEntry.size) findings.error('XATTR_ENTRY_INVALID', `${who}: entries and names in block ${block.blkno} share bytes`, block.blkno);
  if (kind !== 'bucket') return;
  if (header.freeStart !== end) findings.error('XATTR_FREE_START_INVALID', `${who}: bucket ${block.blkno} is free up to ${end}, its header says ${header.freeStart}`, block.blkno);
  if (header.nameValueLen !== sum) findings.error('XATTR_VALUE_LEN_INVALID', `${who}: names and values of bucket ${block.blkno} have ${sum} bytes, its header says ${header.nameValueLen}`, block.blkno);
}

/** Buckets come in ascending order of hash, each hash in one bucket only, none below where its record begins. */
class BucketOrder {
  readonly #records: ReadonlyMap<number, ExtentRecord>;
  /** Highest hash so far. */
  #highest = -1;

  constructor(private readonly c: Checker, private readonly who: string, records: readonly ExtentRecord[]) {
    this.#records = new Map(records.map((r) => [r.blkno, r]));
  }

  next(storage: XattrStorage, items: readonly XattrItem[]): void {
    const { blkno } = storage.block;
    const bad = (what: string) => this.c.findings.error('XATTR_ENTRY_INVALID', `${this.who}: bucket ${blkno} ${what}`, blkno);
    const record = this.#records.get(blkno);
    const first = firstHash(storage);
    if (record !== undefined && first < record.cpos) bad(`begins at hash ${first}, its record at ${record.cpos}`);
    if (record !== undefined && this.#highest >= record.cpos && record.cpos > 0) bad(`has a record that begins at hash ${record.cpos}, not above ${this.#highest} before it`);
    if (items.length > 0 && first <= this.#highest) bad(`begins at hash ${first}, not above ${this.#highest} before it`);
    if (items.some((item, i) => i > 0 && item.hash < items[i - 1].hash)) bad('is not sorted');
    for (const { hash } of items) this.#highest = Math.max(this.#highest, hash);
  }
}

async function checkValue(c: Checker, inode: Block, item: XattrItem, blkno: number, who: string): Promise<void> {
  const { geo, findings } = c;
  const di = Dinode.at(inode);
  const root = new Block(geo.device, blkno, item.stored);
  const view = XattrValueRoot.at(root);
  if (new ExtentList(root, XattrValueRoot.size).count !== 1) return findings.error('XATTR_VALUE_INVALID', `${who} has no valid value root`, blkno);
  const records = await checkTree(c, {
    root, base: XattrValueRoot.size, who, lastEb: view.lastEbBlk, clusters: view.clusters, clustersCode: 'XATTR_VALUE_INVALID', noHoles: true, written: true,
    refcounted: (di.dynFeatures & DYN.HAS_REFCOUNT) !== 0,
  });
  for (const r of records) {
    const shared = (r.flags & EXT.REFCOUNTED) !== 0;
    c.usage.claim(blockToCluster(geo, r.blkno), r.clusters, who, shared);
    if (shared) c.shareRun(di.refcountLoc, { start: blockToCluster(geo, r.blkno), clusters: r.clusters });
  }
  const clusters = records.reduce((sum, r) => sum + r.clusters, 0);
  if (clusters !== Math.ceil(item.size / geo.clusterSize)) findings.error('XATTR_VALUE_INVALID', `${who} has ${item.size} bytes in ${clusters} clusters`, blkno);
}
