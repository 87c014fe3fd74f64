/** Running the built command as a user does. */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const launcher = path.resolve(import.meta.dirname, '../../bin/lunfs.cjs');

export interface Run {
  readonly code: number | null;
  readonly stdout: string;
  readonly bytes: Buffer;
  readonly stderr: string;
}

export interface Lunfs {
  /** A directory of its own, removed by `end`; commands run in it. */
  readonly directory: string;
  /** Whatever the exit code. */
  run(args: readonly string[], input?: string | Uint8Array): Promise<Run>;
  /** Rejects unless it succeeds. Gives stdout. */
  must(...args: readonly string[]): Promise<string>;
  /** `must` with --json, parsed. */
  json<T>(...args: readonly string[]): Promise<T>;
  /** A fresh image formatted by `lunfs mkfs`. */
  volume(name: string, bytes: number, ...options: readonly string[]): Promise<string>;
  end(): void;
}

export function lunfsIn(name: string): Lunfs {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), `lunfs-${name}-`));
  const run = (args: readonly string[], input?: string | Uint8Array): Promise<Run> =>
    new Promise((resolve, reject) => {
      const child = spawn(process.execPath, [launcher, ...args], { cwd: directory, env: { ...process.env, LUNFS_RUN_DIR: path.join(directory, 'run') } });
      const out: Buffer[] = [];
      const err: Buffer[] = [];
      child.stdout.on('data', (part: Buffer) => out.push(part));
      child.stderr.on('data', (part: Buffer) => err.push(part));
      child.on('error', reject);
      child.on('close', (code) => resolve({ code, stdout: Buffer.concat(out).toString(), bytes: Buffer.concat(out), stderr: Buffer.concat(err).toString() }));
      child.stdin.on('error', () => undefined); // it may end without reading
      child.stdin.end(input ?? '');
    });
  const must = async (...args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await run(args);
    if (code !== 0) throw new Error(`lunfs ${args.join(' ')}: exit code ${code}\n${stderr}${stdout}`);
    return stdout;
  };
  return {
    directory, run, must,
    json: async <T>(...args: readonly string[]) => JSON.parse(await must(...args, '--json')) as T,
    volume: async (image, bytes, ...options) => {
      fs.writeFileSync(path.join(directory, image), '');
      fs.truncateSync(path.join(directory, image), bytes);
      await must('mkfs', '-q', '-M', 'local', ...options, image);
      return image;
    },
    end: () => fs.rmSync(directory, { recursive: true, force: true }),
  };
}
