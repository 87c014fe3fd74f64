/**
 * A FUSE connection being served: the workers that read /dev/fuse, the lanes they hand requests over by, and the dispatcher that
 * answers those on this (the main) thread.
 *
 * Life: `FuseSession.start` on a descriptor that is mounted answers INIT and starts the workers. The session ends when the kernel ends
 * the connection (umount, abort): each worker's read fails with ENODEV, then pending requests are waited for, everything open is
 * released, the descriptor is closed, and `closed` resolves. Only the kernel can wake a blocked read: whoever wants the session to end
 * unmounts it (mount.ts); closing the descriptor or terminating a worker would hang.
 *
 * Nothing here may touch the mount synchronously: the thread that would answer is this one. Notifications therefore are written from libuv's
 * pool: they wait in the kernel for locks and write-back that our own answers release.
 */
import fs from 'node:fs';
import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
import { InternalError, IoError } from '@lunfs/device';
import type { FuseHandler, OpenDirectory, OpenFile } from '../handler.js';
import { EXPIRE_ONLY, MAX_WRITE } from '../protocol/constants.js';
import { printNotification, printReply, printRequest } from '../protocol/print.js';
import { invalEntry, invalInode, notifyDelete } from '../protocol/replies.js';
import { OUT_HEADER } from '../protocol/structs.js';
import type { FileNews } from './decide.js';
import { Dispatcher } from './dispatcher.js';
import type { DispatcherOptions, Message, Sent } from './dispatcher.js';
import { answerInit } from './init.js';
import type { Negotiated } from './init.js';
import { DATA_AT, LaneConsumer, MESSAGE_AT, MESSAGE_MAX, REPLY_AT, slotBase } from './lane.js';
import type { SegmentMemory } from './lane.js';
import type { WorkerReport, WorkerStart } from './messages.js';
import { READERS_BYTES } from './readers.js';

export interface SessionOptions {
  /** Threads for data, default 8: at most this many in-place requests are in the device's queue. Two of them wait for requests when there are few. */
  readonly workers?: number;
  /** Gets one line per message. Slow; for looking, not for running. */
  readonly trace?: (line: string) => void;
  /** Gets errors that no caller sees. Default: they are dropped. */
  readonly onError?: (error: unknown, what: string) => void;
  /** Called around serving each request (DispatcherOptions.around). */
  readonly around?: DispatcherOptions['around'];
  /** Makes the kernel end the connection after a message that cannot be understood. Default: `onError` alone hears of it. */
  readonly abort?: () => void;
}

const DEFAULT_WORKERS = 8;
/** Workers that wait for requests while there is little to do. */
const BASE_READERS = 2;
/** Requests answered before the event loop gets a turn. */
const BATCH = 64;

interface Lane {
  readonly worker: Worker;
  readonly consumer: LaneConsumer;
  readonly news: MessagePort;
  ended: boolean;
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

export class FuseSession<F extends OpenFile = OpenFile, D extends OpenDirectory = OpenDirectory> {
  readonly negotiated: Negotiated;
  /** Resolves when the kernel has ended the connection and everything is released. Never rejects. */
  readonly closed: Promise<void>;
  readonly #fd: number;
  readonly #options: SessionOptions;
  readonly #dispatcher: Dispatcher<F, D>;
  readonly #bell = new SharedArrayBuffer(4);
  readonly #wrote = new SharedArrayBuffer(4);
  readonly #readers = new SharedArrayBuffer(READERS_BYTES);
  readonly #lanes: Lane[] = [];
  #live = 0;
  #dead = false;
  /** Notifications being written; the descriptor must outlive them. */
  readonly #notifying = new Set<Promise<unknown>>();

