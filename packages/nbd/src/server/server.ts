/** The NBD server: its listeners, its exports, its connections. */
import * as net from 'node:net';
import type * as tls from 'node:tls';
import { NbdConnectionError, usage } from '../errors.js';
import { MAX_STRING } from '../protocol.js';
import { Connection, type ConnectionOptions } from './connection.js';
import type { ExportOptions, ExportTable } from './exports.js';
import { bindUnix, type BoundSocket } from './unix-socket.js';

/** Certificates in PEM. A server that has them refuses everything in the clear. */
export interface TlsServerOptions {
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
  /** Authority of the clients' certificates. */
  readonly ca?: string | Buffer;
  /** `required`: only clients with a certificate that `ca` signed. Default `none`. */
  readonly clientCertificates?: 'none' | 'optional' | 'required';
}

export interface NbdServerOptions {
  readonly tls?: TlsServerOptions;
  /** Default true: plain connections to exports with a direct path are served by a data worker each. */
  readonly workers?: boolean;
  /** Most connections at a time; further ones are closed unanswered. Default 256. */
  readonly maxConnections?: number;
  /** Milliseconds that an ending connection has to answer what is in flight and its peer to take it. Default 30000. */
  readonly drainMs?: number;
  /** Lines for the operator's log: protocol violations, failed workers. */
  readonly report?: (message: string) => void;
}

const KEEPALIVE_MS = 30_000;
const MAX_CONNECTIONS = 256;
const DRAIN_MS = 30_000;

export class NbdServer {
  readonly #exports = new Map<string, ExportOptions>();
  readonly #removing = new Set<string>();
  readonly #connections = new Set<Connection>();
  readonly #listeners: net.Server[] = [];
  readonly #sockets: BoundSocket[] = [];
  readonly #connectionOptions: ConnectionOptions;
  readonly #maxConnections: number;

  constructor(options: NbdServerOptions = {}) {
    const table: ExportTable = {
      find: (name) => (name === '' && !this.#exports.has('') && this.#exports.size === 1 ? [...this.#exports.values()][0] : this.#exports.get(name)),
      all: () => this.#exports.values(),
    };
    this.#maxConnections = options.maxConnections ?? MAX_CONNECTIONS;
    this.#connectionOptions = {
      exports: table, workers: options.workers ?? true, drainMs: options.drainMs ?? DRAIN_MS, report: options.report ?? (() => {}), tls: options.tls === undefined ? null : tlsOptions(options.tls),
    };
  }

  /** Connections now open. */
  get connections(): number {
    return this.#connections.size;
  }

  /** Offer a file. Errors: NBD_EXPORT_NAME (name empty or too long), NBD_EXPORT_EXISTS. */
  addExport(options: ExportOptions): void {
    const bytes = Buffer.byteLength(options.name);
    if (bytes === 0 || bytes > MAX_STRING || Buffer.byteLength(options.description ?? '') > MAX_STRING) {
      throw usage('NBD_EXPORT_NAME', `export name and description must have 1 to ${MAX_STRING} bytes`, { name: options.name });
    }
    if (this.#exports.has(options.name) || this.#removing.has(options.name)) {
      throw usage('NBD_EXPORT_EXISTS', `an export ${options.name} exists already; remove it first`, { name: options.name });
    }
    this.#exports.set(options.name, options);
  }

  /**
   * No new connection finds the export; requests in flight are answered, its connections closed. The backend is left open.
   * `abandon`: nothing more is answered, and nothing that is with the backend is waited for (a fenced volume: clients must
   * see the end of their connection, not an error, and try again elsewhere).
   */
  async removeExport(name: string, options: { abandon?: boolean } = {}): Promise<void> {
    const found = this.#exports.get(name);
    if (found === undefined) throw usage('NBD_EXPORT_UNKNOWN', `there is no export ${name}`, { name });
    this.#exports.delete(name);
    this.#removing.add(name);
    await Promise.all([...this.#connections].filter((connection) => connection.export === found).map((connection) => connection.close(options.abandon)));
    this.#removing.delete(name);
  }

  /**
   * Listen on a Unix socket, by default for its owner alone. The socket of a dead server is replaced; NBD_ADDRESS_IN_USE
   * when a live one answers or something else has the name.
   */
  async listenUnix(path: string, options: { mode?: number } = {}): Promise<void> {
    const server = this.#server();
    this.#sockets.push(await bindUnix(server, path, options.mode ?? 0o600));
    this.#listeners.push(server);
  }

  /** Listen on TCP; resolves to the port (useful with port 0). Without TLS anyone who reaches the port reads and writes the exports. */
  async listenTcp(port: number, host = '127.0.0.1'): Promise<number> {
    const server = this.#server();
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(new NbdConnectionError('NBD_REFUSED', `cannot listen on ${host}:${port}: ${error.message}`, { host, port }, error)));
      server.listen(port, host, () => resolve());
    });
    this.#listeners.push(server);
    return (server.address() as net.AddressInfo).port;
  }

  /** Stop listening, drain and close all connections. */
  async close(): Promise<void> {
    const stopped = this.#listeners.splice(0).map((server) => new Promise<void>((resolve) => { server.close(() => resolve()); }));
    for (const socket of this.#sockets.splice(0)) socket.unlink();
    await Promise.all([...this.#connections].map((connection) => connection.close()));
    // A server counts a socket as open until its handle here is closed, which handed-over ones never are: not awaited.
    void stopped;
  }

  #server(): net.Server {
    return net.createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEPALIVE_MS }, (socket) => {
      if (this.#connections.size >= this.#maxConnections) {
        socket.destroy();
        return;
      }
      const connection = new Connection(socket, this.#connectionOptions);
      this.#connections.add(connection);
      void connection.closed.then(() => this.#connections.delete(connection));
    });
  }
}

function tlsOptions(options: TlsServerOptions): tls.TlsOptions {
  const { cert, key, ca } = options;
  const clients = options.clientCertificates ?? 'none';
  if (clients !== 'none' && ca === undefined) throw usage('NBD_TLS_CA', 'client certificates can only be checked with the authority (ca) that signs them');
  return { cert, key, ca, requestCert: clients !== 'none', rejectUnauthorized: clients === 'required', minVersion: 'TLSv1.2' };
}

