// Child processes and time, for the project's scripts.
import { spawn } from 'node:child_process';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');

/** Directory of caches: kernel, machine images. Never committed, always safe to delete. LUNFS_CACHE_DIR shares one between checkouts. */
export const cacheDir = process.env.LUNFS_CACHE_DIR ?? path.join(root, '.cache');

/**
 * Seconds as operators read them.
 * @param {number} ms
 */
export function seconds(ms) {
  return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

/** @type {Set<import('node:child_process').ChildProcess>} */
const running = new Set();
/** @type {NodeJS.Signals | undefined} */
let endedBy;

/** From now on a signal that ends this process ends what `run` has started first. For scripts that have nothing else to put in order. */
export function endTogether() {
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
    process.on(signal, () => {
      endedBy ??= signal;
      for (const child of running) child.kill('SIGTERM');
      endIfAlone();
    });
  }
}

function endIfAlone() {
  if (endedBy !== undefined && running.size === 0) process.exit(128 + os.constants.signals[endedBy]);
}

/**
 * Runs a program and resolves to `{ status, output, ms }`, output being stdout and stderr in the order they came;
 * `inherit` passes them through instead. A missing program is status 127, a signal 128; after `timeoutMs` it gets
 * SIGTERM, and SIGKILL if that does not end it. When `signal` is aborted it gets SIGKILL.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ inherit?: boolean, env?: NodeJS.ProcessEnv, cwd?: string, timeoutMs?: number, signal?: AbortSignal }} [options] cwd: the repository's root unless given
 * @returns {Promise<{ status: number, output: string, ms: number }>}
 */
export function run(command, args, { inherit = false, env = {}, cwd = root, timeoutMs, signal } = {}) {
  const started = performance.now();
  return new Promise((resolve) => {
    if (endedBy !== undefined) return; // this process is about to end
    const passed = inherit ? 'inherit' : 'pipe';
    const child = spawn(command, args, { cwd, stdio: ['ignore', passed, passed], env: { ...process.env, ...env }, signal, killSignal: 'SIGKILL' });
    running.add(child);
    /** @type {Buffer[]} */
    const parts = [];
    child.stdout?.on('data', (part) => parts.push(part));
    child.stderr?.on('data', (part) => parts.push(part));
    const timers = timeoutMs === undefined ? [] : [setTimeout(() => child.kill('SIGTERM'), timeoutMs), setTimeout(() => child.kill('SIGKILL'), timeoutMs + 15_000)];
    /** @param {number} status */
    const done = (status) => {
      for (const timer of timers) clearTimeout(timer);
      running.delete(child);
      endIfAlone();
      resolve({ status, output: Buffer.concat(parts).toString(), ms: performance.now() - started });
    };
    child.on('error', (error) => {
      parts.push(Buffer.from(`${error.message}\n`));
      done(127);
    });
    child.on('close', (code) => done(code ?? 128));
  });
}

/**
 * Path of a program that npm installed, without going through npx (which costs half a second).
 * @param {string} name
 */
export function bin(name) {
  return path.join(root, 'node_modules/.bin', name);
}
