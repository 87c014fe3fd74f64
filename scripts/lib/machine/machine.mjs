// A virtual machine under QEMU: disks in, commands over a virtio port, power off or SIGKILL.
//
// Nothing here guesses at prompts or sleeps for luck: the agent in the machine (agent.sh) frames commands and answers
// by length, and QEMU dies with this process (setpriv --pdeathsig), so no machine outlives its test.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { findProgram } from '../oracles.mjs';
import { cacheDir } from '../run.mjs';
import { bootFiles, nodeRoot, sanRoot } from './images.mjs';

/**
 * A disk of a machine. Disks appear in it as /dev/vda, /dev/vdb, … in the order given.
 * @typedef {object} Disk
 * @property {string} [file]        image file or block device
 * @property {{ socket: string, exportName: string, reconnectDelay?: number }} [nbd]   or an NBD export on a Unix socket
 * @property {boolean} [readOnly]
 * @property {boolean} [direct]     O_DIRECT (default: yes where the file's file system takes it; NBD: yes)
 * @property {string} [serial]      up to 20 characters, in /sys/block/vdX/serial
 * @property {512 | 4096} [sectorSize]   logical sector the machine sees
 */

/**
 * @typedef {object} MachineOptions
 * @property {Disk[]} disks
 * @property {'tools' | 'san' | 'disk'} root   `tools`: the node's read-only root, added as last disk; `san`: that of a host with multipathd and udev; `disk`: the disk whose serial is "root"
 * @property {number} [memoryMiB]      default 512
 * @property {number} [cpus]           default 1: hosts of the tests have two cores, and our daemon needs one
 * @property {string} [hostname]
 * @property {number} [bootTimeoutMs]  default 120000
 * @property {'kvm' | 'tcg'} [accel]   default: kvm where a probe has shown it to work, else tcg
 * @property {Network} [network]       its eth0; without it a machine has no network
 * @property {string[]} [qemuArgs]     more arguments
 * @property {AbortSignal} [signal]    cuts its power when aborted, while it boots too
 */

/**
 * A network card on a tap device that exists already. QEMU runs inside the namespace that has it.
 * @typedef {object} Network
 * @property {string} namespace   of `ip netns`
 * @property {string} tap
 * @property {string} mac         unlike all others on that network
 */

/**
 * @typedef {object} Result
 * @property {number} status
 * @property {string} stdout
 * @property {string} stderr
 */

/** The machine ended, or never came up, while something was expected of it. */
export class MachineDown extends Error {}

/** @typedef {{ resolve(result: Result): void, reject(error: Error): void, timer: NodeJS.Timeout }} Waiter */

export class Machine {
  /** Milliseconds from start to the agent's first word. */
  bootMs = 0;
  /** @type {import('node:child_process').ChildProcess} */
  #qemu;
  /** @type {net.Server} */
  #server;
  /** @type {net.Socket | undefined} */
  #socket;
  /** @type {Map<number, Waiter>} */
  #waiting = new Map();
  #next = 1;
  /** @type {Buffer} */
  #received = Buffer.alloc(0);
  #directory;
  #ended = false;
  /** @type {Promise<void>} */
  #exit;
  #onReady = () => {};
  #qemuWords = '';
  #lastConsole = '';

