/**
 * A FileDevice whose I/O is done by one thread of its own, with blocking calls and never in libuv's shared pool: what a
 * volume process uses for metadata and journal (docs/design.md, section 2).
 *
 * Requests are served strictly in the order in which they were made. Buffers of `pool` (or any other shared aligned memory)
 * are used by the thread as they are; others are copied through it. Large ranges are zeroed, and all discarded, by a helper
 * process meanwhile, outside that order: callers wait for them before they go on, as the port asks.
 */
import { getSystemErrorName } from 'node:util';
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { AlignedPool, isAligned } from './aligned-pool.js';
import type { BlockDevice } from './block-device.js';
import { IoError } from './errors.js';
import { BOUNCE_BYTES, type FileDevice } from './file-device.js';
import { NO_FENCE } from './direct/fence.js';
import { InFlight } from './in-flight.js';
import { type Operation, ioError, shortError } from './io-error.js';
import { IoRing, OP_FLUSH, OP_READ, OP_STOP, OP_WRITE, OP_ZERO, SLOTS, STATUS_SHORT } from './io-ring.js';
import type { IoThreadStart } from './io-worker-thread.js';
import { type OpenOptions, openDevice } from './open-device.js';
import { checkRange, checkWritable } from './range-check.js';

/** Zeroes are written in pieces of this size, so that other requests get their turn in between. */
const ZERO_PIECE = 8 << 20;
/** Pieces of one large request in flight: one is copied while the other is transferred. */
const PIECES_IN_FLIGHT = 2;

interface Request {
  readonly op: number;
  readonly memory: number;
  readonly bufferOffset: number;
  readonly offset: number;
  readonly length: number;
  readonly settle: (status: number) => void;
  readonly fail: (error: unknown) => void;
}

/** Open a device as `openDevice` does and give it a thread. A `pool` in the options is used for both if it is shared. */
export async function openIoWorkerDevice(path: string, options: OpenOptions = {}): Promise<IoWorkerDevice> {
  return new IoWorkerDevice(await openDevice(path, options), options.pool?.shared ? options.pool : undefined);
}

export class IoWorkerDevice implements BlockDevice {
  /** The device below. Its descriptor may be used by other threads; closing is left to `close` here. */
  readonly file: FileDevice;
  readonly pool: AlignedPool;
  readonly #ring = new IoRing();
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #memories = new Map<ArrayBufferLike, number>();
  /** Requests in the ring by slot, and those that found it full, in order. */
  readonly #inRing: (Request | undefined)[] = new Array<Request | undefined>(SLOTS);
  #queue: Request[] = [];
  #submitted = 0;
  #reaped = 0;
  #reaping = false;
  readonly #inFlight = new InFlight();
  #dead?: IoError;
  #closing?: Promise<void>;

