/**
 * A volume and a tree in memory that go through the same steps: what crash and random tests drive. Steps are data, so a
 * script can be printed, enumerated and replayed. The model says what each step must return and what must be there after.
 */
import { LunfsError } from '@lunfs/device';
import { flushTruncateLog } from '../../src/alloc/index.js';
import { MODE, type QuotaType, S_IFMT } from '../../src/format/index.js';
import { type QuotaLimits, asRequester } from '../../src/quota/index.js';
import {
  type AttributeChange, SharedFile, type Volume, fallocate, flushTimes, noteInPlaceWrite, preallocateContiguous, readFile, shareRange, truncateFile, writeFile,
} from '../../src/volume/index.js';
import { DIR, FILE, bytes, device, symlink, text } from '../volume/support.js';
import { Node, type NodeAttributes, TreeModel, type Xattrs } from '../volume/tree-model.js';
import { ACCESS_ACL, DEFAULT_ACL, aclOf, bitsOfAcl } from './acls.js';

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
  /** FS_IOC_SETFLAGS. */
  | { readonly do: 'flags'; readonly path: string; readonly flags: number }
  /** A value of so many bytes (of capabilities, some); of files and directories. Volumes without the feature xattr do nothing. */
  | { readonly do: 'setxattr'; readonly path: string; readonly name: string; readonly size: number; readonly mode?: 'create' | 'replace' }
  | { readonly do: 'removexattr'; readonly path: string; readonly name: string }
  /** An ACL with a named user, so that it is no mere mode; `bits`: what owner, mask and others may do, as in a mode. */
  | { readonly do: 'acl'; readonly path: string; readonly which: 'access' | 'default'; readonly bits: number }
  /** What a write does to `security.capability`. */
  | { readonly do: 'uncap'; readonly path: string }
  /** copy_file_range by sharing; nothing where that cannot be. Volumes without the feature refcount do nothing. */
  | { readonly do: 'share'; readonly path: string; readonly from: number; readonly to: string; readonly at: number; readonly length: number }
  /** Read a directory, which may touch its atime. */
  | { readonly do: 'list'; readonly path: string }
  /** Limits of an id, or grace periods of a kind. Volumes without quota do nothing. */
  | { readonly do: 'limits'; readonly type: QuotaType; readonly id: number; readonly limits: Partial<QuotaLimits> }
  | { readonly do: 'grace'; readonly type: QuotaType; readonly seconds: number }
  | { readonly do: 'write'; readonly path: string; readonly at: number | 'append'; readonly length: number }
  /** As an export does it, acknowledged when the journal has it. */
  | { readonly do: 'export'; readonly path: string; readonly what: 'write' | 'trim' | 'zero'; readonly at: number; readonly length: number }
  /** As a worker of an export does it: in place, by a mapping, without the engine; then a flush. Only what is allocated and not shared. */
  | { readonly do: 'map'; readonly path: string; readonly at: number; readonly length: number }
  /** All space of a thick disk. */
  | { readonly do: 'thick'; readonly path: string; readonly size: number; readonly zeroed: boolean }
  | { readonly do: 'truncate'; readonly path: string; readonly size: number }
  | { readonly do: 'reserve' | 'punch' | 'zero'; readonly path: string; readonly at: number; readonly length: number; readonly keep?: boolean }
  | { readonly do: 'open'; readonly path: string; readonly as: string }
  | { readonly do: 'close'; readonly as: string }
  /** sync: all durable; fsync: one file; ack: commit without the last flush; checkpoint: log emptied; release: truncate log flushed. */
  | { readonly do: 'sync' | 'ack' | 'checkpoint' }
  /** Only what quota files say: use told to the global ones. */
  | { readonly do: 'syncquota' }
  | { readonly do: 'release' }
  /** Free clusters discarded. */
  | { readonly do: 'trim' }
  | { readonly do: 'fsync'; readonly path: string }
  /** Time passes: the commit timer fires; nobody waits for the commit. */
  | { readonly do: 'tick' };

/** One name of the tree at some moment. */
export interface Entry {
  readonly node: Node;
  readonly links: number;
  readonly attributes: NodeAttributes;
  readonly xattrs: Xattrs;
  readonly content: Uint8Array;
}

/** Every path of a moment; the root is ''. */
export class Moment<T> extends Map<string, T> {
  /** Limits and grace periods of quota that are set, as text by id. */
  limits: ReadonlyMap<string, string> = new Map();
}

