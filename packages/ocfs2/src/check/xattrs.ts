/** Pass 1, extended attributes: their storages, names, hashes and values, and what these refer to (ondisk-format.md 7.2). */
import type { Block } from '../format/block.js';
import { DYN, EXT } from '../format/constants.js';
import { xattrHash } from '../format/dirhash.js';
import { blockToCluster } from '../format/geometry.js';
import { XATTR_BLOCK } from '../format/kinds.js';
import { ExtentList } from '../format/lists.js';
import { Dinode, XATTR_INDEXED, XATTR_TREE_LIST, XattrBlock, XattrTreeRoot, XattrValueRoot } from '../format/structs.js';
import { storageEntries, xattrStorages } from '../inspect/xattrs.js';
import type { Checker } from './checker.js';
import { checkTree } from './trees.js';

/** Check the attributes of an inode that has any. */
export async function checkXattrs(c: Checker, inode: Block, who: string): Promise<void> {
  const { geo, findings } = c;
  const di = Dinode.at(inode);
  if (di.dynFeatures & DYN.INLINE_XATTR && di.xattrInlineSize === 0) findings.error('XATTR_LOCATION_INVALID', `${who} has inline attributes in no room`, inode.blkno);
  if (di.xattrLoc !== 0) {
    const xb = await c.reader.read(di.xattrLoc, XATTR_BLOCK);
    const view = XattrBlock.at(xb);
    c.refer({ blkno: di.xattrLoc, slot: view.suballocSlot, bit: view.suballocBit, loc: view.suballocLoc, who: `xattr block of ${who}` });
    if (view.flags & XATTR_INDEXED) {
      const tree = XattrTreeRoot.at(xb);
      const records = await checkTree(c, { root: xb, base: XATTR_TREE_LIST, who: `xattr tree of ${who}`, lastEb: tree.lastEbBlk, clusters: tree.clusters, clustersCode: 'XATTR_BLOCK_INVALID' });
      for (const r of records) c.usage.claim(blockToCluster(geo, r.blkno), r.clusters, `xattr tree of ${who}`);
    }
  }
  for await (const storage of xattrStorages(c.reader, inode)) {
    let previous = -1;
    for (const e of storageEntries(storage)) {
      if (e.hash !== xattrHash(e.nameBytes, geo.uuidHash)) findings.error('XATTR_HASH_INVALID', `${who}: attribute ${e.name} has hash ${e.hash.toString(16)}`, storage.block.blkno);
      if (storage.kind === 'bucket' && e.hash < previous) findings.error('XATTR_ENTRY_INVALID', `${who}: bucket ${storage.block.blkno} is not sorted`, storage.block.blkno);
      previous = e.hash;
      if (!e.outside) continue;
      const vr = XattrValueRoot.at(e.outside.block, e.outside.base);
      const list = new ExtentList(e.outside.block, e.outside.base + 0x10);
      if (list.count !== 1) findings.error('XATTR_VALUE_INVALID', `${who}: attribute ${e.name} has no valid value root`, storage.block.blkno);
      else {
        const records = await checkTree(c, {
          root: e.outside.block, base: e.outside.base + 0x10, who: `attribute ${e.name} of ${who}`, lastEb: vr.lastEbBlk, clusters: vr.clusters,
          clustersCode: 'XATTR_VALUE_INVALID', noHoles: true, refcounted: (di.dynFeatures & DYN.HAS_REFCOUNT) !== 0,
        });
        for (const r of records) {
          const shared = (r.flags & EXT.REFCOUNTED) !== 0;
          c.usage.claim(blockToCluster(geo, r.blkno), r.clusters, `attribute ${e.name} of ${who}`, shared);
          if (shared) c.shareRun(di.refcountLoc, { start: blockToCluster(geo, r.blkno), clusters: r.clusters });
        }
        if (e.size > records.reduce((s, r) => s + r.clusters, 0) * geo.clusterSize) findings.error('XATTR_VALUE_LEN_INVALID', `${who}: attribute ${e.name} has ${e.size} bytes but too few clusters`, storage.block.blkno);
      }
    }
  }
}
