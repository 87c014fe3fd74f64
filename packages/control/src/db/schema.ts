/** The tables, as the code sees them. Times are ISO 8601 text, truths 0 or 1, JSON is text: the same in SQLite and PostgreSQL. */
import type { Generated, Kysely, Transaction } from 'kysely';

export interface UserRow {
  id: string;
  name: string;
  role: string;
  password_hash: string;
  enabled: number;
  created_at: string;
}

/** API tokens and sessions. Only a hash of the secret is kept: it has 256 random bits, so a fast hash is enough. */
export interface TokenRow {
  id: string;
  user_id: string;
  kind: string;
  name: string;
  role: string;
  hash: string;
  created_at: string;
  expires_at: string;
  revoked_at: string | null;
}

/** What this control plane is: certificate authority and its key. */
export interface SettingRow {
  name: string;
  value: string;
}

export interface EventRow {
  id: Generated<number>;
  time: string;
  type: string;
  severity: string;
  object_type: string;
  object_id: string;
  message: string;
  user_name: string | null;
  task_id: string | null;
}

/** First answers, by a hash of who asked with which key; sealed with the key, which is not kept. */
export interface IdempotencyRow {
  id: string;
  request_hash: string;
  status: number;
  sealed: string;
  created_at: string;
}

export interface TaskRow {
  id: string;
  type: string;
  status: string;
  object_type: string;
  object_id: string;
  object_name: string;
  user_name: string;
  cancel_requested: number;
  error_code: string | null;
  error: string | null;
  /** Incarnation of the control plane that works at it; another may not write. */
  owner: string | null;
  created_at: string;
  started_at: string | null;
  ended_at: string | null;
}

export interface StepRow {
  task_id: string;
  number: number;
  /** Steps of one stage run side by side; the next stage begins when all are done. */
  stage: number;
  kind: string;
  title: string;
  args: string;
  status: string;
  /** What was there before, for the way back. */
  before: string | null;
  error: string | null;
  started_at: string | null;
  ended_at: string | null;
}

export interface Database {
  users: UserRow;
  tokens: TokenRow;
  settings: SettingRow;
  events: EventRow;
  idempotency: IdempotencyRow;
  tasks: TaskRow;
  task_steps: StepRow;
}

export type Db = Kysely<Database>;
export type Trx = Transaction<Database>;
