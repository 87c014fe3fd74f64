/** A volume's files as a `Tree`. */
import { LunfsError } from '@lunfs/device';
import { type Attributes, MODE, S_IFMT, type Volume, needReflink, readFile, seekData, seekHole, shareRange, truncateFile, writeFile } from '@lunfs/ocfs2';
import { VolumeFiles } from '../volume-files.js';
import type { Entry, Kind, Preserved, Range, Reader, Tree, Writer, Xattr } from './tree.js';

const KINDS = new Map<number, Kind>([
  [MODE.REG, 'file'], [MODE.DIR, 'directory'], [MODE.LNK, 'symlink'], [MODE.FIFO, 'fifo'], [MODE.SOCK, 'socket'], [MODE.BLK, 'block'], [MODE.CHR, 'char'],
]);
const MODES = new Map<Kind, number>([...KINDS].map(([mode, kind]) => [kind, mode]));

export class VolumeTree implements Tree {
  readonly granule: number;
  readonly files: VolumeFiles;

  constructor(readonly volume: Volume) {
    this.granule = volume.geo.clusterSize;
    this.files = new VolumeFiles(volume);
  }

  label(path: Uint8Array): string {
    return this.files.label(path);
  }

  async entry(path: Uint8Array, follow: boolean): Promise<Entry | undefined> {
    const found = await this.files.look(path, { follow });
    return found && entryOf(this.volume, found);
  }

  async list(directory: Uint8Array): Promise<Buffer[]> {
    return this.files.list(await this.files.find(directory, { follow: true }));
  }

  async readlink(path: Uint8Array): Promise<Uint8Array> {
    return this.volume.names.readlink((await this.files.find(path, { follow: false })).blkno);
  }

  async open(path: Uint8Array): Promise<Reader> {
    const { blkno, size } = await this.files.find(path, { follow: true });
    return volumeReader(this.volume, blkno, size);
  }

  async create(path: Uint8Array, mode: number): Promise<Writer> {
    const { ctx } = this.volume;
    const existing = await this.files.look(path, { follow: true });
    const blkno = existing?.blkno ?? (await this.#make(path, MODE.REG | mode)).blkno;
    if (existing !== undefined) await truncateFile(ctx, blkno, 0);
    return {
      write: async (offset, bytes) => {
        await writeFile(ctx, blkno, offset, bytes);
      },
      setSize: async (size) => {
        if ((await this.volume.names.attributes(blkno)).size !== size) await truncateFile(ctx, blkno, size);
      },
      share: async (source) => {
        const { blkno: from, size } = await this.files.find(source, { follow: true });
        return shareRange(ctx, { source: from, from: 0, target: blkno, to: 0, length: size });
      },
      close: async () => undefined,
    };
  }

  needSharing(): void {
    needReflink(this.volume.ctx);
  }

  async mkdir(path: Uint8Array, mode: number): Promise<void> {
    await this.#make(path, MODE.DIR | mode);
  }

  async symlink(path: Uint8Array, target: Uint8Array): Promise<void> {
    await this.#make(path, MODE.LNK | 0o777, { target });
  }

  async link(path: Uint8Array, existing: Uint8Array): Promise<void> {
    const { directory, name } = await this.files.place(path);
    const { blkno } = await this.files.find(existing, { follow: false });
    await this.volume.names.link(blkno, directory.blkno, name);
    await this.volume.names.forget(blkno);
  }

  async special(path: Uint8Array, { kind, major, minor }: Entry, mode: number): Promise<void> {
    await this.#make(path, MODES.get(kind)! | mode, { rdev: kind === 'block' || kind === 'char' ? encodeDevice(major, minor) : undefined });
  }

  async chmod(path: Uint8Array, mode: number): Promise<void> {
    await this.volume.names.change((await this.files.find(path, { follow: false })).blkno, { mode });
  }

  async preserve(path: Uint8Array, entry: Entry, what: Preserved): Promise<void> {
    const found = await this.files.find(path, { follow: false });
    const owner = !what.ownership || (found.uid === entry.uid && found.gid === entry.gid) ? {} : { uid: entry.uid, gid: entry.gid };
    const times = what.timestamps ? { atime: entry.atime, mtime: entry.mtime } : {};
    await this.volume.names.change(found.blkno, { ...owner, ...times, ...(what.mode ? { mode: entry.mode } : {}) });
  }

  async xattrs(path: Uint8Array): Promise<Xattr[]> {
    const { names } = this.volume;
    const { blkno } = await this.files.find(path, { follow: false });
    return Promise.all((await names.listXattr(blkno)).map(async (name) => ({ name, value: await names.getXattr(blkno, name) })));
  }

  async setXattrs(path: Uint8Array, xattrs: readonly Xattr[]): Promise<void> {
    const { blkno } = await this.files.find(path, { follow: false });
    for (const { name, value } of xattrs) await this.volume.names.setXattr(blkno, name, value);
  }

  async #make(path: Uint8Array, mode: number, more: { target?: Uint8Array; rdev?: number } = {}): Promise<Attributes> {
    const { directory, name } = await this.files.place(path);
    const made = await this.volume.names.create(directory.blkno, name, { mode, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, ...more });
    await this.volume.names.forget(made.blkno);
    return made;
  }
}

/** A file's bytes, its holes and unwritten extents left out. */
export function volumeReader({ ctx }: Volume, blkno: number, size: number): Reader {
  return {
    size,
    nextData: async (from): Promise<Range | undefined> => {
      if (from >= size) return undefined;
      try {
        const offset = await seekData(ctx, blkno, from);
        return { offset, length: Math.min(size, await seekHole(ctx, blkno, offset)) - offset };
      } catch (error) {
        if (error instanceof LunfsError && error.errno === 'ENXIO') return undefined;
        throw error;
      }
    },
    read: (offset, into) => readFile(ctx, blkno, offset, into),
    close: async () => undefined,
  };
}

export function kindOf({ mode }: { readonly mode: number }): Kind {
  return KINDS.get(mode & S_IFMT) ?? 'file';
}

function entryOf({ geo }: Volume, a: Attributes): Entry {
  return { kind: kindOf(a), mode: a.mode & 0o7777, uid: a.uid, gid: a.gid, size: a.size, links: a.links, identity: `${geo.uuidText}:${a.blkno}`, ...decodeDevice(a.rdev), atime: a.atime, mtime: a.mtime };
}

/** Device numbers as the kernel keeps them (Linux 6.1 include/linux/kdev_t.h:new_encode_dev). */
function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

export function decodeDevice(rdev: number): { major: number; minor: number } {
  return { major: (rdev >>> 8) & 0xfff, minor: (rdev & 0xff) | ((rdev >>> 12) & 0xfff00) };
}
