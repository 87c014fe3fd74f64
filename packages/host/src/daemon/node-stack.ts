/**
 * One incarnation of this node in its cluster: heartbeat, o2net, quorum and what answers for domains that are not here. When the node is
 * lost (its beats are late, the quorum decided against it, a volume's process died with its locks) the whole of it is over, and
 * another one follows, with new generations, once nothing of the old one runs any more.
 */
import type { LunfsError } from '@lunfs/device';
import { type ClusterConfig, type ClusterNode, FenceDeadline, Heartbeat, NodeMap, ORDER_QUORUM, O2net, Quorum, type RegionFacts, type Timeouts, hostScheduler, listen, regionThread, tcpTransport } from '@lunfs/o2cb';
import { JoinRouter } from '../cluster/join-router.js';
import type { OpenedVolume } from '../cluster/joining.js';
import type { Member } from '../cluster/member-server.js';
import type { Region } from './managed-volume.js';
import { randomGeneration } from './random.js';

export interface StackOptions {
  readonly config: ClusterConfig;
  readonly local: ClusterNode;
  readonly timeouts: Timeouts;
  readonly log: (line: string) => void;
  /** The node is lost: nothing more may be done by this incarnation. Called once, from within whatever lost it. */
  readonly lost: (reason: string) => void;
}

export class NodeStack {
  readonly member: Member;

  private constructor(readonly heartbeat: Heartbeat, readonly net: O2net, private readonly stopListening: () => void, joins: JoinRouter) {
    this.member = { membership: heartbeat.membership, suspicion: heartbeat.suspicion, messenger: net, joins };
  }

  /** Listens for the other nodes; beats for no volume yet. Throws O2NET_LISTEN. */
  static async start({ config, local, timeouts, log, lost }: StackOptions): Promise<NodeStack> {
    const heartbeat = new Heartbeat({
      node: local.number, mode: config.heartbeatMode, timeouts, configured: new NodeMap(config.nodes.map((node) => node.number)), scheduler: hostScheduler, random: randomGeneration,
      renewed: () => undefined,
      lost: ({ node, regions, reason }) => {
        log(`${node ? 'this node is fenced' : `region ${regions.join(', ')} is fenced`}: ${reason}`);
        if (node) lost(reason);
      },
      warning: (region, text) => log(`region ${region}: ${text}`),
    });
    const quorum = new Quorum(local.number, hostScheduler, (reason) => heartbeat.giveUp(reason), (vote) => log(`not fencing this node: ${vote.connected} of ${vote.heartbeating} nodes that beat are connected`));
    heartbeat.membership.subscribe(ORDER_QUORUM, quorum);
    const net = new O2net({ nodes: config.nodes, times: timeouts, membership: heartbeat.membership, links: quorum, scheduler: hostScheduler, transport: tcpTransport, notice: ({ message }) => log(message) });
    const stopListening = await listen(net, local);
    net.start();
    heartbeat.attach(net);
    return new NodeStack(heartbeat, net, stopListening, new JoinRouter(net, heartbeat.membership));
  }

  get lost(): boolean {
    return this.heartbeat.lost;
  }

  regions(): RegionFacts[] {
    return this.heartbeat.regions();
  }

  /** Beat in a volume's region; resolves when it is steady. Throws what the heartbeat refuses. */
  async beat({ device, uuid, region }: OpenedVolume): Promise<Region> {
    const thread = regionThread({ device, offset: region.offset, blockBytes: region.blockBytes });
    let deadline: FenceDeadline | undefined;
    await new Promise<void>((resolve, reject) => {
      this.heartbeat.start(uuid, (start, report) => {
        deadline = new FenceDeadline(start.fence);
        return thread(start, report);
      }, (error?: LunfsError) => {
        if (error) reject(error);
        else resolve();
      });
    });
    return {
      deadline: deadline!,
      stop: () => new Promise<void>((resolve) => {
        // After a loss the region is gone already.
        if (this.heartbeat.regions().some((one) => one.name === uuid)) this.heartbeat.stop(uuid, resolve);
        else resolve();
      }),
    };
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
