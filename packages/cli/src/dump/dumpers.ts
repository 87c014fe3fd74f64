/** What `lunfs dump` can show: one table, each entry by name, from the structures of a volume read without a mount. */
import { UsageError } from '@lunfs/device';
import {
  BACKUP_SUPER_OFFSETS, Block, ChainList, DX_INLINE, DX_ROOT_LIST, DYN, Dinode, DxRoot, EB_LIST, ExtentList, FL, FT, GroupDesc, HeartbeatBlock, ID2, JournalId1, MODE,
  type RawReader, SUPER_BLOCK_BLKNO, S_IFMT, SlotMap, fullXattrName, isLocal, listXattrs, readSystemFiles, systemFileNames, xattrValue,
} from '@lunfs/ocfs2';
import { nameFact } from '../output.js';
import { parseNumber } from '../sizes.js';
import { type Dumped, anyBlock, dinode, extentList, journalBlock, structure } from './structures.js';

export interface DumpContext {
  readonly reader: RawReader;
  /** Inode that the command line names, by path or as the number after the word. */
  readonly inode: () => Promise<number>;
  /** The word after the structure's name. */
  readonly word?: string;
}

export interface Dumper {
  readonly name: string;
  readonly text: string;
  dump(context: DumpContext): Promise<unknown>;
}

/** Ends a walk along a chain of groups that never ends by itself. */
const GROUPS_MAX = 1 << 20;
const HEARTBEAT_NODES = 255;
/** Deeper than any tree Linux makes. */
const DEPTH_MAX = 5;

export const dumpers: readonly Dumper[] = [
  { name: 'superblock', text: 'the superblock; with a number 0 to 5 that backup', dump: superblock },
  { name: 'inode', text: 'an inode, by number or DEVICE:/path', dump: async ({ reader, inode }) => dinode(await reader.readRaw(await inode())) },
  { name: 'block', text: 'any block by number, as what its signature says it is', dump: anything },
  { name: 'extents', text: 'the extent tree of an inode, all levels', dump: async ({ reader, inode }) => extentTree(reader, await reader.inode(await inode()), ID2) },
  { name: 'directory', text: 'entries of a directory and its index', dump: directory },
  { name: 'groups', text: 'group descriptors of global_bitmap, or of the allocator named', dump: groups },
  { name: 'journal', text: 'the journal of a slot', dump: journal },
  { name: 'slots', text: 'the slot map', dump: slots },
  { name: 'heartbeat', text: 'beats in the heartbeat area', dump: heartbeat },
  { name: 'xattrs', text: 'extended attributes of an inode', dump: xattrs },
  { name: 'system', text: 'the system files with their inodes', dump: async ({ reader }) => [...(await systemFileNames(reader))].map(([name, inode]) => ({ name, inode })) },
];

export function needNumber(what: string, word: string | undefined): number {
  if (word !== undefined) return parseNumber(word);
  throw new UsageError('BAD_ARGUMENTS', 'EINVAL', `which ${what}? Give its number: lunfs dump DEVICE ${what} NUMBER`, { what });
}

async function superblock({ reader, word }: DumpContext): Promise<unknown> {
  if (word === undefined) return dinode(await reader.readRaw(SUPER_BLOCK_BLKNO));
  const offset = BACKUP_SUPER_OFFSETS[parseNumber(word)];
  if (offset === undefined) throw new UsageError('BAD_NUMBER', 'EINVAL', `${word}: backups of the superblock are numbered 0 to ${BACKUP_SUPER_OFFSETS.length - 1}`, { value: word });
  return dinode(await reader.readRaw(offset / reader.geo.blockSize));
}

async function anything({ reader, word }: DumpContext): Promise<unknown> {
  const block = await reader.readRaw(needNumber('block', word));
  return { block: block.blkno, ...anyBlock(reader.geo, block) };
}

/** A tree with its interior nodes. Depth falls by one per level, so a loop ends. */
async function extentTree(reader: RawReader, block: Block, base: number): Promise<Dumped> {
  const list = new ExtentList(block, base);
  const shown = { block: block.blkno, ...extentList(block, base) };
  if (list.depth === 0 || list.depth > DEPTH_MAX) return shown;
  const children: Dumped[] = [];
  for (let i = 0; i < Math.min(list.nextFree, list.count); i++) {
    const child = await reader.readRaw(list.blkno(i));
    const { depth } = new ExtentList(child, EB_LIST);
    children.push(depth === list.depth - 1 ? await extentTree(reader, child, EB_LIST) : { block: child.blkno, problem: `depth ${depth} where ${list.depth - 1} belongs` });
  }
  return { ...shown, children };
}

async function directory({ reader, inode }: DumpContext): Promise<unknown> {
  const block = await reader.inode(await inode());
  const di = Dinode.at(block);
  if ((di.mode & S_IFMT) !== MODE.DIR) throw new UsageError('NOT_A_DIRECTORY', 'ENOTDIR', `${reader.geo.device}: inode ${block.blkno} is no directory`, { inode: block.blkno });
  const types = new Map<number, string>(Object.entries(FT).map(([name, value]) => [value, name.toLowerCase()]));
  const entries = (await reader.entries(block)).map((one) => ({ inode: one.inode, type: types.get(one.type) ?? one.type, ...nameFact('name', one.name) }));
  if (!(di.dynFeatures & DYN.INDEXED_DIR)) return { inode: block.blkno, entries };
  const root = await reader.readRaw(di.dxRoot);
  const index = anyBlock(reader.geo, root).content;
  if (DxRoot.at(root).flags & DX_INLINE) return { inode: block.blkno, entries, index };
  const leaves: Dumped[] = [];
  for await (const { blkno, clusters } of reader.extents(root, DX_ROOT_LIST)) {
    for (let i = 0; i < clusters * reader.geo.bpc; i++) leaves.push({ block: blkno + i, ...anyBlock(reader.geo, await reader.readRaw(blkno + i)).content });
  }
  return { inode: block.blkno, entries, index, leaves };
}

