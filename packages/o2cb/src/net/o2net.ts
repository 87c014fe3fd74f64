/**
 * o2net, the messenger between nodes: requests with a status each, over one connection per pair of nodes. A core without I/O: what
 * happens comes as calls of the transport, the heartbeat and the scheduler, what is to be done goes to the ports it was given
 * (cluster-protocols.md 4; Linux 6.1 fs/ocfs2/cluster/tcp.c).
 *
 * Order, on which lock managers rely (4.5): requests to a node arrive in the order of the calls, and are handled one at a time in the
 * order of arrival, those of all peers in one thread. A handler is a state transition and then a status; it never waits for a round trip,
 * or two nodes could wait for each other. A request that a message causes may arrive before the status of that message.
 *
 * Closing a healthy connection is not harmless (4.6): what was under way is lost, nobody connects again for a while, and one of two nodes
 * that beat on must begin anew. So nothing here closes one but death, `stop`, and a peer that breaks the protocol.
 */
import { InternalError } from '@lunfs/device';
import type { ClusterNode, Timeouts } from '../config/index.js';
import { type LinkListener, type Membership, type MessageHandler, type Messenger, ORDER_NET, type RequestResult, type Scheduler } from '../ports.js';
import { type Frame, MAX_PAYLOAD, SystemStatus } from './frame.js';
import { type NetNotice, Peer, type PeerStatistics, type PeerWorld } from './peer.js';
import { LOST_NOTHING, LUNFS_KEY, LUNFS_TYPE } from './severance.js';
import type { Socket, SocketEvents, Transport } from './transport.js';

export interface O2netOptions {
  /** All configured nodes, the local one included, each number and address once. */
  readonly nodes: readonly ClusterNode[];
  readonly times: Timeouts;
  readonly membership: Membership;
  readonly links: LinkListener;
  readonly scheduler: Scheduler;
  readonly transport: Transport;
  /** What operators may want to read. */
  readonly notice: (notice: NetNotice) => void;
  /** Called when something has come in from another node, before it is looked at: what this node knows of the others must be as new as what they say. */
  readonly arriving?: () => void;
  /** Messages between a node and this one were lost while both live: this node must begin anew, as by death (severance.ts). */
  readonly severed: (node: number, reason: string) => void;
}

interface Registration {
  readonly maxLength: number;
  readonly handler: MessageHandler;
}

export class O2net implements Messenger {
  readonly #options: O2netOptions;
  readonly #local: ClusterNode;
  readonly #peers = new Map<number, Peer>();
  readonly #byAddress: ReadonlyMap<string, ClusterNode>;
  /** By key, then by type. */
  readonly #handlers = new Map<number, Map<number, Registration>>();
  /** Keys of messages that are said again when they are lost. */
  readonly #repeated = new Set<number>();
  #unsubscribe: (() => void) | undefined;
  /** When a node that does not beat here tried to connect last. */
  readonly #knocked = new Map<number, number>();

