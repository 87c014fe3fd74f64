// Child processes and time, for the project's scripts.
import { spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');

/** Directory of caches: kernel, machine images. Never committed, always safe to delete. LUNFS_CACHE_DIR shares one between checkouts. */
export const cacheDir = process.env.LUNFS_CACHE_DIR ?? path.join(root, '.cache');

/** Seconds as operators read them. */
export function seconds(ms) {
  return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

/**
 * Runs a program in the repository's root and resolves to `{ status, output, ms }`, output being stdout and stderr in
 * the order they came. `inherit` passes them through instead. A signal or a missing program is status 127 or 128.
 */
export function run(command, args, { inherit = false, env = {}, cwd = root, input } = {}) {
  const started = performance.now();
  return new Promise((resolve) => {
    const stdin = input === undefined ? 'ignore' : 'pipe';
    const stdio = inherit ? [stdin, 'inherit', 'inherit'] : [stdin, 'pipe', 'pipe'];
    const child = spawn(command, args, { cwd, stdio, env: { ...process.env, ...env } });
    const parts = [];
    child.stdout?.on('data', (part) => parts.push(part));
    child.stderr?.on('data', (part) => parts.push(part));
    if (input !== undefined) child.stdin.end(input);
    const done = (status) => resolve({ status, output: Buffer.concat(parts).toString(), ms: performance.now() - started });
    child.on('error', (error) => {
      parts.push(Buffer.from(`${error.message}\n`));
      done(127);
    });
    child.on('close', (code) => done(code ?? 128));
  });
}

/** Path of a program that npm installed, without going through npx (which costs half a second). */
export function bin(name) {
  return path.join(root, 'node_modules/.bin', name);
}
