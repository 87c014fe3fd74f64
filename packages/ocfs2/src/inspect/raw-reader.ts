/**
 * Reads a volume's structures straight from the device: no locks, no cache, no journal. For finding the system files at
 * mount, for the verifier and for `lunfs info|dump`. Whoever uses it on a volume that others have mounted sees blocks
 * that may be older than what their journals hold.
 *
 * Everything is checked as it is read: kinds.ts for the fields of each block; here that trees descend (depth falls by
 * one per level, so no loop is possible) and that block numbers lie inside the volume.
 */
import { type BlockDevice, CorruptionError, UsageError } from '@lunfs/device';
import { Block, badField } from '../format/block.js';
import { DYN, EXT, MAX_BLOCK_SIZE, MIN_BLOCK_SIZE, MODE, S_IFMT, SIG, SUPER_BLOCK_BLKNO } from '../format/constants.js';
import { type Geometry, checkBlkno, dirBlockCount, parseSuperBlock } from '../format/geometry.js';
import { type BlockKind, DINODE, EXTENT_BLOCK, validateBlock } from '../format/kinds.js';
import { ExtentList } from '../format/lists.js';
import { Dinode, EB_LIST, ID2, INLINE_DATA_START } from '../format/structs.js';

/** One leaf extent record. */
export interface ExtentRecord {
  /** First cluster in the file (or key, for other trees). */
  readonly cpos: number;
  readonly clusters: number;
  /** First block on the volume. */
  readonly blkno: number;
  readonly flags: number;
}

/** One directory entry as it lies on disk. */
export interface RawDirent {
  readonly name: Uint8Array;
  readonly inode: number;
  readonly type: number;
}

/** Bytes of an entry before its name. */
const ENTRY_HEAD = 12;

/** Find the superblock: block 2 of every possible block size, smallest first. Throws NOT_OCFS2 when none is there. */
export async function readGeometry(device: BlockDevice): Promise<Geometry> {
  let found: unknown;
  for (let blockSize = MIN_BLOCK_SIZE; blockSize <= MAX_BLOCK_SIZE; blockSize *= 2) {
    if ((SUPER_BLOCK_BLKNO + 1) * blockSize > device.size) break;
    const bytes = await readBytes(device, SUPER_BLOCK_BLKNO * blockSize, blockSize);
    const block = new Block(device.name, SUPER_BLOCK_BLKNO, bytes);
    if (Dinode.at(block).signature !== SIG.superBlock) continue;
    try {
      return parseSuperBlock(block);
    } catch (error) {
      found ??= error;
    }
  }
  if (found !== undefined) throw found as Error;
  throw new UsageError('NOT_OCFS2', 'EINVAL', `${device.name} holds no OCFS2 volume; format it with "lunfs mkfs", or check that this is the right device`, { device: device.name });
}

/** Read a byte range whatever the device's logical block size is. */
async function readBytes(device: BlockDevice, offset: number, length: number): Promise<Uint8Array> {
  const unit = device.logicalBlockSize;
  const from = offset - (offset % unit);
  const to = Math.ceil((offset + length) / unit) * unit;
  const bytes = new Uint8Array(to - from);
  await device.read(from, bytes);
  return bytes.length === length ? bytes : bytes.slice(offset - from, offset - from + length);
}

export class RawReader {
  constructor(readonly device: BlockDevice, readonly geo: Geometry) {}

  static async open(device: BlockDevice): Promise<RawReader> {
    return new RawReader(device, await readGeometry(device));
  }

  /** A block's bytes without any check. */
  async readRaw(blkno: number, count = 1): Promise<Block> {
    const { blockSize } = this.geo;
    this.#checkRange(blkno, count);
    return new Block(this.geo.device, blkno, await readBytes(this.device, blkno * blockSize, count * blockSize));
  }

  /** Whole blocks into memory of the caller, without any check; it must take in whole logical blocks of the device. */
  async readInto(blkno: number, into: Uint8Array): Promise<Block> {
    this.#checkRange(blkno, into.length / this.geo.blockSize);
    await this.device.read(blkno * this.geo.blockSize, into);
    return new Block(this.geo.device, blkno, into);
  }

  async read(blkno: number, kind: BlockKind): Promise<Block> {
    const block = await this.readRaw(blkno);
    validateBlock(block, kind, this.geo);
    return block;
  }

  inode(blkno: number): Promise<Block> {
    return this.read(blkno, DINODE);
  }

