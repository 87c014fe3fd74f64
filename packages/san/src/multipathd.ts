/**
 * What multipathd says of its maps: `multipathd show maps json` (multipath-tools libmultipath/print.c, json format 0.1), and of its
 * polling. Its answer is checked field by field; what it says of queueing is taken apart in one place.
 */
import { IoError } from '@lunfs/device';
import { type SanHost, printable } from './host.js';

/** A path as multipathd sees it. */
export interface MapPath {
  /** Kernel name. */
  readonly device: string;
  /** Of the kernel's multipath target: `active`, `failed`, `undef`. */
  readonly mapState: string;
  /** What the checker found: `ready`, `faulty`, `shaky`, `ghost`… */
  readonly checked: string;
  readonly checker: string;
  readonly priority: number;
}

export interface PathGroup {
  /** `service-time 0`. */
  readonly selector: string;
  readonly state: string;
  readonly paths: readonly MapPath[];
}

/** What becomes of requests while no path is left. */
export type Queueing =
  /** They fail at once. */
  | { readonly kind: 'fail' }
  /** They wait until a path comes back, however long (`no_path_retry queue`, `queue_if_no_path`). */
  | { readonly kind: 'forever' }
  /** They wait for so many checks of the paths. */
  | { readonly kind: 'checks'; readonly checks: number };

export interface MultipathMap {
  readonly name: string;
  readonly wwid: string;
  /** Kernel name: dm-3. */
  readonly kernelName: string;
  readonly queueing: Queueing;
  /** Of the table: `1 queue_if_no_path`. */
  readonly features: string;
  readonly hardwareHandler: string;
  readonly groups: readonly PathGroup[];
}

export interface Multipathd {
  readonly maps: readonly MultipathMap[];
  /** Seconds between two checks of a path that has failed. */
  readonly pollingSeconds: number;
}

/** Its default (multipath.conf(5)). */
const POLLING_SECONDS = 5;

/** Undefined: it does not run on this host, or is not installed. Throws MULTIPATHD_ANSWER when it says what it cannot mean. */
export async function askMultipathd(host: SanHost): Promise<Multipathd | undefined> {
  const { status, stdout } = await host.run('multipathd', ['show', 'maps', 'json']);
  // Without a daemon it prints nothing or an error and, depending on its version, ends with 0 or 1.
  if (status !== 0 || !stdout.trimStart().startsWith('{')) return undefined;
  const config = await host.run('multipathd', ['show', 'config', 'local']);
  return { maps: parseMaps(stdout), pollingSeconds: pollingOf(config.stdout) };
}

export function parseMaps(text: string): MultipathMap[] {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw answer('no JSON', cause);
  }
  const top = object(document, 'the answer');
  if (top.major_version !== 0) throw answer(`format ${printable(String(top.major_version), 20)}, and 0 is known`);
  return list(top.maps, 'maps').map((one) => parseMap(object(one, 'a map')));
}

function parseMap(map: Readonly<Record<string, unknown>>): MultipathMap {
  const features = text(map.features, 'features');
  return {
    name: text(map.name, 'name'), wwid: text(map.uuid, 'uuid'), kernelName: text(map.sysfs, 'sysfs'), features, hardwareHandler: text(map.hwhandler, 'hwhandler'),
    queueing: queueingOf(text(map.queueing, 'queueing'), features),
    groups: list(map.path_groups, 'path_groups').map((one) => {
      const group = object(one, 'a path group');
      return { selector: text(group.selector, 'selector'), state: text(group.dm_st, 'dm_st'), paths: list(group.paths, 'paths').map((entry) => parsePath(object(entry, 'a path'))) };
    }),
  };
}

function parsePath(entry: Readonly<Record<string, unknown>>): MapPath {
  return {
    device: text(entry.dev, 'dev'), mapState: text(entry.dm_st, 'dm_st'), checked: text(entry.chk_st, 'chk_st'), checker: text(entry.checker, 'checker'),
    priority: typeof entry.pri === 'number' && Number.isSafeInteger(entry.pri) ? entry.pri : 0,
  };
}

/**
 * multipath-tools libmultipath/print.c:snprint_queueing: `on`, `off`, `-` (not set: what the features of the table say), `12 chk`, and `35 sec` while it counts
 * down. Once the time is over it says `off` for a map that is set to checks; then the table says the same.
 */
function queueingOf(queueing: string, features: string): Queueing {
  const checks = /^(\d{1,9}) chk$/.exec(queueing);
  if (checks) return { kind: 'checks', checks: Number(checks[1]) };
  // While it counts down the table queues, but not for ever.
  const counting = /^(\d{1,9}) sec$/.exec(queueing);
  if (counting) return { kind: 'checks', checks: Math.ceil(Number(counting[1]) / POLLING_SECONDS) };
  if (queueing === 'on' || features.split(' ').includes('queue_if_no_path')) return { kind: 'forever' };
  return { kind: 'fail' };
}

function pollingOf(config: string): number {
  const seconds = Number(/^\s*polling_interval\s+"?(\d{1,6})"?\s*$/m.exec(config)?.[1] ?? POLLING_SECONDS);
  return seconds > 0 ? seconds : POLLING_SECONDS;
}

function object(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw answer(`${what} is no object`);
}

function list(value: unknown, what: string): readonly unknown[] {
  if (Array.isArray(value) && value.length <= 65_536) return value;
  throw answer(`${what} is no list`);
}

function text(value: unknown, what: string): string {
  if (typeof value === 'string') return printable(value);
  throw answer(`${what} is no text`);
}

function answer(what: string, cause?: unknown): IoError {
  return new IoError('MULTIPATHD_ANSWER', `multipathd show maps json: ${what}. Is it a version that lunfs does not know? (multipathd show maps json)`, {}, cause);
}
