/** How the tables came to be. A migration that has run anywhere is never changed: what is needed later is a new one. */
import type { ColumnDataType, Kysely, Migration } from 'kysely';

export type Engine = 'sqlite' | 'postgres';

/** By name, which orders them. */
export function migrations(engine: Engine): Record<string, Migration> {
  return { '0001-users-tokens-events-tasks': { up: (db) => first(db, engine) } };
}

type AnyDb = Kysely<unknown>;

async function first(db: AnyDb, engine: Engine): Promise<void> {
  await db.schema.createTable('users')
    .addColumn('id', 'text', (c) => c.primaryKey()).addColumn('name', 'text', (c) => c.notNull().unique()).addColumn('role', 'text', (c) => c.notNull())
    .addColumn('password_hash', 'text', (c) => c.notNull()).addColumn('enabled', 'integer', (c) => c.notNull()).addColumn('created_at', 'text', (c) => c.notNull()).execute();
  await db.schema.createTable('tokens')
    .addColumn('id', 'text', (c) => c.primaryKey()).addColumn('user_id', 'text', (c) => c.notNull().references('users.id').onDelete('cascade'))
    .addColumn('kind', 'text', (c) => c.notNull()).addColumn('name', 'text', (c) => c.notNull()).addColumn('role', 'text', (c) => c.notNull()).addColumn('hash', 'text', (c) => c.notNull())
    .addColumn('created_at', 'text', (c) => c.notNull()).addColumn('expires_at', 'text', (c) => c.notNull()).addColumn('revoked_at', 'text').execute();
  await db.schema.createIndex('tokens_user').on('tokens').column('user_id').execute();
  await db.schema.createTable('settings').addColumn('name', 'text', (c) => c.primaryKey()).addColumn('value', 'text', (c) => c.notNull()).execute();
  // SQLite gives numbers again that were deleted, unless told not to; readers resume by number.
  const serial: ColumnDataType = engine === 'sqlite' ? 'integer' : 'bigserial';
  await db.schema.createTable('events')
    .addColumn('id', serial, (c) => (engine === 'sqlite' ? c.primaryKey().autoIncrement() : c.primaryKey()))
    .addColumn('time', 'text', (c) => c.notNull()).addColumn('type', 'text', (c) => c.notNull()).addColumn('severity', 'text', (c) => c.notNull())
    .addColumn('object_type', 'text', (c) => c.notNull()).addColumn('object_id', 'text', (c) => c.notNull()).addColumn('message', 'text', (c) => c.notNull())
    .addColumn('user_name', 'text').addColumn('task_id', 'text').execute();
  await db.schema.createTable('idempotency')
    .addColumn('id', 'text', (c) => c.primaryKey()).addColumn('request_hash', 'text', (c) => c.notNull()).addColumn('status', 'integer', (c) => c.notNull())
    .addColumn('sealed', 'text', (c) => c.notNull()).addColumn('created_at', 'text', (c) => c.notNull()).execute();
  await db.schema.createTable('tasks')
    .addColumn('id', 'text', (c) => c.primaryKey()).addColumn('type', 'text', (c) => c.notNull()).addColumn('status', 'text', (c) => c.notNull())
    .addColumn('object_type', 'text', (c) => c.notNull()).addColumn('object_id', 'text', (c) => c.notNull()).addColumn('object_name', 'text', (c) => c.notNull())
    .addColumn('user_name', 'text', (c) => c.notNull()).addColumn('cancel_requested', 'integer', (c) => c.notNull()).addColumn('error_code', 'text').addColumn('error', 'text')
    .addColumn('owner', 'text').addColumn('created_at', 'text', (c) => c.notNull()).addColumn('started_at', 'text').addColumn('ended_at', 'text').execute();
  await db.schema.createIndex('tasks_object').on('tasks').columns(['object_id', 'status']).execute();
  await db.schema.createTable('task_steps')
    .addColumn('task_id', 'text', (c) => c.notNull().references('tasks.id').onDelete('cascade')).addColumn('number', 'integer', (c) => c.notNull()).addColumn('stage', 'integer', (c) => c.notNull())
    .addColumn('kind', 'text', (c) => c.notNull()).addColumn('title', 'text', (c) => c.notNull()).addColumn('args', 'text', (c) => c.notNull()).addColumn('status', 'text', (c) => c.notNull())
    .addColumn('before', 'text').addColumn('error', 'text').addColumn('started_at', 'text').addColumn('ended_at', 'text')
    .addPrimaryKeyConstraint('task_steps_key', ['task_id', 'number']).execute();
}
