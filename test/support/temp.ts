/**
 * What every test that touches the machine needs: directories, loop devices and sparse files that vanish with the
 * test, programs run to their end, and seeds that are printed.
 *
 * Everything registered with `Cleanup` is undone in reverse order, also when the test failed.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** Undo steps of one test, run last-registered first; errors are collected, so that one failure leaves no other litter. */
export class Cleanup {
  readonly #steps: (() => void | Promise<void>)[] = [];
  #last: Promise<void> = Promise.resolve();

  add(step: () => void | Promise<void>): void {
    this.#steps.push(step);
    atEndOfRun(this);
  }

  /** One run after the other: that of a test, and the last of all. */
  run(): Promise<void> {
    return (this.#last = this.#last.then(() => this.#undo(), () => this.#undo()));
  }

  async #undo(): Promise<void> {
    const errors: unknown[] = [];
    for (let step = this.#steps.pop(); step; step = this.#steps.pop()) {
      try {
        await step();
      } catch (error) {
        errors.push(error);
      }
    }
    waiting.delete(this);
    if (errors.length > 0) throw new AggregateError(errors, `clean-up failed: ${errors.map(String).join('; ')}`);
  }
}

/** Clean-ups with something to undo. */
const waiting = new Set<Cleanup>();
/** What undoing all may take once nobody waits for it any more. */
const LAST_MS = 60_000;

/**
 * Vitest ends at once on SIGINT and SIGTERM, and its workers go on until they have something to say, then end without a hook: what they have started
 * would stay. So a worker whose run is gone, or that is to end itself, undoes what is registered first, whatever its tests are about.
 */
function atEndOfRun(cleanup: Cleanup): void {
  if (process.listenerCount('disconnect', end) === 0) for (const event of ['disconnect', 'SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(event, end);
  waiting.add(cleanup);
}

let ending = false;

function end(): void {
  if (ending) return;
  ending = true;
  const die = (): void => void process.kill(process.pid, 'SIGKILL'); // process.exit is vitest's
  setTimeout(die, LAST_MS);
  // Nobody hears what is still said.
  for (const event of ['error', 'uncaughtException', 'unhandledRejection']) process.removeAllListeners(event).on(event, () => undefined);
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  void undoAll().finally(die);
}

async function undoAll(): Promise<void> {
  // One that hangs holds up none of the others; a test that goes on meanwhile may register more.
  while (waiting.size > 0) await Promise.all([...waiting].map((one) => one.run().catch(() => undefined)));
}

/** A fresh directory, removed by `cleanup`. Under LUNFS_TEST_DIR (else the system's temporary directory). */
export function tempDir(cleanup: Cleanup, label = 'test'): string {
  const directory = fs.mkdtempSync(path.join(process.env.LUNFS_TEST_DIR ?? os.tmpdir(), `lunfs-${label}-`));
  cleanup.add(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Creates (or replaces) a sparse file of `size` bytes that reads zero. */
export function sparseFile(file: string, size: number): string {
  fs.rmSync(file, { force: true });
  fs.closeSync(fs.openSync(file, 'wx', 0o600));
  fs.truncateSync(file, size);
  return file;
}

export interface Finished {
  /** Exit status; 128 + n when killed by signal n is not told apart: `signal` is. */
  status: number;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end. Rejects only when it cannot be started or outlives `timeoutMs` (it is killed then). */
export function exec(command: string, args: readonly string[], options: { input?: string | Uint8Array; timeoutMs?: number; env?: NodeJS.ProcessEnv; cwd?: string } = {}): Promise<Finished> {
  const { input, timeoutMs = 120_000, env, cwd } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, timeoutMs);
    child.stdout!.on('data', (part: Buffer) => out.push(part));
    child.stderr!.on('data', (part: Buffer) => err.push(part));
    child.stdin?.on('error', () => {}); // the program may end without reading all of it
    child.stdin?.end(input);
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const stderr = Buffer.concat(err).toString();
      if (late) reject(new Error(`${command} ${args.join(' ')}: still running after ${timeoutMs} ms, killed\n${stderr}`));
      else resolve({ status: code ?? 128, signal, stdout: Buffer.concat(out).toString(), stderr });
    });
  });
}

/** `exec` that rejects, with the program's words, on any status but 0. Resolves to stdout. */
export async function must(command: string, args: readonly string[], options?: Parameters<typeof exec>[2]): Promise<string> {
  const { status, signal, stdout, stderr } = await exec(command, args, options);
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${signal ?? `status ${status}`}\n${stderr}${stdout}`);
  return stdout;
}

/** Attaches `file` to a free loop device (direct I/O unless refused) and gives its path; detached by `cleanup`. Needs root. */
export async function loopDevice(cleanup: Cleanup, file: string, options: { direct?: boolean; sectorSize?: 512 | 4096 } = {}): Promise<string> {
  const { direct = true, sectorSize } = options;
  const device = (await must('losetup', ['--find', '--show', `--direct-io=${direct ? 'on' : 'off'}`, ...(sectorSize ? ['--sector-size', String(sectorSize)] : []), file])).trim();
  cleanup.add(async () => {
    await must('losetup', ['--detach', device]);
  });
  return device;
}

/**
 * The seed of this run, printed so that a failure can be replayed: LUNFS_SEED when given; in CI one that only the label
 * decides, so that a commit that passed passes again; else a random one, so that every other run looks somewhere new.
 */
export function seed(label: string): number {
  const given = process.env.LUNFS_SEED;
  const value = given !== undefined ? Number(given) : process.env.CI === 'true' ? hashOf(label) : Math.floor(Math.random() * 0x7fffffff);
  if (!Number.isInteger(value)) throw new Error(`LUNFS_SEED=${given} is not a whole number`);
  console.log(`${label}: LUNFS_SEED=${value}`);
  return value;
}

/** FNV-1a, 31 bits. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash >>> 1;
}

/** A small deterministic generator (mulberry32) of numbers in [0, 1). */
export function randomFrom(start: number): () => number {
  let state = start >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
