/**
 * One incarnation of this node in its cluster: heartbeat, o2net, quorum and what answers for domains that are not here. When the node is
 * lost (its beats are late, the quorum decided against it, a volume's process died with its locks) the whole of it is over, and
 * another one follows, with new generations, once nothing of the old one runs any more.
 *
 * With local heartbeat a region begins and ends with its volume. With global heartbeat the regions of cluster.conf begin with the incarnation, before
 * any volume is mounted, and end with it; one deadline holds for all volumes (docs/fencing.md).
 */
import { ClusterError, LunfsError } from '@lunfs/device';
import {
  type ClusterConfig, type ClusterNode, FenceDeadline, HEARTBEAT_MS, Heartbeat, NodeMap, ORDER_QUORUM, O2net, Quorum, type RegionFacts, type Scheduler, type StartLoop, type Timeouts, type Transport, type WatchdogPlace, hostScheduler, listen, refuseUnseen, regionThread, tcpTransport,
} from '@lunfs/o2cb';
import { JoinRouter } from '../cluster/join-router.js';
import type { OpenedVolume } from '../cluster/joining.js';
import type { Member } from '../cluster/member-server.js';
import type { Region } from './managed-volume.js';
import { randomGeneration } from './random.js';
import type { WatchdogGuard } from './watchdog-guard.js';

/** What a node stands on; a simulated one stands on something else. */
export interface NodeWorld {
  readonly scheduler: Scheduler;
  readonly transport: Transport;
  /** Returns what ends it. Throws O2NET_LISTEN. */
  listen(core: O2net, local: ClusterNode): Promise<() => void>;
  /** What beats in a volume's region. */
  beats(volume: OpenedVolume, watchdog?: WatchdogPlace): StartLoop;
  /** 64 random bits: a generation of the heartbeat. */
  generation(): bigint;
}

export const HOST: NodeWorld = {
  scheduler: hostScheduler, transport: tcpTransport, listen, generation: randomGeneration,
  beats: ({ device, region }, watchdog) => regionThread({ device, offset: region.offset, blockBytes: region.blockBytes }, watchdog),
};

/** How long to wait until this node is connected to all that beat; the kernel's glue asks as long (Linux 6.1 fs/ocfs2/stack_o2cb.c). */
const CONNECT_TRIES = 60;
const LOOK_MS = 1000;
/** Who connects may see our beats before we see his: what is not seen after so long is not early. */
const UNSEEN_MS = 5 * HEARTBEAT_MS;
/** Reconnect delays within which who cannot connect tries again. */
const KNOCKS = 2.5;

export interface StackOptions {
  readonly config: ClusterConfig;
  readonly local: ClusterNode;
  readonly timeouts: Timeouts;
  readonly watchdog?: WatchdogGuard;
  readonly log: (line: string) => void;
  /** The node is lost: nothing more may be done by this incarnation. Called once, from within whatever lost it. */
  readonly lost: (reason: string) => void;
  /** Nodes that beat could not be reached: the quorum decided against this node for it, or a mount was refused. */
  readonly cutOff?: () => void;
  /** Default: this host. */
  readonly world?: NodeWorld;
}

export class NodeStack {
  readonly member: Member;
  /** Global heartbeat: its regions. */
  #global: readonly Region[] = [];

  private constructor(readonly heartbeat: Heartbeat, readonly net: O2net, private readonly stopListening: () => void, joins: JoinRouter, private readonly options: StackOptions, private readonly world: NodeWorld) {
    this.member = { membership: heartbeat.membership, suspicion: heartbeat.suspicion, messenger: net, joins };
  }

  /** Listens for the other nodes; beats for no volume yet. Throws O2NET_LISTEN. */
  static async start(options: StackOptions): Promise<NodeStack> {
    const { config, local, timeouts, log, lost, cutOff, world = HOST } = options;
    const { scheduler, transport } = world;
    const heartbeat = new Heartbeat({
      node: local.number, mode: config.heartbeatMode, timeouts, configured: new NodeMap(config.nodes.map((node) => node.number)), scheduler, random: () => world.generation(),
      renewed: () => undefined,
      lost: ({ node, regions, reason }) => {
        log(`${node ? 'this node is fenced' : `region ${regions.join(', ')} is fenced`}: ${reason}`);
        if (node) lost(reason);
      },
      warning: (region, text) => log(`region ${region}: ${text}`),
    });
    const outvoted = (reason: string): void => {
      cutOff?.();
      heartbeat.giveUp(reason);
    };
    const quorum = new Quorum(local.number, scheduler, outvoted, (vote) => log(`not fencing this node: ${vote.connected} of ${vote.heartbeating} nodes that beat are connected`));
    heartbeat.membership.subscribe(ORDER_QUORUM, quorum);
    const net = new O2net({ nodes: config.nodes, times: timeouts, membership: heartbeat.membership, links: quorum, scheduler, transport, notice: ({ message }) => log(message), arriving: () => heartbeat.catchUp(), severed: (_node, reason) => heartbeat.giveUp(reason) });
    const stopListening = await world.listen(net, local);
    net.start();
    heartbeat.attach(net);
    return new NodeStack(heartbeat, net, stopListening, new JoinRouter(net, heartbeat.membership), options, world);
  }

  get lost(): boolean {
    return this.heartbeat.lost;
  }

  regions(): RegionFacts[] {
    return this.heartbeat.regions();
  }

