/** What the `lun` commands say of a LUN, in words. */
import type { DeviceContent, LunReport } from '@lunfs/host';
import type { Finding, Lun, LunMap, LunPath, PathTimes } from '@lunfs/san';
import { formatSize } from './sizes.js';

export function vendorText({ vendor, model }: Lun): string {
  return [vendor, model].filter((word) => word !== undefined).join(' ') || '-';
}

/** `2/2`: paths that work, of all. */
export function pathsText({ paths, map }: Lun): string {
  const working = paths.filter((one) => (one.inMap || map === undefined) && (one.state === undefined || one.state === 'running' || one.state === 'live') && one.mapState !== 'failed');
  return paths.length === 0 ? '-' : `${working.length}/${paths.length}`;
}

export function contentText({ volume, signatures, unknown }: DeviceContent): string {
  if (unknown !== undefined) return 'not known';
  const found = [...(volume === undefined ? [] : [`${volume.text}${volume.label === undefined ? '' : ` labelled "${volume.label}"`}`]), ...signatures.map(({ text, label }) => `${text}${label === undefined ? '' : ` labelled "${label}"`}`)];
  return found.length === 0 ? 'nothing known' : found.join(', ');
}

/** In a few words, of the LUN or of its partitions. */
export function holds({ content, partitionContent }: LunReport): string {
  const inside = partitionContent.filter(({ volume, signatures }) => volume !== undefined || signatures.length > 0);
  return [contentText(content), ...inside.map((one) => `${one.device.replace(/^.*\//, '')}: ${contentText(one)}`)].join('; ');
}

export function useText({ uses }: Lun): string {
  return uses.length === 0 ? '-' : uses.map(({ text }) => text).join(', ');
}

export function severityText({ severity, code, text }: Finding): string {
  return `${severity === 'error' ? 'Error' : 'Warning'} ${code}: ${text}`;
}

/** `queues for 12 checks`. */
export function queueingText({ policy }: LunMap): string | undefined {
  if (policy === undefined) return undefined;
  const { queueing } = policy;
  if (queueing.kind === 'checks') return `for ${queueing.checks} checks of the paths`;
  return queueing.kind === 'forever' ? 'for ever' : 'not at all: requests fail';
}

export function timesText({ command, fastIoFail, devLoss, recovery }: PathTimes): string {
  const all: readonly [string, number | string | undefined][] = [['command', command], ['fast_io_fail', fastIoFail], ['dev_loss', devLoss], ['replacement', recovery]];
  return all.flatMap(([name, value]) => (value === undefined ? [] : [`${name} ${value}${typeof value === 'number' ? ' s' : ''}`])).join(', ') || '-';
}

export function pathRow(one: LunPath): string[] {
  const checked = [one.mapState, one.checked].filter((word) => word !== undefined).join(' ');
  return [one.kernelName, one.hctl ?? '-', one.transport ?? '-', one.state ?? '-', checked || (one.inMap ? '-' : 'not in a map'), one.group === undefined ? '-' : String(one.group), formatSize(one.size), timesText(one.times), one.target ?? '-'];
}
