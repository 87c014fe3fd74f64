/** What a task is: steps that are stored before anything happens, each of which can be done again and undone. */
import type { Static } from 'typebox';
import { Type } from 'typebox';
import { timestamp } from '../clock.js';
import type { Trx } from '../db/schema.js';
import { Problem } from '../problems.js';
import { newId } from '../random.js';

export const TASK_STATES = ['pending', 'running', 'rolling-back', 'succeeded', 'failed', 'cancelled'] as const;
export type TaskState = (typeof TASK_STATES)[number];
/** The engine has something to do. */
export const UNFINISHED: readonly TaskState[] = ['pending', 'running', 'rolling-back'];

export const STEP_STATES = ['pending', 'running', 'done', 'failed', 'undone'] as const;
export type StepState = (typeof STEP_STATES)[number];

/** JSON that a step keeps for itself. */
export type Kept = Readonly<Record<string, string | number | boolean | null>>;

/**
 * A kind of step. The engine may be killed at any moment and calls again what it does not know to be finished, so `run` and `undo` must bear being called
 * twice, also after a call that got half way. What they have to know of the time before is what `observe` finds, which is stored before `run` begins.
 */
export interface StepKind {
  readonly name: string;
  observe?(args: Kept): Promise<Kept>;
  /** Throws `Problem` for what an operator can mend. Ends soon after the signal. */
  run(args: Kept, before: Kept, signal: AbortSignal): Promise<void>;
  /** Called also for a step that failed or was interrupted. Tried again until it succeeds. */
  undo?(args: Kept, before: Kept): Promise<void>;
}

export interface PlannedStep {
  readonly stage: number;
  readonly kind: string;
  readonly title: string;
  readonly args: Kept;
}

export interface PlannedTask {
  readonly type: string;
  readonly object: { readonly type: string; readonly id: string; readonly name: string };
  readonly user: string;
  readonly steps: readonly PlannedStep[];
}

/** Stores a task; the engine begins when the transaction is committed. Throws TASK_IN_PROGRESS: one at a time is at work on an object. */
export async function planTask(trx: Trx, { type, object, user, steps }: PlannedTask): Promise<string> {
  const other = await trx.selectFrom('tasks').select(['id', 'type']).where('object_id', '=', object.id).where('status', 'in', UNFINISHED).executeTakeFirst();
  if (other !== undefined) throw new Problem('TASK_IN_PROGRESS', `task ${other.id} (${other.type}) is at work on ${object.type} ${object.name}`);
  const id = newId();
  await trx.insertInto('tasks').values({
    id, type, status: 'pending', object_type: object.type, object_id: object.id, object_name: object.name, user_name: user, cancel_requested: 0,
    error_code: null, error: null, owner: null, created_at: timestamp(), started_at: null, ended_at: null,
  }).execute();
  await trx.insertInto('task_steps').values(steps.map(({ stage, kind, title, args }, number) => ({
    task_id: id, number, stage, kind, title, args: JSON.stringify(args), status: 'pending', before: null, error: null, started_at: null, ended_at: null,
  }))).execute();
  return id;
}

export const StepDocument = Type.Object({
  number: Type.Integer(), title: Type.String(), status: Type.Enum([...STEP_STATES]), error: Type.Union([Type.String(), Type.Null()]),
  started_at: Type.Union([Type.String(), Type.Null()]), ended_at: Type.Union([Type.String(), Type.Null()]),
});

export const TaskDocument = Type.Object({
  id: Type.String(), type: Type.String(), status: Type.Enum([...TASK_STATES]),
  object_type: Type.String(), object_id: Type.String(), object_name: Type.String(), user_name: Type.String(),
  progress: Type.Number({ minimum: 0, maximum: 100, description: 'Per cent of its steps that are done.' }),
  cancel_requested: Type.Boolean(), error_code: Type.Union([Type.String(), Type.Null()]), error: Type.Union([Type.String(), Type.Null()]),
  created_at: Type.String(), started_at: Type.Union([Type.String(), Type.Null()]), ended_at: Type.Union([Type.String(), Type.Null()]),
  steps: Type.Array(StepDocument),
});

export type TaskFacts = Static<typeof TaskDocument>;
