/**
 * The thread of an `IoWorkerDevice`: takes requests off the ring one by one and does them with blocking system calls. It has no
 * event loop to speak of; a device that hangs stops this thread and nothing else. Before each system call it asks the fence, and blocks
 * while that is shut: requests wait, in their order.
 */
import { fdatasyncSync, readSync, writeSync } from 'node:fs';
import { type MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { alignedMemory } from './aligned-pool.js';
import { Fence, NO_FENCE } from './direct/fence.js';
import { IoRing, OP_FLUSH, OP_READ, OP_STOP, OP_WRITE, OP_ZERO, STATUS_SHORT } from './io-ring.js';

/** What the device gives its thread. Memories come through the port, in the order of their numbers. */
export interface IoThreadStart {
  readonly ring: SharedArrayBuffer;
  readonly fd: number;
  readonly port: MessagePort;
  /** Without it the thread may submit for ever. */
  readonly fence?: SharedArrayBuffer;
}

type Call = (fd: number, bytes: Uint8Array, from: number, length: number, offset: number) => number;

const ZEROES = new Uint8Array(alignedMemory(1 << 20));

function serve(start: IoThreadStart): void {
  const ring = new IoRing(start.ring);
  const { fd, port } = start;
  const fence = start.fence === undefined ? NO_FENCE : new Fence(start.fence);
  const memories: Uint8Array[] = [];

  /** A memory is posted before the first request that uses it. */
  const memory = (number: number): Uint8Array => {
    while (memories.length <= number) memories.push(new Uint8Array((receiveMessageOnPort(port) as { message: SharedArrayBuffer }).message));
    return memories[number];
  };

  const transfer = (n: number, call: Call): number => {
    const bytes = memory(ring.memoryOf(n));
    const from = ring.bufferOffset(n);
    const offset = ring.offset(n);
    const length = ring.length(n);
    for (let done = 0; done < length; ) {
      fence.pass();
      const moved = call(fd, bytes, from + done, length - done, offset + done);
      if (moved === 0) return STATUS_SHORT;
      done += moved;
    }
    return 0;
  };

  const zero = (n: number): number => {
    const offset = ring.offset(n);
    const length = ring.length(n);
    for (let done = 0; done < length; ) {
      fence.pass();
      const written = writeSync(fd, ZEROES, 0, Math.min(ZEROES.length, length - done), offset + done);
      if (written === 0) return STATUS_SHORT;
      done += written;
    }
    return 0;
  };

  const perform = (n: number): number => {
    switch (ring.op(n)) {
      case OP_READ:
        return transfer(n, readSync);
      case OP_WRITE:
        return transfer(n, writeSync);
      case OP_ZERO:
        return zero(n);
      case OP_FLUSH:
        fence.pass();
        fdatasyncSync(fd);
        return 0;
      default:
        return 0;
    }
  };

  for (let n = 0; ; n = (n + 1) | 0) {
    ring.await(n);
    const last = ring.op(n) === OP_STOP;
    let status: number;
    try {
      status = perform(n);
    } catch (error) {
      const { errno } = error as NodeJS.ErrnoException;
      if (errno === undefined) throw error; // not the device's failure: a bug, which ends the thread and fails all requests
      status = -errno;
    }
    ring.complete(n, status);
    if (last) return;
  }
}

Error.stackTraceLimit = 0; // nobody sees the stacks of system errors here, and they cost more than the call
serve(workerData as IoThreadStart);
