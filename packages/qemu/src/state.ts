/**
 * What a guest is doing and why, from what QEMU says of itself. Asked, not remembered from events: whoever asks finds the truth, however long
 * nobody listened. Which disk a guest was stopped for, and whether for lack of space, is in QEMU's `io-status` of the device. `cont` does not
 * reset it for disks that have no drive name, as ours (QEMU 7.2, qmp_cont): so it counts only while the guest is stopped for I/O, and of several
 * disks one that had trouble before may be named as well.
 */
import { type JsonObject, isObject, violation } from './qmp/message.js';

/**
 * `running`; `paused`: by an operator; `stopped`: by trouble with a disk, or within the guest; `starting`: its first instruction is still to come;
 * `incoming`: waits for, or receives, the state of a migration; `migrated`: it goes on elsewhere; `shut-off`: there is no QEMU; `crashed`: its QEMU
 * ended without a word; `unreachable`: QEMU is there and does not answer.
 */
export type GuestState = 'running' | 'paused' | 'stopped' | 'starting' | 'incoming' | 'migrated' | 'shut-off' | 'crashed' | 'unreachable';

export interface DiskTrouble {
  readonly disk: string;
  readonly trouble: 'no-space' | 'io-error';
}

export interface GuestStatus {
  readonly state: GuestState;
  /** One sentence: why it is in that state. */
  readonly reason: string;
  /** Disks whose requests failed and wait to be tried again. */
  readonly troubles: readonly DiskTrouble[];
}

/** RunState of QEMU's qapi/run-state.json. */
const STATES: Readonly<Record<string, readonly [GuestState, string]>> = {
  running: ['running', 'running'],
  paused: ['paused', 'paused by an operator'],
  prelaunch: ['starting', 'QEMU is ready, the guest has not begun'],
  inmigrate: ['incoming', 'waits for a migration'],
  'finish-migrate': ['paused', 'hands its last state over to where it migrates'],
  postmigrate: ['migrated', 'it goes on where it migrated to'],
  colo: ['running', 'running, replicated'],
  'restore-vm': ['paused', 'its state is being restored'],
  'save-vm': ['paused', 'its state is being saved'],
  suspended: ['paused', 'suspended by itself'],
  shutdown: ['stopped', 'shut down by itself'],
  watchdog: ['stopped', 'its watchdog ran out'],
  'guest-panicked': ['stopped', 'its kernel panicked'],
  'internal-error': ['stopped', 'QEMU met an error of its own; see its log'],
};

/** From query-status and query-block. Throws QMP_PROTOCOL. */
export function statusOf(status: unknown, blocks: unknown): GuestStatus {
  if (!isObject(status) || typeof status.status !== 'string') throw violation('a status without its name');
  if (status.status === 'io-error') {
    const troubles = troublesOf(blocks);
    return { state: 'stopped', reason: troubleText(troubles), troubles };
  }
  const [state, reason] = STATES[status.status] ?? ['stopped', `in a state of QEMU that is called ${status.status}`];
  return { state, reason, troubles: [] };
}

/** Devices whose I/O failed, by their names. */
function troublesOf(blocks: unknown): DiskTrouble[] {
  if (!Array.isArray(blocks)) throw violation('a list of block devices that is none');
  return blocks.filter(isObject).flatMap((block): DiskTrouble[] => {
    const disk = diskOf(block);
    const trouble = block['io-status'] === 'nospace' ? 'no-space' : block['io-status'] === 'failed' ? 'io-error' : undefined;
    return disk === undefined || trouble === undefined ? [] : [{ disk, trouble }];
  });
}

/** `qdev` is the device's id, or its path in the object tree: /machine/peripheral/ID/virtio-backend. */
function diskOf({ qdev }: JsonObject): string | undefined {
  if (typeof qdev !== 'string') return undefined;
  return /^\/machine\/peripheral\/([^/]+)(\/|$)/.exec(qdev)?.[1] ?? qdev;
}

function troubleText(troubles: readonly DiskTrouble[]): string {
  const names = (trouble: DiskTrouble['trouble']) => troubles.filter((one) => one.trouble === trouble).map(({ disk }) => disk).join(', ');
  const full = names('no-space');
  const failed = names('io-error');
  if (full !== '') return `out of space: the volume of disk ${full} is full; make room or grow it, then resume the guest${failed === '' ? '' : ` (I/O error on disk ${failed} as well)`}`;
  return `I/O error on ${failed === '' ? 'a disk' : `disk ${failed}`}; resume the guest when the disk is reachable again`;
}
