/** Starts a region's thread, for `Heartbeat.start`. */
import { MessageChannel, type MessagePort, Worker, receiveMessageOnPort } from 'node:worker_threads';
import type { RegionReport } from './beating.js';
import type { LoopStart, StartLoop } from './heartbeat.js';
import type { WatchdogPlace } from './watchdog.js';

/** Where a region lies. */
export interface RegionPlace {
  readonly device: string;
  /** Byte at which block 0 begins, a multiple of `blockBytes`. */
  readonly offset: number;
  /** The device's logical block, 512 to 4096. */
  readonly blockBytes: number;
}

/** What a region's thread is given. */
export interface ThreadStart extends LoopStart, RegionPlace {
  /** One Int32: RUN, LEAVE or STOP. */
  readonly control: SharedArrayBuffer;
  readonly port: MessagePort;
  readonly watchdog?: WatchdogPlace;
}

export const RUN = 0;
/** End with a goodbye; or without. */
export const LEAVE = 1;
export const STOP = 2;

/** `heartbeat.start(name, regionThread(place), settled)`. The thread alone keeps no process alive. */
export function regionThread(place: RegionPlace, watchdog?: WatchdogPlace): StartLoop {
  return (start, report) => {
    const control = new SharedArrayBuffer(4);
    const cell = new Int32Array(control);
    const { port1, port2 } = new MessageChannel();
    const threadStart: ThreadStart = { ...start, ...place, control, port: port2, ...(watchdog ? { watchdog } : {}) };
    let ended = false;
    const tell = (what: RegionReport): void => {
      if (ended) return;
      ended = what.kind === 'ended';
      report(what);
    };
    port1.on('message', tell);
    const worker = new Worker(new URL('./thread.js', import.meta.url), { workerData: threadStart, transferList: [port2], execArgv: [], name: `heartbeat ${place.device}` });
    worker.on('error', (error) => tell({ kind: 'ended', why: 'failed', failed: error.message }));
    // What the thread said last is still in the port: it closes behind that.
    port1.on('close', () => tell({ kind: 'ended', why: 'failed', failed: 'its thread has ended' }));
    worker.unref();
    port1.unref();
    return {
      end: (clean) => {
        Atomics.compareExchange(cell, 0, RUN, clean ? LEAVE : STOP);
        Atomics.notify(cell, 0);
      },
      catchUp: () => {
        for (let next = receiveMessageOnPort(port1); next !== undefined; next = receiveMessageOnPort(port1)) tell(next.message as RegionReport);
      },
    };
  };
}
