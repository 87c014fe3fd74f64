/**
 * lunfsd's supervising thread: hands each volume process the deadlines that the heartbeat's thread sets, listens to its pulses, and
 * kills it when it has been silent for too long. It works while lunfsd's main thread stands still.
 *
 * The argument. A process is sent a new deadline only while its pulses come. So when it falls silent (stopped, thrashing, its main
 * thread in a loop) there is a last deadline that it can know of, and it is killed `killBeforeMs` before that, unless it has given a sign
 * since: what was stopped between a test of the fence and the system call behind it never gets to make it. SIGKILL works on a stopped
 * process too. Deadlines go on when the pulses do.
 */
import * as fs from 'node:fs';
import * as net from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import { InternalError, monotonicMs } from '@lunfs/device';
import { FenceDeadline } from '@lunfs/o2cb';
import { every } from '../clock.js';
import { LOOK_MS, QUIET_MS, TOKEN_BYTES, encodeDeadline } from '../cluster/fence-protocol.js';

/** What the thread is given. */
export interface SupervisorStart {
  /** Where it listens. */
  readonly socket: string;
}

/** What the main thread tells it. */
export type SupervisorOrder =
  | { readonly kind: 'watch'; readonly token: string; readonly pid: number; readonly deadline: SharedArrayBuffer; readonly killBeforeMs: number }
  | { readonly kind: 'forget'; readonly token: string };

/** What it tells the main thread. */
export type SupervisorReport =
  | { readonly kind: 'listening' }
  | { readonly kind: 'killed'; readonly token: string; readonly why: string };

interface Watched {
  readonly pid: number;
  readonly deadline: FenceDeadline;
  readonly killBeforeMs: number;
  socket?: net.Socket;
  /** When the last pulse came; the deadline that was sent last, and the end sent with it: monotonic milliseconds. */
  pulseAt: number;
  sent: number;
  sentEnd: number;
  killed: boolean;
}

if (parentPort === null) throw new InternalError('SUPERVISOR', 'the supervising thread was started as a program');
const port = parentPort;
const report = (what: SupervisorReport): void => port.postMessage(what);
const watched = new Map<string, Watched>();

function serve(socket: net.Socket): void {
  socket.on('error', () => socket.destroy());
  let token = '';
  let mine: Watched | undefined;
  socket.on('data', (chunk: Buffer) => {
    if (mine === undefined) {
      token += chunk.toString('latin1');
      if (token.length < TOKEN_BYTES) return;
      mine = watched.get(token.slice(0, TOKEN_BYTES));
      if (mine === undefined || mine.socket !== undefined) {
        socket.destroy();
        return;
      }
      mine.socket = socket;
    }
    mine.pulseAt = monotonicMs();
    look();
  });
}

function kill(token: string, one: Watched, why: string): void {
  one.killed = true;
  // While its socket is open the process lives, or is a zombie, and its number is its own. When lunfsd was stopped meanwhile, it may have
  // ended, and have been reaped, without this thread having heard of it.
  try {
    if (one.socket?.destroyed === false) process.kill(one.pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
  report({ kind: 'killed', token, why });
}

/** A later deadline, or a later end: when all nodes hang, they agree to wait for each other. */
function send(one: Watched): void {
  const grant = one.deadline.grant();
  const end = one.deadline.end();
  if (grant === undefined || end === undefined || !one.socket?.writable || (grant.monotonic <= one.sent && end <= one.sentEnd)) return;
  one.sent = grant.monotonic;
  one.sentEnd = end;
  one.socket.write(encodeDeadline({ ...grant, endMonotonic: end, endWall: grant.wall + (end - grant.monotonic) }));
}

function look(): void {
  const now = monotonicMs();
  for (const [token, one] of watched) {
    const { socket, deadline, killed } = one;
    if (socket === undefined || killed) continue;
    const silentMs = now - one.pulseAt;
    if (deadline.state === 'lost') kill(token, one, 'this node is fenced');
    else if (silentMs > QUIET_MS && now >= one.sent - one.killBeforeMs) kill(token, one, `no sign of life for ${Math.round(silentMs)} ms`);
    else if (silentMs <= QUIET_MS) send(one);
  }
}

port.on('message', (order: SupervisorOrder) => {
  if (order.kind === 'forget') {
    watched.get(order.token)?.socket?.destroy();
    watched.delete(order.token);
  } else {
    const { token, pid, deadline, killBeforeMs } = order;
    const never = Number.NEGATIVE_INFINITY;
    watched.set(token, { pid, deadline: new FenceDeadline(deadline), killBeforeMs, pulseAt: monotonicMs(), sent: never, sentEnd: never, killed: false });
  }
});

const server = net.createServer(serve);
const { socket } = workerData as SupervisorStart;
fs.rmSync(socket, { force: true });
server.listen(socket, () => {
  fs.chmodSync(socket, 0o600);
  report({ kind: 'listening' });
});
every(LOOK_MS, look, true);
