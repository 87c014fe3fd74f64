/** Time, a network and heartbeats that tests move by hand: cores of o2net run on them in one thread, from one seed. */
import { type ClusterNode, DEFAULT_SETTINGS, type O2cbSettings, timeoutsOf } from '../../src/config/index.js';
import { type NetNotice, O2net, type Socket, type SocketEvents, type Transport } from '../../src/net/index.js';
import { NodeMap } from '../../src/node-map.js';
import type { LinkListener, Membership, MembershipListener, Scheduler } from '../../src/ports.js';

export class VirtualClock implements Scheduler {
  #now = 0;
  #sequence = 0;
  readonly #timers = new Map<number, { at: number; fn: () => void }>();

  now(): number {
    return this.#now;
  }

  after(ms: number, fn: () => void): () => void {
    const id = this.#sequence++;
    this.#timers.set(id, { at: this.#now + ms, fn });
    return () => this.#timers.delete(id);
  }

  /** Lets time pass, with all that falls due, in order; what is due at one time goes in the order in which it was asked for. */
  run(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      let next: [number, { at: number; fn: () => void }] | undefined;
      for (const entry of this.#timers) if (entry[1].at <= end && (!next || entry[1].at < next[1].at)) next = entry;
      if (!next) break;
      this.#timers.delete(next[0]);
      this.#now = Math.max(this.#now, next[1].at);
      next[1].fn();
    }
    this.#now = end;
  }
}

/** One direction of a virtual connection: bytes in order, held while the link is cut. */
class Pipe {
  readonly #net: VirtualNetwork;
  readonly #link: string;
  readonly #held: Uint8Array[] = [];
  #ends = false;
  sink: SocketEvents | undefined;

  constructor(net: VirtualNetwork, link: string) {
    this.#net = net;
    this.#link = link;
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
    this.#net.clock.after(this.#net.delay(), () => {
      if (this.#net.isCut(this.#link)) return;
      const bytes = Buffer.concat(this.#held.splice(0));
      for (let at = 0; at < bytes.length; ) {
        const piece = this.#net.piece();
        this.sink?.received(bytes.subarray(at, at + piece));
        at += piece;
      }
      if (this.#ends) this.close('the other side closed it');
    });
  }

  close(reason: string): void {
    const { sink } = this;
    this.sink = undefined;
    sink?.closed(reason);
  }
}

export class VirtualNetwork {
  readonly clock: VirtualClock;
  /** Milliseconds that the next bytes need, and how many arrive in one piece. */
  delay = (): number => 1;
  piece = (): number => 1460;
  /** Connections begun so far. */
  attempts = 0;
  readonly #listeners = new Map<string, O2net>();
  readonly #pipes = new Set<{ pipes: [Pipe, Pipe]; link: string }>();
  readonly #cut = new Set<string>();

  constructor(clock: VirtualClock) {
    this.clock = clock;
  }

  listen(address: string, core: O2net): void {
    this.#listeners.set(address, core);
  }

