/** Errors of this package and the map from any thrown value to the error set of the wire. */
import { IoError, UsageError, errnoOf, ERRNO, type ErrorFields } from '@lunfs/device';
import { MAX_STRING, NbdErrno } from './protocol.js';

/** The peer broke the protocol, or the connection to it ended. */
export class NbdConnectionError extends IoError {
  constructor(code: 'NBD_PROTOCOL' | 'NBD_CLOSED' | 'NBD_REFUSED', message: string, fields?: ErrorFields, cause?: unknown) {
    super(code, message, fields, cause, 'EPROTO');
  }
}

/** The server answered a request with an error; `nbdErrno` is the value of the wire. */
export class NbdRequestError extends IoError {
  readonly nbdErrno: number;
  constructor(nbdErrno: number, message: string, fields?: ErrorFields) {
    const name = (Object.keys(NbdErrno) as (keyof typeof NbdErrno)[]).find((key) => NbdErrno[key] === nbdErrno) ?? 'EINVAL';
    super('NBD_REQUEST', `${message}: ${name}`, fields, undefined, name === 'ENOTSUP' ? 'EOPNOTSUPP' : name);
    this.nbdErrno = nbdErrno;
  }
}

export function usage(code: string, message: string, fields?: ErrorFields): UsageError {
  return new UsageError(code, 'EINVAL', message, fields);
}

/** Wire value of a thrown error: only the specification's set may appear (section "Error values"). */
export function wireErrno(error: unknown): number {
  switch (errnoOf(error)) {
    case ERRNO.EPERM: case ERRNO.EACCES: case ERRNO.EROFS: return NbdErrno.EPERM;
    case ERRNO.ENOMEM: return NbdErrno.ENOMEM;
    case ERRNO.EINVAL: return NbdErrno.EINVAL;
    case ERRNO.ENOSPC: case ERRNO.EDQUOT: case ERRNO.EFBIG: return NbdErrno.ENOSPC;
    case ERRNO.ESHUTDOWN: return NbdErrno.ESHUTDOWN;
    default: return NbdErrno.EIO;
  }
}

/** The error's text, cut to what fits a string of the wire. */
export function wireMessage(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.length > MAX_STRING / 4 ? text.slice(0, MAX_STRING / 4) : text;
}
