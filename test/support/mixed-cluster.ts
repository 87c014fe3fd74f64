/**
 * A cluster of kernel nodes and hosts of ours on one volume, as a list of members with the same face: mount it, work in it through hands,
 * unmount it. `kinds` has a letter for each node number: `k` a kernel node, `o` one of ours, `-` configured and not there.
 */
import { ClusterLab, type LabOptions } from './cluster-lab.js';
import { type Hand, KernelHands, localHands } from './hand.js';
import { LunfsHost } from './lunfs-host.js';
import type { ClusterConfig, KernelNode } from './machines.js';
import type { Cleanup } from './temp.js';

export interface MixedMember {
  /** `kernel2`, `ours0` */
  readonly name: string;
  readonly number: number;
  /** Where the volume is mounted, on that node. */
  readonly directory: string;
  readonly kernel?: KernelNode;
  readonly ours?: LunfsHost;
  /** While nothing is mounted: be a node of the cluster as it is described here. */
  configure(cluster: ClusterConfig): Promise<void>;
  mount(): Promise<void>;
  umount(): Promise<void>;
  /** Its hands, in the mounted volume. */
  hands(): Promise<Hand[]>;
  /** Unmounts, where it is mounted, and ends it. */
  stop(): Promise<void>;
}

export interface MixedOptions extends Omit<LabOptions, 'count'> {
  readonly kinds: string;
  /** For each member. */
  readonly hands?: number;
}

/** Boots all of them, side by side; nothing is mounted. */
export async function mixedCluster(cleanup: Cleanup, options: MixedOptions): Promise<{ readonly lab: ClusterLab; readonly members: MixedMember[] }> {
  const { kinds, hands = 1, ...rest } = options;
  const lab = await ClusterLab.start(cleanup, { ...rest, count: kinds.length });
  const starting = [...kinds].flatMap((kind, number) => (kind === '-' ? [] : [kind === 'k' ? kernelMember(cleanup, lab, number, hands) : ourMember(cleanup, lab, number, hands)]));
  return { lab, members: await Promise.all(starting) };
}

async function kernelMember(cleanup: Cleanup, lab: ClusterLab, number: number, count: number): Promise<MixedMember> {
  const name = `kernel${number}`;
  const ports = await KernelHands.prepare(cleanup, name, count);
  const kernel = await lab.kernelNode(number, ports.options);
  let cluster = lab.config;
  return {
    name, number, kernel, directory: '/mnt',
    configure: async (next) => {
      await kernel.changeCluster(cluster, next);
      cluster = next;
    },
    mount: async () => {
      if (cluster.heartbeat === 'global') await kernel.must(`o2cb start-heartbeat ${cluster.name}`);
      await kernel.mount('/dev/vda', '/mnt');
    },
    umount: async () => {
      await kernel.umount('/mnt');
      if (cluster.heartbeat === 'global') await kernel.must(`o2cb stop-heartbeat ${cluster.name}`);
    },
    hands: () => ports.start(kernel, '/mnt'),
    stop: async () => {
      await kernel.must('killall perl; sync; umount -a -t ocfs2', { timeoutMs: 300_000 });
      await kernel.machine.shutdown();
    },
  };
}

async function ourMember(cleanup: Cleanup, lab: ClusterLab, number: number, count: number): Promise<MixedMember> {
  const name = `ours${number}`;
  const ours = LunfsHost.inLab(cleanup, lab, await lab.host(number));
  let cluster = lab.config;
  if (cluster.heartbeat !== 'global') await ours.up();
  return {
    name, number, ours, directory: ours.mount,
    configure: async (next) => {
      if (cluster.heartbeat !== 'global') await ours.must('down');
      ours.configure(next);
      cluster = next;
      if (cluster.heartbeat !== 'global') await ours.up();
    },
    mount: async () => {
      if (cluster.heartbeat === 'global') await ours.up();
      await ours.mountVolume();
    },
    umount: async () => {
      await ours.must('umount', ours.mount);
      if (cluster.heartbeat === 'global') await ours.must('down');
    },
    hands: () => Promise.resolve(localHands(cleanup, name, ours.mount, count)),
    stop: async () => {
      if ((await ours.processes()).length > 0) await ours.must('down');
    },
  };
}

/** What everybody said last: for messages of failures. */
export async function lastWords(members: readonly MixedMember[]): Promise<string> {
  const all = members.map(async ({ name, kernel, ours }) => `--- ${name}\n${ours ? ours.logs() : (await kernel!.run('dmesg | tail -n 30').catch((error: Error) => ({ stdout: error.message }))).stdout}`);
  return (await Promise.all(all)).join('\n');
}