  /**
   * @param {string} directory
   * @param {net.Server} server
   * @param {import('node:child_process').ChildProcess} qemu
   */
  constructor(directory, server, qemu) {
    this.#directory = directory;
    this.#server = server;
    this.#qemu = qemu;
    server.on('connection', (socket) => {
      this.#socket = socket;
      socket.on('data', (part) => this.#receive(part));
      socket.on('error', () => {}); // the exit of QEMU tells
    });
    qemu.stderr?.on('data', (part) => { this.#qemuWords += String(part); });
    this.#exit = new Promise((resolve) => {
      qemu.on('error', (error) => { this.#qemuWords += error.message; this.#end(); resolve(); });
      qemu.on('exit', () => { this.#end(); resolve(); });
    });
  }

  /** Process id of QEMU. */
  get pid() {
    return this.#qemu.pid;
  }

  /** False once QEMU has ended. */
  get running() {
    return !this.#ended;
  }

  /** Resolves when QEMU has ended, however. */
  get exited() {
    return this.#exit;
  }

  /** What the kernel of the machine printed so far. */
  get console() {
    if (!this.#ended) this.#lastConsole = fs.readFileSync(path.join(this.#directory, 'console'), 'utf8');
    return this.#lastConsole;
  }

  /**
   * Boots a machine and resolves when its agent answers.
   * @param {MachineOptions} options
   */
  static async start(options) {
    const accel = options.accel ?? (await provenAccel());
    return await boot(options, accel);
  }

  /**
   * Runs a bash command line in the machine. Resolves whatever its status; rejects when the machine ends or the time is up.
   * @param {string} command
   * @param {{ input?: string | Uint8Array, timeoutMs?: number }} [options]
   * @returns {Promise<Result>}
   */
  run(command, { input, timeoutMs = 120_000 } = {}) {
    const socket = this.#socket;
    if (this.#ended || !socket) return Promise.reject(this.#down(`cannot run: ${command}`));
    const id = this.#next++;
    const text = Buffer.from(command);
    const data = input === undefined ? Buffer.alloc(0) : Buffer.from(input);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new Error(`still running in the machine after ${timeoutMs} ms: ${command}\n${tail(this.console)}`));
      }, timeoutMs);
      this.#waiting.set(id, { resolve, reject, timer });
      socket.write(Buffer.concat([Buffer.from(`${id} ${text.length} ${data.length}\n`), text, data]));
    });
  }

  /**
   * `run` that rejects, with what the command said, on any status but 0. Resolves to its standard output.
   * @param {string} command
   * @param {{ input?: string | Uint8Array, timeoutMs?: number }} [options]
   */
  async must(command, options) {
    const { status, stdout, stderr } = await this.run(command, options);
    if (status !== 0) throw new Error(`in the machine: ${command}: status ${status}\n${stderr}${stdout}`);
    return stdout;
  }

  /** Unmounts what can be, syncs, powers off and waits for QEMU to end (then kills it). */
  async shutdown(timeoutMs = 60_000) {
    if (this.#ended) return;
    const off = this.run('sync; umount -a -t ocfs2,ext4 2>/dev/null; mount -o remount,ro / 2>/dev/null; sync; (sleep 0.1; busybox poweroff -f) & exit 0', { timeoutMs });
    await off.catch((error) => {
      if (!(error instanceof MachineDown)) throw error;
    });
    const timer = setTimeout(() => this.#qemu.kill('SIGKILL'), timeoutMs);
    await this.#exit;
    clearTimeout(timer);
  }

  /** SIGKILL to QEMU: the machine's power is cut. Resolves when it is gone. */
  async kill() {
    if (!this.#ended) this.#qemu.kill('SIGKILL');
    await this.#exit;
  }

  /**
   * Waits for the agent's first word.
   * @param {number} timeoutMs
   */
  async ready(timeoutMs) {
    await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`the machine did not come up within ${timeoutMs} ms\n${tail(this.console)}`)), timeoutMs);
      this.#onReady = () => { clearTimeout(timer); resolve(undefined); };
      void this.#exit.then(() => { clearTimeout(timer); reject(this.#down('it ended while booting')); });
    });
  }

  /** @param {string} what */
  #down(what) {
    return new MachineDown(`the machine is down; ${what}\n${this.#qemuWords}\n${tail(this.console)}`);
  }

  #end() {
    if (this.#ended) return;
    void this.console; // kept for who asks later
    this.#ended = true;
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(this.#down('it ended while a command ran'));
    }
    this.#waiting.clear();
    this.#socket?.destroy();
    this.#server.close();
    fs.rmSync(this.#directory, { recursive: true, force: true });
  }

  /** @param {Buffer} part */
  #receive(part) {
    this.#received = this.#received.length === 0 ? part : Buffer.concat([this.#received, part]);
    for (;;) {
      const end = this.#received.indexOf(10);
      if (end < 0) return;
      const words = this.#received.toString('latin1', 0, end).split(' ');
      if (words[0] === 'ready') {
        this.#received = this.#received.subarray(end + 1);
        this.#onReady();
        continue;
      }
      const [id, status, outBytes, errBytes] = words.map(Number);
      const length = end + 1 + outBytes + errBytes;
      if (this.#received.length < length) return;
      const stdout = this.#received.toString('utf8', end + 1, end + 1 + outBytes);
      const stderr = this.#received.toString('utf8', end + 1 + outBytes, length);
      this.#received = this.#received.subarray(length);
      const waiter = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (waiter) {
        clearTimeout(waiter.timer);
        waiter.resolve({ status, stdout, stderr });
      }
    }
  }
}

/** @param {string} text */
function tail(text) {
  return text.split('\n').slice(-30).join('\n');
}

/**
 * @param {MachineOptions} options
 * @param {'kvm' | 'tcg'} accel
 */
