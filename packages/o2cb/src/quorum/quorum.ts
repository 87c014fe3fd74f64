/**
 * Who must go when nodes beat on a common disk but cannot all talk to each other (Linux 6.1 fs/ocfs2/cluster/quorum.c;
 * cluster-protocols.md 3). Told of beats and connections, it decides once nothing is left to wait for: an unreachable node that dies of
 * its own accord decides nothing, one that beats on does.
 *
 * A node *holds* the decision back while one of heartbeat and connection is up and the other is not yet, or no longer.
 */
import { NodeMap } from '../node-map.js';
import type { LinkListener, MembershipListener, Scheduler } from '../ports.js';

/** What the nodes looked like when it was decided. Both counts include this node. */
export interface QuorumVote {
  readonly heartbeating: number;
  readonly connected: number;
  /** The lowest node that beats, and whether we reach it (or are it). */
  readonly lowest: number;
  readonly lowestReachable: boolean;
}

/** Why this node must go; undefined: it stays. */
export function verdict({ heartbeating, connected, lowest, lowestReachable }: QuorumVote): string | undefined {
  const half = Math.floor(heartbeating / 2);
  const needed = heartbeating % 2 === 1 ? half + 1 : half;
  if (connected < needed) {
    return `of ${heartbeating} nodes that beat on the disk this one reaches ${connected}, itself included, and ${needed} are needed`;
  }
  if (heartbeating % 2 === 0 && connected === half && !lowestReachable) {
    return `of ${heartbeating} nodes that beat on the disk this one reaches half, and not node ${lowest}, the lowest: the other half goes on`;
  }
  return undefined;
}

/**
 * The quorum of this node. Subscribed to the membership before o2net (ORDER_QUORUM), and told by o2net of connections; `lost` is called
 * when this node must go, `kept` when a decision left it alive.
 */
export class Quorum implements MembershipListener, LinkListener {
  readonly #beating = new NodeMap();
  readonly #connected = new NodeMap();
  readonly #holding = new NodeMap();
  #pending = false;

  constructor(
    private readonly local: number,
    private readonly scheduler: Scheduler,
    private readonly lost: (reason: string, vote: QuorumVote) => void,
    private readonly kept: (vote: QuorumVote) => void = () => undefined,
  ) {}

  nodeUp(node: number): void {
    this.#beating.add(node);
    this.#hold(node, !this.#connected.has(node));
  }

  nodeDown(node: number): void {
    this.#beating.delete(node);
    this.#hold(node, false);
  }

  /** The connection to a node stands, or is heard again after it was idle; for this node: o2net runs. */
  connUp(node: number): void {
    this.#connected.add(node);
    this.#hold(node, !this.#beating.has(node));
  }

  /** It is lost or idle. */
  connError(node: number): void {
    if (!this.#connected.has(node)) return;
    this.#connected.delete(node);
    if (this.#beating.has(node)) this.#hold(node, true);
  }

  /** The node beats on, long after its connection was lost. */
  stillUp(node: number): void {
    this.#pending = true;
    this.#hold(node, false);
  }

  #hold(node: number, hold: boolean): void {
    if (this.#holding.has(node) === hold) return;
    if (hold) return this.#holding.add(node);
    this.#holding.delete(node);
    if (this.#holding.size > 0 || !this.#pending) return;
    this.#pending = false;
    // Not in the middle of what is being told: o2net has not finished with the event.
    this.scheduler.after(0, () => this.#decide());
  }

  #decide(): void {
    const lowest = this.#beating.lowest;
    if (lowest === undefined || !this.#beating.has(this.local) || this.#beating.size === 1) return;
    const vote = { heartbeating: this.#beating.size, connected: this.#connected.size, lowest, lowestReachable: this.#connected.has(lowest) };
    const reason = verdict(vote);
    if (reason === undefined) this.kept(vote);
    else this.lost(reason, vote);
  }
}
