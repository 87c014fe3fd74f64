/**
 * A connection to one monitor of one QEMU, over its Unix socket.
 *
 * Commands may overlap; answers find them by id. Every failure is a `LunfsError`: QMP_ERROR when QEMU refuses (its class and text in the
 * fields), QMP_TIMEOUT when it does not answer, QMP_GONE when it ends or hangs up, QMP_PROTOCOL when it cannot be understood, after which the
 * connection is closed: state that was told half is worse than none. A monitor talks to one client at a time: QMP_BUSY when another has it.
 *
 * What is sent and received is published on the diagnostics channel `lunfs:qmp`.
 */
import { channel } from 'node:diagnostics_channel';
import net from 'node:net';
import { type ErrnoName, IoError, LunfsError, UsageError } from '@lunfs/device';
import { after } from '../clock.js';
import type { Commands } from './commands.js';
import { type QmpEvent, type QmpMessage, type QmpVersion, lineReader, parseMessage, violation } from './message.js';

/** What QEMU takes at most for a command that waits for nothing: it may be drained of I/O first, on a LUN that has lost its paths. */
const ANSWER_MS = 60_000;
const GREETING_MS = 5_000;

const traffic = channel('lunfs:qmp');

interface Pending {
  readonly command: string;
  settle(outcome: { readonly value: unknown } | { readonly error: LunfsError }): void;
}

/** An event that somebody waits for. */
export interface Expected<T> {
  /** Rejects with QMP_TIMEOUT, or with what ended the connection. */
  readonly arrived: Promise<T>;
  /** Wait no longer. */
  cancel(): void;
}

export class QmpClient {
  /** Resolves when the connection is over, with the reason; undefined after `close`. */
  readonly ended: Promise<LunfsError | undefined>;
  #pending = new Map<number, Pending>();
  /** Commands that nobody waits for any more; their answers are no violation. */
  #abandoned = new Set<number>();
  #listeners = new Set<(event: QmpEvent) => void>();
  #failed = new Set<(error: LunfsError) => void>();
  #next = 1;
  #over = false;
  #end!: (reason: LunfsError | undefined) => void;
  #reason: LunfsError | undefined;

  private constructor(readonly what: string, private readonly path: string, private readonly socket: net.Socket, readonly version: QmpVersion) {
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  /**
   * Connect to a monitor and negotiate. `what` is who it is in messages: "guest web1". Throws QMP_GONE when nobody listens, QMP_BUSY when the
   * monitor does not greet within `greetingMs`, QMP_PROTOCOL, QMP_ERROR.
   */
  static async connect(path: string, what: string, { greetingMs = GREETING_MS }: { readonly greetingMs?: number } = {}): Promise<QmpClient> {
    const socket = net.connect(path);
    let client: QmpClient | undefined;
    client = await new Promise<QmpClient>((resolve, reject) => {
      const cancel = after(greetingMs, () => fail(new UsageError('QMP_BUSY', 'EBUSY', `the monitor of ${what} does not greet: another program is connected to it, or QEMU stands still`, { path })));
      const fail = (error: LunfsError): void => {
        cancel();
        reject(error);
        socket.destroy();
      };
      const gone = (cause?: unknown): LunfsError => new IoError('QMP_GONE', `nobody listens on the monitor of ${what}: QEMU has ended`, { path }, cause, 'ESHUTDOWN');
      const receive = lineReader((line) => {
        const message = parseMessage(line);
        traffic.publish({ path, received: message });
        if (client !== undefined) {
          client.#receive(message);
          return;
        }
        if (message.kind !== 'greeting') throw violation('something before its greeting', line);
        cancel();
        client = new QmpClient(what, path, socket, message.version);
        resolve(client);
      });
      socket.on('data', (chunk: Buffer) => {
        try {
          receive(chunk);
        } catch (error) {
          const reason = error instanceof LunfsError ? error : violation('what cannot be taken', undefined, error);
          if (client === undefined) fail(reason);
          else client.#finish(reason);
        }
      });
      socket.on('error', (cause) => {
        if (client === undefined) fail(gone(cause));
        else client.#finish(client.#gone(cause));
      });
      socket.on('close', () => {
        if (client === undefined) fail(gone());
        else client.#finish(client.#gone());
      });
    });
    try {
      await client.execute('qmp_capabilities');
    } catch (error) {
      client.close();
      throw error;
    }
    return client;
  }

  /** Run a command. Resolves to what it returns, which is not checked. */
  execute<C extends keyof Commands>(command: C, ...[args, { timeoutMs = ANSWER_MS } = {}]: Arguments<C>): Promise<unknown> {
    if (this.#over) return Promise.reject(this.#reason ?? this.#gone());
    const id = this.#next++;
    const message = args === undefined ? { execute: command, id } : { execute: command, arguments: args, id };
    return new Promise((resolve, reject) => {
      const cancel = after(timeoutMs, () => {
        this.#pending.delete(id);
        this.#abandoned.add(id);
        reject(new IoError('QMP_TIMEOUT', `QEMU has not answered ${command} for ${this.what} within ${timeoutMs / 1000} s`, { command }, undefined, 'ETIMEDOUT'));
      });
      this.#pending.set(id, {
        command,
        settle: (outcome) => {
          cancel();
          if ('error' in outcome) reject(outcome.error);
          else resolve(outcome.value);
        },
      });
      traffic.publish({ path: this.path, sent: message });
      this.socket.write(`${JSON.stringify(message)}\n`);
    });
  }

