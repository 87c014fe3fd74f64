/**
 * Events: what happened, to what, by whom; written in the transaction of what they tell of, so there is neither an event of nothing nor a change without one.
 * Numbers grow in the order of commits: PostgreSQL's writers of events take turns for that (an advisory lock to the end of the transaction), so who resumes by
 * the last number seen misses nothing.
 */
import { type Selectable, sql } from 'kysely';
import { timestamp } from './clock.js';
import type { Engine } from './db/migrations.js';
import type { Db, EventRow, Trx } from './db/schema.js';

export type Severity = 'info' | 'warning' | 'error';

export interface NewEvent {
  readonly type: string;
  readonly severity?: Severity;
  readonly object: { readonly type: string; readonly id: string };
  readonly message: string;
  readonly user?: string;
  readonly task?: string;
}

const EVENTS_LOCK = 0x6c756e66;

export class Events {
  readonly #waiting = new Set<() => void>();

  constructor(private readonly db: Db, private readonly engine: Engine) {}

  /** Last thing in a transaction, for others wait meanwhile. Call `wake` when it is committed. */
  async append(trx: Trx, event: NewEvent): Promise<void> {
    if (this.engine === 'postgres') await sql`select pg_advisory_xact_lock(${EVENTS_LOCK})`.execute(trx);
    await trx.insertInto('events').values({
      time: timestamp(), type: event.type, severity: event.severity ?? 'info', object_type: event.object.type, object_id: event.object.id, message: event.message,
      user_name: event.user ?? null, task_id: event.task ?? null,
    }).execute();
  }

  /** Those after a number, oldest first. */
  after(id: number, limit: number): Promise<EventRows> {
    return this.db.selectFrom('events').selectAll().where('id', '>', id).orderBy('id').limit(limit).execute();
  }

  /** The newest, newest first; `before`: older than this number. */
  newest(limit: number, before?: number): Promise<EventRows> {
    const query = this.db.selectFrom('events').selectAll().orderBy('id', 'desc').limit(limit);
    return (before === undefined ? query : query.where('id', '<', before)).execute();
  }

  async lastId(): Promise<number> {
    return (await this.db.selectFrom('events').select((e) => e.fn.max('id').as('last')).executeTakeFirst())?.last ?? 0;
  }

  /** Something may have been committed. */
  wake(): void {
    for (const resume of this.#waiting) resume();
  }

  /** Calls `fn` at each `wake` until the returned function is called. */
  onWake(fn: () => void): () => void {
    this.#waiting.add(fn);
    return () => this.#waiting.delete(fn);
  }
}

export type EventRows = Selectable<EventRow>[];
