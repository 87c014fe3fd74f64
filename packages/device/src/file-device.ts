/**
 * A LUN or an image file behind one descriptor, as `openDevice` checked and opened it.
 *
 * With O_DIRECT the kernel takes only buffers aligned to the logical block: those of an aligned pool go straight, others are
 * bounced through ours in pieces. Asynchronous requests run in libuv's pool, which suits programs that do one thing (mkfs,
 * cp, check); threads that own their I/O use the *Sync methods, and a volume process uses `IoWorkerDevice`.
 *
 * Every request asks the fence first and waits while it is shut.
 *
 * Durability is fdatasync's: with O_DIRECT it flushes the device's write cache and the file's extents, without it the page
 * cache too.
 */
import { close, fdatasync, fdatasyncSync, fstatSync, read, readSync, write, writeSync } from 'node:fs';
import { AlignedPool, isAligned } from './aligned-pool.js';
import type { BlockDevice } from './block-device.js';
import { IoError } from './errors.js';
import { type HelperResult, discardRange, zeroRange } from './helpers.js';
import { type Fence, NO_FENCE } from './direct/fence.js';
import { InFlight } from './in-flight.js';
import { type Operation, ioError, shortError, systemErrno } from './io-error.js';
import { checkRange, checkWritable } from './range-check.js';
import { blockDeviceFacts, deviceNumber } from './sysfs.js';

/** Largest piece that goes through a bounce buffer, bytes. */
export const BOUNCE_BYTES = 1 << 20;
/** Ranges from here on are zeroed by a helper program (about 3 ms to start), shorter ones by writing zeroes. */
const HELPER_MIN_BYTES = 4 << 20;

/** What `openDevice` found out about the descriptor it opened. */
export interface OpenedFile {
  readonly fd: number;
  readonly name: string;
  readonly kind: 'block' | 'file';
  /** Opened with O_DIRECT: buffers must be aligned. */
  readonly direct: boolean;
  readonly size: number;
  readonly logicalBlockSize: number;
  readonly readOnly: boolean;
  readonly canDiscard: boolean;
  /** Until when requests may be submitted. Default: for ever. */
  readonly fence?: Fence;
  /** Where sysfs is; for tests. */
  readonly sysfs?: string;
}

export class FileDevice implements BlockDevice, OpenedFile {
  readonly fd: number;
  readonly name: string;
  readonly kind: 'block' | 'file';
  readonly direct: boolean;
  readonly logicalBlockSize: number;
  readonly readOnly: boolean;
  readonly pool: AlignedPool;
  readonly fence: Fence;
  readonly sysfs: string | undefined;
  #size: number;
  #canDiscard: boolean;
  #helperZeroes: boolean;
  readonly #inFlight = new InFlight();
  #closing?: Promise<void>;

  constructor(opened: OpenedFile, pool = new AlignedPool()) {
    this.fd = opened.fd;
    this.name = opened.name;
    this.kind = opened.kind;
    this.direct = opened.direct;
    this.#size = opened.size;
    this.sysfs = opened.sysfs;
    this.logicalBlockSize = opened.logicalBlockSize;
    this.readOnly = opened.readOnly;
    this.fence = opened.fence ?? NO_FENCE;
    // Helper programs do I/O that no fence holds up: with one, there is no discard and no zeroing by the device.
    this.#canDiscard = opened.canDiscard && this.fence === NO_FENCE;
    this.#helperZeroes = this.fence === NO_FENCE;
    this.pool = pool;
  }

  get canDiscard(): boolean {
    return this.#canDiscard;
  }

  get size(): number {
    return this.#size;
  }

