/**
 * Live migration: the memory of a running guest goes to a QEMU that waits for it, while the guest works; then the guest stops, the rest goes,
 * and it goes on there. Its disks are reached from both sides and are not copied.
 *
 * Who may write the disks is decided in the moment between: QEMU pauses before the switch-over with the guest stopped and all its I/O done
 * (pause-before-switchover); `handOver` is called then, and what it does (disk leases) is done before the target knows that the guest is its
 * own. The target activates its block nodes only when it is told to go on (late-block-activate, -S): so nobody's caches or locks meet.
 *
 * A migration that fails or is cancelled before the target has all leaves the guest running where it was. Once the source has handed over its
 * last state, only the target may go on: the source never runs again.
 */
import { ClusterError, IoError, LunfsError, UsageError } from '@lunfs/device';
import { monotonicMs, pause } from './clock.js';
import type { QmpClient } from './qmp/client.js';
import { type JsonObject, type QmpEvent, isObject, violation } from './qmp/message.js';

export interface MigrationOptions {
  /** How long the guest may stand still for its last memory, which decides when that is little enough; milliseconds, default 300. */
  readonly downtimeLimitMs?: number;
  /** Bytes per second; default: as much as goes. */
  readonly bandwidth?: number;
  /** Milliseconds until it is given up; default an hour. */
  readonly timeoutMs?: number;
  /** Aborted: the migration is cancelled, the guest goes on where it is, `migrateGuest` rejects with MIGRATION_CANCELLED. Too late after the hand-over. */
  readonly signal?: AbortSignal;
  /** Called with the guest stopped, before the target gets it. When it rejects, the guest goes on where it was. */
  readonly handOver?: () => Promise<void>;
  /** Called when the target fails after the hand-over and the guest goes on where it was. */
  readonly takeBack?: () => Promise<void>;
  /** Called each second or so. */
  readonly progress?: (done: MigrationProgress) => void;
}

export interface MigrationProgress {
  readonly transferred: number;
  readonly remaining: number;
  readonly total: number;
}

export interface Migrated {
  /** Milliseconds from the source's stop to the target's going on, by the clocks of both hosts. */
  readonly downtimeMs: number;
  readonly totalMs: number;
  /** Bytes of memory that were sent. */
  readonly transferred: number;
}

const DEFAULT_TIMEOUT_MS = 3_600_000;
const DOWNTIME_LIMIT_MS = 300;
/** More than any network has; QEMU's own limit is a gigabit's worth, and one that was set before stays set. */
const NO_LIMIT = 2 ** 40;
const LOOK_MS = 200;
const SETTLE_MS = 60_000;

/**
 * Migrate the guest behind `source` to the QEMU behind `target`, which was started to receive it, over `uri` (`unix:/path`, `tcp:host:port`) where
 * the target listens. Resolves when it runs there (or is paused there, if it was paused here); the source is left in QEMU's state `postmigrate`,
 * for its owner to quit. Throws MIGRATION_UNFIT before anything has begun, MIGRATION_FAILED, MIGRATION_CANCELLED or what `handOver` threw with
 * the guest where it was, MIGRATION_LOST when the target is lost after the hand-over.
 */
export async function migrateGuest(source: QmpClient, target: QmpClient, uri: string, options: MigrationOptions = {}): Promise<Migrated> {
  const running = await fitness(source, target);
  const times = new Map<string, number>();
  const offs = [source.onEvent(note(times, 'source')), target.onEvent(note(times, 'target'))];
  try {
    await prepare(source, target, uri, options);
    const memory = await sendMemory(source, uri, options);
    await handOver(source, options);
    await arrive(source, target, running, options);
    const status = await migration(source);
    const downtimeMs = (times.get('target RESUME') ?? Number.NaN) - (times.get('source STOP') ?? Number.NaN);
    return { downtimeMs: Number.isFinite(downtimeMs) ? downtimeMs : count(status.downtime), totalMs: count(status['total-time']), transferred: isObject(status.ram) ? count(status.ram.transferred) : memory };
  } finally {
    for (const off of offs) off();
  }
}

function note(times: Map<string, number>, side: string): (event: QmpEvent) => void {
  return ({ name, at }) => void times.set(`${side} ${name}`, at);
}

/** Whether the guest runs. Throws MIGRATION_UNFIT. */
async function fitness(source: QmpClient, target: QmpClient): Promise<boolean> {
  const unfit = (why: string): UsageError => new UsageError('MIGRATION_UNFIT', 'EINVAL', `${source.what} cannot migrate: ${why}`, {});
  const [from, to] = [await stateOf(source), await stateOf(target)];
  if (from !== 'running' && from !== 'paused') throw unfit(`it is in state ${from}`);
  if (to !== 'inmigrate') throw unfit(`the QEMU that is to receive it is in state ${to}, and was not started for that`);
  const machine = (client: QmpClient): Promise<unknown> => client.execute('qom-get', { path: '/machine', property: 'type' });
  const [here, there] = [await machine(source), await machine(target)];
  if (here !== there) throw unfit(`it is a ${String(here)}, and there it would be a ${String(there)}; set "machine" in its definition to ${String(here).replace(/-machine$/, '')}`);
  return from === 'running';
}

