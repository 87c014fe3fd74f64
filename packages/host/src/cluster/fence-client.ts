/** The fence of a volume process of a cluster: the memory that its devices and gates ask, and the thread that keeps it (fence-worker.ts). */
import { Worker } from 'node:worker_threads';
import { Fence } from '@lunfs/device';
import { every } from '../clock.js';
import { PULSE_MS } from './fence-protocol.js';
import type { FenceStart } from './fence-worker.js';

export class FenceClient {
  /** Shut until lunfsd's first deadline. */
  readonly fence = new Fence();
  #worker: Worker | undefined;
  #stop: (() => void) | undefined;

  constructor(private readonly options: Pick<FenceStart, 'socket' | 'token' | 'stillMs'>) {}

  /** lunfsd expects us now. */
  start(): void {
    const heart = new Int32Array(new SharedArrayBuffer(8));
    this.#stop = every(PULSE_MS, () => void Atomics.add(heart, 0, 1));
    const { socket, token, stillMs } = this.options;
    const start: FenceStart = { socket, token, stillMs, fence: this.fence.memory, heart: heart.buffer };
    this.#worker = new Worker(new URL('./fence-worker.js', import.meta.url), { workerData: start, execArgv: [], name: 'fence' });
    this.#worker.unref();
    // Without it no deadline comes and none is kept: what was allowed last ends soon, and nobody would end the process.
    this.#worker.on('error', (cause) => {
      this.fence.revoke();
      throw cause;
    });
  }

  /** The volume is closed: nothing is to be fenced any more. */
  async close(): Promise<void> {
    this.#stop?.();
    await this.#worker?.terminate();
  }
}
