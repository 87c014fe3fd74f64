// Hosts of lunfs on one machine, over one LUN in a file: each has a lunfsd of its own (--node NAME) that listens and connects from its own
// address on loopback, a directory of its own for sockets and logs, and a loop device of its own over the file, as on a SAN.
//
// Everything of a host is found again without having been noted: its daemons by the log they write to, its mount by its directory, its loop
// device by the file. So `clean` works whatever was interrupted, and where.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { findProgram } from './oracles.mjs';
import { root, run } from './run.mjs';

const launcher = path.join(root, 'packages/cli/bin/lunfs.cjs');
/** How long processes that were killed may take to be gone: what they have in the kernel ends first. */
const GONE_MS = 20_000;

/**
 * @typedef {object} Node
 * @property {number} number
 * @property {string} name
 * @property {string} address
 */

/** One host; `device` is what it knows the LUN by. */
export class Host {
  /** @type {string} */
  device = '';

  /**
   * @param {Node} node
   * @param {string} directory   its own; sockets have short paths
   * @param {AbortSignal} signal ends its commands
   */
  constructor(node, directory, signal) {
    this.node = node;
    this.directory = directory;
    this.signal = signal;
    this.mount = path.join(directory, 'mnt');
    this.data = path.join(directory, 'run');
    fs.mkdirSync(this.mount, { recursive: true });
    fs.mkdirSync(this.data, { mode: 0o700 });
  }

  get name() {
    return this.node.name;
  }

  get env() {
    return { LUNFS_RUN_DIR: this.data };
  }

  /** Runs a command of lunfs on this host, which must succeed. @param {...string} args */
  async lunfs(...args) {
    const { status, output, ms } = await run(process.execPath, [launcher, ...args], { env: this.env, signal: this.signal });
    if (status !== 0) throw new Error(`${this.name}: lunfs ${args.join(' ')}: exit code ${status}\n${output}${this.#lastWords()}`);
    return { output, ms };
  }

  /** Starts lunfsd. @param {...string} options */
  async up(...options) {
    const at = (/** @type {string} */ name) => path.join(this.directory, '..', name);
    await this.lunfs('up', '--node', this.name, '--config', at('cluster.conf'), '--settings', at('o2cb'), ...options);
  }

  async mountVolume() {
    return await this.lunfs('mount', this.device, this.mount);
  }

  /** Resolves when all that was mounted when lunfsd ended is mounted again. */
  async returns() {
    while ((await this.status()).volumes.some((/** @type {{ state: string }} */ one) => one.state !== 'mounted')) {
      await new Promise((resolve) => { setTimeout(resolve, 200); });
      this.signal.throwIfAborted();
    }
  }

  /** What lunfsd knows. */
  async status() {
    return JSON.parse((await this.lunfs('cluster', 'status', '--json')).output);
  }

  /** Starts a program in the mount; it runs beside us. @param {string} command @param {string[]} args @param {'ignore' | 'pipe'} [input] */
  start(command, args, input = 'ignore') {
    return spawn(command, args, { stdio: [input, 'pipe', 'pipe'], signal: this.signal, killSignal: 'SIGKILL', env: { ...process.env, ...this.env, M: this.mount } });
  }

  /** Runs a shell command that must succeed; `$M` is the mount. @param {string} command */
  async sh(command) {
    const { status, output, ms } = await run('bash', ['--norc', '-c', command], { env: { ...this.env, M: this.mount }, signal: this.signal });
    if (status !== 0) throw new Error(`${this.name}: ${command}: exit code ${status}\n${output}${this.#lastWords()}`);
    return { output, ms };
  }