  /** Throws InternalError if the local node is not among the nodes. */
  constructor(options: O2netOptions) {
    const { nodes, membership, times, scheduler, transport, links, notice, severed, arriving = () => undefined } = options;
    const local = nodes.find(({ number }) => number === membership.local);
    if (!local) throw new InternalError('O2NET_NODES', `node ${membership.local} is not among the configured nodes`);
    this.#options = options;
    this.#local = local;
    this.#byAddress = new Map(nodes.map((node) => [node.address, node]));
    const world: PeerWorld = { local, times, scheduler, transport, links, notice, severed, arriving, repeats: (key) => this.#repeated.has(key), message: (from, frame, reply) => this.#message(from, frame, reply) };
    for (const node of nodes) if (node !== local) this.#peers.set(node.number, new Peer(node, world));
    this.handle(LUNFS_KEY, LUNFS_TYPE, 0, (from, _payload, reply) => reply(this.#peers.get(from)?.lostWithIt ?? LOST_NOTHING), true);
  }

  /** Begins: the listener must stand already, so that a node which sees us beat finds it. */
  start(): void {
    const { membership, links } = this.#options;
    links.connUp(this.#local.number);
    this.#unsubscribe = membership.subscribe(ORDER_NET, {
      nodeUp: (node) => this.#peers.get(node)?.nodeUp(),
      nodeDown: (node) => this.#peers.get(node)?.nodeDown('its heartbeat has ended'),
    });
    for (const node of membership.live) this.#peers.get(node)?.nodeUp();
  }

  /** Ends all connections and requests. The heartbeat must end with it: nodes that see us beat but can't reach us may have to die. */
  stop(): void {
    if (!this.#unsubscribe) return;
    this.#unsubscribe();
    this.#unsubscribe = undefined;
    for (const peer of this.#peers.values()) peer.nodeDown('this node leaves');
    this.#options.links.connError(this.#local.number);
  }

  /**
   * A connection came in from an address. Undefined when it is not wanted and the caller must close it: nodes begin to connect when they
   * see our heartbeat, which may be before we see theirs.
   */
  accepted(socket: Socket, address: string): SocketEvents | undefined {
    const node = this.#byAddress.get(address);
    const turnAway = (why: string): undefined => {
      this.#options.notice({ code: 'TURNED_AWAY', node: node?.number, message: `a connection from ${address} was turned away: ${why}` });
    };
    if (!this.#unsubscribe) return undefined;
    if (!node) return turnAway('no node of the cluster has this address');
    const peer = this.#peers.get(node.number);
    if (!peer || node.number < this.#local.number) return turnAway(`node ${node.number} does not connect to node ${this.#local.number}, the one with the higher number connects`);
    if (!this.#options.membership.live.has(node.number)) {
      this.#knocked.set(node.number, this.#options.scheduler.now());
      return undefined;
    }
    return peer.accept(socket) ?? turnAway(`node ${node.number} has a connection already`);
  }

  request(node: number, type: number, key: number, payload: Uint8Array, done: (result: RequestResult) => void): void {
    if (payload.length > MAX_PAYLOAD) throw new InternalError('O2NET_PAYLOAD', `message ${type} has ${payload.length} bytes; o2net carries at most ${MAX_PAYLOAD}`);
    if (node === this.#local.number) throw new InternalError('O2NET_SELF', `message ${type} is addressed to this node itself`);
    const peer = this.#peers.get(node);
    if (peer) peer.request({ type, key, payload, done });
    else this.#options.scheduler.after(0, () => done({ error: 'not-connected' }));
  }

  handle(key: number, type: number, maxLength: number, handler: MessageHandler, repeated = false): () => void {
    if (repeated) this.#repeated.add(key);
    let types = this.#handlers.get(key);
    if (!types) this.#handlers.set(key, (types = new Map<number, Registration>()));
    if (types.has(type)) throw new InternalError('O2NET_HANDLER', `message ${type} under key ${key} has a handler already`);
    const registration: Registration = { maxLength, handler };
    types.set(type, registration);
    return () => {
      if (types.get(type) !== registration) return;
      types.delete(type);
      if (types.size === 0) this.#handlers.delete(key);
    };
  }

  /** Nodes with which messages can be exchanged, ascending; the local one is not among them. */
  get connected(): number[] {
    return [...this.#peers].filter(([, peer]) => peer.connected).map(([number]) => number).sort((a, b) => a - b);
  }

  /** Nodes that tried to connect within the last `ms` though no beat of theirs is seen here: as a rule they only see ours before we see theirs. */
  knocking(ms: number): number[] {
    const { membership, scheduler } = this.#options;
    return [...this.#knocked].filter(([node, at]) => scheduler.now() - at <= ms && !membership.live.has(node)).map(([node]) => node);
  }

  /** One entry per other configured node, ascending. */
  get statistics(): PeerStatistics[] {
    return [...this.#peers.values()].map((peer) => peer.statistics).sort((a, b) => a.node - b.node);
  }

  #message(from: number, frame: Frame, reply: (systemStatus: number, status: number) => void): boolean {
    const registration = this.#handlers.get(frame.key)?.get(frame.type);
    const taken = registration !== undefined && frame.payload.length <= registration.maxLength;
    if (!taken) reply(registration === undefined ? SystemStatus.NO_HANDLER : SystemStatus.OVERFLOW, 0);
    else registration.handler(from, frame.payload, (status) => (status === 'no-handler' ? reply(SystemStatus.NO_HANDLER, 0) : reply(SystemStatus.NONE, status)));
    return taken;
  }
}
