/**
 * One volume of this host's cluster, as lunfsd has it: the process that serves it, the region in which this node beats for it, and
 * what is done when one of them ends.
 *
 * The life of an incarnation: the process takes the device exclusively; the region begins to beat; when it is steady and all live nodes
 * are connected the process joins the domain and mounts. It ends in one of two ways. Cleanly: the process says that it has left, and
 * the region writes its goodbye. Or not: the process is dead, or was killed; the region falls silent without a goodbye, peers find this
 * node dead and recover what it had. A volume that was mounted is then mounted again by a new incarnation, as often as it takes.
 *
 * From its first incarnation on, or from its declaration (declared.ts), a volume is a UUID. Each later incarnation takes the device that carries it now,
 * whatever that is called, and waits for one while there is none.
 */
import type { ChildProcess } from 'node:child_process';
import type { Duplex } from 'node:stream';
import { ClusterError, type LunfsError } from '@lunfs/device';
import type { FenceDeadline, VolumeDevice } from '@lunfs/o2cb';
import { pause } from '../clock.js';
import { LINK_FD } from '../cluster/cluster-side.js';
import { type Frame, KIND } from '../cluster/frames.js';
import type { Joining, OpenedVolume } from '../cluster/joining.js';
import { Link, jsonOf } from '../cluster/link.js';
import { type Member, MemberServer } from '../cluster/member-server.js';
import { toWire } from '../control-protocol.js';
import type { MountSpec, RestoredExport, VolumeFacts } from '../host-volume.js';
import { type StartedProcess, startVolumeProcess } from '../volume-process.js';
import type { Supervisor } from './supervisor.js';

/** What a volume asks of the node it is on. */
export interface NodeOf {
  readonly supervisor: Supervisor;
  readonly runDirectory: string;
  /** Milliseconds for which a volume process's main thread may stand still. */
  readonly stillMs: number;
  log(line: string): void;
  /** Look which devices of this host carry volumes. */
  look(): Promise<readonly VolumeDevice[]>;
  /** Before an incarnation that follows another one: if the last could not reach the nodes that beat, wait until they can be reached, or nobody wants it any more. */
  reach(volume: OpenedVolume, wanted: () => boolean): Promise<void>;
  /** Which device carries a volume; `seen`: where it was, `here`: what `look` finds. Throws DEVICE_AWAITED. */
  locate(uuid: string, seen: string, here: Promise<readonly VolumeDevice[]>): Promise<string>;
  /** Refuse a volume by name (`here`: what `look` finds), or beat for it until it is steady and this node connected to all that live. */
  beat(opened: OpenedVolume, here: Promise<readonly VolumeDevice[]>, volume: ManagedVolume): Promise<Beating>;
  /** Refuse a volume by name whose domain has members that do not beat on our disk. */
  admit(volume: OpenedVolume, members: readonly number[]): Promise<void>;
  /** What every process of this node holds open, so that the next lunfsd knows when none of an earlier incarnation is left. */
  readonly lockFd: number;
  /** It is mounted again, by another device perhaps. */
  returned(volume: ManagedVolume): void;
  /** The process died with its locks. */
  died(volume: ManagedVolume, why: string): void;
}

/** A region in which this node beats for a volume. */
export interface Region {
  readonly deadline: FenceDeadline;
  /** With a goodbye, unless the node or the region is lost. Resolves when nothing is written any more. */
  stop(): Promise<void>;
}

export interface Beating {
  readonly region: Region;
  readonly joining: Joining;
  readonly member: Member;
}

export interface VolumeSpec {
  readonly device: string;
  readonly mount: Omit<MountSpec, 'trace'>;
  readonly logicalBlockSize?: number;
}

/** What lunfsd tells of a volume. */
export interface ManagedFacts {
  readonly device: string;
  readonly directory: string;
  readonly state: VolumeState;
  readonly pid?: number;
  readonly uuid?: string;
  /** Why it is not mounted. */
  readonly reason?: string;
  /** Incarnations before this one that ended uncleanly, and how the last one did. */
  readonly fenced: number;
  readonly lastEnd?: string;
  /** Milliseconds until I/O stops if no beat succeeds; negative: it has. */
  readonly deadlineMs?: number;
}

export type VolumeState =
  /** A process starts: it opens the device, this node begins to beat, joins, mounts. */
  | 'joining'
  | 'mounted'
  /** The last incarnation is over, the next one begins soon. */
  | 'rejoining'
  /** It is declared, and was not mounted yet since lunfsd started. */
  | 'awaited'
  /** By umount(8). It is declared, and comes back when the host has rebooted. */
  | 'unmounted'
  | 'ended';

/** For what a process said before it ended to arrive. */
const LAST_WORDS_MS = 5000;
/** Between two attempts to come back: at first, and when they have failed for a while. */
const REJOIN_MS = 2000;
const REJOIN_MAX_MS = 10_000;

