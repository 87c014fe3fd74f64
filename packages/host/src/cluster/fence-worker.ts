/**
 * The fence's thread in a volume process: takes deadlines from lunfsd into the shared memory that all threads ask before they submit,
 * tells lunfsd that this process runs, and ends it when a deadline has lapsed for so long that peers may soon begin to recover.
 *
 * The end is SIGKILL to ourselves: it is the one way to be sure that no other thread submits what it has in hand, that nothing of this
 * incarnation's journal and cache is ever written, and that the connections of guests and of the mount are closed unanswered.
 *
 * A deadline that comes after the end of the one before comes too late, whatever it says: peers may have recovered us by then. Time is
 * taken from both clocks, since the monotonic one stands still while the host is suspended.
 */
import * as net from 'node:net';
import { workerData } from 'node:worker_threads';
import { Fence, monotonicMs, wallMs } from '@lunfs/device';
import { every } from '../clock.js';
import { DEADLINE_BYTES, type Deadline, PULSE_MS, decodeDeadline } from './fence-protocol.js';

/** What the thread is given. */
export interface FenceStart {
  /** lunfsd's socket, and who we are there. */
  readonly socket: string;
  readonly token: string;
  readonly fence: SharedArrayBuffer;
  /** One counter that the main thread moves while it runs. */
  readonly heart: SharedArrayBuffer;
  /** Milliseconds for which the main thread may stand still before the process counts as silent. */
  readonly stillMs: number;
}

const start = workerData as FenceStart;
const fence = new Fence(start.fence);
const heart = new Int32Array(start.heart);
let last: Deadline | undefined;
let beats = Atomics.load(heart, 0);
let movedAt = monotonicMs();

function over({ endMonotonic, endWall }: Deadline): boolean {
  return monotonicMs() >= endMonotonic || wallMs() >= endWall;
}

function end(): void {
  fence.revoke();
  process.kill(process.pid, 'SIGKILL');
}

function take(deadline: Deadline): void {
  if (last !== undefined && over(last)) return end();
  last = deadline;
  fence.setDeadline(deadline.monotonic, deadline.wall);
}

const socket = net.connect(start.socket);
socket.write(start.token);
socket.on('error', () => undefined); // lunfsd has gone: the deadline lapses
let rest: Buffer = Buffer.alloc(0);
socket.on('data', (chunk: Buffer) => {
  const bytes = Buffer.concat([rest, chunk]);
  const whole = bytes.length - (bytes.length % DEADLINE_BYTES);
  for (let at = 0; at < whole; at += DEADLINE_BYTES) take(decodeDeadline(bytes.subarray(at, at + DEADLINE_BYTES)));
  rest = bytes.subarray(whole);
});

// The thread goes on when the socket has ended: somebody must end the process.
every(PULSE_MS, () => {
  if (last !== undefined && over(last)) return end();
  const now = Atomics.load(heart, 0);
  if (now !== beats) {
    beats = now;
    movedAt = monotonicMs();
  }
  if (monotonicMs() - movedAt < start.stillMs && socket.writable) socket.write('.');
}, true);
