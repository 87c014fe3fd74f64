/**
 * The one error tree of lunfs (docs/design.md, rule 4).
 *
 * Every error carries a stable `code`, the `errno` name that the FUSE and NBD edges answer with, structured
 * `fields`, and a message for operators: what happened, to what, and what to do.
 */

/** What kind of trouble an error is; drives policy (retry, read-only, refuse, bug report). */
export type ErrorKind = 'corruption' | 'io' | 'usage' | 'cluster' | 'internal';

/** Names of the errno values lunfs answers with; see `ERRNO` for their Linux numbers. */
export type ErrnoName = keyof typeof ERRNO;

/** Linux errno numbers (include/uapi/asm-generic/errno-base.h, errno.h). */
export const ERRNO = {
  EPERM: 1, ENOENT: 2, EINTR: 4, EIO: 5, ENXIO: 6, E2BIG: 7, EBADF: 9, EAGAIN: 11, ENOMEM: 12, EACCES: 13,
  EBUSY: 16, EEXIST: 17, EXDEV: 18, ENODEV: 19, ENOTDIR: 20, EISDIR: 21, EINVAL: 22, ENFILE: 23, ENOTTY: 25,
  ETXTBSY: 26, EFBIG: 27, ENOSPC: 28, EROFS: 30, EMLINK: 31, ERANGE: 34, EDEADLK: 35, ENAMETOOLONG: 36,
  ENOSYS: 38, ENOTEMPTY: 39, ELOOP: 40, ENODATA: 61, EPROTO: 71, EOVERFLOW: 75, EOPNOTSUPP: 95, ESHUTDOWN: 108,
  ETIMEDOUT: 110, ESTALE: 116, EDQUOT: 122,
} as const;

export type ErrorFields = Readonly<Record<string, string | number | bigint | boolean | undefined>>;

/** Base of every error lunfs raises on purpose. */
export class LunfsError extends Error {
  readonly kind: ErrorKind;
  /** Stable, upper-case, e.g. `DEVICE_HELD`; documented where it is raised. */
  readonly code: string;
  readonly errno: ErrnoName;
  readonly fields: ErrorFields;

  constructor(kind: ErrorKind, code: string, errno: ErrnoName, message: string, fields: ErrorFields = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.kind = kind;
    this.code = code;
    this.errno = errno;
    this.fields = fields;
  }
}

/** Something on disk or wire is not what it must be. */
export class CorruptionError extends LunfsError {
  constructor(code: string, message: string, fields?: ErrorFields, cause?: unknown) {
    super('corruption', code, 'EIO', message, fields, cause);
  }
}

/** A device refused or failed a request. */
export class IoError extends LunfsError {
  constructor(code: string, message: string, fields?: ErrorFields, cause?: unknown, errno: ErrnoName = 'EIO') {
    super('io', code, errno, message, fields, cause);
  }
}

/** The caller asked for something that cannot be done as asked. */
export class UsageError extends LunfsError {
  constructor(code: string, errno: ErrnoName, message: string, fields?: ErrorFields, cause?: unknown) {
    super('usage', code, errno, message, fields, cause);
  }
}

/** The cluster (or another user of the LUN) forbids it now. */
export class ClusterError extends LunfsError {
  constructor(code: string, message: string, fields?: ErrorFields, cause?: unknown, errno: ErrnoName = 'EBUSY') {
    super('cluster', code, errno, message, fields, cause);
  }
}

/** A bug in lunfs: an invariant of our own does not hold. */
export class InternalError extends LunfsError {
  constructor(code: string, message: string, fields?: ErrorFields, cause?: unknown) {
    super('internal', code, 'EIO', message, fields, cause);
  }
}

/** errno number of any thrown value; unknown errors are EIO. */
export function errnoOf(error: unknown): number {
  if (error instanceof LunfsError) return ERRNO[error.errno];
  const code = (error as { code?: unknown } | null)?.code;
  if (typeof code === 'string' && code in ERRNO) return ERRNO[code as ErrnoName];
  return ERRNO.EIO;
}
