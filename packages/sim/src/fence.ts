/** The fence of a simulated process: the real one, by the simulation's clocks, and with waiting that the simulation orders. */
import { Fence } from '@lunfs/device';
import type { VirtualTime } from './time.js';

export class SimFence extends Fence {
  #waiting: (() => void)[] = [];

  constructor(time: VirtualTime) {
    super(undefined, Number.NEGATIVE_INFINITY, { monotonic: () => time.now(), wall: () => time.wall() });
  }

  override setDeadline(monotonic: number, wall: number): void {
    super.setDeadline(monotonic, wall);
    if (this.shut()) return;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  override async opened(): Promise<void> {
    while (this.shut()) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }
}