interface Incarnation {
  readonly token: string;
  /** The devices of this host, which are looked at while the process starts: a mount need not wait for one after the other. */
  readonly here: Promise<readonly VolumeDevice[]>;
  readonly child: ChildProcess;
  readonly link: Link;
  readonly exited: Promise<string>;
  region?: Region;
  opened?: OpenedVolume;
  server?: MemberServer;
  unwatch?: () => void;
  left: boolean;
}

export class ManagedVolume {
  state: VolumeState = 'joining';
  #now: Incarnation | undefined;
  /** What the last incarnation found on the device. */
  #found: OpenedVolume | undefined;
  #fenced = 0;
  #lastEnd: string | undefined;
  #exports: readonly RestoredExport[] = [];
  #unwanted = false;
  #device: string;
  #reason: string | undefined;
  /** Who waits for the next attempt to come back, and what begins it at once. */
  #waiting: { readonly resolve: (facts: VolumeFacts) => void; readonly reject: (error: unknown) => void }[] = [];
  #hurry: () => void = () => undefined;
  #returning = false;
  #closed!: () => void;
  /** Resolves when no process of an incarnation runs. */
  gone: Promise<unknown> = Promise.resolve();
  /** Resolves when the volume is no longer this node's. */
  readonly ended = new Promise<void>((resolve) => {
    this.#closed = resolve;
  });

  /** `uuid`: of a volume that is declared already. */
  constructor(private readonly node: NodeOf, readonly spec: VolumeSpec, private declared?: string) {
    this.#device = spec.device;
  }

  /** By the name it has now, or had last. */
  get device(): string {
    return this.#device;
  }

  get uuid(): string | undefined {
    return this.declared;
  }

  /** A process has it open. */
  get open(): boolean {
    return this.#now?.opened !== undefined;
  }

  facts(now: number): ManagedFacts {
    const grant = this.#now?.region?.deadline.grant();
    return {
      device: this.#device, directory: this.spec.mount.directory, state: this.state, pid: this.#now?.child.pid, uuid: this.uuid, reason: this.state === 'mounted' ? undefined : this.#reason, fenced: this.#fenced, lastEnd: this.#lastEnd,
      deadlineMs: grant && Math.round(grant.monotonic - now),
    };
  }

  /** The first incarnation. Rejects with what kept it from mounting; then the volume has ended. */
  async start(): Promise<VolumeFacts> {
    try {
      const { facts } = await this.#incarnation();
      return facts;
    } catch (error) {
      this.#end();
      throw error;
    }
  }

