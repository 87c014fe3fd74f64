/** Following a task of the control plane to its end. */
import type { ControlClient, TaskFacts } from '@lunfs/control';
import { ClusterError } from '@lunfs/device';
import { pause } from './clock.js';
import { Progress } from './progress.js';

const LOOK_MS = 300;

/** Resolves to the task when it has succeeded, with progress on stderr. Throws TASK_FAILED, TASK_CANCELLED. */
export async function followTask(client: ControlClient, command: string, id: string): Promise<TaskFacts> {
  const progress = new Progress(command, 'steps');
  try {
    for (;;) {
      const task = await client.ask<TaskFacts>('GET', `/tasks/${encodeURIComponent(id)}`);
      const at = task.steps.filter((step) => step.status === 'running').map((step) => step.title).join('; ') || task.status;
      progress.tell(at, task.steps.filter((step) => step.status === 'done').length, task.steps.length);
      if (task.status === 'succeeded') return task;
      if (task.status === 'failed') throw new ClusterError('TASK_FAILED', `${task.type} ${task.object_name} has failed and was undone: ${task.error ?? ''} (lunfs task show ${id})`, { task: id, cause: task.error_code ?? undefined });
      if (task.status === 'cancelled') throw new ClusterError('TASK_CANCELLED', `${task.type} ${task.object_name} was cancelled and undone`, { task: id });
      await pause(LOOK_MS);
    }
  } finally {
    progress.end();
  }
}
