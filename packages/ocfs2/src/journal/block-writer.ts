/**
 * Writes many blocks with few device requests: adjacent blocks are gathered in reused, aligned buffers, several of which
 * are on their way at once. Nothing is in flight any more when the promise settles, however it settles.
 */
import type { BufferPool } from '@lunfs/device';

/** One block to write. `escaped`: its first four bytes go out as zeros (see log-format.ts, needsEscape). */
export interface BlockWrite {
  readonly blkno: number;
  readonly bytes: Uint8Array;
  readonly escaped?: boolean;
}

/** Bytes gathered at most in one request, and requests in flight at most. */
const REQUEST_BYTES = 512 << 10;
const LANES = 4;

/** Where blocks go: a device, or a journal's guarded access to one. */
export interface BlockSink {
  readonly pool?: BufferPool;
  write(offset: number, from: Uint8Array): Promise<void>;
}

/** Write the blocks; those that follow each other both in the list and on the device share a request. Rejects with the first failure. */
export async function writeBlocks(sink: BlockSink, blockSize: number, blocks: readonly BlockWrite[]): Promise<void> {
  const most = REQUEST_BYTES / blockSize;
  let next = 0;
  let failed = false;
  const lane = async (): Promise<void> => {
    let buffer: Uint8Array | undefined;
    try {
      while (next < blocks.length && !failed) {
        const from = next;
        let n = 1;
        while (n < most && from + n < blocks.length && blocks[from + n].blkno === blocks[from].blkno + n) n++;
        next = from + n;
        if (buffer === undefined || buffer.length < n * blockSize) {
          if (buffer !== undefined) sink.pool?.release(buffer);
          // A batch that needs one request takes a buffer of its size, a longer one full buffers.
          const size = Math.min(REQUEST_BYTES, (blocks.length - from) * blockSize);
          buffer = sink.pool?.acquire(size) ?? new Uint8Array(size);
        }
        for (let i = 0; i < n; i++) {
          buffer.set(blocks[from + i].bytes, i * blockSize);
          if (blocks[from + i].escaped) buffer.fill(0, i * blockSize, i * blockSize + 4);
        }
        await sink.write(blocks[from].blkno * blockSize, buffer.subarray(0, n * blockSize));
      }
    } catch (error) {
      failed = true;
      throw error;
    } finally {
      if (buffer !== undefined) sink.pool?.release(buffer);
    }
  };
  await settleAll(Array.from({ length: Math.min(LANES, blocks.length) }, lane));
}

/** Wait for all of them, then throw the first failure if there is one. */
export async function settleAll(promises: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(promises)) if (result.status === 'rejected') throw result.reason;
}