  /** Answer INIT on `fd` (mounted, nothing read yet) and serve it. Raises when the kernel is too old. */
  static start<F extends OpenFile, D extends OpenDirectory>(fd: number, handler: FuseHandler<F, D>, options: SessionOptions = {}): FuseSession<F, D> {
    const buffer = Buffer.alloc(MESSAGE_MAX);
    for (;;) {
      const message = buffer.subarray(0, fs.readSync(fd, buffer, 0, buffer.length, null));
      options.trace?.(printRequest(message));
      const { reply, agreed } = answerInit(message, {
        posixLocks: handler.setlk !== undefined, flock: handler.flock !== undefined, acl: handler.acl === true, writeback: handler.writeback === true, background: handler.background,
      });
      options.trace?.(printReply('INIT', reply));
      fs.writeSync(fd, reply);
      if (agreed !== undefined) return new FuseSession(fd, handler, agreed, options);
    }
  }

  private constructor(fd: number, handler: FuseHandler<F, D>, negotiated: Negotiated, options: SessionOptions) {
    this.#fd = fd;
    this.#options = options;
    this.negotiated = negotiated;
    const marks = new Int32Array(this.#wrote);
    this.#dispatcher = new Dispatcher(handler, { send: (reply) => this.#send(reply) }, {
      tell: (news) => this.#tell(news),
      marks: () => Atomics.load(marks, 0),
    }, options);
    const workers = Math.max(1, options.workers ?? DEFAULT_WORKERS);
    const ended: Promise<void>[] = [];
    for (let i = 0; i < workers; i++) ended.push(this.#startWorker());
    const pump = this.#pump();
    this.closed = this.#finish(ended, pump);
  }

  /** Tell the handler (`wrote`) of all data that workers have written so far: before times and sizes are folded for a lock. */
  foldWrites(): void {
    this.#dispatcher.files.foldWrites();
  }

  /** Drop what the kernel caches of a node: attributes, and pages from `offset` (0 bytes: to the end; offset < 0: none). False: it caches nothing of it. */
  invalInode(nodeid: number, offset = 0, length = 0): Promise<boolean> {
    return this.#notify(invalInode(nodeid, offset, length));
  }

  /** Drop a cached name, positive or negative. `expire`: only let it be asked for again. False: it is not cached. */
  invalEntry(parent: number, name: Uint8Array, options: { readonly expire?: boolean } = {}): Promise<boolean> {
    return this.#notify(invalEntry(parent, name, options.expire ? EXPIRE_ONLY : 0));
  }

  /** A name was deleted behind the kernel's back: drop it, and tell those who watch it (inotify). False: it is not cached. */
  notifyDelete(parent: number, child: number, name: Uint8Array): Promise<boolean> {
    return this.#notify(notifyDelete(parent, child, name));
  }

  async #notify(bytes: Uint8Array): Promise<boolean> {
    if (this.#dead) return false;
    this.#options.trace?.(printNotification(bytes));
    const write = new Promise<boolean>((resolve, reject) => {
      fs.write(this.#fd, bytes, 0, bytes.length, null, (error) => {
        if (error === null) return resolve(true);
        // ENOENT: nothing cached. ENODEV, ENOTCONN: the connection has ended, and every cache with it. ENOTEMPTY, EBUSY: a directory in use stays.
        if (['ENOENT', 'ENODEV', 'ENOTCONN', 'ENOTEMPTY', 'EBUSY', 'ENOTDIR'].includes(error.code ?? '')) return resolve(false);
        reject(new IoError('FUSE_NOTIFY', `the kernel refused an invalidation (${error.code}); its caches may be stale: unmount`, {}, error));
      });
    });
    this.#notifying.add(write);
    try {
      return await write;
    } finally {
      this.#notifying.delete(write);
    }
  }