export type Snapshot = Moment<Entry>;

/** A value that Linux takes for capabilities (VFS_CAP_REVISION_2), else it would not show the attribute. */
const CAPABILITY = new Uint8Array(20).fill(2, 3, 4).fill(1, 4, 5);

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
  readonly xattrs: Xattrs;
  readonly content: Uint8Array;
}

/** Every path of a mounted volume with all there is to it. */
export async function readTree(volume: Volume): Promise<Moment<Found>> {
  const out = new Moment<Found>();
  const visit = async (ino: number, path: string): Promise<void> => {
    const { mode, links, size, uid, gid, rdev, atime, flags } = await volume.names.attributes(ino);
    const type = mode & S_IFMT;
    const kind = type === MODE.DIR ? 'directory' : type === MODE.LNK ? 'symlink' : type === MODE.REG ? 'file' : 'device';
    const content = new Uint8Array(kind === 'file' ? size : 0);
    if (kind === 'file' && (await readFile(volume.ctx, ino, 0, content)) !== size) throw new Error(`${path}: fewer bytes than its size of ${size}`);
    const attributes = { mode: mode & 0o7777, uid, gid, rdev, atime: atime.sec, flags };
    out.set(path, { ino, kind, links, attributes, xattrs: await readXattrs(volume, ino), target: kind === 'symlink' ? text(await volume.names.readlink(ino)) : '', content });
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
  out.limits = await readLimits(volume);
  return out;
}

async function readXattrs(volume: Volume, ino: number): Promise<Xattrs> {
  const out = new Map<string, Uint8Array>();
  if (volume.geo.xattr) for (const name of await volume.names.listXattr(ino)) out.set(text(name), await volume.names.getXattr(ino, name));
  return out;
}

/** Limits that are set, and grace periods. */
async function readLimits({ quota }: Volume): Promise<Map<string, string>> {
  const out = new Map<string, string>();
  for (const type of quota?.types ?? []) {
    for (const { id, ...limits } of await quota!.report(type)) if (limitsText(limits) !== limitsText({})) out.set(`${type} ${id}`, limitsText(limits));
    const { spaceGrace, inodeGrace } = await quota!.settings(type);
    out.set(`${type} grace`, `${spaceGrace} ${inodeGrace}`);
  }
  return out;
}

function limitsText({ spaceSoft = 0, spaceHard = 0, inodeSoft = 0, inodeHard = 0 }: Partial<QuotaLimits>): string {
  return `${spaceSoft} ${spaceHard} ${inodeSoft} ${inodeHard}`;
}

export class Posix {
  readonly model = new TreeModel();
  readonly #open = new Map<string, Node>();
  #limits = new Map<string, Partial<QuotaLimits>>();
  #grace = new Map<string, string>();
  /** Steps that found what they were about, and how many of them came to ENOSPC or EDQUOT. */
  done = 0;
  full = 0;

  private constructor(public volume: Volume, private readonly fireTimers: () => void) {}

  /** The model begins with what is on the volume. */
  static async begin(volume: Volume, fireTimers: () => void = () => undefined): Promise<Posix> {
    const posix = new Posix(volume, fireTimers);
    const known = new Map<number, Node>();
    const { model } = posix;
    const tree = await readTree(volume);
    for (const [key, value] of tree.limits) {
      const [spaceSoft, spaceHard, inodeSoft, inodeHard] = value.split(' ').map(Number);
      if (key.endsWith('grace')) posix.#grace.set(key, value);
      else posix.#limits.set(key, { spaceSoft, spaceHard, inodeSoft, inodeHard });
    }
    for (const [path, found] of tree) {
      if (path === '') {
        model.root.blkno = found.ino;
        model.root.links = found.links;
        model.root.xattrs = found.xattrs;
        model.root.attributes = { ...found.attributes, atime: undefined };
        continue;
      }
      const node = known.get(found.ino) ?? new Node(found.kind, found.target);
      known.set(found.ino, node);
      Object.assign(node, { blkno: found.ino, links: found.links, content: found.content, xattrs: found.xattrs, attributes: { ...found.attributes, atime: undefined } });
      const [dir, name] = posix.#place(path)!;
      dir.children.set(name, node);
      if (node.isDirectory) node.parent = dir;
    }
    return posix;
  }

  /** Everything there is, now; with `under`, what is below that directory of the root, and itself. */
  snapshot(under?: string): Snapshot {
    const out = new Moment<Entry>();
    const limits = [...this.#limits].map(([key, one]) => [key, limitsText(one)] as const).filter(([, value]) => value !== limitsText({}));
    out.limits = new Map([...limits, ...this.#grace]);
    const visit = (node: Node, path: string): void => {
      out.set(path, { node, links: node.links, attributes: node.attributes, xattrs: node.xattrs, content: node.content });
      for (const [name, child] of node.children) visit(child, path === '' ? name : `${path}/${name}`);
    };
    if (under === undefined) visit(this.model.root, '');
    else visit(this.model.root.children.get(under)!, under);
    return out;
  }

  /**
   * Do a step on both, see that they agree, and say what it has made sure of. `number` colours what is written. Whoever asks
   * is no root, so that limits hold.
   */
  run(step: Step, number: number): Promise<'durable' | 'logged' | undefined> {
    return asRequester({ uid: FILE.uid }, () => this.#run(step, number));
  }

  async #run(step: Step, number: number): Promise<'durable' | 'logged' | undefined> {
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
      case 'map':
        return (await this.#writeMapped(step, number)) ? 'durable' : undefined;
      case 'export':
        return (await this.#export(step, number)) ? 'logged' : undefined;
      default:
        await this.#change(step, number);
        return undefined;
    }
  }

  /** A step whose directory or file is not there does nothing. */
  async #change(step: Exclude<Step, { do: 'sync' | 'checkpoint' | 'ack' | 'fsync' | 'export' | 'map' }>, number: number): Promise<void> {
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
        }, () => {
          inheritAcl(place[0], node);
          return model.add(place[0], place[1], node);
        });
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
          clone.attributes = { ...clone.attributes, mode: node.attributes.mode, flags: node.attributes.flags };
          // Without the right to, ACLs and labels are not taken along.
          clone.xattrs = new Map([...node.xattrs].filter(([name]) => !name.startsWith('system.') && !name.startsWith('security.')));
          inheritAcl(place[0], clone);
          return model.add(...place, clone);
        });
      }
      case 'change': {
        const node = this.#find(step.path);
        if (node === undefined) return;
        const { atime, ...rest } = step.change;
        return this.#both(() => names.change(node.blkno, step.change), () => {
          // A directory's does not last: our own look at it may be a read.
          node.attributes = { ...node.attributes, ...rest, ...(atime && { atime: node.isDirectory ? undefined : atime.sec }) };
          if (rest.mode !== undefined && node.xattrs.has(ACCESS_ACL)) node.xattrs = withXattr(node.xattrs, ACCESS_ACL, aclOf(rest.mode));
          return undefined;
        });
      }
      case 'flags': {
        const node = this.#find(step.path);
        return node && this.#both(() => names.setFlags(node.blkno, step.flags), () => void (node.attributes = { ...node.attributes, flags: step.flags }));
      }
      case 'setxattr': return this.#onXattrs(step.path, (node) => {
        const value = step.name === 'security.capability' ? CAPABILITY : pattern(0, step.size, number);
        return this.#both(() => names.setXattr(node.blkno, bytes(step.name), value, { mode: step.mode }), () => {
          if (step.mode !== undefined && node.xattrs.has(step.name) !== (step.mode === 'replace')) return step.mode === 'create' ? 'EEXIST' : 'ENODATA';
          node.xattrs = withXattr(node.xattrs, step.name, value);
          return undefined;
        });
      });
      case 'removexattr': return this.#onXattrs(step.path, (node) => this.#both(() => names.removeXattr(node.blkno, bytes(step.name)), () => {
        if (!node.xattrs.has(step.name)) return step.name.startsWith('system.') ? undefined : 'ENODATA';
        node.xattrs = withXattr(node.xattrs, step.name, undefined);
        return undefined;
      }));
      case 'acl': return this.#onXattrs(step.path, (node) => {
        const name = step.which === 'access' ? ACCESS_ACL : DEFAULT_ACL;
        return this.#both(() => names.setXattr(node.blkno, bytes(name), aclOf(step.bits)), () => {
          if (step.which === 'default' && !node.isDirectory) return 'EACCES';
          node.xattrs = withXattr(node.xattrs, name, aclOf(step.bits));
          if (step.which === 'access') node.attributes = { ...node.attributes, mode: (node.attributes.mode & ~0o777) | step.bits };
          return undefined;
        });
      });
      case 'uncap': return this.#onXattrs(step.path, (node) => this.#both(() => names.dropCapability(node.blkno), () => void (node.xattrs = withXattr(node.xattrs, 'security.capability', undefined))));
      case 'list': {
        const node = this.#find(step.path);
        if (node?.isDirectory !== true) return;
        node.attributes = { ...node.attributes, atime: undefined };
        return this.#both(() => names.readdir(node.blkno, 0, 10), () => undefined);
      }
      case 'limits': {
        const { quota } = this.volume, key = `${step.type} ${step.id}`;
        return quota && this.#both(() => quota.setLimits(step.type, step.id, step.limits), () => void this.#limits.set(key, { ...this.#limits.get(key), ...step.limits }));
      }
      case 'grace': {
        const { quota } = this.volume;
        const settings = { spaceGrace: step.seconds, inodeGrace: step.seconds };
        return quota && this.#both(() => quota.setSettings(step.type, settings), () => void this.#grace.set(`${step.type} grace`, `${step.seconds} ${step.seconds}`));
      }
      case 'syncquota': return this.volume.quota?.sync();
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
      case 'thick': return this.#onFile(step.path, (node) => this.#changeContent(node, () => preallocateContiguous(ctx, node.blkno, step.size, step), (old) => resized(old, Math.max(old.length, step.size))));
      case 'share': return this.#onFile(step.path, async (source) => {
        const target = this.#find(step.to), { from, at, length } = step;
        if (target?.kind !== 'file' || !ctx.geo.refcount) return;
        let shared: boolean | undefined;
        await this.#changeContent(target, async () => (shared = await shareRange(ctx, { source: source.blkno, from, target: target.blkno, to: at, length })), (old) => {
          if (shared === false) return old;
          const next = resized(old, Math.max(old.length, at + length));
          next.set(source.content.subarray(from, from + length), at);
          return next;
        }, true);
      });
      case 'release': return flushTruncateLog(ctx);
      case 'trim':
        if (!this.volume.device.canDiscard) return;
        // Several at once are refused.
        return this.volume.trim({ minimum: ctx.geo.clusterSize }).then(() => undefined, (error: unknown) => {
          if (!(error instanceof LunfsError) || error.code !== 'TRIMMING') throw error;
        });
      case 'tick': return this.fireTimers();
    }
  }

  /** Through the backend of an export, which does not go beyond the end. True if something was acknowledged. */
  async #export(step: Step & { do: 'export' }, number: number): Promise<boolean> {
    const { ctx } = this.volume, node = this.#find(step.path);
    const end = node?.kind === 'file' ? Math.min(node.content.length, step.at + step.length) : 0, length = end - step.at;
    if (node?.kind !== 'file' || length <= 0) return false;
    const file = new SharedFile(ctx, node.blkno, undefined);
    await file.load();
    const backend = file.backend({ readOnly: false, survives: true });
    const data = step.what === 'write' ? pattern(step.at, length, number) : new Uint8Array(length);
    const before = this.full;
    await this.#changeContent(node, async () => {
      if (step.what === 'write') await backend.write(step.at, data, false);
      else await (step.what === 'trim' ? backend.trim(step.at, length) : backend.writeZeroes(step.at, length, true, false));
      await noteInPlaceWrite(ctx, node.blkno);
    }, (old) => {
      const next = old.slice();
      next.set(data, step.at);
      return next;
    });
    await file.close();
    return this.full === before;
  }

  /** True if something was written, and all before it made durable. */
  async #writeMapped({ path, at, length }: Step & { do: 'map' }, number: number): Promise<boolean> {
    const { ctx, device: disk } = this.volume, node = this.#find(path);
    if (node?.kind !== 'file' || at >= node.content.length) return false;
    const file = new SharedFile(ctx, node.blkno, undefined);
    await file.load();
    const backend = file.backend({ readOnly: false, survives: true });
    const { epoch, runs } = await backend.map(at, Math.min(length, node.content.length - at), true, 10);
    let done = 0;
    for (const run of runs) {
      // Whole sectors, as direct I/O has them.
      const from = Math.ceil(run.offset / 512) * 512, end = Math.floor(Math.min(run.offset + run.length, at + length, node.content.length) / 512) * 512;
      if (end <= from) continue;
      if (!file.gate.enter(epoch, 0, true)) break;
      const data = pattern(from, end - from, number), next = node.content.slice();
      await disk.write(run.device + from - run.offset, data).finally(() => file.gate.leave());
      next.set(data, from);
      node.content = next;
      done++;
    }
    await backend.flush();
    await file.close();
    this.done++;
    return done > 0;
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
      const other = wrongXattrs(got.xattrs, entry.xattrs);
      if (other !== undefined) throw new Error(`${path}: ${other}`);
      expectContent(got.content, entry.content, path);
    }
    expectSame(wrongLimits(found.limits, want.limits), undefined, 'limits');
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

  /** Files and directories of volumes that have attributes. */
  async #onXattrs(path: string, work: (node: Node) => Promise<void>): Promise<void> {
    const node = this.#find(path);
    if (this.volume.geo.xattr && (node?.kind === 'file' || node?.isDirectory)) await work(node);
  }

  async #onFile(path: string, work: (node: Node) => Promise<void>): Promise<void> {
    const node = this.#find(path);
    if (node?.kind === 'file') await work(node);
  }

  async #both(work: () => Promise<unknown>, model: () => string | undefined): Promise<void> {
    const errno = await errnoOf(work);
    this.done++;
    // A full volume, or a limit, refuses without a trace.
    if (isFull(errno)) this.full++;
    else expectSame(errno, model(), 'result');
  }

  /** Change a file's content. On a full volume some of the change may have been done: every byte is the old or the new one, or zero where a hole may be. */
  async #changeContent(node: Node, work: () => Promise<unknown>, model: (old: Uint8Array) => Uint8Array, holes = false): Promise<void> {
    const errno = await errnoOf(work);
    const old = node.content, next = model(old);
    this.done++;
    if (errno === undefined) node.content = next;
    else if (isFull(errno)) {
      this.full++;
      const got = new Uint8Array((await this.volume.names.attributes(node.blkno)).size);
      await readFile(this.volume.ctx, node.blkno, 0, got);
      for (let i = 0; i < got.length; i++) {
        if (got[i] !== (old[i] ?? 0) && got[i] !== (next[i] ?? 0) && !(holes && got[i] === 0)) throw new Error(`ENOSPC left byte ${i} as ${got[i]}, which is neither ${old[i] ?? 0} nor ${next[i] ?? 0}`);
      }
      node.content = got;
    } else throw new Error(`errno ${errno}`);
  }
}

