/**
 * Extended attributes of this host's files. Node has no calls for them: getfattr and setfattr (Debian's package attr) do it, names and
 * values in their own escaped form, so that both may be any bytes.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { IoError, UsageError } from '@lunfs/device';
import type { Xattr } from './tree.js';

const run = promisify(execFile);
/** All attributes of one file as hexadecimal text (XATTR_LIST_MAX names of XATTR_SIZE_MAX bytes are not to be expected). */
const MOST_OUTPUT = 64 << 20;

/** All attributes that this user may see. */
export async function readXattrs(path: Uint8Array): Promise<Xattr[]> {
  const text = Buffer.from(path).toString();
  if (!Buffer.from(text).equals(Buffer.from(path))) throw new UsageError('NAME_NOT_UTF8', 'EINVAL', `${text}: extended attributes of a file whose name is not UTF-8 cannot be read here`, { path: text });
  const { stdout } = await run('getfattr', ['-h', '-d', '-m', '-', '-e', 'hex', '--absolute-names', '--', text], { encoding: 'latin1', maxBuffer: MOST_OUTPUT }).catch((error: unknown) => {
    throw failure('getfattr', text, error);
  });
  const out: Xattr[] = [];
  for (const line of stdout.split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const at = line.lastIndexOf('=');
    out.push(at < 0 ? { name: fromOctal(line), value: Buffer.alloc(0) } : { name: fromOctal(line.slice(0, at)), value: Buffer.from(line.slice(at + 1).replace(/^0x/, ''), 'hex') });
  }
  return out;
}

/** Set attributes; those that are there and not named stay. */
export async function writeXattrs(path: Uint8Array, xattrs: readonly Xattr[]): Promise<void> {
  if (xattrs.length === 0) return;
  const text = Buffer.from(path).toString();
  const lines = xattrs.map(({ name, value }) => `${toOctal(name)}=0x${Buffer.from(value).toString('hex')}\n`);
  const child = spawn('setfattr', ['-h', '--restore=-'], { stdio: ['pipe', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    said += chunk;
  });
  child.stdin.on('error', () => undefined); // its exit tells
  child.stdin.end(`# file: ${toOctal(path)}\n${lines.join('')}`);
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    if (code !== 0) throw new IoError('XATTR_NOT_SET', `${text}: ${said.trim() || `setfattr ended with ${code}`}`, { path: text }, undefined, 'EPERM');
  } catch (error) {
    throw error instanceof IoError ? error : failure('setfattr', text, error);
  }
}

function failure(program: string, path: string, error: unknown): UsageError {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
    return new UsageError('PROGRAM_MISSING', 'EOPNOTSUPP', `${program} is not here, which extended attributes of this host's files need: install the package attr, or leave "xattr" out of --preserve`, { program });
  }
  return new UsageError('XATTR_NOT_READ', 'EPERM', `${path}: ${(error as { stderr?: string }).stderr?.trim() || String(error)}`, { path }, error);
}

/** Bytes that would be misread as they are: as \\ooo. */
function toOctal(bytes: Uint8Array): string {
  let out = '';
  for (const byte of bytes) out += byte > 0x20 && byte < 0x7f && byte !== 0x5c && byte !== 0x3d ? String.fromCharCode(byte) : `\\${byte.toString(8).padStart(3, '0')}`;
  return out;
}

function fromOctal(text: string): Buffer {
  return Buffer.from(text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))), 'latin1');
}
