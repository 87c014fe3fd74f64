/** A machine's power. */
import type { VirtualTime } from './time.js';

/** One life of a machine, from boot to the loss of power; what its programs do, they do through `exec`. */
export class Power {
  alive = true;
  readonly fenced = false;
  /** Its programs stand still until then (its kernel, and threads of their own, don't). */
  stillUntil = 0;

  constructor(readonly name: string, readonly address: string, private readonly time: VirtualTime) {}

  /** Do it now, or when programs run again; never without power. */
  exec(fn: () => void): void {
    if (!this.alive) return;
    const { time } = this;
    if (this.stillUntil > time.now()) time.after(this.stillUntil - time.now(), () => this.exec(fn));
    else fn();
  }
}
