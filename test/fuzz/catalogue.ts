/**
 * Every field of every structure on a volume, by class: what kind of block of whose, which structure, which field. Declared
 * structures come from the engine's own tables (format/structs.ts); lists, bitmaps and entries are added here. A class holds
 * all places of its kind on the volume; bytes that no table declares are the class `reserved`.
 */
import {
  type Block, ChainList, DIR_TRAILER_SIZE, DISCONTIG_BITMAP_SIZE, DYN, Dinode, DirTrailer, DX_INLINE, DX_LEAF_LIST, DX_ROOT_LIST, DxEntryList, DxLeaf, DxRoot,
  ExtentList, FL, GROUP_BITMAP, GROUP_LIST, GroupDesc, ID2, INLINE_DATA_START, InlineData, JBD2_BLOCK, Jbd2Commit, Jbd2Header, Jbd2Super, JournalId1, BitmapId1, LOCAL_ALLOC_BITMAP, LocalAlloc, MODE,
  type RawReader, S_IFMT, SuperBlock, TRUNCATE_RECS, TruncateLog, backupBlocks, hasBackups, readSystemFiles, type ExtentRecord, type SystemFiles,
} from '@lunfs/ocfs2';
import { Cataloguer, type Place, type Scope, type Structure, type Unit, extentBlocks, spread } from './cataloguer.js';
import { attributes, heartbeat, quotaFiles, refcounts, slotMap } from './catalogue-features.js';

export interface Catalogue {
  readonly byClass: ReadonlyMap<string, readonly Place[]>;
  readonly classes: readonly string[];
  /** All blocks of structure. */
  readonly blocks: ReadonlyMap<number, Unit>;
  /** Byte ranges on the device of the inodes below `keep`: their dinodes, trees and data. */
  readonly kept: readonly { readonly from: number; readonly to: number; readonly what: string }[];
  readonly sys: SystemFiles;
  /** Where the inodes below the root hang: by inode, directory and name. */
  readonly names: ReadonlyMap<number, { readonly dir: number; readonly name: Uint8Array }>;
}

/** Walk a sound volume and list every field on it. */
export async function catalogue(reader: RawReader): Promise<Catalogue> {
  const c = new Cataloguer(reader);
  const sys = await readSystemFiles(reader);
  const { geo } = reader;
  const superBlock: Scope = { kind: 'superblock', blkno: 2, checkAt: 0x80, owner: 2 };
  c.struct(superBlock, { structName: 'dinode', fields: pick(Dinode.fields, ['signature', 'generation', 'clusters', 'flags', 'blkno', 'fsGeneration', 'check', 'links', 'mode', 'size']) });
  c.struct(superBlock, SuperBlock);
  const names = new Map<number, string>([[sys.globalBitmap, 'global_bitmap'], [sys.globalInodeAlloc, 'global_inode_alloc'], [sys.slotMap, 'slot_map'], [sys.heartbeat, 'heartbeat']]);
  for (const { global, local } of sys.quota) for (const blkno of [global, ...local]) names.set(blkno, 'quota file');
  for (const [name, files] of Object.entries(sys)) if (name !== 'quota' && Array.isArray(files)) for (const blkno of files as readonly number[]) names.set(blkno, name);
  const seen = new Set<number>();
  const paths = new Map<number, { dir: number; name: Uint8Array }>();
  const visit = async (blkno: number, kept: boolean): Promise<void> => {
    if (seen.has(blkno)) return;
    seen.add(blkno);
    const from = c.blocks.size;
    const block = await reader.inode(blkno);
    await inode(c, block, names.get(blkno));
    if (kept) await keep(c, block, [...c.blocks.keys()].slice(from));
    if ((Dinode.at(block).mode & S_IFMT) !== MODE.DIR) return;
    for (const { name, inode: child } of await reader.entries(block)) {
      const text = Buffer.from(name).toString('latin1');
      if (text === '.' || text === '..') continue;
      if (blkno !== geo.systemDirBlkno && !paths.has(child)) paths.set(child, { dir: blkno, name });
      await visit(child, kept || (blkno === geo.rootBlkno && text === 'keep'));
    }
  };
  await visit(geo.systemDirBlkno, false);
  await visit(geo.rootBlkno, false);
  await journals(c, sys);
  await slotMap(c, sys);
  await heartbeat(c, sys);
  await quotaFiles(c, sys);
  for (const blkno of hasBackups(geo) ? backupBlocks(geo) : []) {
    const copy = { ...superBlock, kind: 'backup superblock', blkno };
    c.struct(copy, { structName: 'dinode', fields: pick(Dinode.fields, ['signature', 'generation', 'clusters', 'flags', 'blkno', 'fsGeneration', 'check', 'links', 'mode', 'size']) });
    c.struct(copy, SuperBlock);
  }
  c.reserved();
  return { byClass: c.byClass, classes: [...c.byClass.keys()].sort(), blocks: c.blocks, kept: c.kept, sys, names: paths };
}

