/**
 * A machine of a simulation: a path to the LUN, a place in the network, and while it has power a daemon. Crashing takes all of it at once.
 */
import type { MemoryDevice } from '@lunfs/device';
import type { ClusterNode } from '@lunfs/o2cb';
import { Daemon } from './daemon.js';
import { DiskPath } from './disk.js';
import { Power } from './power.js';
import type { World } from './world.js';

export class Machine {
  daemon: Daemon | undefined;
  path: DiskPath | undefined;
  power: Power | undefined;
  #lives = 0;

  constructor(readonly world: World, readonly node: ClusterNode, readonly lun: MemoryDevice) {}

  get number(): number {
    return this.node.number;
  }

  boot(): void {
    const { world, node } = this;
    this.#lives++;
    this.power = new Power(`${node.name}.${this.#lives}`, node.address, world.time);
    this.path = new DiskPath(this.lun, world.time, world.random.fork(), world.trace, world.timeouts.writeTimeoutMs - world.timeouts.fenceMs, () => this.crash());
    world.trace.note(`${this.power.name} boots`);
    this.daemon = new Daemon(world, node, this.power, this.path);
  }

  /** The power fails. */
  crash(): void {
    const { power, path, daemon, world } = this;
    if (power === undefined) return;
    world.trace.note(`${power.name} loses power`);
    world.crashes++;
    power.alive = false;
    path?.die();
    daemon?.process?.gone();
    this.power = this.path = this.daemon = undefined;
  }
}