  /** Takes the FileDevice over. `pool` must be shared. */
  constructor(file: FileDevice, pool = new AlignedPool({ shared: true })) {
    this.file = file;
    this.pool = pool;
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    const start: IoThreadStart = { ring: this.#ring.memory, fd: file.fd, port: port2, fence: file.fence === NO_FENCE ? undefined : file.fence.memory };
    this.#worker = new Worker(new URL('./io-worker-thread.js', import.meta.url), {
      workerData: start,
      transferList: [port2],
      execArgv: [],
      name: `io ${file.name}`,
    });
    this.#worker.on('error', (cause) => this.#die(cause));
    this.#worker.on('exit', () => this.#die());
    this.#worker.unref();
    this.#port.unref();
  }

  get name(): string {
    return this.file.name;
  }
  get size(): number {
    return this.file.size;
  }
  refreshSize(): number {
    return this.file.refreshSize();
  }
  get logicalBlockSize(): number {
    return this.file.logicalBlockSize;
  }
  get readOnly(): boolean {
    return this.file.readOnly;
  }
  get canDiscard(): boolean {
    return this.file.canDiscard;
  }
  get fd(): number {
    return this.file.fd;
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    this.#check(offset, into.length);
    await this.#inFlight.run(() =>
      this.#straight(into)
        ? this.#transfer(OP_READ, 'read', offset, into)
        : this.#bounce(into.length, async (buffer, done) => {
            await this.#transfer(OP_READ, 'read', offset + done, buffer);
            into.set(buffer, done);
          }),
    );
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    checkWritable(this);
    this.#check(offset, from.length);
    await this.#inFlight.run(() =>
      this.#straight(from)
        ? this.#transfer(OP_WRITE, 'write', offset, from)
        : this.#bounce(from.length, (buffer, done) => {
            buffer.set(from.subarray(done, done + buffer.length));
            return this.#transfer(OP_WRITE, 'write', offset + done, buffer);
          }),
    );
  }

  async flush(): Promise<void> {
    this.#check(0, 0);
    await this.#inFlight.run(() => this.#request(OP_FLUSH, 'flush', 0, 0, 0, 0));
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    checkWritable(this);
    this.#check(offset, length);
    await this.#inFlight.run(async () => {
      if (await this.file.zeroByHelper(offset, length)) return;
      for (let done = 0; done < length; done += ZERO_PIECE) {
        await this.#request(OP_ZERO, 'zero', 0, 0, offset + done, Math.min(ZERO_PIECE, length - done));
      }
    });
  }

  async discard(offset: number, length: number): Promise<void> {
    this.#check(offset, length);
    await this.file.discard(offset, length);
  }

  /** Waits for requests in flight, ends the thread, closes the descriptor. Later requests fail with DEVICE_CLOSED. */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      await this.#inFlight.settled();
      if (!this.#dead) {
        const exited = new Promise<void>((resolve) => this.#worker.once('exit', () => resolve()));
        this.#worker.ref();
        await this.#request(OP_STOP, 'close', 0, 0, 0, 0);
        this.#worker.ref(); // a program that does nothing else must not end before its device is closed
        await exited;
      }
      this.#port.close();
      await this.file.close();
    })();
    return this.#closing;
  }

  #check(offset: number, length: number): void {
    if (this.#closing)
      throw new IoError('DEVICE_CLOSED', `${this.name} is closed`, { device: this.name, offset, length }, undefined, 'EBADF');
    checkRange(this, offset, length);
  }

  #straight(view: Uint8Array): boolean {
    return view.buffer instanceof SharedArrayBuffer && isAligned(view, this.logicalBlockSize);
  }

  /** Move a request through shared buffers in pieces, two at a time. */
  async #bounce(length: number, piece: (buffer: Uint8Array, done: number) => Promise<void>): Promise<void> {
    let next = 0;
    const lane = async (): Promise<void> => {
      if (next >= length) return;
      const buffer = this.pool.acquire(Math.min(BOUNCE_BYTES, length));
      try {
        while (next < length) {
          const done = next;
          const size = Math.min(buffer.length, length - done);
          next += size;
          await piece(size === buffer.length ? buffer : buffer.subarray(0, size), done);
        }
      } finally {
        this.pool.release(buffer);
      }
    };
    if (length <= BOUNCE_BYTES) return lane();
    const lanes = await Promise.allSettled(Array.from({ length: PIECES_IN_FLIGHT }, lane));
    for (const result of lanes) if (result.status === 'rejected') throw result.reason;
  }

  #transfer(op: number, operation: Operation, offset: number, bytes: Uint8Array): Promise<void> {
    return this.#request(op, operation, this.#memoryNumber(bytes.buffer), bytes.byteOffset, offset, bytes.length);
  }

  /** Number of a shared memory, which the thread is given when it is first used. */
  #memoryNumber(buffer: ArrayBufferLike): number {
    let number = this.#memories.get(buffer);
    if (number === undefined) {
      number = this.#memories.size;
      this.#memories.set(buffer, number);
      this.#port.postMessage(buffer);
    }
    return number;
  }

  #request(op: number, operation: Operation, memory: number, bufferOffset: number, offset: number, length: number): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const settle = (status: number): void => {
        if (status === 0) resolve();
        else if (status === STATUS_SHORT) reject(shortError(this.name, operation, offset, length));
        else reject(ioError(this.name, operation, offset, length, getSystemErrorName(-status)));
      };
      this.#queue.push({ op, memory, bufferOffset, offset, length, settle, fail: reject });
      this.#fill();
      if (!this.#reaping) void this.#reap();
    });
  }

  /** Move requests from the queue into free slots. */
  #fill(): void {
    let taken = 0;
    while (taken < this.#queue.length && ((this.#submitted - this.#reaped) | 0) < SLOTS) {
      const request = this.#queue[taken++];
      const n = this.#submitted;
      this.#submitted = (n + 1) | 0;
      this.#inRing[n & (SLOTS - 1)] = request;
      this.#ring.submit(n, request.op, request.memory, request.bufferOffset, request.offset, request.length);
    }
    if (taken > 0) this.#queue = taken === this.#queue.length ? [] : this.#queue.slice(taken);
  }

  /** Settle completed requests until none is left. The thread keeps the process alive only meanwhile. */
  async #reap(): Promise<void> {
    this.#reaping = true;
    this.#worker.ref();
    while (this.#reaped !== this.#submitted) {
      const completed = this.#ring.completed;
      if (completed === this.#reaped) {
        if (this.#dead) break;
        await this.#ring.completion(completed);
        continue;
      }
      while (this.#reaped !== completed) {
        const n = this.#reaped;
        const slot = n & (SLOTS - 1);
        const { settle } = this.#inRing[slot]!;
        this.#inRing[slot] = undefined;
        const status = this.#ring.status(n);
        this.#reaped = (n + 1) | 0;
        settle(status);
      }
      this.#fill();
    }
    this.#worker.unref();
    this.#reaping = false;
    if (this.#dead) this.#failAll(this.#dead);
  }

  /** The thread has ended: on purpose after OP_STOP, else nothing that is in flight will be answered. */
  #die(cause?: unknown): void {
    this.#dead ??= new IoError(
      'DEVICE_WORKER',
      `${this.name}: its I/O thread has ended; what was in flight may or may not be on the device. Open the device again`,
      { device: this.name },
      cause,
    );
    this.#ring.wake();
    if (!this.#reaping) this.#failAll(this.#dead);
  }

  #failAll(error: IoError): void {
    const lost = [...this.#inRing.filter((request) => request !== undefined), ...this.#queue];
    this.#inRing.fill(undefined);
    this.#queue = [];
    for (const request of lost) request.fail(error);
  }
}
