/** lunfsd of a machine as a program: its threads run while the machine has power and nobody has stopped it, the main one while nothing keeps it busy. */
import type { Caller } from './disk.js';
import type { Station } from './network.js';
import type { Power } from './power.js';
import { Threads } from './threads.js';
import type { VirtualTime } from './time.js';

export class Program implements Station, Caller {
  readonly fenced = false;
  readonly threads: Threads;

  constructor(private readonly power: Power, time: VirtualTime) {
    this.threads = new Threads(time);
  }

  get name(): string {
    return this.power.name;
  }

  get address(): string {
    return this.power.address;
  }

  get alive(): boolean {
    return this.power.alive;
  }

  exec(fn: () => void): void {
    this.threads.main.run(() => this.power.exec(fn));
  }

  call(fn: () => void): void {
    this.threads.call(this.threads.main, fn);
  }
}
