/**
 * lunfsd of a simulated machine: the real stack of a node (heartbeat, o2net, quorum) and what lunfsd does with the process of one volume,
 * as `Lunfsd` and `ManagedVolume` of packages/host do it with processes: beat for it, hand it deadlines, kill it when they are given up, give the
 * node up when it dies with its locks, come back as a new incarnation.
 */
import { type Frame, KIND, LOOK_MS, Link, type Joining, MemberServer, NodeStack, type NodeWorld, type OpenedVolume, QUIET_MS, type Region, holdersOn, jsonOf } from '@lunfs/host';
import { type ClusterNode, ORDER_QUORUM } from '@lunfs/o2cb';
import { simBeats } from './beats.js';
import { type DiskPath, SimDisk } from './disk.js';
import { socketPair } from './pipe.js';
import type { Power } from './power.js';
import { Program } from './program.js';
import type { Thread } from './threads.js';
import { VolumeProcess } from './volume-process.js';
import type { World } from './world.js';

/** For how long a process that was killed may still say something, milliseconds. */
const LAST_WORDS_MS = 5000;
/** Between two attempts to come back. */
const REJOIN_MS = 2000;
/** From thread to thread by a socket, milliseconds. */
const WAY_MS = 0.1;

interface Running {
  readonly process: VolumeProcess;
  readonly link: Link;
  region?: Region;
  server?: MemberServer;
  left: boolean;
}

export class Daemon {
  process: VolumeProcess | undefined;
  /** The node leaves for good. */
  leaving = false;
  /** Resolves when it has left. */
  readonly left: Promise<void>;
  #stack: Promise<NodeStack>;
  #current: NodeStack | undefined;
  /** The last process is gone. */
  #gone: Promise<void> = Promise.resolve();
  #hasLeft!: () => void;
  #count = 0;
  readonly program: Program;
  readonly #supervisor: Thread;

  constructor(private readonly world: World, private readonly node: ClusterNode, private readonly power: Power, private readonly path: DiskPath) {
    this.program = new Program(power, world.time);
    this.#supervisor = this.program.threads.add();
    this.left = new Promise((resolve) => {
      this.#hasLeft = resolve;
    });
    this.#stack = this.#incarnation();
    void this.#serve();
  }

  /** Unmount, and leave the cluster. */
  async leave(): Promise<void> {
    this.leaving = true;
    await this.process?.leave();
    await this.left;
    this.#current?.close();
  }

  describe(): string {
    const stack = this.#current;
    return `${this.power.name}: live ${[...(stack?.member.membership.live ?? [])].join(' ')}, connected ${stack?.net.connected.join(' ')}${stack?.lost === true ? ', lost' : ''}\n  ${this.process?.describe() ?? 'no process'}`;
  }

