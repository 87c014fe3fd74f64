/**
 * o2net over TCP of this host: connections and the listener, nothing of the protocol (cluster-protocols.md 4.1).
 *
 * TCP_NODELAY is set on both ends. TCP_USER_TIMEOUT, which the kernel's o2net sets to its maximum, can't be set from Node: so the host's
 * tcp_retries2 (15: about 15 minutes) says for how long a connection survives that nothing of it gets through. Long before that the
 * heartbeat or the quorum has decided who dies; a host that lowers it turns outages of that length into lost connections (docs/cluster.md).
 */
import net from 'node:net';
import { ClusterError } from '@lunfs/device';
import type { O2net } from './o2net.js';
import type { Socket, SocketEvents, Transport } from './transport.js';

/** Connections that may wait to be accepted, as in Linux 6.1 fs/ocfs2/cluster/tcp.c:o2net_open_listening_sock. */
const BACKLOG = 64;
/** A peer that has not taken so many bytes of ours is not reading: senders wait for statuses, so little is under way. */
const MAX_UNSENT = 64 << 20;

/** The transport of a host. Connections keep the process alive until the core is stopped. */
export const tcpTransport: Transport = {
  connect(from, { address, port }, events) {
    return new TcpSocket(net.connect({ host: address, port, localAddress: from, noDelay: true }), events);
  },
};

/**
 * Listens on the local node's address and port, for a core that may start afterwards. Resolves to what ends it.
 * Throws ClusterError `O2NET_LISTEN` when the address is not this host's, or taken.
 */
export async function listen(core: O2net, local: { readonly address: string; readonly port: number }): Promise<() => void> {
  const server = net.createServer({ noDelay: true }, (raw) => {
    const socket = new TcpSocket(raw);
    // An IPv4 listener sees IPv4 addresses; undefined when the peer has gone already.
    const events = core.accepted(socket, raw.remoteAddress ?? '');
    if (events) socket.attach(events);
    else raw.destroy();
  });
  await new Promise<void>((resolve, reject) => {
    // Later errors are of single connections that could not be accepted: their nodes try again.
    server.on('error', (cause) => {
      const message = `cannot listen on ${local.address}:${local.port} for the nodes of the cluster: ${cause.message}; is this the address of this host in cluster.conf, and no other node running?`;
      reject(new ClusterError('O2NET_LISTEN', message, { address: local.address, port: local.port }, cause));
    });
    server.listen({ host: local.address, port: local.port, backlog: BACKLOG }, resolve);
  });
  return () => server.close();
}

class TcpSocket implements Socket {
  readonly #raw: net.Socket;
  #events: SocketEvents | undefined;

  constructor(raw: net.Socket, events?: SocketEvents) {
    this.#raw = raw;
    this.#events = events;
    let reason = 'the other side closed the connection';
    raw.on('connect', () => this.#events?.connected());
    raw.on('data', (bytes) => this.#events?.received(bytes));
    raw.on('end', () => raw.destroy());
    raw.on('error', (error) => (reason = error.message));
    raw.on('close', () => this.#events?.closed(reason));
  }

  /** Names who hears of an accepted connection. */
  attach(events: SocketEvents): void {
    this.#events = events;
  }

  send(bytes: Uint8Array): void {
    if (!this.#raw.destroyed) this.#raw.write(bytes);
    if (this.#raw.writableLength > MAX_UNSENT) this.#raw.destroy(new Error(`it does not read: ${this.#raw.writableLength} bytes wait to be sent`));
  }

  close(): void {
    this.#events = undefined;
    if (this.#raw.connecting) return void this.#raw.destroy();
    // What a dead peer will never take must not keep us alive.
    this.#raw.unref();
    this.#raw.destroySoon();
  }
}
