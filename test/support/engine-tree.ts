/**
 * A mounted volume by paths, and what is in it as a manifest: the engine's side of comparisons with Linux.
 *
 * A manifest line holds type, mode, owner, links, size, 512-byte blocks, mtime, ctime and inode number, then the link target,
 * the device number or the SHA-256 of the content. Paths are latin1 strings, one character per byte: names need not be UTF-8.
 */
import { createHash } from 'node:crypto';
import { type Attributes, type AttributeChange, type FallocateMode, MODE, S_IFMT, type Volume, fallocate, readFile, truncateFile, writeFile } from '@lunfs/ocfs2';
import { eachOf } from './parallel.js';

/** By path relative to the root (`.`). */
export type Tree = Map<string, string>;

/** Larger files are represented by their last MiB: hashing a sparse giant takes a machine under TCG minutes. */
export const HASHED_WHOLE = 64 << 20;
export const HASHED_TAIL = 1 << 20;

const LETTERS: Record<number, string> = { [MODE.REG]: 'f', [MODE.DIR]: 'd', [MODE.LNK]: 'l', [MODE.FIFO]: 'p', [MODE.SOCK]: 's', [MODE.BLK]: 'b', [MODE.CHR]: 'c' };

/** Device number as the dinode keeps it (Linux 6.1 include/linux/kdev_t.h:huge_encode_dev). */
export function deviceNumber(major: number, minor: number): number {
  return (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12);
}

const latin1 = (path: string): Uint8Array => Buffer.from(path, 'latin1');

export class EngineTree {
  constructor(readonly volume: Volume) {}

  /** Inode number of a path; the root is ''. */
  async resolve(path: string): Promise<number> {
    let at = this.volume.names.root;
    for (const name of path.split('/').filter(Boolean)) {
      at = (await this.volume.names.lookup(at, latin1(name))).blkno;
      await this.volume.names.forget(at);
    }
    return at;
  }

