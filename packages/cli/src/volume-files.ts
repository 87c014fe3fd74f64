/**
 * Files of a mounted volume by path. Paths are bytes; symlinks are followed inside the volume, `..` goes where the directory lies.
 * One command is the volume's only user, so nothing found here can go away under it: references are given back at once.
 */
import { LunfsError, UsageError } from '@lunfs/device';
import { type Attributes, type DirEntry, MODE, S_IFMT, type Volume } from '@lunfs/ocfs2';

const MAX_SYMLINKS = 40;
const ENTRIES_AT_A_TIME = 1000;
const SLASH = 0x2f;

/** The names of a path in bytes; empty ones and `.` left out. */
export function splitNames(path: Uint8Array): Buffer[] {
  const names: Buffer[] = [];
  for (let from = 0; from <= path.length; ) {
    const slash = path.indexOf(SLASH, from);
    const to = slash < 0 ? path.length : slash;
    const name = Buffer.from(path.subarray(from, to));
    if (name.length > 0 && !(name.length === 1 && name[0] === 0x2e)) names.push(name);
    from = to + 1;
  }
  return names;
}

export function joinPath(directory: Uint8Array, name: Uint8Array): Buffer {
  const slash = directory.length > 0 && directory[directory.length - 1] === SLASH;
  return Buffer.concat(slash ? [directory, name] : [directory, Buffer.from('/'), name]);
}

export function isType(attributes: { readonly mode: number }, type: number): boolean {
  return (attributes.mode & S_IFMT) === type;
}

/** A directory and a name in it that may or may not exist. */
export interface Place {
  readonly directory: Attributes;
  readonly name: Buffer;
  readonly found?: Attributes;
}

/** A name in a directory and what it is. */
export interface Child {
  readonly name: Buffer;
  readonly attributes: Attributes;
}

export class VolumeFiles {
  constructor(readonly volume: Volume) {}

  /** How error texts name a path. */
  label(path: Uint8Array): string {
    return `${this.volume.geo.device}:${Buffer.from(path).toString()}`;
  }

  /** A file by path. Throws NOT_FOUND, NOT_A_DIRECTORY, TOO_MANY_SYMLINKS. */
  async find(path: Uint8Array, options: { readonly follow: boolean }): Promise<Attributes> {
    const place = await this.#walk(path, options.follow);
    if ('found' in place && place.found !== undefined) return place.found;
    throw this.#missing(path);
  }

  /** Like `find`, but undefined when the last name does not exist. */
  async look(path: Uint8Array, options: { readonly follow: boolean }): Promise<Attributes | undefined> {
    try {
      return await this.find(path, options);
    } catch (error) {
      if (error instanceof LunfsError && error.code === 'NOT_FOUND') return undefined;
      throw error;
    }
  }

  /** Where a name is or could be. Throws NOT_FOUND when its directory is missing, ROOT when the path is the root. */
  async place(path: Uint8Array): Promise<Place> {
    const place = await this.#walk(path, false);
    if ('name' in place) return place;
    throw new UsageError('ROOT', 'EBUSY', `${this.label(path)} is the root of the volume, or ends in ".."; name a file`, { path: Buffer.from(path).toString() });
  }

  /** Names in a directory, without `.` and `..`, in the order of their bytes. */
  async list(directory: Attributes): Promise<Buffer[]> {
    const names: Buffer[] = [];
    for await (const page of this.#pages(directory)) for (const { name } of page) names.push(Buffer.from(name));
    return names.sort((a, b) => Buffer.compare(a, b));
  }

  /** The same with what each is; inodes are read in the order of the directory, which is mostly that of the disk. */
  async children(directory: Attributes): Promise<Child[]> {
    const { names } = this.volume;
    const children: Child[] = [];
    for await (const page of this.#pages(directory)) {
      await names.readAhead(page.map(({ blkno }) => blkno));
      for (const { name, blkno } of page) children.push({ name: Buffer.from(name), attributes: await names.attributes(blkno) });
    }
    return children.sort((a, b) => Buffer.compare(a.name, b.name));
  }

  async *#pages(directory: Attributes): AsyncGenerator<DirEntry[]> {
    for (let position = 0; ; ) {
      const { entries, end } = await this.volume.names.readdir(directory.blkno, position, ENTRIES_AT_A_TIME);
      yield entries.filter(({ name }) => !DOT.equals(name) && !DOTS.equals(name));
      if (end || entries.length === 0) return;
      position = entries[entries.length - 1].next;
    }
  }

  async child(directory: Attributes, name: Uint8Array): Promise<Attributes | undefined> {
    const { names } = this.volume;
    try {
      const found = await names.lookup(directory.blkno, name);
      await names.forget(found.blkno);
      return found;
    } catch (error) {
      if (error instanceof LunfsError && error.code === 'NOT_FOUND') return undefined;
      throw error;
    }
  }

  async #walk(path: Uint8Array, follow: boolean): Promise<Place | { readonly found: Attributes }> {
    const root = await this.volume.names.attributes(this.volume.names.root);
    const above: Attributes[] = [];
    let at = root;
    const names = splitNames(path);
    // The last name, while what was walked ends in it.
    let place: Place | undefined;
    let links = 0;
    while (names.length > 0) {
      const name = names.shift()!;
      if (!isType(at, MODE.DIR)) throw new UsageError('NOT_A_DIRECTORY', 'ENOTDIR', `${this.label(path)}: a part of the path is no directory`, { path: Buffer.from(path).toString() });
      if (name.equals(DOTS)) {
        at = above.pop() ?? root;
        place = undefined;
        continue;
      }
      const found = await this.child(at, name);
      place = { directory: at, name, found };
      if (found === undefined) {
        if (names.length > 0) throw this.#missing(path, `: there is no "${name.toString()}" on the way to it`);
        return place;
      }
      if (isType(found, MODE.LNK) && (names.length > 0 || follow)) {
        if (++links > MAX_SYMLINKS) throw new UsageError('TOO_MANY_SYMLINKS', 'ELOOP', `${this.label(path)}: more than ${MAX_SYMLINKS} symlinks`, { path: Buffer.from(path).toString() });
        const target = await this.volume.names.readlink(found.blkno);
        if (target[0] === SLASH) {
          above.length = 0;
          at = root;
        }
        names.unshift(...splitNames(target));
        place = undefined;
        continue;
      }
      above.push(at);
      at = found;
    }
    return place ?? { found: at };
  }

  #missing(path: Uint8Array, why = ''): UsageError {
    return new UsageError('NOT_FOUND', 'ENOENT', `${this.label(path)} does not exist${why}`, { path: Buffer.from(path).toString() });
  }
}

const DOT = Buffer.from('.');
const DOTS = Buffer.from('..');
