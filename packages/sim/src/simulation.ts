/**
 * A run: machines, users, faults, and rules that are watched all the time. Everything follows from the seed; the hash of the trace shows it.
 * At the end faults are healed, every machine mounts again, and what was synced must be there; then all leave, a last mount takes up what
 * the dead left, and the verifier must find nothing.
 */
import { MemoryDevice, Random } from '@lunfs/device';
import { type ClusterNode, DEFAULT_SETTINGS, timeoutsOf } from '@lunfs/o2cb';
import { checkVolume, formatVolume } from '@lunfs/ocfs2';
import { FAULT_KINDS, type FaultKind, Faults } from './faults.js';
import type { PageCounts } from './kernel-pages.js';
import { LockWitness } from './lock-witness.js';
import { Machine } from './machine.js';
import { SimNetwork } from './network.js';
import { Records } from './records.js';
import { VirtualTime } from './time.js';
import { Trace } from './trace.js';
import { RECORDS_PER_FILE, Users } from './users.js';
import type { VolumeProcess } from './volume-process.js';
import type { Incarnation, World } from './world.js';

const MIB = 1 << 20;
const FILES = 4;
const USERS = 2;
/** An operation, or the end of a run, may take so long: far longer than any recovery. */
const PATIENCE_MS = 600_000;
/** Codes of findings that a recovered volume may have. */
const MAY_BE_LEFT = ['INODE_SPARSE_SIZE'];

export interface SimulationOptions {
  readonly seed: number;
  /** Operations of all users together. */
  readonly steps: number;
  /** Machines; default: 2 to 4, by the seed. */
  readonly nodes?: number;
  /** Whether programs map files (default: yes). */
  readonly maps?: boolean;
  /** What may go wrong; default: everything. */
  readonly faults?: readonly FaultKind[];
  /** Is given every line of the trace. */
  readonly print?: (line: string) => void;
}

export interface SimulationResult {
  readonly seed: number;
  readonly steps: number;
  readonly nodes: number;
  /** SHA-256 of the trace. */
  readonly hash: string;
  /** Rules broken; the run ends at the first. */
  readonly violations: readonly string[];
  /** The last lines of the trace, and what everybody was doing, of a run with violations. */
  readonly tail: readonly string[];
  readonly virtualMs: number;
  readonly events: number;
  readonly grants: number;
  readonly reads: number;
  readonly pages: PageCounts;
  readonly crashes: number;
  readonly fences: number;
  /** Faults injected, by kind. */
  readonly faults: Readonly<Record<string, number>>;
}

/** Runs one simulation. A rule that is broken is told in the result; what the simulator itself cannot do rejects. */
export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  return new Simulation(options).run();
}

const templates = new Map<number, Promise<MemoryDevice>>();

/** A fresh volume, the same one every time. */
async function volume(blockSize: number): Promise<MemoryDevice> {
  let template = templates.get(blockSize);
  if (template === undefined) {
    template = (async () => {
      const device = new MemoryDevice({ size: 96 * MIB, name: 'lun' });
      await formatVolume(device, { blockSize, clusterSize: 4096, slots: 4, journalSize: 4 * MIB, clusterStack: 'o2cb', clusterName: 'sim', discard: false }, { random: new Random(1), time: 1_690_000_000 });
      return device;
    })();
    templates.set(blockSize, template);
  }
  return (await template).clone();
}

class Simulation implements World {
  readonly time = new VirtualTime();
  readonly random: Random;
  readonly trace: Trace;
  readonly network: SimNetwork;
  readonly locks: LockWitness;
  readonly timeouts = timeoutsOf({ ...DEFAULT_SETTINGS, heartbeatThreshold: 7, idleTimeoutMs: 10_000 });
  readonly config;
  readonly maps: boolean;
  readonly pages: PageCounts = { hits: 0, writtenBack: 0, dropped: 0 };
  readonly machines: Machine[] = [];
  crashes = 0;
  fences = 0;
  readonly #records = new Records(FILES * RECORDS_PER_FILE);
  readonly #users: Users;
  readonly #faults: Faults;
  readonly #kinds: readonly FaultKind[];
  #prepared = false;
  #lun!: MemoryDevice;

  constructor(private readonly options: SimulationOptions) {
    this.random = new Random(options.seed);
    this.maps = options.maps ?? true;
    this.trace = new Trace(this.time, options.print);
    this.network = new SimNetwork(this.time, this.random.fork());
    this.locks = new LockWitness(this.trace);
    const nodes = options.nodes ?? 2 + this.random.int(3);
    this.config = {
      name: 'sim', heartbeatMode: 'local' as const, regions: [],
      nodes: Array.from({ length: nodes }, (_, i): ClusterNode => ({ number: i + 1, name: `m${i + 1}`, address: `10.0.0.${i + 1}`, port: 7777 })),
    };
    this.#users = new Users(this, this.#records, options.steps);
    this.#kinds = options.faults ?? FAULT_KINDS;
    this.#faults = new Faults(this, this.machines, this.random.fork(), this.#kinds);
  }

