/** Paths inside a volume, as the command line and the control socket name files: absolute, UTF-8, no symlinks followed. */
import { UsageError } from '@lunfs/device';
import type { Attributes, Volume } from '@lunfs/ocfs2';

/** The names of a path; `.` and empty ones left out. Throws PATH on `..`: a disk's path says where it is. */
export function pathNames(path: string): string[] {
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  if (names.includes('..')) throw new UsageError('PATH', 'EINVAL', `${path}: ".." is not allowed in a path inside a volume`, { path });
  return names;
}

/** The path in its one form: `/a/b`. */
export function normalPath(path: string): string {
  return `/${pathNames(path).join('/')}`;
}

/** Find a file. The caller gets one reference to it (`names.forget` gives it back). Throws NOT_FOUND, NOT_A_DIRECTORY. */
export async function resolvePath(volume: Volume, path: string): Promise<Attributes> {
  const { names } = volume;
  let at = await names.lookup(names.root, Buffer.from('.'));
  const walk = pathNames(path);
  for (const [i, name] of walk.entries()) {
    const above = at;
    try {
      const found = await names.find(above.blkno, Buffer.from(name));
      if (found === undefined) {
        const missing = `/${walk.slice(0, i + 1).join('/')}`;
        throw new UsageError('NOT_FOUND', 'ENOENT', `${volume.geo.device}:${missing} does not exist`, { path: missing });
      }
      at = found;
    } finally {
      await names.forget(above.blkno);
    }
  }
  return at;
}

/** Run `work` with a referenced inode. */
export async function withPath<T>(volume: Volume, path: string, work: (found: Attributes) => Promise<T>): Promise<T> {
  const found = await resolvePath(volume, path);
  try {
    return await work(found);
  } finally {
    await volume.names.forget(found.blkno);
  }
}

/** Directory and name of a path that names something below the root. */
export function splitPath(path: string): { directory: string; name: string } {
  const names = pathNames(path);
  const name = names.pop();
  if (name === undefined) throw new UsageError('PATH', 'EINVAL', `${path || '/'} is the root directory; name a file`, { path });
  return { directory: `/${names.join('/')}`, name };
}
