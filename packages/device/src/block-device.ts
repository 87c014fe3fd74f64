/**
 * The BlockDevice port: what the rest of lunfs knows of a LUN.
 *
 * Offsets and lengths are bytes. Real devices need offset and length to be multiples of `logicalBlockSize`;
 * every implementation checks that (`DEVICE_UNALIGNED`), the memory device too, so that tests see what a LUN would say.
 *
 * Durability: a write is durable only after a later `flush` resolves. Writes that were not flushed may survive a
 * crash in any subset, in any order, torn at logical blocks. A failed flush is final: its writes may be lost and a
 * second flush may wrongly succeed, so callers must not retry.
 */
export interface BlockDevice {
  /** What operators call it: path of the device or image, or a test's name. */
  readonly name: string;
  /** Usable size in bytes, a multiple of `logicalBlockSize`. It may become larger while the device is open, never smaller. */
  readonly size: number;
  /** Smallest unit of I/O in bytes: 512 or 4096. A write of one such block is taken to be atomic. */
  readonly logicalBlockSize: number;
  readonly readOnly: boolean;
  /** True if `discard` reaches the medium. Discarded bytes are undefined, never taken as zero. */
  readonly canDiscard: boolean;
  /** Where buffers come from that the device reads into and writes from without a copy; absent where any buffer does. */
  readonly pool?: BufferPool;

  /** Look whether the medium has been enlarged since; `size` then says so. Absent where `size` is always the present one. */
  refreshSize?(): number;
  /** Fill `into` from `offset`. Short reads are errors. Buffers of the aligned pool are read into without a copy. */
  read(offset: number, into: Uint8Array): Promise<void>;
  /** Write all of `from` at `offset`. `from` must not change until the promise settles. */
  write(offset: number, from: Uint8Array): Promise<void>;
  /** All writes that had resolved when flush was called are on stable storage when it resolves. */
  flush(): Promise<void>;
  /** Like a write of `length` zero bytes, by the device itself where it can. */
  writeZeroes(offset: number, length: number): Promise<void>;
  /** A hint that the bytes are not needed; a no-op where `canDiscard` is false. */
  discard(offset: number, length: number): Promise<void>;
  close(): Promise<void>;
}

/** Buffers on loan; `AlignedPool` is the one implementation. */
export interface BufferPool {
  /** A buffer of exactly `length` bytes with any content. */
  acquire(length: number): Uint8Array;
  /** Give back the very view that `acquire` returned. */
  release(view: Uint8Array): void;
}
