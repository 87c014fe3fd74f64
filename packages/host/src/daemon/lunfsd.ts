/**
 * lunfsd: one per host. It holds the node's membership (configuration, heartbeat, o2net, quorum) and the volumes that are mounted by it,
 * each served by a process of its own. It never touches a volume's blocks but the heartbeat's.
 */
import os from 'node:os';
import { ClusterError, UsageError, monotonicMs } from '@lunfs/device';
import { type ClusterConfig, type ClusterNode, DEFAULT_CLUSTER_CONF, type HeartbeatMode, type PeerStatistics, type RegionFacts, type Timeouts, type VolumeDevice, localNode, readClusterConf, readSettings, refuseClone, timeoutsOf } from '@lunfs/o2cb';
import { pause } from '../clock.js';
import { type OpenedVolume, inspectVolume, slotHolders } from '../cluster/joining.js';
import type { VolumeFacts } from '../host-volume.js';
import { daemonPaths, deviceIdentity, runDirectory } from '../run-directory.js';
import { clonesOf, volumesHere } from './devices.js';
import { onlyIncarnation } from './incarnation.js';
import { type Beating, type ManagedFacts, ManagedVolume, type NodeOf, type VolumeSpec } from './managed-volume.js';
import { HOST, NodeStack } from './node-stack.js';
import type { DaemonOptions } from './options.js';
import { readSlots, withinReach } from './reach.js';
import { Supervisor } from './supervisor.js';
import { WatchdogGuard } from './watchdog-guard.js';

/** A node as this one sees it. */
export interface NodeFacts extends ClusterNode {
  readonly local: boolean;
  /** Found alive by its heartbeat. */
  readonly live: boolean;
  readonly connection?: PeerStatistics;
}

/** What lunfsd tells of itself. */
export interface ClusterFacts {
  readonly pid: number;
  readonly cluster: string;
  readonly node: string;
  readonly number: number;
  readonly heartbeatMode: HeartbeatMode;
  readonly timeouts: Timeouts;
  readonly nodes: readonly NodeFacts[];
  /** Regions in which this node beats. */
  readonly regions: readonly RegionFacts[];
  readonly volumes: readonly ManagedFacts[];
}

/** Between two attempts to come back. */
const RETURN_PAUSE_MS = 1000;

export interface LunfsdOptions extends DaemonOptions {
  readonly log: (line: string) => void;
}

interface Identity {
  readonly config: ClusterConfig;
  readonly local: ClusterNode;
  readonly timeouts: Timeouts;
  readonly watchdog?: WatchdogGuard;
}

export class Lunfsd implements NodeOf {
  readonly #volumes = new Set<ManagedVolume>();
  /** The present incarnation, or the next one once there is one. */
  #stack: Promise<NodeStack>;
  #current: NodeStack | undefined;
  #leaving = false;
  /** Nodes that beat could not be reached, by the last that is known. */
  #cutOff = false;

  private constructor(private readonly identity: Identity, readonly runDirectory: string, readonly lockFd: number, readonly supervisor: Supervisor, readonly log: (line: string) => void) {
    this.#stack = this.#incarnation();
  }

  /** Throws what configuration and listening refuse, by name. */
  static async start(options: LunfsdOptions): Promise<Lunfsd> {
    const { config: file = DEFAULT_CLUSTER_CONF, settings: settingsFile, log } = options;
    const settings = readSettings(settingsFile === undefined ? undefined : [settingsFile]);
    const conf = readClusterConf(file);
    const named = options.cluster ?? (conf.clusters.length === 1 ? conf.clusters[0].name : settings.bootCluster);
    const config = conf.cluster(named);
    if (config.heartbeatMode === 'global' && config.regions.length === 0) {
      throw new UsageError('NO_REGIONS', 'EINVAL', `cluster "${config.name}" has heartbeat_mode = global, but ${file} names no heartbeat region: add one or, to survive the loss of one, three, the same on all nodes (lunfs o2cb add-heartbeat ${config.name} DEVICE)`, { file, cluster: config.name });
    }
    const local = localNode(config, options.node ?? os.hostname(), file);
    const timeouts = timeoutsOf(settings);
    const directory = runDirectory({ ...process.env, LUNFS_RUN_DIR: options.data ?? process.env.LUNFS_RUN_DIR });
    const device = options.watchdog ?? settings.watchdog;
    const watchdog = device === '' ? undefined : WatchdogGuard.of(device, timeouts, log);
    const lockFd = await onlyIncarnation(directory, timeouts);
    const supervisor = await Supervisor.start(daemonPaths(directory).fence, timeouts);
    const daemon = new Lunfsd({ config, local, timeouts, watchdog }, directory, lockFd, supervisor, log);
    await daemon.#stack;
    return daemon;
  }

