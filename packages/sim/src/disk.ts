/**
 * The LUN of a simulation and the machines' ways to it. A request takes its time, sees or changes the medium at one moment of it, and
 * requests end in any order. A path can hang: requests wait, the heartbeat's too. What has reached the medium is durable (an array does
 * not lose power with a host), what was under way when a machine lost power happens in whole, in part or not at all.
 */
import type { BlockDevice, MemoryDevice, Random } from '@lunfs/device';
import type { SimFence } from './fence.js';
import type { Trace } from './trace.js';
import type { VirtualTime } from './time.js';

/** How often a request that the fence holds up asks again, milliseconds. */
const ASK_MS = 20;
/** The same for a write that came too late from a path that hung. */
const LATE_MS = 100;

/** Who makes requests: a process, or a machine's heartbeat. */
export interface Requester {
  readonly name: string;
  readonly alive: boolean;
  /** It may submit nothing now, and whether it ever may again is not known. */
  readonly fenced: boolean;
  exec(fn: () => void): void;
}

/** Who makes system calls: it can be stopped right before one. */
export interface Caller extends Requester {
  call(fn: () => void): void;
}

/** What a request does when its moment comes. */
interface Request {
  readonly who: Requester;
  readonly submitted: number;
  /** Bytes that a write puts in place; undefined: a read. */
  readonly write?: { readonly offset: number; readonly bytes: Uint8Array };
  readonly landed?: () => void;
}

/** A machine's way to the LUN, as long as it has power. */
export class DiskPath {
  /** Requests end when this is over. */
  hungUntil = 0;
  /** Largest time of a request, milliseconds. */
  latency = 2;
  /** Writes until the machine loses power, that one in the middle; undefined: it does not. */
  writesToLive: number | undefined;
  powered = true;
  readonly #underWay = new Set<Request>();
  readonly #quiet: (() => void)[] = [];

  /**
   * `lateMs`: a write that a path has held for longer reaches the medium only if who submitted it lives on; docs/fencing.md says what it could do
   * else. `powerLoss`: called when `writesToLive` is over.
   */
  constructor(
    readonly lun: MemoryDevice, readonly time: VirtualTime, private readonly random: Random, private readonly trace: Trace, private readonly lateMs: number, private readonly powerLoss: () => void,
  ) {}

  /** Submit a request; `done` is called when it has ended, unless the machine loses power. `read`: what to do at its moment. */
  submit(who: Requester, write: Request['write'], landed: () => void, done: () => void): void {
    const { time, random } = this;
    const request: Request = { who, submitted: time.now(), write, landed };
    this.#underWay.add(request);
    const takes = 0.05 + random.float() * this.latency * (random.chance(0.01) ? 20 : 1);
    const until = (ms: number, fn: () => void): void => {
      time.after(Math.max(ms, this.hungUntil - time.now()), () => {
        if (!this.powered) return;
        if (this.hungUntil > time.now()) until(0, fn);
        else fn();
      });
    };
    const land = (): void => {
      if (write !== undefined && this.writesToLive !== undefined && --this.writesToLive <= 0) return this.powerLoss();
      if (this.#late(request)) return who.alive ? until(LATE_MS, land) : this.#ended(request);
      if (write !== undefined) {
        this.trace.note(`${who.name} writes ${write.offset}+${write.bytes.length} ${checksum(write.bytes)}`);
        this.lun.writeSync(write.offset, write.bytes);
      }
      landed();
      time.after(takes * random.float() * 0.5, () => {
        if (!this.powered) return;
        this.#ended(request);
        who.exec(done);
      });
    };
    until(takes * random.float(), land);
  }

  /** Power is lost: of each write under way a part, all or nothing happens. */
  die(): void {
    this.powered = false;
    for (const request of this.#underWay) {
      const { write, landed } = request;
      if (write === undefined || this.hungUntil > this.time.now() || this.#late(request)) continue;
      const size = this.lun.logicalBlockSize;
      const blocks = write.bytes.length / size;
      const made = this.random.chance(0.3) ? this.random.int(blocks + 1) : this.random.chance(0.5) ? blocks : 0;
      if (made === 0) continue;
      this.trace.note(`last of a machine: ${write.offset}+${made * size} of ${write.bytes.length}`);
      this.lun.writeSync(write.offset, write.bytes.subarray(0, made * size));
      landed?.();
    }
    this.#underWay.clear();
  }

  /** Resolves when nothing is under way. */
  async quiet(): Promise<void> {
    if (this.#underWay.size > 0) await new Promise<void>((resolve) => this.#quiet.push(resolve));
  }

  /** A write that a path has held for long, and whose maker may not submit now, if ever. */
  #late({ who, write, submitted }: Request): boolean {
    return write !== undefined && this.time.now() - submitted > this.lateMs && (!who.alive || who.fenced);
  }

  #ended(request: Request): void {
    this.#underWay.delete(request);
    if (this.#underWay.size === 0) for (const resolve of this.#quiet.splice(0)) resolve();
  }
}

/** What tells who breaks a rule by writing. */
export interface WriteWitness {
  submitted(offset: number): void;
  landed(offset: number): void;
}

/** The LUN as a process has it open: what it submits passes its fence first. */
export class SimDisk implements BlockDevice {
  readonly name: string;
  readonly logicalBlockSize: number;
  readonly readOnly = false;
  readonly canDiscard = false;
  /** As its machine knows it. */
  #size: number;

  constructor(private readonly path: DiskPath, private readonly who: Caller, private readonly fence: SimFence | undefined, private readonly witness?: WriteWitness) {
    this.name = `lun of ${who.name}`;
    this.#size = path.lun.size;
    this.logicalBlockSize = path.lun.logicalBlockSize;
  }

  get size(): number {
    return this.#size;
  }

  /** All machines have rescanned it whenever the LUN has become larger. */
  refreshSize(): number {
    this.#size = this.path.lun.size;
    return this.#size;
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    return this.#request(undefined, () => this.path.lun.readSync(offset, into));
  }

  write(offset: number, from: Uint8Array): Promise<void> {
    return this.#request({ offset, bytes: from.slice() }, () => this.witness?.landed(offset));
  }

  writeZeroes(offset: number, length: number): Promise<void> {
    return this.write(offset, new Uint8Array(length));
  }

  flush(): Promise<void> {
    return this.#request(undefined, () => undefined);
  }

  async discard(): Promise<void> {}
  async close(): Promise<void> {}

  /** Never settles once its process is dead. */
  #request(write: Request['write'], landed: () => void): Promise<void> {
    return new Promise((resolve) => {
      const submit = (): void => {
        if (!this.who.alive) return;
        if (this.fence?.shut() === true) return void this.path.time.after(ASK_MS, () => this.who.exec(submit));
        this.who.call(() => {
          if (!this.who.alive) return;
          if (write !== undefined) this.witness?.submitted(write.offset);
          this.path.submit(this.who, write, landed, resolve);
        });
      };
      submit();
    });
  }
}

function checksum(bytes: Uint8Array): string {
  let sum = 0x811c9dc5;
  for (let i = 0; i < bytes.length; i++) sum = Math.imul(sum ^ bytes[i], 0x01000193);
  return (sum >>> 0).toString(16);
}
