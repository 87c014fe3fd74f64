/**
 * A volume process: its side of the link to the daemon, its fence, the real domain of the lock manager and the real mount. It ends by leaving,
 * or at one moment: from then on nothing of it happens any more but what it has submitted.
 */
import type { Duplex } from 'node:stream';
import { ClusterError, type Random } from '@lunfs/device';
import { type Frame, type Joining, KIND, Link, type OpenedVolume, RemoteMember, VolumeDomain, PULSE_MS, inspectDevice, jsonOf } from '@lunfs/host';
import type { FenceDeadline, Scheduler } from '@lunfs/o2cb';
import { Volume } from '@lunfs/ocfs2';
import { type Caller, type DiskPath, SimDisk } from './disk.js';
import { SimFence } from './fence.js';
import { KernelPages } from './kernel-pages.js';
import type { Power } from './power.js';
import { Threads } from './threads.js';
import type { Incarnation, World } from './world.js';

export class VolumeProcess implements Incarnation, Caller {
  alive = true;
  volume: Volume | undefined;
  pages: KernelPages | undefined;
  beatsSince = Number.POSITIVE_INFINITY;
  deadline: FenceDeadline | undefined;
  declared: string | undefined;
  /** What others were given of it while it was fenced: it must never be opened again. */
  superseded: string | undefined;
  /** Resolves when it is gone, and nothing of it is under way. */
  readonly exited: Promise<void>;
  readonly fence: SimFence;
  readonly threads: Threads;
  /** Told by the fence's thread that this process runs. */
  pulse: (() => void) | undefined;
  readonly #fenceThread;
  readonly #ioThread;
  readonly #link: Link;
  readonly #disk: SimDisk;
  readonly #random: Random;
  #exit!: () => void;
  #domain: VolumeDomain | undefined;
  #member: RemoteMember | undefined;
  #joining: { readonly resolve: (joining: Joining) => void; readonly reject: (error: Error) => void } | undefined;
  #end: { readonly monotonic: number } | undefined;

