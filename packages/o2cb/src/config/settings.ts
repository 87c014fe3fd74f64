/** The O2CB_* settings of /etc/default/o2cb (Debian) and /etc/sysconfig/o2cb (o2cb.sysconfig(5)): variables of a shell. */
import { UsageError } from '@lunfs/device';

/** Where distributions keep them, the first that exists counts. */
export const SETTINGS_FILES: readonly string[] = ['/etc/default/o2cb', '/etc/sysconfig/o2cb'];

export interface O2cbSettings {
  /** Whether the stack is started at boot. */
  readonly enabled: boolean;
  readonly stack: string;
  /** The cluster this host is a member of; empty: none. */
  readonly bootCluster: string;
  /** Iterations of 2 s without a beat after which a node is dead. */
  readonly heartbeatThreshold: number;
  readonly idleTimeoutMs: number;
  readonly keepaliveDelayMs: number;
  readonly reconnectDelayMs: number;
  /** LUNFS_WATCHDOG, a variable of ours beside o2cb's: a watchdog device; empty: none. */
  readonly watchdog: string;
}

export const DEFAULT_SETTINGS: O2cbSettings = {
  enabled: false, stack: 'o2cb', bootCluster: 'ocfs2', heartbeatThreshold: 31, idleTimeoutMs: 30_000, keepaliveDelayMs: 2_000, reconnectDelayMs: 2_000, watchdog: '',
};

/** The kernel takes no smaller threshold (O2HB_MIN_DEAD_THRESHOLD is the largest it refuses); the tools offer 7 and more. */
const MIN_THRESHOLD = 3;
/** Half a day: longer cannot be meant, and all derived times stay small integers. */
const MAX_THRESHOLD = 21_600;

/** `file` is for messages. Throws BAD_O2CB_SETTING with file, line and remedy. */
export function parseSettings(text: string, file = SETTINGS_FILES[0]): O2cbSettings {
  const variables = new Map<string, { value: string; line: number }>();
  for (const [i, line] of text.split('\n').entries()) {
    const match = /^\s*(?:export\s+)?(O2CB_[A-Z_]+|LUNFS_WATCHDOG)=(.*)$/.exec(line);
    if (match) variables.set(match[1], { value: word(match[2], file, i + 1), line: i + 1 });
  }
  const get = (name: string, otherwise: string): string => {
    const found = variables.get(name)?.value;
    return found === undefined || found === '' ? otherwise : found;
  };
  const number = (name: string, otherwise: number, min: number, max: number): number => {
    const value = get(name, String(otherwise));
    if (/^\d{1,9}$/.test(value) && Number(value) >= min && Number(value) <= max) return Number(value);
    throw bad(file, variables.get(name)!.line, `${name} is "${value}"; it must be a number, ${min} to ${max}`);
  };
  const settings: O2cbSettings = {
    enabled: get('O2CB_ENABLED', 'false') === 'true',
    stack: get('O2CB_STACK', DEFAULT_SETTINGS.stack),
    bootCluster: variables.get('O2CB_BOOTCLUSTER')?.value ?? DEFAULT_SETTINGS.bootCluster,
    heartbeatThreshold: number('O2CB_HEARTBEAT_THRESHOLD', DEFAULT_SETTINGS.heartbeatThreshold, MIN_THRESHOLD, MAX_THRESHOLD),
    idleTimeoutMs: number('O2CB_IDLE_TIMEOUT_MS', DEFAULT_SETTINGS.idleTimeoutMs, 1, 999_999_999),
    keepaliveDelayMs: number('O2CB_KEEPALIVE_DELAY_MS', DEFAULT_SETTINGS.keepaliveDelayMs, 1, 999_999_999),
    reconnectDelayMs: number('O2CB_RECONNECT_DELAY_MS', DEFAULT_SETTINGS.reconnectDelayMs, 1, 999_999_999),
    watchdog: get('LUNFS_WATCHDOG', DEFAULT_SETTINGS.watchdog),
  };
  // Linux 6.1 fs/ocfs2/cluster/nodemanager.c:o2nm_cluster_keepalive_delay_ms_store
  if (settings.keepaliveDelayMs >= settings.idleTimeoutMs) {
    const line = (variables.get('O2CB_KEEPALIVE_DELAY_MS') ?? variables.get('O2CB_IDLE_TIMEOUT_MS'))!.line;
    throw bad(file, line, `the keepalive delay (${settings.keepaliveDelayMs} ms) must be shorter than the idle timeout (${settings.idleTimeoutMs} ms)`);
  }
  return settings;
}

/** One word of a shell: quotes taken off, what follows a blank ignored. Expansions are refused: nobody expands them here. */
function word(text: string, file: string, line: number): string {
  let value = '';
  for (let rest = text; rest !== '' && !/^[\s;#]/.test(rest); ) {
    const match = /^(?:'([^']*)'|"([^"$`\\]*)"|([^\s;#'"$`\\]+))/.exec(rest);
    if (!match) throw bad(file, line, `"${text}" is more than a plain value: write the value itself, without $, \` and \\`);
    value += match[1] ?? match[2] ?? match[3];
    rest = rest.slice(match[0].length);
    if (rest.startsWith('#')) throw bad(file, line, 'a comment begins after a blank');
  }
  return value;
}

function bad(file: string, line: number, what: string): UsageError {
  return new UsageError('BAD_O2CB_SETTING', 'EINVAL', `${file}, line ${line}: ${what}`, { file, line });
}