function pick<T>(fields: Readonly<Record<string, T>>, names: readonly string[]): Record<string, T> {
  return Object.fromEntries(names.map((name) => [name, fields[name]]));
}

/** The blocks of an inode that no case names, and its data. */
async function keep(c: Cataloguer, block: Block, blocks: readonly number[]): Promise<void> {
  const { geo } = c.reader;
  const { blkno } = block;
  for (const own of blocks) c.kept.push({ from: own * geo.blockSize, to: own * geo.blockSize + c.blocks.get(own)!.size, what: `block ${own} of kept inode ${blkno}` });
  const di = Dinode.at(block);
  if (!hasExtents(block) || (di.mode & S_IFMT) === MODE.DIR) return;
  for await (const { blkno: at, clusters } of c.reader.extents(block, ID2)) {
    c.kept.push({ from: at * geo.blockSize, to: at * geo.blockSize + clusters * geo.clusterSize, what: `data of kept inode ${blkno}` });
  }
}

function hasExtents(block: Block): boolean {
  const di = Dinode.at(block);
  const type = di.mode & S_IFMT;
  if (di.dynFeatures & DYN.INLINE_DATA || di.flags & (FL.CHAIN | FL.LOCAL_ALLOC | FL.DEALLOC)) return false;
  return type === MODE.REG || type === MODE.DIR || (type === MODE.LNK && di.clusters > 0);
}

async function inode(c: Cataloguer, block: Block, system: string | undefined): Promise<void> {
  const di = Dinode.at(block);
  const type = di.mode & S_IFMT;
  const inline = (di.dynFeatures & DYN.INLINE_DATA) !== 0;
  const kinds: Record<number, string> = { [MODE.REG]: 'file', [MODE.DIR]: 'directory', [MODE.LNK]: 'symlink' };
  const plain = `${inline ? 'inline ' : ''}${kinds[type] ?? 'special file'}`;
  const scope: Scope = { kind: system ?? (di.flags & FL.SYSTEM && type === MODE.REG ? 'system file' : plain), blkno: block.blkno, checkAt: 0x80, owner: block.blkno };
  c.struct(scope, Dinode);
  await attributes(c, scope, block);
  if (di.dynFeatures & DYN.HAS_REFCOUNT) await refcounts(c, scope, di.refcountLoc);
  if (di.flags & FL.CHAIN) return allocator(c, scope, block);
  if (di.flags & FL.LOCAL_ALLOC) {
    c.struct(scope, BitmapId1);
    c.struct(scope, LocalAlloc);
    return c.bitmap(scope, 'local_alloc', LOCAL_ALLOC_BITMAP, BitmapId1.at(block).total || 64);
  }
  if (di.flags & FL.DEALLOC) {
    c.struct(scope, TruncateLog);
    for (const i of spread(Math.max(3, TruncateLog.at(block).used))) {
      c.add(scope, 'truncate_rec', 't_start', TRUNCATE_RECS + 8 * i, 4, TRUNCATE_RECS + 8 * i + 4);
      c.add(scope, 'truncate_rec', 't_clusters', TRUNCATE_RECS + 8 * i + 4, 4, TRUNCATE_RECS + 8 * i);
    }
    return;
  }
  if (system === 'journal') c.struct(scope, JournalId1);
  if (inline) {
    c.struct(scope, InlineData);
    if (type === MODE.DIR) c.entries(scope, block, INLINE_DATA_START, INLINE_DATA_START + di.size);
    else c.add(scope, 'inline_data', 'data', INLINE_DATA_START, 4, INLINE_DATA_START);
    return;
  }
  if (type === MODE.LNK && di.clusters === 0) return c.add(scope, 'symlink', 'target', ID2, 4, ID2);
  if (!hasExtents(block)) return;
  c.extentList(scope, block, ID2);
  await extentBlocks(c, scope, block, ID2);
  if (type !== MODE.DIR) return;
  await directoryBlocks(c, scope, block);
  if (di.dynFeatures & DYN.INDEXED_DIR) await index(c, scope, di.dxRoot);
}