  constructor(readonly name: string, private readonly world: World, private readonly power: Power, private readonly path: DiskPath, private readonly socket: Duplex) {
    this.#random = world.random.fork();
    this.fence = new SimFence(world.time);
    this.threads = new Threads(world.time);
    this.#fenceThread = this.threads.add();
    this.#ioThread = this.threads.add();
    this.exited = new Promise((resolve) => {
      this.#exit = resolve;
    });
    this.#disk = new SimDisk(path, this, this.fence, { submitted: (offset) => this.#submitted(offset), landed: (offset) => this.#landed(offset) });
    this.#link = new Link(socket, (frame) => {
      try {
        this.#received(frame);
      } catch (error) {
        this.#fails('what the daemon said', error);
      }
    });
  }

  /** Nothing may be submitted now. */
  get fenced(): boolean {
    return this.fence.shut();
  }

  exec(fn: () => void): void {
    this.threads.main.run(() => this.power.exec(() => {
      if (!this.alive) return;
      try {
        fn();
      } catch (error) {
        this.#fails('an event', error);
      }
    }));
  }

  call(fn: () => void): void {
    this.threads.call(this.#ioThread, fn);
  }

  /** Requests of programs wait for it: past the deadline nothing is answered, not even from memory. */
  async gate(): Promise<void> {
    if (this.fenced) await this.fence.opened();
  }

  /** Join and mount. Rejects with what keeps it from it. */
  async start(): Promise<Volume> {
    const { world } = this;
    const { trace, locks } = world;
    const scheduler = this.#scheduler();
    // There is one disk: nobody can be on the network and on another one.
    this.#domain = await VolumeDomain.join({ join: () => this.#join(), admit: () => Promise.resolve() }, this.#disk.name, undefined, (line) => trace.note(`${this.name}: ${line}`), scheduler);
    const domain = this.#domain;
    this.volume = await Volume.mount(this.#disk, {
      cluster: { node: domain.node, dlm: locks.watch(this, domain.dlm), live: () => domain.live(), onDeath: (listener) => domain.onDeath(listener), suspects: () => domain.suspects(), onSuspicion: (listener) => domain.onSuspicion(listener) },
      clock: { now: () => world.time.stamp(), monotonic: () => world.time.now() }, timers: scheduler, random: this.#random,
      cacheBlocks: this.#random.pick([60, 400, 4000]),
      onStuck: (reason) => this.#fails('a member that cannot go on', reason),
      onReadOnly: (reason) => this.#fails('a volume that takes no more changes', reason),
    });
    // The others serve exports alone.
    if (world.maps && this.#random.chance(0.6)) this.pages = new KernelPages(this, world.time, this.volume, this.#random.fork(), world.pages);
    trace.note(`${this.name} has mounted, slot ${this.volume.ctx.slot}, recovered ${this.volume.recovery.slots.join(' ')}`);
    return this.volume;
  }

  /** Leave in good order. */
  async leave(): Promise<void> {
    await this.pages?.sync();
    if (this.volume !== undefined) this.volume.caches = undefined;
    await this.volume?.unmount();
    await this.#domain?.leave();
    this.world.trace.note(`${this.name} has left`);
    this.#link.send(KIND.left);
    await this.#link.drained();
    this.kill('it has left');
  }

  /** SIGKILL. What it has submitted comes to an end first. */
  kill(why: string): void {
    if (!this.alive) return;
    this.world.trace.note(`${this.name} ends: ${why}`);
    this.gone();
    this.socket.destroy();
    void this.path.quiet().then(() => this.#exit());
  }

  /** Nothing of it happens any more. */
  gone(): void {
    if (!this.alive) return;
    this.alive = false;
    this.world.locks.died(this);
  }

  /** What the fence's thread is told. */
  setDeadline(monotonic: number, wall: number, end: number): void {
    this.#fenceThread.run(() => this.#takeDeadline(monotonic, wall, end));
  }

  #takeDeadline(monotonic: number, wall: number, end: number): void {
    if (!this.alive) return;
    if (this.#end !== undefined && this.world.time.now() >= this.#end.monotonic) return this.kill('a deadline came after the end of the last');
    this.#end = { monotonic: end };
    const before = this.fenced;
    this.fence.setDeadline(monotonic, wall);
    if (before && !this.fenced) this.world.locks.opened(this);
    if (this.superseded !== undefined && !this.fenced) this.world.trace.violation(`${this.name} may submit again, though ${this.superseded}`);
  }

  /** A view of the lock manager, for reports. */
  describe(): string {
    const facts = this.#domain?.facts();
    const waiting = this.#domain?.locks({ busy: true, limit: 12 }).map((lock) => `\n    ${lock.name} master ${lock.master} mine ${lock.level} [${lock.queues.join(' | ')}]`).join('') ?? '';
    return `${this.name}: ${this.volume === undefined ? 'not mounted' : `slot ${this.volume.ctx.slot}`} ${JSON.stringify(facts)}${waiting}`;
  }

  /** As the real process does it: the device is its own, so the daemon may beat for it. */
  async #join(): Promise<{ volume: OpenedVolume; joining: Joining; member: RemoteMember }> {
    const volume = await inspectDevice(new SimDisk(this.path, this, undefined), this.#disk.name);
    const joining = await new Promise<Joining>((resolve, reject) => {
      this.#joining = { resolve, reject };
      this.#link.sendJson(KIND.opened, volume);
    });
    await this.fence.opened();
    return { volume, joining, member: this.#member! };
  }

  #received(frame: Frame): void {
    if (!this.alive) return;
    switch (frame.kind) {
      case KIND.beating: {
        const joining = jsonOf<Joining>(frame);
        this.#watchEnd();
        this.#member = new RemoteMember(joining, this.#link);
        return this.#joining?.resolve(joining);
      }
      case KIND.refused:
        return this.#joining?.reject(new ClusterError('REFUSED', Buffer.from(frame.payload).toString()));
      default:
        if (this.#member?.receive(frame) !== true) throw new Error(`a frame of kind ${frame.kind} that means nothing now`);
    }
  }

  #watchEnd(): void {
    const look = (): void => {
      if (!this.alive || !this.power.alive) return;
      if (this.#end !== undefined && this.world.time.now() >= this.#end.monotonic) this.kill('its deadline is over');
      else {
        this.pulse?.();
        this.world.time.after(PULSE_MS, () => this.#fenceThread.run(look));
      }
    };
    this.world.time.after(PULSE_MS, () => this.#fenceThread.run(look));
  }

  #scheduler(): Scheduler {
    const { time } = this.world;
    return { now: () => time.now(), after: (ms, fn) => time.after(ms, () => this.exec(fn)) };
  }

  #submitted(offset: number): void {
    const grant = this.deadline?.grant();
    if (grant !== undefined && this.world.time.now() < grant.monotonic) return;
    this.world.trace.violation(`${this.name} submits a write at ${offset} past its deadline`);
  }

  #landed(offset: number): void {
    if (this.declared !== undefined) this.world.trace.violation(`a write of ${this.name} at ${offset} reaches the medium after ${this.declared} took it for dead`);
  }

  #fails(what: string, error: unknown): void {
    if (this.alive) this.world.trace.violation(`${this.name}: ${what}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  }
}
