/** QEMU as a process: started so that it outlives whoever started it, found again, told from a stranger of the same number. */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import path from 'node:path';
import { IoError, LunfsError, UsageError } from '@lunfs/device';
import { monotonicMs, pause } from './clock.js';
import { QmpClient } from './qmp/client.js';
import type { GuestPaths, ProcessIdentity } from './run-files.js';

/** sbin is not in the PATH of an ordinary user. */
const SEARCH = [...(process.env.PATH ?? '').split(':'), '/usr/local/bin', '/usr/bin', '/usr/sbin', '/sbin', '/bin'].filter(Boolean);
const LOOK_MS = 20;
/** Until QEMU listens: it maps the guest's memory and connects its disks before. */
const START_MS = 60_000;
/** Bytes of the log's end that an error quotes. */
const WORDS_MAX = 2000;

/** Absolute path of a program. Throws NO_PROGRAM with the Debian package that has it. */
export function findProgram(name: string, debianPackage: string): string {
  const found = SEARCH.map((directory) => path.join(directory, name)).find((file) => fs.existsSync(file));
  if (found === undefined) throw new UsageError('NO_PROGRAM', 'ENOENT', `${name} is not installed on this host (Debian: apt install ${debianPackage})`, { program: name });
  return found;
}

/** Run a helper program to its end. Throws PROGRAM_FAILED with what it said. */
export async function runProgram(command: string, args: readonly string[]): Promise<void> {
  let said = '';
  const status = await new Promise<number>((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    child.stderr.setEncoding('utf8').on('data', (part: string) => {
      if (said.length < WORDS_MAX) said += part;
    });
    child.once('error', (cause) => reject(new IoError('PROGRAM_FAILED', `cannot run ${command}: ${cause.message}`, { program: command }, cause)));
    child.once('close', (code) => resolve(code ?? -1));
  });
  if (status !== 0) throw new IoError('PROGRAM_FAILED', `${path.basename(command)} ${args.join(' ')}: ${said.trim() || `status ${status}`}`, { program: command, status });
}

export interface StartedQemu {
  readonly identity: ProcessIdentity;
  /** Its monitor for work, connected. */
  readonly monitor: QmpClient;
}

/**
 * Start QEMU with this command line in a session of its own, its words in the guest's log. Resolves when its monitor answers; nothing of the
 * guest has run by then, for the command line has -S. Throws QEMU_START with QEMU's own words.
 */
export async function startQemu(program: string, args: readonly string[], paths: GuestPaths, what: string): Promise<StartedQemu> {
  const log = fs.openSync(paths.log, 'a', 0o600);
  // Not the caller's: the working directory of a background process would keep a file system busy.
  const child = spawn(program, args, { stdio: ['ignore', log, log], detached: true, cwd: '/' });
  fs.closeSync(log);
  let ended: string | undefined;
  const exited = new Promise<void>((resolve) => {
    child.once('error', (cause) => {
      ended = cause.message;
      resolve();
    });
    child.once('exit', (code, signal) => {
      ended = signal ?? `status ${code}`;
      resolve();
    });
  });
  const refuse = (why: string): IoError => new IoError('QEMU_START', `QEMU cannot start ${what}: ${lastWords(paths.log) || why}`, { log: paths.log });
  const deadline = monotonicMs() + START_MS;
  try {
    while (!fs.existsSync(paths.monitor)) {
      await Promise.race([exited, pause(LOOK_MS)]);
      if (ended !== undefined) throw refuse(ended);
      if (monotonicMs() > deadline) throw refuse(`its monitor did not appear within ${START_MS / 1000} s`);
    }
    const monitor = await QmpClient.connect(paths.monitor, what, { greetingMs: START_MS }).catch(async (error: unknown) => {
      if (!(error instanceof LunfsError) || error.code !== 'QMP_GONE') throw error;
      await exited;
      throw refuse(ended ?? 'it ended');
    });
    const identity = identify(child.pid!);
    if (identity === undefined) throw refuse(ended ?? 'it ended');
    child.unref();
    return { identity, monitor };
  } catch (error) {
    child.kill('SIGKILL');
    await exited;
    throw error;
  }
}

/** The end of the log. */
export function lastWords(log: string): string {
  try {
    return fs.readFileSync(log, 'utf8').slice(-WORDS_MAX).trim().split('\n').slice(-5).join('; ');
  } catch {
    return '';
  }
}

/** The process of this number as it is now; undefined when there is none, or it is dead and waits for its parent. */
export function identify(pid: number): ProcessIdentity | undefined {
  try {
    // The second field is the program's name in parentheses, which may hold anything.
    const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '').split(' ');
    if (fields[0] === 'Z' || fields[0] === 'X') return undefined;
    return { pid, startTime: Number(fields[19]), bootId: bootId() };
  } catch {
    return undefined;
  }
}

/** Identifies this run of the host's kernel. */
export function bootId(): string {
  return fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

export function isAlive({ pid, startTime, bootId }: ProcessIdentity): boolean {
  const now = identify(pid);
  return now !== undefined && now.startTime === startTime && now.bootId === bootId;
}

/** The QEMU of a guest whose starter died before it wrote down its process: by QEMU's own pid file, and its command line. */
export function findByPidFile(paths: GuestPaths): ProcessIdentity | undefined {
  try {
    const pid = Number(fs.readFileSync(paths.pid, 'utf8').trim());
    if (!Number.isSafeInteger(pid) || pid <= 0 || !fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(paths.pid)) return undefined;
    return identify(pid);
  } catch {
    return undefined;
  }
}

/** Resolves to whether the process has ended within `ms`. */
export async function waitGone(identity: ProcessIdentity, ms: number): Promise<boolean> {
  const deadline = monotonicMs() + ms;
  while (isAlive(identity)) {
    if (monotonicMs() >= deadline) return false;
    await pause(LOOK_MS);
  }
  return true;
}

/** SIGKILL, and wait until it is gone. A process in the middle of I/O that hangs in the kernel outlives it: QEMU_STUCK. */
export async function killProcess(identity: ProcessIdentity, what: string): Promise<void> {
  if (!isAlive(identity)) return;
  process.kill(identity.pid, 'SIGKILL');
  if (await waitGone(identity, START_MS)) return;
  throw new IoError('QEMU_STUCK', `QEMU of ${what} (process ${identity.pid}) does not end: it waits for I/O of this host's kernel`, { pid: identity.pid }, undefined, 'EBUSY');
}
