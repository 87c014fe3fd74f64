/**
 * A cluster in one process: nodes with a mount, a cache and a way to the device each, over one lock manager and one LUN.
 * Nodes can die: nothing of them reaches the LUN any more, but for what was under way, by the dice; the others are told
 * before the lock manager lets them have what was the dead node's.
 */
import { type BlockDevice, type MemoryDevice, Random } from '@lunfs/device';
import { EX, MemoryDlm } from '../../src/locking/index.js';
import { type ClusterMember, type MountOptions, Volume } from '../../src/volume/index.js';
import { StepClock } from './crash.js';
import { TestTimers } from './tiny.js';
import { type VolumeSpec, makeVolume } from './volume.js';

export const CLUSTER_ARGS = ['-b', '4096', '-C', '4096', '-N', '4', '-J', 'size=4M', '--cluster-stack=o2cb', '--cluster-name=test'] as const;
export const CLUSTER_VOLUME: VolumeSpec = { size: 160 << 20, mkfsArgs: CLUSTER_ARGS };

interface Change {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** One host's way to the LUN. Requests take a few turns of the event loop and end in any order. */
export class HostDevice implements BlockDevice {
  readonly name: string;
  readonly logicalBlockSize: number;
  readonly readOnly = false;
  /** Are discards taken? On real hosts of a cluster they are not (volume/trim.ts). */
  canDiscard = false;
  alive = true;
  /** Requests begun, and writes done. */
  requests = 0;
  writes = 0;
  /** Writes at these offsets are reported as done and are not. */
  loses: ((offset: number) => boolean) | undefined;
  /** Awaited before a write is done. */
  beforeWrite: ((offset: number) => Promise<void>) | undefined;
  /** Called with what a read got, before the reader has it. */
  onRead: ((offset: number, got: Uint8Array) => void) | undefined;
  readonly #inFlight = new Set<Change>();

  constructor(private readonly lun: MemoryDevice, node: number, private readonly random: Random) {
    this.name = `lun of node ${node}`;
    this.logicalBlockSize = lun.logicalBlockSize;
  }

  /** Bytes this host sees of the LUN; undefined: all. */
  sees: number | undefined;

  get size(): number {
    return this.sees ?? this.lun.size;
  }

  /** What is under way happens, in whole or up to a logical block, or not at all. */
  die(): void {
    this.alive = false;
    for (const { offset, bytes } of this.#inFlight) {
      const blocks = bytes.length / this.logicalBlockSize;
      const made = this.random.chance(0.3) ? this.random.int(blocks + 1) : this.random.chance(0.5) ? blocks : 0;
      if (made > 0) this.lun.writeSync(offset, bytes.subarray(0, made * this.logicalBlockSize));
    }
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    await this.#turns();
    this.lun.readSync(offset, into);
    this.onRead?.(offset, into);
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    const change = { offset, bytes: from.slice() };
    this.#inFlight.add(change);
    await this.#turns();
    await this.beforeWrite?.(offset);
    this.#inFlight.delete(change);
    this.writes++;
    if (this.loses?.(offset) !== true) this.lun.writeSync(offset, change.bytes);
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    await this.write(offset, new Uint8Array(length));
  }

  async flush(): Promise<void> {
    await this.#turns();
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.#turns();
    this.lun.discardSync(offset, length);
  }

  async close(): Promise<void> {}

  /** Never ends on a dead node. */
  async #turns(): Promise<void> {
    this.requests++;
    for (let n = this.random.int(3); n > 0 && this.alive; n--) await new Promise((resolve) => setImmediate(resolve));
    if (!this.alive) await new Promise(() => undefined);
  }
}

export interface ClusterNode {
  readonly number: number;
  readonly device: HostDevice;
  readonly timers: TestTimers;
  readonly volume: Volume;
}

/** A node that is one of several, whether its mount is complete or not. */
interface Host {
  readonly device: HostDevice;
  readonly listeners: Set<(node: number) => void>;
  /** Told when `suspects` changes. */
  readonly doubters: Set<() => void>;
  suspects: boolean;
  volume?: Volume;
}

