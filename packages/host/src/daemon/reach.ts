/**
 * Before a node beats again that could not reach the others: it beats when it can. A node that beats and cannot be reached holds others up: who has asked its last
 * incarnation something waits for a connection to the new one (Linux 6.1 fs/ocfs2/cluster/tcp.c:o2net_send_message_vec) until its beat ends again, and a mount would be
 * refused anyway (NOT_CONNECTED). What this asks of the others is argued in docs/fencing.md, "When a node that was cut off beats again".
 *
 * - Nothing is written. Who beats is whose slot has changed within the last looks; nobody else has to be reached, so two that wait do not wait for each other.
 * - Each is reached once: a TCP connection to its port stands, and is closed. (Who connects and does not beat is taken for a user of another LUN: identity.ts.)
 * - We shall connect to those with lower numbers: their ports are waited for. The others will connect to us, and a firewall may keep us from theirs: those get a minute.
 * - It is a courtesy, not a rule of safety: whoever was reached and is cut off again finds a node that beats and gives up, as without it.
 */
import { type LunfsError, openDevice } from '@lunfs/device';
import { type ClusterNode, HEARTBEAT_MS, type HeartbeatBlock, NodeMap, type Scheduler, type Transport, decodeBlock } from '@lunfs/o2cb';
import type { OpenedVolume } from '../cluster/joining.js';

/** Looks within which the slot of a node that beats has changed: a beat may fall between two, and a slow one between three. */
const LOOKS = 4;
/** For a connection to stand. */
const ANSWER_MS = HEARTBEAT_MS;
/** Attempts at a node that is not ours to connect to. */
const PATIENCE = 30;

/** The heartbeat blocks of a region by node number, as they lie there. */
export type Slots = ReadonlyMap<number, HeartbeatBlock>;

interface ReachOptions {
  readonly local: ClusterNode;
  readonly nodes: readonly ClusterNode[];
  readonly scheduler: Scheduler;
  readonly transport: Transport;
  /** All regions in which this node is going to beat. */
  readonly look: () => Promise<readonly Slots[]>;
  /** False: this is of no use any more. */
  readonly wanted: () => boolean;
  readonly log: (line: string) => void;
}

/** Resolves when every node that beats has been reached, as far as that can be told, or nobody wants it any more. */
export async function withinReach({ local, nodes, scheduler, transport, look, wanted, log }: ReachOptions): Promise<void> {
  const sightings = new Sightings();
  const reached = new NodeMap();
  const attempts = new Map<number, number>();
  let told = '';
  for (let looks = 1; wanted(); looks++) {
    const next = new Promise<void>((resolve) => {
      scheduler.after(HEARTBEAT_MS, resolve);
    });
    const beating = sightings.take(await look().catch((error: unknown) => {
      looks = 0;
      log(`heartbeats cannot be read: ${(error as LunfsError).message}`);
      return [];
    }));
    if (looks >= LOOKS) {
      const missing = nodes.filter(({ number }) => number !== local.number && beating.has(number) && !reached.has(number));
      await Promise.all(missing.map(async (node) => {
        const tries = (attempts.get(node.number) ?? 0) + 1;
        attempts.set(node.number, tries);
        if ((await answers(local, node, scheduler, transport)) || (tries >= PATIENCE && node.number > local.number)) reached.add(node.number);
      }));
      const names = missing.filter(({ number }) => !reached.has(number)).map(({ name }) => name).join(', ');
      if (names === '') return;
      if (names !== told) log(`this node does not beat before it can reach ${names}, beating on the disk; check network and firewall between the nodes`);
      told = names;
    }
    await next;
  }
}

/** Reads the slots of nodes from a volume's region. Throws what the device refuses, IO_ERROR. */
export async function readSlots({ device, region: { offset, blockBytes } }: OpenedVolume, nodes: readonly ClusterNode[]): Promise<Slots> {
  const opened = await openDevice(device, { logicalBlockSize: blockBytes });
  try {
    const bytes = Buffer.alloc((Math.max(...nodes.map(({ number }) => number)) + 1) * blockBytes);
    await opened.read(offset, bytes);
    return new Map(nodes.map(({ number }) => [number, decodeBlock(bytes.subarray(number * blockBytes, (number + 1) * blockBytes))]));
  } finally {
    await opened.close();
  }
}

/** Whose slots change. */
class Sightings {
  /** By region and node; `quiet`: looks since it changed. */
  readonly #slots = new Map<string, { readonly seq: bigint; readonly generation: bigint; readonly quiet: number }>();

  /** Takes a look in. Returns who beats, of those who have had the time to show it. */
  take(regions: readonly Slots[]): NodeMap {
    const beating = new NodeMap();
    for (const [region, slots] of regions.entries()) {
      for (const [node, { seq, generation }] of slots) {
        const key = `${region} ${node}`;
        const last = this.#slots.get(key);
        const changed = last !== undefined && (last.seq !== seq || last.generation !== generation);
        const quiet = changed ? 0 : (last?.quiet ?? LOOKS) + 1;
        this.#slots.set(key, { seq, generation, quiet });
        // Generation 0 is a goodbye.
        if (quiet < LOOKS && generation !== 0n) beating.add(node);
      }
    }
    return beating;
  }
}

function answers(local: ClusterNode, node: ClusterNode, scheduler: Scheduler, transport: Transport): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (answered: boolean): void => {
      cancel();
      socket.close();
      resolve(answered);
    };
    const cancel = scheduler.after(ANSWER_MS, () => end(false));
    const socket = transport.connect(local.address, node, { connected: () => end(true), received: () => undefined, closed: () => end(false) });
  });
}
