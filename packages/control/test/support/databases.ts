/** Both kinds of database, real ones: a SQLite file, and a PostgreSQL server of one's own in a temporary directory, as a user who is not root. */
import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import path from 'node:path';
import pg from 'pg';
import { findProgram } from '../../../../scripts/lib/oracles.mjs';
import { type Cleanup, must, tempDir } from '../../../../test/support/temp.js';

export const KINDS = ['sqlite', 'postgres'] as const;
export type Kind = (typeof KINDS)[number];

/** nobody: PostgreSQL refuses to run as root. */
const NOBODY = 65534;

/** A fresh database; what `openDatabase` takes. */
export async function freshDatabase(cleanup: Cleanup, kind: Kind): Promise<string> {
  if (kind === 'sqlite') return `sqlite:${path.join(tempDir(cleanup, 'db'), 'control.db')}`;
  return startPostgres(cleanup);
}

function asNobody(command: string, args: readonly string[]): [string, string[]] {
  if (process.getuid?.() !== 0) return [command, [...args]];
  return [findProgram('setpriv')!, [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', command, ...args]];
}

async function startPostgres(cleanup: Cleanup): Promise<string> {
  const directory = tempDir(cleanup, 'pg');
  if (process.getuid?.() === 0) fs.chownSync(directory, NOBODY, NOBODY);
  const data = path.join(directory, 'data');
  await must(...asNobody(findProgram('initdb')!, ['--pgdata', data, '--auth=trust', '--username=lunfs', '--no-sync', '--encoding=UTF8', '--no-locale']), { cwd: directory });
  // What a power failure would do to it is not asked here.
  const options = { listen_addresses: '', unix_socket_directories: directory, fsync: 'off', shared_buffers: '16MB', max_connections: '60' };
  const [command, args] = asNobody(findProgram('postgres')!, ['-D', data, ...Object.entries(options).flatMap(([name, value]) => ['-c', `${name}=${value}`])]);
  const server = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'], cwd: directory });
  let said = '';
  server.stderr!.on('data', (part: Buffer) => {
    said = (said + part.toString()).slice(-4000);
  });
  cleanup.add(() => ended(server));
  const url = `postgres://lunfs@localhost/postgres?host=${encodeURIComponent(directory)}`;
  for (;;) {
    if (server.exitCode !== null) throw new Error(`PostgreSQL does not start:\n${said}`);
    const client = new pg.Client({ connectionString: url });
    try {
      await client.connect();
      await client.end();
      return url;
    } catch {
      await new Promise((resolve) => { setTimeout(resolve, 100); });
    }
  }
}

/** SIGINT: it breaks the connections that are left, and ends cleanly. */
function ended(server: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (server.exitCode !== null || server.signalCode !== null) return resolve();
    server.once('exit', () => resolve());
    server.kill('SIGINT');
  });
}
