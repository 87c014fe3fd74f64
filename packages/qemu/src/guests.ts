/**
 * The guests of one host: defined, started, looked at, stopped. No process of ours has to live for them: a guest is its QEMU and its run
 * directory, and whoever comes later works on it under the guest's lock, one at a time.
 *
 * Order of a start: disks are exported; the record is written; QEMU starts, standing still; the record gets its process; the guest begins. So
 * after a crash at any point the next start, or stop, finds what there is to take back, and no guest runs that cannot be found.
 */
import * as fs from 'node:fs';
import path from 'node:path';
import { InternalError, LunfsError, UsageError, flock } from '@lunfs/device';
import { chooseAccel } from './accel.js';
import { timestamp } from './clock.js';
import { commandLine } from './command-line.js';
import { type DiskDefinition, type GuestDefinition, DISKS_MAX, guestName, parseDisk } from './definition.js';
import type { Definitions } from './definitions.js';
import { freePort } from './devices.js';
import { growDisk, plugDisk, unplugDisk } from './hotplug.js';
import { findByPidFile, findProgram, isAlive, killProcess, startQemu, waitGone } from './process.js';
import { QmpClient } from './qmp/client.js';
import {
  type AttachedDisk, type DiskEndpoint, type GuestPaths, type GuestRecord, type ProcessIdentity, guestPaths, readRecord, removeRunFiles, writeRecord,
} from './run-files.js';
import { type GuestStatus, statusOf } from './state.js';
import { makeTaps, ownTaps, removeTaps, tapNames } from './taps.js';

/** Seconds that one command waits for another that works on the same guest. */
const LOCK_S = 10;
/** Who only looks does not wait long for a QEMU that stands still. */
const LOOK_MS = 3_000;
/** After `quit` QEMU ends what is in flight; requests may wait for a volume process that is being restarted. */
const QUIT_MS = 30_000;
export const POWERDOWN_MS = 60_000;

/** Where guests' disks come from. */
export interface DiskSource {
  /** Make the disk reachable for this guest of this host. Throws GUEST_DISK_IN_USE when another guest has it, unless this one is `incoming`. */
  attach(disk: DiskDefinition, use: { readonly guest: string; readonly incoming: boolean }): Promise<DiskEndpoint>;
  /** The guest has no connection to it any more. `shared`: another may have, over a migration; then it stays. What is gone already is no error. */
  release(endpoint: DiskEndpoint, use: { readonly shared: boolean }): Promise<void>;
  /** Give the disk this size. New connections see it. */
  resize(endpoint: DiskEndpoint, size: number): Promise<void>;
}

export interface GuestsOptions {
  readonly definitions: Definitions;
  /** Holds a directory per guest that runs; survives the programs of lunfs, not the host. */
  readonly runDirectory: string;
  readonly disks: DiskSource;
}

export interface GuestFacts extends GuestStatus {
  readonly name: string;
  /** As it runs; of a guest that does not, as it is defined. */
  readonly definition: GuestDefinition;
  readonly pid?: number;
  readonly accel?: 'kvm' | 'tcg';
  readonly startedAt?: string;
  readonly disks: readonly (DiskDefinition & { readonly endpoint?: DiskEndpoint })[];
  /** Unix sockets that are there while it runs. */
  readonly sockets?: { readonly monitor: string; readonly serial?: string; readonly vnc?: string; readonly channels: Readonly<Record<string, string>> };
}

export interface StopOptions {
  /** Milliseconds for the guest to shut itself down; 0: do not ask it. */
  readonly timeoutMs?: number;
  /** SIGKILL a QEMU that does not end. */
  readonly force?: boolean;
  /** It migrated, or was to: its disks are another's now. */
  readonly handedOver?: boolean;
}

interface Run {
  readonly paths: GuestPaths;
  readonly record: GuestRecord;
  /** Undefined: it has ended, or was never started. */
  readonly process: ProcessIdentity | undefined;
}

export class Guests {
  constructor(private readonly options: GuestsOptions) {}

  /** All guests that are defined or of which something runs, by name. */
  async list(): Promise<GuestFacts[]> {
    const { definitions, runDirectory } = this.options;
    const running = fs.existsSync(runDirectory) ? fs.readdirSync(runDirectory).filter((name) => fs.existsSync(guestPaths(runDirectory, name).record)) : [];
    return Promise.all([...new Set([...definitions.names(), ...running])].sort().map((name) => this.show(name)));
  }

