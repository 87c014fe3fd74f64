/**
 * Which of several control planes on one PostgreSQL does the tasks and looks after the hosts: the one that has an advisory lock, on a connection of its own. The
 * lock ends with the connection, so a control plane that dies or is cut off from the database is succeeded. What a deposed one may still have in its hands is
 * stopped by the claim on each task (tasks/engine.ts). On SQLite there is only one.
 */
import pg from 'pg';
import { pause } from '../clock.js';

const LEADER_LOCK = 0x6c756e65;
/** Between two attempts to become the leader, and two looks whether one still is. */
const LOOK_MS = 1000;

export interface Office {
  /** Takes up the office; `lost` is aborted when it is over. Resolves when all is laid down. */
  serve(lost: AbortSignal): Promise<void>;
  log(line: string): void;
}

/** Serves whenever it can until the signal says stop. */
export async function leadWhenElected(setting: string, office: Office, stop: AbortSignal): Promise<void> {
  if (!/^postgres(ql)?:/.test(setting)) return office.serve(stop);
  while (!stop.aborted) {
    try {
      await term(setting, office, stop);
    } catch (error) {
      office.log(`not the leader: ${(error as Error).message}`);
    }
    await pause(LOOK_MS, stop);
  }
}

async function term(connectionString: string, office: Office, stop: AbortSignal): Promise<void> {
  const over = new AbortController();
  const client = new pg.Client({ connectionString, keepAlive: true, query_timeout: 10_000 });
  client.on('error', () => over.abort());
  client.on('end', () => over.abort());
  await client.connect();
  try {
    const both = AbortSignal.any([stop, over.signal]);
    for (;;) {
      const { rows } = await client.query<{ mine: boolean }>('select pg_try_advisory_lock($1) as mine', [LEADER_LOCK]);
      if (rows[0].mine) break;
      await pause(LOOK_MS, both);
      if (both.aborted) return;
    }
    const serving = office.serve(both);
    try {
      while (!both.aborted) {
        await pause(LOOK_MS, both);
        if (!both.aborted) await client.query('select 1');
      }
    } finally {
      over.abort();
      await serving;
    }
  } finally {
    await client.end().catch(() => undefined);
  }
}