  async #make(path: string, mode: number, more: { rdev?: number; target?: Uint8Array; uid?: number; gid?: number } = {}): Promise<number> {
    const [dir, name] = await this.#split(path);
    const { blkno } = await this.volume.names.create(dir, name, { mode, uid: 0, gid: 0, ...more });
    await this.volume.names.forget(blkno);
    return blkno;
  }

  async #split(path: string): Promise<[number, Uint8Array]> {
    const at = path.lastIndexOf('/');
    return [await this.resolve(path.slice(0, Math.max(0, at))), latin1(path.slice(at + 1))];
  }

  mkdir(path: string, mode = 0o755): Promise<number> {
    return this.#make(path, MODE.DIR | mode);
  }

  /** A new regular file with this content. */
  async create(path: string, content: Uint8Array | string = '', mode = 0o644): Promise<number> {
    const ino = await this.#make(path, MODE.REG | mode);
    await writeFile(this.volume.ctx, ino, 0, Buffer.from(content));
    return ino;
  }

  symlink(target: string, path: string): Promise<number> {
    return this.#make(path, MODE.LNK | 0o777, { target: latin1(target) });
  }

  /** `mode`: with the type, MODE.FIFO for one. */
  mknod(path: string, mode: number, rdev = 0): Promise<number> {
    return this.#make(path, mode, { rdev });
  }

  async link(from: string, to: string): Promise<void> {
    const [dir, name] = await this.#split(to);
    const { blkno } = await this.volume.names.link(await this.resolve(from), dir, name);
    await this.volume.names.forget(blkno);
  }

  async reflink(from: string, to: string): Promise<void> {
    const { blkno } = await this.volume.names.reflink(await this.resolve(from), ...(await this.#split(to)), { uid: 0, gid: 0 });
    await this.volume.names.forget(blkno);
  }

  async rename(from: string, to: string): Promise<void> {
    const [oldDir, oldName] = await this.#split(from);
    const [newDir, newName] = await this.#split(to);
    await this.volume.names.rename({ oldDir, oldName, newDir, newName });
  }

  async unlink(path: string): Promise<void> {
    await this.volume.names.unlink(...(await this.#split(path)));
  }

  async rmdir(path: string): Promise<void> {
    await this.volume.names.rmdir(...(await this.#split(path)));
  }

  /** A directory and all below it. */
  async removeTree(path: string): Promise<void> {
    for (const { name, blkno } of await this.#entries(await this.resolve(path))) {
      const directory = ((await this.volume.names.attributes(blkno)).mode & S_IFMT) === MODE.DIR;
      await (directory ? this.removeTree(`${path}/${name}`) : this.unlink(`${path}/${name}`));
    }
    await this.rmdir(path);
  }

  async write(path: string, offset: number | 'append', content: Uint8Array | string): Promise<void> {
    await writeFile(this.volume.ctx, await this.resolve(path), offset, Buffer.from(content));
  }

  async truncate(path: string, size: number): Promise<void> {
    await truncateFile(this.volume.ctx, await this.resolve(path), size);
  }

  async fallocate(path: string, mode: FallocateMode, offset: number, length: number, keepSize = false): Promise<void> {
    await fallocate(this.volume.ctx, await this.resolve(path), mode, offset, length, keepSize);
  }

  async change(path: string, change: AttributeChange): Promise<void> {
    await this.volume.names.change(await this.resolve(path), change);
  }

  async read(path: string): Promise<Buffer> {
    const ino = await this.resolve(path);
    return this.#content(await this.volume.names.attributes(ino));
  }

  async #content({ blkno, size }: Attributes, from = 0): Promise<Buffer> {
    const bytes = Buffer.alloc(size - from);
    const n = await readFile(this.volume.ctx, blkno, from, bytes);
    if (n !== bytes.length) throw new Error(`inode ${blkno}: ${n} bytes read at ${from}, ${bytes.length} expected`);
    return bytes;
  }

  async #entries(dir: number): Promise<{ name: string; blkno: number }[]> {
    const all: { name: string; blkno: number }[] = [];
    for (let position = 0, end = false; !end; ) {
      const part = await this.volume.names.readdir(dir, position);
      for (const { name, blkno, next } of part.entries) {
        const text = Buffer.from(name).toString('latin1');
        if (text !== '.' && text !== '..') all.push({ name: text, blkno });
        position = next;
      }
      end = part.end;
    }
    return all;
  }

  /** Everything in the volume, or below `top`. Contents are read through the engine. */
  async manifest(top = ''): Promise<Tree> {
    const out: Tree = new Map();
    for (const { path, attributes } of await this.list(top)) out.set(path, await this.line(attributes, true));
    return out;
  }

  /** Every path of the volume, or below `top`, each directory before what is in it. */
  async list(top = ''): Promise<{ path: string; attributes: Attributes }[]> {
    const out: { path: string; attributes: Attributes }[] = [];
    const seen = new Set<string>();
    const collect = async (path: string, attributes: Attributes): Promise<void> => {
      if (seen.has(path)) throw new Error(`${path} is listed twice`);
      seen.add(path);
      out.push({ path, attributes });
      if ((attributes.mode & S_IFMT) !== MODE.DIR) return;
      const entries = await this.#entries(attributes.blkno);
      const found = await eachOf(entries, ({ blkno }) => this.volume.names.attributes(blkno));
      for (const [i, { name }] of entries.entries()) await collect(path === '.' ? name : `${path}/${name}`, found[i]);
    };
    await collect(top === '' ? '.' : top, await this.volume.names.attributes(await this.resolve(top)));
    return out;
  }

  /** What a manifest says of an inode; of files, the content only if asked. */
  async line(a: Attributes, content = false): Promise<string> {
    const type = a.mode & S_IFMT;
    return manifestLine({
      type: LETTERS[type], mode: a.mode & 0o7777, uid: a.uid, gid: a.gid, links: a.links, size: a.size, blocks: a.blocks, inode: a.blkno,
      mtime: time(a.mtime), ctime: time(a.ctime), content: type === MODE.REG && !content ? '' : await this.#told(a),
    });
  }

  async #told(a: Attributes): Promise<string> {
    const type = a.mode & S_IFMT;
    if (type === MODE.LNK) return Buffer.from(await this.volume.names.readlink(a.blkno)).toString('latin1');
    if (type === MODE.BLK || type === MODE.CHR) return `${(a.rdev & 0xfff00) >> 8}:${(a.rdev & 0xff) | ((a.rdev >>> 12) & 0xfff00)}`;
    if (type !== MODE.REG) return '';
    return createHash('sha256').update(await this.#content(a, a.size > HASHED_WHOLE ? a.size - HASHED_TAIL : 0)).digest('hex');
  }
}

function time({ sec, nsec }: { sec: number; nsec: number }): string {
  return `${sec}.${String(nsec).padStart(9, '0')}`;
}

export interface ManifestFields {
  type: string;
  mode: number;
  uid: number;
  gid: number;
  links: number;
  size: number;
  blocks: number;
  mtime: string;
  ctime: string;
  inode: number;
  content: string;
}

/** One line, from whichever side. */
export function manifestLine(f: ManifestFields): string {
  return [f.type, f.mode.toString(8), `${f.uid}:${f.gid}`, `links ${f.links}`, `size ${f.size}`, `blocks ${f.blocks}`, `mtime ${f.mtime}`, `ctime ${f.ctime}`, `inode ${f.inode}`, f.content].join(' ');
}

/** Throws with the first differences unless the trees are equal. */
export function expectSameTree(found: Tree, expected: Tree, what: string): void {
  const lines: string[] = [];
  for (const [path, line] of expected) {
    const other = found.get(path);
    if (other !== line) lines.push(`${JSON.stringify(path)}\n  expected ${line}\n  found    ${other ?? 'nothing'}`);
  }
  for (const path of found.keys()) if (!expected.has(path)) lines.push(`${JSON.stringify(path)} was not expected: ${found.get(path)!}`);
  if (lines.length > 0) throw new Error(`${what}: ${lines.length} of ${expected.size} entries differ\n${lines.slice(0, 20).join('\n')}`);
}
