/**
 * Does tasks. The database is the truth: each change of a step or a task is committed before what follows from it begins, so whoever starts after a crash finds
 * where to go on. A step that was begun is run again; when a step fails, or a cancel is asked for, all steps that were begun are undone, last first, and an undo
 * that fails is tried again until it succeeds: a task ends whole or without a trace.
 *
 *     pending ──► running ──► succeeded
 *                    └──► rolling-back ──► failed | cancelled
 *
 * One engine works at a time. It claims every unfinished task when it starts (`owner`), and each write asks for that claim: one that was replaced and does
 * not know it yet changes nothing any more, and stops.
 */
import { pause, timestamp } from '../clock.js';
import type { OpenedDatabase } from '../db/open.js';
import type { StepRow, TaskRow, Trx } from '../db/schema.js';
import type { Events } from '../events.js';
import { Problem } from '../problems.js';
import { newId } from '../random.js';
import { type Kept, type StepKind, type StepState, type TaskState, UNFINISHED } from './task.js';

/** Between two attempts to undo a step. */
const UNDO_PAUSE_MS = { first: 500, most: 15_000 };
/** An engine that hears of nothing looks for itself. */
const IDLE_MS = 2000;

/** Another engine has the tasks. */
export class Replaced extends Error {}

/** Told to steps that run. */
const CANCELLED = 'cancelled';
const STOPPED = 'stopped';

export interface EngineOptions {
  readonly database: OpenedDatabase;
  readonly events: Events;
  readonly kinds: readonly StepKind[];
  readonly log: (line: string, fields: Readonly<Record<string, string>>) => void;
}

export class TaskEngine {
  readonly #owner = newId();
  readonly #kinds: ReadonlyMap<string, StepKind>;
  readonly #running = new Map<string, { readonly done: Promise<void>; readonly abort: AbortController }>();
  readonly #stopping = new AbortController();
  #wake = new AbortController();
  #loop: Promise<void> = Promise.resolve();

  constructor(private readonly options: EngineOptions) {
    this.#kinds = new Map(options.kinds.map((kind) => [kind.name, kind]));
  }