async function boot(options, accel) {
  const { kernel, initramfs } = await bootFiles();
  const disks = [...options.disks];
  if (options.root !== 'disk') disks.push({ file: await (options.root === 'san' ? sanRoot() : nodeRoot()), readOnly: true, direct: false, serial: 'root' });
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lunfs-vm-'));
  const agent = path.join(directory, 'agent');
  const server = net.createServer();
  await new Promise((resolve, reject) => { server.once('error', reject); server.listen(agent, () => resolve(undefined)); });
  fs.writeFileSync(path.join(directory, 'console'), '');
  const writable = options.root === 'disk' ? 'rw' : 'ro';
  // An emulated machine that is held up while Linux measures the TSC's rate gets a clock several times too fast: it takes nodes that beat every
  // two seconds for silent, and finds itself stuck. The PM timer's rate is known. (KVM has a clock of its own.)
  const clock = accel === 'tcg' ? 'tsc=unstable clocksource=acpi_pm' : 'tsc=reliable';
  const args = [
    '--pdeathsig', 'KILL', findProgram('qemu-system-x86_64') ?? 'qemu-system-x86_64',
    '-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none', '-machine', 'pc,vmport=off,hpet=off,usb=off',
    ...(accel === 'kvm' ? ['-accel', 'kvm', '-cpu', 'host'] : ['-accel', 'tcg,thread=multi', '-cpu', 'max']),
    '-m', `${options.memoryMiB ?? 512}M`, '-smp', String(options.cpus ?? 1),
    '-kernel', kernel.image, '-initrd', initramfs,
    '-append', `console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr ${clock} no_timer_check lunfs.root=${writable} hostname=${options.hostname ?? 'node'}`,
    '-serial', `file:${path.join(directory, 'console')}`,
    '-device', 'virtio-serial-pci', '-chardev', `socket,id=agent,path=${agent}`, '-device', 'virtserialport,chardev=agent,name=lunfs.agent',
    ...disks.flatMap((disk, index) => diskArguments(disk, index)), ...networkArguments(options.network), ...(options.qemuArgs ?? []),
  ];
  const program = findProgram('setpriv') ?? 'setpriv';
  // nsenter becomes the program it runs, so the process is still QEMU. (ip netns exec would give it a copy of all mounts: those of FUSE would live as long as it does.)
  const inside = options.network ? [findProgram('nsenter') ?? 'nsenter', `--net=/run/netns/${options.network.namespace}`] : [];
  const [command, ...rest] = [...inside, program, ...args];
  const started = performance.now();
  const qemu = spawn(command, rest, { stdio: ['ignore', 'ignore', 'pipe'], signal: options.signal, killSignal: 'SIGKILL' });
  const machine = new Machine(directory, server, qemu);
  try {
    await machine.ready(options.bootTimeoutMs ?? 120_000);
  } catch (error) {
    await machine.kill();
    throw error;
  }
  machine.bootMs = performance.now() - started;
  return machine;
}

/**
 * @param {Disk} disk
 * @param {number} index
 */
function diskArguments(disk, index) {
  const node = `disk${index}`;
  const common = { 'node-name': node, 'read-only': disk.readOnly ?? false, discard: 'unmap' };
  /** @type {object} */
  let backend;
  if (disk.nbd) {
    const { socket, exportName, reconnectDelay = 30 } = disk.nbd;
    backend = { driver: 'nbd', server: { type: 'unix', path: socket }, export: exportName, 'reconnect-delay': reconnectDelay, cache: { direct: disk.direct ?? true }, ...common };
  } else if (disk.file) {
    const block = fs.statSync(disk.file).isBlockDevice();
    backend = { driver: 'raw', ...common, cache: { direct: disk.direct ?? takesDirect(disk.file) }, file: { driver: block ? 'host_device' : 'file', filename: disk.file, locking: 'off', 'read-only': disk.readOnly ?? false, cache: { direct: disk.direct ?? takesDirect(disk.file) } } };
  } else {
    throw new Error('a disk needs a file or an NBD export');
  }
  const device = { driver: 'virtio-blk-pci', drive: node, 'write-cache': 'on', werror: 'stop', rerror: 'stop', discard: true, ...(disk.serial ? { serial: disk.serial } : {}), ...(disk.sectorSize ? { logical_block_size: disk.sectorSize, physical_block_size: disk.sectorSize } : {}) };
  return ['-blockdev', JSON.stringify(backend), '-device', JSON.stringify(device)];
}

/** @param {Network} [network] */
function networkArguments(network) {
  if (!network) return [];
  return ['-netdev', `tap,id=net,ifname=${network.tap},script=no,downscript=no`, '-device', `virtio-net-pci,netdev=net,mac=${network.mac},romfile=`];
}

/** @param {string} file */
function takesDirect(file) {
  try {
    fs.closeSync(fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_DIRECT));
    return true;
  } catch {
    return false;
  }
}

/**
 * Whether KVM really runs a machine here: /dev/kvm can exist and still be of no use (nested, or refused by a sandbox).
 * A machine must come up within 5 s; the answer is kept until this host boots again.
 * @returns {Promise<'kvm' | 'tcg'>}
 */
export async function provenAccel() {
  try {
    fs.closeSync(fs.openSync('/dev/kvm', 'r+'));
  } catch {
    return 'tcg';
  }
  const bootId = fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const verdict = path.join(cacheDir, 'machine', 'accel');
  const [keptFor, kept] = fs.existsSync(verdict) ? fs.readFileSync(verdict, 'utf8').trim().split(' ') : [];
  if (keptFor === bootId && (kept === 'kvm' || kept === 'tcg')) return kept;
  await bootFiles(); // without a kernel nothing is proven: that is an error, not an answer
  /** @type {'kvm' | 'tcg'} */
  let answer = 'tcg';
  try {
    const machine = await boot({ disks: [], root: 'tools', bootTimeoutMs: 5_000 }, 'kvm');
    await machine.kill();
    answer = 'kvm';
  } catch {
    // It does not work here: that is the answer.
  }
  fs.writeFileSync(verdict, `${bootId} ${answer}\n`);
  return answer;
}