  #startWorker(): Promise<void> {
    const segments = new MessageChannel();
    const news = new MessageChannel();
    const consumer = new LaneConsumer(() => {
      const announced = receiveMessageOnPort(segments.port1);
      if (announced === undefined) throw new InternalError('FUSE_SEGMENT', 'a worker used memory it has not announced');
      return announced.message as SegmentMemory;
    });
    const workerData: WorkerStart = {
      fd: this.#fd, lane: consumer.memory, bell: this.#bell, wrote: this.#wrote, readers: this.#readers, baseReaders: BASE_READERS, segments: segments.port2, news: news.port2,
      trace: this.#options.trace !== undefined,
    };
    const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData, transferList: [segments.port2, news.port2], name: 'fuse' });
    const lane: Lane = { worker, consumer, news: news.port1, ended: false };
    this.#lanes.push(lane);
    this.#live++;
    worker.on('message', (report: WorkerReport) => {
      if (report.kind === 'trace') for (const line of report.lines) this.#options.trace?.(line);
      else if (report.reason !== 'ENODEV') {
        this.#options.onError?.(new IoError('FUSE_READ', `reading /dev/fuse failed: ${report.reason}`, { reason: report.reason }), 'worker');
      }
    });
    worker.on('error', (error) => this.#options.onError?.(error, 'worker'));
    return new Promise((resolve) => {
      worker.once('exit', () => {
        lane.ended = true;
        this.#live--;
        segments.port1.close();
        news.port1.close();
        const bell = new Int32Array(this.#bell);
        Atomics.add(bell, 0, 1);
        Atomics.notify(bell, 0);
        resolve();
      });
    });
  }

  /** Serve what the workers hand over, until all of them have ended and nothing is left. */
  async #pump(): Promise<void> {
    const bell = new Int32Array(this.#bell);
    for (;;) {
      const rung = Atomics.load(bell, 0);
      const live = this.#live;
      const served = this.#serveBatch();
      if (served === BATCH) {
        await new Promise(setImmediate);
      } else if (served === 0) {
        if (live === 0) return;
        const wait = Atomics.waitAsync(bell, 0, rung);
        if (wait.async) await wait.value;
      }
    }
  }

  #serveBatch(): number {
    let served = 0;
    for (const { consumer } of this.#lanes) {
      while (served < BATCH && consumer.next()) {
        served++;
        try {
          this.#dispatcher.serve(this.#message(consumer, consumer.slot, consumer.length));
        } catch (error) {
          this.#options.onError?.(error, 'protocol');
          this.#options.abort?.();
        }
      }
    }
    return served;
  }

  #message(consumer: LaneConsumer, slot: number, length: number): Message {
    const { bytes } = consumer.segment(slot);
    const base = slotBase(slot);
    return {
      bytes: bytes.subarray(base + MESSAGE_AT, base + MESSAGE_AT + length),
      data: bytes.subarray(base + DATA_AT, base + DATA_AT + MAX_WRITE),
      reply: bytes.subarray(base + REPLY_AT, base + REPLY_AT + OUT_HEADER.size + MAX_WRITE),
      free: () => consumer.free(slot),
    };
  }

  #send(reply: Uint8Array): Sent {
    if (this.#dead) return 'closed';
    for (;;) {
      try {
        fs.writeSync(this.#fd, reply);
        return 'sent';
      } catch (error) {
        const code = codeOf(error);
        if (code === 'EINTR' || code === 'EAGAIN') continue;
        if (code === 'ENOENT') return 'gone';
        if (code === 'ENODEV' || code === 'EPERM') return 'closed';
        this.#options.onError?.(new IoError('FUSE_REPLY', `the kernel refused a reply (${code})`, { code, length: reply.length }, error), 'reply');
        return 'gone';
      }
    }
  }

  #tell(news: FileNews): void {
    for (const lane of this.#lanes) {
      if (lane.ended) continue;
      lane.news.postMessage(news);
      lane.consumer.mailed();
    }
  }

  async #finish(ended: Promise<void>[], pump: Promise<void>): Promise<void> {
    await Promise.all(ended);
    await pump;
    await this.#dispatcher.drained();
    await this.#dispatcher.releaseAll();
    await Promise.allSettled(this.#notifying);
    this.#dead = true;
    fs.closeSync(this.#fd);
  }
}
