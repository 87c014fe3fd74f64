/**
 * `lunfs cp`: files and trees from one `Tree` to another. Existing directories are merged into, existing files are overwritten in
 * place, everything else that exists is refused. In a tree one bad file does not stop the rest (a damaged volume is rescued as far as it
 * goes): it is reported and counted; a full or read-only target ends it all.
 */
import { LunfsError, UsageError } from '@lunfs/device';
import { checkInterrupted } from '../interrupt.js';
import { joinPath } from '../volume-files.js';
import { copyData } from './data.js';
import type { Entry, Preserved, Tree } from './tree.js';

export interface CopyOptions {
  readonly recursive: boolean;
  readonly preserve: Preserved;
  readonly noClobber: boolean;
  /** Share the space of files within one tree: where it can be, or else fail (`always`). */
  readonly reflink: 'auto' | 'always' | 'never';
  /** Hears the bytes copied since the last call. */
  readonly tell: (file: string, bytes: number) => void;
  /** A file that could not be copied. */
  readonly failed: (error: unknown) => void;
  readonly umask: number;
}

export interface CopyCounts {
  files: number;
  directories: number;
  others: number;
  /** Of files, holes included. */
  bytes: number;
}

export class Copier {
  readonly counts: CopyCounts = { files: 0, directories: 0, others: 0, bytes: 0 };
  /** Where files with several names were put. */
  readonly #linked = new Map<string, Uint8Array>();

  constructor(private readonly from: Tree, private readonly to: Tree, private readonly options: CopyOptions) {}

  /** Copy what is at `source` to be `target`. A symlink named by itself is followed unless whole trees are copied. */
  async copy(source: Uint8Array, target: Uint8Array): Promise<void> {
    const entry = await this.from.entry(source, !this.options.recursive);
    if (entry === undefined) throw refusal('NOT_FOUND', 'ENOENT', `${this.from.label(source)} does not exist`);
    if (entry.kind === 'directory') {
      if (!this.options.recursive) throw refusal('IS_A_DIRECTORY', 'EISDIR', `${this.from.label(source)} is a directory; copy it with -r`);
      await this.#refuseIntoItself(source, entry, target);
    } else if (entry.kind !== 'file' && !this.options.recursive) {
      throw refusal('NOT_A_FILE', 'EINVAL', `${this.from.label(source)} is a ${entry.kind} device or pipe: -r copies it as such, "lunfs cp - TARGET < ${this.from.label(source)}" what can be read from it`);
    }
    await this.#any(source, entry, target);
  }

