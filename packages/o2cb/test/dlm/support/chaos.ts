/** Nodes that lock, join, leave and die at random, from one seed, until everything has to be at rest. */
import { Bench, type BenchNode } from './bench.js';
import { contradictions } from './rest.js';
import { Host, Truth } from './users.js';

export interface Chaos {
  readonly seed: number;
  readonly nodes: number;
  readonly names: number;
  readonly steps: number;
  readonly deaths?: number;
  readonly leaves?: number;
}

export class Run {
  readonly bench: Bench;
  readonly truth = new Truth();
  readonly hosts = new Map<BenchNode, Host>();
  readonly names: string[];
  readonly leaving = new Set<BenchNode>();
  readonly joining = new Set<BenchNode>();

  constructor(readonly chaos: Chaos) {
    this.bench = new Bench({ seed: chaos.seed, nodes: chaos.nodes });
    this.names = Array.from({ length: chaos.names }, (_, i) => `M${String(i).padStart(30, '0')}`);
    this.bench.died = (node) => {
      this.truth.died(node.number);
      this.hosts.delete(node);
    };
  }

  host(node: BenchNode): Host {
    let host = this.hosts.get(node);
    if (host === undefined) this.hosts.set(node, (host = new Host(this.bench, node, this.truth)));
    return host;
  }

  join(number: number): void {
    const node = this.bench.running(number) ?? this.bench.boot(number);
    if (node.domain.core.state === 'left') node.open();
    if (node.domain.core.state !== 'new' || this.joining.has(node)) return;
    this.joining.add(node);
    node.domain.join((error) => {
      this.joining.delete(node);
      if (error !== undefined && node.alive) node.open();
    });
  }

  leave(node: BenchNode): void {
    this.leaving.add(node);
  }

  /** Who wants to leave drops its locks first. */
  goOn(): void {
    for (const node of this.leaving) {
      if (!node.alive) this.leaving.delete(node);
      else if (node.domain.core.state === 'joined' && this.host(node).dropAll()) {
        this.leaving.delete(node);
        this.hosts.delete(node);
        node.domain.leave(() => {});
      }
    }
  }

  step(): void {
    const { bench, chaos } = this;
    const { dice } = bench;
    this.goOn();
    const members = bench.members();
    const free = members.filter((node) => !this.leaving.has(node));
    if (chaos.deaths && dice.chance(chaos.deaths) && members.length > 1) return bench.kill(dice.pick(bench.all()));
    if (chaos.leaves && dice.chance(chaos.leaves) && free.length > 1) return this.leave(dice.pick(free));
    if ((chaos.deaths || chaos.leaves) && dice.chance(0.02)) {
      const number = dice.below(chaos.nodes);
      const node = bench.nodes[number];
      // As a machine that boots again: not before all have seen it go.
      if (node === undefined || (node.alive ? ['left', 'new'].includes(node.domain.core.state) : bench.noticed(node))) this.join(number);
    }
    if (free.length > 0) this.host(dice.pick(free)).act(this.names);
  }

  settled(): boolean {
    return this.leaving.size === 0 && [...this.hosts.values()].every((host) => host.pending === 0) &&
      this.bench.all().every(({ domain: { core } }) => core.state === 'joined' || core.state === 'left' || (core.state === 'new' && core.joiningNode === 255));
  }

  /** Returns what is wrong at the end. */
  run(): string[] {
    const { bench } = this;
    for (let number = 0; number < this.chaos.nodes; number++) this.join(number);
    bench.until('all join', () => bench.members().length === this.chaos.nodes);
    for (let i = 0; i < this.chaos.steps; i++) {
      this.step();
      bench.time.run(bench.dice.below(30));
    }
    return this.rest();
  }

  /** Everything that was asked completes, and then everything is in order; with locks held, and again without. */
  rest(): string[] {
    const { bench } = this;
    const end = bench.time.now() + 300_000;
    while (!this.settled() || contradictions(bench).length > 0) {
      this.goOn();
      if (bench.time.now() > end) break;
      bench.time.run(500);
    }
    const pending = [...this.hosts.values()].flatMap((host) => [...host.users.values()].filter((user) => user.busy !== 'no').map((user) => `${host.node.name} ${user.name}: ${user.busy} to ${user.wanted}`));
    const states = bench.all().map((node) => `${node.name} ${node.domain.core.state}`);
    return [...bench.panicked, ...pending, ...(this.settled() ? [] : states), ...contradictions(bench)];
  }
}