async function groups({ reader, word = 'global_bitmap' }: DumpContext): Promise<unknown> {
  const blkno = (await systemFileNames(reader)).get(word);
  const block = blkno === undefined ? undefined : await reader.inode(blkno);
  if (block === undefined || !(Dinode.at(block).flags & FL.CHAIN)) {
    throw new UsageError('BAD_ARGUMENTS', 'EINVAL', `"${word}" is no allocator; try global_bitmap, inode_alloc:0000 or extent_alloc:0000 (lunfs dump DEVICE system)`, { name: word });
  }
  const list = new ChainList(block);
  const out: Dumped[] = [];
  const seen = new Set<number>();
  for (let chain = 0; chain < list.nextFree && chain < list.count; chain++) {
    for (let at = list.blkno(chain); at !== 0 && !seen.has(at) && seen.size < GROUPS_MAX; ) {
      seen.add(at);
      const descriptor = await reader.readRaw(at);
      out.push(anyBlock(reader.geo, descriptor).content);
      at = GroupDesc.at(descriptor).nextGroup;
    }
  }
  return { allocator: word, inode: block.blkno, ...(dinode(block).chainList as Dumped), groups: out };
}

async function journal({ reader, word }: DumpContext): Promise<unknown> {
  const slot = needNumber('journal', word);
  const { journal: inodes } = await readSystemFiles(reader);
  if (inodes[slot] === undefined) throw new UsageError('BAD_NUMBER', 'EINVAL', `${slot}: slots are numbered 0 to ${reader.geo.maxSlots - 1}`, { slot });
  const inode = await reader.inode(inodes[slot]);
  const blocks: Dumped[] = [];
  let superBlock: Dumped | undefined;
  let at = 0;
  for await (const { blkno, clusters } of reader.extents(inode, ID2)) {
    for (let i = 0; i < clusters * reader.geo.bpc; i++, at++) {
      // The log's superblock is 1024 bytes: two blocks where they are smaller.
      const block = await reader.readRaw(blkno + i, at === 0 ? Math.max(1, 1024 / reader.geo.blockSize) : 1);
      const { kind, content } = anyBlock(reader.geo, block);
      if (at === 0) superBlock = journalBlock(block);
      else if (kind === 'journal block') blocks.push({ logBlock: at, block: block.blkno, ...content });
    }
  }
  return { slot, inode: inode.blkno, ...structure(JournalId1, inode), superBlock, blocks };
}

async function slots({ reader }: DumpContext): Promise<unknown> {
  const map = await SlotMap.read(reader, (await readSystemFiles(reader)).slotMap);
  return Array.from({ length: reader.geo.maxSlots }, (_, slot) => ({ slot, node: map.node(slot) }));
}

async function heartbeat({ reader }: DumpContext): Promise<unknown> {
  const inode = await reader.inode((await readSystemFiles(reader)).heartbeat);
  const unit = reader.device.logicalBlockSize;
  const out: Dumped[] = [];
  // The area is one extent (ondisk-format.md 10.2), one device block per node number.
  for await (const { blkno, clusters } of reader.extents(inode, ID2)) {
    const area = await reader.readRaw(blkno, Math.min(clusters * reader.geo.bpc, Math.ceil((HEARTBEAT_NODES * unit) / reader.geo.blockSize)));
    for (let node = 0; node < HEARTBEAT_NODES && (node + 1) * unit <= area.bytes.length; node++) {
      const block = new Block(area.device, blkno, area.bytes.subarray(node * unit, (node + 1) * unit));
      if (HeartbeatBlock.at(block).seq !== 0n) out.push({ place: node, ...structure(HeartbeatBlock, block) });
    }
    break;
  }
  return out;
}

async function xattrs({ reader, inode }: DumpContext): Promise<unknown> {
  const out: Dumped[] = [];
  for (const one of await listXattrs(reader, await reader.inode(await inode()))) {
    const { item } = one;
    out.push({ ...nameFact('name', fullXattrName(item)), type: item.type, size: item.size, stored: isLocal(item) ? 'beside its name' : 'in extents', value: Buffer.from(await xattrValue(reader, one)).toString('hex') });
  }
  return out;
}

/** An inode by path, through raw directory blocks: works where a mount would not. `//name` is a system file. Symlinks are not followed. */
export async function inodeOfPath(reader: RawReader, path: string): Promise<number> {
  const { geo } = reader;
  let at = path.startsWith('//') ? geo.systemDirBlkno : geo.rootBlkno;
  for (const name of path.split('/').filter((one) => one !== '')) {
    const block = await reader.inode(at);
    const wanted = Buffer.from(name);
    const found = (Dinode.at(block).mode & S_IFMT) === MODE.DIR ? (await reader.entries(block)).find((one) => wanted.equals(one.name)) : undefined;
    if (found === undefined) throw new UsageError('NOT_FOUND', 'ENOENT', `${geo.device}:${path} does not exist`, { path });
    at = found.inode;
  }
  return at;
}
