/**
 * Starting a program of the host, in the background (it goes on when its parent ends, its messages go to a log in the run directory) or in
 * the foreground (it shares the terminal, and signals reach it). Either way the caller learns how the start went: facts, or the very error.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import os from 'node:os';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { InternalError, IoError } from '@lunfs/device';
import { type WireError, fromWire, lineSplitter, toWire } from './control-protocol.js';

/** The child's descriptor on which it reports its start. */
const READY_FD = 3;

type StartReport<F> = { readonly ready: F } | { readonly error: WireError };

/** A program's own end: how its start went. The parent may have gone: then nobody needs to know. */
export function reportStart<F>(report: { readonly ready: F } | { readonly failure: unknown }): void {
  try {
    fs.writeSync(READY_FD, `${JSON.stringify('ready' in report ? report : { error: toWire(report.failure) })}\n`);
    fs.closeSync(READY_FD);
  } catch {
    // started without a pipe
  }
}

export interface Program {
  /** Its main module. */
  readonly main: URL;
  /** Its one argument, as JSON. */
  readonly options: unknown;
  /** What messages call it: "the process for /dev/sda". */
  readonly what: string;
  readonly log: string;
  readonly foreground: boolean;
  readonly env?: NodeJS.ProcessEnv;
  /** Gives the child a socket pair as its descriptor 4. Told the child before anything else happens. */
  readonly begun?: (child: ChildProcess) => void;
  /** A descriptor of ours that it is to hold open for as long as it lives, as its descriptor 5; with `begun`. */
  readonly lockFd?: number;
  /** Stable code of its death before it said why. */
  readonly died: string;
}

export interface StartedProgram<F> {
  readonly pid: number;
  readonly facts: F;
  /** Where its messages go in the background. */
  readonly log?: string;
  /** How it ended. Waiting for it keeps the caller alive; a background process needs nobody to wait. */
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  kill(signal: NodeJS.Signals): void;
}

/** libuv's pool serves I/O of exports at depth and invalidations: more threads than cores, but few (measured on 2 cores: docs/benchmarks.md). */
function poolSize(): string {
  return process.env.UV_THREADPOOL_SIZE ?? String(Math.min(16, Math.max(8, 2 * os.availableParallelism())));
}

/** Resolves when the program says that it is ready; rejects with the error that it reports. */
export async function startProgram<F>({ main, options, what, log, foreground, env, begun, lockFd, died }: Program): Promise<StartedProgram<F>> {
  const out = foreground ? 'inherit' : fs.openSync(log, 'a', 0o600);
  const child = spawn(process.execPath, [fileURLToPath(main), JSON.stringify(options)], {
    stdio: ['ignore', out, out, 'pipe', ...(begun ? ['pipe' as const, ...(lockFd === undefined ? [] : [lockFd])] : [])], detached: !foreground, env: { ...process.env, UV_THREADPOOL_SIZE: poolSize(), ...env },
    // Not the caller's: the working directory of a background process would keep a file system busy.
    cwd: foreground ? undefined : '/',
  });
  if (typeof out === 'number') fs.closeSync(out);
  begun?.(child);
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
  });
  const report = await new Promise<StartReport<F>>((resolve, reject) => {
    const pipe = child.stdio[READY_FD] as Readable;
    let told = false;
    pipe.on('data', lineSplitter((line) => {
      told = true;
      resolve(JSON.parse(line) as StartReport<F>);
    }));
    pipe.once('close', () => {
      if (!told) reject(new InternalError(died, `${what} ended before it said why${foreground ? '' : `; see ${log}`}`));
    });
    child.once('error', (cause) => reject(new IoError('START_PROCESS', `cannot start ${what}: ${cause.message}`, {}, cause)));
  });
  if ('error' in report) {
    await exited;
    throw fromWire(report.error);
  }
  if (!foreground && !begun) child.unref();
  return { pid: child.pid!, facts: report.ready, log: foreground ? undefined : log, exited, kill: (signal) => void child.kill(signal) };
}
