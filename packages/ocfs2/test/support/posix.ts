/**
 * A volume and a tree in memory that go through the same steps: what crash and random tests drive. Steps are data, so a
 * script can be printed, enumerated and replayed. The model says what each step must return and what must be there after.
 */
import { LunfsError } from '@lunfs/device';
import { flushTruncateLog } from '../../src/alloc/index.js';
import { MODE, S_IFMT } from '../../src/format/index.js';
import { type AttributeChange, type Volume, fallocate, flushTimes, readFile, truncateFile, writeFile } from '../../src/volume/index.js';
import { DIR, FILE, bytes, device, symlink, text } from '../volume/support.js';
import { Node, type NodeAttributes, TreeModel } from '../volume/tree-model.js';

/** Paths have no leading slash. Where a file is meant, `#NAME` is the file that `open` gave this name. */
export type Step =
  | { readonly do: 'create' | 'mkdir' | 'unlink' | 'rmdir'; readonly path: string }
  | { readonly do: 'symlink'; readonly path: string; readonly target: string }
  | { readonly do: 'mknod'; readonly path: string; readonly rdev: number }
  | { readonly do: 'link'; readonly path: string; readonly to: string }
  /** Volumes without the feature refcount do nothing. */
  | { readonly do: 'reflink'; readonly path: string; readonly to: string }
  /** chmod, chown, utimes. */
  | { readonly do: 'change'; readonly path: string; readonly change: Pick<AttributeChange, 'mode' | 'uid' | 'gid'> & { readonly atime?: { readonly sec: number; readonly nsec: number } } }
  | { readonly do: 'rename'; readonly path: string; readonly to: string; readonly noReplace?: boolean }
  | { readonly do: 'write'; readonly path: string; readonly at: number | 'append'; readonly length: number }
  | { readonly do: 'truncate'; readonly path: string; readonly size: number }
  | { readonly do: 'reserve' | 'punch' | 'zero'; readonly path: string; readonly at: number; readonly length: number; readonly keep?: boolean }
  | { readonly do: 'open'; readonly path: string; readonly as: string }
  | { readonly do: 'close'; readonly as: string }
  /** sync: all durable; fsync: one file; ack: commit without the last flush; checkpoint: log emptied; release: truncate log flushed. */
  | { readonly do: 'sync' | 'ack' | 'checkpoint' }
  | { readonly do: 'release' }
  | { readonly do: 'fsync'; readonly path: string }
  /** Time passes: the commit timer fires; nobody waits for the commit. */
  | { readonly do: 'tick' };

/** One name of the tree at some moment. */
export interface Entry {
  readonly node: Node;
  readonly links: number;
  readonly attributes: NodeAttributes;
  readonly content: Uint8Array;
}

/** Every path of a moment; the root is ''. */
export type Snapshot = ReadonlyMap<string, Entry>;

/** Bytes that tell place and writer apart. */
export function pattern(at: number, length: number, fill: number): Uint8Array {
  const out = new Uint8Array(length);
  for (let i = 0; i < length; i++) out[i] = ((at + i) * 31 + fill * 17 + ((at + i) >> 8)) & 0xff || 1;
  return out;
}

/** What a name is on the volume. */
export interface Found {
  readonly ino: number;
  readonly kind: Node['kind'];
  readonly links: number;
  readonly target: string;
  readonly attributes: Required<NodeAttributes>;
  readonly content: Uint8Array;
}

/** Every path of a mounted volume with all there is to it. */
export async function readTree(volume: Volume): Promise<Map<string, Found>> {
  const out = new Map<string, Found>();
  const visit = async (ino: number, path: string): Promise<void> => {
    const { mode, links, size, uid, gid, rdev, atime } = await volume.names.attributes(ino);
    const type = mode & S_IFMT;
    const kind = type === MODE.DIR ? 'directory' : type === MODE.LNK ? 'symlink' : type === MODE.REG ? 'file' : 'device';
    const content = new Uint8Array(kind === 'file' ? size : 0);
    if (kind === 'file' && (await readFile(volume.ctx, ino, 0, content)) !== size) throw new Error(`${path}: fewer bytes than its size of ${size}`);
    const attributes = { mode: mode & 0o7777, uid, gid, rdev, atime: atime.sec };
    out.set(path, { ino, kind, links, attributes, target: kind === 'symlink' ? text(await volume.names.readlink(ino)) : '', content });
    if (kind !== 'directory') return;
    for (let position = 0, end = false; !end; ) {
      const part = await volume.names.readdir(ino, position);
      for (const { name, blkno, next } of part.entries) {
        position = next;
        if (text(name) !== '.' && text(name) !== '..') await visit(blkno, path === '' ? text(name) : `${path}/${text(name)}`);
      }
      end = part.end;
    }
  };
  await visit(volume.names.root, '');
  return out;
}

