/** What crosses between the main thread and a worker besides the lane. */
import type { MessagePort } from 'node:worker_threads';

export interface WorkerStart {
  /** /dev/fuse, INIT already answered. */
  readonly fd: number;
  readonly lane: SharedArrayBuffer;
  /** One Int32, added to and notified with each handed-over request. */
  readonly bell: SharedArrayBuffer;
  /** One Int32, added to when a worker marks a file as written in place. */
  readonly wrote: SharedArrayBuffer;
  /** How many workers read at once when there is little to do (readers.ts). */
  readonly readers: SharedArrayBuffer;
  readonly baseReaders: number;
  /** Segments, announced to the main thread. */
  readonly segments: MessagePort;
  /** `FileNews`, from the main thread. */
  readonly news: MessagePort;
  readonly trace: boolean;
}

export type WorkerReport =
  | { readonly kind: 'trace'; readonly lines: readonly string[] }
  /** The reader has ended: ENODEV when the connection was closed, else what went wrong. */
  | { readonly kind: 'ended'; readonly reason: string };
