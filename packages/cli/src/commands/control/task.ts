/** `lunfs task`: what the control plane is doing, step by step. */
import type { Command } from 'commander';
import type { TaskFacts } from '@lunfs/control';
import { examples } from '../../command.js';
import { type ContextChoice, asks, clientOf, newKey } from '../../control-context.js';
import { facts, print, printJson, table } from '../../output.js';
import { followTask } from '../../task-progress.js';

export function task(program: Command): void {
  const group = program.command('task').summary('tasks of the control plane').description('Tasks of the control plane. A task ends whole, or is undone.');
  asks(group.command('list').summary('list tasks, newest first').addHelpText('after', examples('lunfs task list')))
    .action(async (choice: ContextChoice) => {
      const tasks = await clientOf(choice).ask<TaskFacts[]>('GET', '/tasks');
      if (choice.json) printJson(tasks);
      else print(table(['Id', 'Task', 'Of', 'State', '>Done', 'By', 'Since'], tasks.map((one) => [one.id, one.type, one.object_name, one.status, `${one.progress}%`, one.user_name, one.created_at])));
    });
  asks(group.command('show').summary('show a task and its steps').argument('<id>').addHelpText('after', examples('lunfs task show ID')))
    .action(async (id: string, choice: ContextChoice) => {
      show(await clientOf(choice).ask<TaskFacts>('GET', `/tasks/${encodeURIComponent(id)}`), choice.json);
    });
  asks(group.command('wait').summary('wait for the end of a task').argument('<id>').addHelpText('after', examples('lunfs task wait ID')))
    .action(async (id: string, choice: ContextChoice) => {
      const ended = await followTask(clientOf(choice), 'task wait', id);
      if (choice.json) printJson(ended);
    });
  asks(group.command('cancel').summary('have a task undone').argument('<id>').addHelpText('after', examples('lunfs task cancel ID')))
    .action(async (id: string, choice: ContextChoice) => {
      const asked = await clientOf(choice).ask<TaskFacts>('POST', `/tasks/${encodeURIComponent(id)}/cancel`, { idempotencyKey: newKey() });
      if (choice.json) printJson(asked);
    });
}

function show(one: TaskFacts, json: boolean | undefined): void {
  if (json) return printJson(one);
  print(facts([['Task', `${one.type} ${one.object_name}`], ['State', `${one.status}, ${one.progress}% done`], ['By', one.user_name], ['Error', one.error ?? undefined], ['Begun', one.started_at ?? undefined], ['Ended', one.ended_at ?? undefined]]));
  print('');
  print(table(['>Step', 'What', 'State', 'Error'], one.steps.map((step) => [String(step.number + 1), step.title, step.status, step.error ?? ''])));
}
