/** The server's end of a control socket, of a volume process and of lunfsd alike: a table of methods, and who asks for them. */
import * as fs from 'node:fs';
import * as net from 'node:net';
import { UsageError } from '@lunfs/device';
import { Params, type Request, type Response, lineSplitter, toWire } from './control-protocol.js';

/** What a method is given. */
export interface Call<T> {
  readonly params: Params;
  readonly target: T;
  /** End the process once the answer is sent. */
  readonly stop: () => void;
  progress(done: number, total: number): void;
}

export type Methods<T> = Readonly<Record<string, (call: Call<T>) => unknown>>;

/** What is served. */
export interface Served<T> {
  readonly methods: Methods<T>;
  readonly target: T;
  /** A client asks for the end of the process. */
  readonly stop: () => void;
  /** After each answered request: users of the volume may have gone. */
  readonly afterwards?: () => void;
}

export class ControlServer {
  readonly #sockets = new Set<net.Socket>();

  private constructor(private readonly server: net.Server, private readonly path: string) {}

  /**
   * Listen at `path`. The caller knows that he is the only one who may: a socket that is there belongs to a dead process.
   */
  static async listen<T>(path: string, served: Served<T>): Promise<ControlServer> {
    const server = net.createServer();
    const control = new ControlServer(server, path);
    server.on('connection', (socket) => control.#serve(socket, served));
    fs.rmSync(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
    fs.chmodSync(path, 0o600);
    return control;
  }

  close(): void {
    this.server.close();
    for (const socket of this.#sockets) socket.end();
    fs.rmSync(this.path, { force: true });
  }

  #serve<T>(socket: net.Socket, served: Served<T>): void {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    const send = (response: Response): boolean => socket.writable && socket.write(`${JSON.stringify(response)}\n`);
    const split = lineSplitter((text) => {
      const request = parseRequest(text);
      if (request === undefined) socket.destroy();
      else void answer(request, served, send);
    });
    socket.on('data', (chunk) => {
      try {
        split(chunk);
      } catch {
        socket.destroy();
      }
    });
  }
}

function parseRequest(text: string): Request | undefined {
  try {
    const { id, method, params = {} } = JSON.parse(text) as Partial<Request>;
    if (typeof id !== 'number' || typeof method !== 'string' || typeof params !== 'object') return undefined;
    return { id, method, params };
  } catch {
    return undefined;
  }
}

async function answer<T>({ id, method, params }: Request, { methods, target, stop, afterwards }: Served<T>, send: (response: Response) => boolean): Promise<void> {
  let stopping = false;
  try {
    const run = Object.hasOwn(methods, method) ? methods[method] : undefined;
    if (run === undefined) throw new UsageError('CONTROL_METHOD', 'EINVAL', `there is no method ${method}; is the other side of another version?`, { method });
    const result = await run({
      target, params: new Params(method, params), progress: (done, total) => void send({ id, progress: { done, total } }),
      stop: () => {
        stopping = true;
      },
    });
    send({ id, result: result ?? null });
  } catch (error) {
    send({ id, error: toWire(error) });
  }
  if (stopping) stop();
  else afterwards?.();
}