  /** Leaf records of the tree whose root list starts at byte `base` of `root`, in order; empty records are left out. */
  async *extents(root: Block, base: number): AsyncGenerator<ExtentRecord> {
    const list = new ExtentList(root, base);
    const n = list.nextFree;
    // What calls itself a directory may be no inode with a tree: nobody has looked at its list yet.
    if (list.at(n) > root.bytes.length) throw badField(root, 'extent_list', 'l_next_free_rec', n, 'is more than the block has room for');
    if (list.depth === 0) {
      for (let i = 0; i < n; i++) {
        if (list.clusters(i) === 0) continue;
        yield { cpos: list.cpos(i), clusters: list.clusters(i), blkno: list.blkno(i), flags: list.flags(i) };
      }
      return;
    }
    for (let i = 0; i < n; i++) {
      const child = list.blkno(i);
      checkBlkno(this.geo, child, 'extent_list', `rec[${i}].e_blkno`, root);
      const block = await this.read(child, EXTENT_BLOCK);
      const below = new ExtentList(block, EB_LIST);
      if (below.depth !== list.depth - 1) throw badField(block, 'extent_block.h_list', 'l_tree_depth', below.depth, `should be ${list.depth - 1}`);
      yield* this.extents(block, EB_LIST);
    }
  }

  /** Content of an inode (file, directory, symlink) as bytes; `limit` guards memory. */
  async content(inode: Block, limit = 1 << 30): Promise<Uint8Array> {
    const di = Dinode.at(inode);
    const { blockSize, clusterSize } = this.geo;
    const size = di.size;
    if (size > limit) throw new UsageError('TOO_LARGE', 'EFBIG', `${this.geo.device}: inode ${inode.blkno} has ${size} bytes, more than ${limit}`);
    if (di.dynFeatures & DYN.INLINE_DATA) return inode.bytes.slice(INLINE_DATA_START, INLINE_DATA_START + size);
    if ((di.mode & S_IFMT) === MODE.LNK && di.clusters === 0) return inode.bytes.slice(ID2, ID2 + size);
    const out = new Uint8Array(size);
    for await (const { cpos, clusters, blkno, flags } of this.extents(inode, ID2)) {
      const at = cpos * clusterSize;
      if (flags & EXT.UNWRITTEN || at >= size) continue;
      const want = Math.min(clusters * clusterSize, size - at);
      out.set((await this.readRaw(blkno, Math.ceil(want / blockSize))).bytes.subarray(0, want), at);
    }
    return out;
  }

  #checkRange(blkno: number, count: number): void {
    const { totalBlocks, device } = this.geo;
    if (Number.isSafeInteger(blkno) && blkno >= 0 && blkno + count <= totalBlocks) return;
    throw new CorruptionError('BLOCK_RANGE', `${device}: block ${blkno} is outside the volume of ${totalBlocks} blocks`, { device, block: blkno, structure: 'volume', field: 'block number' });
  }

  /** Live entries of a directory in disk order, `.` and `..` included, by a linear walk (an index is not used). */
  async entries(dir: Block): Promise<RawDirent[]> {
    const di = Dinode.at(dir);
    const { blockSize, bpc } = this.geo;
    const out: RawDirent[] = [];
    if (di.dynFeatures & DYN.INLINE_DATA) {
      gatherEntries(dir, INLINE_DATA_START, INLINE_DATA_START + di.size, out);
      return out;
    }
    // Block by block: a size from disk is not what memory is taken by.
    let left = dirBlockCount(this.geo, di.size);
    for await (const { blkno, clusters } of this.extents(dir, ID2)) {
      for (let i = 0; i < clusters * bpc && left > 0; i++, left--) gatherEntries(await this.readRaw(blkno + i), 0, blockSize, out);
    }
    return out;
  }
}

/** The live entries in bytes [from, to) of a block. The trailer has inode 0 and name length 0, so it is skipped like any free entry. */
function gatherEntries(block: Block, from: number, to: number, out: RawDirent[]): void {
  const { bytes, dv } = block;
  for (let at = from; at < to; ) {
    const fits = at + ENTRY_HEAD <= to;
    const recLen = fits ? dv.getUint16(at + 8, true) : 0, nameLen = fits ? dv.getUint8(at + 10) : 0;
    if (recLen < ENTRY_HEAD || recLen % 4 !== 0 || at + recLen > to || nameLen + ENTRY_HEAD > recLen) {
      throw badField(block, 'dir_entry', `rec_len at byte ${at - from}`, recLen, 'does not fit the directory');
    }
    const inode = dv.getUint32(at + 4, true) * 2 ** 32 + dv.getUint32(at, true);
    if (inode !== 0) out.push({ name: bytes.slice(at + ENTRY_HEAD, at + ENTRY_HEAD + nameLen), inode, type: dv.getUint8(at + 11) });
    at += recLen;
  }
}
