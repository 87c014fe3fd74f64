/**
 * Disks: regular files whose bytes are the disk's, at any path; by convention their names end in `.raw`, which is what listings
 * look for. Thin disks take space as they are written. Thick ones have all of it from the start, in extents as long as the volume has
 * them: *zeroed* ones are written through, so that no write ever changes metadata; *unwritten* ones are made at once and convert
 * an extent at its first write.
 */
import { UsageError } from '@lunfs/device';
import { type Attributes, type FileExtent, type Volume, fileExtents, preallocateContiguous, truncateFile } from '@lunfs/ocfs2';
import { type LeaseFacts, leaseFacts } from './leases.js';
import { normalPath, splitPath, withPath } from './paths.js';

export const DISK_SUFFIX = '.raw';
const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
/** Guests and hosts count in sectors of up to this size. */
const DISK_UNIT = 4096;
const EXTENTS_AT_A_TIME = 4096;
const ENTRIES_AT_A_TIME = 1000;

export interface CreateDiskOptions {
  /** Bytes, a multiple of 4096. */
  readonly size: number;
  readonly allocation: 'thin' | 'thick-zeroed' | 'thick-unwritten';
  /** Told the bytes allocated so far. */
  readonly progress?: (done: number, total: number) => void;
}

export interface DiskFacts {
  readonly path: string;
  readonly inode: number;
  /** Bytes of the disk, and of its clusters. */
  readonly size: number;
  readonly allocated: number;
  /** Seconds since 1970. */
  readonly modified: number;
  /** Who may write it; undefined: nobody ever asked. */
  readonly lease?: LeaseFacts;
}

export interface DiskExtents extends DiskFacts {
  /** Bytes in extents that hold data (the rest of `allocated` reads zero until written). */
  readonly written: number;
  readonly shared: number;
  readonly extents: readonly FileExtent[];
}

/** Make a disk. Throws EXISTS, NO_SPACE, DISK_SIZE; what was made of it by then is removed again. */
export async function createDisk(volume: Volume, path: string, options: CreateDiskOptions): Promise<DiskFacts> {
  const { size, allocation, progress } = options;
  checkSize(volume, path, size);
  const { directory, name } = splitPath(path);
  const { names, ctx } = volume;
  await withPath(volume, directory, async (dir) => {
    const made = await names.create(dir.blkno, Buffer.from(name), { mode: S_IFREG | 0o600, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }).catch(takenBy(volume, path));
    try {
      if (allocation === 'thin') await truncateFile(ctx, made.blkno, size);
      else await preallocateContiguous(ctx, made.blkno, size, { zeroed: allocation === 'thick-zeroed', progress: (done) => progress?.(done, size) });
      await volume.sync();
    } catch (error) {
      await names.unlink(dir.blkno, Buffer.from(name));
      throw error;
    } finally {
      await names.forget(made.blkno);
    }
  });
  return diskFacts(volume, path);
}

/**
 * Clone a disk: a new one with its bytes of this moment, which shares its clusters until one of both writes to them (thick ones
 * are thin in that respect). Throws NOT_FOUND, EXISTS, NO_REFLINK, NO_SPACE.
 */
export async function cloneDisk(volume: Volume, source: string, path: string): Promise<DiskFacts> {
  const { directory, name } = splitPath(path);
  await withPath(volume, source, async (attributes) => {
    needFile(volume, source, attributes);
    await withPath(volume, directory, async (dir) => {
      const made = await volume.names.reflink(attributes.blkno, dir.blkno, Buffer.from(name), { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }).catch(takenBy(volume, path));
      await volume.names.forget(made.blkno);
    });
  });
  await volume.sync();
  return diskFacts(volume, path);
}

/** The disks of a directory, by name; `all`: every regular file. */
export async function listDisks(volume: Volume, directory = '/', all = false): Promise<DiskFacts[]> {
  const found: string[] = [];
  await withPath(volume, directory, async (dir) => {
    for (let position = 0; ; ) {
      const { entries, end } = await volume.names.readdir(dir.blkno, position, ENTRIES_AT_A_TIME);
      for (const one of entries) {
        const name = Buffer.from(one.name).toString();
        if (all ? name !== '.' && name !== '..' : name.endsWith(DISK_SUFFIX)) found.push(name);
        position = one.next;
      }
      if (end || entries.length === 0) return;
    }
  });
  const disks: DiskFacts[] = [];
  for (const name of found.sort()) {
    const path = normalPath(`${directory}/${name}`);
    await withPath(volume, path, async (attributes) => {
      if (isFile(attributes)) disks.push(await factsOf(volume, path, attributes));
    });
  }
  return disks;
}

