/** JSON documents on this host's disk: read with their errors told, written whole or not at all. */
import * as fs from 'node:fs';
import path from 'node:path';
import { IoError } from '@lunfs/device';

/** The document, undefined when there is no such file. Throws GUEST_FILE. */
export function readJson(file: string): unknown {
  let text: string;
  try {
    text = fs.readFileSync(file, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new IoError('GUEST_FILE', `cannot read ${file}: ${(cause as Error).message}`, { file }, cause);
  }
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new IoError('GUEST_FILE', `${file} is no JSON document: ${(cause as Error).message}; mend or remove it`, { file }, cause);
  }
}

/** Durable when it returns: after a power failure the file holds this document or the one before. Throws GUEST_FILE. */
export function writeJson(file: string, value: unknown): void {
  const fresh = `${file}.new`;
  try {
    const fd = fs.openSync(fresh, 'w', 0o600);
    try {
      fs.writeFileSync(fd, `${JSON.stringify(value, undefined, 2)}\n`);
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
    fs.renameSync(fresh, file);
    const directory = fs.openSync(path.dirname(file), 'r');
    try {
      fs.fsyncSync(directory);
    } finally {
      fs.closeSync(directory);
    }
  } catch (cause) {
    throw new IoError('GUEST_FILE', `cannot write ${file}: ${(cause as Error).message}`, { file }, cause);
  }
}
