/**
 * The fixture volumes (test/fixtures/ocfs2/README.md): images to read, and what Linux says is in them.
 *
 * Manifests are bytes, not text: attribute values and names need not be UTF-8, so both are kept as latin1 strings
 * ("binary" strings, one character per byte) until `name` decodes a path for display and comparison.
 */
import fs from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';
import { must } from './temp.js';

const directory = path.resolve(import.meta.dirname, '../fixtures/ocfs2');

export const FIXTURES = ['4k4k', '4k1m', '1k4k', '512', 'plain', 'crash'] as const;
export type Fixture = (typeof FIXTURES)[number];

/** Unpacks the image, sparse, into `into` and gives its path. Writable: it is a copy. */
export async function unpackFixture(name: Fixture, into: string): Promise<string> {
  await must('tar', ['-xSzf', path.join(directory, `${name}.tar.gz`), '-C', into]);
  return path.join(into, `${name}.img`);
}

export interface ManifestEntry {
  /** Relative to the root, without `./`; the root itself is `.`. */
  path: string;
  type: 'directory' | 'file' | 'symlink' | 'fifo' | 'socket' | 'block' | 'char';
  /** Permission bits with setuid, setgid and sticky, no file type. */
  mode: number;
  uid: number;
  gid: number;
  links: number;
  size: number;
  /** Seconds. */
  mtime: number;
  rdev: { major: number; minor: number };
  /** Inode number: the dinode's block. */
  inode: number;
  /** Of regular files, hex. */
  sha256?: string;
  /** Of symlinks. */
  target?: string;
}

export interface AclEntry {
  /** True for the directory's default ACL. */
  isDefault: boolean;
  tag: 'user' | 'group' | 'mask' | 'other';
  /** uid or gid of a named user or group; undefined for the owner's, the group's, mask and other. */
  id?: number;
  /** rwx as 4, 2, 1. */
  perm: number;
}

export interface Manifest {
  entries: Map<string, ManifestEntry>;
  /** By path, then by full attribute name (`user.x`, `trusted.t`, `system.posix_acl_access`); only files that have any. */
  xattrs: Map<string, Map<string, Buffer>>;
  /** By path; every file but symlinks, the minimal three entries where it has no ACL. */
  acls: Map<string, AclEntry[]>;
}

const TYPES: Record<string, ManifestEntry['type']> = {
  directory: 'directory', 'regular file': 'file', 'regular empty file': 'file', 'symbolic link': 'symlink', fifo: 'fifo', socket: 'socket',
  'block special file': 'block', 'character special file': 'char',
};

/** Reads NAME.manifest.gz. */
export function readManifest(name: Fixture): Manifest {
  return parseManifest(zlib.gunzipSync(fs.readFileSync(path.join(directory, `${name}.manifest.gz`))).toString('latin1'));
}

/** Parses a manifest given as latin1 text. */
function parseManifest(text: string): Manifest {
  const xattrsAt = text.indexOf('\n# xattrs\n');
  const aclsAt = text.indexOf('\n# acls\n');
  if (xattrsAt < 0 || aclsAt < xattrsAt) throw new Error('manifest without its "# xattrs" and "# acls" parts');
  const [listing, xattrs, acls] = [text.slice(0, xattrsAt), text.slice(xattrsAt, aclsAt), text.slice(aclsAt)];
  const entries = new Map<string, ManifestEntry>();
  for (const line of listing.split('\n').filter(Boolean)) {
    const entry = parseEntry(line);
    entries.set(entry.path, entry);
  }
  return { entries, xattrs: parseXattrs(xattrs), acls: parseAcls(acls) };
}

/** A path as the manifests' tools print it (`./a/b`, octal escapes) to ours (`a/b`). */
function cleanPath(printed: string): string {
  return name(printed.replace(/^\.\/(?=.)/, ''));
}

/** A latin1 string of UTF-8 bytes as a normal string. */
function name(latin1: string): string {
  return Buffer.from(latin1, 'latin1').toString('utf8');
}

/** Undoes `\ooo`, `\\` and `\"`, as getfattr and getfacl write them. */
function unquote(text: string): string {
  return text.replace(/\\([0-7]{3}|.)/g, (_, code: string) => (code.length === 3 ? String.fromCharCode(Number.parseInt(code, 8)) : code));
}

function parseEntry(line: string): ManifestEntry {
  // The path comes first and could hold a bar; the other fields can't, so fields are counted from the end.
  const match = /^(.*)\|([^|]+)\|([0-7]+)\|(\d+)\|(\d+)\|(\d+)\|(\d+)\|(-?\d+)\|(\d+):(\d+)\|(\d+)\|(.*)$/.exec(line);
  if (!match) throw new Error(`manifest line not understood: ${line}`);
  const type = TYPES[match[2]];
  if (!type) throw new Error(`manifest names a file type not known: ${match[2]}`);
  const [uid, gid, links, size, mtime, major, minor, inode] = match.slice(4, 12).map(Number);
  const entry: ManifestEntry = { path: cleanPath(match[1]), type, mode: Number.parseInt(match[3], 8), uid, gid, links, size, mtime, rdev: { major, minor }, inode };
  if (type === 'file') entry.sha256 = match[12];
  if (type === 'symlink') entry.target = name(match[12]);
  return entry;
}

/** Splits getfattr's or getfacl's output into [path, lines], one per `# file:`. */
function perFile(text: string): [string, string[]][] {
  return text.split(/^# file: /m).slice(1).map((part) => {
    const [first, ...lines] = part.split('\n');
    return [cleanPath(unquote(first)), lines.filter(Boolean)];
  });
}

function parseXattrs(text: string): Manifest['xattrs'] {
  const files: Manifest['xattrs'] = new Map();
  for (const [file, lines] of perFile(text)) {
    const values = new Map<string, Buffer>();
    for (const line of lines) {
      const match = /^([^=]+)(?:=(.*))?$/.exec(line);
      if (!match) throw new Error(`getfattr line not understood: ${line}`);
      values.set(name(unquote(match[1])), attributeValue(match[2] ?? ''));
    }
    files.set(file, values);
  }
  return files;
}

/** getfattr writes values as "text" with escapes, as 0x hex or as 0s base64. */
function attributeValue(text: string): Buffer {
  if (text.startsWith('0x')) return Buffer.from(text.slice(2), 'hex');
  if (text.startsWith('0s')) return Buffer.from(text.slice(2), 'base64');
  return Buffer.from(unquote(text.replace(/^"|"$/g, '')), 'latin1');
}

function parseAcls(text: string): Manifest['acls'] {
  const files: Manifest['acls'] = new Map();
  for (const [file, lines] of perFile(text)) {
    const entries: AclEntry[] = [];
    for (const line of lines.filter((one) => !one.startsWith('#'))) {
      const match = /^(default:)?(user|group|mask|other):(\d*):([r-])([w-])([x-])/.exec(line);
      if (!match) throw new Error(`getfacl line not understood: ${line}`);
      const perm = (match[4] === 'r' ? 4 : 0) + (match[5] === 'w' ? 2 : 0) + (match[6] === 'x' ? 1 : 0);
      entries.push({ isDefault: match[1] !== undefined, tag: match[2] as AclEntry['tag'], ...(match[3] === '' ? {} : { id: Number(match[3]) }), perm });
    }
    files.set(file, entries);
  }
  return files;
}
