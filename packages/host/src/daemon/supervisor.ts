/** The supervising thread as lunfsd's main thread has it (supervisor-worker.ts). */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { FenceDeadline, Timeouts } from '@lunfs/o2cb';
import { randomToken } from './random.js';
import type { SupervisorOrder, SupervisorReport, SupervisorStart } from './supervisor-worker.js';

export class Supervisor {
  readonly #killed = new Map<string, (why: string) => void>();

  private constructor(readonly socket: string, private readonly worker: Worker, private readonly timeouts: Timeouts) {
    worker.on('message', (report: SupervisorReport) => {
      if (report.kind === 'killed') this.#killed.get(report.token)?.(report.why);
    });
  }

  /** `socket`: where volume processes find it. */
  static async start(socket: string, timeouts: Timeouts): Promise<Supervisor> {
    const worker = new Worker(new URL('./supervisor-worker.js', import.meta.url), { workerData: { socket } satisfies SupervisorStart, execArgv: [], name: 'supervisor' });
    await once(worker, 'message');
    return new Supervisor(socket, worker, timeouts);
  }

  /** What a process about to be started proves itself with. */
  newToken(): string {
    return randomToken();
  }

  /** Guard a process: give it the deadlines, kill it when it falls silent or the deadline is given up. Returns what ends it. */
  watch(token: string, pid: number, deadline: FenceDeadline, killed: (why: string) => void): () => void {
    const { fenceMs, killMs } = this.timeouts;
    this.#killed.set(token, killed);
    this.#order({ kind: 'watch', token, pid, deadline: deadline.memory, killBeforeMs: fenceMs - killMs });
    return () => {
      this.#killed.delete(token);
      this.#order({ kind: 'forget', token });
    };
  }

  async close(): Promise<void> {
    await this.worker.terminate();
  }

  #order(order: SupervisorOrder): void {
    this.worker.postMessage(order);
  }
}