export class Posix {
  readonly model = new TreeModel();
  readonly #open = new Map<string, Node>();
  /** Steps that found what they were about, and how many of them came to ENOSPC. */
  done = 0;
  full = 0;

  private constructor(public volume: Volume, private readonly fireTimers: () => void) {}

  /** The model begins with what is on the volume. */
  static async begin(volume: Volume, fireTimers: () => void = () => undefined): Promise<Posix> {
    const posix = new Posix(volume, fireTimers);
    const known = new Map<number, Node>();
    const { model } = posix;
    for (const [path, found] of await readTree(volume)) {
      if (path === '') {
        model.root.blkno = found.ino;
        model.root.links = found.links;
        model.root.attributes = { ...found.attributes, atime: undefined };
        continue;
      }
      const node = known.get(found.ino) ?? new Node(found.kind, found.target);
      known.set(found.ino, node);
      Object.assign(node, { blkno: found.ino, links: found.links, content: found.content, attributes: { ...found.attributes, atime: undefined } });
      const [dir, name] = posix.#place(path)!;
      dir.children.set(name, node);
      if (node.isDirectory) node.parent = dir;
    }
    return posix;
  }

  /** Everything there is, now; with `under`, what is below that directory of the root, and itself. */
  snapshot(under?: string): Snapshot {
    const out = new Map<string, Entry>();
    const visit = (node: Node, path: string): void => {
      out.set(path, { node, links: node.links, attributes: node.attributes, content: node.content });
      for (const [name, child] of node.children) visit(child, path === '' ? name : `${path}/${name}`);
    };
    if (under === undefined) visit(this.model.root, '');
    else visit(this.model.root.children.get(under)!, under);
    return out;
  }

  /** Do a step on both, see that they agree, and say what it has made sure of. `number` colours what is written. */
  async run(step: Step, number: number): Promise<'durable' | 'logged' | undefined> {
    const { log } = this.volume.ctx.engine;
    switch (step.do) {
      case 'sync':
        await this.volume.sync();
        return 'durable';
      case 'checkpoint':
        await log.flush();
        return 'durable';
      case 'ack':
        await log.commit({ durable: false });
        return 'logged';
      case 'fsync': {
        const node = this.#find(step.path);
        if (node?.kind !== 'file') return undefined;
        await flushTimes(this.volume.ctx, node.blkno);
        await log.commit({ barrier: true });
        return 'durable';
      }
      default:
        await this.#change(step, number);
        return undefined;
    }
  }

