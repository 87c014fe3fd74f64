/** The rest of catalogue.ts: fields of what features bring (attributes, refcount trees, quota files) and of what nodes write past the journal. */
import {
  type Block, DYN, Dinode, ExtendedSlot, GlobalDquot, GlobalQuotaInfo, HeartbeatBlock, ID2, LOCAL_QUOTA_BITMAP, LocalDquot, LocalQuotaChunk, LocalQuotaInfo, QUOTA_ROOT, QuotaLeaf,
  REFCOUNT_LEAF, REFCOUNT_LIST, REFCOUNT_TREE, RefcountBlock, RefcountRecList, type SystemFiles, XATTR_BUCKET_SIZE, XATTR_INDEXED, XATTR_TREE_LIST, XattrBlock, XattrEntry, XattrHeader, XattrTreeRoot,
  XattrValueRoot, bits, chunkBlock, chunkLength, isFreeRecord, quotaLayout, xattrStorages,
} from '@lunfs/ocfs2';
import { type Cataloguer, type Scope, extentBlocks, spread } from './cataloguer.js';

/** The storages of an inode's attributes: entries, names, values beside them, roots of values outside. */
export async function attributes(c: Cataloguer, scope: Scope, inode: Block): Promise<void> {
  const { xattrLoc, dynFeatures } = Dinode.at(inode);
  if (!(dynFeatures & DYN.HAS_XATTR)) return;
  if (xattrLoc !== 0) {
    const block = await c.reader.readRaw(xattrLoc);
    const indexed = (XattrBlock.at(block).flags & XATTR_INDEXED) !== 0;
    const own = { ...scope, kind: indexed ? 'indexed xattr block' : 'xattr block', blkno: xattrLoc, checkAt: 0x18 };
    c.struct(own, XattrBlock);
    if (indexed) {
      c.struct(own, XattrTreeRoot);
      c.extentList(own, block, XATTR_TREE_LIST);
      await extentBlocks(c, own, block, XATTR_TREE_LIST);
    }
  }
  const buckets: { scope: Scope; block: Block }[] = [];
  for await (const { kind, block, base } of xattrStorages(c.reader, inode)) {
    if (kind === 'bucket') buckets.push({ scope: { ...scope, kind: 'xattr bucket', blkno: block.blkno, checkAt: 8, size: XATTR_BUCKET_SIZE }, block });
    else entries(c, base === 0 || block.blkno === xattrLoc ? { ...scope, kind: 'xattr block', blkno: xattrLoc, checkAt: 0x18 } : { ...scope, kind: 'inline xattrs' }, block, base);
  }
  for (const i of spread(buckets.length)) entries(c, buckets[i].scope, buckets[i].block, 0);
}

function entries(c: Cataloguer, scope: Scope, block: Block, base: number): void {
  c.struct(scope, XattrHeader, base);
  const { count } = XattrHeader.at(block, base);
  for (const i of spread(count)) {
    const at = base + XattrHeader.size + i * XattrEntry.size;
    c.struct(scope, XattrEntry, at);
    const { nameOffset, nameLen, type, valueSize } = XattrEntry.at(block, at);
    const name = base + nameOffset, value = name + Math.ceil(nameLen / 4) * 4;
    if (nameLen > 0) c.add(scope, 'xattr_name', 'name', name, Math.min(4, nameLen), name);
    if (type & 0x80) {
      if (valueSize > 0) c.add(scope, 'xattr_value', 'value', value, Math.min(4, valueSize), value);
      continue;
    }
    c.struct(scope, XattrValueRoot, value);
    c.extentList({ ...scope, kind: 'xattr value root' }, block, value + XattrValueRoot.size);
  }
}

/** A refcount tree, once for all inodes in it. */
export async function refcounts(c: Cataloguer, scope: Scope, blkno: number): Promise<void> {
  if (c.blocks.has(blkno)) return;
  const root = await c.reader.readRaw(blkno);
  const tree = (RefcountBlock.at(root).flags & REFCOUNT_TREE) !== 0;
  const own = { ...scope, kind: tree ? 'refcount tree' : 'refcount root', blkno, checkAt: 0x20 };
  c.struct(own, RefcountBlock);
  if (!tree) return records(c, own, root);
  c.extentList(own, root, REFCOUNT_LIST);
  await extentBlocks(c, own, root, REFCOUNT_LIST);
  const leaves: number[] = [];
  for await (const rec of c.reader.extents(root, REFCOUNT_LIST)) leaves.push(rec.blkno);
  for (const i of spread(leaves.length)) {
    const leaf = await c.reader.readRaw(leaves[i]);
    if (!(RefcountBlock.at(leaf).flags & REFCOUNT_LEAF)) throw new Error(`block ${leaves[i]} is no refcount leaf`);
    const at = { ...own, kind: 'refcount leaf', blkno: leaf.blkno };
    c.struct(at, RefcountBlock);
    records(c, at, leaf);
  }
}