/** What is not as it should be; undefined if nothing is. */
export function wrongAttributes(got: NodeAttributes, want: NodeAttributes): string | undefined {
  for (const key of ['mode', 'uid', 'gid', 'rdev', 'atime', 'flags'] as const) {
    if (want[key] !== undefined && got[key] !== want[key]) return `${key} is ${got[key]}, not ${want[key]}`;
  }
  return undefined;
}

/** The same of extended attributes. */
export function wrongXattrs(got: Xattrs, want: Xattrs): string | undefined {
  for (const name of got.keys()) if (!want.has(name)) return `attribute ${name} is there`;
  for (const [name, value] of want) {
    const found = got.get(name);
    if (found === undefined) return `attribute ${name} is missing`;
    if (Buffer.compare(found, value) !== 0) return `attribute ${name} has ${found.length} bytes that begin ${Buffer.from(found.subarray(0, 8)).toString('hex')}, not ${value.length} that begin ${Buffer.from(value.subarray(0, 8)).toString('hex')}`;
  }
  return undefined;
}

/** And of limits. */
export function wrongLimits(got: ReadonlyMap<string, string>, want: ReadonlyMap<string, string>): string | undefined {
  for (const key of new Set([...got.keys(), ...want.keys()])) if (got.get(key) !== want.get(key)) return `limits of ${key} are ${got.get(key)}, not ${want.get(key)}`;
  return undefined;
}

function withXattr(old: Xattrs, name: string, value: Uint8Array | undefined): Xattrs {
  const next = new Map(old);
  if (value === undefined) next.delete(name);
  else next.set(name, value);
  return next;
}

/** What the default ACL of a directory makes of a new file in it. */
function inheritAcl(dir: Node, node: Node): void {
  const acl = dir.xattrs.get(DEFAULT_ACL);
  if (acl === undefined || node.kind === 'symlink') return;
  const bits = bitsOfAcl(acl) & node.attributes.mode;
  if (node.isDirectory) node.xattrs = withXattr(node.xattrs, DEFAULT_ACL, acl);
  node.xattrs = withXattr(node.xattrs, ACCESS_ACL, aclOf(bits));
  node.attributes = { ...node.attributes, mode: (node.attributes.mode & ~0o777) | bits };
}

function isFull(errno: string | undefined): boolean {
  return errno === 'ENOSPC' || errno === 'EDQUOT';
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
