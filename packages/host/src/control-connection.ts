/** The client's end of a control socket, of a volume process and of lunfsd alike. */
import * as net from 'node:net';
import type { LunfsError } from '@lunfs/device';
import { type Response, fromWire, lineSplitter } from './control-protocol.js';

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly progress?: (done: number, total: number) => void;
}

/** Connect to a control socket. Rejects with what `absent` makes of the failure. */
export async function connectControl(path: string, absent: (cause: unknown) => LunfsError): Promise<net.Socket> {
  const socket = net.connect({ path });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', (cause) => reject(absent(cause)));
  });
  return socket;
}

export class ControlConnection {
  #next = 1;
  readonly #pending = new Map<number, Pending>();
  /** Resolves when the connection has ended: the process has ended, or `close` was called. */
  readonly ended: Promise<void>;

  /** `gone`: what calls under way fail with when the process ends. */
  protected constructor(private readonly socket: net.Socket, private readonly gone: () => LunfsError) {
    const split = lineSplitter((text) => this.#received(JSON.parse(text) as Response));
    socket.on('data', (chunk) => {
      try {
        split(chunk);
      } catch (error) {
        socket.destroy(error as Error);
      }
    });
    socket.on('error', () => undefined); // 'close' follows
    this.ended = new Promise((resolve) => {
      socket.once('close', () => {
        for (const { reject } of this.#pending.values()) reject(gone());
        this.#pending.clear();
        resolve();
      });
    });
  }

  /** End this connection alone. */
  close(): void {
    this.socket.end();
  }

  protected call<T>(method: string, params: object = {}, progress?: (done: number, total: number) => void): Promise<T> {
    // The end has settled what was under way then; nothing would settle this.
    if (this.socket.closed) return Promise.reject(this.gone());
    const id = this.#next++;
    return new Promise<T>((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve as (value: unknown) => void, reject, progress });
      this.socket.write(`${JSON.stringify({ id, method, params })}\n`);
    });
  }

  #received(response: Response): void {
    const call = this.#pending.get(response.id);
    if (call === undefined) return;
    if ('progress' in response) {
      call.progress?.(response.progress.done, response.progress.total);
      return;
    }
    this.#pending.delete(response.id);
    if ('error' in response) call.reject(fromWire(response.error));
    else call.resolve(response.result);
  }
}
