/** What goes wrong in a simulation, when and where by the seed. */
import type { Random } from '@lunfs/device';
import { QUIET_MS } from '@lunfs/host';
import type { Daemon } from './daemon.js';
import type { Machine } from './machine.js';
import type { Threads } from './threads.js';
import type { World } from './world.js';

export const FAULT_KINDS = ['crash', 'double', 'kill', 'partition', 'reset', 'stall', 'slow', 'stop', 'grow'] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/** From one fault to the next: at least, and at most so much more, milliseconds. */
const APART_MS = 2000;
const MORE_MS = 35_000;
/** A machine without power comes back after at most so long. */
const OFF_MS = 40_000;
/** A machine loses power at one of its next writes. */
const WRITES = 60;
const MIB = 1 << 20;
/** The LUN becomes larger by this, or by far more; and how large it becomes. */
const LARGER = 60 * MIB;
const FAR_LARGER = 1100 * MIB;
const LARGEST = 3000 * MIB;
/** What was stopped runs for so long, at least, before it is stopped again: the deadline is renewed, or the process is ended. */
const PAUSE_MS = 5000;
/** Who grows the volume loses power at one of so many writes. */
const GROWTH_WRITES = 15;

export class Faults {
  readonly counts: Record<string, number> = {};
  #ended = false;
  /** Until when programs of a machine are stopped, or have just gone on. */
  readonly #stopsUntil = new WeakMap<Daemon, number>();

  constructor(private readonly world: World, private readonly machines: readonly Machine[], private readonly random: Random, private readonly kinds: readonly FaultKind[]) {}

  begin(): void {
    if (this.kinds.length > 0) this.#next();
  }

  /** Nothing goes wrong any more, and what went wrong is healed. */
  end(): void {
    this.#ended = true;
    this.world.network.healAll();
    for (const { daemon, power, path } of this.machines) {
      for (const threads of [daemon?.program.threads, daemon?.process?.threads]) threads?.go(this.random);
      if (power !== undefined) power.stillUntil = 0;
      if (path !== undefined) Object.assign(path, { hungUntil: 0, latency: 2, writesToLive: undefined });
    }
  }

  #next(): void {
    this.world.time.after(APART_MS + this.random.float() * MORE_MS, () => {
      if (this.#ended) return;
      this.#strike(this.random.pick(this.kinds));
      this.#next();
    });
  }

