/**
 * All that can be seen of a volume: entries with what stat shows, where their data is and its checksum, extended attributes,
 * and quota. Made of the engine's answers here, of Linux's in linux.ts, in the same words.
 */
import { createHash } from 'node:crypto';
import { type Attributes, MODE, S_IFMT, type Volume, fileStatus, readFile } from '@lunfs/ocfs2';
import type { EngineTree, Tree } from '../support/engine-tree.js';
import { eachOf } from '../support/parallel.js';
import { IDS } from './owners.js';

export interface State {
  /** A line of each path, with all that is known of it. */
  readonly entries: Tree;
  /** `TYPE ID BYTES INODES LIMITS…` of each id in use, as quotactl(2) counts. */
  readonly quota: readonly string[];
  /** MD5 (the cheapest under emulation) of all data, inodes in order. */
  readonly data: string;
}

const CHUNK = 1 << 20;
/** Pieces asked for at once. */
const PIECES = 2000;

/** What look.pl tells, of the engine. */
export async function stateOf(tree: EngineTree): Promise<State> {
  const { volume } = tree;
  const entries: Tree = new Map();
  const paths = new Map<number, string[]>();
  const hash = createHash('md5');
  const listed = await tree.list();
  for (const { path, attributes: a } of listed) paths.set(a.blkno, [...(paths.get(a.blkno) ?? []), path]);
  const inodes = new Map(listed.map(({ attributes: a }) => [a.blkno, a]));
  const inOrder = [...inodes].sort(([x], [y]) => x - y);
  const attributes = await eachOf(inOrder, ([blkno]) => attributesOf(volume, blkno));
  for (const [i, [blkno, a]] of inOrder.entries()) {
    const data = (a.mode & S_IFMT) === MODE.REG && a.size > 0 ? await dataOf(volume, a, (bytes) => hash.update(bytes)) : '';
    for (const path of paths.get(blkno)!) entries.set(path, `${await tree.line(a)} data ${data} attributes ${attributes[i]}`);
  }
  return { entries, quota: await quotaOf(volume), data: hash.digest('hex') };
}

async function dataOf(volume: Volume, { blkno, size }: Attributes, take: (bytes: Uint8Array | string) => void): Promise<string> {
  const pieces: { offset: number; length: number }[] = [];
  for (let at = 0; at < size; ) {
    const found = await fileStatus(volume.ctx, blkno, at, size - at, PIECES);
    for (const { offset, length, kind } of found) {
      const last = pieces.at(-1);
      if (kind === 'data' && last !== undefined && last.offset + last.length === offset) last.length += length;
      else if (kind === 'data') pieces.push({ offset, length });
      at = offset + length;
    }
  }
  let sum = 0n;
  for (const { offset, length } of pieces) {
    take(`${blkno} ${offset} ${length}\n`);
    for (let at = offset; at < offset + length; at += CHUNK) {
      const bytes = Buffer.alloc(Math.min(CHUNK, offset + length - at));
      const n = await readFile(volume.ctx, blkno, at, bytes);
      if (n !== bytes.length) throw new Error(`inode ${blkno}: ${n} bytes read at ${at}, ${bytes.length} expected`);
      take(bytes);
      sum += BigInt(sumOf(bytes));
    }
  }
  return `${pieces.map(({ offset, length }) => `${offset}+${length}`).join(',')} ${sum}`;
}

/** Sum of the 32-bit words of at most 1 MiB, a last one filled up with zeroes. */
function sumOf(bytes: Buffer): number {
  const padded = new Uint8Array((bytes.length + 3) & ~3);
  padded.set(bytes);
  let sum = 0;
  for (const word of new Uint32Array(padded.buffer)) sum += word;
  return sum;
}

async function attributesOf(volume: Volume, blkno: number): Promise<string> {
  if (!volume.geo.xattr) return '';
  const all: string[] = [];
  const names = (await volume.names.listXattr(blkno)).sort((a, b) => Buffer.compare(a, b));
  for (const name of names) all.push(`${Buffer.from(name).toString('latin1')}=${Buffer.from(await volume.names.getXattr(blkno, name)).toString('hex')}`);
  return all.join(' ');
}

async function quotaOf({ quota }: Volume): Promise<string[]> {
  const rows: string[] = [];
  for (const type of quota?.types ?? []) {
    const report = await quota!.report(type);
    const strange = report.find(({ id, space, inodes }) => !IDS.includes(id) && (space > 0 || inodes > 0));
    if (strange) throw new Error(`quota counts ${type} ${strange.id}, who owns nothing`);
    for (const id of IDS) {
      const r = report.find((one) => one.id === id);
      if (r === undefined) continue;
      const numbers = [r.space, r.inodes, r.spaceSoft / 1024, r.spaceHard / 1024, r.inodeSoft, r.inodeHard];
      if (numbers.some((n) => n > 0)) rows.push(`${type === 'user' ? 0 : 1} ${id} ${numbers.join(' ')}`);
    }
  }
  return rows;
}
