/**
 * One connection on the main thread: the handshake, the upgrade to TLS, then the transmission phase, either by a data
 * worker (plain sockets of exports with a direct path) or right here. Whatever the peer does ends this connection at
 * most.
 *
 * Handing a descriptor over. Node cannot transfer a socket to a worker; the worker opens a second handle on the same
 * descriptor. So: this thread stops reading *before* the last option is answered (else it would steal requests), waits
 * until its own writes have left, and from then on never touches the socket, except to shut it down at the end. The
 * descriptor is closed by the end of the worker's thread, which happens when this thread says so; the handle here is left
 * behind with nothing to do.
 */
import { spawn } from 'node:child_process';
import type * as net from 'node:net';
import type { Duplex } from 'node:stream';
import * as tls from 'node:tls';
import { Worker } from 'node:worker_threads';
import { wireMessage } from '../errors.js';
import { NbdErrno } from '../protocol.js';
import { after } from './clock.js';
import { Control } from './control.js';
import type { DataWorkerStart, FromWorker, ToWorker } from './data-worker.js';
import type { ExportOptions, ExportTable } from './exports.js';
import { keepOpen } from './io.js';
import { Negotiation, type Granted, type Step } from './negotiation.js';
import { serve, type OwnerReply, type OwnerRequest } from './owner.js';
import { Replies } from './replies.js';
import { Slots, connectionMemory } from './slots.js';
import { Transmission } from './transmission.js';

/** A peer that has not finished the handshake by then is dropped. */
const HANDSHAKE_MS = 10_000;
/** A peer that was told the end but keeps its side open gets this long before the socket is shut down under it. */
const SHUTDOWN_MS = 500;

export interface ConnectionOptions {
  readonly exports: ExportTable;
  readonly tls: tls.TlsOptions | null;
  /** Serve plain connections by data workers where the export has a direct path. */
  readonly workers: boolean;
  /** At the end, what is in flight has this many milliseconds to be answered, and the peer to take the replies. */
  readonly drainMs: number;
  /** A violation of the protocol or the failure of a worker; for the operator's log. */
  readonly report: (message: string) => void;
}

interface StreamHandle {
  readonly fd?: number;
  reading?: boolean;
  readStop?(): void;
  setBlocking?(on: boolean): number;
}

export class Connection {
  /** The export in transmission, null before. */
  export: ExportOptions | null = null;
  /** Settles when the connection is over and nothing of it is in flight. Never rejects. */
  readonly closed: Promise<void>;
  #resolve: () => void = () => {};
  #stream: Duplex;
  #stop: ((abandon: boolean) => void) | null = null;
  /** Owner requests in flight, by what answers them should the connection be abandoned. */
  readonly #atOwner = new Set<(reply: OwnerReply) => void>();
  #finished = false;
  #abandoned = false;
  readonly #negotiation: Negotiation;
  readonly #cancelTimer: () => void;