  #strike(kind: FaultKind): void {
    const { random, world } = this;
    const on = this.machines.filter((machine) => machine.power !== undefined);
    if (on.length === 0) return;
    const machine = random.pick(on);
    this.counts[kind] = (this.counts[kind] ?? 0) + 1;
    world.trace.note(`FAULT ${kind} of ${machine.power!.name}`);
    switch (kind) {
      case 'crash':
        return this.#crash(machine);
      case 'double':
        return this.#double(machine, on);
      case 'kill':
        return machine.daemon?.process?.kill('SIGKILL');
      case 'partition':
        return this.#partition(machine);
      case 'reset': {
        const other = random.pick(this.machines);
        return world.network.reset(machine.node.address, other.node.address);
      }
      case 'stall': {
        // Half of them is over before anybody is dead.
        machine.path!.hungUntil = world.time.now() + random.float() * (random.chance(0.5) ? 8000 : 25_000);
        return;
      }
      case 'slow':
        if (random.chance(0.5)) machine.path!.latency = 2 + random.float() * 300;
        else machine.power!.stillUntil = world.time.now() + random.float() * 6000;
        return;
      case 'stop':
        return this.#stop(machine);
      case 'grow':
        return this.#grow(machine, random.pick(on));
    }
  }

  /** At once, or in the middle of one of the next writes; back after a while. */
  #crash(machine: Machine): void {
    const { random } = this;
    if (random.chance(0.5)) machine.crash();
    else machine.path!.writesToLive = 1 + random.int(WRITES);
    this.#comeBack(machine, machine.power);
  }

  /** One, and another one soon after: while nobody has noticed, or while it recovers the first. */
  #double(first: Machine, on: readonly Machine[]): void {
    const { random, world } = this;
    const second = random.pick(on);
    const { power } = second;
    first.crash();
    this.#comeBack(first, undefined);
    if (second === first) return;
    const soon = random.float() * 2 * world.timeouts.deadMs;
    world.time.after(soon, () => {
      if (this.#ended || second.power !== power) return;
      second.path!.writesToLive = 1 + random.int(WRITES);
      this.#comeBack(second, power);
    });
  }

  #comeBack(machine: Machine, before: Machine['power']): void {
    const { random, world } = this;
    world.time.after(500 + random.float() * OFF_MS, () => {
      if (machine.power === undefined) machine.boot();
      else if (machine.power === before) this.#comeBack(machine, before);
    });
  }

  /**
   * SIGSTOP of the volume process, of lunfsd, or of both, and SIGCONT. A thread that was stopped between question and system call goes on with the call
   * if neither program runs that could end it before: docs/fencing.md counts it among what remains, so only one that lunfsd watches is caught there.
   */
  #stop({ daemon }: Machine): void {
    const { random, world } = this;
    // One at a time: a second one could stop lunfsd when a thread has just been caught.
    if (daemon === undefined || world.time.now() < (this.#stopsUntil.get(daemon) ?? 0)) return;
    const { program: { threads: lunfsd }, process } = daemon;
    const volume = process?.threads;
    const both = random.chance(0.3);
    // Half of them are over before anybody is dead.
    const ms = random.float() * (random.chance(0.5) ? 8000 : 30_000);
    const go = (threads: Threads, after: number): void => {
      this.#stopsUntil.set(daemon, Math.max(this.#stopsUntil.get(daemon) ?? 0, world.time.now() + after + PAUSE_MS));
      world.time.after(after, () => threads.go(random));
    };
    if (both || random.chance(0.5)) {
      lunfsd.stop(!both && random.chance(0.5));
      go(lunfsd, ms);
      if (!both) return;
    }
    if (volume === undefined) return;
    const caught = !lunfsd.stopped && random.chance(0.5);
    if (!caught || random.chance(0.5)) {
      volume.stop(caught);
      return go(volume, both ? random.float() * 2 * ms : ms);
    }
    // When lunfsd has had the time to end it, it is stopped, too, and would not be there when the deadline is over.
    const { deadMs, fenceMs } = world.timeouts;
    const late = QUIET_MS + fenceMs;
    volume.stop(true, () => world.time.after(late, () => this.#ended || lunfsd.stop(false)));
    go(volume, late + deadMs + ms / 4);
    go(lunfsd, late + 2 * deadMs + ms);
  }

  /** The LUN becomes larger, and one machine grows the volume, or two; its power may fail at any write. */
  #grow(machine: Machine, other: Machine): void {
    const { random, world } = this;
    const { lun } = machine;
    if (lun.size < LARGEST) lun.enlarge(lun.size + (random.chance(0.2) ? FAR_LARGER : 1 + random.int(LARGER)));
    for (const one of random.chance(0.3) ? new Set([machine, other]) : [machine]) {
      const process = one.daemon?.process;
      if (process?.alive === true && process.volume !== undefined) world.grow(process);
    }
    if (random.chance(0.5)) return;
    machine.path!.writesToLive = 1 + random.int(GROWTH_WRITES);
    this.#comeBack(machine, machine.power);
  }

  /** Some machines from the others, in one direction or both. */
  #partition(machine: Machine): void {
    const { random, world } = this;
    const side = this.machines.filter((one) => one === machine || random.chance(0.3));
    const directions = random.pick([[true, true], [true, false], [false, true]] as const);
    const pairs: [string, string][] = [];
    for (const one of side) {
      for (const other of this.machines) {
        if (side.includes(other)) continue;
        if (directions[0]) pairs.push([one.node.address, other.node.address]);
        if (directions[1]) pairs.push([other.node.address, one.node.address]);
      }
    }
    for (const [from, to] of pairs) world.network.block(from, to);
    world.time.after(1000 + random.float() * 60_000, () => {
      for (const [from, to] of pairs) world.network.unblock(from, to);
    });
  }
}