  /** A step whose directory or file is not there does nothing. */
  async #change(step: Exclude<Step, { do: 'sync' | 'checkpoint' | 'ack' | 'fsync' }>, number: number): Promise<void> {
    const { model } = this, { names, ctx } = this.volume;
    switch (step.do) {
      case 'create': case 'mkdir': case 'symlink': case 'mknod': {
        const place = this.#place(step.path);
        if (place === undefined) return;
        const [node, spec] = step.do === 'symlink' ? [new Node('symlink', step.target), symlink(step.target)]
          : step.do === 'mknod' ? [new Node('device', '', step.rdev), device(step.rdev)]
          : step.do === 'mkdir' ? [new Node('directory'), DIR] : [new Node('file'), FILE];
        return this.#both(async () => {
          node.blkno = (await names.create(place[0].blkno, bytes(place[1]), spec)).blkno;
          await names.forget(node.blkno);
        }, () => model.add(place[0], place[1], node));
      }
      case 'link': {
        const node = this.#find(step.path), place = this.#place(step.to);
        if (node === undefined || place === undefined || node.isDirectory) return;
        return this.#both(async () => names.forget((await names.link(node.blkno, place[0].blkno, bytes(place[1]))).blkno), () => (node.links === 0 ? 'ENOENT' : model.link(node, ...place)));
      }
      case 'reflink': {
        const node = this.#find(step.path), place = this.#place(step.to), clone = new Node('file');
        if (node?.kind !== 'file' || place === undefined || !ctx.geo.refcount) return;
        return this.#both(async () => {
          clone.blkno = (await names.reflink(node.blkno, place[0].blkno, bytes(place[1]), { uid: FILE.uid, gid: FILE.gid })).blkno;
          await names.forget(clone.blkno);
        }, () => {
          clone.content = node.content;
          clone.attributes = { ...clone.attributes, mode: node.attributes.mode };
          return model.add(...place, clone);
        });
      }
      case 'change': {
        const node = this.#find(step.path);
        if (node === undefined) return;
        const { atime, ...rest } = step.change;
        return this.#both(() => names.change(node.blkno, step.change), () => {
          node.attributes = { ...node.attributes, ...rest, ...(atime && { atime: atime.sec }) };
          return undefined;
        });
      }
      case 'unlink': case 'rmdir': {
        const place = this.#place(step.path);
        if (place === undefined) return;
        const remove = step.do === 'unlink' ? names.unlink : names.rmdir;
        return this.#both(() => remove.call(names, place[0].blkno, bytes(place[1])), () => model.remove(...place, step.do === 'rmdir'));
      }
      case 'rename': {
        const from = this.#place(step.path), to = this.#place(step.to);
        if (from === undefined || to === undefined) return;
        const { noReplace = false } = step;
        return this.#both(
          () => names.rename({ oldDir: from[0].blkno, oldName: bytes(from[1]), newDir: to[0].blkno, newName: bytes(to[1]), noReplace }),
          () => model.rename(...from, ...to, noReplace));
      }
      case 'open': {
        const place = this.#place(step.path);
        const node = place?.[0].children.get(place[1]);
        if (place === undefined || node === undefined || this.#open.has(step.as)) return;
        expectSame((await names.lookup(place[0].blkno, bytes(place[1]))).blkno, node.blkno, `inode of ${step.path}`);
        this.#open.set(step.as, node);
        return;
      }
      case 'close': {
        const node = this.#open.get(step.as);
        this.#open.delete(step.as);
        return node && names.forget(node.blkno);
      }
      case 'write': return this.#onFile(step.path, async (node) => {
        const at = step.at === 'append' ? node.content.length : step.at;
        const data = pattern(at, step.length, number);
        await this.#changeContent(node, () => writeFile(ctx, node.blkno, step.at, data), (old) => {
          const next = resized(old, Math.max(old.length, at + data.length));
          next.set(data, at);
          return next;
        });
      });
      case 'truncate': return this.#onFile(step.path, (node) => this.#changeContent(node, () => truncateFile(ctx, node.blkno, step.size), (old) => resized(old, step.size)));
      case 'reserve': case 'punch': case 'zero': return this.#onFile(step.path, (node) => {
        const { at, length, keep = false } = step, end = at + length;
        return this.#changeContent(node, () => fallocate(ctx, node.blkno, step.do, at, length, keep), (old) => {
          const next = resized(old, step.do === 'punch' || keep ? old.length : Math.max(old.length, end));
          return step.do === 'reserve' ? next : next.fill(0, Math.min(at, next.length), Math.min(end, next.length));
        });
      });
      case 'release': return flushTruncateLog(ctx);
      case 'tick': return this.fireTimers();
    }
  }

  /** Throws unless the volume holds exactly what the model says. */
  async compare(): Promise<void> {
    const found = await readTree(this.volume), want = this.snapshot();
    expectSame([...found.keys()].sort().join('\n'), [...want.keys()].sort().join('\n'), 'paths');
    for (const [path, entry] of want) {
      const got = found.get(path)!;
      expectSame(`${got.kind} ${got.ino} ${got.links} ${got.target}`, `${entry.node.kind} ${entry.node.blkno} ${entry.links} ${entry.node.target}`, path);
      const wrong = wrongAttributes(got.attributes, entry.attributes);
      if (wrong !== undefined) throw new Error(`${path}: ${wrong}`);
      expectContent(got.content, entry.content, path);
    }
    for (const [name, node] of this.#open) {
      if (node.kind !== 'file') continue;
      const content = new Uint8Array((await this.volume.names.attributes(node.blkno)).size);
      await readFile(this.volume.ctx, node.blkno, 0, content);
      expectContent(content, node.content, `#${name}`);
    }
  }

  /** Close every open file. */
  async closeAll(): Promise<void> {
    for (const as of [...this.#open.keys()]) await this.run({ do: 'close', as }, 0);
  }

  /** Throws unless the other model is this one, as after a remount. */
  expectSame(other: Posix): void {
    const text = (posix: Posix): string => [...posix.snapshot()].map(([path, { node, links }]) => `${path} ${node.kind} ${node.blkno} ${links} ${node.target}`).sort().join('\n');
    expectSame(text(other), text(this), 'tree');
    const was = this.snapshot();
    for (const [path, { content }] of other.snapshot()) expectContent(content, was.get(path)!.content, path);
  }

  #place(path: string): [Node, string] | undefined {
    const parts = path.split('/');
    let dir: Node | undefined = this.model.root;
    for (const part of parts.slice(0, -1)) dir = dir?.children.get(part);
    return dir?.isDirectory ? [dir, parts[parts.length - 1]] : undefined;
  }

  #find(path: string): Node | undefined {
    if (path.startsWith('#')) return this.#open.get(path.slice(1));
    const place = this.#place(path);
    return place?.[0].children.get(place[1]);
  }

  async #onFile(path: string, work: (node: Node) => Promise<void>): Promise<void> {
    const node = this.#find(path);
    if (node?.kind === 'file') await work(node);
  }

  async #both(work: () => Promise<unknown>, model: () => string | undefined): Promise<void> {
    const errno = await errnoOf(work);
    this.done++;
    // A full volume refuses without a trace.
    if (errno === 'ENOSPC') this.full++;
    else expectSame(errno, model(), 'result');
  }

  /** Change a file's content. On a full volume some of the change may have been done: every byte is the old or the new one. */
  async #changeContent(node: Node, work: () => Promise<unknown>, model: (old: Uint8Array) => Uint8Array): Promise<void> {
    const old = node.content, next = model(old);
    const errno = await errnoOf(work);
    this.done++;
    if (errno === undefined) node.content = next;
    else if (errno === 'ENOSPC') {
      this.full++;
      const got = new Uint8Array((await this.volume.names.attributes(node.blkno)).size);
      await readFile(this.volume.ctx, node.blkno, 0, got);
      for (let i = 0; i < got.length; i++) {
        if (got[i] !== (old[i] ?? 0) && got[i] !== (next[i] ?? 0)) throw new Error(`ENOSPC left byte ${i} as ${got[i]}, which is neither ${old[i] ?? 0} nor ${next[i] ?? 0}`);
      }
      node.content = got;
    } else throw new Error(`errno ${errno}`);
  }
}

/** What is not as it should be; undefined if nothing is. */
export function wrongAttributes(got: NodeAttributes, want: NodeAttributes): string | undefined {
  for (const key of ['mode', 'uid', 'gid', 'rdev', 'atime'] as const) {
    if (want[key] !== undefined && got[key] !== want[key]) return `${key} is ${got[key]}, not ${want[key]}`;
  }
  return undefined;
}

function resized(old: Uint8Array, size: number): Uint8Array<ArrayBuffer> {
  const next = new Uint8Array(size);
  next.set(old.subarray(0, size));
  return next;
}

async function errnoOf(work: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    if (error instanceof LunfsError && error.kind === 'usage') return error.errno;
    throw error;
  }
}

function expectSame(got: unknown, want: unknown, what: string): void {
  if (got !== want) throw new Error(`${what}: ${String(got)}, expected ${String(want)}`);
}

export function expectContent(got: Uint8Array, want: Uint8Array, what: string): void {
  if (Buffer.compare(got, want) === 0) return;
  const at = got.findIndex((byte, i) => byte !== want[i]);
  throw new Error(`${what}: ${got.length} bytes, expected ${want.length}; byte ${at} is ${got[at]}, not ${want[at]}`);
}
