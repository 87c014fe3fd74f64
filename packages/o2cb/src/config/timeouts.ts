/**
 * Every time of the cluster stack, derived in this one place from the settings (as sanlock's timeouts.h does; drawn in docs/fencing.md).
 *
 * Let s be the moment at which a node submits a beat. A peer that sees it reads the slot again at least 2 s after the start of the
 * iteration in which it did, so it counts its T-th sample without change, and declares the node dead, not before s + (T-1) * 2 s:
 * the first such sample may follow at once when the read that saw the beat was slow, every other needs an interval of its own.
 * (T * 2 s is what it takes as a rule.) That earliest death is what the kernel's nodes reset themselves at; ours park their I/O at
 * three quarters of it, and the last quarter is for what the gate has let through: a thread between test and system call, a request
 * in the kernel's or the device's queue. A beat that succeeds in that quarter lets I/O go on; without one the node is lost.
 */
import { DEFAULT_SETTINGS, type O2cbSettings } from './settings.js';

/** One iteration of the disk heartbeat, start to start (O2HB_REGION_TIMEOUT_MS). */
export const HEARTBEAT_MS = 2_000;
/** Changed samples after which a silent slot is a live node (O2HB_LIVE_THRESHOLD). */
export const LIVE_THRESHOLD = 2;
/** How often the master of a negotiation looks whether all nodes hang. */
export const NEGOTIATE_RECHECK_MS = 1_000;
/** For what differs between the clocks of two hosts within a write timeout. */
const CLOCK_DRIFT_MS = 500;
/** The wall clock and the monotonic one are taken to have jumped against each other when their difference moves by more. */
export const CLOCK_JUMP_MS = 1_000;

/** All in milliseconds. */
export interface Timeouts {
  /** T: samples without change after which a node is dead. */
  readonly threshold: number;
  /** What the heartbeat block promises (hb_dead_ms): T * 2000. */
  readonly deadMs: number;
  /** Earliest death after the submission of the last beat, (T-1) * 2000; compared in o2net's handshake. Kernel nodes reset at it. */
  readonly writeTimeoutMs: number;
  /** A write that hangs for so long is negotiated about. */
  readonly negotiateMs: number;
  /** By how much an approved negotiation moves the moment of loss: see `heartbeat/negotiation.ts`. */
  readonly approvalMs: number;
  /** From the submission of the last good beat: no I/O is submitted any more until the next. */
  readonly fenceMs: number;
  /** From the submission of the last good beat: the incarnation is lost, later beats give nothing back. */
  readonly lossMs: number;
  /** From the submission of the last good beat: a volume process that has given no sign of life is killed. */
  readonly killMs: number;
  /** From the loss of a connection to a node that goes on beating until the quorum is decided. */
  readonly quorumMs: number;
  readonly idleMs: number;
  readonly keepaliveMs: number;
  readonly reconnectMs: number;
}

export function timeoutsOf(settings: O2cbSettings = DEFAULT_SETTINGS): Timeouts {
  const threshold = settings.heartbeatThreshold;
  const writeTimeoutMs = (threshold - 1) * HEARTBEAT_MS;
  const fenceMs = (writeTimeoutMs * 3) / 4;
  return {
    threshold,
    deadMs: threshold * HEARTBEAT_MS,
    writeTimeoutMs,
    negotiateMs: writeTimeoutMs / 2,
    approvalMs: Math.max(0, writeTimeoutMs / 2 - 2 * HEARTBEAT_MS),
    fenceMs,
    lossMs: writeTimeoutMs - CLOCK_DRIFT_MS,
    killMs: fenceMs - writeTimeoutMs / 12,
    quorumMs: (threshold + 2) * HEARTBEAT_MS,
    idleMs: settings.idleTimeoutMs,
    keepaliveMs: settings.keepaliveDelayMs,
    reconnectMs: settings.reconnectDelayMs,
  };
}