  /** A machine is off: what is sent to it is lost, nothing answers. Connections to it stay silent. */
  vanish(address: string): void {
    this.#listeners.delete(address);
    for (const { pipes, link } of this.#pipes) if (link.split(' ').includes(address)) for (const pipe of pipes) pipe.sink = undefined;
  }

  isCut(link: string): boolean {
    return this.#cut.has(link);
  }

  cut(a: string, b: string): void {
    this.#cut.add(linkName(a, b));
  }

  /** What was sent meanwhile arrives now, as TCP sends it again. */
  heal(a: string, b: string): void {
    this.#cut.delete(linkName(a, b));
    for (const { pipes, link } of this.#pipes) if (link === linkName(a, b)) for (const pipe of pipes) pipe.deliver();
  }

  /** Both ends see the connection reset; what was under way is lost. */
  reset(a: string, b: string): void {
    for (const connection of [...this.#pipes]) {
      if (connection.link !== linkName(a, b)) continue;
      this.#pipes.delete(connection);
      for (const pipe of connection.pipes) pipe.close('reset');
    }
  }

  transport(): Transport {
    return {
      connect: (from, to, events) => {
        this.attempts++;
        const link = linkName(from, to.address);
        const pipes: [Pipe, Pipe] = [new Pipe(this, link), new Pipe(this, link)];
        pipes[1].sink = events;
        this.clock.after(this.delay(), () => {
          if (this.isCut(link) || !pipes[1].sink) return;
          const listener = this.#listeners.get(to.address);
          if (!listener) return pipes[1].close('refused');
          this.#pipes.add({ pipes, link });
          const sink = listener.accepted(end(pipes[1], pipes[0]), from);
          if (sink) pipes[0].sink = sink;
          else pipes[1].end();
          events.connected();
        });
        return end(pipes[0], pipes[1]);
      },
    };
  }
}

function linkName(a: string, b: string): string {
  return [a, b].sort().join(' ');
}

function end(out: Pipe, back: Pipe): Socket {
  return {
    send: (bytes) => out.send(bytes),
    close: () => {
      back.sink = undefined;
      out.end();
    },
  };
}

/** Who beats, as one node sees it. */
class Beats implements Membership {
  readonly local: number;
  readonly live = new NodeMap();
  readonly #listeners: { order: number; listener: MembershipListener }[] = [];

  constructor(local: number) {
    this.local = local;
  }

  subscribe(order: number, listener: MembershipListener): () => void {
    const entry = { order, listener };
    this.#listeners.push(entry);
    this.#listeners.sort((a, b) => a.order - b.order);
    return () => void this.#listeners.splice(this.#listeners.indexOf(entry), 1);
  }

  up(node: number): void {
    if (this.live.has(node)) return;
    this.live.add(node);
    for (const { listener } of [...this.#listeners]) listener.nodeUp(node);
  }

  down(node: number): void {
    if (!this.live.has(node)) return;
    this.live.delete(node);
    for (const { listener } of [...this.#listeners]) listener.nodeDown(node);
  }
}

export interface VirtualNode {
  core: O2net;
  beats: Beats;
  address: string;
  notices: NetNotice[];
  /** `up 2`, `error 2`, `still 2`: what the quorum was told, with the time. */
  quorum: string[];
  /** For whose sake it was to begin anew, with the time. */
  severed: string[];
}

/** A cluster of cores; nobody beats yet. `settings` by node change what each believes of the times. */
export class VirtualCluster {
  readonly clock = new VirtualClock();
  readonly network = new VirtualNetwork(this.clock);
  readonly nodes: VirtualNode[];

  constructor(count: number, settings: Record<number, Partial<O2cbSettings>> = {}) {
    const configured: ClusterNode[] = Array.from({ length: count }, (_, number) => ({ number, name: `host${number}`, address: `10.0.0.${number}`, port: 7777 }));
    this.nodes = configured.map(({ number, address }) => {
      const beats = new Beats(number);
      const notices: NetNotice[] = [];
      const quorum: string[] = [];
      const severed: string[] = [];
      const tell = (what: string) => (node: number): void => void quorum.push(`${this.clock.now()} ${what} ${node}`);
      const links: LinkListener = { connUp: tell('up'), connError: tell('error'), stillUp: tell('still') };
      const core = new O2net({
        nodes: configured, times: timeoutsOf({ ...DEFAULT_SETTINGS, ...settings[number] }), membership: beats, links, scheduler: this.clock,
        transport: this.network.transport(), notice: (notice) => notices.push(notice), severed: (node) => severed.push(`${this.clock.now()} ${node}`),
      });
      this.network.listen(address, core);
      core.start();
      return { core, beats, address, notices, quorum, severed };
    });
  }

  /** Everybody sees everybody beat. */
  allUp(): void {
    for (const { beats } of this.nodes) for (let node = 0; node < this.nodes.length; node++) beats.up(node);
  }
}
