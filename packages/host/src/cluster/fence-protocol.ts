/**
 * What lunfsd's supervising thread and the fence's thread of a volume process say to each other, each in a thread of its own, so that no
 * main thread is needed for a deadline to arrive or a pulse to leave. A Unix socket; the volume process connects and tells its token.
 */

/** Bytes of the token, hexadecimal, that a volume process was started with; what comes first on the socket. */
export const TOKEN_BYTES = 32;
/** A volume process shows that it lives as often as this, milliseconds; one byte each. */
export const PULSE_MS = 500;
/** How often the supervisor looks at the deadline and at the pulses. */
export const LOOK_MS = 200;
/** No new deadline goes to a process that has been silent for longer. */
export const QUIET_MS = 4 * PULSE_MS;

/** A deadline: until when I/O may be submitted, and when the process ends if no later one has come, on both clocks, milliseconds. */
export interface Deadline {
  readonly monotonic: number;
  readonly wall: number;
  readonly endMonotonic: number;
  readonly endWall: number;
}

export const DEADLINE_BYTES = 32;

export function encodeDeadline({ monotonic, wall, endMonotonic, endWall }: Deadline): Uint8Array {
  return new Uint8Array(Float64Array.of(monotonic, wall, endMonotonic, endWall).buffer);
}

/** `bytes`: exactly one deadline. */
export function decodeDeadline(bytes: Uint8Array): Deadline {
  const [monotonic, wall, endMonotonic, endWall] = new Float64Array(Uint8Array.from(bytes).buffer);
  return { monotonic, wall, endMonotonic, endWall };
}
