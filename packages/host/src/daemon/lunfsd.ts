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
import { freeMountPoint } from '../mount-point.js';
import { daemonPaths, deviceIdentity, runDirectory } from '../run-directory.js';
import { type Declaration, DeclaredState, stateDirectory } from './declared.js';
import { clonesOf, deviceOf, volumesHere } from './devices.js';
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

/** For how long a mount is declared: until it is ended by `lunfs umount`, or until the next boot at most. */
export type Persistence = 'always' | 'boot';

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
  /** Resolves when each volume that is declared has been tried once. */
  restored: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly identity: Identity, private readonly declared: DeclaredState, readonly runDirectory: string, readonly lockFd: number, readonly supervisor: Supervisor, readonly log: (line: string) => void,
  ) {
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
    const declared = DeclaredState.open(stateDirectory(options.stateDirectory, { ...process.env, LUNFS_RUN_DIR: options.data ?? process.env.LUNFS_RUN_DIR }));
    const lockFd = await onlyIncarnation(directory, timeouts);
    const supervisor = await Supervisor.start(daemonPaths(directory).fence, timeouts);
    const daemon = new Lunfsd({ config, local, timeouts, watchdog }, declared, directory, lockFd, supervisor, log);
    await daemon.#stack;
    daemon.#restore();
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
      regions: this.#current?.regions() ?? [], volumes: [...[...this.#volumes].map((volume) => volume.facts(monotonicMs())), ...this.#resting().map(restingFacts)],
    };
  }

  /**
   * Mount a volume of the cluster. Resolves when it is mounted and that is declared; from then on it comes back by itself until it is unmounted.
   * What is to come back there anyway is tried at once.
   */
  async mount(spec: VolumeSpec, persistence: Persistence): Promise<VolumeFacts> {
    if (this.#leaving) throw new ClusterError('DAEMON_LEAVES', 'lunfsd is leaving the cluster; start it again: lunfs up', {});
    const { directory, allowOther = false, seal = false, options = [] } = spec.mount;
    const leaving = this.#byDevice(spec.device);
    if (leaving?.leaving) await leaving.ended;
    // Its device may have another name by now.
    const returning = [...this.#volumes].find((one) => one.returning && one.spec.mount.directory === directory);
    if (returning !== undefined) {
      const facts = await returning.soon();
      if (this.#byDevice(spec.device) === returning) return facts;
      throw new UsageError('DIRECTORY_DECLARED', 'EBUSY', `${directory} is the mount point of the volume ${facts.uuid} on ${facts.device}; ${spec.device} is another one`, { device: spec.device, directory });
    }
    const same = this.#byDevice(spec.device);
    if (same !== undefined) throw new UsageError('ALREADY_MOUNTED', 'EBUSY', `${spec.device} is mounted on ${same.spec.mount.directory} already`, { device: spec.device, directory: same.spec.mount.directory });
    const volume = new ManagedVolume(this, spec);
    this.#volumes.add(volume);
    void volume.ended.then(() => this.#volumes.delete(volume));
    const facts = await volume.start();
    try {
      await this.declared.put({ uuid: facts.uuid, device: spec.device, directory, allowOther, seal, options, boot: persistence === 'boot' ? this.declared.boot : undefined });
    } catch (error) {
      await volume.stop();
      throw error;
    }
    this.#watchEnd(volume);
    return facts;
  }

  /** End a volume, also one that is not mounted at the moment, and forget that it was to be. `where`: device, directory or UUID. Throws NOT_MOUNTED. */
  async umount(where: string): Promise<void> {
    const volume = this.#byDevice(where) ?? this.#byName(where) ?? [...this.#volumes].find((one) => one.device === where);
    if (volume === undefined && !(await this.forget(where))) {
      throw new UsageError('NOT_MOUNTED', 'EINVAL', `lunfsd has not mounted ${where}; lunfs status lists what it has`, { where });
    }
    if (volume?.uuid !== undefined) await this.declared.remove(volume.uuid);
    await volume?.stop();
    if (volume !== undefined) await freeMountPoint(volume.spec.mount.directory);
  }

  /** A volume that was unmounted is not to be mounted again. `where`: directory or UUID. False if that was not declared. */
  async forget(where: string): Promise<boolean> {
    const volume = this.#byName(where);
    if (volume?.leaving) await volume.ended;
    const found = this.declared.mounts.find(({ uuid, directory }) => uuid === where || directory === where);
    if (found === undefined) return false;
    await this.declared.remove(found.uuid);
    await freeMountPoint(found.directory);
    return true;
  }

  #byName(where: string): ManagedVolume | undefined {
    return [...this.#volumes].find((one) => one.uuid === where || one.spec.mount.directory === where);
  }

  /** One that is to come back has no device: another volume may bear its name by now. */
  #byDevice(device: string): ManagedVolume | undefined {
    const identity = identityIfThere(device);
    return [...this.#volumes].find((one) => !one.returning && (one.device === device || (identity !== undefined && identityIfThere(one.device) === identity)));
  }

  /** What is declared begins to come back; nothing waits for anything else. */
  #restore(): void {
    this.restored = Promise.all(this.declared.mounts.filter(({ unmounted }) => unmounted === undefined).map(async ({ uuid, device, ...mount }) => {
      const volume = new ManagedVolume(this, { device, mount }, uuid);
      this.#volumes.add(volume);
      this.#watchEnd(volume);
      await volume.restore();
    }));
  }

  /** A volume that ends by umount(8) rests. */
  #watchEnd(volume: ManagedVolume): void {
    void volume.ended.then(async () => {
      this.#volumes.delete(volume);
      if (!this.#leaving && volume.uuid !== undefined) await this.declared.unmounted(volume.uuid);
    }).catch((error: unknown) => this.log(`${volume.device}: ${(error as Error).message}`));
  }

  returned({ uuid, device }: ManagedVolume): void {
    const found = uuid === undefined ? undefined : this.declared.of(uuid);
    if (found !== undefined && found.device !== device) void this.declared.put({ ...found, device }).catch((error: unknown) => this.log((error as Error).message));
  }

  /** What is declared, and was unmounted by hand. */
  #resting(): readonly Declaration[] {
    return this.declared.mounts.filter(({ uuid, unmounted }) => unmounted !== undefined && ![...this.#volumes].some((one) => one.uuid === uuid));
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

  locate(uuid: string, seen: string, here: Promise<readonly VolumeDevice[]>): Promise<string> {
    return deviceOf(uuid, seen, here);
  }

  async beat(volume: OpenedVolume, here: Promise<readonly VolumeDevice[]>, managed: ManagedVolume): Promise<Beating> {
    await this.#checkVolume(volume, here, managed);
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
    this.log(`${volume.device}: the volume process has ended (${why}) without leaving; its peers recover it`);
    this.#current?.giveUp(`the process of ${volume.device} has died`);
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

  async #checkVolume({ device, uuid, stack }: OpenedVolume, here: Promise<readonly VolumeDevice[]>, managed: ManagedVolume): Promise<void> {
    const { name, heartbeatMode } = this.identity.config;
    const refuse = (code: string, message: string): never => {
      throw new ClusterError(code, message, { device, uuid, cluster: name }, undefined, 'EINVAL');
    };
    if (stack !== undefined && stack.name !== 'o2cb') refuse('OTHER_STACK', `${device} belongs to the cluster stack "${stack.name}", this host runs o2cb; tunefs.ocfs2 --update-cluster-stack changes it`);
    if (stack !== undefined && stack.cluster !== name) refuse('OTHER_CLUSTER', `${device} belongs to cluster "${stack.cluster}", this host is a member of "${name}"; tunefs.ocfs2 --update-cluster-stack changes it`);
    const global = stack?.globalHeartbeat ?? false;
    if (global !== (heartbeatMode === 'global')) refuse('OTHER_HEARTBEAT', `${device} is made for ${global ? 'global' : 'local'} heartbeat, cluster "${name}" has heartbeat_mode = ${heartbeatMode}`);
    const others = [...this.#volumes].filter((one) => one !== managed);
    const mounted = others.flatMap((one) => (one.uuid === undefined || !one.open ? [] : [{ device: one.device, uuid: one.uuid }]));
    refuseClone(device, uuid, [...mounted, ...(await clonesOf(device, uuid, here))]);
    const { directory } = managed.spec.mount;
    const elsewhere = others.find((one) => one.uuid === uuid)?.spec.mount.directory;
    if (elsewhere !== undefined) refuse('DECLARED_ELSEWHERE', `${device} carries the volume ${uuid}, which is to be mounted on ${elsewhere}: lunfs umount ${elsewhere} forgets that`);
    const first = [...others.map((one) => ({ uuid: one.uuid, directory: one.spec.mount.directory })), ...this.declared.mounts].find((one) => one.directory === directory && one.uuid !== uuid);
    if (first !== undefined) refuse('DIRECTORY_DECLARED', `${directory} is declared to be the mount point of ${first.uuid ?? 'another volume'}: choose another one, or lunfs umount ${directory} forgets that`);
  }
}

/** Undefined: there is no such device now. */
function identityIfThere(device: string): string | undefined {
  try {
    return deviceIdentity(device);
  } catch (error) {
    if (error instanceof UsageError) return undefined;
    throw error;
  }
}

function restingFacts({ uuid, device, directory }: Declaration): ManagedFacts {
  return { device, directory, state: 'unmounted', uuid, fenced: 0, reason: 'unmounted by hand; it comes back at the next boot' };
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
