/**
 * Helper programs for what Node has no system call for: flock(1), blkdiscard(8) and fallocate(1) of util-linux.
 *
 * Each runs as a child on an inherited descriptor (its descriptor 3), never by path, so it works on the very file that was
 * opened and checked. They are spawned asynchronously: a child costs about 3 ms and must not block a thread.
 */
import { spawn } from 'node:child_process';

/** How a helper ended. `missing`: the program is not installed; `status`: its exit code, -1 when killed by a signal. */
export interface HelperResult {
  readonly missing: boolean;
  readonly status: number;
  readonly stderr: string;
}

const CHILD_FD = '/proc/self/fd/3';
/** sbin is not in the PATH of an ordinary user. */
const SEARCH = `${process.env.PATH ?? ''}:/usr/sbin:/sbin:/usr/bin:/bin`;

/** Run a helper with `fd` as its descriptor 3. Resolves whatever happens; the result says what did. */
export function runHelper(program: string, args: readonly string[], fd: number): Promise<HelperResult> {
  return new Promise((resolve) => {
    let stderr = '';
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe', fd], env: { PATH: SEARCH, LC_ALL: 'C' } });
    child.once('error', (error: NodeJS.ErrnoException) => {
      resolve({ missing: error.code === 'ENOENT', status: -1, stderr: error.message });
    });
    child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
      if (stderr.length < 4096) stderr += chunk;
    });
    child.once('close', (code) => resolve({ missing: false, status: code ?? -1, stderr: stderr.trim() }));
  });
}

/**
 * Take a lock on the open file, waiting at most `seconds`, or give it back; it stays with the descriptor after the child has exited.
 * Status 1: others have it.
 */
export function flock(fd: number, mode: 'exclusive' | 'shared' | 'none', seconds = 0): Promise<HelperResult> {
  if (mode === 'none') return runHelper('flock', ['-u', '3'], fd);
  return runHelper('flock', [...(seconds > 0 ? ['-w', String(seconds)] : ['-n']), mode === 'exclusive' ? '-x' : '-s', '3'], fd);
}

/**
 * Zero [offset, offset+length) by the device (BLKZEROOUT) or by the file system: a punched hole where it can, so that images
 * stay sparse, else a zeroed range. `-f`: the child opens the device anew, and we hold it exclusively.
 */
export async function zeroRange(fd: number, kind: 'block' | 'file', offset: number, length: number): Promise<HelperResult> {
  const range = ['-o', String(offset), '-l', String(length), CHILD_FD];
  if (kind === 'block') return runHelper('blkdiscard', ['-f', '-z', ...range], fd);
  const punched = await runHelper('fallocate', ['-p', ...range], fd);
  return punched.missing || punched.status === 0 ? punched : runHelper('fallocate', ['-z', '-n', ...range], fd);
}

/** Discard [offset, offset+length): BLKDISCARD on a block device, a punched hole in a file. */
export function discardRange(fd: number, kind: 'block' | 'file', offset: number, length: number): Promise<HelperResult> {
  const range = ['-o', String(offset), '-l', String(length), CHILD_FD];
  return kind === 'block' ? runHelper('blkdiscard', ['-f', ...range], fd) : runHelper('fallocate', ['-p', ...range], fd);
}