async function directoryBlocks(c: Cataloguer, scope: Scope, inode: Block): Promise<void> {
  const { geo } = c.reader;
  const di = Dinode.at(inode);
  const trailer = geo.metaecc || (di.dynFeatures & DYN.INDEXED_DIR) !== 0;
  const blocks: number[] = [];
  for await (const { blkno, clusters } of c.reader.extents(inode, ID2)) for (let i = 0; i < clusters * geo.bpc; i++) blocks.push(blkno + i);
  const used = blocks.slice(0, di.size / geo.blockSize);
  for (const i of spread(used.length)) {
    const block = await c.reader.readRaw(used[i]);
    const end = geo.blockSize - (trailer ? DIR_TRAILER_SIZE : 0);
    const own = { ...scope, kind: i === 0 ? 'directory block 0' : 'directory block', blkno: block.blkno, checkAt: trailer ? end + 0x38 : -1 };
    c.entries(own, block, 0, end);
    if (trailer) c.struct(own, DirTrailer, end);
  }
}

async function index(c: Cataloguer, scope: Scope, dxRoot: number): Promise<void> {
  const root = await c.reader.readRaw(dxRoot);
  const flat = (DxRoot.at(root).flags & DX_INLINE) !== 0;
  const own = { ...scope, kind: flat ? 'inline dx_root' : 'dx_root', blkno: dxRoot, checkAt: 8 };
  c.struct(own, DxRoot);
  if (flat) return dxEntries(c, own, new DxEntryList(root, DX_ROOT_LIST));
  c.extentList(own, root, DX_ROOT_LIST);
  await extentBlocks(c, own, root, DX_ROOT_LIST);
  const leaves: ExtentRecord[] = [];
  for await (const rec of c.reader.extents(root, DX_ROOT_LIST)) leaves.push(rec);
  for (const { blkno, clusters } of leaves) {
    for (const i of spread(clusters * c.reader.geo.bpc)) {
      const leaf = await c.reader.readRaw(blkno + i);
      const at = { ...scope, kind: 'dx_leaf', blkno: leaf.blkno, checkAt: 8 };
      c.struct(at, DxLeaf);
      dxEntries(c, at, new DxEntryList(leaf, DX_LEAF_LIST));
    }
  }
}

function dxEntries(c: Cataloguer, scope: Scope, list: DxEntryList): void {
  c.add(scope, 'dx_entry_list', 'de_count', list.base + 4, 2, list.base + 6);
  c.add(scope, 'dx_entry_list', 'de_num_used', list.base + 6, 2, list.base + 4);
  for (const i of spread(list.used)) {
    const at = list.at(i);
    c.add(scope, 'dx_entry', 'dx_major_hash', at, 4, at + 4);
    c.add(scope, 'dx_entry', 'dx_minor_hash', at + 4, 4, at);
    c.add(scope, 'dx_entry', 'dx_dirent_blk', at + 8, 8, at);
  }
}

