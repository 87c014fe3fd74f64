/** Which device of ours is mounted on a directory. */
import * as fs from 'node:fs';
import path from 'node:path';
import { UsageError } from '@lunfs/device';

/** The device that is mounted on a directory; undefined when the path is no directory. Throws NOT_MOUNTED. */
export function mountedDevice(where: string): string | undefined {
  const directory = path.resolve(where);
  // Fields as in proc(5); the source comes after the dash and the type.
  const plain = (text: string) => text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  const lines = fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\n').map((line) => line.split(' '));
  const line = lines.findLast((fields) => fields.length > 9 && plain(fields[4]) === directory && fields[fields.indexOf('-', 6) + 1] === 'fuse.lunfs');
  if (line !== undefined) return plain(line[line.indexOf('-', 6) + 2]);
  if (!fs.statSync(directory, { throwIfNoEntry: false })?.isDirectory()) return undefined;
  throw new UsageError('NOT_MOUNTED', 'EINVAL', `nothing of lunfs is mounted on ${directory} (findmnt -t fuse.lunfs lists what is)`, { directory });
}