  /** Mount it as it is declared, as soon as that can be done. Resolves when it has been tried once. */
  async restore(): Promise<void> {
    this.state = 'awaited';
    this.#returning = true;
    if (!(await this.#attempt('awaited'))) void this.#comeBack('awaited');
  }

  /** It is tried again and again to mount it. */
  get returning(): boolean {
    return this.#returning;
  }

  /** Try at once what would be tried soon: for who mounts by hand what comes back. Rejects with what is in the way. */
  soon(): Promise<VolumeFacts> {
    const next = new Promise<VolumeFacts>((resolve, reject) => this.#waiting.push({ resolve, reject }));
    this.#hurry();
    return next;
  }

  /** It has said goodbye and will have ended soon. */
  get leaving(): boolean {
    return this.#unwanted || this.#now?.left === true || (this.state === 'mounted' && this.#now === undefined);
  }

  /** Kill the process at once: the node is fenced. It comes back by itself. */
  kill(): void {
    this.#now?.child.kill('SIGKILL');
  }

  /** End it: SIGTERM to the process, which leaves cleanly. No incarnation follows. */
  async stop(): Promise<void> {
    this.#unwanted = true;
    this.#now?.child.kill('SIGTERM');
    this.#hurry();
    await this.ended;
  }

  async #incarnation(): Promise<StartedProcess> {
    const { supervisor, runDirectory, stillMs } = this.node;
    const { mount, logicalBlockSize } = this.spec;
    const here = this.node.look();
    if (this.declared !== undefined) this.#device = await this.node.locate(this.declared, this.#device, here);
    const device = this.#device;
    this.state = 'joining';
    const token = supervisor.newToken();
    let mine: Incarnation | undefined;
    let over: Promise<void> | undefined;
    let mounted = false;
    try {
      const started = await startVolumeProcess({
        device, mount, logicalBlockSize, restored: this.#exports, cluster: { socket: supervisor.socket, token, stillMs },
        supervised: {
          runDirectory, lockFd: this.node.lockFd,
          begun: (child) => {
            const exited = new Promise<string>((resolve) => {
              child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
            });
            mine = { token, here, child, exited, left: false, link: new Link(child.stdio[LINK_FD] as unknown as Duplex, (frame) => this.#received(mine!, frame)) };
            this.#now = mine;
            // A process that nobody can talk to any more answers its peers never: they must recover it.
            void mine.link.closed.then(() => mine?.left === false && child.kill('SIGKILL'));
            this.gone = over = exited.then((how) => this.#exited(mine!, how, mounted));
          },
        },
      });
      mounted = true;
      this.state = 'mounted';
      return started;
    } catch (error) {
      // Whatever is left of it must be gone before anybody tries again.
      mine?.child.kill('SIGKILL');
      await over;
      throw error;
    }
  }

  #received(mine: Incarnation, frame: Frame): void {
    if (frame.kind === KIND.opened) void this.#opened(mine, jsonOf<OpenedVolume>(frame));
    else if (frame.kind === KIND.joined) void this.#joined(mine, jsonOf<number[]>(frame));
    else if (frame.kind === KIND.left) mine.left = true;
    else if (frame.kind === KIND.exports) this.#exports = jsonOf<RestoredExport[]>(frame);
    else if (mine.server?.receive(frame) !== true) throw new ClusterError('LINK_FRAME', `a volume process sent a frame of kind ${frame.kind} that means nothing now`);
  }

  /** The device is the process's own: begin to beat. */
  async #opened(mine: Incarnation, opened: OpenedVolume): Promise<void> {
    try {
      if (this.declared !== undefined && opened.uuid !== this.declared) {
        throw new ClusterError('OTHER_VOLUME', `${opened.device} carries the volume ${opened.uuid}, not ${this.declared}, which is to be mounted on ${this.spec.mount.directory}`, { device: opened.device, uuid: opened.uuid });
      }
      mine.opened = this.#found = opened;
      const { region, joining, member } = await this.node.beat(opened, mine.here, this);
      if (mine.child.exitCode !== null || mine.child.signalCode !== null) {
        await region.stop();
        return;
      }
      mine.region = region;
      mine.unwatch = this.node.supervisor.watch(mine.token, mine.child.pid!, region.deadline, (why) => this.node.log(`${this.#device}: process ${mine.child.pid} was killed: ${why}`));
      mine.server = new MemberServer(mine.link, member, opened.uuid);
      mine.link.sendJson(KIND.beating, joining);
      this.declared = opened.uuid;
    } catch (error) {
      mine.link.sendJson(KIND.refused, toWire(error));
    }
  }

  async #joined(mine: Incarnation, members: readonly number[]): Promise<void> {
    try {
      await this.node.admit(mine.opened!, members);
      mine.link.send(KIND.admitted);
    } catch (error) {
      mine.link.sendJson(KIND.refused, toWire(error));
    }
  }

  async #exited(mine: Incarnation, how: string, mounted: boolean): Promise<void> {
    // What it said last may be told after its exit; a helper program of its may hold the link a moment longer.
    await Promise.race([mine.link.closed, pause(LAST_WORDS_MS)]);
    mine.server?.close();
    mine.unwatch?.();
    mine.link.close();
    this.#now = undefined;
    const clean = mine.left || mine.server === undefined;
    if (!clean) {
      this.#fenced++;
      this.#lastEnd = how;
      // Where the region itself is lost, peers learn of it by that; else nobody would.
      if (mine.region?.deadline.state !== 'lost') this.node.died(this, how);
    }
    await mine.region?.stop();
    if (clean || this.#unwanted || !mounted) {
      if (mounted) this.#end();
      return;
    }
    this.state = 'rejoining';
    this.#reason = `its process ended by ${how}`;
    this.#returning = true;
    void this.#comeBack('rejoining');
  }

  /** As often as it takes. */
  async #comeBack(meanwhile: 'rejoining' | 'awaited'): Promise<void> {
    for (let wait = REJOIN_MS; !this.#unwanted; wait = Math.min(wait * 1.5, REJOIN_MAX_MS)) {
      if (this.#waiting.length === 0) await Promise.race([pause(wait), new Promise<void>((resolve) => { this.#hurry = resolve; })]);
      if (!this.#unwanted && (await this.#attempt(meanwhile))) return;
    }
    this.#end();
  }

  async #attempt(meanwhile: 'rejoining' | 'awaited'): Promise<boolean> {
    try {
      if (this.#found !== undefined) {
        const device = await this.node.locate(this.#found.uuid, this.#device, this.node.look());
        await this.node.reach({ ...this.#found, device }, () => !this.#unwanted);
        if (this.#unwanted) return false;
      }
      const { facts } = await this.#incarnation();
      this.node.log(`${this.#device}: mounted again on ${this.spec.mount.directory}`);
      this.#reason = undefined;
      this.#returning = false;
      this.node.returned(this);
      for (const { resolve } of this.#waiting.splice(0)) resolve(facts);
      return true;
    } catch (error) {
      this.state = meanwhile;
      const { message } = error as LunfsError;
      // For months, perhaps: once is enough.
      if (message !== this.#reason) this.node.log(`${this.#device}: cannot come back yet: ${message}`);
      this.#reason = message;
      for (const { reject } of this.#waiting.splice(0)) reject(error);
      return false;
    }
  }

  #end(): void {
    this.state = 'ended';
    for (const { reject } of this.#waiting.splice(0)) reject(new ClusterError('UNMOUNTED', `${this.#device} was unmounted meanwhile`, { device: this.#device }));
    this.#closed();
  }
}