  /** Throws GUEST_UNKNOWN. */
  async show(name: string): Promise<GuestFacts> {
    const run = this.#run(guestName(name));
    if (run === undefined) {
      const definition = this.options.definitions.get(name);
      return { name, definition, disks: definition.disks, state: 'shut-off', reason: 'not running', troubles: [] };
    }
    const { paths, record: { definition, accel, startedAt, disks }, process } = run;
    const status = await this.#status(run);
    if (process === undefined) return { name, definition, disks, ...status };
    const channels = Object.fromEntries(definition.channels.map((channel) => [channel, paths.channel(channel)]));
    return {
      name, definition, disks, ...status, pid: process.pid, accel, startedAt,
      sockets: { monitor: paths.monitor, serial: definition.serial ? paths.serial : undefined, vnc: definition.vnc ? paths.vnc : undefined, channels },
    };
  }

  /**
   * Start a guest. `incoming`: it waits for the state of one that migrates here, and its disks may be in use where it comes from. Throws
   * GUEST_RUNNING, QEMU_START, NO_KVM, NIC_BRIDGE and what the disks throw; nothing is left then.
   */
  start(name: string, { incoming = false }: { readonly incoming?: boolean } = {}): Promise<GuestFacts> {
    const definition = this.options.definitions.get(name);
    return this.#alone(name, async () => {
      const before = this.#run(name);
      if (before?.process !== undefined && before.record.process !== undefined) throw new UsageError('GUEST_RUNNING', 'EBUSY', `guest ${name} is running (process ${before.process.pid})`, { name });
      if (before !== undefined) await this.#collect(before);
      const program = findProgram('qemu-system-x86_64', 'qemu-system-x86');
      const accel = await chooseAccel(definition.accel, program, this.options.runDirectory);
      const paths = guestPaths(this.options.runDirectory, name);
      const disks: AttachedDisk[] = [];
      try {
        for (const disk of definition.disks) disks.push({ ...disk, port: disks.length, endpoint: await this.options.disks.attach(disk, { guest: name, incoming }) });
        fs.mkdirSync(paths.directory, { recursive: true, mode: 0o700 });
        const record: GuestRecord = { definition, accel, disks, taps: ownTaps(definition), startedAt: timestamp() };
        writeRecord(paths, record);
        await makeTaps(definition);
        const args = commandLine({ definition, accel, disks, taps: tapNames(definition), paths, incoming });
        const { identity, monitor } = await startQemu(program, args, paths, `guest ${name}`);
        try {
          writeRecord(paths, { ...record, process: identity });
          if (!incoming) await monitor.execute('cont');
        } catch (error) {
          await killProcess(identity, `guest ${name}`);
          throw error;
        } finally {
          monitor.close();
        }
      } catch (error) {
        await removeTaps(ownTaps(definition));
        for (const { endpoint } of disks) await this.options.disks.release(endpoint, { shared: incoming });
        removeRunFiles(paths);
        throw error;
      }
      return this.show(name);
    });
  }

  /**
   * Stop a guest: ask it to shut down, after `timeoutMs` end its QEMU, which is like cutting the power of a machine whose disks have
   * caches that keep what they acknowledged. Resolves to what it took. Throws GUEST_STUCK when QEMU does not end and `force` is not given.
   */
  stop(name: string, { timeoutMs = POWERDOWN_MS, force = false, handedOver = false }: StopOptions = {}): Promise<'was-off' | 'shut-down' | 'quit' | 'killed'> {
    return this.#alone(guestName(name), async () => {
      const run = this.#run(name);
      if (run === undefined) {
        this.options.definitions.get(name);
        return 'was-off';
      }
      const how = run.process === undefined ? 'was-off' : await this.#end(run.process, run.paths, name, timeoutMs, force);
      await this.#collect({ ...run, process: undefined }, handedOver);
      return how;
    });
  }

  /** Reset a guest as its reset button would. */
  reset(name: string): Promise<void> {
    return this.#work(name, (monitor) => monitor.execute('system_reset').then(() => undefined));
  }

  /** Stop the guest's processors. */
  pause(name: string): Promise<void> {
    return this.#work(name, (monitor) => monitor.execute('stop').then(() => undefined));
  }

  /** Let a guest go on that is paused or stopped for trouble with a disk: what failed is tried again. */
  resume(name: string): Promise<void> {
    return this.#work(name, (monitor) => monitor.execute('cont').then(() => undefined));
  }

  /** Plug a disk into a running guest. It is gone after the guest's end unless its definition has it. Throws GUEST_DISK_EXISTS, GUEST_DISKS_MAX. */
  attachDisk(name: string, input: unknown): Promise<AttachedDisk> {
    const disk = parseDisk(input);
    return this.#work(name, async (monitor, { paths, record }) => {
      if (record.disks.some(({ id, source }) => id === disk.id || source === disk.source)) throw new UsageError('GUEST_DISK_EXISTS', 'EEXIST', `guest ${name} has disk ${disk.id} or ${disk.source} already`, { name, disk: disk.id });
      if (record.disks.length >= DISKS_MAX) throw new UsageError('GUEST_DISKS_MAX', 'ENOSPC', `guest ${name} has ${DISKS_MAX} disks, more do not fit`, { name });
      const attached: AttachedDisk = { ...disk, port: freePort(record.disks), endpoint: await this.options.disks.attach(disk, { guest: name, incoming: false }) };
      // Before QEMU knows it: a disk of the record that QEMU does not have can be detached, the other way round it could not be.
      writeRecord(paths, { ...record, disks: [...record.disks, attached] });
      try {
        await plugDisk(monitor, record.definition.machine, attached);
      } catch (error) {
        writeRecord(paths, record);
        await this.options.disks.release(attached.endpoint, { shared: false });
        throw error;
      }
      return attached;
    });
  }

  /** Unplug a disk from a running guest. Throws GUEST_DISK_UNKNOWN, UNPLUG_REFUSED, UNPLUG_TIMEOUT. */
  detachDisk(name: string, id: string): Promise<void> {
    return this.#work(name, async (monitor, { paths, record }) => {
      const disk = diskOf(record, name, id);
      await unplugDisk(monitor, id);
      writeRecord(paths, { ...record, disks: record.disks.filter((one) => one !== disk) });
      await this.options.disks.release(disk.endpoint, { shared: false });
    });
  }

  /** Give a disk of a running guest this size; the guest sees it at once. Throws GUEST_DISK_UNKNOWN, DISK_EXPORTED for less than it has. */
  resizeDisk(name: string, id: string, size: number): Promise<void> {
    return this.#work(name, async (monitor, { record }) => {
      const disk = diskOf(record, name, id);
      await this.options.disks.resize(disk.endpoint, size);
      await growDisk(monitor, disk, size);
    });
  }

  /** Forget a guest that does not run; its disks stay. Throws GUEST_RUNNING, GUEST_UNKNOWN. */
  undefine(name: string): Promise<void> {
    return this.#alone(guestName(name), async () => {
      const run = this.#run(name);
      if (run?.process !== undefined) throw new UsageError('GUEST_RUNNING', 'EBUSY', `guest ${name} is running; stop it first`, { name });
      this.options.definitions.remove(name);
      if (run !== undefined) await this.#collect(run);
    });
  }

  /** Run `work` with the guest's monitor while nobody else works on it. Throws GUEST_NOT_RUNNING, GUEST_BUSY, QMP_BUSY. */
  withMonitor<T>(name: string, work: (monitor: QmpClient) => Promise<T>): Promise<T> {
    return this.#work(name, work);
  }

  #work<T>(name: string, work: (monitor: QmpClient, run: Run) => Promise<T>): Promise<T> {
    return this.#alone(guestName(name), async () => {
      const run = this.#run(name);
      if (run === undefined) this.options.definitions.get(name);
      if (run?.process === undefined) throw new UsageError('GUEST_NOT_RUNNING', 'ESHUTDOWN', `guest ${name} is not running`, { name });
      const monitor = await QmpClient.connect(run.paths.monitor, `guest ${name}`);
      try {
        return await work(monitor, run);
      } finally {
        monitor.close();
      }
    });
  }

  #run(name: string): Run | undefined {
    const paths = guestPaths(this.options.runDirectory, name);
    const record = readRecord(paths);
    if (record === undefined) return undefined;
    const process = record.process ?? findByPidFile(paths);
    return { paths, record, process: process !== undefined && isAlive(process) ? process : undefined };
  }

  async #status({ paths, record, process }: Run): Promise<GuestStatus> {
    const troubles: [] = [];
    if (process === undefined) {
      if (record.process === undefined) return { state: 'shut-off', reason: 'its start did not get through', troubles };
      // QEMU removes its pid file when it ends in order: the guest powered itself off, or QEMU was told to.
      if (!fs.existsSync(paths.pid)) return { state: 'shut-off', reason: 'it shut itself down, or its QEMU was told to end', troubles };
      return { state: 'crashed', reason: `its QEMU was killed or crashed; ${paths.log} may say why`, troubles };
    }
    try {
      const monitor = await QmpClient.connect(paths.queries, `guest ${record.definition.name}`, { greetingMs: LOOK_MS });
      try {
        const limit = { timeoutMs: LOOK_MS };
        const [status, blocks] = await Promise.all([monitor.execute('query-status', {}, limit), monitor.execute('query-block', {}, limit)]);
        return statusOf(status, blocks);
      } finally {
        monitor.close();
      }
    } catch (error) {
      if (!(error instanceof LunfsError)) throw error;
      return { state: 'unreachable', reason: error.message, troubles };
    }
  }

  async #end(process: ProcessIdentity, paths: GuestPaths, name: string, timeoutMs: number, force: boolean): Promise<'shut-down' | 'quit' | 'killed'> {
    try {
      const monitor = await QmpClient.connect(paths.monitor, `guest ${name}`);
      try {
        if (timeoutMs > 0) {
          await monitor.execute('system_powerdown');
          if (await waitGone(process, timeoutMs)) return 'shut-down';
        }
        await monitor.execute('quit');
        if (await waitGone(process, QUIT_MS)) return 'quit';
      } finally {
        monitor.close();
      }
    } catch (error) {
      if (!(error instanceof LunfsError)) throw error;
      // It may have ended between two looks.
      if (error.code === 'QMP_GONE' && (await waitGone(process, QUIT_MS))) return timeoutMs > 0 ? 'shut-down' : 'quit';
      if (!force) throw error;
    }
    if (!force) throw new UsageError('GUEST_STUCK', 'EBUSY', `QEMU of guest ${name} (process ${process.pid}) does not end: it waits for its disks; --force kills it, and loses nothing that the guest was told is written`, { name, pid: process.pid });
    await killProcess(process, `guest ${name}`);
    return 'killed';
  }

  /** Take back what a run of a guest had; a QEMU that never began is ended. */
  async #collect({ paths, record, process }: Run, shared = false): Promise<void> {
    if (process !== undefined) await killProcess(process, `guest ${record.definition.name}`);
    for (const { endpoint } of record.disks) await this.options.disks.release(endpoint, { shared });
    await removeTaps(record.taps);
    removeRunFiles(paths);
  }

  /** Run `work` while no other program works on the guest. The lock goes with this process, however it ends. */
  async #alone<T>(name: string, work: () => Promise<T>): Promise<T> {
    fs.mkdirSync(this.options.runDirectory, { recursive: true, mode: 0o700 });
    const fd = fs.openSync(path.join(this.options.runDirectory, `${name}.lock`), 'a', 0o600);
    try {
      const { missing, status, stderr } = await flock(fd, 'exclusive', LOCK_S);
      if (missing) findProgram('flock', 'util-linux');
      if (status === 1) throw new UsageError('GUEST_BUSY', 'EBUSY', `another program works on guest ${name}; try again when it has ended`, { name });
      if (status !== 0) throw new InternalError('GUEST_LOCK', `cannot lock guest ${name}: ${stderr}`, { name });
      return await work();
    } finally {
      fs.closeSync(fd);
    }
  }
}

function diskOf(record: GuestRecord, name: string, id: string): AttachedDisk {
  const disk = record.disks.find((one) => one.id === id);
  if (disk === undefined) throw new UsageError('GUEST_DISK_UNKNOWN', 'ENOENT', `guest ${name} has no disk ${id}; it has ${record.disks.map((one) => one.id).join(', ') || 'none'}`, { name, disk: id });
  return disk;
}
