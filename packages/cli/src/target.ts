/**
 * `DEVICE:/path`: a file inside a volume. A device's own path may hold colons (/dev/disk/by-path/pci-0000:00:…), and so may the path
 * inside, so the shortest prefix before ":/" that exists on this host is the device; if none does and the whole is no host path either, the first one is what was meant.
 */
import * as fs from 'node:fs';
import { UsageError } from '@lunfs/device';

export interface Target {
  readonly device: string;
  /** Absolute path inside the volume. */
  readonly path: string;
}

/** A target if the text is one. */
export function parseTarget(text: string): Target | undefined {
  const cuts: number[] = [];
  for (let at = text.indexOf(':/'); at >= 0; at = text.indexOf(':/', at + 1)) cuts.push(at);
  if (cuts.length === 0 || cuts[0] === 0) return undefined;
  const exists = cuts.find((at) => fs.existsSync(text.slice(0, at)));
  if (exists === undefined && fs.existsSync(text)) return undefined;
  const at = exists ?? cuts[0];
  return { device: text.slice(0, at), path: text.slice(at + 1) };
}

/** The same where only a target makes sense. Throws BAD_TARGET with how to write it. */
export function needTarget(text: string): Target {
  const target = parseTarget(text);
  if (target !== undefined) return target;
  needDevice(text);
  throw new UsageError('BAD_TARGET', 'EINVAL', `"${text}" names no file inside a volume; write DEVICE:/path, such as /dev/mapper/lun0:/vm1.raw`, { value: text });
}

/** A target, or a device alone: then its root. */
export function targetOrRoot(text: string): Target {
  return parseTarget(text) ?? { device: needDevice(text), path: '/' };
}

/** A device alone. Throws BAD_DEVICE when a path inside was given. */
export function needDevice(text: string): string {
  const colon = text.endsWith(':') && !fs.existsSync(text) ? text.slice(0, -1) : text;
  const target = parseTarget(colon);
  if (target === undefined) {
    const cut = colon.indexOf(':');
    if (cut > 0 && !fs.existsSync(colon) && fs.existsSync(colon.slice(0, cut))) throw new UsageError('BAD_TARGET', 'EINVAL', `"${text}": paths inside a volume begin with a slash; write ${colon.slice(0, cut)}:/${colon.slice(cut + 1)}`, { value: text });
    return colon;
  }
  if (target.path === '/') return target.device;
  throw new UsageError('BAD_DEVICE', 'EINVAL', `"${text}" names a file inside a volume; this command wants the device alone: ${target.device}`, { value: text });
}

/** Paths by device, in the order given, so that each is opened once. */
export function byDevice(targets: readonly Target[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const { device, path } of targets) found.set(device, [...(found.get(device) ?? []), path]);
  return found;
}
