/**
 * What lunfsd tells the service manager that has started it (sd_notify(3)): that it is ready, what it is at, that its event loop runs, that it ends.
 *
 * Node has no datagram sockets of Unix, so each message is sent by the program systemd-notify, which is there wherever the manager is. It waits until the message has
 * been taken in, so that it is known from whom it came (the unit says NotifyAccess=all). A message that cannot be sent is told once, and lunfsd goes on.
 */
import { spawn } from 'node:child_process';
import { every } from '../clock.js';
import type { ManagedFacts } from './managed-volume.js';

const STATUS_MS = 5000;

export class ServiceManager {
  #status = '';
  #failed = false;
  readonly #stops: (() => void)[] = [];
  /** One message at a time, in order. */
  #sending: Promise<void> = Promise.resolve();

  private constructor(private readonly env: NodeJS.ProcessEnv, private readonly watchdogMs: number | undefined, private readonly log: (line: string) => void) {}

  /** Undefined: nobody wants to know. What is in the environment for us is taken out: it is for no child. */
  static of(env: NodeJS.ProcessEnv, log: (line: string) => void): ServiceManager | undefined {
    const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: watchdog } = env;
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete env[name];
    if (socket === undefined) return undefined;
    const ms = Number(watchdog) / 1000;
    return new ServiceManager({ ...env, NOTIFY_SOCKET: socket }, Number.isFinite(ms) && ms > 0 ? ms : undefined, log);
  }

  /** All that is declared has been tried. From now on `volumes` is told whenever it changes, and the watchdog is fed while this thread runs. */
  ready(volumes: () => readonly ManagedFacts[]): void {
    this.#status = statusOf(volumes());
    this.#tell('READY=1', `STATUS=${this.#status}`);
    this.#stops.push(every(STATUS_MS, () => {
      const status = statusOf(volumes());
      if (status !== this.#status) this.#tell(`STATUS=${status}`);
      this.#status = status;
    }));
    // Half of the time, as sd_watchdog_enabled(3) has it; less, since a program must be started for it.
    if (this.watchdogMs !== undefined) this.#stops.push(every(this.watchdogMs / 4, () => this.#tell('WATCHDOG=1')));
  }

  stopping(): void {
    for (const stop of this.#stops) stop();
    this.#tell('STOPPING=1', 'STATUS=unmounting, leaving the cluster');
  }

  #tell(...lines: readonly string[]): void {
    this.#sending = this.#sending.then(() => new Promise<void>((resolve) => {
      const child = spawn('systemd-notify', [...lines], { env: this.env, stdio: 'ignore', cwd: '/' });
      const failed = (why: string): void => {
        if (!this.#failed) this.log(`the service manager cannot be told (${lines[0]}): ${why}`);
        this.#failed = true;
        resolve();
      };
      child.once('error', (error) => failed(error.message));
      child.once('close', (code) => (code === 0 ? resolve() : failed(`systemd-notify ended with ${code}`)));
    }));
  }
}

function statusOf(volumes: readonly ManagedFacts[]): string {
  const wanted = volumes.filter(({ state }) => state !== 'unmounted' && state !== 'ended');
  const away = wanted.filter(({ state }) => state !== 'mounted').map(({ directory, state, reason }) => `${directory} is ${state}${reason === undefined ? '' : ` (${reason})`}`);
  return [`${wanted.length - away.length} of ${wanted.length} volumes mounted`, ...away].join('; ').replaceAll('\n', ' ');
}
