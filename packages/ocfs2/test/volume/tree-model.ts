/** What a tree of names should look like after every operation, by the rules of POSIX, in memory. */
import type { ErrnoName } from '@lunfs/device';

/** What stat shows beside type, links and size. */
export interface NodeAttributes {
  /** Permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Of a device file. */
  readonly rdev: number;
  /** Seconds; undefined: nobody set it. */
  readonly atime?: number;
  /** FS_IOC_SETFLAGS. */
  readonly flags: number;
}

/** Extended attributes by full name. Never changed in place. */
export type Xattrs = ReadonlyMap<string, Uint8Array>;

export class Node {
  links: number;
  /** Never changed in place. */
  attributes: NodeAttributes;
  readonly children = new Map<string, Node>();
  parent: Node | undefined;
  /** Of a file. Never changed in place, so that whoever remembers a state may keep it. */
  content: Uint8Array = new Uint8Array(0);
  xattrs: Xattrs = new Map();
  /** The inode it turned out to be. */
  blkno = 0;
  constructor(readonly kind: 'directory' | 'file' | 'symlink' | 'device', readonly target = '', rdev = 0) {
    this.attributes = { mode: kind === 'directory' ? 0o755 : kind === 'symlink' ? 0o777 : 0o644, uid: 1000, gid: 1000, rdev, flags: 0 };
    this.links = kind === 'directory' ? 2 : 1;
  }
  get isDirectory(): boolean {
    return this.kind === 'directory';
  }
}

export class TreeModel {
  readonly root = new Node('directory');
  constructor() {
    this.root.parent = this.root;
  }

  directories(): Node[] {
    const all = [this.root];
    for (const dir of all) for (const child of dir.children.values()) if (child.isDirectory) all.push(child);
    return all;
  }

  files(): Node[] {
    return [...new Set(this.directories().flatMap((d) => [...d.children.values()].filter((c) => !c.isDirectory)))];
  }

  add(dir: Node, name: string, node: Node): ErrnoName | undefined {
    if (dir.children.has(name)) return 'EEXIST';
    dir.children.set(name, node);
    if (node.isDirectory) {
      node.parent = dir;
      dir.links++;
    }
    return undefined;
  }

  link(node: Node, dir: Node, name: string): ErrnoName | undefined {
    if (dir.children.has(name)) return 'EEXIST';
    dir.children.set(name, node);
    node.links++;
    return undefined;
  }

  remove(dir: Node, name: string, rmdir: boolean): ErrnoName | undefined {
    const node = dir.children.get(name);
    if (!node) return 'ENOENT';
    if (node.isDirectory !== rmdir) return rmdir ? 'ENOTDIR' : 'EISDIR';
    if (rmdir && node.children.size > 0) return 'ENOTEMPTY';
    dir.children.delete(name);
    this.#drop(dir, node);
    return undefined;
  }

  rename(from: Node, oldName: string, to: Node, newName: string, noReplace: boolean): ErrnoName | undefined {
    const node = from.children.get(oldName);
    if (!node) return 'ENOENT';
    if (node.isDirectory) for (let at = to; ; at = at.parent!) {
      if (at === node) return 'EINVAL';
      if (at === this.root) break;
    }
    const there = to.children.get(newName);
    if (there && noReplace) return 'EEXIST';
    if (there === node) return undefined;
    if (there) {
      if (there.isDirectory !== node.isDirectory) return node.isDirectory ? 'ENOTDIR' : 'EISDIR';
      if (there.children.size > 0) return 'ENOTEMPTY';
      this.#drop(to, there);
    }
    from.children.delete(oldName);
    to.children.set(newName, node);
    if (node.isDirectory) {
      node.parent = to;
      from.links--;
      to.links++;
    }
    return undefined;
  }

  #drop(dir: Node, node: Node): void {
    if (node.isDirectory) {
      node.links = 0;
      dir.links--;
    } else node.links--;
  }
}