  /** SIGKILL to lunfsd and the volume processes: the host's power is cut. Resolves at once. */
  kill() {
    for (const pid of this.#daemons()) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // gone
      }
    }
  }

  /** Nothing of the host runs or is mounted afterwards; its files stay. */
  async clean() {
    const until = performance.now() + GONE_MS;
    // What was being started may start something more.
    while (this.#daemons().length > 0) {
      this.kill();
      if (performance.now() > until) throw new Error(`processes of ${this.name} do not end: ${this.#daemons().join(', ')}`);
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
    while (fs.readFileSync('/proc/self/mounts', 'utf8').includes(` ${this.mount} fuse.lunfs `)) {
      const { status, output } = await run(findProgram('umount') ?? 'umount', ['-i', '-n', '-l', this.mount]);
      if (status !== 0) throw new Error(output.trim());
    }
    // A mount point of what is to come back is sealed. The next mount seals it again.
    await run(findProgram('chattr') ?? 'chattr', ['-R', '-f', '-i', this.mount]);
  }

  /**
   * Numbers of lunfsd and the volume processes: what has a log of this host as its standard error. (A link is read without touching the process:
   * its environment or arguments could be had only when it does not hang in a page fault.)
   */
  #daemons() {
    return fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
      try {
        return fs.readlinkSync(`/proc/${pid}/fd/2`).startsWith(`${this.data}/`);
      } catch {
        return false; // gone, or somebody else's
      }
    });
  }

  #lastWords() {
    const log = path.join(this.data, 'lunfsd.log');
    return fs.existsSync(log) ? fs.readFileSync(log, 'utf8').trimEnd().split('\n').slice(-5).map((line) => `  lunfsd of ${this.name}: ${line}\n`).join('') : '';
  }
}

/**
 * Hosts of a cluster, and the files of their configuration; nothing runs yet. Their addresses are nobody else's on this machine: they follow
 * from the number of this process; or `network` says how they begin (three numbers).
 * @param {string} directory
 * @param {string} lun
 * @param {{ count: number, cluster: string, settings: Record<string, string | number>, signal: AbortSignal, firstNumber?: number, network?: string }} options
 */
export async function clusterHosts(directory, lun, { count, cluster, settings, signal, firstNumber = 1, network = `127.${64 + ((process.pid >> 8) & 63)}.${process.pid & 255}` }) {
  const nodes = Array.from({ length: count }, (_, i) => ({ number: firstNumber + i, name: `host${i + 1}`, address: `${network}.${i + 1}` }));
  const stanzas = nodes.map(({ number, name, address }) => `node:\n\tip_port = 7777\n\tip_address = ${address}\n\tnumber = ${number}\n\tname = ${name}\n\tcluster = ${cluster}\n\n`);
  fs.writeFileSync(path.join(directory, 'cluster.conf'), `${stanzas.join('')}cluster:\n\tnode_count = ${count}\n\theartbeat_mode = local\n\tname = ${cluster}\n`);
  fs.writeFileSync(path.join(directory, 'o2cb'), Object.entries(settings).map(([key, value]) => `${key}=${value}\n`).join(''));
  const hosts = nodes.map((node) => new Host(node, path.join(directory, node.name), signal));
  for (const host of hosts) host.device = await attach(lun, signal);
  return hosts;
}

/** A loop device of one's own over the LUN's file, with direct I/O. @param {string} lun @param {AbortSignal} [signal] */
async function attach(lun, signal) {
  const { status, output } = await run(findProgram('losetup') ?? 'losetup', ['--find', '--show', '--direct-io=on', lun], { signal });
  if (status !== 0) throw new Error(`losetup: ${output.trim()}`);
  return output.trim();
}

/** Gives back all loop devices over the LUN's file. Those still in use go with their last user. @param {string} lun */
export async function detachAll(lun) {
  const losetup = findProgram('losetup') ?? 'losetup';
  const { output } = await run(losetup, ['--associated', lun, '--noheadings', '--output', 'NAME']);
  for (const device of output.split('\n').map((line) => line.trim()).filter(Boolean)) {
    const { status, output: said } = await run(losetup, ['--detach', device]);
    if (status !== 0) throw new Error(said.trim());
  }
}
