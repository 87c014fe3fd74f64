/** `-` for stdin and stdout. */
import { once } from 'node:events';
import { checkInterrupted } from '../interrupt.js';
import { CHUNK, chunkBuffers, writeData } from './data.js';
import type { Reader, Writer } from './tree.js';

/** Everything on stdin into a file. Returns its size. */
export async function fromStdin(to: Writer, granule: number, tell: (done: number) => void): Promise<number> {
  const [buffer] = chunkBuffers();
  let size = 0;
  let filled = 0;
  const drain = async (): Promise<void> => {
    await writeData(to, size, buffer.subarray(0, filled), granule);
    size += filled;
    filled = 0;
    tell(size);
  };
  for await (const part of process.stdin as AsyncIterable<Buffer>) {
    checkInterrupted();
    for (let used = 0; used < part.length; ) {
      const n = Math.min(part.length - used, CHUNK - filled);
      buffer.set(part.subarray(used, used + n), filled);
      filled += n;
      used += n;
      if (filled === CHUNK) await drain();
    }
  }
  await drain();
  await to.setSize(size);
  return size;
}

/** A file to stdout, holes as zeros. Ends early, without an error, when nobody reads any more. */
export async function toStdout(from: Reader, tell: (done: number) => void): Promise<void> {
  let gone = false;
  const closed = (): void => {
    gone = true;
  };
  process.stdout.once('close', closed);
  process.stdout.on('error', closed);
  for (let at = 0; at < from.size && !gone; ) {
    checkInterrupted();
    // A new buffer each time: the stream keeps it until it is written.
    const bytes = new Uint8Array(Math.min(1 << 20, from.size - at));
    const n = await from.read(at, bytes);
    if (n === 0) break;
    at += n;
    if (!process.stdout.write(bytes.subarray(0, n)) && !gone) await Promise.race([once(process.stdout, 'drain'), once(process.stdout, 'close')]).catch(closed);
    tell(at);
  }
}
