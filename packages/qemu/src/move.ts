/**
 * A guest moves from one host's `Guests` to another's that can reach the same disks: its QEMU is started there to receive it, it migrates, its QEMU
 * here is ended. Whatever fails, one QEMU of it is left.
 */
import path from 'node:path';
import type { Guests } from './guests.js';
import { type Migrated, type MigrationOptions, migrateGuest } from './migration.js';

export interface MoveOptions extends MigrationOptions {
  /** Where the target listens and the source connects to; default: a Unix socket in the target's run directory, for two QEMUs of one machine. */
  readonly uri?: string;
}

/** Move a running guest that is defined on both sides. Throws what `migrateGuest` does, and what keeps the target from being started. */
export async function moveGuest(from: Guests, to: Guests, name: string, { uri, ...options }: MoveOptions = {}): Promise<Migrated> {
  const { sockets } = await to.start(name, { incoming: true });
  let moved: Migrated;
  try {
    const meet = uri ?? `unix:${path.join(path.dirname(sockets!.monitor), 'incoming')}`;
    moved = await from.withMonitor(name, (source) => to.withMonitor(name, (target) => migrateGuest(source, target, meet, options)));
  } catch (error) {
    await to.stop(name, { timeoutMs: 0, force: true, handedOver: true });
    throw error;
  }
  await from.stop(name, { timeoutMs: 0, force: true, handedOver: true });
  return moved;
}
