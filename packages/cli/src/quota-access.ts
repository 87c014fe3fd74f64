/** Quota of a volume, given its device or the directory it is mounted on: through the process that has it, else on the device itself. */
import * as fs from 'node:fs';
import { UsageError } from '@lunfs/device';
import { type QuotaAccess, mountedDevice, volumeQuota } from '@lunfs/host';
import type { QuotaType, Volume } from '@lunfs/ocfs2';
import { throughProcess } from './mounted.js';
import { needDevice } from './target.js';
import { withReader, withWriter } from './volume-access.js';

export interface QuotaAccessOptions {
  readonly write: boolean;
  readonly offline?: boolean;
}

/** Run `work` with the quota of a volume and the name of its device. */
export async function withQuota<T>(command: string, where: string, options: QuotaAccessOptions, work: (quota: QuotaAccess, device: string) => Promise<T>): Promise<T> {
  const device = mountedDevice(where) ?? needDevice(where);
  return throughProcess(device, (process) => work(process.quota, device), () => {
    const run = (volume: Volume) => work(volumeQuota(volume), device);
    return options.write ? withWriter(command, device, options, run) : withReader(command, device, {}, run);
  });
}

const FILES: Record<QuotaType, string> = { user: '/etc/passwd', group: '/etc/group' };

/** Names of this host's users or groups, by id. */
export function idNames(type: QuotaType): Map<number, string> {
  const names = new Map<number, string>();
  let text = '';
  try {
    text = fs.readFileSync(FILES[type], 'utf8');
  } catch {
    return names; // numbers do
  }
  for (const [name, , id] of text.split('\n').map((line) => line.split(':'))) if (/^\d+$/.test(id ?? '') && !names.has(Number(id))) names.set(Number(id), name);
  return names;
}

/** The values that the command line names; what it does not stays. Throws BAD_LIMIT with the text `otherwise` if it names none. */
export function named<T extends object>(values: { readonly [K in keyof T]: T[K] | undefined }, otherwise: string): Partial<T> {
  const given = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>;
  if (Object.keys(given).length > 0) return given;
  throw new UsageError('BAD_LIMIT', 'EINVAL', otherwise);
}

/** A user or group of the command line: exactly one of the two. Throws BAD_ID. */
export function idOf({ user, group }: { readonly user?: string; readonly group?: string }): { type: QuotaType; id: number } {
  if ((user === undefined) === (group === undefined)) throw new UsageError('BAD_ID', 'EINVAL', 'name either a user (-u) or a group (-g)');
  const type: QuotaType = user === undefined ? 'group' : 'user';
  const text = user ?? group ?? '';
  if (/^\d+$/.test(text)) return { type, id: Number(text) };
  for (const [id, name] of idNames(type)) if (name === text) return { type, id };
  throw new UsageError('BAD_ID', 'EINVAL', `this host knows no ${type} "${text}"; write the number`, { value: text });
}
