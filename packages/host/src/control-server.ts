/** The volume process's end of the control socket: each method is one entry of a table. */
import * as fs from 'node:fs';
import * as net from 'node:net';
import { UsageError } from '@lunfs/device';
import { QUOTA_TYPES } from '@lunfs/ocfs2';
import { Params, type Request, type Response, lineSplitter, toWire } from './control-protocol.js';
import { diskExtents, listDisks } from './disks.js';
import type { ExportSpec, HostVolume } from './host-volume.js';
import { volumeQuota } from './quota.js';

/** What a method may do besides answering. */
interface Call {
  readonly params: Params;
  readonly host: HostVolume;
  /** End the process once the answer is sent. */
  readonly stop: () => void;
  progress(done: number, total: number): void;
}

const METHODS: Readonly<Record<string, (call: Call) => unknown>> = {
  status: ({ host }) => host.facts(),
  export: ({ host, params }) => host.addExport(exportSpec(params)),
  unexport: ({ host, params }) => host.removeExport(params.string('name')),
  sync: ({ host }) => host.volume.sync(),
  stop: ({ stop }) => stop(),
  'disk.create': ({ host, params, progress }) => host.createDisk(params.string('path'), {
    size: params.number('size'), allocation: params.oneOf('allocation', ['thin', 'thick-zeroed', 'thick-unwritten']), progress,
  }),
  'disk.clone': ({ host, params }) => host.cloneDisk(params.string('source'), params.string('path')),
  'disk.list': ({ host, params }) => listDisks(host.volume, params.optionalString('directory'), params.boolean('all')),
  'disk.info': ({ host, params }) => diskExtents(host.volume, params.string('path')),
  'disk.resize': ({ host, params }) => host.resizeDisk(params.string('path'), params.number('size'), { shrink: params.boolean('shrink') }),
  'disk.remove': ({ host, params }) => host.removeDisk(params.string('path')),
  'quota.report': ({ host, params }) => volumeQuota(host.volume).report(params.optionalString('type') === undefined ? undefined : params.oneOf('type', QUOTA_TYPES)),
  'quota.set': ({ host, params }) => volumeQuota(host.volume).setLimits(params.oneOf('type', QUOTA_TYPES), params.number('id'), numbers(params.object('limits'), ['spaceSoft', 'spaceHard', 'inodeSoft', 'inodeHard'])),
  'quota.grace': ({ host, params }) => volumeQuota(host.volume).setSettings(params.oneOf('type', QUOTA_TYPES), numbers(params.object('settings'), ['spaceGrace', 'inodeGrace', 'syncMs'])),
};

/** The numbers of an object that are given. */
function numbers<K extends string>(params: Params | undefined, names: readonly K[]): Partial<Record<K, number>> {
  const given: Partial<Record<K, number>> = {};
  for (const name of names) {
    const value = params?.optionalNumber(name);
    if (value !== undefined) given[name] = value;
  }
  return given;
}

const CLIENT_CERTIFICATES = ['none', 'optional', 'required'] as const;

export function exportSpec(params: Params): ExportSpec {
  const tcp = params.object('tcp');
  const tls = params.object('tls');
  return {
    path: params.string('path'), name: params.optionalString('name'), socket: params.optionalString('socket'), readOnly: params.boolean('readOnly'), keepSpace: params.boolean('keepSpace'),
    tcp: tcp && { host: tcp.string('host'), port: tcp.number('port') },
    tls: tls && {
      cert: tls.string('cert'), key: tls.string('key'), ca: tls.optionalString('ca'),
      clientCertificates: tls.optionalString('clientCertificates') === undefined ? undefined : tls.oneOf('clientCertificates', CLIENT_CERTIFICATES),
    },
  };
}

export class ControlServer {
  readonly #sockets = new Set<net.Socket>();

  private constructor(private readonly server: net.Server, private readonly path: string) {}

  /**
   * Listen at `path`. `afterwards` is called after each answered request: users of the volume may have gone; `stop` when a client
   * asks for the end. The caller holds the device exclusively, so a socket that is there belongs to a dead process.
   */
  static async listen(path: string, host: HostVolume, events: { readonly stop: () => void; readonly afterwards: () => void }): Promise<ControlServer> {
    const server = net.createServer();
    const control = new ControlServer(server, path);
    server.on('connection', (socket) => control.#serve(socket, host, events));
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

  #serve(socket: net.Socket, host: HostVolume, events: { readonly stop: () => void; readonly afterwards: () => void }): void {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    const send = (response: Response): boolean => socket.writable && socket.write(`${JSON.stringify(response)}\n`);
    const split = lineSplitter((text) => {
      const request = parseRequest(text);
      if (request === undefined) socket.destroy();
      else void answer(request, host, events, send);
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

async function answer({ id, method, params }: Request, host: HostVolume, events: { readonly stop: () => void; readonly afterwards: () => void }, send: (response: Response) => boolean): Promise<void> {
  let stopping = false;
  try {
    const run = Object.hasOwn(METHODS, method) ? METHODS[method] : undefined;
    if (run === undefined) throw new UsageError('CONTROL_METHOD', 'EINVAL', `a volume process has no method ${method}`, { method });
    const result = await run({
      host, params: new Params(method, params), progress: (done, total) => void send({ id, progress: { done, total } }),
      stop: () => {
        stopping = true;
      },
    });
    send({ id, result: result ?? null });
  } catch (error) {
    send({ id, error: toWire(error) });
  }
  if (stopping) events.stop();
  else events.afterwards();
}
