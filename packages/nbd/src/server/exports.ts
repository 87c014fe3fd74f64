/** What a server offers: exports by name, and what each promises to a client. */
import type { FileBackend } from '@lunfs/device';
import { TransmissionFlag } from '../protocol.js';

export interface ExportOptions {
  /** 1 to 4096 bytes of UTF-8. A client that names no export gets the only one there is. */
  readonly name: string;
  /** One line for people, shown by `nbdinfo --list`. */
  readonly description?: string;
  readonly backend: FileBackend;
  /** A FLUSH on one connection covers writes acknowledged on all of them: true for one FileBackend object. Default false. */
  readonly multiConn?: boolean;
  /** `backend.writeZeroes` that may punch costs less than a write of the range. Default false. */
  readonly fastZero?: boolean;
}

/** Transmission flags (16 bits) of an export. */
export function transmissionFlags(options: ExportOptions, structured: boolean): number {
  const T = TransmissionFlag;
  return T.HAS_FLAGS | T.SEND_FLUSH | T.SEND_FUA | T.SEND_CACHE
    | (options.backend.readOnly ? T.READ_ONLY : T.SEND_TRIM | T.SEND_WRITE_ZEROES | T.SEND_FAST_ZERO)
    | (structured ? T.SEND_DF : 0)
    | (options.multiConn === true ? T.CAN_MULTI_CONN : 0);
}

/** The exports of a server, as a negotiation looks them up. */
export interface ExportTable {
  /** By name; the empty name means the only export. */
  find(name: string): ExportOptions | undefined;
  all(): Iterable<ExportOptions>;
}