  async #serve(): Promise<void> {
    const { world } = this;
    while (!this.leaving) {
      try {
        await this.#volume();
      } catch (error) {
        world.trace.note(`${this.power.name} cannot mount yet: ${(error as Error).message}`);
      }
      if (!this.leaving) await this.#pause(REJOIN_MS);
    }
    this.#hasLeft();
  }

  /** One incarnation of the volume, from its start to its end. */
  async #volume(): Promise<void> {
    const { world, power, path } = this;
    const delays = world.random.fork();
    let process!: VolumeProcess;
    const [ours, theirs] = socketPair(world.time, () => 0.01 + delays.float() * 0.2, this.program, { exec: (fn) => process.exec(fn) });
    process = new VolumeProcess(`${power.name}/${++this.#count}`, world, power, path, theirs);
    const mine: Running = { process, left: false, link: new Link(ours, (frame) => this.#received(mine, frame)) };
    this.process = process;
    // A process that nobody can talk to any more answers its peers never: they must recover it.
    void mine.link.closed.then(() => mine.left || process.kill('its link has gone'));
    const over = process.exited.then(() => new Promise<void>((resolve) => this.program.exec(resolve))).then(() => this.#exited(mine));
    this.#gone = over;
    try {
      await Promise.race([process.start(), over]);
      if (process.volume === undefined) throw new Error(`${process.name} ended before it had mounted`);
      world.mounted(process);
    } catch (error) {
      process.kill((error as Error).message);
      await over;
      throw error;
    }
    await over;
  }

  #received(mine: Running, frame: Frame): void {
    if (frame.kind === KIND.opened) void this.#opened(mine, jsonOf<OpenedVolume>(frame));
    else if (frame.kind === KIND.left) mine.left = true;
    else if (mine.server?.receive(frame) !== true) this.world.trace.violation(`${mine.process.name} sent a frame of kind ${frame.kind} that means nothing now`);
  }

  /** The device is the process's own: begin to beat. */
  async #opened(mine: Running, volume: OpenedVolume): Promise<void> {
    const { config, timeouts } = this.world;
    try {
      const stack = await this.#stack;
      const region = await stack.beat(volume);
      try {
        await stack.settled(volume, await holdersOn(new SimDisk(this.path, this.program, undefined)));
        await stack.connected(volume);
      } catch (error) {
        await region.stop();
        throw error;
      }
      if (!mine.process.alive) return await region.stop();
      mine.region = region;
      mine.process.deadline = region.deadline;
      this.#supervise(mine, region);
      mine.server = new MemberServer(mine.link, stack.member, volume.uuid);
      const joining: Joining = {
        node: this.node.number, live: [...stack.member.membership.live], suspects: [...stack.member.suspicion.suspects], nodes: config.nodes, heartbeatMode: config.heartbeatMode, regions: [], timeouts,
      };
      mine.link.sendJson(KIND.beating, joining);
    } catch (error) {
      mine.link.sendJson(KIND.refused, (error as Error).message);
    }
  }

  /**
   * The supervising thread (supervisor-worker.ts): later deadlines go to the process while it shows that it runs, the end of the incarnation ends
   * it, and so does its silence, in time.
   */
  #supervise({ process }: Running, { deadline }: Region): void {
    const { time, timeouts } = this.world;
    let sent = Number.NEGATIVE_INFINITY, sentEnd = Number.NEGATIVE_INFINITY, pulseAt = time.now();
    const look = (): void => {
      if (!this.power.alive || !process.alive) return;
      if (deadline.state === 'lost') return process.kill('this node is fenced');
      const silentMs = time.now() - pulseAt;
      if (silentMs > QUIET_MS) {
        if (time.now() >= sent - (timeouts.fenceMs - timeouts.killMs)) process.kill(`no sign of life for ${silentMs.toFixed(0)} ms`);
        return;
      }
      const grant = deadline.grant();
      const end = deadline.end();
      if (grant === undefined || end === undefined || (grant.monotonic <= sent && end <= sentEnd)) return;
      sent = grant.monotonic;
      sentEnd = end;
      time.after(WAY_MS, () => process.setDeadline(grant.monotonic, grant.wall, end));
    };
    process.pulse = () => void time.after(WAY_MS, () => this.#supervisor.run(() => {
      pulseAt = time.now();
      look();
    }));
    const tick = (): void => {
      look();
      if (this.power.alive && process.alive) time.after(LOOK_MS, () => this.#supervisor.run(tick));
    };
    tick();
  }

  async #exited(mine: Running): Promise<void> {
    await Promise.race([mine.link.closed, this.#pause(LAST_WORDS_MS)]);
    mine.server?.close();
    mine.link.close();
    const clean = mine.left || mine.server === undefined;
    if (!clean) {
      this.world.fences++;
      // Where the region itself is lost, peers learn of it by that; else nobody would.
      if (mine.region?.deadline.state !== 'lost') this.#current?.giveUp(`${mine.process.name} has died`);
    }
    await mine.region?.stop();
  }

  #incarnation(): Promise<NodeStack> {
    const { world, program, path } = this;
    const { time, random, network, trace, config, timeouts } = world;
    const node: NodeWorld = {
      scheduler: { now: () => time.now(), after: (ms, fn) => time.after(ms, () => program.exec(fn)) },
      transport: network.transport(program),
      listen: async (core) => network.listen(program, core),
      beats: (volume) => simBeats(path, program, random.fork(), volume, () => {
        if (this.process !== undefined) this.process.beatsSince = time.now();
      }),
      generation: () => (BigInt(random.u32()) << 32n) | BigInt(random.u32()),
    };
    const starting = NodeStack.start({ config, local: this.node, timeouts, log: (line) => trace.note(`${program.name}: ${line}`), lost: () => this.#lost(), world: node });
    void starting.then((stack) => {
      this.#current = stack;
      this.#watchDeaths(stack);
    });
    return starting;
  }

  /** Tells of whom this node takes for dead: nothing of it may reach the medium from then on. */
  #watchDeaths(stack: NodeStack): void {
    const { world } = this;
    const { time } = world;
    const seenSince = new Map<number, number>();
    stack.member.membership.subscribe(ORDER_QUORUM, {
      nodeUp: (node) => void seenSince.set(node, time.now()),
      nodeDown: (node) => {
        const { process } = this;
        // That a node which leaves, or is lost itself, forgets the others is told in the same way; and who has no deadline yet takes over nothing.
        if (node === this.node.number || stack.lost || process?.alive !== true || process.deadline === undefined || process.deadline.state === 'lost') return;
        const dead = world.incarnationOf(node);
        // One that has no deadline yet has written nothing: it begins when all see it live again.
        if (dead?.deadline !== undefined && (seenSince.get(node) ?? 0) > dead.beatsSince) dead.declared ??= process.name;
      },
    });
  }

  /** Nothing of this incarnation of the node may go on; the next one begins when nothing of it runs. */
  #lost(): void {
    this.process?.kill('the node is lost');
    const old = this.#current;
    const gone = this.#gone;
    this.#stack = (async () => {
      await gone;
      old?.close();
      return this.#incarnation();
    })();
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.world.time.after(ms, () => this.program.exec(resolve));
    });
  }
}
