/**
 * What a request may be. Every request passes here before anything else sees it: a pure function of its header and of
 * what was negotiated, so that the data worker and the main thread refuse the same things with the same answers.
 */
import { COMMAND_FLAGS, Command, CommandFlag, MAX_PAYLOAD, NbdErrno } from './protocol.js';

/** What was agreed with the client when it entered the transmission phase. */
export interface Agreed {
  /** Bytes of the export, as the client was told. */
  readonly size: number;
  readonly readOnly: boolean;
  /** Structured replies were negotiated. */
  readonly structured: boolean;
  /** The client selected `base:allocation`. */
  readonly allocationContext: boolean;
}

/** The header's length cannot be honoured and its payload cannot be skipped in good faith: close the connection. */
export const CLOSE = -1;
const TWO_32 = 0x1_0000_0000;
/** Past this the 64-bit offset is no safe integer any more. */
const HIGH_LIMIT = 0x20_0000;

/** 64-bit offset of the wire as a number; `Infinity` where it is beyond what any export can have, so every range check refuses it. */
export function wireOffset(high: number, low: number): number {
  return high >= HIGH_LIMIT ? Number.POSITIVE_INFINITY : high * TWO_32 + low;
}

/** True for the commands that change the export. */
export function isWrite(command: number): boolean {
  return command === Command.WRITE || command === Command.TRIM || command === Command.WRITE_ZEROES;
}

/**
 * 0: the backend may see it. An NbdErrno: the answer. CLOSE: a WRITE longer than MAX_PAYLOAD.
 * A refused WRITE still has its payload on the wire, which the caller skips.
 */
export function validate(agreed: Agreed, command: number, flags: number, offset: number, length: number): number {
  if (command === Command.WRITE && length > MAX_PAYLOAD) return CLOSE;
  if (command > Command.BLOCK_STATUS || (flags & ~COMMAND_FLAGS[command]) !== 0) return NbdErrno.EINVAL;
  if (command === Command.DISC) return 0;
  if (command === Command.FLUSH) return offset === 0 && length === 0 ? 0 : NbdErrno.EINVAL;
  if (isWrite(command) && agreed.readOnly) return NbdErrno.EPERM;
  if (offset + length > agreed.size) {
    return command === Command.WRITE || command === Command.WRITE_ZEROES ? NbdErrno.ENOSPC : NbdErrno.EINVAL;
  }
  if (command === Command.READ) {
    if (length > MAX_PAYLOAD) return NbdErrno.EINVAL;
    if ((flags & CommandFlag.DF) !== 0 && !agreed.structured) return NbdErrno.EINVAL;
  }
  if (command === Command.BLOCK_STATUS && (!agreed.allocationContext || length === 0)) return NbdErrno.EINVAL;
  return 0;
}
