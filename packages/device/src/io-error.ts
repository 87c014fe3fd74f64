/** How a failed request becomes an IoError, the same for every device that does real I/O. */
import { ERRNO, type ErrnoName, IoError } from './errors.js';

/** Kinds of request; the error code is `DEVICE_` and this in upper case. */
export type Operation = 'read' | 'write' | 'flush' | 'zero' | 'discard' | 'close';

/** `errno`: name as the system gave it, EIO where lunfs has no use for the finer one. Offset and length in bytes. */
export function ioError(device: string, operation: Operation, offset: number, length: number, errno: string, cause?: unknown): IoError {
  const what = operation === 'flush' || operation === 'close' ? operation : `${operation} of ${length} bytes at byte ${offset}`;
  const name: ErrnoName = errno in ERRNO ? (errno as ErrnoName) : 'EIO';
  return new IoError(
    `DEVICE_${operation.toUpperCase()}`,
    `${device}: ${what} failed: ${errno}`,
    { device, offset, length, errno },
    cause,
    name,
  );
}

/** The errno name of a failed system call as Node reports it. */
export function systemErrno(cause: unknown): string {
  const code = (cause as NodeJS.ErrnoException | null)?.code;
  return typeof code === 'string' ? code : 'EIO';
}

/** Nothing more transferred and no error: the device or file has become shorter than it was when opened. */
export function shortError(device: string, operation: Operation, offset: number, length: number): IoError {
  return new IoError('DEVICE_SHORT', `${device}: ${operation} of ${length} bytes at byte ${offset} ended early: has it been truncated?`, {
    device,
    offset,
    length,
  });
}
