/**
 * Machines under QEMU for tests: a Linux OCFS2 node, and a guest with a root of its own.
 *
 *     const node = await KernelNode.start(cleanup, { disks: [image] });
 *     await node.mount('/dev/vda', '/mnt/lun');
 *     await node.must('echo hello > /mnt/lun/file');
 *     await node.shutdown();
 *
 * Both are ended by `cleanup` when a test forgets or fails. docs/design.md, section 5, point 2.
 */
import fs from 'node:fs';
import path from 'node:path';
import { guestRoot } from '../../scripts/lib/machine/images.mjs';
import { type Disk, Machine, MachineDown, type MachineOptions, type Result } from '../../scripts/lib/machine/machine.mjs';
import { type Cleanup, must, sparseFile, tempDir } from './temp.js';

export { type Disk, type Machine, MachineDown, type Result };

/** What a kernel node is told of its cluster: /etc/ocfs2/cluster.conf. */
export interface ClusterConfig {
  name: string;
  nodes: { number: number; name: string; address: string; port?: number }[];
  heartbeat?: 'local' | 'global';
  /** UUIDs of volumes with a global heartbeat region. */
  regions?: string[];
  /** The kernel's defaults where not given: 31, 30000. */
  settings?: { threshold?: number; idleMs?: number };
}

export interface KernelNodeOptions extends Partial<Omit<MachineOptions, 'disks' | 'root'>> {
  /** Image files, block devices or NBD exports: /dev/vda, /dev/vdb, … in order. */
  disks: (string | Disk)[];
  /** Its IPv4 address on `network`, with the length of the prefix. */
  address?: string;
  /** Registers this cluster at boot, so that cluster volumes of that name can be mounted. `hostname` says which node it is (default: the first). */
  cluster?: ClusterConfig;
  /** Size of the transfer disk in bytes (sparse): the largest tree `putTree` and `getTree` can carry. Default 4 GiB. */
  transfer?: number;
}

/** A one-node cluster, enough to mount a volume made with `cluster: name`. */
export function singleNodeCluster(name: string): ClusterConfig {
  return { name, nodes: [{ number: 0, name: 'node', address: '127.0.0.1' }] };
}

/** /etc/ocfs2/cluster.conf of it. */
export function clusterConf(config: ClusterConfig): string {
  const nodes = config.nodes.map((node) => `node:\n\tip_port = ${node.port ?? 7777}\n\tip_address = ${node.address}\n\tnumber = ${node.number}\n\tname = ${node.name}\n\tcluster = ${config.name}\n`);
  const regions = (config.regions ?? []).map((uuid) => `heartbeat:\n\tregion = ${uuid}\n\tcluster = ${config.name}\n\n`);
  return `${nodes.join('\n')}\ncluster:\n\tnode_count = ${config.nodes.length}\n\theartbeat_mode = ${config.heartbeat ?? 'local'}\n\tname = ${config.name}\n\n${regions.join('')}`;
}

function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/** Linux with its own OCFS2, ocfs2-tools and the usual programs (bash, coreutils, tar, git, sqlite3, fio, attr, acl). */
export class KernelNode {
  readonly machine: Machine;
  readonly #transfer: string;
  readonly #transferDevice: string;

  private constructor(machine: Machine, transfer: string, transferDevice: string) {
    this.machine = machine;
    this.#transfer = transfer;
    this.#transferDevice = transferDevice;
  }

  /** Boots a node with the disks attached and nothing mounted. */
  static async start(cleanup: Cleanup, options: KernelNodeOptions): Promise<KernelNode> {
    const { disks, cluster, address, transfer: transferBytes = 4 * 2 ** 30, ...rest } = options;
    const transfer = sparseFile(path.join(tempDir(cleanup, 'node'), 'transfer'), transferBytes);
    const stopping = new AbortController();
    const all = [...disks.map((disk) => (typeof disk === 'string' ? { file: disk } : disk)), { file: transfer, direct: false, serial: 'transfer' }];
    const starting = Machine.start({ hostname: cluster?.nodes[0].name ?? 'node', signal: stopping.signal, ...rest, disks: all, root: 'tools' });
    cleanup.add(async () => {
      stopping.abort();
      await starting.then((machine) => machine.kill(), () => undefined);
    });
    const machine = await starting;
    const node = new KernelNode(machine, transfer, `/dev/vd${String.fromCharCode(97 + disks.length)}`);
    if (address) await node.must(`ip addr add ${quote(address)} dev eth0 && ip link set eth0 up`);
    if (cluster) await node.#joinCluster(cluster);
    return node;
  }

  /** Leaves the cluster it knows, in which it must not beat, and registers this one. What `to` does not set of the times stays as it was. */
  async changeCluster(from: ClusterConfig, to: ClusterConfig): Promise<void> {
    await this.must(`o2cb unregister-cluster ${quote(from.name)}`);
    await this.#register(to);
  }