  /** The kernel follows a LUN, a loop device (`losetup -c`) or an image file that is enlarged while it is open; a few microseconds to ask. */
  refreshSize(): number {
    if (this.#closing) return this.#size;
    const stats = fstatSync(this.fd);
    const bytes = this.kind === 'block' ? blockDeviceFacts(deviceNumber(stats.rdev), this.sysfs).size : stats.size;
    this.#size = Math.max(this.#size, bytes - (bytes % this.logicalBlockSize));
    return this.#size;
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    this.#check(offset, into.length);
    await this.#inFlight.run(async () => {
      if (this.#straight(into)) return this.#readFully(offset, into);
      await this.#bounce(into.length, async (buffer, done) => {
        await this.#readFully(offset + done, buffer);
        into.set(buffer, done);
      });
    });
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    checkWritable(this);
    this.#check(offset, from.length);
    await this.#inFlight.run(async () => {
      if (this.#straight(from)) return this.#writeFully(offset, from);
      await this.#bounce(from.length, async (buffer, done) => {
        buffer.set(from.subarray(done, done + buffer.length));
        await this.#writeFully(offset + done, buffer);
      });
    });
  }

  async flush(): Promise<void> {
    this.#check(0, 0);
    await this.#inFlight.run(async () => {
      if (this.fence.shut()) await this.fence.opened();
      await new Promise<void>((resolve, reject) => {
        fdatasync(this.fd, (error) => (error ? reject(this.#failed('flush', 0, 0, error)) : resolve()));
      });
    });
  }

  /** Like `read`, blocking the calling thread. */
  readSync(offset: number, into: Uint8Array): void {
    this.#check(offset, into.length);
    if (this.#straight(into)) {
      this.#readFullySync(offset, into);
      return;
    }
    this.#bounceSync(into.length, (buffer, done) => {
      this.#readFullySync(offset + done, buffer);
      into.set(buffer, done);
    });
  }

  /** Like `write`, blocking the calling thread. */
  writeSync(offset: number, from: Uint8Array): void {
    checkWritable(this);
    this.#check(offset, from.length);
    if (this.#straight(from)) {
      this.#writeFullySync(offset, from);
      return;
    }
    this.#bounceSync(from.length, (buffer, done) => {
      buffer.set(from.subarray(done, done + buffer.length));
      this.#writeFullySync(offset + done, buffer);
    });
  }

  /** Like `flush`, blocking the calling thread. */
  flushSync(): void {
    this.#check(0, 0);
    this.fence.pass();
    try {
      fdatasyncSync(this.fd);
    } catch (error) {
      throw this.#failed('flush', 0, 0, error);
    }
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    checkWritable(this);
    this.#check(offset, length);
    if (await this.zeroByHelper(offset, length)) return;
    await this.#inFlight.run(async () => {
      const zeroes = this.pool.acquire(Math.min(BOUNCE_BYTES, Math.max(length, 1))).fill(0);
      try {
        for (let done = 0; done < length; done += zeroes.length) {
          await this.#writeFully(offset + done, zeroes.subarray(0, Math.min(zeroes.length, length - done)));
        }
      } finally {
        this.pool.release(zeroes);
      }
    });
  }

  /**
   * Have a large range zeroed by the device or the file system. False: nothing was promised, write zeroes; the range is too
   * short to be worth a process, or the helper failed, and then it isn't tried again.
   */
  async zeroByHelper(offset: number, length: number): Promise<boolean> {
    checkWritable(this);
    this.#check(offset, length);
    if (length < HELPER_MIN_BYTES || !this.#helperZeroes) return false;
    await this.#inFlight.run(async () => {
      this.#helperZeroes = helped(await zeroRange(this.fd, this.kind, offset, length));
    });
    return this.#helperZeroes;
  }

  async discard(offset: number, length: number): Promise<void> {
    checkWritable(this);
    this.#check(offset, length);
    if (!this.#canDiscard || length === 0) return;
    await this.#inFlight.run(async () => {
      // A hint: where the device or the file system turns out not to take it, it is dropped, and not tried again.
      this.#canDiscard = helped(await discardRange(this.fd, this.kind, offset, length));
    });
  }

  /** Waits for requests in flight, then closes the descriptor; locks taken at open go with it. Later requests fail with DEVICE_CLOSED. */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      await this.#inFlight.settled();
      await new Promise<void>((resolve, reject) => {
        close(this.fd, (error) => (error ? reject(this.#failed('close', 0, 0, error)) : resolve()));
      });
    })();
    return this.#closing;
  }

  #check(offset: number, length: number): void {
    // The number of a closed descriptor may belong to another file by now.
    if (this.#closing)
      throw new IoError('DEVICE_CLOSED', `${this.name} is closed`, { device: this.name, offset, length }, undefined, 'EBADF');
    checkRange(this, offset, length);
  }

  #straight(view: Uint8Array): boolean {
    return !this.direct || isAligned(view, this.logicalBlockSize);
  }

  async #bounce(length: number, piece: (buffer: Uint8Array, done: number) => Promise<void>): Promise<void> {
    if (length === 0) return;
    const buffer = this.pool.acquire(Math.min(BOUNCE_BYTES, length));
    try {
      for (let done = 0; done < length; done += buffer.length)
        await piece(buffer.subarray(0, Math.min(buffer.length, length - done)), done);
    } finally {
      this.pool.release(buffer);
    }
  }

  #bounceSync(length: number, piece: (buffer: Uint8Array, done: number) => void): void {
    if (length === 0) return;
    const buffer = this.pool.acquire(Math.min(BOUNCE_BYTES, length));
    try {
      for (let done = 0; done < length; done += buffer.length) piece(buffer.subarray(0, Math.min(buffer.length, length - done)), done);
    } finally {
      this.pool.release(buffer);
    }
  }

  async #readFully(offset: number, into: Uint8Array): Promise<void> {
    for (let done = 0; done < into.length; ) {
      if (this.fence.shut()) await this.fence.opened();
      const n = await new Promise<number>((resolve, reject) => {
        read(this.fd, into, done, into.length - done, offset + done, (error, bytes) =>
          error ? reject(this.#failed('read', offset, into.length, error)) : resolve(bytes),
        );
      });
      if (n === 0) throw shortError(this.name, 'read', offset, into.length);
      done += n;
    }
  }

  async #writeFully(offset: number, from: Uint8Array): Promise<void> {
    for (let done = 0; done < from.length; ) {
      if (this.fence.shut()) await this.fence.opened();
      const n = await new Promise<number>((resolve, reject) => {
        write(this.fd, from, done, from.length - done, offset + done, (error, bytes) =>
          error ? reject(this.#failed('write', offset, from.length, error)) : resolve(bytes),
        );
      });
      if (n === 0) throw shortError(this.name, 'write', offset, from.length);
      done += n;
    }
  }

  #readFullySync(offset: number, into: Uint8Array): void {
    for (let done = 0; done < into.length; ) {
      this.fence.pass();
      let n: number;
      try {
        n = readSync(this.fd, into, done, into.length - done, offset + done);
      } catch (error) {
        throw this.#failed('read', offset, into.length, error);
      }
      if (n === 0) throw shortError(this.name, 'read', offset, into.length);
      done += n;
    }
  }

  #writeFullySync(offset: number, from: Uint8Array): void {
    for (let done = 0; done < from.length; ) {
      this.fence.pass();
      let n: number;
      try {
        n = writeSync(this.fd, from, done, from.length - done, offset + done);
      } catch (error) {
        throw this.#failed('write', offset, from.length, error);
      }
      if (n === 0) throw shortError(this.name, 'write', offset, from.length);
      done += n;
    }
  }

  #failed(operation: Operation, offset: number, length: number, cause: unknown): IoError {
    return ioError(this.name, operation, offset, length, systemErrno(cause), cause);
  }
}

function helped(result: HelperResult): boolean {
  return !result.missing && result.status === 0;
}