async function allocator(c: Cataloguer, scope: Scope, inode: Block): Promise<void> {
  c.struct(scope, BitmapId1);
  const chains = new ChainList(inode);
  const head: [string, number][] = [['cl_cpg', 0], ['cl_bpc', 2], ['cl_count', 4], ['cl_next_free_rec', 6]];
  for (const [name, at] of head) c.add(scope, 'chain_list', name, chains.base + at, 2, chains.base + (at ^ 2));
  for (const i of spread(chains.nextFree)) {
    const at = chains.at(i);
    c.add(scope, 'chain_rec', 'c_free', at, 4, at + 4);
    c.add(scope, 'chain_rec', 'c_total', at + 4, 4, at);
    c.add(scope, 'chain_rec', 'c_blkno', at + 8, 8, at);
    for (let group = chains.blkno(i); group !== 0; ) {
      const block = await c.reader.readRaw(group);
      const own = { ...scope, kind: `group of ${scope.kind}`, blkno: group, checkAt: 0x30 };
      c.struct(own, GroupDesc);
      c.bitmap(own, 'group_desc', GROUP_BITMAP, GroupDesc.at(block).bits);
      if (GroupDesc.at(block).size === DISCONTIG_BITMAP_SIZE && new ExtentList(block, GROUP_LIST).nextFree > 0) c.extentList({ ...own, kind: 'discontiguous group' }, block, GROUP_LIST);
      group = GroupDesc.at(block).nextGroup;
    }
  }
}

async function journals(c: Cataloguer, sys: SystemFiles): Promise<void> {
  const { reader } = c;
  for (const inode of sys.journal) {
    for await (const { blkno } of reader.extents(await reader.inode(inode), ID2)) {
      const scope: Scope = { kind: 'journal superblock', blkno, checkAt: -1, owner: inode };
      c.struct(scope, fits(Jbd2Super, reader.geo.blockSize), 0, true);
      const { sequence, start } = Jbd2Super.at(await reader.readRaw(blkno));
      // The blocks of the log that still count, if the journal is dirty.
      for (let i = start, at = sequence; i < start + 400; i++) {
        const block = await reader.readRaw(blkno + i);
        const h = Jbd2Header.at(block);
        if (h.magic !== 0xc03b3998 || h.sequence !== at) continue;
        const kind = h.blocktype === JBD2_BLOCK.descriptor ? 'journal descriptor' : 'journal commit';
        const own = { ...scope, kind, blkno: block.blkno };
        c.struct(own, h.blocktype === JBD2_BLOCK.commit ? Jbd2Commit : Jbd2Header, 0, true);
        if (h.blocktype === JBD2_BLOCK.commit) at++;
        else {
          // Tags: block number and flags, eight bytes each; the first is followed by a UUID.
          for (const tag of spread(8).map((n) => (n === 0 ? 12 : 12 + 8 + 16 + (n - 1) * 8))) {
            c.add(own, 'jbd2_tag', 't_blocknr', tag, 4, tag + 4, true);
            c.add(own, 'jbd2_tag', 't_flags', tag + 4, 4, tag, true);
          }
        }
      }
      break;
    }
  }
}

/** The fields of a structure that lie in the first block. */
function fits(structure: Structure, blockSize: number): Structure {
  return { structName: structure.structName, fields: Object.fromEntries(Object.entries(structure.fields).filter(([, f]) => f.off + f.size <= blockSize)) };
}

/** A field outside its block would be a fault of this file. */
export function checkCatalogue(catalogue: Catalogue): void {
  for (const places of catalogue.byClass.values()) {
    for (const { cls, blkno, off, size } of places) if (off < 0 || size < 1 || off + size > catalogue.blocks.get(blkno)!.size) throw new Error(`${cls} lies outside its block`);
  }
}
