/** Where two volumes differ, by structure and field. */
import type { MemoryDevice } from '@lunfs/device';
import { Block, Dinode, DirTrailer, DIR_TRAILER_SIZE, GlobalQuotaInfo, GroupDesc, Jbd2Super, JBD2_MAGIC, QUOTA_MAGIC, SIG, SuperBlock } from '../../src/format/index.js';

interface Table {
  readonly structName: string;
  readonly fields: Record<string, { readonly off: number; readonly size: number }>;
}

/** The tables that describe a block, by its signature; the rest of the block is its `body`. */
function tablesOf(block: Block): { tables: readonly Table[]; base: number; name: string } {
  const { bytes } = block;
  const signature = Buffer.from(bytes.subarray(0, 8)).toString('latin1').replace(/\0+$/, '');
  if (signature === SIG.superBlock) return { tables: [SuperBlock, Dinode], base: 0, name: 'super_block' };
  if (signature === SIG.dinode) return { tables: [Dinode], base: 0, name: 'dinode' };
  if (signature === SIG.group) return { tables: [GroupDesc], base: 0, name: 'group_desc' };
  if (Jbd2Super.at(block).magic === JBD2_MAGIC) return { tables: [Jbd2Super], base: 0, name: 'jbd2_superblock' };
  if (Object.values<number>(QUOTA_MAGIC.global).includes(GlobalQuotaInfo.at(block).magic)) return { tables: [GlobalQuotaInfo], base: 0, name: 'global_quota_info' };
  const trailer = bytes.length - DIR_TRAILER_SIZE;
  if (DirTrailer.at(block, trailer).signature === SIG.dirTrailer) return { tables: [DirTrailer], base: trailer, name: 'dir_block' };
  return { tables: [], base: 0, name: 'data' };
}

function fieldAt(block: Block, at: number): string {
  const { tables, base, name } = tablesOf(block);
  for (const { structName, fields } of tables) {
    for (const [field, { off, size }] of Object.entries(fields)) if (at >= base + off && at < base + off + size) return `${structName}.${field}`;
  }
  return `${name} byte 0x${at.toString(16)}`;
}

/** Fields in which `a` and `b` differ, each with the blocks it differs in. Unwritten bytes of memory devices are zero. */
export function diffVolumes(a: MemoryDevice, b: MemoryDevice, blockSize: number): Map<string, number[]> {
  const out = new Map<string, number[]>();
  const chunks = new Map<number, number>();
  for (const device of [a, b]) for (const { offset, bytes } of device.contents()) chunks.set(offset, Math.min(bytes.length, a.size - offset));
  for (const [offset, length] of [...chunks].sort(([x], [y]) => x - y)) {
    const left = new Uint8Array(length), right = new Uint8Array(length);
    a.readSync(offset, left);
    b.readSync(offset, right);
    if (Buffer.compare(left, right) === 0) continue;
    for (let at = 0; at < length; at += blockSize) {
      const x = left.subarray(at, at + blockSize), y = right.subarray(at, at + blockSize);
      if (Buffer.compare(x, y) === 0) continue;
      const blkno = (offset + at) / blockSize;
      const block = new Block('diff', blkno, x);
      for (const field of new Set([...x.keys()].filter((i) => x[i] !== y[i]).map((i) => fieldAt(block, i)))) {
        out.set(field, [...(out.get(field) ?? []), blkno]);
      }
    }
  }
  return out;
}