  mounted(process: Incarnation): void {
    if (this.#prepared) this.#employ(process);
  }

  grow(process: Incarnation): void {
    void this.#users.grow(process);
  }

  incarnationOf(node: number): Incarnation | undefined {
    return this.machines.find((machine) => machine.number === node)?.daemon?.process;
  }

  async run(): Promise<SimulationResult> {
    this.#lun = await volume(this.random.pick([1024, 4096]));
    for (const node of this.config.nodes) this.machines.push(new Machine(this, node, this.#lun));
    const first = this.random.pick(this.machines);
    first.boot();
    await this.#until('the first mount', () => first.daemon?.process?.volume !== undefined);
    const { volume: mounted } = first.daemon!.process!;
    // What is to be allocated where the volume grows needs that it is full before.
    const full = this.#kinds.includes('grow') && this.random.chance(0.5);
    await this.#through('the preparation', async () => {
      await this.#users.prepare(mounted!, FILES, full);
      await mounted!.sync();
    });
    this.#prepared = true;
    this.#employ(first.daemon!.process!);
    for (const machine of this.machines) if (machine !== first) this.time.after(this.random.float() * 20_000, () => machine.power ?? machine.boot());
    this.#faults.begin();
    await this.#until('the steps', () => this.#users.done, Number.POSITIVE_INFINITY);
    this.#faults.end();
    await this.#until('the last operations', () => this.#idle());
    if (this.trace.violations.length === 0) await this.#finish();
    return this.#result();
  }

  #employ(process: Incarnation): void {
    for (let user = 0; user < USERS; user++) void this.#users.work(process, this.random.fork());
  }

  /** Everybody is mounted, knows everybody, and has nothing to do. */
  #idle(): boolean {
    return this.machines.every((machine) => {
      if (machine.power === undefined) {
        machine.boot();
        return false;
      }
      const process = machine.daemon?.process;
      return process?.alive === true && process.volume !== undefined;
    }) && [...this.#users.ongoing].every(({ process }) => !process.alive);
  }

  async #finish(): Promise<void> {
    const processes = (): VolumeProcess[] => this.machines.map((machine) => machine.daemon!.process!);
    const lists: string[][] = [];
    if ((this.#faults.counts.grow ?? 0) > 0) await this.#growthMustHaveDone(processes());
    for (const process of this.random.shuffle(processes())) {
      await this.#through(`the verification by ${process.name}`, async () => {
        await this.#users.verify(process);
        lists.push(await this.#users.list(process.volume!));
      });
    }
    for (const list of lists) if (list.join() !== lists[0].join()) this.trace.violation(`two nodes see different names: ${difference(list, lists[0])}`);
    for (const machine of this.random.shuffle([...this.machines])) await this.#through(`the leaving of ${machine.node.name}`, () => machine.daemon!.leave());
    const last = this.random.pick(this.machines);
    last.crash();
    last.boot();
    await this.#until('the last mount', () => last.daemon?.process?.volume !== undefined);
    await this.#through('the last leaving', () => last.daemon!.leave());
    if (this.trace.violations.length > 0) return;
    for (const { code, message } of (await checkVolume(this.#lun)).findings) if (!MAY_BE_LEFT.includes(code)) this.trace.violation(`verifier: ${code} ${message}`);
  }

  /** Whatever became of those who grew the volume, it can be grown now, and all know its size. */
  async #growthMustHaveDone(processes: readonly VolumeProcess[]): Promise<void> {
    const grower = this.random.pick(processes);
    await this.#through('the last growth', async () => {
      const { to, clusterSize } = await grower.volume!.grow();
      if (to !== Math.floor(this.#lun.size / clusterSize)) this.trace.violation(`${grower.name} has grown the volume to ${to} clusters of ${clusterSize} on a device of ${this.#lun.size} bytes`);
      for (const { name, volume } of processes) {
        const { blocks, blockSize } = await volume!.names.statistics();
        if (blocks * blockSize !== to * clusterSize) this.trace.violation(`${name} says that the volume has ${blocks * blockSize} bytes, ${grower.name} has grown it to ${to * clusterSize}`);
      }
    });
  }

  /** Something that must come to its end; false if a rule was broken meanwhile. */
  async #through(what: string, work: () => Promise<void>): Promise<void> {
    let over = false;
    void work().then(() => {
      over = true;
    }, (error: unknown) => this.trace.violation(`${what}: ${(error as Error).stack}`));
    await this.#until(what, () => over);
  }

  async #until(what: string, condition: () => boolean, patience = PATIENCE_MS): Promise<void> {
    const end = this.time.now() + patience;
    let next = 0;
    while (this.trace.violations.length === 0 && !condition()) {
      if (!(await this.time.step())) return this.trace.violation(`${what}: nothing happens any more`);
      if (this.time.now() < next) continue;
      next = this.time.now() + 1000;
      if (this.time.now() > end) return this.trace.violation(`${what}: not within ${patience / 1000} s`);
      for (const { process, what: operation, since } of this.#users.ongoing) {
        if (!process.alive) this.#users.forget(process);
        else if (this.time.now() - since > PATIENCE_MS) this.trace.violation(`${process.name}: ${operation} hangs since ${since.toFixed(0)}`);
      }
    }
  }

  #result(): SimulationResult {
    const { violations } = this.trace;
    const tail = violations.length === 0 ? [] : [...this.trace.tail(), ...this.machines.map((machine) => machine.daemon?.describe() ?? `${machine.node.name} is off`)];
    return {
      seed: this.options.seed, steps: this.#users.steps, nodes: this.machines.length, hash: this.trace.digest(), violations, tail, virtualMs: this.time.now(), events: this.time.events,
      grants: this.locks.grants, reads: this.#records.reads, pages: this.pages, crashes: this.crashes, fences: this.fences, faults: this.#faults.counts,
    };
  }
}

function difference(a: readonly string[], b: readonly string[]): string {
  return `only one ${a.filter((name) => !b.includes(name)).join(' ')}, only the other ${b.filter((name) => !a.includes(name)).join(' ')}`;
}