  async #any(source: Uint8Array, entry: Entry, target: Uint8Array): Promise<void> {
    checkInterrupted();
    const { to, options, counts } = this;
    const existing = await to.entry(target, false);
    if (existing?.identity === entry.identity) throw refusal('SAME_FILE', 'EINVAL', `${to.label(target)} and ${this.from.label(source)} are the same file`);
    if (entry.kind === 'directory') return this.#directory(source, entry, target, existing);
    if (existing !== undefined) {
      if (options.noClobber) return;
      if (entry.kind !== 'file' || existing.kind !== 'file') throw refusal('EXISTS', 'EEXIST', `${to.label(target)} exists and is a ${existing.kind}; remove it first`);
    }
    const mode = options.preserve.mode ? entry.mode & 0o777 : entry.mode & 0o777 & ~options.umask;
    const first = options.recursive && entry.links > 1 ? this.#linked.get(entry.identity) : undefined;
    if (first !== undefined && existing === undefined) {
      await to.link(target, first);
      counts.others++;
      return;
    }
    if (entry.kind === 'file') await this.#file(source, target, mode);
    else if (entry.kind === 'symlink') await to.symlink(target, await this.from.readlink(source));
    else await to.special(target, entry, mode);
    if (entry.kind !== 'file') counts.others++;
    await this.#preserve(source, entry, target);
    if (entry.links > 1) this.#linked.set(entry.identity, target);
  }

  async #directory(source: Uint8Array, entry: Entry, target: Uint8Array, existing: Entry | undefined): Promise<void> {
    const { from, to, options, counts } = this;
    if (existing !== undefined && existing.kind !== 'directory') throw refusal('EXISTS', 'EEXIST', `${to.label(target)} exists and is a ${existing.kind}; ${from.label(source)} is a directory`);
    const mode = options.preserve.mode ? entry.mode & 0o777 : entry.mode & 0o777 & ~options.umask;
    // Ours to fill meanwhile.
    if (existing === undefined) await to.mkdir(target, mode | 0o700);
    counts.directories++;
    for (const name of await from.list(source)) {
      const path = joinPath(source, name);
      try {
        const child = await from.entry(path, false);
        if (child !== undefined) await this.#any(path, child, joinPath(target, name));
      } catch (error) {
        if (endsAll(error)) throw error;
        options.failed(error);
      }
    }
    await this.#preserve(source, entry, target);
    if (!options.preserve.mode && existing === undefined && (mode & 0o700) !== 0o700) await to.chmod(target, mode);
  }

  /** Attributes come last: a change of owner takes some of them away, and an ACL says the same mode. */
  async #preserve(source: Uint8Array, entry: Entry, target: Uint8Array): Promise<void> {
    const { from, to, options: { preserve } } = this;
    if (preserve.mode || preserve.ownership || preserve.timestamps) await to.preserve(target, entry, preserve);
    if (preserve.xattr) await to.setXattrs(target, await from.xattrs(source));
  }

  async #file(source: Uint8Array, target: Uint8Array, mode: number): Promise<void> {
    const { from, to, options, counts } = this;
    if (options.reflink === 'always') {
      if (from !== to || to.needSharing === undefined) throw refusal('NOT_ONE_VOLUME', 'EXDEV', `${from.label(source)} and ${to.label(target)} are not in one volume and cannot share space; leave --reflink out`);
      to.needSharing();
    }
    const reader = await from.open(source);
    try {
      const writer = await to.create(target, mode);
      try {
        let told = 0;
        const shared = options.reflink !== 'never' && from === to && reader.size > 0 && (await writer.share?.(source));
        if (!shared) await copyData(reader, writer, to.granule, (offset) => {
          options.tell(from.label(source), offset - told);
          told = offset;
        });
        options.tell(from.label(source), reader.size - told);
      } finally {
        await writer.close();
      }
    } finally {
      await reader.close();
    }
    counts.files++;
    counts.bytes += reader.size;
  }

  /** A copy of a directory below itself would never end. */
  async #refuseIntoItself(source: Uint8Array, entry: Entry, target: Uint8Array): Promise<void> {
    let above = Buffer.from(target);
    for (;;) {
      const slash = above.lastIndexOf('/');
      const at = slash > 0 ? above.subarray(0, slash) : Buffer.from(slash === 0 ? '/' : '.');
      const found = await this.to.entry(at, true).catch(() => undefined);
      if (found?.identity === entry.identity) throw refusal('INTO_ITSELF', 'EINVAL', `${this.from.label(source)} cannot be copied into itself (${this.to.label(target)})`);
      if (slash <= 0) return;
      above = above.subarray(0, slash);
    }
  }
}

/** Bytes of all files at and below a path, for progress. What cannot be looked at counts nothing. */
export async function measure(tree: Tree, path: Uint8Array, follow: boolean): Promise<number> {
  const entry = await tree.entry(path, follow).catch(() => undefined);
  if (entry?.kind === 'file') return entry.size;
  if (entry?.kind !== 'directory') return 0;
  let sum = 0;
  for (const name of await tree.list(path).catch(() => [])) {
    checkInterrupted();
    sum += await measure(tree, joinPath(path, name), false);
  }
  return sum;
}

function endsAll(error: unknown): boolean {
  const errno = error instanceof LunfsError ? error.errno : (error as NodeJS.ErrnoException).code;
  return errno === 'ENOSPC' || errno === 'EROFS' || errno === 'EINTR' || errno === 'EDQUOT' || errno === undefined || (error instanceof LunfsError && error.kind === 'internal');
}

function refusal(code: string, errno: UsageError['errno'], message: string): UsageError {
  return new UsageError(code, errno, message);
}
