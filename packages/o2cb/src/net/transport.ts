/** What the core of o2net stands on to reach other nodes: reliable streams of bytes. TCP in `tcp.ts`, a virtual network in simulations. */

/** Our end of a connection that exists or is being made. */
export interface Socket {
  /** Queues bytes to be sent in order. The caller gives them away. Nothing happens when the connection has ended. */
  send(bytes: Uint8Array): void;
  /** Ends the connection in both directions; what was sent before still goes out. No event follows. */
  close(): void;
}

/** What happens on a connection. Never within a call of the transport or of `Socket`. */
export interface SocketEvents {
  /** The connection stands; only of those we began. */
  connected(): void;
  received(bytes: Uint8Array): void;
  /** It was refused, reset, or closed by the other side; last event. `reason` is for operators. */
  closed(reason: string): void;
}

export interface Transport {
  /** Begins to connect from one of our own addresses, any port. */
  connect(from: string, to: { readonly address: string; readonly port: number }, events: SocketEvents): Socket;
}