  constructor(readonly socket: net.Socket, readonly options: ConnectionOptions) {
    this.closed = new Promise((resolve) => { this.#resolve = resolve; });
    this.#stream = socket;
    this.#negotiation = new Negotiation({ exports: options.exports, tls: options.tls !== null });
    this.#cancelTimer = after(HANDSHAKE_MS, () => this.#drop('the handshake took too long'));
    this.#listen(socket);
    socket.write(this.#negotiation.hello());
  }

  /** Begin no more requests, answer those in flight (`abandon`: answer nothing), close. */
  close(abandon = false): Promise<void> {
    if (this.#stop !== null) this.#stop(abandon);
    else if (this.export === null) this.#drop(null);
    return this.closed;
  }

  #listen(stream: Duplex): void {
    stream.on('data', this.#onData);
    stream.on('error', this.#onGone);
    stream.on('end', this.#onGone);
    stream.on('close', this.#onGone);
  }

  #unlisten(): void {
    this.#stream.off('data', this.#onData);
    this.#stream.off('end', this.#onGone);
    this.#stream.off('close', this.#onGone);
  }

  readonly #onGone = (): void => this.#drop(null);

  readonly #onData = (bytes: Buffer): void => {
    for (const step of this.#negotiation.receive(bytes)) this.#take(step);
  };

  #take(step: Step): void {
    if (this.#finished) return;
    switch (step.kind) {
      case 'send': this.#send(step.bytes); break;
      case 'tls': this.#upgrade(); break;
      case 'go': this.#begin(step.granted); break;
      case 'close':
        if (step.violation === null) this.#stream.end(() => this.#stream.destroy());
        this.#drop(step.violation, step.violation !== null);
        break;
    }
  }

  #send(bytes: Buffer): void {
    this.#stream.write(bytes);
  }

  /** The rules for clients' certificates are enforced by tls.Server, not by TLSSocket: hence a server, for this one socket. */
  #upgrade(): void {
    this.#unlisten();
    const upgrade = tls.createServer({ ...this.options.tls, allowHalfOpen: true }, (secure) => {
      this.#stream = secure;
      this.#listen(secure);
      this.#negotiation.secured();
    });
    upgrade.on('tlsClientError', (error) => this.#drop(`TLS with a client failed: ${wireMessage(error)}`));
    this.socket.on('close', this.#onGone);
    upgrade.emit('connection', this.socket);
  }

  /** End without a transmission phase. */
  #drop(violation: string | null, destroy = true): void {
    if (this.#finished || this.export !== null) return;
    if (violation !== null) this.options.report(`connection closed: ${violation}`);
    this.#finish();
    if (destroy) this.#stream.destroy();
  }

  #finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#stop = null;
    this.#cancelTimer();
    this.#unlisten();
    this.#resolve();
  }

  #begin(granted: Granted): void {
    this.#cancelTimer();
    this.export = granted.export;
    this.#unlisten();
    this.#stream.pause();
    const handle = (this.socket as unknown as { _handle: StreamHandle | null })._handle;
    const { direct } = granted.export.backend;
    if (this.options.workers && this.#stream === this.socket && direct !== undefined && canHandOver(handle)) this.#handOver(granted, handle, direct);
    else this.#serveHere(granted);
  }

  /** Plain path: this thread receives, the owner does all I/O. */
  #serveHere(granted: Granted): void {
    const stream = this.#stream;
    const memory = connectionMemory(false);
    const slots = new Slots(memory);
    const bytes = new Uint8Array(memory.buffer);
    let rest: Buffer = Buffer.alloc(0);
    const replies = new Replies(stream, -1, granted.structured, (slot) => slots.release(slot), () => transmission.idle(), () => transmission.stop());
    const feed = (chunk: Buffer): void => {
      rest = chunk;
      while (rest.length > 0 && !transmission.blocked && !transmission.over) {
        const n = Math.min(transmission.windowLength, rest.length);
        slots.heap.set(rest.subarray(0, n), transmission.windowStart);
        rest = rest.subarray(n);
        transmission.received(n);
      }
      if (transmission.blocked) stream.pause();
    };
    const transmission: Transmission = new Transmission({
      agreed: granted,
      slots,
      replies,
      direct: null,
      owner: (request) => this.#serve(granted, request, bytes, (reply) => transmission.ownerDone(reply)),
      resume: () => {
        feed(rest);
        if (!transmission.blocked) stream.resume();
      },
      ended: (violation) => {
        if (violation !== null) this.options.report(`export ${granted.export.name}: connection closed: ${violation}`);
        after(SHUTDOWN_MS, () => stream.destroy());
        stream.end(() => stream.destroy());
        this.#finish();
      },
    });
    const stop = (): void => transmission.stop();
    this.#stop = (abandon) => {
      if (abandon) replies.mute();
      else after(this.options.drainMs, () => stream.destroy());
      stop();
      if (abandon) this.#abandon();
    };
    stream.on('data', feed).on('end', stop).on('close', stop);
    stream.off('error', this.#onGone).on('error', stop);
    feed(granted.rest);
    if (!transmission.blocked) stream.resume();
  }

  /** Give a request to the owner; `done` gets its reply, exactly once. */
  #serve(granted: Granted, request: OwnerRequest, memory: Uint8Array, done: (reply: OwnerReply) => void): void {
    const { export: target } = granted;
    const answer = (reply: OwnerReply): void => {
      if (this.#atOwner.delete(answer)) done({ ...reply, slot: request.slot });
    };
    this.#atOwner.add(answer);
    if (this.#abandoned) this.#abandon();
    else void serve(target.backend, { fastZero: target.fastZero === true }, request, memory).then(answer);
  }

  /** What is with the owner may never come back (a fenced volume): nobody waits for it. The peer is told nothing. */
  #abandon(): void {
    this.#abandoned = true;
    for (const answer of this.#atOwner) answer({ slot: 0, error: NbdErrno.ESHUTDOWN });
  }

  #handOver(granted: Granted, handle: Required<StreamHandle>, direct: NonNullable<ExportOptions['backend']['direct']>): void {
    handle.readStop();
    // The stream must believe that it reads, or the read-ahead it has queued would start the handle again.
    handle.reading = true;
    const { fd } = handle;
    const shared = new SharedArrayBuffer(4);
    const control = new Control(shared);
    const memory = connectionMemory(true);
    const bytes = new Uint8Array(memory.buffer);
    const { size, readOnly, structured, allocationContext, rest } = granted;
    const begin = (): void => {
      const start: DataWorkerStart = {
        fd, control: shared, memory, rest: new Uint8Array(rest),
        agreed: { size, readOnly, structured, allocationContext },
        direct: { fd: direct.fd, alignment: direct.alignment, gate: direct.gate.memory },
      };
      const worker = new Worker(new URL('./data-worker.js', import.meta.url), { workerData: start, name: `nbd ${granted.export.name}` });
      const post = (message: ToWorker): void => worker.postMessage(message);
      let shutdown: Promise<void> = Promise.resolve();
      let cancel = (): void => {};
      this.#stop = (abandon) => {
        cancel();
        post({ stop: true, abandon });
        if (abandon) this.#abandon();
        const blocked = control.stop();
        // The end of our side is enough for most peers to close theirs.
        if (blocked) shutdown = new Promise((resolve) => { this.socket.end(resolve); });
        cancel = after(blocked || abandon ? SHUTDOWN_MS : this.options.drainMs, () => shutDownSocket(fd, this.options.report));
      };
      let taken = false;
      worker.on('message', (message: FromWorker) => {
        if ('taken' in message) {
          taken = true;
          return;
        }
        if ('request' in message) {
          this.#serve(granted, message.request, bytes, (reply) => post({ reply }));
          return;
        }
        if (message.violation !== null) this.options.report(`export ${granted.export.name}: connection closed: ${message.violation}`);
        this.#stop = null;
        cancel();
        void shutdown.then(() => worker.terminate());
      });
      worker.on('error', (error) => this.options.report(`export ${granted.export.name}: data worker failed: ${wireMessage(error)}`));
      worker.on('exit', () => {
        // A thread that could not even begin has closed nothing.
        if (!taken) release();
        cancel();
        this.#finish();
      });
      if (closing !== null) this.#stop(closing);
    };
    let closing: boolean | null = null;
    this.#stop = (abandon) => { closing = abandon; };
    const release = keepOpen(this.socket);
    // Whatever this thread still had to write (the last option's reply) leaves before the worker may write.
    this.socket.write(Buffer.alloc(0), (error) => {
      if (!error) {
        begin();
        return;
      }
      release();
      this.#finish();
    });
  }
}

function canHandOver(handle: StreamHandle | null): handle is Required<StreamHandle> {
  return handle !== null && typeof handle.fd === 'number' && handle.fd >= 0 && typeof handle.readStop === 'function'
    && typeof handle.setBlocking === 'function';
}

/**
 * Wakes a thread that is blocked in a read of a socket whose peer neither sends nor closes. Only shutdown(2) of the
 * receiving side does that, and Node has no call for it; perl, which every Debian has, inherits the descriptor.
 */
function shutDownSocket(fd: number, report: (message: string) => void): void {
  const child = spawn('perl', ['-e', 'shutdown(STDIN, 2)'], { stdio: [fd, 'ignore', 'ignore'] });
  child.on('error', (error) => report(`a client keeps its connection open and it cannot be shut down without perl: ${error.message}`));
}
