/** Moving a file's bytes: reading and writing overlap, zeros stay holes. */
import { alignedMemory } from '@lunfs/device';
import { checkInterrupted } from '../interrupt.js';
import type { Reader, Writer } from './tree.js';

export const CHUNK = 4 << 20;
const ZEROS = Buffer.alloc(CHUNK);

/** Two page-aligned buffers, so that O_DIRECT needs no copy. */
export function chunkBuffers(): [Uint8Array, Uint8Array] {
  return [new Uint8Array(alignedMemory(CHUNK), 0, CHUNK), new Uint8Array(alignedMemory(CHUNK), 0, CHUNK)];
}

/** Copy all of `from`. `tell` hears how far in the file the work is, holes included. */
export async function copyData(from: Reader, to: Writer, granule: number, tell: (offset: number) => void): Promise<void> {
  const buffers = chunkBuffers();
  let turn = 0;
  // The write of the chunk before: it goes on while the next one is read into the other buffer.
  let pending: Promise<void> = Promise.resolve();
  let at = 0;
  try {
    for (let range = await from.nextData(0); range !== undefined; range = await from.nextData(at)) {
      const end = range.offset + range.length;
      for (at = range.offset; at < end; ) {
        checkInterrupted();
        const buffer = buffers[(turn ^= 1)];
        const n = await from.read(at, buffer.subarray(0, Math.min(CHUNK, end - at)));
        if (n === 0) break;
        await pending;
        pending = writeData(to, at, buffer.subarray(0, n), granule);
        pending.catch(() => undefined); // seen by the next await
        at += n;
        tell(at);
      }
      if (at < end) break;
    }
  } finally {
    await pending;
  }
  // The source may have become shorter or longer meanwhile; what was read of it is what counts, holes at its end included.
  await to.setSize(Math.max(at, from.size));
}

/** Write what is not zero, in whole granules counted from the file's start. */
export async function writeData(to: Writer, offset: number, bytes: Uint8Array, granule: number): Promise<void> {
  const unit = Math.min(granule, CHUNK);
  const isZero = (start: number, end: number) => ZEROS.compare(bytes, start, end, 0, end - start) === 0;
  const edge = (start: number) => Math.min(bytes.length, start + unit - ((offset + start) % unit));
  for (let start = 0; start < bytes.length; ) {
    if (isZero(start, edge(start))) {
      start = edge(start);
      continue;
    }
    let end = edge(start);
    while (end < bytes.length && !isZero(end, edge(end))) end = edge(end);
    await to.write(offset + start, bytes.subarray(start, end));
    start = end;
  }
}
