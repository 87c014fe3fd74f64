/**
 * A volume's domain of o2dlm, as the file system asks for it: the `Dlm` port of ocfs2 over a domain of o2cb, which never import each
 * other. Also what operators are shown of it.
 */
import { type DlmDomain, type DomainView, Dlm as O2dlm, type ResourceView, type Scheduler, hostScheduler } from '@lunfs/o2cb';
import type { ClusterMember, Dlm, DlmEvents, DlmLock, DlmRequest, LockLevel } from '@lunfs/ocfs2';
import type { ClusterSide } from './cluster-side.js';
import type { Joining } from './joining.js';
import type { RemoteMember } from './remote-member.js';

/** Lock types whose value block means something: inodes, quota, orphan scan, trim (Linux 6.1 fs/ocfs2/dlmglue.c, LOCK_TYPE_USES_LVB). */
const VALUE_TYPES = new Set(['M', 'Q', 'P', 'I']);
const LEVELS: Readonly<Record<number, string>> = { 0: 'NL', 3: 'PR', 5: 'EX' };

/** What `lunfs cluster status` shows of a domain. */
export interface DomainFacts {
  readonly members: readonly number[];
  /** Dead members that are not recovered yet. */
  readonly recovering: readonly number[];
  readonly recoveryMaster?: number;
  /** Resources known here, those this node is the master of, and locks of this node. */
  readonly resources: number;
  readonly mastered: number;
  readonly locks: number;
}

/** A lock resource as `lunfs locks` shows it. */
export interface LockFacts {
  /** Bytes that are no printable ASCII as \xNN. */
  readonly name: string;
  readonly master: string;
  /** What this node holds. */
  readonly level: string;
  /** Granted, converting and blocked locks, `node:level` each; only this node's own where it is not the master. */
  readonly queues: readonly [string, string, string];
  /** Locks that wait. */
  readonly waiting: number;
}

export interface LockQuery {
  readonly limit?: number;
  /** Only locks that somebody waits for. */
  readonly busy?: boolean;
}

export class VolumeDomain implements ClusterMember {
  readonly node: number;
  readonly dlm: Dlm;
  readonly #deaths = new Set<(node: number) => void>();
  readonly #domain: DlmDomain;
  readonly #hosts: ReadonlyMap<number, string>;

  private constructor(private readonly member: RemoteMember, private readonly manager: O2dlm, name: string, nodes: Joining['nodes'], private readonly log: (line: string) => void) {
    this.node = member.local;
    this.#hosts = new Map(nodes.map(({ number, name: host }) => [number, host]));
    this.#domain = manager.domain(name, { evicted: (node) => this.#died(node) });
    this.dlm = { lock: (resource, level, events, request) => this.#lock(resource, level, events, request) };
  }

  /** Be a member of the volume's domain. The device must be this process's alone. Rejects with what lunfsd or the domain refuses. */
  static async join(side: Pick<ClusterSide, 'join' | 'admit'>, device: string, logicalBlockSize: number | undefined, log: (line: string) => void, scheduler: Scheduler = hostScheduler): Promise<VolumeDomain> {
    const { volume, joining, member } = await side.join(device, logicalBlockSize);
    const domain = new VolumeDomain(member, lockManager(member, joining, log, scheduler), volume.uuid, joining.nodes, log);
    await new Promise<void>((resolve, reject) => domain.#domain.join((error) => (error ? reject(error) : resolve())));
    try {
      await side.admit(domain.#domain.inspect().members);
    } catch (error) {
      await domain.leave();
      throw error;
    }
    return domain;
  }

  /** Name of a node's host, by cluster.conf. */
  hostOf(node: number): string | undefined {
    return this.#hosts.get(node);
  }

  /** Number of a host, by cluster.conf. */
  nodeOf(host: string): number | undefined {
    return [...this.#hosts].find(([, name]) => name === host)?.[0];
  }

  live(): readonly number[] {
    return [...this.member.live];
  }

  onDeath(listener: (node: number) => void): () => void {
    this.#deaths.add(listener);
    return () => void this.#deaths.delete(listener);
  }

  suspects(): boolean {
    return this.member.suspicion.suspects.lowest !== undefined;
  }

  onSuspicion(listener: () => void): () => void {
    return this.member.suspicion.onSuspicion(listener);
  }

  /** Leave in good order; all locks must have been given up. */
  async leave(): Promise<void> {
    await new Promise<void>((resolve, reject) => this.#domain.leave((error) => (error ? reject(error) : resolve())));
    this.manager.close();
  }

  facts(): DomainFacts {
    const view: DomainView = this.#domain.inspect();
    let mastered = 0;
    let locks = 0;
    for (const resource of this.#domain.resources()) {
      if (resource.owner === this.node) mastered++;
      for (const queue of [resource.granted, resource.converting, resource.blocked]) locks += queue.filter((lock) => lock.node === this.node).length;
    }
    return { members: view.members, recovering: view.dead, recoveryMaster: view.recovery?.master, resources: view.resources, mastered, locks };
  }

  /** Those that most locks wait for first, then those that most nodes use. */
  locks({ limit = Number.POSITIVE_INFINITY, busy = false }: LockQuery = {}): LockFacts[] {
    const weight = (one: ResourceView): number => 1e6 * (one.converting.length + one.blocked.length) + 1e3 * one.references.length + one.granted.length;
    const found = [...this.#domain.resources()].filter((one) => !busy || one.converting.length + one.blocked.length > 0);
    return found.sort((a, b) => weight(b) - weight(a)).slice(0, limit).map((one) => this.#shown(one));
  }

  #shown({ name, owner, granted, converting, blocked }: ResourceView): LockFacts {
    const shown = (locks: ResourceView['granted']): string => locks.map((lock) => `${lock.node}:${LEVELS[lock.level] ?? lock.level}${lock.converting === undefined ? '' : `>${LEVELS[lock.converting] ?? lock.converting}`}`).join(' ');
    const mine = [...granted, ...converting].find((lock) => lock.node === this.node);
    return {
      name: name.replaceAll(/[^\x21-\x7e]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16).padStart(2, '0')}`), master: owner === undefined ? '?' : String(owner),
      level: mine === undefined ? '-' : (LEVELS[mine.level] ?? String(mine.level)), queues: [shown(granted), shown(converting), shown(blocked)], waiting: converting.length + blocked.length,
    };
  }

  #lock(name: string, level: LockLevel, events: DlmEvents, request?: DlmRequest): DlmLock {
    return this.#domain.lock(name, level, events, { trylock: request?.trylock, valueBlock: VALUE_TYPES.has(name[0]) });
  }

  #died(node: number): void {
    this.log(`node ${node} has died: its slot is recovered`);
    for (const listener of this.#deaths) listener(node);
  }
}

function lockManager(member: RemoteMember, { nodes, regions }: Joining, log: (line: string) => void, scheduler: Scheduler): O2dlm {
  return new O2dlm({
    scheduler, membership: member, messenger: member, nodes: () => nodes.map((node) => ({ node: node.number, address: ipNumber(node.address), port: node.port })), regions: () => regions, recent: () => member.live,
    log: (domain, event) => log(`domain ${domain}: ${Object.values(event).join(' ')}`),
  });
}

/** A dotted quad as one number, its first part the highest. */
function ipNumber(address: string): number {
  return address.split('.').reduce((number, part) => number * 256 + Number(part), 0);
}
