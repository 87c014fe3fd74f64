/**
 * A device that notes every change and flush on its way to another one, in the order they were submitted.
 * `crash-images.ts` turns the log into the images that a power failure could have left behind.
 *
 * What a flush covers is exactly what the port promises: changes that had resolved when flush was called. Changes in flight
 * at that moment, and failed ones, are never taken as durable by it.
 */
import type { BlockDevice } from '../block-device.js';
import { MemoryDevice } from '../memory-device.js';
import { checkRange, checkWritable } from '../range-check.js';
import type { Change } from './changes.js';

/** A flush that succeeded: it covers log entries before `upTo` that are changes, but those in `except`. */
export interface FlushEntry {
  readonly kind: 'flush';
  readonly upTo: number;
  readonly except: ReadonlySet<number>;
}

/** A test's remark, e.g. "fsync of file 3 returned"; images say which remarks precede them. */
export interface MarkEntry {
  readonly kind: 'mark';
  readonly label: string;
}

export type LogEntry = Change | FlushEntry | MarkEntry;

export class RecordingDevice implements BlockDevice {
  readonly name: string;
  readonly inner: BlockDevice;
  /** Content when the recording began, if the inner device is in memory: what crash images are built on. */
  readonly base?: MemoryDevice;
  readonly log: LogEntry[] = [];
  readonly #unsettled = new Set<number>();

  constructor(inner: BlockDevice, options: { name?: string } = {}) {
    this.inner = inner;
    this.name = options.name ?? `recording of ${inner.name}`;
    if (inner instanceof MemoryDevice) this.base = inner.clone(`${inner.name} before recording`);
  }

  get size(): number {
    return this.inner.size;
  }
  refreshSize(): number {
    return this.inner.refreshSize?.() ?? this.inner.size;
  }
  get logicalBlockSize(): number {
    return this.inner.logicalBlockSize;
  }
  get readOnly(): boolean {
    return this.inner.readOnly;
  }
  get canDiscard(): boolean {
    return this.inner.canDiscard;
  }

  /** Note a moment of the test in the log. */
  mark(label: string): void {
    this.log.push({ kind: 'mark', label });
  }

  /** Number of changes in the log. */
  get changes(): number {
    return this.log.reduce((n, entry) => (isChange(entry) ? n + 1 : n), 0);
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    return this.inner.read(offset, into);
  }

  write(offset: number, from: Uint8Array): Promise<void> {
    return this.#change({ kind: 'write', offset, length: from.length, bytes: from.slice() }, () => this.inner.write(offset, from));
  }

  writeZeroes(offset: number, length: number): Promise<void> {
    return this.#change({ kind: 'zeroes', offset, length }, () => this.inner.writeZeroes(offset, length));
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#change({ kind: 'discard', offset, length }, () => this.inner.discard(offset, length));
  }

  async flush(): Promise<void> {
    const upTo = this.log.length;
    const except = new Set(this.#unsettled);
    await this.inner.flush();
    this.log.push({ kind: 'flush', upTo, except });
  }

  close(): Promise<void> {
    return this.inner.close();
  }

  /** Requests the device would refuse are not recorded; others are, before they are submitted. */
  async #change(change: Change, submit: () => Promise<void>): Promise<void> {
    checkWritable(this);
    checkRange(this, change.offset, change.length);
    const index = this.log.push(change) - 1;
    this.#unsettled.add(index);
    await submit();
    this.#unsettled.delete(index);
  }
}

export function isChange(entry: LogEntry): entry is Change {
  return entry.kind !== 'flush' && entry.kind !== 'mark';
}
