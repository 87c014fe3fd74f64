/**
 * The data worker: one thread, one connection. It takes over the connection's descriptor when the transmission phase
 * begins and serves what lies in mapped extents by itself; the rest goes to the owner by message.
 *
 * Two modes (measured; a hop through libuv's pool costs 10-20 us of latency, blocking calls cost parallelism):
 * - normal: the event loop reads the socket, I/O runs on the pool, replies of a batch leave in one writev;
 * - quiet: after a few batches of exactly one request each, a loop of read socket, read or write device, write socket,
 *   all blocking. A second request at once, or one that needs the owner, ends it.
 *
 * The descriptor belongs to two handles, one here, one on the main thread that accepted it (Node cannot transfer a
 * socket). Neither closes it; the end of this thread does, and the main thread says when. So the descriptor's number is
 * this connection's for as long as the main thread might name it.
 */
import * as fs from 'node:fs';
import * as net from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import { DirectMap, Gate, type GateMemory } from '@lunfs/device';
import type { Agreed } from '../request.js';
import { Control } from './control.js';
import { keepOpen } from './io.js';
import type { OwnerReply, OwnerRequest } from './owner.js';
import { Replies } from './replies.js';
import { LANDING_BYTES, RECEIVE_BYTES, Slots, type ConnectionMemory } from './slots.js';
import { Transmission } from './transmission.js';

export interface DataWorkerStart {
  readonly fd: number;
  readonly control: SharedArrayBuffer;
  readonly memory: ConnectionMemory;
  readonly agreed: Agreed;
  readonly direct: { readonly fd: number; readonly alignment: number; readonly gate: GateMemory };
  /** Requests that arrived with the last option. */
  readonly rest: Uint8Array;
}

/** Main thread to worker. */
export type ToWorker =
  | { readonly reply: OwnerReply }
  /** Begin nothing more. `abandon`: and answer nothing more. */
  | { readonly stop: true; readonly abandon: boolean };
/** Worker to main thread. */
export type FromWorker = { readonly taken: true } | { readonly request: OwnerRequest } | { readonly ended: true; readonly violation: string | null };

/** Undocumented, there since Node 6; the main thread checks for them before it starts a worker. */
interface StreamHandle {
  setBlocking(on: boolean): number;
}

/** Batches of one request after which the connection counts as quiet. */
const QUIET_AFTER = 4;

// Errors are answers here (EAGAIN, a peer that is gone); nobody reads their stacks.
Error.stackTraceLimit = 0;

const start = workerData as DataWorkerStart;
const main = parentPort!;
const control = new Control(start.control);
const slots = new Slots(start.memory);
const { heap } = slots;
let single = 0;
let quietRequested = false;
/** The handle's next bytes arrive in the landing area: it was given that when reading stopped. */
let landing = true;
let landingBytes = LANDING_BYTES;

const socket = new net.Socket({
  fd: start.fd,
  readable: true,
  writable: true,
  allowHalfOpen: true,
  manualStart: true,
  onread: { buffer: nextBuffer, callback: onRead },
} as net.SocketConstructorOpts);
keepOpen(socket);
main.postMessage({ taken: true } satisfies FromWorker);
const handle = (socket as unknown as { _handle: StreamHandle })._handle;

const replies = new Replies(socket, start.fd, start.agreed.structured, (slot) => slots.release(slot), onFlushed, () => transmission.stop());
const transmission: Transmission = new Transmission({
  agreed: start.agreed,
  slots,
  replies,
  direct: {
    fd: start.direct.fd, alignment: start.direct.alignment, gate: new Gate(start.direct.gate), readable: new DirectMap(), writable: new DirectMap(),
  },
  owner: (request) => {
    main.postMessage({ request } satisfies FromWorker);
    single = -1;
    if (!quietRequested) return;
    quietRequested = false;
    readOn();
  },
  resume: readOn,
  ended: (violation) => main.postMessage({ ended: true, violation } satisfies FromWorker),
});

/**
 * Where the handle puts what it reads next. It asks right after each read, also when reading stops there, and keeps the
 * answer until it reads again; the window may have moved by then, the landing area has not.
 */
function nextBuffer(): Uint8Array {
  if (landing) return heap.subarray(RECEIVE_BYTES, RECEIVE_BYTES + landingBytes);
  const from = transmission.windowStart;
  return heap.subarray(from, from + transmission.windowLength);
}

/** False: stop reading (no slot is free, or the quiet loop takes over). */
function onRead(bytes: number): boolean {
  if (transmission.over) return true;
  const idle = slots.busy === 0;
  if (landing) transmission.receivedAt(RECEIVE_BYTES, bytes);
  else transmission.received(bytes);
  if (transmission.batch > 0) single = idle && transmission.batch === 1 ? single + 1 : 0;
  quietRequested = single >= QUIET_AFTER && transmission.atRest;
  // What still comes after the end is read, so that its sender sees our replies, and dropped.
  landing = transmission.blocked || quietRequested || transmission.over;
  landingBytes = transmission.over ? LANDING_BYTES : Math.min(LANDING_BYTES, transmission.room);
  return !landing || transmission.over;
}

function readOn(): void {
  if (!transmission.over) socket.resume();
}

function onFlushed(): void {
  transmission.idle();
  if (!quietRequested || slots.busy > 0 || transmission.over || transmission.blocked) return;
  quietRequested = false;
  single = 0;
  quietLoop();
}

function quietLoop(): void {
  handle.setBlocking(true);
  transmission.quiet = true;
  replies.immediate = true;
  while (transmission.quiet && !transmission.over) {
    if (!control.beginWait()) break;
    let bytes = 0;
    try {
      bytes = fs.readSync(start.fd, heap, transmission.windowStart, transmission.windowLength, null);
    } catch {
      // the peer is gone: as good as an end of file
    }
    if (!control.endWait() || bytes === 0) {
      transmission.quiet = false;
      transmission.stop();
      break;
    }
    transmission.received(bytes);
    replies.flush();
  }
  transmission.quiet = false;
  replies.immediate = false;
  if (transmission.over) return;
  handle.setBlocking(false);
  if (!transmission.blocked) readOn();
}

main.on('message', (message: ToWorker) => {
  if ('stop' in message) {
    if (message.abandon) replies.mute();
    transmission.stop();
  } else transmission.ownerDone(message.reply);
});
socket.on('error', () => transmission.stop());
socket.on('end', () => transmission.stop());

if (start.rest.length > 0) {
  heap.set(start.rest, 0);
  transmission.received(start.rest.length);
}
if (!transmission.blocked) readOn();
