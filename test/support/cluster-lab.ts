/**
 * A SAN and its hosts on one machine: a LUN that every host sees through a loop device of its own with direct I/O, and a network of its
 * own, where node n has the address 192.168.7.10+n. Hosts are kernel nodes (machines under QEMU, a tap each) and programs of ours (each
 * in a network namespace of its own, so its link can be cut like a cable).
 *
 *     const lab = await ClusterLab.start(cleanup, { lun: image, count: 3, settings: { threshold: 7, idleMs: 5000 } });
 *     const kernel = await lab.kernelNode(1);
 *     const ours = await lab.host(2);
 *     ours.spawn(process.execPath, ['node.mjs', ours.device]);
 *     await lab.cut(2);
 *
 * Needs root and the oracles `kernel`, `loop`, `network`. All is undone by `cleanup`. docs/design.md, section 5, point 2.
 */
import { type ChildProcess, spawn, type SpawnOptions } from 'node:child_process';
import { type Cleanup, exec, loopDevice, must } from './temp.js';
import { type ClusterConfig, KernelNode, type KernelNodeOptions } from './machines.js';

export interface LabOptions {
  /** Image file of the LUN. It must be on a file system that takes direct I/O. */
  lun: string;
  /** The LUN as a node sees it, where it is not to be a loop device: by the node's name. */
  device?: (name: string) => string | Promise<string>;
  /** Configured nodes, numbers 0 to count - 1, alive or not. */
  count: number;
  /** Default `ocfs2`. */
  cluster?: string;
  heartbeat?: 'local' | 'global';
  regions?: string[];
  settings?: ClusterConfig['settings'];
  sectorSize?: 512 | 4096;
}

/** A host that runs programs of ours. */
export interface LabHost {
  readonly number: number;
  readonly address: string;
  /** Its loop device over the LUN. */
  readonly device: string;
  /** Starts a program with this host's network. Ended by the lab's cleanup. */
  spawn(command: string, args: readonly string[], options?: SpawnOptions): ChildProcess;
}

const PREFIX = '192.168.7.';
let labs = 0;

export class ClusterLab {
  /** As every node is told it. */
  readonly config: ClusterConfig;
  readonly #cleanup: Cleanup;
  readonly #options: LabOptions;
  readonly #namespace: string;
  /** Cards at the bridge, by node. */
  readonly #cards = new Map<number, string>();
  /** Runs ip(8) on a node. */
  readonly #ipOn = new Map<number, (...args: string[]) => Promise<string>>();

  private constructor(cleanup: Cleanup, options: LabOptions) {
    this.#cleanup = cleanup;
    this.#options = options;
    this.#namespace = `lunfs-${process.pid}-${labs++}`;
    const nodes = Array.from({ length: options.count }, (_, number) => ({ number, name: `client0${number + 1}`, address: `${PREFIX}${10 + number}`, port: 7777 }));
    const { cluster: name = 'ocfs2', heartbeat, regions, settings } = options;
    this.config = { name, nodes, heartbeat, regions, settings };
  }

  static async start(cleanup: Cleanup, options: LabOptions): Promise<ClusterLab> {
    const lab = new ClusterLab(cleanup, options);
    await lab.#namespaceOf(lab.#namespace);
    await lab.#ip('link', 'add', 'bridge', 'type', 'bridge', 'forward_delay', '0', 'mcast_snooping', '0');
    await lab.#ip('link', 'set', 'bridge', 'up');
    return lab;
  }

