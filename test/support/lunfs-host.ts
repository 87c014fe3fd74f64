/**
 * A host that runs lunfs as its operator would: lunfsd, mounts and the command line, in a directory of its own. On a host of the lab it has
 * that host's network; without one it shares this machine's, where nodes have addresses of their own on loopback.
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import path from 'node:path';
import type { ClusterLab, LabHost } from './cluster-lab.js';
import { type ClusterConfig, clusterConf } from './machines.js';
import { type Cleanup, tempDir } from './temp.js';

export const LUNFS = path.resolve(import.meta.dirname, '../../packages/cli/bin/lunfs.cjs');

const STAND_STILL = path.resolve(import.meta.dirname, 'stand-still.mjs');

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

type Spawn = (command: string, args: readonly string[], options: SpawnOptions) => ChildProcess;

/** Runs a program to its end. */
export function finish(child: ChildProcess): Promise<Ran> {
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout?.on('data', (part: Buffer) => out.push(part));
  child.stderr?.on('data', (part: Buffer) => err.push(part));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() }));
  });
}

export class LunfsHost {
  readonly directory: string;
  readonly mount: string;
  /** What its programs find in their environment beside ours. */
  environment: NodeJS.ProcessEnv = {};

  /** `device`: what it mounts. Nothing runs yet; all is ended by `cleanup`. */
  constructor(cleanup: Cleanup, cluster: ClusterConfig, readonly node: ClusterConfig['nodes'][number], readonly device: string, private readonly start: Spawn = spawn) {
    this.directory = tempDir(cleanup, node.name);
    this.mount = path.join(this.directory, 'mnt');
    fs.mkdirSync(this.mount);
    fs.mkdirSync(this.data);
    this.configure(cluster);
    cleanup.add(async () => {
      // Processes of ours that a failed test left, and what those have started meanwhile; each tells its number itself.
      for (let tries = 0, left = await this.processes(); left.length > 0 && tries < 200; tries++, left = await this.processes()) {
        for (const pid of left) {
          try {
            process.kill(pid, 'SIGKILL');
          } catch {
            // gone
          }
        }
        await new Promise((resolve) => { setTimeout(resolve, 50); });
      }
      await finish(spawn('umount', ['-i', '-n', '-l', this.mount], { stdio: 'ignore' }));
      // Mount points of what is to come back are sealed.
      await finish(spawn('chattr', ['-R', '-f', '-i', this.directory], { stdio: 'ignore' }));
    });
  }

  /** On a host of a lab, with its network and device. */
  static inLab(cleanup: Cleanup, { config }: ClusterLab, host: LabHost): LunfsHost {
    const node = config.nodes.find(({ number }) => number === host.number)!;
    return new LunfsHost(cleanup, config, node, host.device, (command, args, options) => host.spawn(command, args, options));
  }

  /** What it is told of its cluster when lunfsd starts the next time. */
  configure(cluster: ClusterConfig): void {
    fs.writeFileSync(path.join(this.directory, 'cluster.conf'), clusterConf(cluster));
    const { threshold = 31, idleMs = 30_000 } = cluster.settings ?? {};
    fs.writeFileSync(path.join(this.directory, 'o2cb'), `O2CB_HEARTBEAT_THRESHOLD=${threshold}\nO2CB_IDLE_TIMEOUT_MS=${idleMs}\n`);
  }

  get data(): string {
    return path.join(this.directory, 'run');
  }

  /** Processes with this host's directory in their options or environment: lunfsd first. */
  async processes(): Promise<number[]> {
    const found: number[] = [];
    for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      try {
        const environment = await fs.promises.readFile(`/proc/${pid}/environ`, 'latin1');
        if (environment.includes(`LUNFS_RUN_DIR=${this.data}\0`) && Number(pid) !== process.pid) found.push(Number(pid));
      } catch {
        // gone
      }
    }
    return found;
  }

  run(...args: readonly string[]): Promise<Ran> {
    return finish(this.start(process.execPath, [LUNFS, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...this.environment, LUNFS_RUN_DIR: this.data } }));
  }

  /** Runs a command of lunfs that must succeed. */
  async must(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(...args);
    if (code !== 0) throw new Error(`lunfs ${args.join(' ')} on ${this.node.name}: exit code ${code}\n${stderr}${stdout}${this.logs()}`);
    return stdout;
  }

  async json<T>(...args: readonly string[]): Promise<T> {
    return JSON.parse(await this.must(...args, '--json')) as T;
  }

  /** lunfsd. */
  async up(): Promise<void> {
    await this.must('up', '--node', this.node.name, '--config', path.join(this.directory, 'cluster.conf'), '--settings', path.join(this.directory, 'o2cb'));
  }

  async mountVolume(): Promise<void> {
    await this.must('mount', this.device, this.mount);
  }

  /** A shell command in the mount, in a process of its own: one that hangs holds up nobody else. */
  sh(command: string, timeoutSeconds = 120): Promise<Ran> {
    return finish(spawn('timeout', [String(timeoutSeconds), 'bash', '--norc', '-c', command], { cwd: this.directory, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, M: this.mount } }));
  }

  /** A shell command that must succeed; `$M` is the mount. */
  async do(command: string, timeoutSeconds?: number): Promise<string> {
    const { code, stdout, stderr } = await this.sh(command, timeoutSeconds);
    if (code !== 0) throw new Error(`${this.node.name}: ${command}: exit code ${code}\n${stderr}${stdout}${this.logs()}`);
    return stdout;
  }

  /** From now on SIGUSR2 makes the main thread of a program of this host stand still for six seconds. Before `up`. */
  canStandStill(): void {
    this.environment = { NODE_OPTIONS: `--import=${STAND_STILL}` };
  }

  /** Resolves when the main thread of a process has stood still; to when it did, monotonic milliseconds. */
  async standStill(pid: number): Promise<{ readonly from: number; readonly to: number }> {
    const told = (): RegExpMatchArray[] => [...this.logs().matchAll(/^stood still (\d+) (\d+)$/gm)];
    const before = told().map(([line]) => line);
    process.kill(pid, 'SIGUSR2');
    for (;;) {
      const [now] = told().filter(([line]) => !before.includes(line));
      if (now) return { from: Number(now[1]), to: Number(now[2]) };
      await new Promise((resolve) => { setTimeout(resolve, 100); });
    }
  }

  /** What lunfsd and the volume processes said so far. */
  logs(): string {
    return fs.readdirSync(this.data).filter((name) => name.endsWith('.log')).map((name) => `--- ${name} of ${this.node.name}\n${fs.readFileSync(path.join(this.data, name), 'utf8')}`).join('');
  }
}