export function diskFacts(volume: Volume, path: string): Promise<DiskFacts> {
  return withPath(volume, path, (attributes) => factsOf(volume, normalPath(path), needFile(volume, path, attributes)));
}

/** Who may write a disk; undefined: nobody ever asked. Throws LEASE_UNKNOWN. */
export function leaseOf(volume: Volume, path: string): Promise<LeaseFacts | undefined> {
  return withPath(volume, path, (attributes) => leaseFacts(volume, needFile(volume, path, attributes).blkno));
}

/** A disk with all its extents in order. */
export function diskExtents(volume: Volume, path: string): Promise<DiskExtents> {
  return withPath(volume, path, async (attributes) => {
    const facts = await factsOf(volume, normalPath(path), needFile(volume, path, attributes));
    const extents: FileExtent[] = [];
    for (let from = 0; ; ) {
      const some = await fileExtents(volume.ctx, attributes.blkno, from, EXTENTS_AT_A_TIME);
      extents.push(...some.filter((one) => one.offset >= from));
      const last = some.at(-1);
      if (last === undefined || some.length < EXTENTS_AT_A_TIME) break;
      from = last.offset + last.length;
    }
    const sum = (which: (one: FileExtent) => boolean) => extents.filter(which).reduce((total, one) => total + one.length, 0);
    return { ...facts, extents, written: sum((one) => !one.unwritten), shared: sum((one) => one.shared) };
  });
}

/** Change a disk's size. Throws DISK_SHRINK unless `shrink` says that losing what lies behind the new end is meant. */
export async function resizeDisk(volume: Volume, path: string, size: number, options: { readonly shrink?: boolean } = {}): Promise<DiskFacts> {
  checkSize(volume, path, size);
  await withPath(volume, path, async (attributes) => {
    needFile(volume, path, attributes);
    if (size < attributes.size && !options.shrink) {
      throw new UsageError('DISK_SHRINK', 'EINVAL', `${label(volume, path)} has ${attributes.size} bytes: making it ${size} destroys what lies behind. Shrink the guest's partitions first, then ask for it explicitly (--shrink)`, { path, size });
    }
    await truncateFile(volume.ctx, attributes.blkno, size);
    await volume.sync();
  });
  return diskFacts(volume, path);
}

/** Remove a disk. What still uses it (a mount, an export) keeps it until its end. */
export async function removeDisk(volume: Volume, path: string): Promise<void> {
  const { directory, name } = splitPath(path);
  await withPath(volume, path, async (attributes) => needFile(volume, path, attributes));
  await withPath(volume, directory, (dir) => volume.names.unlink(dir.blkno, Buffer.from(name)));
  await volume.sync();
}

function isFile({ mode }: Attributes): boolean {
  return (mode & S_IFMT) === S_IFREG;
}

export function needFile(volume: Volume, path: string, attributes: Attributes): Attributes {
  if (isFile(attributes)) return attributes;
  throw new UsageError('NOT_A_FILE', 'EINVAL', `${volume.geo.device}:${normalPath(path)} is no regular file, so it cannot be a disk`, { path });
}

async function factsOf(volume: Volume, path: string, a: Attributes): Promise<DiskFacts> {
  // What cannot be understood is told to who asks for the lease; it keeps nobody from listing disks.
  const lease = await leaseFacts(volume, a.blkno).catch((error: unknown) => {
    if (error instanceof UsageError && error.code === 'LEASE_UNKNOWN') return undefined;
    throw error;
  });
  return { path, inode: a.blkno, size: a.size, allocated: a.blocks * 512, modified: a.mtime.sec, lease };
}

/** How error texts name a disk. */
function label(volume: Volume, path: string): string {
  return `${volume.geo.device}:${normalPath(path)}`;
}

/** The engine knows the place by a name and the directory's inode. */
function takenBy(volume: Volume, path: string): (error: unknown) => never {
  return (error) => {
    if (!(error instanceof UsageError) || error.code !== 'EXISTS') throw error;
    throw new UsageError('EXISTS', 'EEXIST', `${label(volume, path)} is there already; choose another name, or remove it first (lunfs disk rm)`, { path }, error);
  };
}

function checkSize(volume: Volume, path: string, size: number): void {
  if (Number.isSafeInteger(size) && size > 0 && size % DISK_UNIT === 0) return;
  throw new UsageError('DISK_SIZE', 'EINVAL', `${label(volume, path)}: a disk cannot have ${size} bytes; the size must be a positive multiple of ${DISK_UNIT}`, { path, size });
}