  async #joinCluster(cluster: ClusterConfig): Promise<void> {
    await this.must('mount -t configfs none /sys/kernel/config && mount -t ocfs2_dlmfs none /dlm');
    await this.#register(cluster);
  }

  async #register(cluster: ClusterConfig): Promise<void> {
    await this.must('cat > /etc/ocfs2/cluster.conf', { input: clusterConf(cluster) });
    await this.must(`o2cb register-cluster ${quote(cluster.name)}`);
    // o2cb's init script does this from /etc/default/o2cb; it must be before the first heartbeat region and connection.
    const { threshold, idleMs } = cluster.settings ?? {};
    const at = `/sys/kernel/config/cluster/${cluster.name}`;
    if (threshold !== undefined) await this.must(`echo ${threshold} > ${at}/heartbeat/dead_threshold && [ $(cat ${at}/heartbeat/dead_threshold) = ${threshold} ]`);
    if (idleMs !== undefined) await this.must(`echo ${idleMs} > ${at}/idle_timeout_ms && [ $(cat ${at}/idle_timeout_ms) = ${idleMs} ]`);
  }

  /** Runs a bash command line; see `Machine.run`. */
  run(command: string, options?: { input?: string | Uint8Array; timeoutMs?: number }): Promise<Result> {
    return this.machine.run(command, options);
  }

  /** Runs a bash command line that must succeed; resolves to its stdout. */
  must(command: string, options?: { input?: string | Uint8Array; timeoutMs?: number }): Promise<string> {
    return this.machine.must(command, options);
  }

  /** Runs a bash command line that must succeed; resolves to its stdout as bytes, which may be many: they come over the transfer disk. */
  async fetch(command: string, { timeoutMs = 300_000 }: { timeoutMs?: number } = {}): Promise<Buffer> {
    const out = '/tmp/fetched';
    const send = `dd if=${out} of=${this.#transferDevice} bs=1M conv=notrunc,fsync status=none && stat -c %s ${out} && rm ${out}`;
    const length = Number(await this.must(`( ${command}\n) > ${out}\nstatus=$?; [ $status = 0 ] || exit $status\n${send}`, { timeoutMs }));
    const bytes = Buffer.alloc(length);
    const file = fs.openSync(this.#transfer, 'r');
    try {
      if (fs.readSync(file, bytes, 0, length, 0) !== length) throw new Error(`the transfer disk holds less than the ${length} bytes written`);
    } finally {
      fs.closeSync(file);
    }
    return bytes;
  }

  /** Mounts an OCFS2 volume. A cluster volume takes about 10 s: the heartbeat has to settle. */
  async mount(device: string, directory: string, mountOptions = 'defaults'): Promise<void> {
    await this.must(`mkdir -p ${quote(directory)} && mount -t ocfs2 -o ${quote(mountOptions)} ${device} ${quote(directory)} || { status=$?; dmesg | tail -5 >&2; exit $status; }`);
  }

  async umount(directory: string): Promise<void> {
    await this.must(`umount ${quote(directory)}`);
  }

  /** Copies a tree of this host into an existing directory of the node, with owners, modes, times, xattrs, ACLs and holes. */
  async putTree(from: string, to: string): Promise<void> {
    await must('bash', ['--norc', '-c', 'set -o pipefail; tar -C "$1" --xattrs --acls --numeric-owner -S -cf - . | dd of="$2" bs=1M conv=notrunc status=none', 'put', from, this.#transfer], { timeoutMs: 600_000 });
    await this.must(`blockdev --flushbufs ${this.#transferDevice} && tar --xattrs --xattrs-include='*' --acls --numeric-owner -xpf ${this.#transferDevice} -C ${quote(to)}`, { timeoutMs: 600_000 });
  }

  /** Copies a directory of the node into an existing directory of this host, likewise (all of it only when root). */
  async getTree(from: string, to: string): Promise<void> {
    await this.must(`tar -C ${quote(from)} --xattrs --acls --numeric-owner -S -cf ${this.#transferDevice} . && blockdev --flushbufs ${this.#transferDevice}`, { timeoutMs: 600_000 });
    await must('tar', ['--xattrs', '--xattrs-include=*', '--acls', '--numeric-owner', '-xpf', this.#transfer, '-C', to], { timeoutMs: 600_000 });
  }

  /** What the node's kernel found wrong so far: errors of OCFS2, JBD2 and block devices, warnings, bugs. */
  async complaints(): Promise<string[]> {
    const lines = (await this.must('dmesg')).split('\n');
    return lines.filter((line) => /ERROR|BUG:|WARNING:|I\/O error|Call Trace|corrupt|hung task|blocked for more than/i.test(line));
  }

  /** Unmounts, syncs and powers off. Rejects when the kernel complained of anything that `tolerate` does not match. */
  async shutdown(tolerate?: RegExp): Promise<void> {
    await this.must('sync; umount -a -t ocfs2');
    const complaints = (await this.complaints()).filter((line) => !tolerate?.test(line));
    await this.machine.shutdown();
    if (complaints.length > 0) throw new Error(`the kernel of the node complained: ${complaints.join('\n')}`);
  }

  /** Cuts the power: SIGKILL to QEMU. */
  kill(): Promise<void> {
    return this.machine.kill();
  }
}

/**
 * Writes a guest's root disk into `file`, sparse: Debian's programs on a journalled ext4 made by `mke2fs -d`, `bytes` large.
 * Copy it onto any disk (a file, an export by nbdcopy or qemu-img convert) and boot it with `startGuest`.
 */
export async function makeGuestDisk(file: string, bytes = 768 << 20): Promise<string> {
  await must('cp', ['--sparse=always', await guestRoot(bytes), file]);
  fs.chmodSync(file, 0o600);
  return file;
}

/** Boots a guest whose root is `disk` (mounted read-write). The kernel comes from outside: the disk holds no boot loader. */
export async function startGuest(cleanup: Cleanup, disk: Disk, options: Partial<Omit<MachineOptions, 'root'>> = {}): Promise<Machine> {
  const machine = await Machine.start({ hostname: 'guest', ...options, disks: [{ ...disk, serial: 'root' }, ...(options.disks ?? [])], root: 'disk' });
  cleanup.add(() => machine.kill());
  return machine;
}