  /** Beat in a volume's region; resolves when it is steady. Throws what the heartbeat refuses. */
  async beat(volume: OpenedVolume): Promise<Region> {
    const { uuid } = volume;
    const { watchdog } = this.options;
    const place = watchdog?.enter();
    const leave = (): void => void (place && watchdog?.leave(place));
    const beats = this.world.beats(volume, place);
    let deadline: FenceDeadline | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        this.heartbeat.start(uuid, (start, report) => {
          deadline = new FenceDeadline(start.fence);
          return beats(start, report);
        }, (error?: LunfsError) => {
          if (error) reject(error);
          else resolve();
        });
      });
    } catch (error) {
      leave();
      throw error;
    }
    let stopped: Promise<void> | undefined;
    return {
      deadline: deadline!,
      stop: () => (stopped ??= new Promise<void>((resolve) => {
        // After a loss the region is gone already.
        if (this.heartbeat.regions().some((one) => one.name === uuid)) this.heartbeat.stop(uuid, resolve);
        else resolve();
      }).then(leave)),
    };
  }

  /** Global heartbeat: beat in all its regions; resolves when all are steady. When one cannot be, none is left. Throws what the heartbeat refuses. */
  async beatGlobally(regions: readonly OpenedVolume[]): Promise<void> {
    const begun = await Promise.allSettled(regions.map((region) => this.beat(region)));
    this.#global = begun.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    const failed = begun.find((one) => one.status === 'rejected');
    if (failed === undefined) return;
    await this.leave();
    throw failed.reason as Error;
  }

  /** What a volume has of global heartbeat: the deadline of the node; it ends no region when it ends. Throws HEARTBEAT_FENCED. */
  globalRegion(): Region {
    const [first] = this.#global;
    if (first === undefined || this.lost) throw new ClusterError('HEARTBEAT_FENCED', 'this node is fenced and comes back soon; try again', {});
    return { deadline: first.deadline, stop: () => Promise.resolve() };
  }

  /** End the regions of global heartbeat, with a goodbye unless the node is lost. */
  async leave(): Promise<void> {
    await Promise.all(this.#global.map((region) => region.stop()));
  }

  /**
   * Before a volume is mounted: whoever was silent when we began to beat may only hang: it is dead, and its journal to be replayed, after its
   * time alone. `holders`: who has a slot; the others have nothing that could be recovered, they died long ago. Throws NODES_UNSURE.
   */
  async settled({ device, uuid }: OpenedVolume, holders: readonly number[]): Promise<void> {
    const { deadMs } = this.options.timeouts;
    for (let waited = 0; ; waited += LOOK_MS) {
      const { live } = this.member.membership;
      const unsure = [...new Set(this.#regionsOf(uuid).flatMap((region) => region.unsure))].filter((node) => holders.includes(node) && !live.has(node));
      if (unsure.length === 0) return;
      if (waited > 2 * deadMs) throw new ClusterError('NODES_UNSURE', `${device} cannot be mounted: whether node ${unsure.join(', ')} lives cannot be told; look at its heartbeat`, { device, nodes: unsure.join(',') }, undefined, 'ETIMEDOUT');
      await this.#pause();
    }
  }

  /** Before a domain is joined: all that beat must be reached (Linux 6.1 fs/ocfs2/stack_o2cb.c:o2cb_cluster_check). Throws NOT_CONNECTED. */
  async connected({ device }: OpenedVolume): Promise<void> {
    const { config, local } = this.options;
    const missing = (): number[] => {
      const connected = new Set(this.net.connected);
      return [...this.member.membership.live].filter((node) => node !== local.number && !connected.has(node));
    };
    for (let tries = 0; missing().length > 0; tries++) {
      if (tries === CONNECT_TRIES) {
        this.options.cutOff?.();
        const names = missing().map((number) => config.nodes.find((node) => node.number === number)?.name ?? String(number));
        throw new ClusterError('NOT_CONNECTED', `${device} cannot be mounted: ${names.join(', ')} beat${names.length === 1 ? 's' : ''} on it but cannot be reached; check network and firewall between the nodes`, { device, nodes: names.join(',') }, undefined, 'ETIMEDOUT');
      }
      await this.#pause();
    }
  }

  /**
   * Who is there on the network must be there on the disk: else this host or the other one has a copy of the LUN, and both would take the same
   * locks for different data. `members`: of the volume's domain, once it is joined. Patient for as long as it takes to see a beat. Throws NODE_NOT_ON_DISK.
   */
  async seen({ device, uuid }: OpenedVolume, members: readonly number[]): Promise<void> {
    const { config, local, timeouts } = this.options;
    for (let waited = 0; ; waited += LOOK_MS) {
      const { live } = this.member.membership;
      const beating = config.heartbeatMode === 'global' ? live : new NodeMap(this.#regionsOf(uuid).flatMap((region) => region.live.map(({ node }) => node)));
      const connected = new NodeMap([...this.net.connected, ...this.net.knocking(KNOCKS * timeouts.reconnectMs)]);
      try {
        refuseUnseen(device, { local: local.number, beating, connected, live, members: new NodeMap(members) });
        return;
      } catch (error) {
        if (!(error instanceof LunfsError) || waited >= UNSEEN_MS) throw error;
        await this.#pause();
      }
    }
  }

  /** The regions in which members of a volume beat. */
  #regionsOf(uuid: string): RegionFacts[] {
    return this.options.config.heartbeatMode === 'global' ? this.regions() : this.regions().filter(({ name }) => name === uuid);
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      this.world.scheduler.after(LOOK_MS, resolve);
    });
  }

  /** A process died with locks. What that means for the others is said at `Lunfsd.died`. */
  giveUp(reason: string): void {
    this.heartbeat.giveUp(reason);
  }

  /** Connections end. Volumes must have ended before: a node that beats and cannot be reached is fenced by the others. */
  close(): void {
    this.member.joins.close();
    this.net.stop();
    this.stopListening();
  }
}
