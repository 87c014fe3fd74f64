/**
 * Where a host's facts about its LUNs come from: sysfs, procfs, /dev and programs. All of it can be laid out elsewhere by a test.
 *
 * Nothing here is trusted. An attribute may hold whatever an array answered to INQUIRY, so text is cut to a length and to printable
 * characters before anybody sees it; names that become part of a path are checked first; what is absent or cannot be read is undefined.
 */
import { execFile } from 'node:child_process';
import * as fs from 'node:fs';
import path from 'node:path';

/** How a program ended. `missing`: it is not installed. `status`: -1 when it was ended by a signal, or for its time. */
export interface Ran {
  readonly missing: boolean;
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface SanHost {
  readonly sys: string;
  readonly proc: string;
  readonly dev: string;
  /** Run a program, at most `timeoutMs` (default 10 s). Resolves whatever happens. */
  run(program: string, args: readonly string[], timeoutMs?: number): Promise<Ran>;
}

/** sbin is not in the PATH of an ordinary user. */
const SEARCH = `${process.env.PATH ?? ''}:/usr/sbin:/sbin:/usr/bin:/bin`;
/** What multipathd says of some thousand paths. */
const MOST_OUTPUT = 32 << 20;

function run(program: string, args: readonly string[], timeoutMs = 10_000): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(program, [...args], { timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: MOST_OUTPUT, encoding: 'utf8', env: { PATH: SEARCH, LC_ALL: 'C' } }, (error, stdout, stderr) => {
      const code = (error as { code?: unknown } | null)?.code;
      resolve({ missing: code === 'ENOENT', status: error === null ? 0 : typeof code === 'number' ? code : -1, stdout, stderr: printable(stderr, 400) });
    });
  });
}

/** The host this runs on. */
export const thisHost: SanHost = { sys: '/sys', proc: '/proc', dev: '/dev', run };

/** Text of others for messages and tables: at most `most` characters, control characters, those without a shape and what is no UTF-8 as `?`, blanks at the ends cut. */
export function printable(text: string, most = 256): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\ufffd]/gu, (c) => (c === '\t' || c === '\n' ? ' ' : '?')).trim().slice(0, most);
}

/** Kernel names of devices, as directories of sysfs spell them (a slash is `!`). */
export function isKernelName(name: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9!._:-]{0,63}$/.test(name) && !name.includes('..');
}

/** An attribute as printable text; undefined if it is absent, empty or cannot be read. Attributes are one page at most. */
export function attribute(...parts: string[]): string | undefined {
  const bytes = attributeBytes(...parts);
  return bytes === undefined ? undefined : printable(bytes.toString('utf8')) || undefined;
}

/** The same for binary ones. */
export function attributeBytes(...parts: string[]): Buffer | undefined {
  try {
    const fd = fs.openSync(path.join(...parts), fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
    try {
      const page = Buffer.alloc(4096);
      return page.subarray(0, fs.readSync(fd, page, 0, page.length, null));
    } finally {
      fs.closeSync(fd);
    }
  } catch {
    return undefined;
  }
}

/** A number of an attribute, 0 to 2^53 - 1. */
export function attributeNumber(...parts: string[]): number | undefined {
  const text = attribute(...parts);
  return text !== undefined && /^\d{1,16}$/.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : undefined;
}

/** Names in a directory that can be kernel names, in the order of their numbers: sd2 before sd10. */
export function kernelNames(...parts: string[]): string[] {
  try {
    return fs.readdirSync(path.join(...parts)).filter(isKernelName).sort(byNumber);
  } catch {
    return [];
  }
}

/** sda before sdaa, dm-2 before dm-10. */
export function byNumber(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}

/** Where a link of sysfs leads; undefined if nowhere. */
export function realDirectory(...parts: string[]): string | undefined {
  try {
    return fs.realpathSync(path.join(...parts));
  } catch {
    return undefined;
  }
}