  /** A volume process whose main thread stands still for longer than peers take a node for alive is as good as dead. */
  get stillMs(): number {
    return this.identity.timeouts.deadMs;
  }

  facts(): ClusterFacts {
    const { config, local, timeouts } = this.identity;
    const connections = new Map(this.#current?.net.statistics.map((one) => [one.node, one]));
    const live = this.#current?.member.membership.live;
    return {
      pid: process.pid, cluster: config.name, node: local.name, number: local.number, heartbeatMode: config.heartbeatMode, timeouts,
      nodes: config.nodes.map((node) => ({ ...node, local: node === local, live: live?.has(node.number) ?? false, connection: connections.get(node.number) })),
      regions: this.#current?.regions() ?? [], volumes: [...this.#volumes].map((volume) => volume.facts(monotonicMs())),
    };
  }

  /** Mount a volume of the cluster. Resolves when it is mounted; from then on it comes back by itself until it is unmounted. */
  async mount(spec: VolumeSpec): Promise<VolumeFacts> {
    if (this.#leaving) throw new ClusterError('DAEMON_LEAVES', 'lunfsd is leaving the cluster; start it again: lunfs up', {});
    const identity = deviceIdentity(spec.device);
    let same = this.#byIdentity(identity);
    if (same?.leaving) {
      await same.ended;
      same = this.#byIdentity(identity);
    }
    if (same !== undefined) throw new UsageError('ALREADY_MOUNTED', 'EBUSY', `${spec.device} is mounted on ${same.spec.mount.directory} already`, { device: spec.device, directory: same.spec.mount.directory });
    const volume = new ManagedVolume(this, spec);
    this.#volumes.add(volume);
    void volume.ended.then(() => this.#volumes.delete(volume));
    return volume.start();
  }

  /** End a volume, also one that is not mounted at the moment because it comes back from a fence. Throws NOT_MOUNTED. */
  async umount(device: string): Promise<void> {
    const volume = this.#byIdentity(deviceIdentity(device));
    if (volume === undefined) throw new UsageError('NOT_MOUNTED', 'EINVAL', `lunfsd has not mounted ${device}; lunfs status lists what it has`, { device });
    await volume.stop();
  }

  #byIdentity(identity: string): ManagedVolume | undefined {
    return [...this.#volumes].find((one) => deviceIdentity(one.spec.device) === identity);
  }

  /** Unmount everything and leave the cluster. */
  async leave(): Promise<void> {
    this.#leaving = true;
    await Promise.all([...this.#volumes].map((volume) => volume.stop()));
    await this.#current?.leave();
    this.#current?.close();
    await this.supervisor.close();
  }

  look(): Promise<readonly VolumeDevice[]> {
    const here = volumesHere();
    here.catch(() => undefined); // who uses it is told
    return here;
  }

  /** With global heartbeat the node waits as a whole, before it beats in any region (`#begin`). */
  async reach(volume: OpenedVolume, wanted: () => boolean): Promise<void> {
    if (this.identity.config.heartbeatMode === 'local') await this.#withinReach([volume], wanted);
  }

  async #withinReach(volumes: readonly OpenedVolume[], wanted: () => boolean): Promise<void> {
    if (!this.#cutOff) return;
    const { config: { nodes }, local } = this.identity;
    await withinReach({ local, nodes, ...HOST, look: () => Promise.all(volumes.map((volume) => readSlots(volume, nodes))), wanted, log: this.log });
    this.#cutOff = false;
  }

  async beat(volume: OpenedVolume, here: Promise<readonly VolumeDevice[]>): Promise<Beating> {
    await this.#checkVolume(volume, here);
    const stack = await this.#stack;
    const { config, local, timeouts } = this.identity;
    const global = config.heartbeatMode === 'global';
    const region = global ? stack.globalRegion() : await stack.beat(volume);
    try {
      await stack.settled(volume, await slotHolders(volume.device, volume.region.blockBytes));
      await stack.connected(volume);
      this.#cutOff = false;
      await stack.seen(volume, []);
    } catch (error) {
      await region.stop();
      throw error;
    }
    const { membership, suspicion } = stack.member;
    const live = [...membership.live], suspects = [...suspicion.suspects];
    return { region, member: stack.member, joining: { node: local.number, live, suspects, nodes: config.nodes, heartbeatMode: config.heartbeatMode, regions: global ? config.regions : [], timeouts } };
  }

  async admit(volume: OpenedVolume, members: readonly number[]): Promise<void> {
    await (await this.#stack).seen(volume, members);
  }

  /**
   * A process died with its locks. Peers hear of nodes, not of volumes: as long as this node beats anywhere in their sight they take
   * it for alive, and nobody recovers the dead process's locks and journal. So the node is given up as a whole, its other volumes with
   * it, and all come back as a new incarnation.
   */
  died(volume: ManagedVolume, why: string): void {
    this.log(`${volume.spec.device}: the volume process has ended (${why}) without leaving; its peers recover it`);
    this.#current?.giveUp(`the process of ${volume.spec.device} has died`);
  }

  #incarnation(): Promise<NodeStack> {
    const starting = this.#begin();
    void starting.then((stack) => {
      this.#current = stack;
    }, () => undefined);
    return starting;
  }

  async #begin(): Promise<NodeStack> {
    const { config } = this.identity;
    const regions = config.heartbeatMode === 'global' ? await regionsOf(config) : [];
    const stack = await NodeStack.start({ ...this.identity, log: this.log, lost: () => this.#lost(stack), cutOff: () => (this.#cutOff = true) });
    try {
      await this.#withinReach(regions, () => true);
      await stack.beatGlobally(regions);
    } catch (error) {
      stack.close();
      throw error;
    }
    if (regions.length > 0) this.log(`global heartbeat on ${regions.map(({ device }) => device).join(', ')}`);
    return stack;
  }

  /** Nothing of this incarnation may go on; the next one begins when nothing of it runs. */
  #lost(old: NodeStack): void {
    // It was lost before it had begun: whoever began it hears of it by that.
    if (old !== this.#current) return;
    const volumes = [...this.#volumes];
    for (const volume of volumes) volume.kill();
    this.#stack = (async () => {
      await Promise.all(volumes.map((volume) => volume.gone));
      await old.leave();
      old.close();
      for (;;) {
        try {
          return await this.#incarnation();
        } catch (error) {
          this.log(`cannot come back yet: ${(error as Error).message}`);
          await pause(RETURN_PAUSE_MS);
        }
      }
    })();
  }

  async #checkVolume({ device, uuid, stack }: OpenedVolume, here: Promise<readonly VolumeDevice[]>): Promise<void> {
    const { name, heartbeatMode } = this.identity.config;
    const refuse = (code: string, message: string): never => {
      throw new ClusterError(code, message, { device, uuid, cluster: name }, undefined, 'EINVAL');
    };
    if (stack !== undefined && stack.name !== 'o2cb') refuse('OTHER_STACK', `${device} belongs to the cluster stack "${stack.name}", this host runs o2cb; tunefs.ocfs2 --update-cluster-stack changes it`);
    if (stack !== undefined && stack.cluster !== name) refuse('OTHER_CLUSTER', `${device} belongs to cluster "${stack.cluster}", this host is a member of "${name}"; tunefs.ocfs2 --update-cluster-stack changes it`);
    const global = stack?.globalHeartbeat ?? false;
    if (global !== (heartbeatMode === 'global')) refuse('OTHER_HEARTBEAT', `${device} is made for ${global ? 'global' : 'local'} heartbeat, cluster "${name}" has heartbeat_mode = ${heartbeatMode}`);
    const mounted = [...this.#volumes].flatMap((one) => (one.uuid === undefined ? [] : [{ device: one.spec.device, uuid: one.uuid }]));
    refuseClone(device, uuid, [...mounted, ...(await clonesOf(device, uuid, here))]);
  }
}

/** Where the regions of global heartbeat are on this host. Throws HEARTBEAT_DEVICE, DUPLICATE_UUID. */
async function regionsOf({ name, regions }: ClusterConfig): Promise<OpenedVolume[]> {
  const here = await volumesHere();
  const found: OpenedVolume[] = [];
  for (const uuid of regions) {
    const device = here.find((one) => one.uuid === uuid)?.device;
    if (device === undefined) {
      throw new ClusterError('HEARTBEAT_DEVICE', `no device of this host carries the volume ${uuid}, on which cluster "${name}" beats: attach that LUN (lunfs info DEVICE shows a volume's UUID), or take the region out of cluster.conf on all nodes`, { uuid, cluster: name }, undefined, 'ENODEV');
    }
    refuseClone(device, uuid, await clonesOf(device, uuid, here));
    found.push(await inspectVolume(device));
  }
  return found;
}
