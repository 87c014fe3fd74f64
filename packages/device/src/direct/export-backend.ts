import type { Gate } from './gate.js';

/** A piece of a file that lies, written and unshared, at `device` bytes on the LUN. All in bytes. */
export interface MappedRun {
  offset: number;
  length: number;
  device: number;
}

/** What a range of a file is, for NBD BLOCK_STATUS and SEEK_DATA/SEEK_HOLE. */
export interface RangeStatus {
  offset: number;
  length: number;
  /** hole: nothing allocated, reads zero. zero: allocated, reads zero (unwritten). data: anything else. */
  kind: 'hole' | 'zero' | 'data';
}

/**
 * A file as the data paths (NBD exports, FUSE) see it. The owner of the file implements it on the volume's main
 * thread; nbd and fuse know nothing else of the file system.
 *
 * `gate` and `direct` let a data worker bypass the owner: inside runs that `map` returned, a worker may read and
 * write the device itself, entering the gate with the epoch of the map before each submit.
 */
export interface FileBackend {
  /** Bytes; may grow while exported. */
  readonly size: number;
  readonly readOnly: boolean;
  /** Absent when the device cannot be reached by a descriptor (tests on a memory device): all I/O goes to the owner. */
  readonly direct?: { readonly fd: number; readonly alignment: number; readonly gate: Gate };

  /** The written, unshared runs in or after [offset, offset+length), at most `limit` of them, with the epoch they belong to. `write` asks for a writable mapping. */
  map(offset: number, length: number, write: boolean, limit: number): Promise<{ epoch: number; runs: MappedRun[] }>;
  /** Read any range, holes as zero. Past `size` is the caller's mistake (EINVAL). */
  read(offset: number, into: Uint8Array): Promise<void>;
  /** Write any range inside `size`. Resolves when it survives SIGKILL of our processes; `fua`: power loss too. */
  write(offset: number, from: Uint8Array, fua: boolean): Promise<void>;
  /** Everything acknowledged before is on stable storage, data and the metadata that reaches it. */
  flush(): Promise<void>;
  /** Give space back; reads zero afterwards in this file system. */
  trim(offset: number, length: number): Promise<void>;
  /** Zero a range; `punch`: may deallocate. */
  writeZeroes(offset: number, length: number, punch: boolean, fua: boolean): Promise<void>;
  /** Consecutive pieces covering [offset, offset+length), at most `limit`, the last may end early. */
  status(offset: number, length: number, limit: number): Promise<RangeStatus[]>;
  /** The export or open file is gone. */
  close(): Promise<void>;
}
