/** The index of a directory against its entries (ondisk-format.md 6.4-6.6): every name found where its hash leads, nothing else, the list of blocks with room. */
import type { Block } from '../format/block.js';
import { DX_LEAF, validateBlock } from '../format/kinds.js';
import { DxEntryList } from '../format/lists.js';
import { DX_INLINE, DX_LEAF_LIST, DX_ROOT_LIST, DxRoot } from '../format/structs.js';
import type { ExtentRecord } from '../inspect/raw-reader.js';
import { blocksAhead } from './block-runs.js';
import type { Checker } from './checker.js';
import type { NameTable } from './name-table.js';

/** What an index's list of blocks with room says of a block. */
export interface FreeRecord {
  readonly recorded: number;
  readonly next: number;
}

/** `blocks`: the directory's blocks as `names` counts them; `nameAt`: the text of a name, for messages. */
export async function checkIndex(
  c: Checker, dir: number, root: Block, blocks: readonly number[], names: NameTable, free: ReadonlyMap<number, FreeRecord>,
  nameAt: (place: { block: number; at: number }) => Promise<string>,
): Promise<void> {
  const { findings } = c;
  const dr = DxRoot.at(root);
  const numbers = new Map(blocks.map((blkno, i) => [blkno, i]));
  let total = 0, stray = 0;
  const gather = (block: Block, list: DxEntryList): void => {
    for (let i = 0; i < list.used; i++) {
      const number = numbers.get(c.guardSync('DX_TREE_CORRUPT', `directory ${dir}: index block ${block.blkno}`, () => list.direntBlk(i)) ?? -1);
      total++;
      if (number === undefined || !names.match(list.major(i), list.minor(i), number)) stray++;
    }
  };
  if (dr.flags & DX_INLINE) gather(root, new DxEntryList(root, DX_ROOT_LIST));
  else {
    const records: ExtentRecord[] = [];
    for await (const rec of c.reader.extents(root, DX_ROOT_LIST)) records.push(rec);
    // A tree that lies about its size is known to be wrong; its leaves could be any blocks of the volume.
    if (records.reduce((sum, { clusters }) => sum + clusters, 0) !== dr.clusters) return;
    for (const [r, rec] of records.entries()) {
      const end = r + 1 < records.length ? records[r + 1].cpos : 2 ** 32;
      let b = 0;
      for await (const leaf of blocksAhead(c.reader, one(rec), Infinity, () => undefined)) {
        c.guardSync('DX_TREE_CORRUPT', `index of directory ${dir}`, () => {
          validateBlock(leaf, DX_LEAF, c.geo);
          checkPlaces(c, dir, leaf, rec, end, b);
          gather(leaf, new DxEntryList(leaf, DX_LEAF_LIST));
        });
        b++;
      }
    }
  }
  for (const place of names.unmatched()) findings.error('DX_LOOKUP_FAILED', `directory ${dir}: "${await nameAt(place)}" is not in the index`, dir);
  if (stray > 0) findings.error('DX_LOOKUP_FAILED', `directory ${dir}: ${stray} index entries point to no name`, dir);
  const entries = names.names;
  if (dr.numEntries !== entries) findings.error('DX_ENTRY_COUNT', `directory ${dir}: the index counts ${dr.numEntries} entries, there are ${entries}`, root.blkno);
  if (total !== entries) findings.error('DX_ENTRY_COUNT', `directory ${dir}: the index holds ${total} entries, there are ${entries}`, root.blkno);
  checkFreeList(c, dir, dr.freeBlk, free);
}

async function* one(rec: ExtentRecord): AsyncGenerator<ExtentRecord> {
  yield rec;
}

/** Is every entry in the leaf that its hash leads to? `b`: number of the leaf in its record, which ends at hash `end`. */
function checkPlaces({ geo, findings }: Checker, dir: number, leaf: Block, rec: ExtentRecord, end: number, b: number): void {
  const list = new DxEntryList(leaf, DX_LEAF_LIST);
  const cluster = Math.floor(b / geo.bpc);
  for (let i = 0; i < list.used; i++) {
    const major = list.major(i);
    const own = major >= rec.cpos && major < end && Math.min(major - rec.cpos, rec.clusters - 1) === cluster && (list.minor(i) & (geo.bpc - 1)) === b % geo.bpc;
    if (!own) findings.error('DX_LOOKUP_FAILED', `directory ${dir}: index entry ${i} of leaf ${leaf.blkno} is in the wrong leaf`, leaf.blkno);
  }
}

function checkFreeList(c: Checker, dir: number, head: number, free: ReadonlyMap<number, FreeRecord>): void {
  const listed = new Set<number>();
  for (let at = head; at !== 0; ) {
    const block = free.get(at);
    if (!block || listed.has(at)) return c.findings.error('DX_FREE_LIST', `directory ${dir}: the list of blocks with room ${block ? 'loops at' : 'leads to foreign'} block ${at}`, at);
    listed.add(at);
    at = block.next;
  }
  for (const [blkno, { recorded }] of free) {
    if (recorded > 0 && !listed.has(blkno)) c.findings.error('DX_FREE_LIST', `directory ${dir}: block ${blkno} has room but is not on the list`, blkno);
  }
}
