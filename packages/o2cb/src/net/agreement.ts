/**
 * What the two ends of a connection tell each other before anything else, and when they can't work together. Nodes with different
 * times would disagree about who is dead (cluster-protocols.md 4.2; Linux 6.1 fs/ocfs2/cluster/tcp.c:o2net_check_handshake).
 */
import type { Timeouts } from '../config/index.js';
import { type Handshake, PROTOCOL_VERSION } from './frame.js';

/** What we say of ourselves. */
export function ownHandshake({ writeTimeoutMs, idleMs, keepaliveMs, reconnectMs }: Timeouts): Handshake {
  return { version: PROTOCOL_VERSION, connectorId: 1n, heartbeatTimeout: writeTimeoutMs, idleTimeout: idleMs, keepaliveDelay: keepaliveMs, reconnectDelay: reconnectMs };
}

/** Why we can't work with a node that says this of itself, for operators; undefined when we can. The reconnect delay may differ. */
export function disagreement(theirs: Handshake, times: Timeouts): string | undefined {
  const ours = ownHandshake(times);
  if (theirs.version !== ours.version) return `it speaks version ${theirs.version} of o2net, we speak ${ours.version}: it needs other software`;
  const compared = [
    ['network idle timeout', 'idleTimeout', 'O2CB_IDLE_TIMEOUT_MS'],
    ['keepalive delay', 'keepaliveDelay', 'O2CB_KEEPALIVE_DELAY_MS'],
    ['heartbeat timeout', 'heartbeatTimeout', 'O2CB_HEARTBEAT_THRESHOLD'],
  ] as const;
  for (const [what, field, setting] of compared) {
    if (theirs[field] !== ours[field]) return `it uses a ${what} of ${theirs[field]} ms, we use ${ours[field]} ms: ${setting} must be the same on all nodes`;
  }
  return undefined;
}
