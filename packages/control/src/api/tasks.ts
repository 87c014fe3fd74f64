/** Tasks: what is being done, step by step. */
import { Type } from 'typebox';
import { timestamp } from '../clock.js';
import type { Db, StepRow, TaskRow } from '../db/schema.js';
import { Problem, notFound } from '../problems.js';
import { type StepState, TASK_STATES, TaskDocument, type TaskFacts, type TaskState, UNFINISHED } from '../tasks/task.js';
import type { Api } from './operation.js';
import { ById, Limit, STRICT } from './schemas.js';

function taskDocument({ id, type, status, object_type, object_id, object_name, user_name, cancel_requested, error_code, error, created_at, started_at, ended_at }: TaskRow, steps: readonly StepRow[]): TaskFacts {
  const done = steps.filter((step) => step.status === 'done').length;
  return {
    id, type, status: status as TaskState, object_type, object_id, object_name, user_name, cancel_requested: cancel_requested === 1, error_code, error, created_at, started_at, ended_at,
    progress: status === 'succeeded' ? 100 : Math.floor((100 * done) / Math.max(1, steps.length)),
    steps: steps.map((step) => ({ number: step.number, title: step.title, status: step.status as StepState, error: step.error, started_at: step.started_at, ended_at: step.ended_at })),
  };
}

/** A task with its steps. Throws NOT_FOUND. */
export async function taskFacts(db: Db, id: string): Promise<TaskFacts> {
  const task = await db.selectFrom('tasks').selectAll().where('id', '=', id).executeTakeFirst();
  if (task === undefined) throw notFound('task', id);
  return taskDocument(task, await db.selectFrom('task_steps').selectAll().where('task_id', '=', id).orderBy('number').execute());
}

export function taskOperations(api: Api): void {
  const tag = 'tasks';
  api.read({
    id: 'listTasks', method: 'GET', path: '/tasks', tag, summary: 'List tasks, newest first', role: 'viewer', answer: Type.Array(TaskDocument),
    query: Type.Object({ status: Type.Optional(Type.Enum([...TASK_STATES])), limit: Type.Optional(Limit) }, STRICT),
  }, async ({ db, query: { status, limit = 100 } }) => {
    const all = db.selectFrom('tasks').selectAll().orderBy('created_at', 'desc').limit(limit);
    const tasks = await (status === undefined ? all : all.where('status', '=', status)).execute();
    if (tasks.length === 0) return [];
    const steps = await db.selectFrom('task_steps').selectAll().where('task_id', 'in', tasks.map((task) => task.id)).orderBy('number').execute();
    return tasks.map((task) => taskDocument(task, steps.filter((step) => step.task_id === task.id)));
  });

  api.read({ id: 'getTask', method: 'GET', path: '/tasks/:id', tag, summary: 'A task and its steps', role: 'viewer', params: ById, answer: TaskDocument }, ({ db, params: { id } }) => taskFacts(db, id));

  api.change({ id: 'cancelTask', method: 'POST', path: '/tasks/:id/cancel', tag, summary: 'Have a task undone', role: 'operator', params: ById, status: 202, answer: TaskDocument }, async ({ trx, params: { id }, tell }) => {
    const task = await taskFacts(trx, id);
    if (!UNFINISHED.includes(task.status)) throw new Problem('TASK_ENDED', `task ${id} has ended: ${task.status} at ${task.ended_at ?? timestamp()}`);
    await trx.updateTable('tasks').set({ cancel_requested: 1 }).where('id', '=', id).execute();
    tell({ type: 'task.cancel', object: { type: task.object_type, id: task.object_id }, task: id, message: `cancel of ${task.type} ${task.object_name} is asked for` });
    return { ...task, cancel_requested: true };
  });
}