function records(c: Cataloguer, scope: Scope, block: Block): void {
  const list = new RefcountRecList(block);
  c.add(scope, 'refcount_list', 'rl_count', list.base, 2, list.base + 2);
  c.add(scope, 'refcount_list', 'rl_used', list.base + 2, 2, list.base);
  for (const i of spread(list.used)) {
    const at = list.at(i);
    c.add(scope, 'refcount_rec', 'r_cpos', at, 8, at + 8);
    c.add(scope, 'refcount_rec', 'r_clusters', at + 8, 4, at + 12);
    c.add(scope, 'refcount_rec', 'r_refcount', at + 12, 4, at + 8);
  }
}

/** Global and local quota files. */
export async function quotaFiles(c: Cataloguer, sys: SystemFiles): Promise<void> {
  const { blockSize } = c.reader.geo;
  const layout = quotaLayout(blockSize);
  for (const { global, local } of sys.quota) {
    const block = await fileBlocks(c, global);
    const scope = (index: number, kind: string): Scope => ({ kind, blkno: block[index], checkAt: blockSize - 8, owner: global });
    c.struct(scope(0, 'global quota header'), GlobalQuotaInfo);
    const visit = async (index: number, level: number): Promise<void> => {
      const node = await c.reader.readRaw(block[index]);
      if (level === layout.depth) {
        const leaf = scope(index, 'quota leaf');
        c.struct(leaf, QuotaLeaf);
        const places = Array.from({ length: layout.records }, (_, i) => QuotaLeaf.size + i * GlobalDquot.size).filter((at) => !isFreeRecord(node, at));
        for (const i of spread(places.length)) c.struct(leaf, GlobalDquot, places[i]);
        return;
      }
      const all = Array.from({ length: layout.refs }, (_, i) => i), used = all.filter((i) => node.dv.getUint32(4 * i, true) !== 0);
      const free = all.find((i) => !used.includes(i));
      for (const i of spread(used.length).map((k) => used[k])) c.add(scope(index, `quota tree level ${level === 0 ? 0 : 'below'}`), 'quota_ref', 'child', 4 * i, 4, 4 * ((i + 1) % layout.refs));
      if (free !== undefined) c.add(scope(index, 'quota tree'), 'quota_ref', 'free', 4 * free, 4, 4 * used[0]);
      for (const i of used) if (level < layout.depth - 1 || !c.blocks.has(block[node.dv.getUint32(4 * i, true)])) await visit(node.dv.getUint32(4 * i, true), level + 1);
    };
    await visit(QUOTA_ROOT, 0);
    for (const inode of local) await localFile(c, inode);
  }
}

async function localFile(c: Cataloguer, inode: number): Promise<void> {
  const { blockSize } = c.reader.geo;
  const layout = quotaLayout(blockSize);
  const block = await fileBlocks(c, inode);
  const scope = (index: number, kind: string): Scope => ({ kind, blkno: block[index], checkAt: blockSize - 8, owner: inode });
  c.struct(scope(0, 'local quota header'), LocalQuotaInfo);
  const { chunks, blocks } = LocalQuotaInfo.at(await c.reader.readRaw(block[0]));
  for (let chunk = 0; chunk < chunks; chunk++) {
    const at = chunkBlock(layout, chunk), length = chunkLength(layout, chunk, blocks);
    const map = await c.reader.readRaw(block[at]);
    c.struct(scope(at, 'local quota chunk'), LocalQuotaChunk);
    c.bitmap(scope(at, 'local quota chunk'), 'local_quota_chunk', LOCAL_QUOTA_BITMAP, length);
    const used: number[] = [];
    for (let bit = 0; bit < length; bit++) if (bits.test(map.bytes, LOCAL_QUOTA_BITMAP, bit)) used.push(bit);
    for (const bit of spread(used.length).map((i) => used[i])) c.struct(scope(at + 1 + Math.floor(bit / layout.entries), 'local quota entries'), LocalDquot, (bit % layout.entries) * LocalDquot.size);
  }
}

/** Block numbers of a file, in order. */
async function fileBlocks(c: Cataloguer, blkno: number): Promise<number[]> {
  const { geo } = c.reader;
  const out: number[] = [];
  for await (const run of c.reader.extents(await c.reader.inode(blkno), ID2)) for (let i = 0; i < run.clusters * geo.bpc; i++) out.push(run.blkno + i);
  return out;
}

/** The slot map in the form the volume has. */
export async function slotMap(c: Cataloguer, sys: SystemFiles): Promise<void> {
  const { geo } = c.reader;
  const [blkno] = await fileBlocks(c, sys.slotMap);
  const scope: Scope = { kind: 'slot map', blkno, checkAt: -1, owner: sys.slotMap };
  for (let slot = 0; slot < geo.maxSlots; slot++) {
    if (geo.extendedSlotMap) c.struct(scope, ExtendedSlot, slot * ExtendedSlot.size);
    else c.add(scope, 'slot', 'node', 2 * slot, 2, 2 * slot + 2);
  }
}

/** Where nodes 0 and 1 beat. */
export async function heartbeat(c: Cataloguer, sys: SystemFiles): Promise<void> {
  const block = await fileBlocks(c, sys.heartbeat);
  for (const blkno of block.slice(0, 2)) c.struct({ kind: 'heartbeat block', blkno, checkAt: -1, owner: sys.heartbeat }, HeartbeatBlock);
}