async function prepare(source: QmpClient, target: QmpClient, uri: string, { downtimeLimitMs = DOWNTIME_LIMIT_MS, bandwidth = NO_LIMIT }: MigrationOptions): Promise<void> {
  const capability = (name: string): { readonly capability: string; readonly state: boolean } => ({ capability: name, state: true });
  await source.execute('migrate-set-capabilities', { capabilities: ['events', 'pause-before-switchover', 'auto-converge'].map(capability) });
  await target.execute('migrate-set-capabilities', { capabilities: ['events', 'late-block-activate'].map(capability) });
  await source.execute('migrate-set-parameters', { 'downtime-limit': downtimeLimitMs, 'max-bandwidth': bandwidth });
  await target.execute('migrate-incoming', { uri });
}

/** Resolves, to the bytes sent, when the guest has stopped and only its last state is left. */
async function sendMemory(source: QmpClient, uri: string, { timeoutMs = DEFAULT_TIMEOUT_MS, signal, progress }: MigrationOptions): Promise<number> {
  const deadline = monotonicMs() + timeoutMs;
  await source.execute('migrate', { uri });
  for (;;) {
    if (signal?.aborted === true) throw await cancelled(source, 'its migration was cancelled');
    if (monotonicMs() > deadline) throw await cancelled(source, `its migration took more than ${timeoutMs / 1000} s`);
    const { status, ram, ...rest } = await migration(source);
    const sent = isObject(ram) ? count(ram.transferred) : 0;
    switch (status) {
      case 'pre-switchover':
        return sent;
      case 'failed':
      case 'cancelled':
        await stays(source);
        throw failed(source, rest);
      default:
        if (isObject(ram)) progress?.({ transferred: sent, remaining: count(ram.remaining), total: count(ram.total) });
        await pause(LOOK_MS);
    }
  }
}

async function handOver(source: QmpClient, { handOver: work, signal }: MigrationOptions): Promise<void> {
  try {
    if (signal?.aborted === true) throw new ClusterError('MIGRATION_CANCELLED', `${source.what} stays: its migration was cancelled`, {}, undefined, 'EINTR');
    await work?.();
  } catch (error) {
    await cancelled(source, 'its disks were not handed over');
    throw error;
  }
  await source.execute('migrate-continue', { state: 'pre-switchover' });
}

/** Once the source has sent all, the guest is the target's, or nobody's. */
async function arrive(source: QmpClient, target: QmpClient, running: boolean, { takeBack }: MigrationOptions): Promise<void> {
  const ends = async (client: QmpClient): Promise<string> => {
    for (;;) {
      const { status } = await migration(client);
      if (status === 'completed' || status === 'failed' || status === 'cancelled') return status;
      await pause(LOOK_MS / 20);
    }
  };
  const sent = await ends(source);
  if (sent !== 'completed') {
    // The target never began: only we tell it to.
    await stays(source);
    await takeBack?.();
    throw failed(source, await migration(source));
  }
  try {
    if ((await ends(target)) !== 'completed') throw new IoError('MIGRATION_FAILED', 'the target could not take its state', {});
    if (running) await target.execute('cont');
  } catch (error) {
    if (!(error instanceof LunfsError)) throw error;
    throw new IoError('MIGRATION_LOST', `${source.what} is lost: its QEMU at the target ended after it had been handed over (${error.message}); what it was told is written is on its disks. Start it anew`, {}, error);
  }
}

/** Cancel a migration and see to it that the guest goes on where it is. The error to throw. */
async function cancelled(source: QmpClient, why: string): Promise<LunfsError> {
  await source.execute('migrate_cancel');
  await stays(source);
  return new ClusterError('MIGRATION_CANCELLED', `${source.what} stays where it is: ${why}`, {}, undefined, 'EINTR');
}

/** After a failure QEMU lets a guest that ran go on by itself; this waits until it has said how it ended. */
async function stays(source: QmpClient): Promise<void> {
  for (let waited = 0; waited < SETTLE_MS; waited += LOOK_MS) {
    const { status } = await migration(source);
    if (status !== 'cancelling' && status !== 'device' && status !== 'pre-switchover' && (await stateOf(source)) !== 'finish-migrate') return;
    await pause(LOOK_MS);
  }
}

function failed(source: QmpClient, status: JsonObject): LunfsError {
  const why = typeof status['error-desc'] === 'string' ? status['error-desc'] : 'the target hung up; its log says why';
  return new IoError('MIGRATION_FAILED', `${source.what} stays where it is: ${why}`, {});
}

async function stateOf(client: QmpClient): Promise<string> {
  const status = await client.execute('query-status');
  if (!isObject(status) || typeof status.status !== 'string') throw violation('a status without its name');
  return status.status;
}

async function migration(client: QmpClient): Promise<JsonObject> {
  const status = await client.execute('query-migrate');
  if (!isObject(status)) throw violation('no state of its migration');
  return status;
}

function count(value: unknown): number {
  return typeof value === 'number' && value >= 0 ? value : 0;
}
