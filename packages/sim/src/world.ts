/** What all of a simulation shares. */
import type { Random } from '@lunfs/device';
import type { ClusterConfig, FenceDeadline, Timeouts } from '@lunfs/o2cb';
import type { Volume } from '@lunfs/ocfs2';
import type { Requester } from './disk.js';
import type { KernelPages, PageCounts } from './kernel-pages.js';
import type { LockWitness } from './lock-witness.js';
import type { SimNetwork } from './network.js';
import type { VirtualTime } from './time.js';
import type { Trace } from './trace.js';

/** A volume process, as others see it. */
export interface Incarnation extends Requester {
  readonly volume: Volume | undefined;
  /** Above its mount, if it has one. */
  readonly pages: KernelPages | undefined;
  /** The deadline as its daemon has it; undefined: it may not write yet. */
  readonly deadline: FenceDeadline | undefined;
  /** The first beat of it that reached the disk. */
  readonly beatsSince: number;
  /** Which node took it for dead. */
  declared: string | undefined;
  /** Resolves when it may answer. */
  gate(): Promise<void>;
}

export interface World {
  readonly time: VirtualTime;
  readonly random: Random;
  readonly trace: Trace;
  readonly network: SimNetwork;
  readonly locks: LockWitness;
  readonly config: ClusterConfig;
  readonly timeouts: Timeouts;
  /** Whether programs map files. */
  readonly maps: boolean;
  /** Of all machines. */
  readonly pages: PageCounts;
  /** Machines that lost power; processes that were fenced. */
  crashes: number;
  fences: number;
  /** A process has its volume mounted. */
  mounted(process: Incarnation): void;
  /** Make the volume as large as the LUN, through this process. */
  grow(process: Incarnation): void;
  /** The present volume process of a node, the last one if it is dead. */
  incarnationOf(node: number): Incarnation | undefined;
}