export class TestCluster {
  readonly dlm: MemoryDlm;
  readonly #hosts = new Map<number, Host>();
  /** Do nodes mind who may be dead? Without it there is a window, as among kernel nodes. */
  heedDoubt = true;

  constructor(readonly lun: MemoryDevice, readonly random: Random) {
    const dice = random.fork();
    this.dlm = new MemoryDlm({ defer: (fn) => (dice.chance(0.7) ? queueMicrotask(fn) : void setImmediate(fn)), pick: (n) => dice.int(n) });
  }

  static async make(seed: number, spec = CLUSTER_VOLUME): Promise<TestCluster> {
    return new TestCluster(await makeVolume(spec), new Random(seed));
  }

  get live(): number[] {
    return [...this.#hosts.keys()];
  }

  /** Mount on a node; node numbers are free to choose. `onStuck` throws by default: it must not come. */
  async mount(number: number, options: Omit<MountOptions, 'cluster'> = {}): Promise<ClusterNode> {
    const host: Host = { device: new HostDevice(this.lun, number, this.random.fork()), listeners: new Set(), doubters: new Set(), suspects: false };
    this.#hosts.set(number, host);
    const cluster: ClusterMember = {
      node: number, dlm: this.dlm.node(number), live: () => this.live,
      onDeath: (listener) => {
        host.listeners.add(listener);
        return () => void host.listeners.delete(listener);
      },
      suspects: () => host.suspects && this.heedDoubt,
      onSuspicion: (listener) => {
        host.doubters.add(listener);
        return () => void host.doubters.delete(listener);
      },
    };
    const timers = new TestTimers();
    const onStuck = (reason: Error): void => {
      if (host.device.alive) throw reason;
    };
    const volume = await Volume.mount(host.device, { clock: new StepClock(), timers, random: this.random.fork(), cacheBlocks: 2000, onStuck, ...options, cluster });
    host.volume = volume;
    return { number, device: host.device, timers, volume };
  }

  /** A clean leave: afterwards the node has no lock, else o2dlm would not let it go. */
  async unmount({ number, volume }: ClusterNode): Promise<void> {
    await volume.unmount();
    this.#hosts.delete(number);
    const left = this.dlm.locksOf(number);
    if (left > 0) throw new Error(`node ${number} leaves with ${left} locks`);
  }

  /** Resolves when a node's host has made so many requests, mounting or mounted. */
  async requests(number: number, count: number): Promise<void> {
    const device = this.#hosts.get(number)?.device;
    while (device !== undefined && device.requests < count && this.#hosts.get(number)?.device === device) await new Promise((resolve) => setImmediate(resolve));
  }

  /**
   * The host of this node loses power, mounting or mounted. `late`: nodes that learn of it only when the returned function is called, after
   * others have given them what was the dead node's; till then they only suspect it.
   */
  kill(number: number, late: readonly number[] = []): () => void {
    const host = this.#hosts.get(number);
    if (host === undefined) throw new Error(`node ${number} is not there`);
    host.device.die();
    this.#hosts.delete(number);
    const later = late.flatMap((node) => this.#hosts.get(node) ?? []);
    for (const other of later) doubt(other, true);
    const tell = (other: Host): void => {
      for (const listener of [...other.listeners]) listener(number);
    };
    for (const other of this.#hosts.values()) if (!later.includes(other)) tell(other);
    this.dlm.kill(number);
    return () => {
      for (const other of later) {
        if (!other.device.alive) continue;
        tell(other);
        doubt(other, false);
      }
    };
  }

  /** A lock of a node of another kind: a peer without a mount. Resolves when it is granted; returns what gives it up. */
  async take(name: string): Promise<() => void> {
    return new Promise((resolve) => {
      const lock = this.dlm.lock(name, EX, { ast: () => resolve(() => lock.unlock()), bast: () => undefined, failed: () => undefined });
    });
  }
}

function doubt(host: Host, suspects: boolean): void {
  host.suspects = suspects;
  for (const listener of [...host.doubters]) listener();
}
