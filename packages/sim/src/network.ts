/**
 * The network of a simulation: streams of bytes between machines, each direction with delays of its own. A direction can be blocked: what is
 * sent waits, as TCP sends it again, and arrives when it is free. A machine without power answers nothing; one that is back resets what it does
 * not know.
 */
import type { Random } from '@lunfs/device';
import type { O2net, Socket, SocketEvents, Transport } from '@lunfs/o2cb';
import type { VirtualTime } from './time.js';

/** A machine's life between two losses of power, as the network knows it. */
export interface Station {
  readonly address: string;
  readonly alive: boolean;
  /** Do it now, or when the machine's programs run again. Nothing happens without power. */
  exec(fn: () => void): void;
}

/** One direction of a connection. */
class Pipe {
  sink: SocketEvents | undefined;
  #held: Uint8Array[] = [];
  #ends = false;
  reset = false;
  /** False: the receiver has not yet heard that the connection is made; what comes waits. */
  open = true;

  constructor(private readonly net: SimNetwork, readonly from: Station, readonly to: Station) {}

  get waits(): boolean {
    return this.#held.length > 0 || this.#ends;
  }

  send(bytes: Uint8Array): void {
    this.#held.push(bytes);
    this.deliver();
  }

  end(): void {
    this.#ends = true;
    this.deliver();
  }

  deliver(): void {
    this.net.time.after(this.net.delay(), () => {
      if (this.reset || !this.from.alive || this.net.blocked(this.from.address, this.to.address)) return;
      if (!this.to.alive) return this.net.unanswered(this);
      this.to.exec(() => this.arrive());
    });
  }

  close(reason: string): void {
    const { sink } = this;
    this.sink = undefined;
    if (sink !== undefined && this.to.alive) this.to.exec(() => sink.closed(reason));
  }

  arrive(): void {
    if (!this.open) return;
    const bytes = Buffer.concat(this.#held);
    this.#held = [];
    for (let at = 0; at < bytes.length; ) {
      const piece = this.net.piece(bytes.length - at);
      this.sink?.received(Uint8Array.from(bytes.subarray(at, at + piece)));
      at += piece;
    }
    if (this.#ends) this.close('the other side closed the connection');
  }
}

interface Connection {
  readonly there: Pipe;
  readonly back: Pipe;
}

export class SimNetwork {
  /** Largest delay of a message, milliseconds. */
  latency = 0.4;
  readonly #listeners = new Map<string, { readonly station: Station; readonly core: O2net }>();
  readonly #blocked = new Set<string>();
  #connections: Connection[] = [];

  constructor(readonly time: VirtualTime, private readonly random: Random) {}

  delay(): number {
    return 0.02 + this.random.float() * this.latency * (this.random.chance(0.02) ? 30 : 1);
  }

  /** How many of so many bytes arrive in one piece. */
  piece(bytes: number): number {
    return this.random.chance(0.03) ? 1 + this.random.int(bytes) : bytes;
  }

  listen(station: Station, core: O2net): () => void {
    const entry = { station, core };
    this.#listeners.set(station.address, entry);
    return () => {
      if (this.#listeners.get(station.address) === entry) this.#listeners.delete(station.address);
    };
  }

  blocked(from: string, to: string): boolean {
    return this.#blocked.has(`${from} ${to}`);
  }

  block(from: string, to: string): void {
    this.#blocked.add(`${from} ${to}`);
  }

  unblock(from: string, to: string): void {
    if (!this.#blocked.delete(`${from} ${to}`)) return;
    for (const { there, back } of this.#connections) for (const pipe of [there, back]) if (pipe.from.address === from && pipe.to.address === to && pipe.waits) pipe.deliver();
  }

  healAll(): void {
    for (const key of [...this.#blocked]) {
      const [from, to] = key.split(' ');
      this.unblock(from, to);
    }
  }

  /** The connection of two machines is reset, as by a firewall that has forgotten it: what is under way is lost. */
  reset(a: string, b: string): void {
    for (const connection of [...this.#connections]) {
      const { from, to } = connection.there;
      if ((from.address === a && to.address === b) || (from.address === b && to.address === a)) this.#reset(connection);
    }
  }

  /** The machine that a pipe leads to had no power when the bytes came: another life of it does not know the connection. */
  unanswered(pipe: Pipe): void {
    if (!this.#listeners.has(pipe.to.address)) return;
    const connection = this.#connections.find(({ there, back }) => there === pipe || back === pipe);
    if (connection) this.#reset(connection);
  }

  transport(station: Station): Transport {
    return {
      connect: (_from, to, events) => {
        const begin = (): void => {
          const listener = this.#listeners.get(to.address);
          if (listener === undefined) return pipes.back.close('refused');
          // Made when the answer is known: the other end's station is that of the listener.
          pipes.there = new Pipe(this, station, listener.station);
          pipes.back = Object.assign(new Pipe(this, listener.station, station), { sink: pipes.back.sink, open: false });
          const connection = { there: pipes.there, back: pipes.back };
          this.#connections = [...this.#connections.filter(({ there, back }) => !there.reset && (there.from.alive || back.from.alive) && (there.sink !== undefined || back.sink !== undefined)), connection];
          listener.station.exec(() => {
            const sink = listener.core.accepted(end(() => connection.back, () => connection.there), station.address);
            if (sink) connection.there.sink = sink;
            else connection.back.end();
            this.time.after(this.delay(), () => station.exec(() => {
              connection.back.sink?.connected();
              connection.back.open = true;
              connection.back.arrive();
            }));
          });
        };
        const none: Station = { address: to.address, alive: true, exec: (fn) => fn() };
        const pipes = { there: new Pipe(this, station, none), back: Object.assign(new Pipe(this, none, station), { sink: events as SocketEvents | undefined }) };
        const attempt = (): void => {
          if (!station.alive || pipes.back.sink === undefined) return;
          if (this.blocked(station.address, to.address) || this.blocked(to.address, station.address) || (this.#listeners.get(to.address)?.station.alive === false)) {
            return void this.time.after(1000, attempt);
          }
          begin();
        };
        this.time.after(this.delay(), attempt);
        return end(() => pipes.there, () => pipes.back);
      },
    };
  }

  #reset(connection: Connection): void {
    this.#connections = this.#connections.filter((one) => one !== connection);
    for (const pipe of [connection.there, connection.back]) {
      pipe.reset = true;
      pipe.close('connection reset');
    }
  }
}

function end(out: () => Pipe, back: () => Pipe): Socket {
  return {
    send: (bytes) => out().send(bytes),
    close: () => {
      back().sink = undefined;
      out().end();
    },
  };
}