  /** Takes all unfinished tasks over and goes on with them. `failed`: it cannot go on. */
  async start(failed: (error: unknown) => void): Promise<void> {
    await this.options.database.change((trx) => trx.updateTable('tasks').set({ owner: this.#owner }).where('status', 'in', UNFINISHED).execute());
    this.#loop = this.#run().catch(failed);
  }

  /** There may be new tasks, or ones to cancel. */
  wake(): void {
    this.#wake.abort();
  }

  /** Ends what runs at its next step; the tasks stay as they are, for the next engine. */
  async stop(): Promise<void> {
    this.#stopping.abort(STOPPED);
    this.#wake.abort();
    await this.#loop;
    for (const { abort } of this.#running.values()) abort.abort(STOPPED);
    await Promise.all([...this.#running.values()].map(({ done }) => done));
  }

  async #run(): Promise<void> {
    const { db } = this.options.database;
    while (!this.#stopping.signal.aborted) {
      this.#wake = new AbortController();
      const wake = this.#wake.signal;
      const tasks = await db.selectFrom('tasks').selectAll().where('status', 'in', UNFINISHED).orderBy('created_at').execute();
      for (const task of tasks) this.#begin(task);
      await pause(IDLE_MS, wake);
    }
  }

  #begin(task: TaskRow): void {
    const going = this.#running.get(task.id);
    if (going !== undefined) {
      if (task.cancel_requested === 1) going.abort.abort(CANCELLED);
      return;
    }
    const abort = new AbortController();
    if (task.cancel_requested === 1) abort.abort(CANCELLED);
    const done = this.#task(task, abort.signal).catch((error: unknown) => {
      // What stands in the database is taken up by whoever has it next: this engine too, at its next look.
      if (!(error instanceof Replaced)) this.options.log(`task ${task.id} is held up: ${(error as Error).message}`, { task: task.id });
    }).finally(() => this.#running.delete(task.id));
    this.#running.set(task.id, { done, abort });
  }

  async #task(task: TaskRow, signal: AbortSignal): Promise<void> {
    if (task.status === 'pending') await this.#taskState(task, 'running', { started_at: timestamp() });
    if (task.status !== 'rolling-back') {
      const error = await this.#forward(task, signal);
      if (signal.reason === STOPPED) return;
      if (error === undefined) return this.#end(task, 'succeeded');
      await this.#taskState(task, 'rolling-back', error === CANCELLED ? {} : { error_code: error instanceof Problem ? error.code : 'INTERNAL', error: error.message });
    }
    if (!(await this.#back(task))) return;
    const { error } = await this.options.database.db.selectFrom('tasks').select('error').where('id', '=', task.id).executeTakeFirstOrThrow();
    await this.#end(task, error === null ? 'cancelled' : 'failed');
  }

  /** Stage after stage. Resolves to what keeps it from the end. */
  async #forward(task: TaskRow, signal: AbortSignal): Promise<Error | typeof CANCELLED | undefined> {
    const steps = await this.#steps(task.id);
    for (const stage of [...new Set(steps.map((step) => step.stage))]) {
      const abort = new AbortController();
      // The first to fail ends the others.
      const both = AbortSignal.any([signal, abort.signal]);
      const results = await Promise.all(steps.filter((step) => step.stage === stage && step.status !== 'done').map(async (step) => {
        const error = await this.#step(task, step, both);
        if (error !== undefined) abort.abort();
        return { error, own: !both.aborted || error instanceof Problem };
      }));
      if (signal.reason === STOPPED) return undefined;
      const failed = results.filter(({ error }) => error !== undefined);
      if (failed.length > 0) return signal.aborted ? CANCELLED : (failed.find(({ own }) => own) ?? failed[0]).error;
      if (signal.aborted) return CANCELLED;
    }
    return undefined;
  }

  /** Resolves to its failure; rejects when the database fails or another engine has the task. */
  async #step(task: TaskRow, step: StepRow, signal: AbortSignal): Promise<Error | undefined> {
    if (signal.aborted) return new Error('not begun');
    const args = JSON.parse(step.args) as Kept;
    let failure: Error;
    try {
      const kind = this.#kind(step);
      let before = step.before === null ? undefined : (JSON.parse(step.before) as Kept);
      if (before === undefined) {
        before = (await kind.observe?.(args)) ?? {};
        await this.#stepState(task, step, 'running', { before: JSON.stringify(before), started_at: timestamp() });
      }
      await kind.run(args, before, signal);
      await this.#stepState(task, step, 'done', { ended_at: timestamp() });
      return undefined;
    } catch (error) {
      if (error instanceof Replaced || isDatabaseError(error)) throw error;
      failure = error as Error;
    }
    if (signal.reason === STOPPED) return failure;
    await this.#stepState(task, step, 'failed', { error: failure.message, ended_at: timestamp() });
    return failure;
  }

  /** Undoes what was begun, last first. False: stopped before the end. */
  async #back(task: TaskRow): Promise<boolean> {
    const begun = (await this.#steps(task.id)).filter(({ before, status }) => before !== null && status !== 'undone').reverse();
    for (const step of begun) {
      const kind = this.#kind(step);
      for (let wait = UNDO_PAUSE_MS.first; ; wait = Math.min(2 * wait, UNDO_PAUSE_MS.most)) {
        if (this.#stopping.signal.aborted) return false;
        try {
          await kind.undo?.(JSON.parse(step.args) as Kept, JSON.parse(step.before!) as Kept);
          break;
        } catch (error) {
          if (isDatabaseError(error)) throw error;
          this.options.log(`task ${task.id}: cannot undo "${step.title}" yet: ${(error as Error).message}`, { task: task.id });
          await pause(wait, this.#stopping.signal);
        }
      }
      await this.#stepState(task, step, 'undone', { ended_at: timestamp() });
    }
    return true;
  }

  async #steps(task: string): Promise<StepRow[]> {
    return this.options.database.db.selectFrom('task_steps').selectAll().where('task_id', '=', task).orderBy('number').execute();
  }

  #kind({ kind }: StepRow): StepKind {
    const found = this.#kinds.get(kind);
    if (found === undefined) throw new Error(`this control plane knows no step of the kind ${kind}: an older version than the one that planned it`);
    return found;
  }

  async #taskState(task: TaskRow, status: TaskState, more: Partial<TaskRow>): Promise<void> {
    await this.#write(async (trx) => {
      await this.#claim(trx, task);
      await trx.updateTable('tasks').set({ status, ...more }).where('id', '=', task.id).execute();
    });
  }

  async #stepState(task: TaskRow, step: StepRow, status: StepState, more: Partial<StepRow>): Promise<void> {
    await this.#write(async (trx) => {
      await this.#claim(trx, task);
      await trx.updateTable('task_steps').set({ status, ...more }).where('task_id', '=', task.id).where('number', '=', step.number).execute();
    });
    this.options.events.wake();
  }

  async #end(task: TaskRow, status: 'succeeded' | 'failed' | 'cancelled'): Promise<void> {
    await this.#write(async (trx) => {
      await this.#claim(trx, task);
      const { error } = await trx.updateTable('tasks').set({ status, ended_at: timestamp() }).where('id', '=', task.id).returning('error').executeTakeFirstOrThrow();
      await this.options.events.append(trx, {
        type: `task.${status}`, severity: status === 'failed' ? 'error' : 'info', object: { type: task.object_type, id: task.object_id }, task: task.id, user: task.user_name,
        message: `${task.type} ${task.object_name}: ${status}${error === null ? '' : `: ${error}`}`,
      });
    });
    this.options.events.wake();
  }

  async #write(work: (trx: Trx) => Promise<void>): Promise<void> {
    try {
      await this.options.database.change(work);
    } catch (error) {
      throw error instanceof Replaced ? error : new DatabaseFailed(error);
    }
  }

  /** A task that was planned after this engine started has no owner yet. */
  async #claim(trx: Trx, { id }: TaskRow): Promise<void> {
    const row = await trx.selectFrom('tasks').select('owner').where('id', '=', id).executeTakeFirst();
    if (row?.owner === this.#owner) return;
    if (row === undefined || row.owner !== null) throw new Replaced(`task ${id} is another control plane's now`);
    await trx.updateTable('tasks').set({ owner: this.#owner }).where('id', '=', id).execute();
  }
}

/** The database did not take what the engine had to store: nothing can be said of the task now. */
class DatabaseFailed extends Error {
  constructor(cause: unknown) {
    super(`the database failed: ${(cause as Error).message}`, { cause });
  }
}

function isDatabaseError(error: unknown): boolean {
  return error instanceof DatabaseFailed;
}
