/** Everything stat-like about an inode, from its dinode. */
import { type Block, DYN, Dinode, EXT, FL, type FileExtent, type Geometry, ID2, MODE, type RawReader, S_IFMT } from '@lunfs/ocfs2';
import { decodeDevice, kindOf } from './copy/volume-tree.js';
import { formatTime } from './sizes.js';

export interface InodeFacts {
  readonly inode: number;
  readonly generation: number;
  readonly kind: string;
  /** Permission bits. */
  readonly mode: number;
  readonly links: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly clusters: number;
  readonly allocated: number;
  readonly inline: boolean;
  readonly flags: readonly string[];
  readonly features: readonly string[];
  readonly attributes: number;
  readonly slot: number;
  readonly bit: number;
  readonly group: number;
  readonly major?: number;
  readonly minor?: number;
  readonly atime: string;
  readonly mtime: string;
  readonly ctime: string;
  readonly dtime?: string;
  readonly times: { readonly atime: readonly [number, number]; readonly mtime: readonly [number, number]; readonly ctime: readonly [number, number] };
}

export function inodeFacts(geo: Geometry, block: Block): InodeFacts {
  const di = Dinode.at(block);
  const kind = kindOf(di);
  const inline = (di.dynFeatures & DYN.INLINE_DATA) !== 0;
  const device = kind === 'char' || kind === 'block' ? decodeDevice(Number(di.rdev & 0xffffffffn)) : {};
  return {
    inode: block.blkno, generation: di.generation, kind, mode: di.mode & 0o7777,
    links: di.links + (di.dynFeatures & DYN.INDEXED_DIR ? di.linksHi * 0x10000 : 0), uid: di.uid, gid: di.gid, size: di.size, clusters: di.clusters,
    allocated: inline ? 0 : di.clusters * geo.clusterSize, inline, flags: names(di.flags, FL), features: names(di.dynFeatures, DYN), attributes: di.attr,
    slot: di.suballocSlot, bit: di.suballocBit, group: di.suballocLoc, ...device,
    atime: formatTime(di.atime, di.atimeNsec), mtime: formatTime(di.mtime, di.mtimeNsec), ctime: formatTime(di.ctime, di.ctimeNsec), dtime: di.dtime === 0 ? undefined : formatTime(di.dtime),
    times: { atime: [di.atime, di.atimeNsec], mtime: [di.mtime, di.mtimeNsec], ctime: [di.ctime, di.ctimeNsec] },
  };
}

/** Names of the set bits, as in the format's description, lower case with dashes. */
export function names(bits: number, table: Readonly<Record<string, number>>): string[] {
  return Object.entries(table).filter(([, bit]) => bits & bit).map(([name]) => name.toLowerCase().replaceAll('_', '-'));
}

/** Does the inode's body hold an extent list? */
export function hasExtents(block: Block): boolean {
  const di = Dinode.at(block);
  if (di.dynFeatures & DYN.INLINE_DATA || di.flags & (FL.CHAIN | FL.LOCAL_ALLOC | FL.DEALLOC | FL.SUPER_BLOCK)) return false;
  const type = di.mode & S_IFMT;
  return type === MODE.REG || type === MODE.DIR || (type === MODE.LNK && di.clusters > 0);
}

/** All extents of an inode, in bytes. */
export async function inodeExtents(reader: RawReader, block: Block): Promise<FileExtent[]> {
  const { clusterSize, blockSize } = reader.geo;
  const out: FileExtent[] = [];
  if (!hasExtents(block)) return out;
  for await (const { cpos, clusters, blkno, flags } of reader.extents(block, ID2)) {
    out.push({ offset: cpos * clusterSize, length: clusters * clusterSize, device: blkno * blockSize, unwritten: (flags & EXT.UNWRITTEN) !== 0, shared: (flags & EXT.REFCOUNTED) !== 0 });
  }
  return out;
}

const TYPE_LETTERS: Readonly<Record<string, string>> = { file: '-', directory: 'd', symlink: 'l', fifo: 'p', socket: 's', block: 'b', char: 'c' };

/** `drwxr-xr-x`. */
export function modeText(kind: string, mode: number): string {
  const triple = (bits: number, special: boolean, letter: string) =>
    `${bits & 4 ? 'r' : '-'}${bits & 2 ? 'w' : '-'}${special ? (bits & 1 ? letter : letter.toUpperCase()) : bits & 1 ? 'x' : '-'}`;
  return (TYPE_LETTERS[kind] ?? '?') + triple((mode >> 6) & 7, (mode & 0o4000) !== 0, 's') + triple((mode >> 3) & 7, (mode & 0o2000) !== 0, 's') + triple(mode & 7, (mode & 0o1000) !== 0, 't');
}

/** Permission bits as `0644`. */
export function octal(mode: number): string {
  return mode.toString(8).padStart(4, '0');
}
