/**
 * Many small requests as few large ones. A checkpoint writes thousands of 4 KiB blocks, many of them neighbours: each run of
 * neighbours becomes one request through one buffer of the device's pool (copying 4 KiB costs a hundredth of a request).
 */
import { AlignedPool } from './aligned-pool.js';
import type { BlockDevice } from './block-device.js';

/** Bytes of a device at an offset; both in whole logical blocks. */
export interface Piece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Largest request a run is joined to, bytes. */
const RUN_BYTES = 1 << 20;
/** Runs in flight at once: enough to keep a device busy, few enough not to hold a gigabyte of buffers. */
const IN_FLIGHT = 16;

/** Neighbouring pieces, ascending: from `offset`, `length` bytes without a gap. */
export interface Run {
  readonly offset: number;
  length: number;
  readonly pieces: Piece[];
}

/** Pieces in runs of neighbours of at most 1 MiB (or one larger piece). Pieces must not overlap. */
export function runsOf(pieces: readonly Piece[]): Run[] {
  const runs: Run[] = [];
  let run: Run | undefined;
  for (const piece of [...pieces].sort((a, b) => a.offset - b.offset)) {
    if (run && run.offset + run.length === piece.offset && run.length + piece.bytes.length <= RUN_BYTES) {
      run.pieces.push(piece);
      run.length += piece.bytes.length;
    } else {
      runs.push((run = { offset: piece.offset, length: piece.bytes.length, pieces: [piece] }));
    }
  }
  return runs;
}

/**
 * Write all pieces, in any order; the bytes must not change until the promise settles. On an error some may have been
 * written; it is thrown once nothing is in flight any more.
 */
export function writeMany(device: BlockDevice, pieces: readonly Piece[]): Promise<void> {
  return eachRun(
    device,
    runsOf(pieces),
    async (run, buffer) => {
      for (const piece of run.pieces) buffer.set(piece.bytes, piece.offset - run.offset);
      await device.write(run.offset, buffer);
    },
    (piece) => device.write(piece.offset, piece.bytes),
  );
}

/** Fill all pieces, in any order. */
export function readMany(device: BlockDevice, pieces: readonly Piece[]): Promise<void> {
  return eachRun(
    device,
    runsOf(pieces),
    async (run, buffer) => {
      await device.read(run.offset, buffer);
      for (const piece of run.pieces) {
        const at = piece.offset - run.offset;
        piece.bytes.set(buffer.subarray(at, at + piece.bytes.length));
      }
    },
    (piece) => device.read(piece.offset, piece.bytes),
  );
}

async function eachRun(
  device: BlockDevice,
  runs: Run[],
  joined: (run: Run, buffer: Uint8Array) => Promise<void>,
  single: (piece: Piece) => Promise<void>,
): Promise<void> {
  const pool = device.pool ?? new AlignedPool();
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < runs.length) {
      const run = runs[next++];
      if (run.pieces.length === 1) {
        await single(run.pieces[0]);
        continue;
      }
      const buffer = pool.acquire(run.length);
      try {
        await joined(run, buffer);
      } finally {
        pool.release(buffer);
      }
    }
  };
  const lanes = await Promise.allSettled(Array.from({ length: Math.min(IN_FLIGHT, runs.length) }, lane));
  for (const result of lanes) if (result.status === 'rejected') throw result.reason;
}