  /** Boots a kernel node with the LUN as /dev/vda, its address and its cluster; nothing is mounted. */
  async kernelNode(number: number, options: Partial<KernelNodeOptions> = {}): Promise<KernelNode> {
    const { name, address } = this.#node(number);
    const tap = `tap${number}`;
    if (!this.#cards.has(number)) {
      await this.#ip('tuntap', 'add', tap, 'mode', 'tap');
      await this.#plug(number, tap);
    }
    const device = await this.#device(name);
    const kernel = await KernelNode.start(this.#cleanup, {
      hostname: name, cluster: this.config, address: `${address}/24`, network: { namespace: this.#namespace, tap, mac: `52:54:00:00:07:0${number}` },
      disks: [{ file: device, sectorSize: this.#options.sectorSize }], ...options,
    });
    this.#ipOn.set(number, (...args) => kernel.must(`ip ${args.join(' ')}`));
    return kernel;
  }

  /** A host for programs of ours. */
  async host(number: number): Promise<LabHost> {
    const { name, address } = this.#node(number);
    const namespace = `${this.#namespace}-${number}`;
    await this.#namespaceOf(namespace);
    await this.#ip('link', 'add', `port${number}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace);
    await this.#plug(number, `port${number}`);
    this.#ipOn.set(number, (...args) => must('ip', ['-n', namespace, ...args]));
    await must('ip', ['-n', namespace, 'addr', 'add', `${address}/24`, 'dev', 'eth0']);
    for (const card of ['lo', 'eth0']) await must('ip', ['-n', namespace, 'link', 'set', card, 'up']);
    const device = await this.#device(name);
    return {
      number, address, device,
      spawn: (command, args, options = {}) => {
        // nsenter becomes the program it runs: the child is the program itself, with the mounts of this machine (ip netns exec would hide its own).
        const child = spawn('nsenter', [`--net=/run/netns/${namespace}`, command, ...args], options);
        const exited = new Promise((resolve) => child.once('close', resolve));
        this.#cleanup.add(async () => {
          child.kill('SIGKILL');
          await exited;
        });
        return child;
      },
    };
  }

  /** Cuts a node's cable: nothing passes in either direction, and nobody is told. */
  async cut(number: number): Promise<void> {
    await this.#port(number, 'disabled');
  }

  async heal(number: number): Promise<void> {
    await this.#port(number, 'forwarding');
  }

  /** From now on nothing that `from` sends reaches `to`, while the other direction works: it goes to a card that nobody has. */
  async silence(from: number, to: number): Promise<void> {
    await this.#ipCommand(from)('neigh', 'replace', this.#node(to).address, 'lladdr', '02:00:00:00:00:01', 'dev', 'eth0', 'nud', 'permanent');
  }

  /** Undoes `silence`. */
  async unsilence(from: number, to: number): Promise<void> {
    await this.#ipCommand(from)('neigh', 'del', this.#node(to).address, 'dev', 'eth0');
  }

  async #device(name: string): Promise<string> {
    const { device, lun, sectorSize } = this.#options;
    return device ? device(name) : loopDevice(this.#cleanup, lun, { sectorSize });
  }

  #ipCommand(number: number): (...args: string[]) => Promise<string> {
    const command = this.#ipOn.get(number);
    if (!command) throw new Error(`node ${number} does not run in this lab yet`);
    return command;
  }

  #node(number: number): ClusterConfig['nodes'][number] {
    const node = this.config.nodes.find((one) => one.number === number);
    if (!node) throw new Error(`node ${number} is not configured in this lab`);
    return node;
  }

  async #namespaceOf(name: string): Promise<void> {
    await must('ip', ['netns', 'add', name]);
    this.#cleanup.add(async () => {
      await exec('ip', ['netns', 'del', name]);
    });
  }

  async #plug(number: number, card: string): Promise<void> {
    await this.#ip('link', 'set', card, 'master', 'bridge', 'up');
    this.#cards.set(number, card);
  }

  async #port(number: number, state: 'disabled' | 'forwarding'): Promise<void> {
    const card = this.#cards.get(number);
    if (!card) throw new Error(`node ${number} has no cable in this lab yet`);
    await must('bridge', ['-n', this.#namespace, 'link', 'set', 'dev', card, 'state', state === 'disabled' ? '0' : '3']);
  }

  async #ip(...args: string[]): Promise<void> {
    await must('ip', ['-n', this.#namespace, ...args]);
  }
}
