/**
 * Opening the database, by one setting: `sqlite:/path/to/file` (default) or `postgres://user:password@host/name`. Same tables, same queries.
 *
 * SQLite: WAL, and a commit is on the disk when it is answered (synchronous=FULL); the file belongs to this process alone (an exclusive lock that ends with it),
 * so two control planes can never work on one file. PostgreSQL: several control planes may share one database; each transaction that changes something is
 * serializable and is tried again when it loses a race.
 */
import * as fs from 'node:fs';
import path from 'node:path';
import { IoError, UsageError } from '@lunfs/device';
import { type Dialect, Kysely, Migrator, PostgresDialect, SqliteDialect } from 'kysely';
import Libsql from 'libsql';
import pg from 'pg';
import { type Engine, migrations } from './migrations.js';
import type { Database, Db, Trx } from './schema.js';

export interface OpenedDatabase {
  readonly db: Db;
  readonly engine: Engine;
  /** Run a transaction that changes something; `work` may run several times, and changes nothing but the database. */
  change<R>(work: (trx: Trx) => Promise<R>): Promise<R>;
  close(): Promise<void>;
}

/** Transactions that lost a race are tried again so often. */
const ATTEMPTS = 20;
/** serialization_failure, deadlock_detected, unique_violation: the other one has won; what it wrote is seen the next time. */
const LOST_RACE = new Set(['40001', '40P01', '23505']);

/** int8 as a number: all of ours (event numbers) are safe integers. */
const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary'): unknown => (oid === pg.types.builtins.INT8 ? Number : (pg.types.getTypeParser(oid, format) as unknown))) as typeof pg.types.getTypeParser,
};

/**
 * Opens and migrates. `wrap`: tests make the dialect fail.
 * @throws UsageError BAD_DATABASE (no such kind), DATABASE_IN_USE; IoError DATABASE
 */
export async function openDatabase(setting: string, wrap: (dialect: Dialect) => Dialect = (dialect) => dialect): Promise<OpenedDatabase> {
  const engine = engineOf(setting);
  const db: Db = new Kysely<Database>({ dialect: wrap(engine === 'sqlite' ? sqlite(setting.slice('sqlite:'.length)) : postgres(setting)) });
  try {
    const { error } = await new Migrator({ db, provider: { getMigrations: () => Promise.resolve(migrations(engine)) } }).migrateToLatest();
    if (error !== undefined) throw error as Error;
  } catch (cause) {
    await db.destroy().catch(() => undefined);
    if (cause instanceof UsageError) throw cause;
    throw new IoError('DATABASE', `the database cannot be used: ${(cause as Error).message}`, {}, cause);
  }
  return { db, engine, change: (work) => change(db, engine, work), close: () => db.destroy() };
}

function engineOf(setting: string): Engine {
  if (setting.startsWith('sqlite:') && setting.length > 'sqlite:'.length) return 'sqlite';
  if (/^postgres(ql)?:\/\//.test(setting)) return 'postgres';
  throw new UsageError('BAD_DATABASE', 'EINVAL', `"${setting.replace(/:[^:@/]*@/, ':…@')}" names no database: use sqlite:/path/to/file or postgres://user:password@host/name`);
}

function sqlite(file: string): Dialect {
  return new SqliteDialect({
    database: () => {
      fs.mkdirSync(path.dirname(path.resolve(file)), { recursive: true, mode: 0o700 });
      // It holds hashes of passwords and the key of the certificate authority; the files beside it get its mode.
      fs.closeSync(fs.openSync(file, 'a', 0o600));
      const database = new Libsql(file);
      try {
        database.exec('PRAGMA locking_mode = EXCLUSIVE');
        database.exec('PRAGMA journal_mode = WAL');
        database.exec('PRAGMA synchronous = FULL');
        database.exec('PRAGMA foreign_keys = ON');
        database.exec('BEGIN IMMEDIATE; COMMIT');
      } catch (cause) {
        database.close();
        if ((cause as { code?: string }).code !== 'SQLITE_BUSY') throw cause;
        throw new UsageError('DATABASE_IN_USE', 'EBUSY', `${file} is another control plane's at the moment; several need PostgreSQL`, { file }, cause);
      }
      return Promise.resolve({ prepare: (text: string) => database.prepare(text), close: () => closeSqlite(database) });
    },
  });
}

/** The library lets go of the file only when its statements are collected; so the lock is given back before (out of WAL, for within it the locking mode stays). */
function closeSqlite(database: Libsql.Database): void {
  try {
    database.exec('PRAGMA journal_mode = DELETE');
    database.exec('PRAGMA locking_mode = NORMAL');
    database.exec('BEGIN; SELECT 1 FROM sqlite_schema; COMMIT');
  } finally {
    database.close();
  }
}

function postgres(connectionString: string): Dialect {
  const pool = new pg.Pool({ connectionString, max: 10, types });
  // An idle connection that breaks is replaced; who uses one is told by the failed query.
  pool.on('error', () => undefined);
  return new PostgresDialect({ pool });
}

async function change<R>(db: Db, engine: Engine, work: (trx: Trx) => Promise<R>): Promise<R> {
  if (engine === 'sqlite') return db.transaction().execute(work);
  for (let attempt = 1; ; attempt++) {
    try {
      return await db.transaction().setIsolationLevel('serializable').execute(work);
    } catch (error) {
      if (attempt >= ATTEMPTS || !LOST_RACE.has((error as { code?: string }).code ?? '')) throw error;
    }
  }
}
