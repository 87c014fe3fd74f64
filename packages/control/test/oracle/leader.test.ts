/** Several control planes on one PostgreSQL: all answer, one does the tasks; when it ends another takes them over, and what the first may still hold in its hands comes too late. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Cleanup, tempDir } from '../../../../test/support/temp.js';
import { Control } from '../../src/control.js';
import { type OpenedDatabase, openDatabase } from '../../src/db/open.js';
import { Events } from '../../src/events.js';
import { TaskEngine } from '../../src/tasks/engine.js';
import { type StepKind, planTask } from '../../src/tasks/task.js';
import { freshDatabase } from '../support/databases.js';

const cleanup = new Cleanup();
let setting: string;
let database: OpenedDatabase;
beforeAll(async () => {
  setting = await freshDatabase(cleanup, 'postgres');
  database = await openDatabase(setting);
  cleanup.add(() => database.close());
}, 120_000);
afterAll(() => cleanup.run(), 60_000);

const plan = (object: string, kind: string): Promise<string> => database.change((trx) => planTask(trx, { type: 'test', object: { type: 'test', id: object, name: object }, user: 'tester', steps: [{ stage: 0, kind, title: kind, args: {} }] }));

/** The engine that has ended a task. */
async function ended(task: string, status: string): Promise<string | null> {
  const row = () => database.db.selectFrom('tasks').select(['status', 'owner']).where('id', '=', task).executeTakeFirstOrThrow();
  await expect.poll(async () => (await row()).status, { timeout: 60_000, interval: 50 }).toBe(status);
  return (await row()).owner;
}

it('one of two does the tasks, then the other', { timeout: 300_000 }, async () => {
  const start = (): Promise<Control> => Control.start({ database: setting, directory: tempDir(cleanup, 'control'), host: '127.0.0.1', port: 0, names: [], logLevel: 'silent' });
  const one = await start(), two = await start();
  try {
    // Nobody knows such steps, so these tasks fail, by the hand of who has them.
    const first = await ended(await plan('a', 'unknown'), 'failed');
    expect(first).not.toBeNull();
    expect(await ended(await plan('b', 'unknown'), 'failed')).toBe(first);
    await one.stop();
    const second = await ended(await plan('c', 'unknown'), 'failed');
    expect(second).not.toBe(first);
  } finally {
    await two.stop();
  }
});

it('an engine that was replaced changes nothing any more', { timeout: 120_000 }, async () => {
  let release!: () => void;
  const held = new Promise<void>((resolve) => { release = resolve; });
  let begun = 0;
  const engine = (run: () => Promise<void>): TaskEngine => {
    const kinds: StepKind[] = [{ name: 'slow', run }];
    return new TaskEngine({ database, events: new Events(database.db, 'postgres'), kinds, log: () => undefined });
  };
  const old = engine(async () => {
    begun++;
    await held;
    throw new Error('the old engine would fail the task');
  });
  await old.start(() => undefined);
  const task = await plan('slow', 'slow');
  old.wake();
  await expect.poll(() => begun, { timeout: 60_000 }).toBe(1);
  const next = engine(() => Promise.resolve());
  await next.start(() => undefined);
  const owner = await ended(task, 'succeeded');
  release();
  await old.stop();
  await next.stop();
  expect(await ended(task, 'succeeded')).toBe(owner);
  expect(await database.db.selectFrom('task_steps').select(['status', 'error']).where('task_id', '=', task).execute()).toEqual([{ status: 'done', error: null }]);
});
