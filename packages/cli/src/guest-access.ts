/** The guests of this host, for commands: where their definitions and run directories are, and how their disks are reached. */
import path from 'node:path';
import type { Command } from 'commander';
import { UsageError } from '@lunfs/device';
import { VolumeDisks, runDirectory } from '@lunfs/host';
import { Definitions, type GuestFacts, Guests } from '@lunfs/qemu';
import { facts } from './output.js';

/** Set by the group's option. */
export interface GuestOptions {
  readonly stateDir?: string;
}

/** The guests that a command of the group `guest` works on. */
export function guestsOf(command: Command): { readonly guests: Guests; readonly definitions: Definitions } {
  const definitions = new Definitions(stateDirectory(command.optsWithGlobals<GuestOptions>().stateDir));
  return { definitions, guests: new Guests({ definitions, runDirectory: path.join(runDirectory(), 'guests'), disks: new VolumeDisks() }) };
}

function stateDirectory(given: string | undefined, env: NodeJS.ProcessEnv = process.env): string {
  if (given !== undefined) return path.resolve(given);
  if (process.getuid?.() === 0) return '/etc/lunfs/guests';
  const config = env.XDG_CONFIG_HOME ?? (env.HOME && path.join(env.HOME, '.config'));
  if (config === undefined) throw new UsageError('NO_STATE_DIR', 'ENOENT', 'there is no place for the definitions of guests: give one with --state-dir', {});
  return path.join(config, 'lunfs/guests');
}

/** A guest as lines of facts. */
export function showGuest({ name, definition: { uuid, machine, cpus, memoryMiB, nics }, state, reason, pid, accel, startedAt, disks, sockets, troubles }: GuestFacts): string {
  return facts([
    ['Guest', name], ['UUID', uuid], ['State', state === reason ? state : `${state}: ${reason}`], ['Process', pid], ['Started', startedAt],
    ['Machine', `${machine}, ${cpus} CPU${cpus > 1 ? 's' : ''}, ${memoryMiB} MiB${accel === undefined ? '' : `, ${accel}`}`],
    ...disks.map(({ id, source, readOnly }): [string, string] => [`Disk ${id}`, `${source}${readOnly ? ' (read-only)' : ''}${troubles.map((one) => (one.disk === id ? ` (${one.trouble})` : '')).join('')}`]),
    ...nics.map((nic, index): [string, string] => [`Card ${index}`, `${nic.kind}${nic.kind === 'tap' ? ` ${nic.device}` : nic.kind === 'bridge' ? ` ${nic.bridge}` : ''}, ${nic.mac}`]),
    ['Serial', sockets?.serial], ['VNC', sockets?.vnc],
  ]);
}