  /** Calls `listener` for each event from now on, until the returned function is called. */
  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Wait for the first event from now on that `pick` makes something of. Ask before the command that leads to it is sent. */
  awaitEvent<T>(what: string, timeoutMs: number, pick: (event: QmpEvent) => T | undefined): Expected<T> {
    let stop: () => void = () => undefined;
    const arrived = new Promise<T>((resolve, reject) => {
      const cancel = after(timeoutMs, () => {
        stop();
        reject(new IoError('QMP_TIMEOUT', `${this.what}: ${what} did not come within ${timeoutMs / 1000} s`, {}, undefined, 'ETIMEDOUT'));
      });
      const off = this.onEvent((event) => {
        const found = pick(event);
        if (found === undefined) return;
        stop();
        resolve(found);
      });
      const fail = (error: LunfsError): void => {
        stop();
        reject(error);
      };
      this.#failed.add(fail);
      stop = () => {
        cancel();
        off();
        this.#failed.delete(fail);
      };
      if (this.#over) fail(this.#reason ?? this.#gone());
    });
    // Who cancels need not look at it any more.
    arrived.catch(() => undefined);
    return { arrived, cancel: () => stop() };
  }

  /** Hang up. What is under way is answered with QMP_GONE. */
  close(): void {
    this.#finish(undefined);
  }

  #receive(message: QmpMessage): void {
    switch (message.kind) {
      case 'greeting':
        throw violation('a second greeting');
      case 'event':
        for (const listener of [...this.#listeners]) listener(message.event);
        return;
      case 'return':
      case 'error': {
        if (this.#abandoned.delete(message.id)) return;
        const pending = this.#pending.get(message.id);
        if (pending === undefined) throw violation(`an answer to command ${message.id}, which nobody sent`);
        this.#pending.delete(message.id);
        pending.settle(message.kind === 'return' ? { value: message.value } : { error: this.#refused(pending.command, message.class, message.description) });
      }
    }
  }

  #refused(command: string, name: string, description: string): LunfsError {
    const errno: ErrnoName = name === 'DeviceNotFound' ? 'ENODEV' : name === 'CommandNotFound' ? 'ENOSYS' : 'EINVAL';
    return new LunfsError('io', 'QMP_ERROR', errno, `QEMU refuses ${command} for ${this.what}: ${description}`, { command, class: name, description });
  }

  #gone(cause?: unknown): LunfsError {
    return new IoError('QMP_GONE', `the monitor of ${this.what} hung up: QEMU has ended, or the connection was closed`, {}, cause, 'ESHUTDOWN');
  }

  #finish(reason: LunfsError | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#reason = reason;
    const error = reason ?? this.#gone();
    this.socket.destroy();
    for (const { settle } of this.#pending.values()) settle({ error });
    this.#pending.clear();
    for (const fail of [...this.#failed]) fail(error);
    this.#listeners.clear();
    this.#end(reason);
  }
}

type Options = { readonly timeoutMs?: number };
type Arguments<C extends keyof Commands> = Record<never, never> extends Commands[C] ? [args?: Commands[C], options?: Options] : [args: Commands[C], options?: Options];
